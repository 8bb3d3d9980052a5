"""A page made still: its HTML without anything that acts or leads out of it, so that it can stand in a file of its own.

Only the elements and attributes named here come through. A link becomes plain text unless it leads to a place of the same file; what the
page would fetch stands in it (a chart as a picture, what is unfolded) or is left out; long texts and tables are cut, and say by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser

from markupsafe import Markup

# fmt: off
GONE = frozenset((
    "script", "style", "template", "dialog", "form", "button", "select", "option", "textarea", "label", "iframe", "object", "embed", "nav",
    "noscript",
))
"""elements that go with all that is in them"""
VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))
SHOWN = frozenset(("br", "col", "hr", "wbr"))
"""those of them that may stay"""
KEPT = frozenset((
    "class", "dir", "lang", "title", "datetime", "colspan", "rowspan", "scope", "open", "value", "min", "max", "low", "high", "optimum",
    "start", "role", "id", "headers", "aria-label", "aria-hidden", "data-label",
))
"""attributes of HTML that say how something looks or what it is called"""
DRAWN = frozenset((
    "d", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-miterlimit", "stroke-opacity", "fill-opacity", "opacity",
    "transform", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height", "viewbox", "preserveaspectratio",
    "points", "text-anchor", "font-size", "font-family", "font-weight", "dominant-baseline", "xmlns", "display", "clip-path",
))
"""attributes of SVG that may stay beside those"""
# fmt: on
TEXTS = frozenset({"raw", "said"})
"""classes of elements that hold text of models"""
UNFOLDED = "toggle once"
"""of what is fetched when it is unfolded: its trigger"""


@dataclass(frozen=True)
class Still:
    """How pages are made still."""

    say: Callable[..., str]
    text: int
    """characters of one text of a model"""
    rows: int
    """lines of one table"""

    def __call__(self, html: str, place: str, fetched: Mapping[str, str] | None = None, deeper: int = 0) -> Markup:
        """`place` is put before the ids of the page, `fetched` is what stands at addresses that it names; headings go so many levels
        `deeper`."""
        parser = _Parser(self, place, fetched or {}, deeper)
        parser.feed(html)
        parser.close()
        return Markup("".join(parser.out))


@dataclass
class _Text:
    """A text of a model that is being copied."""

    depth: int
    """of its element"""
    length: int = 0


class _Parser(HTMLParser):
    def __init__(self, still: Still, place: str, fetched: Mapping[str, str], deeper: int) -> None:
        super().__init__(convert_charrefs=False)
        self.still, self.place, self.fetched, self.deeper = still, place, fetched, deeper
        self.out: list[str] = []
        self._unfolded = ""
        """what the next element of class `body` holds instead of the link to it"""
        self._open: list[tuple[str, str]] = []
        """the elements that are open: their names, and what closes them"""
        self._gone: int | None = None
        """how many are open around one that goes with all that is in it"""
        self._text: _Text | None = None
        self._rows: list[int] = []
        """of each table that is open: how many lines it has so far"""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in VOID:
            if self._gone is None and tag in SHOWN:
                self.out.append(f"<{tag}>")
            return
        name = self._named(tag, given)
        self._open.append((tag, f"</{name}>"))
        if self._gone is not None:
            return
        if tag == "table":
            self._rows.append(0)
        elif tag == "tr" and self._rows:
            self._rows[-1] += 1
        picture = self.fetched.get(given.get("data-chart", ""))
        folded = given.get("hx-trigger") == UNFOLDED
        is_lacking = folded and given["hx-get"] not in self.fetched
        if tag in GONE or picture is not None or is_lacking or (tag == "tr" and self._rows and self._rows[-1] > self.still.rows):
            self._gone = len(self._open)
            self.out.append(picture or "")
            return
        self.out.append(f"<{name}{self._attributes(tag, given)}>")
        classes = set(given.get("class", "").split())
        if self._text is None and TEXTS & classes:
            self._text = _Text(len(self._open))
        if folded:
            self._unfolded = self.fetched[given["hx-get"]]
        elif "body" in classes and self._unfolded:
            self.out += [self.still(self._unfolded, self.place, deeper=self.deeper), f"</{name}>"]
            self._unfolded, self._gone = "", len(self._open)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in (name for name, _ in self._open):
            return
        while True:
            name, closes = self._open[-1]
            self._end(name, closes)
            self._open.pop()
            if name == tag:
                return

    def _end(self, tag: str, closes: str) -> None:
        if self._gone is not None:
            self._gone = None if self._gone == len(self._open) else self._gone
            return
        if self._text and self._text.depth == len(self._open):
            more = self._text.length - self.still.text
            if more > 0:
                self.out.append(f'<span class="cut">{self._say("… {n} more characters", more)}</span>')
            self._text = None
        if tag == "table" and (more := self._rows.pop() - self.still.rows) > 0:
            self.out.append(f'<tr><td colspan="99" class="cut">{self._say("… {n} more lines", more)}</td></tr>')
        self.out.append(closes)

    def handle_data(self, data: str) -> None:
        self._say_on(data, escape(data, quote=False))

    def handle_entityref(self, name: str) -> None:
        self._say_on("&", f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._say_on("&", f"&#{name};")

    def _say_on(self, said: str, html: str) -> None:
        """Text goes on; of a long one only the beginning."""
        if self._gone is not None:
            return
        if self._text:
            room = self.still.text - self._text.length
            self._text.length += len(said)
            if room < len(said):
                html = escape(said[: max(0, room)], quote=False) if len(said) > 1 else ""
        self.out.append(html)

    def _say(self, phrase: str, n: int) -> str:
        return escape(self.still.say(phrase, n=f"{n:,}"))

    def _named(self, tag: str, given: Mapping[str, str]) -> str:
        """What an element is called here: headings by their new level, links that lead elsewhere by what is no link."""
        if tag == "a" and not given.get("href", "").startswith("#"):
            return "g" if any(name == "svg" for name, _ in self._open) else "data"
        return f"h{min(6, int(tag[1]) + self.deeper)}" if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() else tag

    def _attributes(self, tag: str, given: Mapping[str, str]) -> str:
        known = KEPT if not any(name == "svg" for name, _ in self._open) else KEPT | DRAWN
        kept = {name: value for name, value in given.items() if name in known}
        if "id" in kept:
            kept["id"] = self.place + kept["id"]
        if tag == "a" and given.get("href", "").startswith("#"):
            kept["href"] = f"#{self.place}{given['href'][1:]}"
        return "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
