"""What answers say in the end: equal ones are told alike, different ones are not, in both languages."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.voting.canonical import Form, final, form, forms, is_verifiable
from filters.voting.maths import formula
from filters.voting.numbers import chinese, quantity


def key(answer: str) -> tuple[str, str]:
    found = form(answer)
    assert found is not None, answer
    return found.kind, found.key


def test_T27_a_half_is_a_half_however_it_is_written_and_fifty_is_not() -> None:
    assert key("0.50") == key("1/2") == key("５０%") == ("number", "1/2")
    assert key("50") == ("number", "50")


@pytest.mark.parametrize(
    "same",
    [
        ["1,234.50", "1234.5", "＄1,234.5", "1234.50 dollars", "1234.5元"],
        ["1/3", "三分之一", "\\frac{1}{3}", "\\frac13", "$\\dfrac{2}{6}$"],
        ["12", "十二", "12.0", "12 eggs", "12个鸡蛋", "**12**", "12。", "x = 12", "１２"],
        ["3.2万", "32,000", "三万二千", "三万二", "3.2×10^4", "3.2e4"],
        ["50%", "百分之五十", "50 percent", "0.5", "50\\%", "½", "半"],
        ["-5", "−5", "负五", "-$5"],
        ["3½", "7/2", "3 1/2", "三又二分之一"],
        ["2 hours", "120 minutes", "7200秒", "2小时"],
        ["0.12 m", "12 cm", "12厘米", "12\\,\\text{cm}", "120毫米"],
        ["\\sqrt{2}", "\\frac{\\sqrt{8}}{2}", "√2"],
        ["(x+1)^2", "x²+2x+1", "1+2x+x^2"],
        ["3:2", "3：2"],
        ["100 km/h", "100千米/小时"],
        ["90°", "90^\\circ", "90 degrees", "90度"],
    ],
)
def test_one_number_has_one_key(same: list[str]) -> None:
    assert len({key(text) for text in same}) == 1, [key(text) for text in same]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.33", "1/3"),
        ("12 cm", "12 m"),
        ("50%", "50"),
        ("x > 3", "x < 3"),
        ("-5", "5"),
        ("[1, 2]", "[2, 1]"),
        ("3:2", "2:3"),
        ("Paris", "London"),
        ("A", "AB"),
        ("x+1", "x-1"),
        ("2024-03-05", "2024-05-03"),
        ("\\sqrt 2", "1.414"),
        ("3-4", "-1"),
    ],
)
def test_different_answers_have_different_keys(one: str, other: str) -> None:
    assert key(one) != key(other)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ("B", "choice", "B"),
        ("(B)", "choice", "B"),
        ("B. Paris", "choice", "B"),
        ("选B", "choice", "B"),
        ("选项 C", "choice", "C"),
        ("Option D.", "choice", "D"),
        ("A、C", "choice", "A,C"),
        ("AC", "choice", "A,C"),
        ("Yes.", "yes_no", "yes"),
        ("不对", "yes_no", "no"),
        ("True", "yes_no", "yes"),
        ("2024年3月5日", "date", "2024-03-05"),
        ("March 5, 2024", "date", "2024-03-05"),
        ("5th of March 2024", "date", "2024-03-05"),
        ("{3, 1, 2}", "list", "{1,2,3}"),
        ("\\{1, 2, 2, 3\\}", "list", "{1,2,3}"),
        ("x = 2 or x = 3", "list", "{2,3}"),
        ("3和2", "list", "{2,3}"),
        ("(1, 0.5)", "list", "[1,1/2]"),
        ("1, 2, 3", "list", "[1,2,3]"),
        ("[b, a]", "list", "[=b,=a]"),
        ("state-of-the-art", "text", "state-of-the-art"),
        ("  Paris!  ", "text", "paris"),
    ],
)
def test_kinds(answer: str, kind: str, said: str) -> None:
    assert key(answer) == (kind, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("There are 3 boxes of 6.\nAnswer: 18", "18"),
        ("三盒，每盒六个。\n答案：18", "18"),
        ("**最终答案：** 18 个", "18"),
        ("So we add.\n\nThe answer is **18**.", "18"),
        ("因此答案是18。", "18"),
        ("6 * 3 = <<6*3=18>>18\n#### 18", "18"),
        ("Long. " * 30 + "Hence \\boxed{18}. " + "Words. " * 30, "18"),
        ("First \\boxed{1}, then \\boxed{\\frac{36}{2}}", "18"),
        ("18", "18"),
    ],
)
def test_the_final_answer_is_found_where_people_put_it(answer: str, said: str) -> None:
    assert key(answer) == ("number", said)


def test_a_long_answer_without_a_final_one_has_no_form_nor_has_a_heading_of_four_hashes() -> None:
    essay = "The river rises in the hills and ends in the sea. " * 4
    assert form(essay) is None
    assert form(f"#### Summary\n{essay}") is None
    assert form(f"Answer: of a kind, early on.\n{essay}\n{essay}\n{essay}") is None
    assert final(essay) is None


def test_a_kind_that_is_wanted_takes_no_other() -> None:
    assert form("Paris", "number") is None
    assert form("b)", "choice") == Form("choice", "B")
    assert form("12", "choice") is None
    assert form("The words\nof a poem, " * 10, "exact") is not None


def test_code_is_the_same_whatever_its_comments_and_layout() -> None:
    one = "Here:\n```python\ndef f(x):\n    '''Doubles.'''\n    return x*2  # twice\n```\nDone."
    other = "```py\ndef f(x):\n  return x * 2\n```"
    assert form(one, "code") == form(other, "code")
    assert form(one, "code") != form(other.replace("2", "3"), "code")
    assert form("no code", "code") is None
    assert form(f"{other}\n{other}", "code") is None


def test_a_number_without_a_unit_is_of_the_unit_that_all_others_name() -> None:
    assert len({one.key for one in forms(["12 cm", "12", "12 厘米"]) if one}) == 1
    cm, bare, m = forms(["12 cm", "12", "0.12 m"])
    assert cm
    assert bare
    assert m
    assert cm.key == m.key != bare.key  # centimetres or metres: nobody knows


@pytest.mark.parametrize(
    ("answers", "can"),
    [
        (["18", "Answer: 20", "答案：18"], True),
        (["(A)", "B"], True),
        (["18", "eighteen boxes and a bit"], False),
        (["Wake up with a smile", "A morning to remember"], False),  # words that nobody calls a final answer
        (["Answer: Paris", "答案：London"], True),
        (["18", "A river rises. " * 20], False),
        ([], False),
    ],
)
def test_a_vote_can_decide_where_all_say_something_of_one_kind(answers: list[str], can: bool) -> None:
    assert is_verifiable(forms(answers)) is can


def test_the_recipe_may_say_so_instead() -> None:
    assert is_verifiable([None, None], "number")
    assert not is_verifiable(forms(["1", "1"]), "none")


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**4))
def test_a_fraction_is_read_as_it_is_written(over: int, under: int) -> None:
    assert quantity(f"{over}/{under}") == (Fraction(over, under), "", 1)
    assert quantity(f"{over:,}") == (Fraction(over), "", 1)
    assert form(f"答案：{over}/{under}") == form(f"Answer: {over}/{under}")


def _in_chinese(number: int) -> str:
    """As it is said, without 零 left out."""
    digits, steps = "零一二三四五六七八九", ["", "十", "百", "千"]

    def section(part: int) -> str:
        said, gap = "", False
        for place in range(3, -1, -1):
            digit = part // 10**place % 10
            if digit:
                said += ("零" if gap and said else "") + digits[digit] + steps[place]
            gap = not digit
        return said

    high, low = divmod(number, 10_000)
    if not high:
        return section(low) or "零"
    return section(high) + "万" + (("零" if low < 1000 else "") + section(low) if low else "")


@given(st.integers(0, 99_999_999))
def test_a_number_in_chinese_numerals_is_the_number(number: int) -> None:
    assert chinese(_in_chinese(number)) == number


@pytest.mark.parametrize("heavy", ["9^{9^{9^9}}", "2^{1000000}", "(a+b+c)^{64}", "1000!", "\\sum_{i=1}^{10^9} i", "1" * 60, "((((" * 60])
def test_what_would_take_long_is_not_worked_out(heavy: str) -> None:
    assert formula(heavy) is None


@given(st.text(alphabet="0123456789x+-*/^(){}[]=.,:%\\ 一二十百万分之点半負负又个cm$frac", max_size=24))
def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    form(text)
    form(f"Answer: {text}", "number")
