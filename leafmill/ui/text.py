"""Text of models as markup that is safe to show: the one place where markup is made of what somebody else wrote.

    said     Markdown as it should look: tables, code in colours, formulas (elements that static/said.js hands to KaTeX)
    code     the text of a program, or JSON, in colours
    raw      exactly what was written, every invisible character as its code point
    snippet  the beginning, on one line
    changed  two texts in one: what is gone, what has come

What comes out holds the elements and attributes written down here and no others: no HTML of the text itself (it is shown as text), no
image (its words and address instead), no link but to http, https and mailto, no style, no handler. Characters that would hide or turn
round what stands beside them are shown as their code point. A page that uses these filters includes `said_head.html` in its head.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from leafmill.ui import page, words
from leafmill.ui.diff import Piece

SHOWN = 20_000
"""characters of a text that are shown in place; the rest stands on a page of its own"""
RENDERED = 60_000
"""characters that are rendered as Markdown on such a page; a longer text stands there as it is"""
COLOURED = 5_000
"""characters of a text's code that are coloured: some languages take the square of their length"""
FORMULA = 3_000
"""characters of a formula"""
NESTING = 20
"""levels of quotes and lists; what is nested more deeply is shown as it is"""
LANGUAGES = (
    "bash c c++ console cpp css diff dockerfile go golang haskell html ini java javascript jinja js json jsx kotlin latex lua "
    "markdown md nginx perl php powershell py python r rb ruby rust sh shell sql swift tex toml ts tsx typescript xml yaml yml"
)
"""languages of code blocks that are coloured"""
ENVIRONMENTS = "align alignat aligned array bmatrix Bmatrix cases equation gather gathered matrix pmatrix smallmatrix split vmatrix Vmatrix"

# Controls (tab and line feed excepted), overrides of direction, zero-width characters, tags, noncharacters, halves of surrogate pairs.
_ALWAYS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff\ufdd0-\ufdef\ufffe\uffff"
)
_HIDDEN = re.compile(f"[{_ALWAYS}]")
_ODD = "\xad\u00a0\u034f\u115f\u1160\u17b4\u17b5\u2000-\u200f\u2028\u2029\u202f\u205f\u3164\ufe00-\ufe0f\uffa0"
_HIDDEN_OR_ODD = re.compile(f"[{_ALWAYS}{_ODD}]")
"""those too that have their place in good text: spaces of other widths, soft hyphens, joiners in emoji and between some letters"""
_LINK = re.compile(r"https?://|mailto:", re.I)


# -- the filters -------------------------------------------------------------------------------------------------------


@pass_context
def said(context: Context, text: object, whole: str = "", most: int = SHOWN) -> Markup:
    """A text as it should look. `whole`: the address where all of one stands that is longer than `most` characters."""
    shown, rest = _beginning(str(text), most)
    return _with_rest(context, markdown(shown), rest, whole)


@pass_context
def code(context: Context, text: object, language: str = "json", whole: str = "", most: int = SHOWN) -> Markup:
    """The text of a program in colours; JSON is laid out anew."""
    shown, rest = _beginning(pretty(str(text)) if language == "json" else str(text), most)
    return _with_rest(context, Markup('<pre class="code" dir="ltr"><code>{}</code></pre>').format(coloured(shown, language)), rest, whole)


@pass_context
def raw(context: Context, text: object, whole: str = "", most: int = SHOWN) -> Markup:
    """A text exactly as it is: whitespace kept, everything invisible marked as its code point."""
    shown, rest = _beginning(str(text), most)
    return _with_rest(context, exact(shown), rest, whole)


def snippet(text: object, length: int = 160, sought: Sequence[str] = ()) -> Markup:
    """The beginning of a text on one line; the words that are `sought` stand out."""
    line = " ".join(str(text)[: 4 * length].split())
    line = line if len(line) <= length else line[: length - 1] + "\u2026"
    parts = re.split(f"({'|'.join(map(re.escape, sought))})", line, flags=re.I) if sought else [line]
    told = [Markup("<mark>{}</mark>").format(_marked(part)) if at % 2 else _marked(part) for at, part in enumerate(parts)]
    return Markup('<bdi class="snippet">{}</bdi>').format(Markup("").join(told))


def changed(pieces: Iterable[Piece]) -> Markup:
    """What a comparison has found, with what is gone struck out and what has come underlined."""
    tags = {"same": "{}", "gone": "<del>{}</del>", "come": "<ins>{}</ins>"}
    shown = Markup("").join(Markup(tags[piece.change]).format(_marked(piece.text)) for piece in pieces)
    return Markup('<div class="raw changed" dir="auto">{}</div>').format(shown)


page.filters.update(said=said, code=code, raw=raw, snippet=snippet, changed=changed)


# -- what they are made of ---------------------------------------------------------------------------------------------


def markdown(text: str) -> Markup:
    """A text as it should look; as it is where it is nested too deeply to be rendered whole."""
    parser = _parser()
    found = parser.parse(text)
    if any(token.level >= NESTING for token in found):
        return exact(text)
    left = COLOURED
    for block in found:
        if block.type == "fence":
            left -= len(block.content)
            block.info = block.info if left > 0 else ""
    made = parser.renderer.render(found, parser.options, {})
    return Markup('<div class="said" dir="auto">{}</div>').format(Markup(made))  # all of it was made by _Renderer


def exact(text: str) -> Markup:
    """A text as it is."""
    return Markup('<div class="raw" dir="auto">{}</div>').format(_marked(text, _HIDDEN_OR_ODD))


def coloured(text: str, language: str) -> Markup:
    """Code with its words in elements by their class; without where the language is not known, or there is too much of it."""
    from pygments import highlight
    from pygments.lexers import get_lexer_by_name

    name = language.lower()
    if name not in LANGUAGES.split() or len(text) > COLOURED or re.search(r"\s{100}", text):
        return _marked(text)
    lexer = get_lexer_by_name({"golang": "go", "c++": "cpp"}.get(name, name), stripnl=False, ensurenl=False)
    made = highlight(text, lexer, _formatter())
    made = made if text.endswith("\n") else made.removesuffix("\n")
    return Markup(_HIDDEN.sub(_mark, made))  # Pygments has escaped it; its own classes hold no such characters


@cache
def _formatter() -> Any:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(nowrap=True, classprefix="t-")


def pretty(text: str) -> str:
    """JSON laid out over lines; any other text as it is."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(found, ensure_ascii=False, indent=2) if isinstance(found, dict | list) else text


def storable(value: Any) -> Any:
    """A value of a ledger as UTF-8 can hold it: half of a surrogate pair becomes a question mark."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {storable(key): storable(one) for key, one in value.items()}
    return [storable(one) for one in value] if isinstance(value, list | tuple) else value


def _beginning(text: str, most: int) -> tuple[str, int]:
    """What is shown of a text, cut at the end of a line if there is one near, and how many characters are left."""
    if len(text) <= most:
        return text, 0
    cut = text.rfind("\n", most - 500, most)
    shown = text[: cut if cut > 0 else most]
    return shown, len(text) - len(shown)


def _with_rest(context: Context, shown: Markup, rest: int, whole: str) -> Markup:
    if not rest:
        return shown
    say = context.get("_") or words.speaking("en")
    more = say("{n} characters more", n=f"{rest:,}")
    told = Markup('<a href="{}">{}</a>').format(whole, say("show all of it")) if whole else ""
    return shown + Markup('<p class="rest faint">\u2026 {} {}</p>').format(more, told)


def _marked(text: str, hidden: re.Pattern[str] = _HIDDEN) -> Markup:
    return Markup(hidden.sub(_mark, str(escape(text))))  # escaped before anything is put in


def _mark(found: re.Match[str]) -> str:
    name = unicodedata.name(found[0], "")
    told = f' title="{name}"' if name else ""
    return f'<span class="unseen"{told}>U+{ord(found[0]):04X}</span>'


# -- Markdown ----------------------------------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    """Made once: nothing is kept in it from one text to the next."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 2 * NESTING}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.validateLink = _may_link  # type: ignore[method-assign]
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.block.ruler.before("fence", "display", _display, {"alt": ["paragraph", "blockquote", "list"]})
    parser.core.ruler.push("tasks", _tasks)
    return parser


def _may_link(url: str) -> bool:
    return _LINK.match(url) is not None


class _Renderer(RendererHTML):
    """Every element that a text may become. What a token says of attributes is not asked, but for those named here."""

    def render(self, tokens: Sequence[Token], options: OptionsDict, env: Any) -> str:
        return "".join(self._one(token) for token in tokens)

    def _one(self, token: Token) -> str:
        if token.type == "inline":
            return "".join(self._one(child) for child in token.children or ())
        return _RULES[token.type](token)


def _tag(token: Token) -> str:
    """An element without attributes. A title of a text stands below those of the page."""
    if token.hidden:  # the paragraph of a tight list
        return "\n" if token.nesting < 0 else ""
    tag = f"h{min(6, int(token.tag[1]) + 3)}" if token.type.startswith("heading") else token.tag
    return f"</{tag}>" if token.nesting < 0 else f"<{tag}>"


def _cell(token: Token) -> str:
    """A cell of a table, to the left, to the right or in the middle."""
    side = str(token.attrGet("style") or "").removeprefix("text-align:")
    return f'<{token.tag} class="{side}">' if side in ("left", "right", "center") else f"<{token.tag}>"


def _list(token: Token) -> str:
    start = token.attrGet("start")
    return f'<ol start="{int(start)}">' if start is not None else "<ol>"


def _code(token: Token) -> str:
    language = token.info.split()[0] if token.info.split() else ""
    return f'<pre class="code" dir="ltr"><code>{coloured(token.content, language)}</code></pre>'


def _link(token: Token) -> str:
    href = escape(storable(str(token.attrGet("href") or "")))
    return f'<a href="{href}" title="{href}" rel="noopener noreferrer nofollow">'


def _image(token: Token) -> str:
    """An image is never fetched: what it would show, and where it is."""
    told = "".join(child.content for child in token.children or ())
    return f'<span class="picture">{_marked(told)} <span class="faint">{_marked(str(token.attrGet("src") or ""))}</span></span>'


def _math(token: Token) -> str:
    kind = "display" if token.markup == "display" else "inline"
    tag = "div" if token.block else "span"
    return f'<{tag} class="math {kind}" dir="ltr">{_marked(token.content)}</{tag}>'


def _rules() -> Iterator[tuple[str, Callable[[Token], str]]]:
    for name in ("paragraph", "heading", "blockquote", "bullet_list", "list_item", "table", "thead", "tbody", "tr", "em", "strong", "s"):
        yield f"{name}_open", _tag
        yield f"{name}_close", _tag
    for name in ("ordered_list", "th", "td", "link"):
        yield f"{name}_close", _tag
    yield from {"ordered_list_open": _list, "th_open": _cell, "td_open": _cell, "link_open": _link, "image": _image, "math": _math}.items()
    yield from {"fence": _code, "code_block": _code, "hr": lambda token: "<hr>"}.items()
    yield from {"softbreak": lambda token: "<br>\n", "hardbreak": lambda token: "<br>\n"}.items()
    yield "text", lambda token: _marked(token.content)
    yield "code_inline", lambda token: f"<code>{_marked(token.content)}</code>"


_RULES = dict(_rules())


# -- formulas ----------------------------------------------------------------------------------------------------------

_MATH = re.compile(
    r"(?P<display>\$\$(?P<two>(?:[^$\\]|\\.)+)\$\$(?!\$)|\\\[(?P<square>.+?)\\\]"
    rf"|(?P<whole>\\begin\{{(?P<name>(?:{'|'.join(ENVIRONMENTS.split())})\*?)\}}.*?\\end\{{(?P=name)\}}))"
    r"|\$(?![\s$])(?P<one>(?:[^$\\]|\\.)+)(?<!\s)\$(?![0-9A-Za-z$])|\\\((?P<round>.+?)\\\)",
    re.S,
)
"""formulas: $$..$$, \\[..\\], environments; $..$ that opens before and closes behind no space and no letter or figure; \\(..\\)"""
_MONEY = re.compile(r"\d[\d,.]*\s*(?:[A-Za-z]{2,}|[\u3000-\u9fff\uff00-\uffef])(?!.*[\\^_={}])|.+[-+*/=\u2013\u00d7\u00f7<>]$|.*\n", re.S)
"""what stands between two signs of a currency: figures and then words, half of a sum, more than a line"""
_CLOSES = {"$$": "$$", "\\[": "\\]"}


def _formula(state: StateInline, silent: bool) -> bool:
    """Inline rule: a formula within a paragraph."""
    at = state.pos
    if state.src[at] not in "$\\" or (state.src[at] == "$" and at and re.match(r"[0-9A-Za-z$]", state.src[at - 1])):
        return False
    found = _MATH.match(state.src, at, min(state.posMax, at + FORMULA))
    if found is None or (found["one"] and _MONEY.match(found["one"])):
        return False
    if not silent:
        token = state.push("math", "", 0)
        token.content = next(found[name] for name in ("two", "square", "whole", "one", "round") if found[name])
        token.markup = "display" if found["display"] else "inline"
    state.pos = found.end()
    return True


def _display(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Block rule: a formula on lines of its own, which may look like a list, a rule or a title."""
    begin = state.bMarks[start] + state.tShift[start]
    first = state.src[begin : state.eMarks[start]]
    named = re.match(rf"\\begin\{{((?:{'|'.join(ENVIRONMENTS.split())})\*?)\}}", first)
    closes = f"\\end{{{named[1]}}}" if named else _CLOSES.get(first[:2])
    if closes is None or state.is_code_block(start):
        return False
    close = state.src.find(closes, begin + 2, min(state.eMarks[end - 1], begin + FORMULA))
    if close < 0 or "\n\n" in state.src[begin:close]:
        return False
    last = next(line for line in range(start, end) if state.eMarks[line] >= close)
    if state.src[close + len(closes) : state.eMarks[last]].strip():
        return False  # it goes on behind the formula: a paragraph
    if not silent:
        token = state.push("math", "", 0)
        text = state.getLines(start, last + 1, state.sCount[start], False).strip()
        token.content = text if named else text[2:-2].strip()
        token.markup, token.block, token.map = "display", True, [start, last + 1]
    state.line = last + 1
    return True


def _tasks(state: StateCore) -> None:
    """Core rule: the boxes of a list of tasks."""
    for before, token in zip(state.tokens[1:], state.tokens[2:], strict=False):
        if token.type == "inline" and before.type == "paragraph_open" and token.children and token.level >= 3:
            first = token.children[0]
            if first.type == "text" and first.content[:4].lower() in ("[ ] ", "[x] "):
                first.content = ("\u2610 " if first.content[1] == " " else "\u2611 ") + first.content[4:]
