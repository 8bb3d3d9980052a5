"""Signs of a broken text: an end in mid-sentence, an open bracket, two ways of writing Chinese; and all that only looks like it."""

import pytest

from filters.form import Form
from filters.gate import Subject
from leafmill.records import Row

LONG = "The tide comes in twice a day, because the moon pulls at the water. "
LONG_ZH = "潮水每天涨落两次，因为月亮吸引着海水。"


async def code(answer, instruction="Explain the tide to a child, please", language="en", input=""):
    row = Row(language=language, instruction=instruction, input=input, answer=answer)
    return (await Form()(Subject("s", row))).code


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        (LONG + "When it is far away, the", "en"),
        (LONG + "It is strongest at new moon,", "en"),
        (LONG + "On some coasts the water rises by more than ten", "en"),
        (LONG_ZH + "涨潮的时候，海水会淹没沙滩，并且", "zh"),
        (LONG_ZH + "有些海岸的潮差很大，", "zh"),
        (LONG_ZH + "在中国的钱塘江，每年秋天都能看到很高的", "zh"),
    ],
)
async def test_an_answer_that_stops_in_mid_sentence_is_unfinished(answer, language):
    assert await code(answer, language=language) == "form.unfinished"


@pytest.mark.parametrize(
    "answer",
    [
        LONG,
        LONG + "\n\nBest regards,\nAnna",
        LONG + "\n\n- first the moon\n- then the sun and the",
        LONG + "\n```python\nprint('the')\n```",
        LONG + "The height is 3.5 m",
        LONG + "See https://example.com/the",
        "Roses are red and violets are blue\nsugar is sweet and so are the",
        LONG_ZH + "\n\n一、涨潮\n二、落潮",
        LONG_ZH + "答案是：42",
    ],
)
async def test_an_end_that_needs_no_full_stop_is_let_pass(answer):
    assert await code(answer) == "ok"


@pytest.mark.parametrize(
    "answer",
    [
        LONG + "It rises (on some coasts by ten metres.",
        LONG_ZH + "潮差最大的地方（比如钱塘江每年都有人去看。",
        LONG + "He said: “The moon pulls.",
        LONG_ZH + "《海的故事讲的就是这个。",
    ],
)
async def test_a_bracket_that_is_never_closed_is_found(answer):
    assert await code(answer) == "form.bracket"


@pytest.mark.parametrize(
    "answer",
    [
        LONG + "a) the moon b) the sun 1) the wind.",
        LONG + "I like it :( and the value lies in [0, 1).",
        LONG + "The cost is $f(x = 3$ in all.",
        LONG + "Call `print(` first.",
        LONG + "\n\n    total = max(\n        3,\n        4)\n",
        "“It rises,” said Anna, looking at the water for a long time.\n\n“It falls,” said Ben, who was not looking at all.",
        "“It rises, said Anna in the story that she told.\n\n“It falls, and that was the end,” she said.",
    ],
)
async def test_lists_formulas_code_and_quotations_in_paragraphs_leave_no_bracket_open(answer):
    assert await code(answer) == "ok"


async def test_simplified_and_traditional_characters_in_one_text_are_found():
    mixed = "這個問題很難回答，我們應該認真學習。这个问题很难回答，我们应该认真学习。"
    assert await code(mixed, "请解释一下这句话是什么意思呢，谢谢", "zh") == "form.mixed_han"
    assert await code(mixed, "把这句话写成繁体字，并且和原文对照一下", "zh") == "ok"


@pytest.mark.parametrize(
    "answer", ["這個問題很難回答，我們應該認真學習。", "这个问题很难回答，我们应该认真学习。", "后来她在台湾面对里面的钟，只说了一句话。"]
)
async def test_either_way_alone_is_fine(answer):
    assert await code(answer, "请解释一下这句话是什么意思呢，谢谢", "zh") == "ok"


async def test_a_name_in_the_other_way_of_writing_is_no_mixture():
    answer = "他叫陳飛，这个名字很难写，我们都记不住。"
    assert await code(answer, "请介绍一下你的朋友叫什么名字好吗，谢谢", "zh") == "ok"


async def test_material_that_was_given_may_be_broken():
    assert (
        await code(
            LONG, instruction="Find the mistake in this line of code, please", input="print('a' + (3 and so on and so forth for ever"
        )
        == "ok"
    )


@pytest.mark.parametrize("settings", [{"mixed_han": 0.0}, {"mixed_han": 0.6}, {"min_units": 0}])
def test_limits_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="mixed_han"):
        Form(**settings)


ASKED, GIVEN = "Put this sentence into the past tense", "He walks home along the river."


@pytest.mark.parametrize(
    ("instruction", "input", "answer", "code_"),
    [
        (ASKED, GIVEN, "He walked home along the river.", "ok"),
        (ASKED, GIVEN, "he walks home, along the river", "form.echo"),
        (ASKED, GIVEN, ASKED + "!", "form.echo"),
        (ASKED, GIVEN, f"{ASKED}: {GIVEN}", "form.echo"),
        (ASKED, ASKED.upper(), "", "form.echo"),
        ("退货时需要支付运费吗", "", "退货时需要支付运费吗？", "form.echo"),
        ("Say it again: yes or no?", "Yes", "Yes", "ok"),
        (ASKED, "", "", "ok"),
    ],
)
async def test_what_only_repeats_is_an_echo(instruction, input, answer, code_):
    assert await code(answer, instruction, input=input) == code_
