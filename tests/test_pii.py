"""Personal data: what is found, what is made for examples, and what a mended row looks like. argus-redact is real."""

from itertools import pairwise

import pytest
from conftest import Cast, go, recipe, told

from filters.catalogue import make
from filters.gate import Mending, Subject
from filters.pii import Pii, find, is_real, luhn
from leafmill.records import Row, Turn

REAL = {
    "email": "anna.keller@gmx.de",
    "phone": "13912764538",
    "id": "110101199003077774",
    "card": "4539578763621486",
    "iban": "DE44500105175407324931",
}


def row(instruction="Write a letter", answer="", language="en", **fields):
    return Row(language=language, instruction=instruction, answer=answer, **fields)


async def ask(gate, given):
    return await gate(Subject("s", given))


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("text", ["Please use {} from now on.", "请记下{}，谢谢。"])
async def test_what_a_person_can_be_reached_or_robbed_by_is_found_in_both_languages(kind, text):
    verdict = await ask(Pii(action="reject"), row(answer=text.format(REAL[kind])))
    assert (verdict.decision, verdict.code, verdict.value, verdict.evidence) == ("reject", "pii.found", 1, {kind: 1})
    assert REAL[kind] not in verdict.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        "Write to anna@example.com, info@mail.example.org or root@localhost.",
        "Call 212-555-0142 or 400-820-8820.",
        "手机号：13812345678，或者 13800138000",
        "The card 4111 1111 1111 1111 is for tests, and 4539578763621487 has a wrong check digit.",
        "银行卡 6222021234567890123",
        "身份证号 110105194912310021 和 11010519491231002X",
        "SSN 123-45-6789 or 000-12-3456 or 666-12-3456; order 123456789",
        "That leaves 6000-600-150-1200-2000 = 2050 dollars; (123) 456-7891 is nobody's phone.",
        "The year 1999, the price 12345678901, and pi is 3.14159265358979.",
        "张三和 Anna Keller 住在北京市。",
        "print(2**64)  # 18446744073709551616",
    ],
)
async def test_examples_bad_check_digits_and_plain_numbers_are_nobodys(text):
    assert (await ask(Pii(action="reject"), row(answer=text))).code == "ok"


def test_check_digits():
    assert luhn("4539578763621486")
    assert not luhn("4539578763621487")
    assert not luhn("")
    assert is_real("id", "536-22-8765")
    assert not is_real("ip", "192.168.0.1")
    assert not is_real("ip", "203.0.113.7")
    assert is_real("ip", "8.8.8.8")


async def test_review_sends_the_row_to_a_person():
    verdict = await ask(Pii(action="review"), row(answer=REAL["email"]))
    assert (verdict.decision, verdict.code) == ("unscorable", "pii.review")


async def test_kinds_are_a_setting():
    address = row(answer="The server is at 8.8.4.4")
    assert (await ask(make("pii", {"action": "reject"}), address)).code == "ok"
    assert (await ask(make("pii", {"action": "reject", "kinds": ["ip"]}), address)).code == "pii.found"


def test_placeholders_stand_for_values_in_the_rows_language_and_mending_twice_changes_nothing():
    given = row(
        f"把{REAL['email']}和li.na@163.com抄送给{REAL['email']}",
        f"好的，电话{REAL['phone']}。",
        "zh",
        history=(Turn(role="user", content=f"卡号 {REAL['card']}"),),
    )
    mended, counts = Pii().mend(given)
    assert (mended.instruction, mended.answer) == ("把[邮箱]和[邮箱 2]抄送给[邮箱]", "好的，电话[电话]。")
    assert mended.history == (Turn(role="user", content="卡号 [银行卡号]"),)
    assert counts == {"email": 3, "phone": 1, "card": 1}
    assert Pii().mend(mended) == (mended, {})


def test_a_later_value_does_not_take_a_placeholder_that_stands_in_the_row():
    mended, _ = Pii().mend(row("Write to [EMAIL]", f"Done; a copy went to {REAL['email']}."))
    assert mended.answer == "Done; a copy went to [EMAIL 2]."


def test_other_actions_mend_nothing():
    given = row(answer=REAL["email"])
    assert Pii(action="reject").mend(given) == (given, {})
    assert isinstance(Pii(), Mending)


def test_what_is_found_lies_apart_and_in_order():
    found = find(f"{REAL['phone']}张三{REAL['email']} {REAL['card']}", ("email", "phone", "card"))
    assert [one.kind for one in found] == ["phone", "email", "card"]
    assert all(a.end <= b.start for a, b in pairwise(found))


async def test_a_run_redacts_before_anybody_else_sees_the_row_and_says_how_often(tmp_path, server):
    """The answerer is asked with the placeholder, and the lineage counts and repeats nothing."""
    address = REAL["email"]
    server.script = Cast(
        writer=lambda request, case: {"instruction": f"Write to {address} about invoice {case.leaf}-{case.number}, politely.", "input": ""},
        answerer=lambda request, case: (
            f"Dear all, invoice {case.leaf}-{case.number} is here: {case.number * 13}. Call {REAL['phone']} soon."
        ),
    )
    settings = {"target": 1, "flow": {"evolve_rounds": 0}, "in_flight": 1}
    off = {"semantic": False, "ifd": False}
    await go(recipe(tmp_path, server, **settings, gates={**off, "pii": {"action": "redact"}}), tmp_path)
    (accepted,) = told(tmp_path).rows
    (candidate,) = (one for one in told(tmp_path).candidates if one["state"] == "accepted")
    assert accepted["instruction"].startswith("Write to [EMAIL] about")
    assert "Call [PHONE] soon" in accepted["answer"]
    assert [one for one in candidate["lineage"]["made"] if "mended" in one] == [
        {"part": "instruction", "step": "screen.0.0", "mended": "pii", "counts": {"email": 1}},
        {"part": "answer", "step": "check.0.1", "mended": "pii", "counts": {"phone": 1}},
    ]
    asked = [one.request.prompt for one in server.requests if one.request.role == "answerer"]
    assert asked
    assert not any(address in prompt for prompt in asked)


async def test_a_run_whose_recipe_does_not_name_it_does_without(tmp_path, server):
    server.script = Cast()
    await go(recipe(tmp_path, server, target=1), tmp_path)
    assert "pii" not in {verdict["gate"] for verdict in told(tmp_path).verdicts}
