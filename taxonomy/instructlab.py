"""An InstructLab taxonomy as ours: a tree of folders whose leaves hold a `qna.yaml` (version 2: a skill, version 3: knowledge).

A folder is a node, named as the folder; a leaf's `task_description`, or the outline of its document, is its description, and its seed
examples are its seeds: context -> input, question -> instruction, answer -> output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from leafmill.errors import Place, TaxonomyError
from leafmill.records import Language, Seed
from leafmill.yamlfile import Yaml, read
from taxonomy.draft import Draft, slug_of
from taxonomy.seeds import make_seed

QNA = "qna.yaml"

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class _Pair(BaseModel):
    question: Text
    answer: Text


class _Example(_Pair):
    context: str | None = None


class _Skill(BaseModel):
    task_description: str | None = None
    seed_examples: list[_Example] = Field(min_length=1)


class _Passage(BaseModel):
    context: Text
    questions_and_answers: list[_Pair] = Field(min_length=1)


class _Knowledge(BaseModel):
    document_outline: str | None = None
    domain: str | None = None
    seed_examples: list[_Passage] = Field(min_length=1)


def read_instructlab(folder: Path, language: Language, name: str = "") -> Draft:
    """The tree of a folder; its root is called `name`, or as the folder. Raises TaxonomyError with file and line."""
    root = _node(folder, language, set())
    if root is None:
        raise TaxonomyError(f"there is no {QNA} in it, nor in a folder below it: is it an InstructLab taxonomy?", Place(str(folder)))
    if name:
        root.slug, root.title = slug_of(name), {language: name}
    root.languages = (language,)
    return root


def _node(folder: Path, language: Language, taken: set[str]) -> Draft | None:
    """The node of a folder; None where no leaf is in it. A leaf that has leaves below it leaves them its seeds."""
    slug = slug_of(folder.resolve().name, taken)
    node = Draft(slug, {language: slug.replace("-", " ").capitalize()}, place=Place(str(folder)))
    inside: set[str] = set()
    for one in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if child := _node(one, language, inside):
            node.children.append(child)
            inside.add(child.slug)
    file = folder / QNA
    if file.is_file():
        _fill(node, read(file, TaxonomyError), language)
    return node if node.children or file.is_file() else None


def _fill(node: Draft, yaml: Yaml, language: Language) -> None:
    """Description and seeds of a leaf, from its file."""
    version = yaml.data.get("version") if isinstance(yaml.data, dict) else None
    if version not in (2, 3):
        raise yaml.fail(f"version should be 2 (a skill) or 3 (knowledge), got {version!r}", ("version",))
    told = yaml.model(_Skill) if version == 2 else yaml.model(_Knowledge)
    about = told.task_description if isinstance(told, _Skill) else told.document_outline or told.domain
    if about and about.strip():
        node.description = {language: " ".join(about.split())}
    node.place = Place(yaml.path)
    node.seeds = tuple(_seeds(told, yaml, language))


def _seeds(told: _Skill | _Knowledge, yaml: Yaml, language: Language) -> Iterator[Seed]:
    examples: list[tuple[str, Sequence[_Pair]]]
    if isinstance(told, _Skill):
        examples = [(one.context or "", [one]) for one in told.seed_examples]
    else:
        examples = [(one.context, one.questions_and_answers) for one in told.seed_examples]
    for number, (context, pairs) in enumerate(examples):
        for pair in pairs:
            fields: dict[str, Any] = {"instruction": pair.question.strip(), "input": context.strip(), "output": pair.answer.strip()}
            yield make_seed({**fields, "language": language}, yaml.place(("seed_examples", number)))
