"""Self-Instruct (arXiv 2212.10560): a new task after examples; whether it is a classification; and the material that it works on.

For a classification the labels come first and then an input for the one that was drawn: asked for inputs first, a model writes them for one
label only. What it drafts as an output is looked at and never becomes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from agents.briefing import about_leaf
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Language, Seed, digest
from taxonomy import Leaf


class Written(NamedTuple):
    """The instances of a task, and what they were written for."""

    instances: Sequence[Seed]
    label: str
    """which the right answer has to name; "" where the task is no classification"""
    replies: Sequence[Reply]


async def write(chat: Chat, leaf: Leaf, brief: Brief, step: Step) -> tuple[str, Reply]:
    """A new instruction, and the reply it came from. Raises CallError."""
    language = brief.written_in
    told = {"concepts": brief.concepts, "scenario": brief.scenario, "example": [seed.instruction for seed in brief.seeds]}
    reply = await chat.ask("self-instructor", language, step, {**about_leaf(leaf, language, brief.axes), **told})
    return reply.get("instruction"), reply


async def write_instances(chat: Chat, brief: Brief, instruction: str, step: Step) -> Written:
    """Material for an instruction. Raises CallError."""
    told = {"language": brief.written_in, "instruction": instruction}
    kind = await chat.ask("task-classifier", brief.written_in, step, told)
    labels = sorted(set(kind.get("labels"))) if kind.get("classification") else []
    label = Random(digest(brief.id, "label")).choice(labels) if len(labels) > 1 else ""
    reply = await chat.ask("instance-writer", brief.written_in, step, {**told, "label": label})
    instances = [_instance(instruction, one.input, one.output, brief.written_in) for one in reply.get("instances")]
    return Written(instances, label, (kind, reply))


def _instance(instruction: str, material: str, draft: str, language: Language) -> Seed:
    return Seed(instruction=instruction, input=material, output=draft, language=language)
