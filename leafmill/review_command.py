"""The command `leafmill review`: the same queue as the page's, in a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leafmill.console import visible
from leafmill.errors import InputError, ReviewError

if TYPE_CHECKING:
    from rich.console import Console

    from leafmill.case import Case
    from leafmill.records import Row
    from leafmill.reviews import Queue, Wanted

RUNS = Path("runs")
KEYS = "[a]ccept  [r]eject  [e]dit  [s]kip  [u]ndo  [q]uit"
ABOUT = """\
Change what stands under the headings, which must stay as they are; save and close the editor. Nothing changed: nothing is decided.
"""


def review(
    run: Annotated[str | None, typer.Argument(help="a run's folder, or its name under runs/; default: the one used last")] = None,
    reviewer: Annotated[str, typer.Option(help="who decides; default: the user of the system")] = "",
    leaf: Annotated[list[str] | None, typer.Option("--leaf", help="only leaves that fit this glob; may be given again")] = None,
    code: Annotated[list[str] | None, typer.Option("--code", help="only those who wait for this reason; may be given again")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="the folder of all runs")] = RUNS,
) -> None:
    """Decide the candidates that wait for a person, one after the other: accept, reject, edit.

    The running run goes on by it, or the next one. Example: leafmill review my-data --code agreement.disagree
    """
    if not sys.stdin.isatty():
        raise InputError("leafmill review asks for keys, but standard input is no terminal: call it in one, or use `leafmill ui`")
    import click

    from leafmill.console import console
    from leafmill.reviews import Queue, Wanted, name_of, this_user
    from leafmill.runfolder import RunFolder

    queue = Queue(RunFolder.find(run, runs).ledger)
    wanted = Wanted(tuple(leaf or ()), tuple(code or ()))
    Desk(queue, name_of(reviewer) or this_user(), wanted, console(), click.getchar, input, in_editor).work()


@dataclass
class Desk:
    """Where one reviewer decides. `key` waits for a key, `line` asks for a line, `editor` has a text changed (None: it was not saved)."""

    queue: Queue
    reviewer: str
    wanted: Wanted
    console: Console
    key: Callable[[], str]
    line: Callable[[str], str]
    editor: Callable[[str], str | None]
    decided: int = field(default=0, init=False)
    drafts: dict[str, str] = field(default_factory=dict, init=False)
    """what was written of candidates and could not be taken as it was"""

    def work(self) -> None:
        """Until nobody waits, or the reviewer has had enough."""
        try:
            while (found := self.queue.next_for(self.reviewer, self.wanted)) is not None and self._decide(found):
                pass
            if found is None:
                self._say(self._why_none())
        finally:
            self.queue.release(self.reviewer)
        self._say(f"{self.reviewer}: {self.decided} decided. {self._what_next()}")

    def _decide(self, id_: str) -> bool:
        """Show one and do what is asked; whether the reviewer goes on."""
        case = self.queue.case(id_)
        self._show(case)
        while True:
            several = f"[1-{len(case.answers)}] take this answer  " if case.answers else ""
            self._say(f"{several}{KEYS}")
            match self._key():
                case "q" | "\x03" | "\x04":
                    return False
                case "u":
                    if self._undo():
                        return True
                case key:
                    if self._done(case, key):
                        return True

    def _done(self, case: Case, key: str) -> bool:
        """Whether this key has decided it, or somebody else has."""
        try:
            match key:
                case "a":
                    self.queue.decide(case.id, self.reviewer, "accept")
                case "s":
                    self.queue.decide(case.id, self.reviewer, "skip")
                case "r":
                    if (code := self._reason()) is None:
                        return False
                    self.queue.decide(case.id, self.reviewer, "reject", code=code, note=self.line("note (Enter: none): "))
                case "e":
                    if (row := self._edited(case)) is None:
                        return False
                    self.queue.decide(case.id, self.reviewer, "edit", row=row)
                case digit if digit.isdigit() and 0 < int(digit) <= len(case.answers):
                    chosen = case.answers[int(digit) - 1]
                    self.queue.decide(case.id, self.reviewer, "edit", row={"answer": chosen.answer, "reasoning": chosen.reasoning})
                case _:
                    return False
        except InputError as fault:
            self._say(str(fault), "yellow")
            return False
        except ReviewError as fault:
            self._say(str(fault), "yellow")
            return True
        self.decided += key != "s"
        said = {"a": "accepted", "s": "skipped: it comes again when the others are done", "r": "rejected"}.get(key, "edited")
        self._say(f"{case.id}: {said}", "green")
        return True

    def _undo(self) -> bool:
        try:
            entry = self.queue.undo(self.reviewer)
        except ReviewError as fault:
            self._say(str(fault), "yellow")
            return False
        self.decided -= entry.decision != "skip" and self.decided > 0
        self._say(f"{entry.candidate}: taken back", "green")
        return True

    def _reason(self) -> str | None:
        from leafmill.reviews import REASONS

        self._say("why?  " + "  ".join(f"[{place}] {reason}" for place, reason in enumerate(REASONS, 1)) + "  any other key: back")
        key = self._key()
        return REASONS[int(key) - 1] if key.isdigit() and 0 < int(key) <= len(REASONS) else None

    def _edited(self, case: Case) -> Mapping[str, str] | None:
        """What the editor makes of the row's parts; None where it was left without saving."""
        given = as_text(case.row)
        changed = self.editor(self.drafts.get(case.id, given))
        if changed is None:
            self._say("not saved: nothing is decided", "yellow")
            return None
        self.drafts[case.id] = changed
        return parts_of(changed, given)

    def _show(self, case: Case) -> None:
        from rich.rule import Rule
        from rich.table import Table
        from rich.text import Text

        from leafmill import screens

        counts = self.queue.counts(self.reviewer, self.wanted)
        self.console.print(Rule(Text(visible(f"{case.leaf} #{case.number}  {case.id}  {counts.waiting} waiting")), align="left"))
        about = {"language": case.language, **case.axes, "concepts": ", ".join(case.concepts), "scenario": case.scenario}
        self._say("  ".join(f"{name}={value}" for name, value in about.items() if value), "dim")
        screens.row_panel(case.row.model_dump(), self.console, "row")
        for place, one in enumerate(case.answers, 1):
            told = {"reasoning": one.reasoning, "answer": one.answer}
            screens.row_panel(told, self.console, f"[{place}] {one.alias} {one.final} {one.code}".rstrip())
        if case.votes or case.remark:
            votes = Table(box=None, padding=(0, 2, 0, 0))
            votes.add_column("seat", no_wrap=True)
            votes.add_column("vote", justify="right")
            votes.add_column("why", overflow="fold")
            for vote in case.votes:
                value = "–" if vote.value is None else f"{vote.value:.3g}"
                votes.add_row(*map(Text, (vote.seat, value, visible(vote.rationale or vote.failed))))
            if case.remark:
                score = "–" if case.remark.score is None else f"{case.remark.score:g}"
                votes.add_row(*map(Text, ("critic", score, visible(f"{case.remark.reason} {case.remark.where}".strip()))))
            self.console.print(votes)
        for gate in case.gates:
            if gate.decision != "accept":
                self._say(f"{gate.door}: {gate.sentence}", "dim")
        self._say(f"{case.why.sentence} ({case.code})", "bold")

    def _why_none(self) -> str:
        waiting = self.queue.counts(self.reviewer, self.wanted).waiting
        return (
            f"{waiting} wait, and all are with other reviewers" if waiting else "nobody waits" + (" of these" if any(self.wanted) else "")
        )

    def _what_next(self) -> str:
        pending, going = self.queue.counts().pending, self.queue.going()
        if not pending:
            return "No decision is left that has not gone on."
        how = "the running run takes them" if going.running else f"they go on with: {going.command}"
        return f"{pending} have not gone on yet: {how}"

    def _key(self) -> str:
        try:
            return self.key()
        except (KeyboardInterrupt, EOFError):
            return "q"

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)


# -- a row as a text to edit -------------------------------------------------------------------------------------------


def as_text(row: Row) -> str:
    """The parts of a row that can be edited, each under a heading that stands nowhere in it."""
    from leafmill.reviews import PARTS

    parts = {part: getattr(row, part) for part in PARTS if part != "reasoning" or row.reasoning}
    bar = "=" * 3
    while any(bar in text for text in parts.values()):
        bar += "="
    return ABOUT + "".join(f"{bar} {part} {bar}\n{text}\n" for part, text in parts.items())


def parts_of(text: str, given: str) -> dict[str, str]:
    """The parts of a text that was `given` to an editor. Raises InputError where its headings are not as they were."""
    heading = re.compile(rf"^({_bar_of(given)}) (\w+) \1\n?", re.MULTILINE)
    _, *pieces = heading.split(text.replace("\r\n", "\n"))
    names, wanted = pieces[1::3], [name for _, name in heading.findall(given)]
    if names != wanted:
        raise InputError(f"the headings are {', '.join(names) or '(none)'}, expected {', '.join(wanted)}: press e to mend it")
    return {name: body.removesuffix("\n") for name, body in zip(names, pieces[2::3], strict=True)}


def _bar_of(given: str) -> str:
    """What stands before and after the headings."""
    return given.removeprefix(ABOUT).split(" ", 1)[0]


def in_editor(text: str) -> str | None:
    """What $VISUAL or $EDITOR makes of a text. Raises InputError when it cannot be started."""
    import click

    try:
        return click.edit(text, extension=".md")
    except click.ClickException as fault:
        raise InputError(f"the editor failed ({fault.message}): set $EDITOR to one that is installed") from fault
