"""The gate `pii`: addresses and numbers by which a real person could be reached or robbed.

Found by the rules of argus-redact (the extra `safety`), which knows Chinese and English forms; what it finds is believed only when its
check digits are right and it is not made for examples, for written data is full of example.com and 555-0100.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from filters.gate import Mended, Stage, Subject, verdict
from filters.text import remembered
from leafmill.errors import InputError
from leafmill.records import Language, Row, Turn, Verdict

Kind = Literal["email", "phone", "id", "card", "iban", "ip", "passport", "plate", "secret", "person", "address"]

TYPES: dict[Kind, tuple[str, ...]] = {
    "email": ("email",),
    "phone": ("phone", "phone_landline"),
    "id": ("id_number", "ssn", "itin", "hk_id", "tw_id", "macau_id"),
    "card": ("bank_card", "credit_card"),
    "iban": ("iban",),
    "ip": ("ip_address",),
    "passport": ("passport", "us_passport"),
    "plate": ("license_plate",),
    "secret": ("openai_api_key", "anthropic_api_key", "aws_access_key", "github_token", "jwt", "ssh_private_key"),
    "person": ("person",),
    "address": ("address",),
}
"""what the library calls them"""

PLACEHOLDERS: dict[Language, dict[Kind, str]] = {
    "en": {
        "email": "EMAIL", "phone": "PHONE", "id": "ID NUMBER", "card": "CARD NUMBER", "iban": "ACCOUNT NUMBER", "ip": "IP ADDRESS",
        "passport": "PASSPORT NUMBER", "plate": "LICENCE PLATE", "secret": "SECRET", "person": "NAME", "address": "ADDRESS",
    },
    "zh": {
        "email": "邮箱", "phone": "电话", "id": "证件号", "card": "银行卡号", "iban": "银行账号", "ip": "IP地址", "passport": "护照号",
        "plate": "车牌号", "secret": "密钥", "person": "姓名", "address": "地址",
    },
}  # fmt: skip

EXAMPLE_DOMAIN = re.compile(r"@(?:[\w.-]+\.)?(?:example(?:\.(?:com|org|net|edu|cn|com\.cn))?|test|invalid|localhost|local)$", re.IGNORECASE)
"""RFC 2606 and 6761, and what is written in their manner"""
FICTIONAL_PHONE = re.compile(r"55501\d\d$|(\d)\1{5}|1234567|^(?:86)?13800138000$|^(?:86)?[48]00\d{7}$")
"""555-0100 to 0199, runs such as 1234567, the best-known number of a hotline's SIM; and 400 and 800 lines, which are nobody's own"""
SPECIMENS = frozenset(
    str.split(
        "11010519491231002X 440524188001010014 123456789 078051120 219099999 4111111111111111 4242424242424242 4012888888881881 "
        "5555555555554444 5105105105105100 378282246310005 371449635398431 6011111111111117 3530111333300000 30569309025904 "
        "DE89370400440532013000 GB82WEST12345698765432 GB29NWBK60161331926819 FR1420041010050500013M02606"
    )
)
"""numbers that standards and payment services print as examples, without spaces and hyphens"""
_SSN = re.compile(r"(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}$")


class Found(NamedTuple):
    kind: Kind
    start: int
    end: int


@dataclass(frozen=True)
class Pii:
    """Every text of a row is looked at, code too. The verdict counts what was found and repeats none of it.

    * `reject`: the row is rejected (`pii.found`);
    * `redact`: it is accepted, and mended: placeholders stand for what was found, the same one for the same value;
    * `review`: a person should look (`pii.review`).
    """

    name: ClassVar[str] = "pii"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "no e-mail address, phone, identity or card number of a real person is in the row"

    action: Literal["reject", "redact", "review"] = "redact"
    kinds: tuple[Kind, ...] = ("email", "phone", "id", "card", "iban")
    """also ip, passport, plate, secret; person and address find the people of stories too"""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError(f"kinds must name some of {', '.join(get_args(Kind))}")
        if importlib.util.find_spec("argus_redact") is None:
            raise InputError("it needs more packages: pip install 'leafmill[safety]'")

    async def __call__(self, subject: Subject) -> Verdict:
        counts: Mapping[str, Any] = self._counts(subject.row)
        found = sum(counts.values())
        if not found or self.action == "redact":
            return verdict(self, "accept", value=found, **counts)
        if self.action == "review":
            return verdict(self, "unscorable", "pii.review", value=found, **counts)
        return verdict(self, "reject", "pii.found", value=found, **counts)

    def mend(self, row: Row) -> Mended:
        """The row with placeholders, and how many there are of each kind. Mending again changes nothing."""
        counts = self._counts(row)
        if self.action != "redact" or not counts:
            return Mended(row, {})
        names: dict[tuple[Kind, str], str] = {}
        taken = "\n".join(texts(row))

        def clean(text: str) -> str:
            done, parts = 0, []
            for found in find(text, self.kinds):
                value = (found.kind, re.sub(r"[\s-]", "", text[found.start : found.end]).lower())
                if value not in names:
                    names[value] = _placeholder(PLACEHOLDERS[row.language][found.kind], taken, set(names.values()))
                parts += [text[done : found.start], names[value]]
                done = found.end
            return "".join([*parts, text[done:]])

        fields = {name: clean(getattr(row, name)) for name in ("instruction", "input", "answer", "reasoning")}
        turns = {name: tuple(_said(turn, clean) for turn in getattr(row, name)) for name in ("history", "steps")}
        return Mended(row.model_copy(update={**fields, **turns}), counts)

    def _counts(self, row: Row) -> dict[str, int]:
        return dict(Counter(found.kind for text in texts(row) for found in find(text, self.kinds)))


def texts(row: Row) -> Iterator[str]:
    """All that a row says."""
    yield from (turn.text for turn in (*row.history, *row.steps))
    yield from (row.instruction, row.input, row.answer, row.reasoning)


@remembered
def find(text: str, kinds: tuple[Kind, ...]) -> tuple[Found, ...]:
    """Where personal data stand in a text, in order and apart from each other."""
    from argus_redact import redact

    if not text:
        return ()
    of = {type_: kind for kind in kinds for type_ in TYPES[kind]}
    # Where it found something is all that is used; the salt is for its own pseudonyms, which are thrown away.
    _, _, details = redact(text, mode="fast", lang=["zh", "en"], types=sorted(of), detailed=True, salt=b"not used".ljust(32))
    seen = (Found(of[one["type"]], one["start"], one["end"]) for one in details["entities"])
    real = (one for one in seen if is_real(one.kind, text[one.start : one.end]) and not _in_sum(text, one))
    return tuple(sorted(real, key=lambda one: one.start))


def is_real(kind: Kind, value: str) -> bool:
    """Whether it may be somebody's: its check digits are right, and it is no number or domain that is kept for examples."""
    plain = re.sub(r"[\s()+.-]", "", value).upper()
    match kind:
        case "email":
            return not EXAMPLE_DOMAIN.search(value)
        case "phone":
            return not FICTIONAL_PHONE.search(_digits(plain))
        case "id":
            is_american = re.fullmatch(r"[\d -]{9,11}", value)  # others, such as Chinese ones, have check digits: the library looks at them
            return plain not in SPECIMENS and (not is_american or bool(_SSN.match(value)))
        case "card":
            return plain not in SPECIMENS and luhn(_digits(plain))
        case "iban":
            return plain not in SPECIMENS
        case "ip":
            return _is_public(value)
    return True


def _in_sum(text: str, found: Found) -> bool:
    """Whether it is a part of a calculation: 600-150-1200-2000."""
    return text[: found.start][-1:] in tuple("-*$<^") or text[found.end :][:1] in tuple("+*=^")


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return bool(digits) and sum(sum(divmod(value, 10)) for value in doubled) % 10 == 0


def _digits(text: str) -> str:
    """Its digits, as ASCII: full-width ones count."""
    return "".join(str(int(character)) for character in text if character.isdecimal())


def _is_public(value: str) -> bool:
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def _said(turn: Turn, clean: Callable[[str], str]) -> Turn:
    calls = tuple(call.model_copy(update={"arguments": _inside(call.arguments, clean)}) for call in turn.calls)
    return turn.model_copy(update={"content": clean(turn.content), "calls": calls})


def _inside(value: Any, clean: Callable[[str], str]) -> Any:
    """What a call says, with every text in it cleaned."""
    if isinstance(value, dict):
        return {key: _inside(one, clean) for key, one in value.items()}
    if isinstance(value, list):
        return [_inside(one, clean) for one in value]
    return clean(value) if isinstance(value, str) else value


def _placeholder(name: str, taken: str, given: set[str]) -> str:
    """[EMAIL], and [EMAIL 2] for another address of the same row."""
    number = 1
    while (placeholder := f"[{name}]" if number == 1 else f"[{name} {number}]") in taken or placeholder in given:
        number += 1
    return placeholder
