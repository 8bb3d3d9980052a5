"""Which evolved instructions are eliminated."""

import pytest

from filters.evolution import Evolution, hollow
from filters.gate import Subject
from filters.refusal import Refusal
from leafmill.records import Row

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


@pytest.mark.parametrize("answer", ["...", "The. And of the!", "的。了"])
async def test_T34_an_answer_of_punctuation_and_stop_words_is_eliminated(answer):
    assert await code(PARENT, "Write a sonnet about the sea", answer) == "evolution.hollow"


async def test_T34_a_refused_evolution_has_a_code_of_its_own():
    row = 父.model_copy(update={"instruction": "写一首十四行诗", "answer": "抱歉，我做不到。"})
    assert (await Refusal()(Subject("s", row, parent=父))).code == "refusal.apology"


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
