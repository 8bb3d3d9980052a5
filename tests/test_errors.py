"""The errors: one tree, one exit code each, and messages that name place and nearest match."""

from __future__ import annotations

import re

from leafmill import errors
from leafmill.errors import CallError, EndpointError, InputError, LeafmillError, Place, RecipeError, ReplyError, RunFolderError, unknown


def family(of: type[LeafmillError]) -> list[type[LeafmillError]]:
    return [of, *(child for one in of.__subclasses__() for child in family(one))]


def test_the_drawn_tree_names_every_error_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"(\w+Error) +(\d+)", errors.__doc__ or ""))
    calls = {one.__name__ for one in family(CallError)[1:]}
    assert drawn == {one.__name__: str(one.exit_code) for one in family(LeafmillError) if one.__name__ not in calls}
    assert all(name in (errors.__doc__ or "") for name in calls)


def test_each_exit_code_means_one_thing() -> None:
    codes = [one.exit_code for one in family(LeafmillError) if one is not RecipeError and not issubclass(one, CallError)]
    codes += [errors.EXIT_UNMET, errors.EXIT_ERRORS, errors.EXIT_INTERRUPTED, CallError.exit_code, 0]
    assert len(codes) == len(set(codes))


def test_input_run_folder_endpoint_and_call_errors_are_families_apart() -> None:
    families = [set(family(one)) for one in (InputError, RunFolderError, EndpointError, CallError)]
    assert sum(map(len, families)) == len(set.union(*families))


def test_a_message_begins_with_the_place_when_there_is_one() -> None:
    assert str(RecipeError("no", Place("a.yaml", 3))) == "a.yaml:3: no"
    assert str(RecipeError("no", Place("a.yaml"))) == "a.yaml: no"
    assert str(RecipeError("no")) == "no"


def test_an_unknown_name_is_answered_with_the_nearest_one_and_all_that_are_known() -> None:
    assert unknown("gate", "minhsh", ["minhash", "ifd"]) == "unknown gate 'minhsh': did you mean 'minhash'? known: ifd, minhash"
    assert unknown("gate", "zzz", ["minhash"]) == "unknown gate 'zzz': known: minhash"
    assert unknown("gate", "x", []) == "unknown gate 'x': known: (none)"


def test_a_reply_error_says_in_its_code_what_is_wrong_with_the_reply() -> None:
    fault = ReplyError("empty_reply", "nothing came")
    assert (fault.code, str(fault), fault.exit_code) == ("empty_reply", "nothing came", 50)
