"""Matrix products where the time goes: linear layers in oneDNN's own layout, and the projection onto the vocabulary.

On a CPU a plain linear layer re-orders its weights at every call. `prepack` does that once and lets go of the original. In bfloat16
only the products are: what is between them (residual stream, norms, attention) stays float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.activations import SiLUActivation
from transformers.pytorch_utils import Conv1D

ROWS = 1024
"""rows that oneDNN chooses its layout for; any number works"""
MORE = 16
"""columns added to a shifted projection: one is used, sixteen keep its rows aligned"""


class Prepacked(nn.Module):
    """A linear layer in oneDNN's layout: float32 in, float32 out, the product in the dtype of `weight`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._bias is None or self.dtype == torch.float32:
            return self.product(x.to(self.dtype)).float()
        # Added after rounding: in some models a bias is hundreds of times what it is added to, which would be rounded away with it.
        return self._linear(x.to(self.dtype), None, "none").float().add_(self._bias)

    def product(self, x: torch.Tensor, then: str = "none") -> torch.Tensor:
        """The product as it is computed, in the dtype of the weights, and what oneDNN does to it before it is written."""
        return self._linear(x, self._bias, then)

    def _linear(self, x: torch.Tensor, bias: torch.Tensor | None, then: str) -> torch.Tensor:
        bias = None if bias is None else bias.to(self.dtype)
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self._packed, bias, then, [], "")
        return found


class Gated(nn.Module):
    """down(silu(gate(x)) * up(x)), the feed-forward layer of Llama and its kin, with little written between the products."""

    def __init__(self, gate: Prepacked, up: Prepacked, down: Prepacked) -> None:
        super().__init__()
        self.gate, self.up, self.down = gate, up, down

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.gate.dtype)
        return self.down.product(self.gate.product(x, "swish").mul_(self.up.product(x))).float()


def prepack(model: Any) -> None:
    """Replaces the linear layers of a model on the CPU, in place; all but products and tables of embeddings becomes float32."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(module, name, Prepacked(child.weight, child.bias))
            elif type(child) is Conv1D:
                setattr(module, name, Prepacked(child.weight.t(), child.bias))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if _is_gated(child):
                setattr(module, name, Gated(child.gate_proj, child.up_proj, child.down_proj))
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda module, asked, found: found.float())
        elif module is not head:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()


def _is_gated(module: nn.Module) -> bool:
    """Whether a module is nothing but the three layers of `Gated`. The states that it gives are compared, so a wrong guess is found out."""
    parts: dict[str, Any] = {"gate_proj": Prepacked, "up_proj": Prepacked, "down_proj": Prepacked, "act_fn": (nn.SiLU, SiLUActivation)}
    children = dict(module.named_children())
    return children.keys() == parts.keys() and all(isinstance(children[name], kind) for name, kind in parts.items())


class Head:
    """Losses in nats of wanted ids, from the states that predict them.

    Logits exist for `rows` ids at once; their log-softmax is float32. A product in bfloat16 would round logits to 1 part in 256, which is
    felt where the model is sure. So they are shifted before they are rounded: one more column (of ones in the weights) takes away the
    wanted id's own logit, computed apart; what it competes with is then near 0 and hardly rounded. A shift changes no softmax.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, shape: Callable[[torch.Tensor], torch.Tensor] | None, rows: int
    ) -> None:
        self._product: Callable[[torch.Tensor], torch.Tensor]
        self._shape = shape
        self._step = rows
        self._rows = weight.detach() if weight.dtype == torch.bfloat16 and bias is None and shape is None else None
        """of the wanted ids, where logits are shifted"""
        if self._rows is None:
            table = weight.detach().float()
        else:
            table = nn.functional.pad(self._rows, (0, MORE))
            table[:, -MORE] = 1
        if weight.device.type == "cpu":
            self._product = Prepacked(table, bias).product
        else:
            self._product = partial(nn.functional.linear, weight=table, bias=bias)
            if self._rows is not None:
                self._rows = table[:, :-MORE]  # not a second copy

    def nats(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """(n,) float32."""
        steps = zip(torch.split(states, self._step), torch.split(wanted, self._step), strict=True)
        return torch.cat([self._some(some, ids) for some, ids in steps])

    def _some(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        logits = self._product(states.float() if self._rows is None else self._shift(states, self._rows, wanted))
        return nats(self._shape(logits) if self._shape else logits, wanted)

    @staticmethod
    def _shift(states: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        states = states.to(rows.dtype)
        columns = states.new_zeros(len(states), MORE)
        columns[:, 0] = -(states.float() * rows[wanted].float()).sum(-1)
        return torch.cat([states, columns], dim=-1)


def nats(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Minus the log-softmax of each wanted id, in float32. Logits of float32 are overwritten: another array would be as large again."""
    wanted = wanted[:, None]
    if logits.dtype != torch.float32:
        return -torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(-1, wanted)[:, 0]
    top = logits.amax(dim=-1, keepdim=True)
    over = (logits.gather(-1, wanted) - top)[:, 0]
    return logits.sub_(top).exp_().sum(dim=-1).log() - over
