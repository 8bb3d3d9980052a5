"""A role's template: Jinja text, strict and sandboxed, in which what a model wrote cannot stand outside its fence.

Text that a model wrote reaches a template as `Foreign`. However it is printed, it stands inside tags that it cannot close; filters
work on the text inside the fence, not on the fence. A prompt author cannot forget it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agents.stages import FOREIGN
from leafmill.errors import Place, RoleFileError, unknown


class Foreign:
    """Text that another agent wrote. However it is printed, it stands inside tags that it cannot close."""

    def __init__(self, text: str, label: str) -> None:
        self._text, self._label = text, label  # the sandbox lets no template read a name that begins with _

    def __str__(self) -> str:
        inner = re.sub(rf"<(/?)(?=\s*{re.escape(self._label)}\b)", r"<\1 ", self._text, flags=re.IGNORECASE)
        return f"<{self._label}>\n{inner}\n</{self._label}>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def through(self, work: Callable[[str], Any]) -> Any:
        """What a filter makes of the text: a text is foreign again."""
        made = work(self._text)
        return Foreign(str(made), self._label) if isinstance(made, str) else made


def compiled(text: str, offered: frozenset[str], path: str, first_line: int) -> jinja2.Template:
    """Compile a template that starts at `first_line` of the file `path`. Raises RoleFileError for bad syntax or an unknown variable."""
    try:
        tree = JINJA.parse(text)
        template = JINJA.from_string(text)
        template.globals = dict(template.globals)  # Jinja goes through it for each rendering: its ChainMap is slow at that
    except jinja2.TemplateSyntaxError as fault:
        raise RoleFileError(f"Jinja: {fault.message}", Place(path, first_line + fault.lineno - 1)) from None
    wanted = meta.find_undeclared_variables(tree)
    for name in tree.find_all(nodes.Name):
        if name.name in wanted and name.name not in offered:
            raise RoleFileError(unknown("variable", name.name, offered), Place(path, first_line + name.lineno - 1))
    return template


def fenced(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the text that models wrote behind its fence."""
    return {name: _fence(name, value) if name in FOREIGN else value for name, value in values.items()}


def _fence(label: str, value: Any) -> Any:
    if label == "history":
        return [Foreign(turn.text, turn.role) for turn in value]
    if isinstance(value, (list, tuple)):
        return [Foreign(str(v), label) for v in value]
    return Foreign(value, label) if isinstance(value, str) else value


def _inside_fence(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A Jinja filter that works on the text inside a fence; some take the environment before the value."""
    at = int(hasattr(filter_, "jinja_pass_arg"))

    @wraps(filter_)
    def applied(*args: Any, **named: Any) -> Any:
        value = args[at] if len(args) > at else None
        if not isinstance(value, Foreign):
            return filter_(*args, **named)
        return value.through(lambda text: filter_(*args[:at], text, *args[at + 1 :], **named))

    return applied


JINJA = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False, autoescape=False
)
JINJA.filters = {name: _inside_fence(filter_) for name, filter_ in JINJA.filters.items()}
