"""Dataset files as they are found: every kind is read alike, and every line that cannot be read is said so with its number."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafmill.dataset import reader
from leafmill.dataset.items import Broken, Item
from leafmill.dataset.reader import Reader, read
from leafmill.errors import InputError

ROWS: list[dict[str, Any]] = [
    {"instruction": "写一首诗", "input": "", "output": "春眠不觉晓"},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {"instruction": "Add", "input": "3, 4", "output": "7", "score": 0.5, "tags": ["maths", None]},
]
GOOD = json.dumps(ROWS[0])


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def parquet(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **how)
    return path


def faults(path: Path) -> dict[int, str]:
    return {found.line: found.fault for found in read(path) if isinstance(found, Broken)}


def raws(path: Path, **how: Any) -> list[dict[str, Any]]:
    return [found.raw for found in read(path, **how) if isinstance(found, Item)]


# -- kinds of files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_jsonl_gzip_and_a_json_array_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, chunk: int
) -> None:
    monkeypatch.setattr(reader, "CHUNK", chunk)
    plain = write(tmp_path / "a.jsonl", lines(ROWS))
    zipped = write(tmp_path / "a.data", gzip.compress(lines(ROWS)))
    array = write(tmp_path / "a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, ensure_ascii=False, indent=indent).encode())
    assert raws(plain) == raws(zipped) == raws(array) == ROWS


def test_parquet_gives_rows_as_json_can_hold_them(tmp_path: Path) -> None:
    row = {**ROWS[0], "when": datetime.date(2024, 2, 29), "price": decimal.Decimal("1.10"), "score": float("nan"), "n": [{"a": 1}]}
    (found,) = raws(parquet(tmp_path / "a.parquet", [row]))
    assert found == {**ROWS[0], "when": "2024-02-29", "price": "1.10", "score": None, "n": [{"a": 1}]}
    images = parquet(tmp_path / "b.parquet", [{**ROWS[0], "image": None}, {**ROWS[0], "image": b"\xff"}])
    assert faults(images) == {2: "`image` holds bytes: expected text, numbers, lists or objects"}


@given(st.integers(0, 30), st.integers(1, 11))
def test_reading_from_a_line_gives_what_is_after_it_in_every_kind_of_file(
    tmp_path_factory: pytest.TempPathFactory, start: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("start")
    rows = [{"instruction": f"task {n}", "output": "x"} for n in range(25)]
    files = [
        write(folder / "a.jsonl", lines(rows)),
        write(folder / "a.jsonl.gz", gzip.compress(lines(rows))),
        write(folder / "a.json", json.dumps(rows).encode()),
        parquet(folder / "a.parquet", rows, row_group_size=group),
    ]
    for path in files:
        assert [(found.line, found.raw) for found in read(path, start=start)] == list(enumerate(rows, 1))[start:]


def test_a_bom_crlf_and_blank_lines_are_no_fault_and_lines_are_still_numbered(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + lines(ROWS).replace(b"\n", b"\r\n\r\n  \n") + b"\n"
    with Reader(write(tmp_path / "a.jsonl", data)) as found:
        assert [item.line for item in found] == [1, 4, 7]
        assert found.line == 10


def test_the_share_that_is_read_grows_to_the_whole(tmp_path: Path) -> None:
    for path in (write(tmp_path / "a.jsonl", lines(ROWS * 9000)), parquet(tmp_path / "a.parquet", ROWS[:1] * 600)):
        with Reader(path) as found:
            shares = [found.share for _ in found]
        assert shares[0] < 0.5
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_a_row_of_ten_megabytes_is_a_row(tmp_path: Path) -> None:
    row = {"instruction": "写" * 3_000_000, "output": "x" * 1_000_000}
    for path in (write(tmp_path / "a.jsonl", lines([row])), write(tmp_path / "a.json", json.dumps([row, row]).encode())):
        assert raws(path)[0] == row


# -- broken lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"instruction": "x"', "no JSON: breaks off at character 20"),
        (b'{"instruction": "x"}}', "no JSON: Extra data at character 21"),
        (b'{"instruction": "x", "output": "a\0b"}', "a NUL byte at character 34"),
        (b"\0\0\0\0", "a NUL byte at character 1"),
        (b'{"instruction": "caf\xe9", "output": "x"}', "not UTF-8: byte 0xe9 at 21"),
        (b'{"instruction": "x", "output": "a", "output": "b"}', "no JSON: the key 'output' stands there twice"),
        (b'{"instruction": "x", "output": "y", "meta": {"a": 1, "a": 2}}', "no JSON: the key 'a' stands there twice"),
        (b'{"instruction": "x", "output": "y", "score": NaN}', "no JSON: NaN is no number in JSON"),
        (b'{"instruction": "x", "output": "y", "score": -Infinity}', "no JSON: -Infinity is no number in JSON"),
        (b'{"instruction": "x", "output": "y", "score": 1e999}', "no JSON: the number 1e999 is too large"),
        (b'{"instruction": "x", "output": "y", "n": ' + b"9" * 5000 + b"}", "no JSON: Exceeds the limit"),
        (b'{"instruction": "\\ud83d", "output": "x"}', "half a character"),
        (b"[" * 20 + b"]" * 20, "a row must be an object {...}, got list"),
        (b'{"a":' * 200_000, "no JSON that can be read: too deeply nested"),
        (b'"text"', "a row must be an object {...}, got str"),
        (b'{"instruction": "", "output": "x"}', "the instruction is empty"),
        (b'{"foo": 1}', "the columns are foo: not those of any format"),
        (b'{"instruction": "x", "output": "y", "leafmill": 3}', "`leafmill`, where results are written, is taken"),
    ],
)
def test_a_line_that_cannot_be_read_is_set_aside_with_its_number(tmp_path: Path, line: bytes, fault: str) -> None:
    path = write(tmp_path / "a.jsonl", GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode() + b"\n")
    first, broken, last = read(path)
    assert isinstance(broken, Broken)
    assert (broken.line, broken.fault[: len(fault)]) == (2, fault)
    assert broken.raw.encode(errors="strict")
    assert isinstance(first, Item)
    assert isinstance(last, Item)


def test_a_pair_of_surrogates_is_a_character_and_an_escaped_nul_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rb'{"instruction": "\ud83d\ude00\u0000", "output": "x"}')
    assert raws(path)[0]["instruction"] == "😀\0"


def test_a_number_in_an_array_is_one_element_wherever_the_reading_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1)
    path = write(tmp_path / "a.json", f"[1234, {GOOD}]".encode())
    assert faults(path) == {1: "a row must be an object {...}, got int"}


def test_a_broken_element_of_an_array_is_set_aside_like_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", f'[{GOOD}, 3, {{"a": 1, "a": 2}}, {GOOD}]'.encode())
    assert faults(path) == {2: "a row must be an object {...}, got int", 3: "no JSON: the key 'a' stands there twice"}
    assert len(raws(path)) == 2


def test_what_was_kept_of_a_broken_line_is_all_of_it(tmp_path: Path) -> None:
    (_, broken) = read(write(tmp_path / "a.jsonl", GOOD.encode() + b"\ncaf\xe9 " + b"x" * 10_000))
    assert broken.raw == "caf\\xe9 " + "x" * 10_000


# -- files that are no datasets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": the file is empty: expected rows"),
        (b"\n \n\n", ": the file is empty: expected rows"),
        (b"[]", ": the file is empty: expected rows"),
        (b"a,b\n1,2\n", ":1: no JSON: Expecting value at character 1; none of the first 2 lines holds a row"),
        (b"\n" + b'{"question": "x"}\n' * 3, ":2: the columns are question: not those of any format; expected: alpaca has instruction"),
        (GOOD.encode("utf-16"), ": is UTF-16: expected UTF-8"),
        (f"[{GOOD}, {GOOD[:30]}".encode(), ": the array breaks off: Unterminated string"),
        (f"[{GOOD}, {{bad}}, {GOOD}]".encode() + b" " * 50, ": no JSON: Expecting property name"),
        (f"[{GOOD} {GOOD}]".encode(), ": expected ',', got '{'"),
        (f"[{GOOD}] 3".encode(), ": something stands behind the end"),
        (f'[{GOOD}, "caf'.encode() + b'\xe9"]', ": the file is damaged: 'utf-8' codec"),
        (gzip.compress(lines(ROWS * 999))[:-900], "the file is damaged"),
        (b"PAR1xxxxPAR1", ": the file is damaged"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused_with_its_place(tmp_path: Path, data: bytes, message: str) -> None:
    path = write(tmp_path / "a.jsonl", data)
    with pytest.raises(InputError) as said:
        list(read(path))
    assert str(said.value).startswith(str(path))
    assert message in str(said.value)


def test_a_path_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nobody.jsonl"):
        with pytest.raises(InputError, match="cannot be read"):
            list(read(path))


def test_an_unknown_format_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'sharegtp': did you mean 'sharegpt'"):
        list(read(write(tmp_path / "a.jsonl", lines(ROWS)), "sharegtp"))


def test_a_mixed_file_is_read_row_by_row_unless_a_format_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines(ROWS))
    assert [found.format for found in read(path) if isinstance(found, Item)] == ["alpaca", "messages", "alpaca"]
    asked = list(read(path, "alpaca"))
    assert [type(found) for found in asked] == [Item, Broken, Item]
    with pytest.raises(InputError, match="the columns are instruction, input, output: not those of firefly; expected: firefly has"):
        list(read(path, "firefly"))


def test_columns_are_looked_for_among_the_first_rows_not_in_the_first_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"comment": "v1"}\n\n\n' + lines(ROWS))
    assert faults(path) == {1: "the columns are comment: not those of any format"}
