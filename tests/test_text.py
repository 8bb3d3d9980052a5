"""Folding, units, ROUGE-L and n-grams."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.dedup.shingles import char_ngrams, jaccard, shingles, word_ngrams
from filters.text import CJK, LONG, bare, lcs, normalise, remembered, rouge_l, script, tokens, units, without_code

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


def test_a_number_beside_chinese_is_one_unit_as_it_is_beside_a_space():
    assert tokens("3.5天") == tokens("3.5 天") == ["3.5", "天"]


@given(st.text() | st.text("a1 '.,_〇海ァ3"))
def test_bare_text_holds_the_tokens_and_nothing_else(text):
    assert tokens(bare(text)) == tokens(text)
    assert bare(text).replace(" ", "") == "".join(tokens(text))


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
