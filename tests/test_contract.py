"""Contracts with lists of objects: the schema that a server obeys, and what of a reply is taken."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agents.contract import FieldSpec, json_schema, reply_model
from agents.scripted.words import Speaker

CALLS = {
    "calls": {"type": "list[dict]", "max": 2, "of": {"name": {"type": "str", "max": 9}, "times": {"type": "int", "optional": True}}},
    "answer": {"type": "str", "optional": True},
}


def contract(**fields: Any) -> Any:
    return reply_model("a-role", {key: FieldSpec.model_validate(spec) for key, spec in fields.items()})


def test_the_schema_of_a_list_of_objects_is_closed_and_wants_every_field() -> None:
    schema = json_schema(contract(**CALLS))
    assert schema["required"] == ["calls", "answer"]
    assert schema["properties"]["calls"] == {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/item"}}
    item = schema["$defs"]["item"]
    assert (item["additionalProperties"], item["required"]) == (False, ["name", "times"])
    assert item["properties"]["name"] == {"type": "string", "minLength": 1, "maxLength": 9}


def test_items_are_read_by_their_fields_and_an_optional_one_may_be_missing() -> None:
    reply = contract(**CALLS).model_validate({"calls": [{"name": " find "}, {"name": "read", "times": 2}]})
    assert [(one.name, one.times) for one in reply.calls] == [("find", None), ("read", 2)]
    assert reply.answer == ""
    assert contract(calls={**CALLS["calls"], "optional": True}).model_validate({}).calls == []


@pytest.mark.parametrize(
    ("item", "where"),
    [({"times": 1}, "name"), ({"name": ""}, "name"), ({"name": "x", "mood": "y"}, "mood"), ({"name": "x", "times": "no"}, "times")],
)
def test_an_item_that_does_not_keep_the_contract_is_told_by_its_place(item: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as fault:
        contract(**CALLS).model_validate({"calls": [{"name": "find"}, item]})
    assert fault.value.errors()[0]["loc"] == ("calls", 1, where)


def test_two_lists_of_different_objects_keep_their_own_fields() -> None:
    both = contract(a={"type": "list[dict]", "of": {"x": "str"}}, b={"type": "list[dict]", "of": {"y": "int"}})
    schema = json_schema(both)
    named = [schema["properties"][key]["items"]["$ref"].rsplit("/", 1)[-1] for key in "ab"]
    assert [schema["$defs"][name]["required"] for name in named] == [["x"], ["y"]]
    assert both.model_validate({"a": [{"x": "t"}], "b": [{"y": 3}]}).b[0].y == 3


def test_only_a_list_of_objects_says_what_its_items_are() -> None:
    for wrong in ({"type": "list[dict]"}, {"type": "list[str]", "of": {"name": "str"}}):
        with pytest.raises(ValidationError, match="`of` gives the fields of each item"):
            FieldSpec.model_validate(wrong)


def test_the_scripted_model_keeps_such_a_contract() -> None:
    import random

    whole = contract(**CALLS)
    whole.model_validate(Speaker(random.Random(1), "Find something.").value(json_schema(whole)))
