"""Texts that go round in circles, and texts that repeat themselves with good reason."""

import pytest

from filters.gate import Subject
from filters.repetition import Repetition, measure
from leafmill.records import Row

VARIED = (
    "Salt is taken from the sea in shallow basins where the sun dries the water slowly. Workers rake the crystals into heaps, wash "
    "them twice and carry them to a dry loft. Older methods boiled brine over wood fires, which cost whole forests near the coast. "
)
VARIED_ZH = (
    "盐是从浅浅的海水池里晒出来的，太阳慢慢把水晒干。工人把结晶耙成堆，洗两遍，再运到干燥的仓库。"
    "古时候人们用木柴煮卤水，为此砍掉了大片的树林。"
)


async def code(answer, language="en"):
    row = Row(language=language, instruction="Where does salt come from?", answer=answer)
    return (await Repetition()(Subject("s", row))).code


@pytest.mark.parametrize(
    ("answer", "language", "expected"),
    [
        (VARIED + "and then it is " * 20, "en", "repetition.loop"),
        (VARIED_ZH + "然后我们可以看到" * 6, "zh", "repetition.loop"),
        (VARIED + "a" * 60, "en", "repetition.loop"),
        (VARIED_ZH + "哈" * 50, "zh", "repetition.loop"),
        ("\n".join(f"{n}. Salt comes from the sea, dear reader." for n in range(9)) + "\n" + VARIED, "en", "repetition.lines"),
        (VARIED + VARIED + VARIED + "That is all there is to say.", "en", "repetition.ngrams"),
        (VARIED_ZH * 3 + "就是这样。", "zh", "repetition.ngrams"),
        (" ".join(f"the salt of item{n}" for n in range(30)), "en", "repetition.top"),
    ],
)
async def test_each_way_of_going_in_circles_has_its_own_code(answer, language, expected):
    assert await code(answer, language) == expected


@pytest.mark.parametrize(
    "answer",
    [
        VARIED,
        VARIED_ZH,
        VARIED + "\n\n" + VARIED_ZH,
        "Row, row, row your boat, gently down the stream.\nMerrily, merrily, merrily, merrily, life is but a dream.\n" * 2,
        "| year | price |\n|---|---|\n" + "\n".join(f"| {year} | {year % 7} |" for year in range(1990, 2020)),
        "Use a loop:\n```python\n" + "print('hello')\n" * 40 + "```\n",
        "\n".join(f"assert add({n}, 1) == {n + 1}" for n in range(20)),
        "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    ],
)
async def test_poems_tables_and_code_may_repeat_themselves(answer):
    assert await code(answer) == "ok"


async def test_the_limits_are_settings():
    row = Row(language="en", instruction="Where does salt come from?", answer=VARIED * 2)
    assert (await Repetition(ngrams=0.2)(Subject("s", row))).code == "repetition.ngrams"
    assert (await Repetition(ngrams=0.9, lines=0.9)(Subject("s", row))).code == "ok"
    with pytest.raises(ValueError, match="shares"):
        Repetition(top=0.0)


def test_a_text_said_twice_is_repeated_by_half():
    assert measure(VARIED).ngrams == 0
    assert measure(VARIED + VARIED).ngrams == pytest.approx(0.5)
    assert measure(f"{VARIED}\n{VARIED}").lines == pytest.approx(0.5)


def test_an_empty_text_repeats_nothing():
    assert measure("") == (0, 0.0, 0.0, 0.0, "")
