"""The guard: what a reader would call another task is one, and what was merely rephrased is not, in English and Chinese."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.dedup.guard import Difference, differs, replaced
from filters.memory import spared

SEA, 海 = "Write a short poem about the sea.", "请写一首关于大海的诗"


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        ("numbers", "Write 3 tips for saving water", "Write 5 tips for saving water"),
        ("numbers", "Write three tips for saving water", "Write five tips for saving water"),
        ("numbers", "Round 3.14 to one digit", "Round 3.41 to one digit"),
        ("numbers", "Give the third planet", "Give the fourth planet"),
        ("numbers", "写三条节约用水的建议", "写五条节约用水的建议"),
        ("numbers", "写３条节约用水的建议", "写３０条节约用水的建议"),
        ("numbers", "写两百字的短文", "写三百字的短文"),
        ("numbers", "给定一个句子。4", "给定一个句子。5"),
        ("units", "How long do 5 km take on foot?", "How long do 5 miles take on foot?"),
        ("units", "Convert meters to feet, for 7 kg", "Convert meters to feet, for 7 pounds"),
        ("units", "Set the oven to 180 °C", "Set the oven to 180 °F"),
        ("units", "It costs $20 a day", "It costs €20 a day"),
        ("units", "It costs $1,200.50 a day and $2", "It costs €1,200.50 a day and $2"),
        ("units", "Copy 4 GB of photos", "Copy 4 MB of photos"),
        ("units", "Rest for ten minutes each day", "Rest for ten hours each day"),
        ("units", "How many weeks are left?", "How many months are left?"),
        ("units", "Prices rose by 5%", "Prices rose by 5 cents"),
        ("units", "Summarize it in 50 words", "Summarize it in 50 sentences"),
        ("units", "He pays $4 in the first week and $4 later", "He pays $4 in the first week and €4 later"),
        ("units", "走完5公里要多久", "走完5英里要多久"),
        ("units", "买2公斤苹果", "买2斤苹果"),
        ("units", "这件衣服200元", "这件衣服200美元"),
        ("units", "休息十分钟再写", "休息十小时再写"),
        ("units", "水温是40摄氏度", "水温是40华氏度"),
        ("units", "写一篇五百字的文章", "写一篇五百词的文章"),
        ("units", "制定三天的计划", "制定三周的计划"),
        ("negations", "Sort the list with recursion", "Sort the list without recursion"),
        ("negations", "Explain why cats do like milk", "Explain why cats don’t like milk"),
        ("negations", "Include a table", "Do not include a table"),
        ("negations", "请用递归实现排序", "请不用递归实现排序"),
        ("negations", "请列出含糖的水果", "请列出不含糖的水果"),
        ("negations", "要有例子", "不要有例子"),
        ("opposites", "Sort the list in ascending order", "Sort the list in descending order"),
        ("opposites", "将列表按升序排列", "将列表按降序排列"),
        ("opposites", "列出电动车的优点", "列出电动车的缺点"),
        ("operators", "Solve x + 4 = 0", "Solve x - 4 = 0"),
        ("languages", "Translate the letter into French", "Translate the letter into German"),
        ("languages", "translate this into french", "translate this into korean"),
        ("languages", "把这段话翻译成法语", "把这段话翻译成德语"),
        ("languages", "把这段话翻译成日文", "把这段话翻译成韩文"),
        ("programming", "Write a parser in C++", "Write a parser in C#"),
        ("programming", "Sort a list in Go", "Sort a list in R"),
        ("programming", "sort a list in python", "sort a list in java"),
        ("programming", "用Python写一个函数", "用Java写一个函数"),
        ("programming", "用C语言写一个函数", "用R语言写一个函数"),
        ("names", "Describe a walk through Paris", "Describe a walk through London"),
        ("names", "List sights of this city.\n\nParis", "List sights of this city.\n\nChicago"),
        ("names", "Janet's ducks lay eggs", "Maria's ducks lay eggs"),
        ("names", "It rains. Josh buys a house", "It rains. Anna buys a house"),
        ("names", "Write to Mrs. Carter today", "Write to Mrs. Singh today"),
        ("names", 'Use the word "apple" in a sentence', 'Use the word "orange" in a sentence'),
        ("names", "What does parse_date return?", "What does parse_time return?"),
        ("names", "Load the table with pandas", "Load the table with numpy"),
        ("names", "写一篇介绍北京的文章", "写一篇介绍上海的文章"),
        ("names", "分析《红楼梦》的主题", "分析《活着》的主题"),
        ("names", "用“苹果”造句", "用“香蕉”造句"),
        ("names", "小明买了苹果", "小红买了苹果"),
        ("names", "给王芳写一封信", "给张伟写一封信"),
        ("names", "告诉刘老师这件事", "告诉陈老师这件事"),
        ("names", "介绍远航物流的业务", "介绍北光物流的业务"),
    ],
)
def test_a_hard_negative_differs_both_ways_and_says_in_what(kind, a, b):
    one, other = differs(a, b), differs(b, a)
    assert one is not None
    assert other is not None
    assert (one.kind, other.kind) == (kind, kind)
    assert str(one).startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (SEA, "write a short poem about the sea"),
        ("Could you please write a short poem about the sea? Thanks!", SEA),
        ("### Instruction:\nWrite a short poem about the sea.", SEA),
        ("Write a brief poem about the sea", SEA),
        ("Write A Short Poem About The Sea", SEA),
        ("Write 3 tips in python", "Write three tips in Python"),
        ("List the numbers from 1 to 10", "List the numbers from 1-10"),
        ("Explain it, do not use jargon", "Explain it without using jargon"),
        ("Use `sort` here", "Use sort here"),
        ("Walk 5 km a day", "Walk 5 kilometres a day"),
        ("It costs $20", "It costs 20 dollars"),
        ("Rest for 5 minutes", "Rest for 5 min"),
        ("Take 20% off", "Take 20 percent off"),
        ("Describe a winter day", "Describe a witner day"),
        ("Write a line about rain", "Write something about rain"),
        ('Say why "all cats are smart" is wrong', 'Say why "all cats are just smart" is wrong'),
        (
            'Reply to: "the delivery came late and two of my plates were broken"',
            'Reply to: "the delivery was late, two of my plates broken"',
        ),
        ("Explain photosynthesis", "Describe photosynthesis"),
        (海, "請幫我寫一首關於大海的詩，謝謝！"),
        ("请撰写一首关于大海的诗", 海),
        ("写三条建议", "写3条建议"),
        ("写两万字的小说", "写20000字的小说"),
        ("请十分详细地说明", "请详细地说明"),
        ("用 python 写", "用Python写"),
        ("用「苹果」造句", "用“苹果”造句"),
        ("跑5公里", "跑5千米"),
        ("翻译成英语", "翻译成英文"),
        ("休息一个星期", "休息一周"),
        ("对以下大学进行排名", "对下列大学进行排名"),
        ("给定句子中的字。4", "给定句子中的字.4"),
        ("这是一件高明的事", "这是一件聪明的事"),
        ("无论如何都要写完", "不管怎样都要写完"),
    ],
)
def test_an_edit_that_leaves_the_task_does_not_differ(a, b):
    assert differs(a, b) is None
    assert differs(b, a) is None


@given(st.text(), st.text())
def test_the_guard_is_symmetric_and_a_text_never_differs_from_itself(a, b):
    assert differs(a, a) is None
    assert replaced(a, a) is None
    assert (differs(a, b) is None) == (differs(b, a) is None)
    assert (replaced(a, b) is None) == (replaced(b, a) is None)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Explain how renting an electric car works", "Explain how saving water works"),
        ("Write a story about a lost suitcase for nurses", "Write a story about a broken lift for nurses"),
        ("请以网络隐私为题写一篇寓言", "请以家庭节水为题写一篇寓言"),
        ("give tall trees and small cats some cold milk", "give wide trees and quick cats some warm milk"),
    ],
)
def test_a_phrase_in_anothers_place_or_many_words_make_another_text(a, b):
    found = replaced(a, b)
    assert found is not None
    assert found.kind == "words"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (SEA, "Please, could you kindly help me: write a short poem about the sea! Thank you very much."),
        (SEA, "Write a short story about the sea."),
        ("Explain how a bridge carries the weight of all cars", "Explian how a brigde carries the weigth of all cars"),
        ("Describe why the sky is blue to a child", "Explain to a child why the sky is blue"),
        ("请解释光合作用的主要过程", "请说明光合作用的主要过程"),
        (海, "你好，请帮我写一首关于大海的诗，非常感谢！"),
    ],
)
def test_additions_typos_swaps_and_single_synonyms_replace_nothing(a, b):
    assert replaced(a, b) is None


def test_evidence_names_the_nearest_ten_that_were_spared_and_in_what_they_differ():
    found = spared({f"r{i}": Difference("numbers", f"3 / {i}") for i in range(12)})
    assert list(found["spared"]) == [f"r{i}" for i in range(10)]
    assert found["spared"]["r4"] == {"kind": "numbers", "text": "3 / 4"}
    assert spared({}) == {}
