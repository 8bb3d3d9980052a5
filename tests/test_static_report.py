"""`leafmill report --html`: one file that holds the pages of a run, and nothing that acts or leads out of it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leafmill.runfolder import RunFolder
from leafmill.ui.still import report as static_report
from leafmill.ui.still.frozen import Still
from tests import ui
from tests.terminal import leafmill


class Read(HTMLParser):
    """What elements and attributes there are, and what is said."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def said(html: str) -> str:
    return re.sub(r"\s+", " ", Read(html).text)


still = Still(lambda phrase, **values: phrase.format(**values), text=20, rows=2)


@pytest.fixture(scope="module")
def spoilt(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose candidates do what harm they can; it has one of each kind."""
    runs = ui.copy_of(shop, tmp_path_factory.mktemp("spoilt"))
    ui.spoil(runs)
    return runs


@pytest.fixture(scope="module")
def report(spoilt: Path) -> str:
    told = leafmill(spoilt, "report", ui.NAME, "--html", "--lang", "zh", "--runs", spoilt, "--out", "out/r.html")
    assert told.code == 0, told.err
    assert "wrote out/r.html" in told.out
    return (spoilt / "out" / "r.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(report: str) -> Read:
    return Read(report)


def test_it_shows_all_parts_of_the_run(report: str, found: Read) -> None:
    for part in ("leaves", "funnel", "coverage", "distributions", "judges", "spending", "failures", "roles", "traces"):
        assert re.search(rf'<(div|section) id="{part}">\s*<', report), part
    text = found.text
    for leaf in ("sums", "advice", "orders", "notes"):
        assert f"whole/{leaf}" in text
    assert report.count("<svg") > 20, "charts and the graph are drawn"
    assert 'class="graph"' in report
    assert "vote.no_consensus" in text
    assert len(re.findall(r'<details class="trace">', report)) >= 9
    assert "annotator-clarity@judge-two" in text, "who voted, and how"
    assert "minhash" in text, "which gates it met"


def test_nothing_in_it_acts_or_leads_out(report: str, found: Read) -> None:
    assert not found.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "button", "input", "img", "template", "dialog"}
    assert not [
        name for name, _ in found.attributes if name.startswith(("on", "hx-", "data-chart", "sse-")) or name in ("style", "src", "srcset")
    ]
    assert all(value.startswith("#") for name, value in found.attributes if name.endswith("href"))
    assert "url(" not in re.search(r"<style>(.*?)</style>", report, re.DOTALL)[1]
    assert "harm.example" in found.text, "it is said, not done"


def test_its_policy_forbids_all_but_its_own_style(report: str, found: Read) -> None:
    policy = next(value for name, value in found.attributes if name == "content" and "default-src" in value)
    style = re.search(r"<style>(.*?)</style>", report, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_every_place_that_it_leads_to_is_in_it_once(report: str, found: Read) -> None:
    ids = re.findall(r'\bid="([^"]+)"', report)
    assert len(ids) == len(set(ids))
    assert {place[1:] for name, place in found.attributes if name == "href"} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", report)) <= set(ids)


def test_it_is_in_the_language_asked_for(report: str, spoilt: Path) -> None:
    assert '<html lang="zh-Hans">' in report
    assert "<h2>轨迹</h2>" in report
    wrong = leafmill(spoilt, "report", ui.NAME, "--html", "--lang", "fr", "--runs", spoilt)
    assert wrong.code != 0
    assert "'fr'" in wrong.err
    assert "en, zh" in wrong.err


def test_traces_beyond_its_size_are_left_out_and_it_says_so(spoilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_report, "SIZE", 0)
    report = static_report.render(RunFolder(spoilt / ui.NAME))
    assert '<details class="trace">' not in report
    assert re.search(r"\d+ more would have made the file too large", said(report))


# -- a page made still -------------------------------------------------------------------------------------------------


def test_a_link_becomes_text_unless_it_leads_to_a_place_of_the_same_page() -> None:
    html = still('<a href="/x" class="k">there</a> <a href="#y">here</a><i id="y"></i><svg><a href="/z"><rect x="1"/></a></svg>', "p-")
    assert html == '<data class="k">there</data> <a href="#p-y">here</a><i id="p-y"></i><svg><g><rect x="1"></rect></g></svg>'


def test_what_acts_goes_with_all_that_is_in_it() -> None:
    html = still(
        'a<form action="/"><input name="x"><p>b</p></form><script>c</script><b onclick="d()" style="e" hx-get="/f">g</b><img src="h">', ""
    )
    assert html == "a<b>g</b>"


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    html = still(f'<div class="said"><p>{"x" * 15}</p><p>{"y" * 15}&lt;{"z" * 5}</p></div><p>{"w" * 50}</p>', "")
    assert (
        html == f'<div class="said"><p>{"x" * 15}</p><p>{"y" * 5}</p><span class="cut">… 16 more characters</span></div><p>{"w" * 50}</p>'
    )


def test_a_long_table_is_cut_and_says_by_how_much() -> None:
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in range(5))
    assert said(still(f"<table><tbody>{rows}</tbody></table>", "")) == "01… 3 more lines"


def test_what_a_page_would_fetch_stands_in_it_or_is_left_out() -> None:
    folded = '<details hx-get="{}" hx-trigger="toggle once"><summary>s</summary><div class="body"><a href="/t">t</a></div></details>'
    html = still(
        f'<div data-chart="/c"><p>p</p></div>{folded.format("/u")}{folded.format("/v")}', "", {"/c": "<svg></svg>", "/u": "<b>u</b>"}
    )
    assert html == '<svg></svg><details><summary>s</summary><div class="body"><b>u</b></div></details>'


def test_what_was_escaped_stays_escaped() -> None:
    assert (
        still('<p title="&quot;&lt;">&lt;script&gt; &#60;b&#62; &amp;lt;</p>', "")
        == '<p title="&quot;&lt;">&lt;script&gt; &#60;b&#62; &amp;lt;</p>'
    )
