"""Every error that Leafmill raises on purpose, and the exit code each gives the command line.

    LeafmillError                     1  (the base; never raised itself)
    |-- InputError                    2  something a person wrote is wrong; says file, line, value, what was expected
    |   |-- RecipeError               2
    |   |-- TaxonomyError            12
    |   `-- RoleFileError            13
    |-- JudgeError                    5  a judge fails on rows that are known to be good or bad: the run does not begin
    |-- RunFolderError               20  the run's folder cannot be used
    |   |-- OtherRecipeError         21  it belongs to a recipe that this one cannot go on with
    |   |-- LockedError              22  another process is running in it
    |   |-- DiskError                23  full or unwritable while recording
    |   |-- IndexMismatchError       24  a dedup index was made under other settings
    |   `-- OtherVersionError        25  its ledger was made by another version of Leafmill
    |-- EndpointError                30  no call to this model can work: the run stops
    |   |-- EndpointDownError        31
    |   |-- WrongKeyError            32
    |   |-- UnknownModelError        33
    |   `-- QuotaError               34
    |-- WeightsError                 40  embedded weights cannot be had, or are not what they should be
    |-- ReviewError                  60  a person's decision cannot be recorded as things stand: somebody else was faster
    `-- CallError                    50  one call failed: recorded, and the candidate ends `errored`; the run goes on
        |-- ContextOverflowError
        |-- TimeoutCallError
        |-- ServerFaultError
        |-- TemplateError                the role's template could not be rendered: nothing was asked
        |-- NoReasoningError             a model that was to think before it answers did not, or its server does not show it
        `-- ReplyError                   the reply came, but is empty, cut off, too long or not what the contract asks

Three policies follow from the shape. Input errors are found before a token is spent. Endpoint errors stop the run, because
every further call would fail the same way. A call error is data: it is written to the ledger with its code and it never
becomes a score, a default or a missing row. Other exit codes: 0 every leaf met its quota, 3 a leaf did not (`starved` or
`budget`), 4 too large a share of the candidates ended in errors, or a gate failed on a row of a file, 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

EXIT_UNMET = 3
EXIT_ERRORS = 4
EXIT_INTERRUPTED = 130


class Place(NamedTuple):
    """Where in a file something stands: prints as `file:line`."""

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}:{self.line}"


class LeafmillError(Exception):
    exit_code = 1


class InputError(LeafmillError):
    """Bad input. The message starts with the place, when there is one."""

    exit_code = 2

    def __init__(self, message: str, place: Place | None = None) -> None:
        self.place = place
        super().__init__(f"{place}: {message}" if place else message)


class RecipeError(InputError):
    pass


class TaxonomyError(InputError):
    exit_code = 12


class RoleFileError(InputError):
    exit_code = 13


class JudgeError(LeafmillError):
    exit_code = 5


class RunFolderError(LeafmillError):
    exit_code = 20


class OtherRecipeError(RunFolderError):
    exit_code = 21


class LockedError(RunFolderError):
    exit_code = 22


class DiskError(RunFolderError):
    exit_code = 23


class IndexMismatchError(RunFolderError):
    exit_code = 24


class OtherVersionError(RunFolderError):
    exit_code = 25


class EndpointError(LeafmillError):
    exit_code = 30


class EndpointDownError(EndpointError):
    exit_code = 31


class WrongKeyError(EndpointError):
    exit_code = 32


class UnknownModelError(EndpointError):
    exit_code = 33


class QuotaError(EndpointError):
    exit_code = 34


class WeightsError(LeafmillError):
    exit_code = 40


class ReviewError(LeafmillError):
    """A decision, or taking it back, comes too late. `code` says why: unknown, not_waiting, decided, claimed, gone_on, nothing."""

    exit_code = 60

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class CallError(LeafmillError):
    """One model call failed. `code` is what the ledger and the report show."""

    exit_code = 50
    code = "call_failed"
    attempts = 1
    """how often it was tried"""


class ContextOverflowError(CallError):
    code = "context_overflow"


class TimeoutCallError(CallError):
    code = "timeout"


class ServerFaultError(CallError):
    code = "server_fault"


class TemplateError(CallError):
    code = "template_failed"


class NoReasoningError(CallError):
    code = "no_reasoning"


class ReplyError(CallError):
    """The reply cannot be used. `code` says why: empty_reply, cut_off, reply_too_long, unreadable_reply, undecodable_reply."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


SHOWN = 16
"""known names in a message at most; of more, the nearest are shown"""


class Halted(Exception):
    """A call is not made because the run goes no further. Not an error, and not in the tree: nothing failed, and whoever handles failed
    calls, or a gate's faults, must let it pass; the candidate stays open where it stands."""


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not one of the known ones, with the nearest match.

    >>> unknown("gate", "minhsh", ["minhash", "ifd"])
    "unknown gate 'minhsh': did you mean 'minhash'? known: ifd, minhash"
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = names if len(names) <= SHOWN else [*difflib.get_close_matches(got, names, n=SHOWN, cutoff=0.0), "..."]
    return f"unknown {kind} {got!r}: {hint}known: {', '.join(shown) or '(none)'}"
