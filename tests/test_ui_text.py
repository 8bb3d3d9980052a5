"""Text of models in a page: it looks as it should, and nothing in it runs, loads, leads astray or hides."""

import re
import time
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Template
from selectolax.lexbor import LexborHTMLParser

from leafmill.ui import page, text, words

ALLOWED: dict[str, set[str]] = {
    "div": {"class", "dir"},
    "span": {"class", "dir", "title"},
    "pre": {"class", "dir"},
    "a": {"href", "title", "rel"},
    "p": {"class"},
    "ol": {"start"},
    "th": {"class"},
    "td": {"class"},
    "bdi": {"class"},
}
PLAIN = "h4 h5 h6 blockquote ul li table thead tbody tr em strong s hr br code"
ALLOWED |= {name: set() for name in PLAIN.split()}
CLASSES = re.compile(r"(said|raw|code|math|inline|display|picture|faint|unseen|rest|snippet|left|right|center|t-[a-z0-9]{1,3})?")
HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>",
    "<!-- comment --><!DOCTYPE html><![CDATA[ x ]]><?php ?>",
    "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html;base64,PHNjcmlwdD4=) [d](vbscript:x) [e](&#106;avascript:x)",
    "[x]: javascript:alert(1)\n\n[x] <javascript:alert(1)> <data:text/html,x>",
    '[a](https://example.org "x\\" onmouseover=\\"alert(1)") [b](https://example.org/"onclick="x)',
    '![a](https://example.org/x.png) ![b](javascript:alert(1)) ![c" onerror="x](data:image/svg+xml,<svg>)',
    "$\\href{javascript:alert(1)}{x}$ $\\htmlId{main}{x}$ $$\\includegraphics{https://example.org/x}$$ $</span><script>$",
    '<div hx-get="/x" hx-trigger="load">x</div>',
    "<style>body{display:none}</style> `</code><style>` \n\n```html\n</code></pre><script>alert(1)</script>\n```",
    '```" onclick="alert(1)\nx\n```\n\n```python<script>\nx\n```',
    "{{ 7 * 7 }} {% raw %} ${x} <%= x %>",
    "</textarea></title></div></body><script>alert(1)</script>",
    "a\u202eb\u2066c\u200bd\x00e\x1b[31mf\ud800g\udfffh\ufeffi\U000e0041j",
    "|a|b|\n|:-:|-|\n|<b>|`|`|\n",
    ":-: style=x\n\n1000000000000. a\n\n7. b",
    "\\[\n<script>\n\\]\n\n\\begin{align}\n</div><b>\n\\end{align}",
]


def alone(markup: str) -> LexborHTMLParser:
    """The text of a page that holds this markup and nothing else, checked for what may be in it."""
    tree = LexborHTMLParser(f"<!doctype html><html><head></head><body><main>{markup}</main><i id=end></i></body></html>")
    for node in tree.css("main *"):
        assert node.tag in ALLOWED, node.html
        attributes = node.attributes
        assert set(attributes) <= ALLOWED[node.tag], node.html
        assert all(CLASSES.fullmatch(name) for name in (attributes.get("class") or "").split()), node.html
        if node.tag == "a":
            assert re.match(r"(https?://|mailto:)", attributes["href"] or "", re.I), node.html
            assert attributes["rel"] == "noopener noreferrer nofollow"
    assert len(tree.css("body > *")) == 2, "something has closed what it stands in"
    shown = tree.css_first("main").text()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    markup.encode()
    return tree


def filtered(name: str, value: str, **options: object) -> str:
    template: Template = page._environment.from_string("{{ value | " + name + "(**options) }}")
    return template.render(value=value, options=options, _=words.speaking("en"))


@pytest.mark.parametrize("name", ["said", "code", "raw", "snippet"])
@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_a_row_says_becomes_an_element_of_its_own(name: str, value: str) -> None:
    alone(filtered(name, value))


MARKS = "\n \n\n > - 1. ` ``` $ $$ \\( \\) [ ]( ) | ~~ * #"
PIECES = st.sampled_from([*HOSTILE, *MARKS.split(" ")])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=12).map("".join))
@example("> " * 50 + "deep")
def test_whatever_a_text_is_made_of_only_known_elements_come_out(value: str) -> None:
    for make in (
        text.markdown,
        text.exact,
        text.snippet,
        partial(text.coloured, language="html"),
        partial(text.coloured, language="python"),
    ):
        alone(str(make(value)))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_raw_text_is_all_there_with_what_is_unseen_as_code_points(value: str) -> None:
    shown = alone(str(text.exact(value))).css_first(".raw").text()
    expected = "".join(f"U+{ord(c):04X}" if text._HIDDEN_OR_ODD.match(c) else c for c in value)
    assert shown == expected


def test_markdown_looks_as_it_should() -> None:
    tree = alone(
        text.markdown(
            "# Title\n\nSome **strong** and ~~struck~~ words,\non two lines.\n\n- [ ] open\n- [x] done\n\n"
            "| a | b |\n|:--|--:|\n| 1 | 2 |\n\n```python\ndef f(): return 1\n```\n\n[a link](https://example.org/a?b=c&d) ![a cat](https://example.org/c.png)"
        )
    )
    assert [tree.css_first(tag).text() for tag in ("h4", "strong", "s")] == ["Title", "strong", "struck"]
    assert [item.text().strip() for item in tree.css("li")] == ["\u2610 open", "\u2611 done"]
    assert [cell.attributes["class"] for cell in tree.css("td")] == ["left", "right"]
    assert tree.css_first("pre.code .t-k").text() == "def"
    assert tree.css_first("a").attributes["href"] == "https://example.org/a?b=c&d"
    assert tree.css_first(".picture").text() == "a cat https://example.org/c.png"
    assert not tree.css("img")


@pytest.mark.parametrize(
    ("value", "formulas"),
    [
        ("It is $x^2$ and $$\\frac12$$, or \\(a_1*b*c\\) or \\[b\\].", ["x^2", "\\frac12", "a_1*b*c", "b"]),
        ("所以$a=1$，答案是$5$。", ["a=1", "5"]),
        ("\\[\n- a\n+ b\n\\]", ["- a\n+ b"]),
        ("$$\nx\n\n$$ no", []),
        ("> \\begin{align*}\n> a &= b \\\\\n> \\end{align*}", ["\\begin{align*}\na &= b \\\\\n\\end{align*}"]),
        ("so \\begin{cases} 1 \\end{cases} then", ["\\begin{cases} 1 \\end{cases}"]),
        ("it costs $5 and $6", []),
        ("from $5-$10, in all US$5 or HK$6", []),
        ("24 x $2 = $<<24*2=48>>48, and $9 *2 = $18; $5\nto $x$", ["x"]),
        ("$5 or 6$ a month; $100元和$200元", []),
        ("$HOME/$PATH and \\$x\\$ and $ x $", []),
        ("`$x$` and\n\n    $x$", []),
        ("\\begin{itemize}\n\\end{itemize}", []),
        ("$" + "x" * (text.FORMULA + 1) + "$", []),
    ],
)
def test_formulas_are_told_from_money(value: str, formulas: list[str]) -> None:
    assert [node.text() for node in alone(text.markdown(value)).css(".math")] == formulas


def test_a_link_says_where_it_leads() -> None:
    link = alone(text.markdown("[https://bank.example](https://evil.example/p\u202eath)")).css_first("a")
    assert link.attributes["title"] == link.attributes["href"] == "https://evil.example/p%E2%80%AEath"


@pytest.mark.parametrize("value", [">" * 10_000 + "x", "> " * 5000 + "x", "[" * 20_000, "$$\n" * 6000, "\\begin{align}\n" * 1400])
def test_a_text_that_is_made_to_be_slow_is_not(value: str) -> None:
    began = time.process_time()
    shown = alone(text.markdown(value)).css_first("main").text()
    assert time.process_time() - began < 10
    assert shown.count(">") == value.count(">"), "what is nested too deeply is not lost"


@pytest.mark.parametrize("name", ["said", "raw"])
def test_of_a_very_long_text_the_beginning_is_shown_and_where_the_rest_is(name: str) -> None:
    value = "a line of it\n" * 16_000
    tree = alone(re.sub(r"<a href=\"/all\">(.*?)</a>", r"\1", filtered(name, value, whole="/all")))
    assert len(tree.css_first("main").text()) < text.SHOWN + 100
    assert "characters more show all of it" in tree.css_first(".rest").text()
    assert '<a href="/all">' in filtered(name, value, whole="/all")
    assert 'class="rest' not in filtered(name, "short", whole="/all")


def test_json_is_laid_out_anew_and_coloured() -> None:
    tree = alone(filtered("code", '{"b":1,"a":"\u4f60\u597d <b>"}'))
    assert tree.css_first("code").text() == '{\n  "b": 1,\n  "a": "\u4f60\u597d <b>"\n}'
    assert alone(filtered("code", "not { json")).css_first("code").text() == "not { json"


def test_a_snippet_is_one_line() -> None:
    assert alone(filtered("snippet", "a\n\n  b\tc " + "x" * 500, length=20)).css_first("bdi").text() == "a b c " + "x" * 13 + "\u2026"
