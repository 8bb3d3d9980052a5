"""What candidates are written from besides their brief: rows of a data set, passages of documents, more seeds, personas.

    settings:
      mode: {write: document}
      source: handbook/                     # a file, a folder or a glob beside the taxonomy; for whatever the leaf is written from
      source: {rewrite: {hub: owner/name}, document: [terms.pdf, faq.html], persona: people.txt}        # or for each way its own

Here stands what a taxonomy may say of them. `taxonomy.material` gives each candidate its own, `graphs.sources` opens them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from leafmill.records import Record

Way = Literal["self_instruct", "rewrite", "document", "persona"]
WAYS: tuple[Way, ...] = get_args(Way)
PASSAGE = 400
"""units that a passage has at most"""


class SourceSpec(Record):
    """Where the material of one way of writing lies."""

    path: tuple[str, ...] = ()
    """files, folders or globs, from the taxonomy's folder"""
    hub: str | None = None
    """owner/name, fetched through the package `datasets`"""
    config: str | None = None
    split: str = "train"
    texts: tuple[str, ...] = ()
    """personas, as they are"""
    passage: int = Field(PASSAGE, ge=40, le=4000)
    """units of a document's passage at most"""
    operations: tuple[Literal["paraphrase", "formal", "casual", "constraint"], ...] = Field(
        ("paraphrase", "formal", "casual", "constraint"), min_length=1
    )
    """what is done to a row of a data set; one is drawn for each candidate"""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        """A path, or several, stand for {path: ...}."""
        if isinstance(data, (str, list, tuple)):
            return {"path": [data] if isinstance(data, str) else data}
        if isinstance(data, dict) and isinstance(data.get("path"), str):
            return {**data, "path": [data["path"]]}
        return data

    @model_validator(mode="after")
    def _one_place(self) -> SourceSpec:
        if sum((bool(self.path), self.hub is not None, bool(self.texts))) != 1:
            raise ValueError("give one of `path` (files beside the taxonomy), `hub` (such as tatsu-lab/alpaca) and `texts` (personas)")
        return self


def by_way(given: Any) -> dict[str, Any]:
    """The sources of a leaf, by the way of writing; what names no way is for any, personas apart."""
    named = isinstance(given, dict) and given and set(given) <= set(WAYS)
    sources = given if named else {way: given for way in WAYS if way != "persona"}
    found = {}
    for way, spec in sources.items():
        try:
            found[way] = SourceSpec.model_validate(spec).model_dump(mode="json")
        except ValidationError as fault:
            first = fault.errors()[0]
            where = ".".join(map(str, (*((way,) if named else ()), *first["loc"])))
            problem = f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}, got {str(first['input'])[:80]!r}"
            raise PydanticCustomError("source", "{problem}", {"problem": problem}) from None
    return found
