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
from agents.briefing import about_row, shown_tools
from agents.contract import FieldSpec
from agents.evolver import operator
from agents.gold import LEAF, Gold
from agents.planner import PAGE
from agents.role import Role, sampling
from agents.simulated_user import wish_of
from agents.stages import ANSWERING, WRITING
from agents.syllabus import KNOWN
from agents.tool_writer import COUNT
from graphs.gold import SHELF, brief_of
from graphs.players import alias_of, players_of, seats_of
from graphs.prepare import Prepared
from leafmill.recipe import Recipe, RoleSettings
from leafmill.records import Brief, Language, Row, Seat, Turn
from leafmill.tokens import count_prompt, count_tokens
from taxonomy import Leaf, draw, plan_of
from taxonomy.material import furnish
from taxonomy.tools import SHOWN

LENGTHS: Mapping[str, int] = {
    "scenarios": 25, "instruction": 60, "input": 40, "answer": 300, "reasoning": 300, "rationale": 30, "reason": 40,
    "concepts": 8, "title": 8,
}  # fmt: skip
"""Assumed tokens of what a role writes, by the field of its reply: one scenario, one concept; an input of 80 in every second row; an answer
of 200 English words, and as much before it where it is thought out in steps; one or two sentences of a judge."""
OTHER_TEXT = 40
"""Assumed tokens of a text that is not among these."""
PER_FIELD = 8
"""Assumed tokens of a field's name, quotes and brackets in a JSON reply; of a number with them."""
TOOL = 120
"""Assumed tokens of a tool as a prompt shows it, where a role writes them."""
CALL = 60
"""Assumed tokens of a call and its result."""
CORRECTION = 800
"""Tokens at most that a request to repair a reply adds to the prompt, the schema apart: 1,000 characters of the reply, and what is wrong
with it."""
LABEL = 10
"""Assumed tokens of a label of a classification."""
BRIEFS = 4
"""how many briefs of a leaf are rehearsed"""
COMES_FROM = {
    "scenario": "scenarios",
    "known": "scenarios",
    "taught": "concepts",
    "instruction": "instruction",
    "input": "input",
    "answer": "answer",
    "answer_a": "answer",
    "answer_b": "answer",
    "feedback": "reason",
    "votes": "rationale",
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
        seed = self._recipe.seed
        plan = plan_of(leaf, seed, self._prepared.languages(leaf))
        return [
            self._ask(role, leaf, brief, alias)
            for brief in (self._brief(leaf, draw(leaf, seed, number, plan.cell(number)), name) for number in range(BRIEFS))
            if self._prepared.roles.speaks(name, brief.language)  # a planner need not
            for role in [self._prepared.roles.pick(name, brief.language, f"{seed}/{brief.id}/{name}")]
            for alias in players_of(self._recipe, leaf, role)
        ]

    def _brief(self, leaf: Leaf, brief: Brief, name: str) -> Brief:
        """A brief with its material, in the language in which a role is asked: who writes may be asked in another than the row's."""
        brief = furnish(brief, leaf, self._recipe.seed, brief.number)
        if self._longest and brief.source:
            longest = max(leaf.sources[brief.mode.write], key=lambda one: len(one.text) + len(one.input))
            brief = brief.model_copy(update={"source": longest})
        if not any(name in self._prepared.roles.at(stage) for stages in WRITING.values() for stage in stages):
            return brief
        return brief.model_copy(update={"language": brief.written_in, "mode": brief.mode.model_copy(update={"localised": False})})

    def of_gold(self, judge: Seat, row: Gold) -> Ask:
        """The call of a judge about a gold row."""
        role = self._prepared.roles.pick(judge.role, row.language, f"{self._recipe.seed}/{LEAF}:{row.id}/{judge.name}")
        told = {**about_row(SHELF, brief_of(row), row.row), "finding": ""}
        return self._sized(role, judge.alias or alias_of(self._recipe, role), told)

    def _ask(self, role: Role, leaf: Leaf, brief: Brief, alias: str) -> Ask:
        return self._sized(role, alias, self._told(role, leaf, brief))

    def _sized(self, role: Role, alias: str, told: Mapping[str, Any]) -> Ask:
        limit = max_tokens_of(self._recipe, role, alias)
        prompt = count_prompt(role.render(told))
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
        concepts = [texts["taught"]] * (self._prepared.roles.speaks("syllabus-planner", brief.language) * (3 if self._longest else 1))
        if role.head.stage in ("plan", "syllabus"):
            brief = brief.model_copy(update={"axes": {}, "seeds": leaf.seeds})
        history = self._said_before(role, brief, texts)
        if role.head.stage in ANSWERING and not self._longest:  # the first answer: nobody has found fault with one before
            texts |= {"answer": "", "feedback": ""}
        if source := brief.source:
            texts |= {"input": "" if brief.mode.closed_book else source.text} if brief.mode.write == "document" else {}
            texts |= {"instruction": source.text, "input": source.input} if role.head.stage == "rewrite" else {}
        row = Row(language=brief.language, instruction=texts["instruction"], input=texts["input"], answer=texts["answer"])
        told = {**about_row(leaf, brief, row), "scenario": texts["scenario"], "feedback": texts["feedback"]}
        told |= {**wish_of(leaf, brief).model_dump(), "history": history}
        told |= self._tools(role, leaf, brief)
        told |= self._material(role, brief, texts["instruction"])
        told |= {name: texts[name] for name in ("answer_a", "answer_b")}
        told |= {
            "finding": critic.MISALIGNED[brief.language] if self._longest else "",
            "operator": operator(brief, 0),
            "parent": row.prompt,
            "votes": [texts["votes"]] * len(seats_of(self._recipe, self._prepared.roles)),
        }
        known = [texts["taught"]] * KNOWN if role.head.stage == "syllabus" else [texts["known"]] * PAGE
        return {**told, "seeds": brief.seeds, "concepts": concepts, "count": PAGE, "known": known}

    def _material(self, role: Role, brief: Brief, instruction: str) -> dict[str, Any]:
        """What its writers are told beside the brief: who asks, examples, a row's change, a passage."""
        examples = [seed.instruction for seed in brief.seeds]
        told: dict[str, Any] = {
            "persona": brief.persona,
            "example": [max([instruction, *examples], key=len)] * len(examples) if self._longest else examples,
            "label": text_of(LABEL * (4 if self._longest else 1), brief.language),
            "operation": "paraphrase",
            "closed_book": brief.mode.closed_book,
        }
        if brief.source and role.head.stage in ("document", "ground"):
            told |= {"passage": brief.source.text, "heading": brief.source.heading}
        return told

    def _said_before(self, role: Role, brief: Brief, texts: Mapping[str, str]) -> list[Turn]:
        """What a prompt shows of a conversation: judges see all of it, those who speak in it half of it in the mean."""
        speaks = role.head.stage == "follow_up"
        shown = brief.mode.turns - 1 if self._longest or (role.judges and role.head.stage != "gate") else brief.mode.turns // 2
        exchange = [Turn(role="user", content=texts["instruction"]), Turn(role="assistant", content=texts["answer"])]
        return exchange * max(shown, int(speaks))

    def _tools(self, role: Role, leaf: Leaf, brief: Brief) -> dict[str, Any]:
        """What is told of tools: those of the leaf or as many as would be written, and what one call gave."""
        takes = brief.mode.tools != "none"
        given: list[Any] = [tool.shown for tool in leaf.tools(brief.language)] or [text_of(TOOL, brief.language)] * COUNT
        calls = (self._recipe.flow.tool_rounds if self._longest else 1) * takes
        return {
            "tools": shown_tools(given[:SHOWN]) if takes or role.head.stage == "tool_task" else "",
            "steps": text_of(CALL, brief.language) * calls,
            "tool_use": brief.mode.tools,
            "left_out": "",
            "problem": text_of(CALL, brief.language) if self._longest else "",
        }

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
            elif language in role.head.language:
                spec = reply.get(field) or next((one.of[field] for one in reply.values() if field in one.of), None)
                if spec is None:
                    continue
                characters = spec.each if spec.type == "list[str]" else spec.max
                found.append(limit if characters is None else min(limit, count_tokens(letter * int(characters))))
        return max(found, default=0)


def max_tokens_of(recipe: Recipe, role: Role, alias: str = "") -> int:
    """What one reply of a role may take, played by its own model or by that of `alias`."""
    return sampling(role, recipe.roles.get(role.name, RoleSettings()), recipe.models[alias or alias_of(recipe, role)]).max_tokens


def text_of(tokens: int, language: Language) -> str:
    """A text of so many tokens by `count_tokens`."""
    return "字" * (tokens * 10 // 7) if language == "zh" else "lorem ipsum " * (tokens // 3)


def _reply_length(role: Role) -> int:
    reply = role.head.reply
    if isinstance(reply, str):
        return LENGTHS[_text_of_reply(role)]
    return sum(PER_FIELD + _assumed(name, spec) for name, spec in reply.items())


def _assumed(name: str, spec: FieldSpec) -> int:
    if spec.type == "list[dict]":
        return _items(spec) * sum(PER_FIELD + _assumed(field, part) for field, part in spec.of.items())
    if spec.one_of or spec.type not in ("str", "list[str]"):
        return 0  # it is counted with the field's name
    return LENGTHS.get(name, OTHER_TEXT) * (_items(spec) if spec.type == "list[str]" else 1)


def _items(spec: FieldSpec) -> int:
    """How long a list is assumed to be."""
    return min(PAGE, int(spec.max or PAGE))


def _text_of_reply(role: Role) -> str:
    """What a reply in plain text is."""
    return role.head.writes or "answer"
