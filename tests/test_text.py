"""Folding, units, ROUGE-L, n-grams, and the guard that keeps hard negatives apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.dedup.guard import differs
from filters.dedup.shingles import char_ngrams, jaccard, shingles, word_ngrams
from filters.text import CJK, LONG, lcs, normalise, remembered, rouge_l, script, tokens, units, without_code

SEA, OCEAN = "Write a short poem about the sea.", "Write a short poem about the ocean."
CJK_UNIT = re.compile(f"[{CJK}]")
海, 洋 = "请写一首关于大海的诗", "请写一首关于海洋的诗"


def test_folding_makes_width_case_script_and_invisible_characters_equal():
    assert normalise("請用Ｐｙｔｈｏｎ\u200b　寫，１２ 行") == normalise("请用python 写,12 行")


@given(st.text())
def test_folding_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_is_folded_as_beside_other_characters(text):
    assert normalise("é " + text) == f"é {normalise(text)}".rstrip()


def test_what_is_found_out_about_a_text_is_remembered_and_of_long_texts_only_the_last():
    asked = []

    @remembered
    def length(text, extra=0):
        asked.append(text[0])
        return len(text) + extra

    texts = [letter * (LONG + 1) for letter in "abcdefghi"]
    assert [length(text) for text in (*texts, texts[-1], "short", texts[0], "short")] == [LONG + 1] * 10 + [5, LONG + 1, 5]
    assert "".join(asked) == "abcdefghisa"
    assert length("short", 1) == 6


def test_a_unit_is_a_chinese_character_or_a_word():
    assert tokens("用 Python 3.11 写 don't") == ["用", "python", "3.11", "写", "don't"]
    assert (units(海), units(SEA), units("…！")) == (10, 7, 0)


def test_script_is_the_share_of_chinese_units():
    assert script("用pandas读表") == 0.75
    assert (script(""), script("plain"), script("汉字")) == (0.0, 0.0, 1.0)


@given(st.text() | st.text("a1 '.々〇海ァ"))
def test_units_and_script_count_the_tokens(text):
    found = tokens(text)
    assert units(text) == len(found)
    assert script(text) == (sum(CJK_UNIT.match(token) is not None for token in found) / len(found) if found else 0)


def test_code_is_left_out_even_when_its_fence_is_never_closed():
    assert without_code("a `b` c\n```py\nx\n```\nd").split() == ["a", "c", "d"]
    assert without_code("a\n```py\nx").split() == ["a"]


def test_T10_rouge_l_of_the_published_pairs():
    assert rouge_l(SEA, OCEAN) == pytest.approx(6 / 7)
    assert rouge_l("List three ways to save water", "List three ways to save energy") == pytest.approx(5 / 6)


def test_T10_seven_of_ten_tokens_in_order_is_exactly_the_threshold():
    assert rouge_l("a b c d e f g h i j", "a b c d e f g x y z") == 0.7


def test_T11_identical_chinese_scores_one_and_a_near_twin_nine_tenths():
    assert rouge_l(海, 海) == 1.0
    assert rouge_l(海, 洋) == pytest.approx(0.9)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_bit_parallel_lcs_equals_the_textbook_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs(a, b) == table[-1][-1]


@pytest.mark.parametrize(("n", "expected"), [(1, 9 / 11), (2, 1 / 2), (3, 1 / 3), (5, 1 / 5)])
def test_T12_jaccard_of_chinese_character_ngrams(n, expected):
    assert jaccard(char_ngrams(海, n), char_ngrams(洋, n)) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "expected"), [(1, 3 / 4), (2, 5 / 7), (3, 2 / 3), (5, 1 / 2)])
def test_T12_jaccard_of_english_word_ngrams(n, expected):
    assert jaccard(word_ngrams(SEA, n), word_ngrams(OCEAN, n)) == pytest.approx(expected)


def test_T12_jaccard_of_english_character_5_grams():
    assert jaccard(char_ngrams(SEA.lower()[:-1], 5), char_ngrams(OCEAN.lower()[:-1], 5)) == pytest.approx(25 / 33)


def test_T13_order_counts_from_bigrams_on():
    a, b = "the cat saw the dog", "the dog saw the cat"
    assert jaccard(word_ngrams(a, 1), word_ngrams(b, 1)) == 1.0
    assert jaccard(word_ngrams(a, 2), word_ngrams(b, 2)) == pytest.approx(0.6)
    assert jaccard(shingles(a), shingles(b)) < 1


@given(st.text("ab c.", min_size=1).filter(units))
def test_the_shingles_of_ascii_are_those_it_has_beside_chinese(text):
    assert shingles(text + "海") == shingles(text) | {"海"}


def test_T16_short_texts_have_shingles_and_two_empty_sets_share_nothing():
    assert shingles("写诗")
    assert shingles("ab") == {"ab"}
    assert jaccard(shingles("。。。"), shingles("！")) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        ("Write 3 tips for saving water", "Write 5 tips for saving water", "numbers"),
        ("Write three tips for saving water", "Write five tips for saving water", "numbers"),
        ("Sort the list with recursion", "Sort the list without recursion", "negations"),
        ("Explain why cats do like milk", "Explain why cats don’t like milk", "negations"),
        ("Sort the list in ascending order", "Sort the list in descending order", "opposites"),
        ("Translate the letter into French", "Translate the letter into German", "names"),
        ("Describe a walk through Paris", "Describe a walk through London", "names"),
        ('Use the word "apple" in a sentence', 'Use the word "orange" in a sentence', "names"),
        ("What does parse_date return?", "What does parse_time return?", "names"),
        ("Write a parser in C++", "Write a parser in C#", "names"),
        ("Load the table with pandas", "Load the table with numpy", "names"),
        ("Solve x + 4 = 0", "Solve x - 4 = 0", "operators"),
        ("写三条节约用水的建议", "写五条节约用水的建议", "numbers"),
        ("写３条节约用水的建议", "写３０条节约用水的建议", "numbers"),
        ("写两百字的短文", "写三百字的短文", "numbers"),
        ("请用递归实现排序", "请不用递归实现排序", "negations"),
        ("将列表按升序排列", "将列表按降序排列", "opposites"),
        ("列出电动车的优点", "列出电动车的缺点", "opposites"),
        ("把这段话翻译成法语", "把这段话翻译成德语", "names"),
        ("写一篇介绍北京的文章", "写一篇介绍上海的文章", "names"),
        ("用Python写一个函数", "用Java写一个函数", "names"),
        ("分析《红楼梦》的主题", "分析《活着》的主题", "names"),
        ("用“苹果”造句", "用“香蕉”造句", "names"),
    ],
)
def test_a_hard_negative_differs_both_ways(a, b, what):
    assert (differs(a, b) or "").startswith(what)
    assert (differs(b, a) or "").startswith(what)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (SEA, "write a short poem about the sea"),
        ("Could you please write a short poem about the sea? Thanks!", SEA),
        ("Write a brief poem about the sea", SEA),
        ("Write A Short Poem About The Sea", SEA),
        ("Write 3 tips in python", "Write three tips in Python"),
        ("List the numbers from 1 to 10", "List the numbers from 1-10"),
        ("Explain it, do not use jargon", "Explain it without using jargon"),
        ("Use `sort` here", "Use sort here"),
        (海, "請幫我寫一首關於大海的詩，謝謝！"),
        ("请撰写一首关于大海的诗", 海),
        ("写三条建议", "写3条建议"),
        ("写两万字的小说", "写20000字的小说"),
        ("请十分详细地说明", "请详细地说明"),
        ("用 python 写", "用Python写"),
        ("用「苹果」造句", "用“苹果”造句"),
    ],
)
def test_an_edit_that_leaves_the_task_does_not_differ(a, b):
    assert differs(a, b) is None
    assert differs(b, a) is None


@given(st.text(), st.text())
def test_the_guard_is_symmetric_and_a_text_never_differs_from_itself(a, b):
    assert differs(a, a) is None
    assert (differs(a, b) is None) == (differs(b, a) is None)
