"""The contract of a role's reply: fields as a role file writes them, as a pydantic model, and as the JSON schema that a server obeys.

reply:
  reason: {type: str, max: 300, says: what is wrong}
  score: {type: int, min: 1, max: 5}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator

READ_AS = {
    "scenarios": "list[str]",
    **dict.fromkeys(("values", "sessions", "tools", "calls", "instances"), "list[dict]"),
    **dict.fromkeys(("labels", "unsupported"), "list[str]"),
    **dict.fromkeys(("classification", "grounded"), "bool"),
    **dict.fromkeys(("score", "grade"), "int"),
    **dict.fromkeys(("instruction", "input", "answer", "reasoning", "message", "rationale", "reason", "verdict", "where"), "str"),
}
"""The types of the reply fields that the graph knows by name."""


class FieldSpec(BaseModel):
    """One field of a contract. `min`/`max`: value of a number, characters of a text, items of a list; `each`: characters of an item; `of`:
    the fields of each item, for a list of objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["str", "int", "float", "bool", "list[str]", "list[dict]"] = "str"
    min: float | None = None
    max: float | None = None
    each: int | None = Field(None, ge=1)
    one_of: tuple[str, ...] = ()
    of: dict[str, FieldSpec] = {}
    optional: bool = False
    says: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _items_have_fields(self) -> FieldSpec:
        if (self.type == "list[dict]") != bool(self.of):
            raise ValueError("`of` gives the fields of each item of a list[dict], such as {name: str, score: int}")
        return self

    @property
    def absent(self) -> Any:
        """What an optional field is when the reply leaves it out."""
        return {"str": "", "list[str]": [], "list[dict]": []}.get(self.type)

    def annotation(self) -> Any:
        """The field as a pydantic annotation; a text is stripped, and may be empty only when `optional`."""
        low, high = self.min, self.max
        if self.one_of:
            return Annotated[Literal[self.one_of], Field(description=self.says or None)]
        if self.type == "str":
            least = int(low) if low is not None else (0 if self.optional else 1)
            limits = StringConstraints(strip_whitespace=True, min_length=least, max_length=int(high) if high is not None else None)
            return Annotated[str, limits, Field(description=self.says or None)]
        if self.type in ("list[str]", "list[dict]"):
            fewest, most = int(low) if low is not None else None, int(high) if high is not None else None
            item: Any = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=self.each)]
            if self.of:
                item = reply_model("item", self.of)
            return Annotated[list[item], Field(min_length=fewest, max_length=most, description=self.says or None)]
        if self.type == "bool":
            return Annotated[bool, Field(description=self.says or None)]
        kind = int if self.type == "int" else float
        return Annotated[kind, Field(ge=low, le=high, description=self.says or None)]


def reply_model(name: str, fields: Mapping[str, FieldSpec]) -> type[BaseModel]:
    """The pydantic model of a contract; a field that is not in it is an error."""
    parts: dict[str, Any] = {key: (spec.annotation(), ... if not spec.optional else spec.absent) for key, spec in fields.items()}
    return create_model(name.replace("-", "_"), __config__=ConfigDict(extra="forbid"), **parts)


def json_schema(contract: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a contract, closed and with every field required, as strict structured output wants it."""
    return _strict(contract.model_json_schema())


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Every field required, without pydantic's generated titles and defaults, which only cost tokens."""
    schema = {k: v for k, v in schema.items() if k != "title"}
    if "properties" in schema:
        schema["required"] = list(schema["properties"])
        schema["properties"] = {
            key: {k: v for k, v in prop.items() if k not in ("title", "default")} for key, prop in schema["properties"].items()
        }
    if "$defs" in schema:
        schema["$defs"] = {name: _strict(part) for name, part in schema["$defs"].items()}
    return schema
