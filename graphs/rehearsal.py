"""How large a role's calls will be, seen before one is made: its real prompts are rendered for the first briefs of a leaf, with texts of
a plausible length where models will have written.

A prompt's length is counted, the reply's is assumed. The assumptions stand at the top of this file; none is a measurement. A model that
reasons before it replies takes more, up to its `max_tokens`: only a ledger knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast, get_args

from agents import critic
from agents.briefing import about_row
from agents.contract import FieldSpec
from agents.evolver import operator
from agents.planner import PAGE
from agents.role import Role, sampling
from graphs.prepare import Prepared, alias_of
from leafmill.recipe import Recipe, RoleSettings
from leafmill.records import Brief, Language, Row
from leafmill.tokens import count_prompt, count_tokens
from taxonomy import Leaf, draw

LENGTHS: Mapping[str, int] = {"scenarios": 25, "instruction": 60, "input": 40, "answer": 300, "rationale": 30, "reason": 40}
"""Assumed tokens of what a role writes, by the field of its reply: one scenario; an input of 80 in every second row; an answer of 200
English words; one or two sentences of a judge."""
OTHER_TEXT = 40
"""Assumed tokens of a text that is not among these."""
PER_FIELD = 8
"""Assumed tokens of a field's name, quotes and brackets in a JSON reply; of a number with them."""
CORRECTION = 800
"""Tokens at most that a request to repair a reply adds to the prompt, the schema apart: 1,000 characters of the reply, and what is wrong
with it."""
BRIEFS = 4
"""how many briefs of a leaf are rehearsed"""
COMES_FROM = {
    "scenario": "scenarios",
    "known": "scenarios",
    "instruction": "instruction",
    "input": "input",
    "answer": "answer",
    "feedback": "reason",
}
"""What a prompt shows of what models wrote, and the field of a reply that it comes from."""


class Ask(NamedTuple):
    """One call as it would be made, in tokens."""

    alias: str
    prompt: float
    completion: float
    cached: float = 0.0


class Rehearsal:
    """Renders the prompts of a prepared recipe; `longest`: with every text as long as its contract and `max_tokens` allow, and every other
    call a request to repair."""

    def __init__(self, prepared: Prepared, *, longest: bool = False) -> None:
        self._prepared, self._recipe, self._longest = prepared, prepared.recipe, longest
        self._texts = {language: self._written(language) for language in cast(tuple[Language, ...], get_args(Language))}

    def calls(self, leaf: Leaf, name: str) -> list[Ask]:
        """The calls of a role for the first briefs of a leaf."""
        return [
            self._ask(self._prepared.roles.pick(name, brief.language, f"{self._recipe.seed}/{brief.id}/{name}"), leaf, brief)
            for brief in (draw(leaf, self._recipe.seed, number, self._prepared.languages(leaf)) for number in range(BRIEFS))
            if self._prepared.roles.speaks(name, brief.language)  # a planner need not
        ]

    def _ask(self, role: Role, leaf: Leaf, brief: Brief) -> Ask:
        alias, limit = alias_of(self._recipe, role), max_tokens_of(self._recipe, role)
        prompt = count_prompt(role.render(self._told(role, leaf, brief)))
        schema = 0 if role.schema is None else count_tokens(json.dumps(role.schema, ensure_ascii=False))
        if self._longest:
            return Ask(alias, prompt + schema + (CORRECTION + schema) / 2, limit)
        in_words = self._recipe.models[alias].structured in ("json_object", "text")  # else it travels beside the messages
        return Ask(alias, prompt + schema * in_words, min(_reply_length(role), limit))

    def _told(self, role: Role, leaf: Leaf, brief: Brief) -> dict[str, Any]:
        """What any stage offers to its template."""
        texts = dict(self._texts[brief.language])
        if not self._prepared.roles.speaks("planner", brief.language):
            texts["scenario"] = ""
        if role.head.stage == "plan":
            brief = brief.model_copy(update={"axes": {}, "seeds": leaf.seeds})
        if role.head.stage == "answer" and not self._longest:  # the first answer: nobody has found fault with one before
            texts |= {"answer": "", "feedback": ""}
        row = Row(language=brief.language, instruction=texts["instruction"], input=texts["input"], answer=texts["answer"])
        told = {**about_row(leaf, brief, row), "scenario": texts["scenario"], "feedback": texts["feedback"]}
        told |= {"finding": critic.MISALIGNED[brief.language] if self._longest else "", "operator": operator(brief, 0)}
        return {**told, "seeds": brief.seeds, "count": PAGE, "known": [texts["known"]] * PAGE}

    def _written(self, language: Language) -> dict[str, str]:
        """What models will have written, by the name that prompts have for it."""
        length: Callable[[str], int] = (lambda field: self._most(field, language)) if self._longest else LENGTHS.__getitem__
        return {name: text_of(length(field), language) for name, field in COMES_FROM.items()}

    def _most(self, field: str, language: Language) -> int:
        """Tokens at most of what any role writes into a field."""
        letter, found = "字" if language == "zh" else "a", []
        for role in self._prepared.roles.files:
            reply, limit = role.head.reply, max_tokens_of(self._recipe, role)
            if isinstance(reply, str):
                found += [limit] if field == _text_of_reply(role) else []
            elif language in role.head.language and field in reply:
                characters = reply[field].each if reply[field].type == "list[str]" else reply[field].max
                found.append(limit if characters is None else min(limit, count_tokens(letter * int(characters))))
        return max(found, default=0)


def max_tokens_of(recipe: Recipe, role: Role) -> int:
    """What one reply of a role may take."""
    return sampling(role, recipe.roles.get(role.name, RoleSettings()), recipe.models[alias_of(recipe, role)]).max_tokens


def text_of(tokens: int, language: Language) -> str:
    """A text of so many tokens by `count_tokens`."""
    return "字" * (tokens * 10 // 7) if language == "zh" else "lorem ipsum " * (tokens // 3)


def _reply_length(role: Role) -> int:
    reply = role.head.reply
    if isinstance(reply, str):
        return LENGTHS[_text_of_reply(role)]
    return sum(PER_FIELD + _assumed(name, spec) for name, spec in reply.items())


def _assumed(name: str, spec: FieldSpec) -> int:
    if spec.one_of or spec.type not in ("str", "list[str]"):
        return 0  # it is counted with the field's name
    return LENGTHS.get(name, OTHER_TEXT) * (PAGE if spec.type == "list[str]" else 1)


def _text_of_reply(role: Role) -> str:
    """What a reply in plain text is."""
    return role.head.writes or "answer"
