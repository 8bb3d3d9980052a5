"""Numbers as pages write them: what is not known is a dash, never a 0. Jinja filters, by the names that they have here."""

from __future__ import annotations

from datetime import UTC, datetime

from leafmill.ui.page import filters

UNKNOWN = "–"


def count(number: float | None) -> str:
    """A whole number, in groups of three."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def short(number: float | None) -> str:
    """Three digits and a unit.

    >>> short(950), short(12_345), short(4_560_000), short(None)
    ('950', '12.3k', '4.56M', '–')
    """
    if number is None:
        return UNKNOWN
    for unit in ("", "k", "M"):
        if abs(number) < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}G"


def hundredths(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:.2f}"


def signed(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:+.2f}"


def money(amount: float | None, currency: str = "") -> str:
    """An amount of the recipe's currency, which is named where it is given: two places, or two digits of what is less than one."""
    if amount is None:
        return UNKNOWN
    said = f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.2g}" if amount >= 0.001 else "<0.001"
    return f"{said} {currency}".strip()


def share(part: float | None) -> str:
    """Per cent; what is there at all is not written as 0%.

    >>> share(0.123), share(0.001), share(0), share(None)
    ('12%', '<1%', '0%', '–')
    """
    if part is None:
        return UNKNOWN
    return "<1%" if 0 < part < 0.005 else f"{part:.0%}"


def seconds(took: float | None) -> str:
    """How long one call took."""
    if took is None:
        return UNKNOWN
    return f"{took * 1000:.0f} ms" if took < 0.1 else f"{took:.2f} s" if took < 10 else f"{took:,.0f} s"


def duration(took: float | None) -> str:
    """How long a run took: its two greatest units.

    >>> duration(45.2), duration(754), duration(12_000), duration(200_000), duration(None)
    ('45 s', '12 min 34 s', '3 h 20 min', '2 d 7 h', '–')
    """
    if took is None:
        return UNKNOWN
    whole = round(took)
    units = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    told = [f"{number} {unit}" for number, unit in units if number]
    return " ".join(told[:2]) or "0 s"


def when(moment: float | None) -> str:
    """Date and time on this machine's clock, to the minute."""
    return UNKNOWN if moment is None else f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"


def exactly_when(moment: float | None) -> str:
    """The same with seconds and zone."""
    return UNKNOWN if moment is None else datetime.fromtimestamp(moment, UTC).astimezone().isoformat(timespec="seconds")


filters.update({one.__name__: one for one in (count, short, hundredths, signed, money, share, seconds, duration, when, exactly_when)})
