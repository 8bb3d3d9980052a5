"""A taxonomy to begin with, read from what a person has: a list of labels or an InstructLab folder."""

from __future__ import annotations

from pathlib import Path

from leafmill.errors import TaxonomyError
from leafmill.records import Language
from taxonomy.draft import Draft
from taxonomy.instructlab import read_instructlab
from taxonomy.labels import read_labels

PLAIN: dict[Language, str] = {"en": 'Requests about "{}".', "zh": "与“{}”有关的请求。"}
"""What a leaf that nobody has described is said to be."""


def read_outline(source: Path, language: Language, name: str = "") -> Draft:
    """A folder is an InstructLab taxonomy, a file a list of labels. Raises TaxonomyError with file and line."""
    if not source.exists():
        raise TaxonomyError(f"there is no {str(source)!r}: expected a list of labels, or the folder of an InstructLab taxonomy")
    return read_instructlab(source, language, name) if source.is_dir() else read_labels(source, language, name)


def describe_plainly(root: Draft, language: Language) -> list[str]:
    """Give every leaf without a description one made of its titles; the paths of those leaves."""
    done = []

    def visit(node: Draft, path: str, trail: tuple[str, ...]) -> None:
        if language not in node.title:  # it does not speak it, nor does what is below it
            return
        here = (*trail, node.title[language])
        if not node.children and language not in node.description:
            node.description[language] = PLAIN[language].format(" > ".join(here[1:] or here))
            done.append(path)
        for child in node.children:
            visit(child, f"{path}/{child.slug}", here)

    visit(root, root.slug, ())
    return done
