"""YAML that remembers its lines: what is read, and what each mistake in a file says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from leafmill import yamlfile
from leafmill.errors import InputError, RecipeError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(3, ge=1)
    names: list[str] = []


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner = Inner()
    by_name: dict[str, Inner] = {}
    either: str | Inner = ""
    gates: dict[str, dict[str, Any] | Literal[False]] = {}
    must: int = 0

    @model_validator(mode="after")
    def _sane(self) -> Outer:
        if self.must == 13:
            raise ValueError("13 is unlucky")
        return self


def fault(text: str) -> str:
    with pytest.raises(InputError) as caught:
        yamlfile.parse(text, "f.yaml").model(Outer)
    return str(caught.value)


def test_plain_data_comes_with_the_line_of_every_value() -> None:
    read = yamlfile.parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    assert read.data == {"a": 1, "b": ["x", {"c": 2}]}
    assert [read.place(keys).line for keys in (["a"], ["b"], ["b", 0], ["b", 1, "c"])] == [1, 2, 3, 4]


def test_what_is_not_in_the_file_stands_where_the_nearest_thing_around_it_does() -> None:
    read = yamlfile.parse("a: 1\nb:\n  c: {}\n", "f.yaml")
    assert str(read.place(["b", "c", "no", "such"])) == "f.yaml:3"
    assert str(read.place(["nowhere"])) == "f.yaml:1"


def test_text_that_begins_further_down_in_its_file_keeps_the_lines_of_the_file() -> None:
    read = yamlfile.parse("a: 1\nb: 2\n", "f.md", first_line=10)
    assert str(read.place(["b"])) == "f.md:11"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("innr: {}", "f.yaml:1: unknown key 'innr': did you mean 'inner'? known: by_name, either, gates, inner, must (at innr)"),
        ("must: 1\ninner:\n  widht: 2", "f.yaml:3: unknown key 'widht': did you mean 'width'? known: names, width (at inner.widht)"),
        ("by_name:\n  two:\n    nmes: 1", "f.yaml:3: unknown key 'nmes': did you mean 'names'? known: names, width (at by_name.two.nmes)"),
        ("either: {wdth: 1}", "f.yaml:1: unknown key 'wdth': did you mean 'width'? known: names, width (at either.wdth)"),
        ("3: x", "f.yaml:1: unknown key '3': known: by_name, either, gates, inner, must (at 3)"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_one_at_every_depth(text: str, expected: str) -> None:
    assert fault(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("must: many", "f.yaml:1: must: Input should be a valid integer, unable to parse string as an integer, got 'many'"),
        ("inner:\n  width: 0", "f.yaml:2: inner.width: Input should be greater than or equal to 1, got 0"),
        ("inner:\n  names: [a,\n    3]", "f.yaml:3: inner.names.1: Input should be a valid string, got 3"),
        ("inner: 3", "f.yaml:1: inner: Input should be a valid dictionary or instance of Inner, got 3"),
        ("gates: {ifd: 3}", "f.yaml:1: gates.ifd: Input should be a valid dictionary, got 3"),
        ("must: 13", "f.yaml:1: (the document): 13 is unlucky"),
        ("must: a\ninner: 3", "f.yaml:2: inner: Input should be a valid dictionary or instance of Inner, got 3 (1 more)"),
    ],
)
def test_a_wrong_value_is_shown_with_its_place_and_what_was_expected(text: str, expected: str) -> None:
    assert fault(text) == expected


def test_values_inside_a_wrong_mapping_or_list_are_not_shown_for_one_may_be_a_secret() -> None:
    assert "a mapping with the keys api_key" in fault("must: {api_key: sk-1}")
    assert "sk-1" not in fault("must: {api_key: sk-1}") + fault("must: [{api_key: sk-1}]") + fault("inner: [sk-1]")


def test_a_long_value_is_cut() -> None:
    assert len(fault(f"inner: {{width: {'x' * 500}}}")) < 250


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: is empty"),
        ("# only a comment\n", "f.yaml: is empty"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: key 'a' is given twice under the document"),
        ("a:\n  b: 1\n  b: 2\n", "f.yaml:3: key 'b' is given twice under a"),
        ("a: &a\n  b: *a\n", "f.yaml:1: a cycle: a.b contains itself"),
        ("a: &a [*a]\n", "f.yaml:1: a cycle: a.0 contains itself"),
        ("a:\n\tb: 1\n", "f.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: [1\nb: 2\n", "f.yaml:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: but found another document"),
        ("a: *nobody\n", "f.yaml:1: not valid YAML: found undefined alias 'nobody'"),
        ("a: 1\nb: \x01\n", "f.yaml:2: not valid YAML: special characters are not allowed"),
        ("a: 1\n? {b: c}\n: 2\n", "f.yaml:2: a key must be plain text, not a list or a mapping"),
        ("? [b]\n: 2\n", "f.yaml:1: a key must be plain text, not a list or a mapping"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "f.yaml:3: merge keys (<<) are not supported: write the values out"),
        ("a: 2024-99-99\n", "f.yaml:1: a: '2024-99-99' cannot be read as 'timestamp'; put quotes around a text"),
        ("a: !!int many\n", "f.yaml:1: a: 'many' cannot be read as 'int'; put quotes around a text"),
    ],
)  # fmt: skip
def test_each_fault_of_a_file_has_its_own_sentence(text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        yamlfile.parse(text, "f.yaml", RecipeError)
    assert str(caught.value) == expected


def test_a_tag_of_python_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"f\.yaml:1: a: .* cannot be read as 'python/object/apply:os\.mkdir'"):
        yamlfile.parse(f"a: !!python/object/apply:os.mkdir [{tmp_path}/made]".replace("[", "'").replace("]", "'"), "f.yaml")
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_nested_too_deeply_is_an_input_error() -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        yamlfile.parse("a: " + "[" * 3000 + "]" * 3000, "f.yaml")


def test_a_word_that_yaml_takes_for_a_boolean_is_still_the_key_that_it_looks_like() -> None:
    assert yamlfile.parse("off: true\non: 1\nno: 2\n3: 4\n", "f.yaml").data == {"off": True, "on": 1, "no": 2, "3": 4}


def test_an_alias_may_repeat_a_value() -> None:
    assert yamlfile.parse("a: &a {b: [1]}\nc: *a\n", "f.yaml").data == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_a_missing_file_a_folder_and_bytes_that_are_not_utf8_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    for name, expected in (("no.yaml", "No such file"), (".", "Is a directory"), ("latin.yaml", "not valid UTF-8: byte 0xfc at offset 7")):
        with pytest.raises(RecipeError, match=expected):
            yamlfile.read(tmp_path / name, RecipeError)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    read = yamlfile.read(tmp_path / "w.yaml")
    assert (read.data, read.place(["b"]).line) == ({"a": 1, "b": 2}, 2)


@given(st.text(max_size=60))
def test_no_text_whatever_breaks_out_as_another_error(text: str) -> None:
    with contextlib.suppress(InputError):
        yamlfile.parse(text, "f.yaml").model(Outer)
