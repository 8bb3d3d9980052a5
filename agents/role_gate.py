"""A gate that is a role: a prompt file with `stage: gate` gives a score, and one below its threshold refuses the candidate.

stage: gate
at: check          # or screen: it sees the instruction alone, before it is answered
threshold: 3       # the recipe's `gates: {<name>: {threshold: 4}}` stands over it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.briefing import about_row
from agents.chat import Chat
from agents.role import Roles
from filters.gate import Stage, Subject, verdict
from leafmill.errors import CallError, RecipeError, unknown
from leafmill.ledger import Step
from leafmill.records import Verdict, digest
from taxonomy import Leaf


@dataclass(frozen=True)
class RoleGate:
    """The gate of one role for the candidates of one leaf. `<name>.low` refuses; a call that fails is an error, never a score."""

    name: str
    stage: tuple[Stage, ...]
    says: str
    threshold: float
    prompts: str
    """a hash of its files, so that its version changes with them"""
    chat: Chat = field(repr=False)
    leaf: Leaf = field(repr=False)

    async def __call__(self, subject: Subject) -> Verdict:
        brief, step = subject.brief, subject.facts["step"]
        assert brief is not None
        assert isinstance(step, Step)
        try:
            reply = await self.chat.ask(self.name, brief.language, step, about_row(self.leaf, brief, subject.row))
        except CallError as fault:  # recorded by the call
            return verdict(self, "error", fault.code, message=str(fault))
        score, why = reply.get("score"), reply.get("rationale") or reply.get("reason")
        if score < self.threshold:
            return verdict(self, "reject", f"{self.name}.low", value=score, threshold=self.threshold, rationale=why)
        return verdict(self, "accept", value=score, threshold=self.threshold, rationale=why)


def role_gates(chat: Chat, leaf: Leaf, settings: Mapping[str, Mapping[str, Any] | bool]) -> list[RoleGate]:
    """The gates that are roles, in the order of their names, without those that `settings` switch off."""
    roles = chat.roles
    return [
        RoleGate(name, (_at(roles, name),), _says(roles, name), threshold(roles, name, own), _prompts(roles, name), chat, leaf)
        for name in roles.at("gate")
        if (own := settings.get(name, {})) is not False
    ]


def threshold(roles: Roles, name: str, settings: Mapping[str, Any] | bool) -> float:
    """The recipe's, else the file's. Raises RecipeError."""
    given = settings if isinstance(settings, Mapping) else {}
    for key in given:
        if key != "threshold":
            raise RecipeError(unknown(f"setting of gate {name!r}", key, ("threshold",)))
    value = given.get("threshold", next(role.head.threshold for role in roles.files if role.name == name))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
        raise RecipeError(f"gate {name!r}: threshold must be a number from 1 to 5, got {value!r}")
    return value


def _at(roles: Roles, name: str) -> Stage:
    return next(role.head.at or "check" for role in roles.files if role.name == name)


def _says(roles: Roles, name: str) -> str:
    return next(role.head.says for role in roles.files if role.name == name)


def _prompts(roles: Roles, name: str) -> str:
    return digest([role.hash for role in roles.files if role.name == name])
