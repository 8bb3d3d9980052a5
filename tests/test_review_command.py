"""`leafmill review`: the queue in a terminal, decided by keys."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from leafmill.errors import InputError
from leafmill.ledger import Ledger
from leafmill.records import Review, Row, Turn
from leafmill.review_command import Desk, as_text, in_editor, parts_of, visible
from leafmill.reviews import Queue, Wanted
from tests.terminal import leafmill
from tests.waiting import Held, several, written

Editor = Callable[[str], str | None]
TEXT = st.text(st.sampled_from("ab=\n #instructionanswer"), max_size=40)


def at_the_desk(queue: Queue, keys: str, *lines: str, editor: Editor = lambda text: None, wanted: Wanted = Wanted()) -> str:  # noqa: B008
    """What is printed while a reviewer presses these keys, and writes these lines where a line is asked for."""
    pressed, asked, out = iter(keys), iter(lines), StringIO()
    console = Console(file=out, width=100)
    Desk(queue, "ann", wanted, console, lambda: next(pressed), lambda prompt: next(asked), editor).work()
    return out.getvalue()


def decided(queue: Queue) -> list[Review]:
    with Ledger(queue.path, read_only=True) as ledger:
        return ledger.decisions(time.time() + 1)


def test_keys_accept_reject_with_reason_and_note_skip_and_quit(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, *(Held(number) for number in range(4))))
    out = at_the_desk(queue, "ar2sq", "too short")
    assert [(one.candidate[-1], one.reviewer, one.decision, one.code, one.note) for one in decided(queue)] == [
        ("0", "ann", "accept", "", ""),
        ("1", "ann", "reject", "unhelpful", "too short"),
    ]
    assert next((one.decision, one.number) for one in queue.history()) == ("skip", 2)
    assert "The panel is divided: its votes lie 4 points apart" in out
    assert "It is worth 5." in out
    assert "It does not say why." in out
    assert "Sheet 0 goes on the lowest shelf." in out
    assert "ann: 2 decided. 2 have not gone on yet: they go on with: leafmill run" in out
    assert queue.counts("bob").claimed == 0


def test_undo_brings_the_last_one_back(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), Held(1)))
    out = at_the_desk(queue, "uaur1q", "")
    assert "ann has decided nothing that could be undone" in out
    assert [(one.candidate, one.decision) for one in decided(queue)] == [(Held(0).id, "reject")]


def test_when_nobody_waits_it_says_so(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), Held(1, leaf="t/b")))
    assert "nobody waits of these" in at_the_desk(queue, "a", wanted=Wanted(leaf=("t/a",)))
    queue.next_for("bob")
    assert "1 wait, and all are with other reviewers" in at_the_desk(queue, "")
    queue.decide(Held(1, leaf="t/b").id, "bob", "accept")
    assert "nobody waits\n" in at_the_desk(queue, "")


def test_what_the_editor_saves_is_the_row(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, reasoning="Sheets are heavy.", history=(Turn(role="user", content="Hello."),))))
    at_the_desk(queue, "e", editor=lambda text: text.replace("lowest", "highest").replace("heavy", "light"))
    (one,) = decided(queue)
    assert one.row is not None
    assert (one.row.answer, one.row.reasoning) == ("Sheet 0 goes on the highest shelf.", "Sheets are light.")
    assert one.row.history[0].content == "Hello."


def test_an_edit_that_is_none_is_told_and_what_was_written_is_kept(tmp_path: Path) -> None:
    queue, shown = Queue(written(tmp_path, Held(0))), list[str]()

    def editor(text: str) -> str | None:
        shown.append(text)
        return [None, text, text.replace("=== answer ===", "answer"), text.replace("\nanswer\n", "\n=== answer ===\n") + "Or not.\n"][
            len(shown) - 1
        ]

    out = at_the_desk(queue, "eeee", editor=editor)
    assert "not saved: nothing is decided" in out
    assert "nothing was changed" in out
    assert "the headings are instruction, input, expected instruction, input, answer" in out
    assert "=== answer ===" not in shown[3]
    assert [one.row and one.row.answer for one in decided(queue)] == ["Sheet 0 goes on the lowest shelf.\nOr not."]


def test_of_several_answers_a_digit_takes_one(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, several(0)))
    out = at_the_desk(queue, "a92")
    assert "[1-2] take this answer" in out
    assert "no answer that could be accepted" in out
    assert [one.row and one.row.answer for one in decided(queue)] == ["Sheet 0: the second shelf."]


def test_whoever_is_slower_is_told_and_goes_on_with_the_next(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0), Held(1)))

    def editor(text: str) -> str:
        with Queue(queue.path)._writing() as ledger:
            ledger.execute("UPDATE claims SET until = 0")
        queue.decide(Held(0).id, "bob", "accept")
        return text + "More."

    out = at_the_desk(queue, "eq", editor=editor)
    assert "bob accepted it at" in out
    assert "t/a #1" in out


def test_a_text_cannot_command_the_terminal(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path, Held(0, answer="\x1b[2J\x1b]0;owned\x07 \u202eright to left")))
    out = at_the_desk(queue, "q")
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "\ufffd[2J" in out
    assert visible("a\r\n\tb") == "a\n\tb"


@given(TEXT, TEXT, TEXT, TEXT)
@example("a", "=== answer ===\n==== input ====", "=====", "\n=== instruction ===\n")
def test_what_is_not_changed_comes_back_as_it_was(instruction: str, input: str, reasoning: str, answer: str) -> None:
    row = Row(language="en", instruction=instruction, input=input, reasoning=reasoning, answer=answer)
    parts = parts_of(as_text(row), as_text(row))
    assert row.model_copy(update=parts) == row
    assert ("reasoning" in parts) == bool(reasoning)


def test_the_editor_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/lowest/highest/")
    assert in_editor("the lowest shelf\n") == "the highest shelf\n"
    monkeypatch.setenv("EDITOR", "no-such-editor")
    with pytest.raises(InputError, match=r"the editor failed .*: set \$EDITOR to one that is installed"):
        in_editor("text")


def test_without_a_terminal_it_says_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "runs" / "shop", Held(0))
    monkeypatch.setattr(sys, "stdin", StringIO("a"))
    said = leafmill(tmp_path, "review", "shop")
    assert said.code == InputError.exit_code
    assert "standard input is no terminal: call it in one, or use `leafmill ui`" in said.err


def test_in_a_real_terminal_one_key_decides(tmp_path: Path) -> None:
    queue = Queue(written(tmp_path / "runs" / "shop", Held(0), Held(1)))
    words = [sys.executable, "-m", "leafmill.cli", "review", "--reviewer", "王芳", "--runs", str(tmp_path / "runs")]
    terminal, its_end = pty.openpty()
    root = Path(__file__).parent.parent
    with subprocess.Popen(words, stdin=its_end, stdout=its_end, stderr=its_end, cwd=root) as going:
        answer_to(terminal, "[a]ccept", b"a")
        answer_to(terminal, "t/a #1", b"q")
        assert going.wait(60) == 0
    os.close(its_end)
    os.close(terminal)
    assert [(one.candidate, one.reviewer, one.decision) for one in decided(queue)] == [(Held(0).id, "王芳", "accept")]


def answer_to(terminal: int, shown: str, keys: bytes) -> None:
    """Wait until the terminal has shown this, and takes single keys; then press these."""
    text, until = b"", time.monotonic() + 60
    while shown.encode() not in text or termios.tcgetattr(terminal)[3] & termios.ICANON:
        assert time.monotonic() < until, text.decode(errors="replace")
        if select.select([terminal], [], [], 0.02)[0]:
            text += os.read(terminal, 4096)
    os.write(terminal, keys)
