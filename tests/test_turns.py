"""The gate `turns`: each side in its turn, something new, taking up what was said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.turns import measure, table, trials
from filters.catalogue import check
from filters.gate import Subject
from filters.turns import Turns, is_farewell
from leafmill.errors import RecipeError
from leafmill.records import Brief, Language, Mode, Row, Turn, Verdict

LANGUAGES: tuple[Language, ...] = ("en", "zh")
SAID: dict[Language, tuple[str, ...]] = {
    "en": (
        "My cactus has soft brown patches at the bottom. What is wrong?",
        "It is probably root rot from too much water. Cut away everything soft and let the cut dry for a week.",
    ),
    "zh": ("我的仙人掌底部发软变褐，怎么回事？", "多半是浇水太多烂了根。把软的部分全部切掉，晾一周再种。"),
}


def judged(message: str, language: Language = "en", *, answer: str = "", said: tuple[str, ...] = (), gate: Turns | None = None) -> Verdict:
    turns = said or SAID[language]
    history = tuple(Turn(role="user" if at % 2 == 0 else "assistant", content=text) for at, text in enumerate(turns))
    row = Row(language=language, instruction=message, answer=answer, history=history)
    brief = Brief(id="b", leaf="l", number=0, language=language, mode=Mode(turns=8))
    return asyncio.run((gate or Turns())(Subject(id="b", row=row, brief=brief)))


@pytest.mark.parametrize(
    ("message", "language"),
    [
        ("Can I use the same soil again?", "en"),
        ("Why?", "en"),
        ("Thanks! And how much water does it get after that?", "en"),
        ("Here is what I see now: a white ring inside the cut.", "en"),
        ("My neighbour grows hers in a bathroom without windows.", "en"),
        ("原来的土还能用吗？", "zh"),
        ("谢谢，那之后多久浇一次水？", "zh"),
        ("为什么？", "zh"),
    ],
)
def test_a_message_that_takes_up_what_was_said_passes(message: str, language: Language) -> None:
    assert judged(message, language).decision == "accept"


@pytest.mark.parametrize(
    ("message", "language", "code"),
    [
        ("User: And the soil?\nAssistant: Fresh soil is best.", "en", "turns.role_swap"),
        ("Certainly! Here is a plan for the soil: mix it with grit.", "en", "turns.role_swap"),
        ("I hope this helps. Let me know if you have other cacti.", "en", "turns.role_swap"),
        (
            "It is probably root rot from much too much water. Cut away everything soft and let the cut dry for a week!",
            "en",
            "turns.role_swap",
        ),
        ("My cactus has some soft brown patches at the bottom. What is wrong?", "en", "turns.repeated"),
        ("Recommend a Norwegian novel about fishermen, published before Ibsen's death.", "en", "turns.detached"),
        ("用户：那土呢？\n助手：要换新土。", "zh", "turns.role_swap"),
        ("还有什么可以帮您的吗？", "zh", "turns.role_swap"),
        ("好的，以下是为您整理的换盆步骤。", "zh", "turns.role_swap"),
        ("我的仙人掌底部发软变褐了，怎么回事？", "zh", "turns.repeated"),
        ("推荐三本描写挪威渔民生活的长篇小说，最好出版于十九世纪。", "zh", "turns.detached"),
    ],
)
def test_a_user_out_of_part_is_rejected(message: str, language: Language, code: str) -> None:
    found = judged(message, language)
    assert (found.decision, found.code) == ("reject", code)


@pytest.mark.parametrize(
    ("answer", "language", "code"),
    [
        ("Fresh soil is best.\n\nUser: And water?\nAssistant: After ten days.", "en", "turns.role_swap"),
        ("Can you help me choose a pot for my own cactus?", "en", "turns.role_swap"),
        ("It is probably root rot from too much water. Cut away all that is soft and let the cut dry for a week.", "en", "turns.repeated"),
        ("要换新土。\n用户：那水呢？", "zh", "turns.role_swap"),
        ("请帮我挑一个花盆，好吗？", "zh", "turns.role_swap"),
        ("多半是浇水太多烂了根。把软的部分都切掉，晾一周再种。", "zh", "turns.repeated"),
        ("No, the fungus stays in it.", "en", "ok"),
        ("Which soil do you have at hand, and is the pot glazed?", "en", "ok"),
        ("```yaml\nuser: admin\nassistant: none\n```\nThat file will do.", "en", "ok"),
        ("不能，病菌留在里面。", "zh", "ok"),
    ],
)
def test_an_assistant_out_of_part_is_rejected(answer: str, language: Language, code: str) -> None:
    assert judged("Can I use the same soil again?", language, answer=answer).code == code


def test_an_answer_may_hold_both_speakers_where_a_dialogue_is_asked_for() -> None:
    answer = "User: Hello.\nAssistant: Good morning. What is wrong with the cactus?"
    assert judged("Write our talk down as a dialogue.", answer=answer).decision == "accept"


def test_like_means_over_seven_tenths_and_a_recipe_may_say_otherwise() -> None:
    """Ten words that share seven in order: exactly 0.7, which is kept."""
    said = ("one two three four five six seven eight nine ten of it", "Yes.")
    message = "one two three four five six seven A B C of it"
    assert judged(message, said=said).code == "turns.repeated"
    exactly = ("a1 a2 a3 a4 a5 a6 a7 b1 b2 it", "Yes.")
    assert judged("a1 a2 a3 a4 a5 a6 c1 c2 c3 it", said=exactly).decision == "accept"
    assert judged("a1 a2 a3 a4 a5 a6 c1 c2 c3 it", said=exactly, gate=Turns(similar=0.6)).code == "turns.repeated"


def test_chinese_messages_are_compared_by_characters() -> None:
    """Where words are runs of letters, two Chinese sentences share all or nothing."""
    found = judged("我的仙人掌底部发软变黑，怎么回事？", "zh")
    assert (found.code, found.value) == ("turns.repeated", pytest.approx(14 / 15))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_goodbye_is_too_short_a_conversation_after_one_answer_and_an_end_after_two(language: Language) -> None:
    bye = {"en": "Great, thank you. Bye!", "zh": "好的，谢谢，再见！"}[language]
    assert judged(bye, language).code == "turns.too_short"
    assert judged(bye, language, said=(*SAID[language], "Why?", "So.")).code == "turns.farewell"


@pytest.mark.parametrize(
    "text", ["Thanks for the plan, but what about the soil?", "谢谢，那土呢？", "Goodbye in French?", "怎么说再见才得体？"]
)
def test_thanks_with_a_question_is_no_goodbye(text: str) -> None:
    assert not is_farewell(text)


def test_the_message_that_switches_must_leave_the_subject_and_only_that_one() -> None:
    brief = Brief(id="b", leaf="l", number=0, language="en", mode=Mode(turns=2, topic_switch=True))
    assert brief.switch == 2
    codes = {}
    for message in ("Can I use the same soil again?", "Which Norwegian novels about fishermen came out before Ibsen's death?"):
        history = (Turn(role="user", content=SAID["en"][0]), Turn(role="assistant", content=SAID["en"][1]))
        row = Row(language="en", instruction=message, history=history)
        codes[message[:3]] = asyncio.run(Turns()(Subject(id="b", row=row, brief=brief))).code
    assert codes == {"Can": "turns.no_switch", "Whi": "ok"}


def test_a_single_exchange_is_none_of_its_business() -> None:
    row = Row(language="en", instruction="User: hello", answer="Thanks, bye!")
    brief = Brief(id="b", leaf="l", number=0, language="en")
    assert asyncio.run(Turns()(Subject(id="b", row=row, brief=brief))).decision == "accept"


@pytest.mark.parametrize("settings", [{"similar": 0}, {"similar": 1.2}, {"same_topic": 0}])
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"shares, 0\.\.1"):
        check("turns", {key: float(value) for key, value in settings.items()})


@pytest.mark.parametrize("language", LANGUAGES)
def test_on_the_made_conversations_it_is_silent_where_nothing_is_wrong_and_finds_what_it_is_for(language: Language) -> None:
    right, _ = asyncio.run(measure(language))
    share = {kind: sum(found) / len(found) for kind, found in right.items()}
    assert len(list(trials(language))) > 300
    for kind in ("user: good", "assistant: good", "user: another topic, as it should be"):
        assert share[kind] == 1, kind
    for kind in ("user: speaks for both", "user: offers help", "user: asks the same again", "user: says the last answer again"):
        assert share[kind] == 1, kind
    for kind in ("assistant: speaks for both", "assistant: asks for help", "assistant: says the same again", "user: says goodbye"):
        assert share[kind] > 0.9, kind


def test_the_table_of_the_docs_is_what_the_bench_counts() -> None:
    docs = Path(__file__).parent.parent / "docs" / "conversations.md"
    assert table({language: asyncio.run(measure(language))[0] for language in LANGUAGES}) in docs.read_text(encoding="utf-8")
