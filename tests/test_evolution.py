"""Which evolved instructions are eliminated."""

import pytest

from agents.evolver import OPERATORS
from agents.role import BUILT_IN, Roles
from filters.evolution import Evolution, hollow
from filters.gate import Subject
from leafmill.records import Row, Turn

PARENT = Row(language="en", instruction="Write a poem about the sea")
父 = Row(language="zh", instruction="写一首关于大海的诗")


async def code(parent, instruction, answer=""):
    row = parent.model_copy(update={"instruction": instruction, "answer": answer})
    return (await Evolution()(Subject("s", row, parent=parent))).code


@pytest.mark.parametrize(("parent", "child"), [(PARENT, "write a poem, about the sea!"), (父, "寫一首關於大海的詩。")])
async def test_T34_a_child_equal_to_its_parent_is_eliminated(parent, child):
    assert await code(parent, child) == "evolution.equal"


@pytest.mark.parametrize(
    ("parent", "child"), [(PARENT, "#Rewritten Prompt#: Write a sonnet about the sea"), (父, "改写后的指令：写一首关于大海的十四行诗")]
)
async def test_T34_a_child_with_words_of_the_rewriting_prompt_is_eliminated(parent, child):
    assert await code(parent, child) == "evolution.leak"


async def test_T34_a_child_that_grows_too_much_is_eliminated():
    assert await code(PARENT, "Write a poem about the sea " + "and the wind " * 40) == "evolution.growth"


@pytest.mark.parametrize("answer", ["...", "The. And of the!", "的。了", "。。。！"])
async def test_T34_an_answer_of_punctuation_and_stop_words_is_eliminated(answer):
    assert await code(PARENT, "Write a sonnet about the sea", answer) == "evolution.hollow"


@pytest.mark.parametrize(
    ("parent", "child", "answer"),
    [
        (父, "写一首关于大海的十四行诗", "抱歉，我做不到。"),
        (父, "写一首关于大海的十四行诗", "抱歉，" + "这首诗我写不出来" * 9),
        (PARENT, "Write a sonnet about the sea", "I'm sorry, but I cannot write that."),
    ],
)
async def test_T34_an_answer_that_refuses_is_eliminated(parent, child, answer):
    assert await code(parent, child, answer) == "evolution.refused"


@pytest.mark.parametrize(
    ("parent", "child", "answer"),
    [
        (PARENT, "Write a letter that says sorry to a neighbour", "I'm sorry about last night. " + "It will not happen again. " * 40),
        (父, "给邻居写一封道歉信", "抱歉，昨晚太吵了。" + "以后一定注意。" * 30),
        (PARENT, "Describe a wave", "A wave rises, and you feel sorry for those below it."),
    ],
)
async def test_T34_an_apology_in_a_long_letter_or_further_on_is_kept(parent, child, answer):
    assert await code(parent, child, answer) == "ok"


async def test_T34_the_four_eliminations_have_four_codes():
    codes = [
        await code(PARENT, "Write a poem about the sea!"),
        await code(PARENT, "#Rewritten Prompt# Write a sonnet about the sea"),
        await code(父, "写一首关于大海的十四行诗", "抱歉，我无法完成。"),
        await code(PARENT, "Write a sonnet about the sea", "?!"),
    ]
    assert codes == ["evolution.equal", "evolution.leak", "evolution.refused", "evolution.hollow"]


CODE = "Say what this prints:\n```python\nfor n in range(3):\n    print(n * total)\n```"
TABLE = "Which row is wrong?\n| item | price |\n|---|---|\n| rope | 12 |\n| nail | 3 |\n"
LIST = "Give the mean of 12, 15, 9, 22 and 31."
表 = "找出下表里算错的一行：\n| 品名 | 单价 |\n|---|---|\n| 麻绳 | 12 |\n| 铁钉 | 3 |\n"


@pytest.mark.parametrize(
    ("parent", "child", "what"),
    [
        (CODE, "Say what the loop prints, and why it starts at 0.", "code"),
        (TABLE, "Which row of the table is wrong, and how do you see it?", "table"),
        (表, "找出下表里算错的一行，并说明理由。", "table"),
        (LIST, "Give the mean of the five readings, and their median too.", "numbers"),
        ("求 12、15、9、22 的平均数。", "求这四个数的平均数，并求中位数。", "numbers"),
        ("Sum up https://a.example/guide.", "Sum up the guide in five lines.", "url"),
    ],
)
async def test_a_rewrite_that_drops_code_a_table_numbers_or_a_link_is_refused(parent, child, what):
    gate, row = Evolution(), Row(language="en", instruction=child)
    found = await gate(Subject("s", row, parent=Row(language="en", instruction=parent)))
    assert (found.code, found.evidence["what"]) == ("evolution.dropped", what)


@pytest.mark.parametrize("parent", [CODE, TABLE, 表, LIST, "Sum up https://a.example/guide."])
async def test_a_rewrite_that_keeps_its_material_and_a_new_instruction_are_not_held_to_have_dropped_it(parent):
    before = Row(language="en", instruction=parent)
    kept = before.model_copy(update={"instruction": f"{parent} Also name one more mistake."})
    assert (await Evolution()(Subject("s", kept, parent=before))).code == "ok"
    new = before.model_copy(update={"instruction": "Draw up a plan of the harbour with its three piers."})
    assert (await Evolution()(Subject("s", new, parent=before, rewritten=False))).code == "ok"


async def test_an_input_may_be_enriched_and_not_thrown_away():
    parent = Row(language="en", instruction="Add up the order below.", input="12 chairs at 30, 4 tables at 90")
    richer = parent.model_copy(update={"input": "12 chairs at 30, 4 tables at 90, 2 lamps at 15, discount 5%"})
    other = parent.model_copy(update={"input": "SELECT name FROM harbour WHERE depth > 7"})
    assert [(await Evolution()(Subject("s", row, parent=parent))).code for row in (richer, other)] == ["ok", "evolution.dropped"]


LONGER = "Write a poem of three stanzas about the sea in winter, in which no colour and no ship is ever named " * 3


@pytest.mark.parametrize(
    ("parent", "child", "code_"),
    [
        ("Write a poem about the sea in winter", "Write a poem about the sea in winter, please", "evolution.equal"),
        ("写一首关于冬天大海的诗", "请写一首关于冬天大海的诗", "evolution.equal"),
        (LONGER * 3, "Name a fish.", "evolution.shrunk"),
        ("Name a fish.", LONGER * 3, "evolution.growth"),
        ("Write a poem about the sea in winter", "Explain how a tide table is read", "ok"),
    ],
)
async def test_in_breadth_a_child_has_to_be_another_instruction_of_a_similar_length(parent, child, code_):
    row, before = (Row(language="en", instruction=text) for text in (child, parent))
    assert (await Evolution()(Subject("s", row, parent=before, rewritten=False))).code == code_


async def test_the_later_messages_of_a_conversation_are_no_evolutions():
    history = (Turn(role="user", content=CODE), Turn(role="assistant", content="0 and so on"))
    later = Row(language="en", instruction="Thanks!", history=history)
    assert (await Evolution()(Subject("s", later, parent=Row(language="en", instruction=CODE)))).code == "ok"


@pytest.mark.parametrize("settings", [{"kept": -0.1}, {"kept": 1.1}, {"alike": 0}, {"growth": 0.5}, {"slack": -1}])
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Evolution(**settings)


async def test_a_changed_number_or_operator_is_not_equal():
    parent = PARENT.model_copy(update={"instruction": "Solve x + 2 = 5"})
    assert await code(parent, "Solve x - 2 = 5") == "ok"


async def test_a_good_child_and_a_row_without_parent_pass():
    assert await code(PARENT, "Write a sonnet about the sea at night that names no colour", "Yes") == "ok"
    assert (await Evolution()(Subject("s", PARENT))).decision == "accept"


async def test_what_the_parent_already_said_is_no_leak():
    parent = PARENT.model_copy(update={"instruction": "Write a story for the given prompt"})
    assert await code(parent, "Write a sad story for the given prompt") == "ok"


@pytest.mark.parametrize("answer", ["yes", "No.", "是", "4", "x"])
def test_a_one_word_answer_is_not_hollow(answer):
    assert not hollow(answer)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("operator", OPERATORS)
async def test_what_the_evolver_was_told_to_change_may_not_stand_in_what_it_writes(language, operator):
    """Small models copy the sentence that asks for the change."""
    (role,) = (one for one in Roles.load(BUILT_IN).files if one.name == "evolver" and one.head.language == (language,))
    told = role.render({"language": language, "operator": operator, "instruction": "x", "input": "", "passage": ""})[-1]["content"]
    change = told.strip().splitlines()[-1].removeprefix("Change: ").removeprefix("改动：")
    parent = Row(language=language, instruction="Name the tools for a bread stall." if language == "en" else "列出摆面包摊要带的工具。")
    child = parent.model_copy(update={"instruction": f"{parent.instruction} {change}"})
    subject = Subject("c", child, parent=parent, rewritten=operator != "breadth")
    assert (await Evolution()(subject)).code == "evolution.leak"
