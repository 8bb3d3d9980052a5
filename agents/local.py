"""Known weights at work on this machine: served over HTTP for generating, or as a transformers folder for scoring.

Both start from the same GGUF file (`agents.weights`). Generation goes through llama.cpp, which is several times faster on a CPU;
scoring needs the log-probabilities of a prompt, which that server does not give, so the weights are unpacked once for transformers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.weights import KNOWN, ModelFile, Say, alone, cache, disk, resolve, silent, workshop
from leafmill.errors import WeightsError, unknown

PROMPT_CACHE = 512
"""MiB of memory for prompts whose slot went to another role; about 40 prefixes of 1,000 tokens with Qwen-0.5B."""

# -- serving


@dataclass(frozen=True)
class Server:
    """A running server. It asks for no API key: any will do."""

    base_url: str
    model: str
    slots: int
    "requests worked on at once; more wait in its queue"
    context: int
    "tokens, prompt and reply together, that one request may have"
    threads: int


@asynccontextmanager
async def serve(
    model: str, *, slots: int | None = None, context: int | None = None, threads: int | None = None, say: Say = silent
) -> AsyncIterator[Server]:
    """Serves the model on a free port of this machine until the block ends. Raises WeightsError.

    threads: one per core that this process may use, at most 8. Idle ones sleep (OMP_WAIT_POLICY=PASSIVE), so a second thread costs
        no processor time and, on two cores, gave 1.1 to 1.4 times the tokens a second of one, alone as well as beside other work.
    slots: two per core, from 2 to 8. A slot keeps the prompt it saw last and computes only what differs in the next one. Each slot
        has to see a prefix once before that helps, so more slots start slower and then generate faster.
    context: tokens per slot; 4096 unless the known model says otherwise.
    """
    file = await asyncio.to_thread(resolve, model, say)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = threads or min(cores, 8)
    slots = slots or min(max(2 * cores, 2), 8)
    context = context or file.context
    # Loading holds the interpreter's lock, so a thread would not keep the event loop going either.
    running = [_start(file, slots, context, threads)]
    try:
        yield Server(f"{running[0].listening_address}/v1", file.name, slots, context, threads)
    finally:
        running.clear()  # the last reference: the server stops, frees its memory and closes its port before this returns


def _start(file: ModelFile, slots: int, context: int, threads: int) -> Any:
    # Read when OpenMP loads. Without it, threads that wait burn their core, and on a busy machine nothing gets done.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import xllamacpp
    except ImportError as error:
        raise WeightsError("embedded models need more packages: pip install 'leafmill[local]'") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(file.path)
    params.model_alias = {file.name}
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = PROMPT_CACHE
    params.fit_params = False  # it would cut the context to fit; what was asked for is given, or fails
    params.warmup = False
    params.ui = False
    params.offline = True
    params.verbosity = -1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise WeightsError(f"{file.path}: llama.cpp does not load it (damaged, of an unknown kind, or too little memory)") from error


# -- scoring

UNPACKED = ("llama", "qwen2", "qwen3")
"""Architectures whose tensors differ from those of transformers in name and in the order of rows only."""


def as_transformers(model: str, say: Say = silent) -> Path:
    """What `from_pretrained` takes for this model: a known one or another GGUF is unpacked once, into a folder of the cache.

    A folder, and a name on the hub that does not say GGUF, are returned as they are. Raises WeightsError.
    """
    if model not in KNOWN and not re.search(r"gguf$", model, re.IGNORECASE):
        if "/" in model or Path(model).is_dir():
            return Path(model).expanduser()
        raise WeightsError(f"{unknown('model', model, KNOWN)}; or give a folder of transformers, a .gguf, or owner/repo of the hub")
    file = resolve(model, say)
    folder = cache() / "transformers" / _folder_name(file)
    with disk(folder.parent), alone(folder, say):
        if not folder.is_dir():
            say(f"{file.name}: unpacking the weights for scoring, once")
            with workshop(folder) as room:
                unpacked = room / "unpacked"
                unpacked.mkdir()
                _unpack(file.path, unpacked)
                unpacked.rename(folder)
    return folder


def _folder_name(file: ModelFile) -> str:
    if file.name in KNOWN:
        return file.name
    stat = file.path.stat()
    seen = f"{file.path}:{stat.st_size}:{stat.st_mtime_ns}"
    return f"{file.name}-{hashlib.sha256(seen.encode()).hexdigest()[:12]}"


def _unpack(path: Path, folder: Path) -> None:
    """Tensor by tensor, rows by rows, so that memory holds a few MB of weights at a time, whatever their size."""
    try:
        import gguf
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise WeightsError(f"{error.name} is missing: pip install 'leafmill[local]'") from error
    reader = gguf.GGUFReader(path)
    kind = reader.fields["general.architecture"].contents()
    if kind not in UNPACKED:
        raise WeightsError(f"{path}: expected one of {', '.join(UNPACKED)}, got {kind}; give its folder of transformers for scoring")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    finally:
        logging.set_verbosity(before)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.dtype = "bfloat16"
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    to_gguf = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config.num_hidden_layers)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)  # it is the embedding
    sources = {name: to_gguf.get_name(name, try_suffixes=(".weight", ".bias")) for name in shapes}
    if lacking := [name for name, source in sources.items() if source not in tensors]:
        raise WeightsError(f"{path}: no tensor for {', '.join(lacking[:3])} ({len(lacking)} in all)")

    with (folder / "model.safetensors").open("wb") as out:
        out.write(_header(shapes))
        for name, source in sources.items():
            tensor = tensors[source]
            rows = tensor.data.reshape(-1, tensor.data.shape[-1])
            if kind == "llama" and re.search(r"\b[qk]_proj\.weight$", name):
                heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
                rows = rows[_unrotated(len(rows), heads)]
            step = max(1, (1 << 22) // rows.shape[1])
            for start in range(0, len(rows), step):
                values = torch.from_numpy(gguf.dequantize(rows[start : start + step], tensor.tensor_type).copy())
                out.write(values.to(torch.bfloat16).view(torch.int16).numpy().data)
        out.flush()
        os.fsync(out.fileno())


def _unrotated(rows: int, heads: int) -> Any:
    """llama.cpp keeps the two halves of a head's rotary pairs side by side; transformers keeps one half after the other."""
    import numpy

    return numpy.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def _header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """The start of a safetensors file: its length, then where each tensor lies in what follows."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
