"""Searching the texts of a run: Chinese of any length, words, phrases; exactly what stands there, and nothing that is typed is syntax."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leafmill.index import text
from leafmill.index.schema import DDL


@pytest.fixture(scope="module")
def index() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(DDL)
    yield connection
    connection.close()


def finds(index: sqlite3.Connection, said: str, asked: str) -> bool:
    """Whether a text is found by what somebody asks for."""
    index.execute("INSERT INTO search (search) VALUES ('delete-all')")
    index.execute("INSERT INTO search (rowid, text) VALUES (1, ?)", (text.terms(said),))
    query = text.query(asked)
    return bool(query) and index.execute("SELECT count(*) FROM search WHERE search MATCH ?", (query,)).fetchone() == (1,)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("用Python列表推导式写出来", "列表"),
        ("用Python列表推导式写出来", "Python列表"),
        ("用Python列表推导式写出来", "python 推导式"),
        ("用Python列表推导式写出来", "用"),
        ("用Python列表推导式写出来", "来"),
        ("用Python列表推导式写出来", "推"),
        ("用Python列表推导式写出来", '"python列表推导"'),
        ("用Python列表推导式写出来", "“表推”"),
        ("ひらがなとカタカナの練習", "カタカナ"),
        ("한국어 문장을 씁니다", "문장"),
        ("𠮷野家で食べる", "𠮷野"),
        ("Ｆｕｌｌ width ①", "full"),
        ("STRASSE in Köln", "straße koln"),
        ("The quick brown fox", "brown qui"),
        ("The quick brown fox", '"quick brown"'),
        ("it can't be", "can't"),
        ("C++ and C#", "c++"),
        ("4c45d9b85de5fbb3\nsaid", "4c45d9"),
    ],
)
def test_what_stands_there_is_found(index: sqlite3.Connection, said: str, asked: str) -> None:
    assert finds(index, said, asked)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("你好 好吗", "你好吗"),  # two runs that meet in a character are not one
        ("列表a推导", "列表推导"),
        ("推导列表", "表推"),
        ("列表", "列表推"),
        ("The quick brown fox", '"brown quick"'),
        ("The quick brown fox", "row"),
        ("The quick brown fox", "qui brown"),  # only the last word may go on
        ("abacus", "a"),
        ("anything", "?!"),
        ("anything", ""),
    ],
)
def test_what_does_not_stand_there_is_not_found(index: sqlite3.Connection, said: str, asked: str) -> None:
    assert not finds(index, said, asked)


@given(said=st.text("天地人 a。", max_size=8), asked=st.text("天地人", min_size=1, max_size=4))
@example(said="天地 地人", asked="天地人")
@example(said="a天", asked="天")
def test_chinese_is_found_exactly_where_it_is_part_of_the_text(index: sqlite3.Connection, said: str, asked: str) -> None:
    assert finds(index, said, asked) == (asked in said)


@given(asked=st.text())
@example(asked='"')
@example(asked='a AND NOT (b OR c) NEAR(d, 2) text:e ^f* {g} "h" -i + j')
@example(asked="“”「」")
@example(asked="\u0301 \u0000 '")
def test_nothing_that_is_typed_is_syntax(index: sqlite3.Connection, asked: str) -> None:
    finds(index, "something", asked)
