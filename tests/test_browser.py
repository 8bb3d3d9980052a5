"""The pages in a real browser: Chromium over `leafmill ui`, on runs made by the scripted server.

Every tab is watched while it is open: an error on its console, a violation of the content security policy, a dialog, a request to another
origin or a reply with an error status fails the test that opened it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import sqlalchemy as sa

from leafmill.ledger import CANDIDATES, REVIEWS, Ledger
from leafmill.runfolder import RunFolder
from leafmill.ui.still import report as static_report
from tests import ui

playwright = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ANSWERS = re.compile(r"http://127\.0\.0\.1:\d+")
ABORTED = r"^console: htmx:(afterRequest|sendAbort), "
"""what htmx says when the reader has gone on before an answer came"""
TELL = "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))"


def chromium() -> str:
    """The browser's path; without one the tests are skipped, except where CI is set."""
    found = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)
    if found is None:
        why = f"no browser: put one of {', '.join(NAMES)} in PATH (Debian: apt-get install chromium), or its path in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=path, args=FLAGS)
        yield one
        one.close()


@pytest.fixture(scope="module")
def site(shop: Path) -> Iterator[str]:
    """The address of the pages of `shop`, which tests only look at."""
    with serving(shop) as address:
        yield address


@contextmanager
def serving(runs: Path) -> Iterator[str]:
    """`leafmill ui` over a folder of runs, as a process; its address."""
    with process("ui", "--runs", runs, "--port", 0) as one:
        wait(lambda: one.code is not None or ANSWERS.search(one.said), "leafmill ui to say where it is")
        assert one.code is None, one.said
        yield ANSWERS.findall(one.said)[0]
        sys.stdout.write(one.said)


@dataclass
class Process:
    """A command that was started, and what it says."""

    one: subprocess.Popen[str]
    told: IO[str]

    @property
    def code(self) -> int | None:
        return self.one.poll()

    @property
    def said(self) -> str:
        return Path(self.told.name).read_text(encoding="utf-8")


@contextmanager
def process(*words: object) -> Iterator[Process]:
    """A command of Leafmill; it is ended with the block."""
    command = [sys.executable, "-m", "leafmill.cli", *map(str, words)]
    with tempfile.NamedTemporaryFile("w+") as told:  # not a pipe, which would fill up when nobody reads it
        one = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "200"})
        try:
            yield Process(one, told)
        finally:
            one.terminate()
            try:
                one.wait(20)
            finally:
                one.kill()


def wait(until: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What `until` gives as soon as it is something. (Playwright's own wait_for_function needs eval, which the pages forbid.)"""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)
    return found


# -- a tab that is watched ---------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """What went wrong in a tab while it was open."""

    origin: str
    faults: list[str] = field(default_factory=list)

    def watch(self, tab: Any) -> None:
        tab.on("console", lambda message: self.note(f"console: {message.text} ({message.location.get('url')})", message.type == "error"))
        tab.on("pageerror", lambda fault: self.note(f"script: {fault}"))
        tab.on("dialog", lambda dialog: (self.note(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("popup", lambda other: self.note(f"a window opened: {other.url}"))
        tab.on("request", lambda request: self.note(f"foreign: {request.url}", not request.url.startswith((self.origin, "data:"))))
        tab.on("response", lambda response: self.note(f"status {response.status}: {response.url}", response.status >= 400))

    def note(self, what: str, is_fault: bool = True) -> None:
        if is_fault and not re.search(ABORTED, what):
            self.faults.append(what)


@contextmanager
def opened(browser: Any, address: str, *, language: str = "en", dark: bool = False, narrow: bool = False) -> Iterator[Any]:
    """A tab of a new visitor (no cookies of others); when the block ends, nothing may have gone wrong in it."""
    context = browser.new_context(
        base_url=address,
        locale={"en": "en-GB", "zh": "zh-CN"}[language],
        color_scheme="dark" if dark else "light",
        viewport=NARROW if narrow else WIDE,
        reduced_motion="reduce",
    )
    context.set_default_timeout(15_000)
    context.add_init_script(TELL)
    watched = Watched(address)
    tab = context.new_page()
    watched.watch(tab)
    try:
        yield tab
    finally:
        context.close()
    if watched.faults:
        pytest.fail("\n".join(dict.fromkeys(watched.faults)), pytrace=False)


# -- every page --------------------------------------------------------------------------------------------------------


def addresses(runs: Path, name: str = ui.NAME) -> dict[str, str]:
    """One address of each page."""
    run, id_ = f"/runs/{name}", ui.an_id(runs, "waiting", name, code="agreement*", leaf="*/notes")
    return {
        "runs": "/",
        "run": run,
        "candidates": f"{run}/candidates",
        "candidate": f"{run}/candidates/{id_}",
        "raw": f"{run}/candidates/{id_}?raw=1",
        "review": f"{run}/review",
        "roles": f"{run}/roles",
        "role": f"{run}/roles/writer",
        "compare": f"/compare?a={name}&b={name}:writer.zh",
        "api": "/api",
    }


def settle(tab: Any) -> None:
    """Wait until what the page asks for by itself is there."""
    tab.wait_for_load_state("load")
    wait(lambda: tab.evaluate("!document.querySelector('.htmx-request')"), "what the page asks for")


PAGES = ("runs", "run", "candidates", "candidate", "raw", "review", "roles", "role", "compare", "api")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_a_fault_in_both_languages_and_fits_a_phone(browser: Any, site: str, shop: Path, page: str) -> None:
    address = addresses(shop)[page]
    for language, narrow in (("en", False), ("zh", True)):
        with opened(browser, site, language=language, narrow=narrow, dark=narrow) as tab:
            tab.goto(address)
            settle(tab)
            assert tab.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-Hans"}[language]
            assert tab.locator("main h1").count() == 1
            assert bool(re.search("[\u4e00-\u9fff]", tab.locator("a.skip").text_content())) == (language == "zh")
            for width in (390, 1280):
                tab.set_viewport_size({"width": width, "height": 844})
                too_wide = tab.evaluate(TOO_WIDE)
                assert not too_wide, f"{address} scrolls sideways at {width} px: {too_wide}"


TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const inside = (e) => e.parentElement && (getComputedStyle(e.parentElement).overflowX !== "visible" || inside(e.parentElement));
  return [...document.querySelectorAll("main *, header *")].filter((e) => e.getBoundingClientRect().right > room + 1 && !inside(e))
    .map((e) => `${e.tagName}.${e.className}`).slice(0, 5).concat(document.documentElement.scrollWidth);
}"""


def test_language_and_theme_are_switched_and_kept(browser: Any, site: str) -> None:
    with opened(browser, site) as tab:
        tab.goto("/")
        tab.get_by_role("button", name="中文").click()
        tab.wait_for_selector("html[lang=zh-Hans]")
        for theme in ("light", "dark"):
            tab.locator("button[name=theme]").click()
            tab.wait_for_selector(f"html[data-theme={theme}]")
        tab.goto(f"/runs/{ui.NAME}/candidates")
        assert tab.locator("html").get_attribute("data-theme") == "dark"
        assert tab.locator("html").get_attribute("lang") == "zh-Hans"
        red, *_ = map(int, re.findall(r"\d+", tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")))
        assert red < 60, "paper is dark in the dark"


def test_keys_are_shown_and_lead_from_page_to_page(browser: Any, site: str) -> None:
    with opened(browser, site) as tab:
        tab.goto("/")
        tab.keyboard.press("?")
        assert tab.locator("dialog#keys").is_visible()
        tab.keyboard.press("Escape")
        assert not tab.locator("dialog#keys").is_visible()
        tab.keyboard.press("j")
        tab.keyboard.press("Enter")
        tab.wait_for_url(f"**/runs/{ui.NAME}")
        tab.keyboard.type("gc")
        tab.wait_for_url("**/candidates")
        tab.keyboard.press("/")
        assert tab.evaluate("document.activeElement.type") == "search"


# -- from a bar to a trace ---------------------------------------------------------------------------------------------


def found(tab: Any) -> int:
    """How many candidates the table says that it found."""
    return min(int(number.replace(",", "")) for number in re.findall(r"[\d,]+", tab.locator(".found").inner_text()))


def test_a_bar_leads_to_its_candidates_and_these_to_a_trace(browser: Any, site: str) -> None:
    with opened(browser, site) as tab:
        tab.goto("/")
        tab.get_by_role("link", name=ui.NAME, exact=True).first.click()
        bar = tab.locator("#chart-panel .plot svg .mark-rect path[aria-roledescription=bar], #chart-panel .plot svg .mark-rect path").last
        bar.scroll_into_view_if_needed()
        bar.hover()
        told = tab.locator("#told").inner_text()
        bar.click()
        tab.wait_for_url("**/candidates?*panel.min=*")
        assert found(tab) == int(told.rpartition(" ")[2]) > 0
        first = tab.locator("table.candidates tbody tr").first
        leaf = first.locator("td").nth(2).inner_text().splitlines()[0]
        first.locator("a[href*='/candidates/']").first.click()
        tab.wait_for_url(re.compile(r"/candidates/[0-9a-f]{16}$"))
        assert leaf in tab.locator("main").inner_text()
        tab.locator("details.step").first.locator("summary").first.click()
        prompt = tab.locator("details.step[open] details.prompt").first
        prompt.locator("summary").click()
        prompt.locator(".turn").first.wait_for()


def test_a_number_leads_to_as_many_candidates(browser: Any, site: str) -> None:
    with opened(browser, site) as tab:
        for place in ("#funnel .reasons a", "#coverage table.heat tbody a", "#leaves tbody td a"):
            tab.goto(f"/runs/{ui.NAME}")
            link = tab.locator(place).first
            said = link.inner_text()
            link.click()
            tab.wait_for_selector(".found")
            assert found(tab) == int(said.rpartition("/")[2].replace(",", "")), place


def test_all_charts_are_drawn_and_follow_the_theme(browser: Any, site: str) -> None:
    for dark in (False, True):
        with opened(browser, site, dark=dark) as tab:
            tab.goto(f"/runs/{ui.NAME}")
            wait(lambda: tab.evaluate(DRAWN), "all charts")
            assert tab.locator("[data-chart]").count() >= 6
            ink = tab.evaluate("getComputedStyle(document.querySelector('#chart-panel svg text')).fill")
            assert (int(re.search(r"\d+", ink)[0]) > 128) == dark


DRAWN = "[...document.querySelectorAll('[data-chart]')].every((one) => one.querySelector('svg .mark-rect path, svg .mark-symbol path'))"


def test_candidates_are_searched_in_chinese_and_the_page_is_kept_in_its_address(browser: Any, site: str) -> None:
    with opened(browser, site, language="zh") as tab:
        tab.goto(f"/runs/{ui.NAME}/candidates")
        everyone = found(tab)
        tab.keyboard.press("/")
        tab.keyboard.type("假设你是")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**q=*")
        wait(lambda: found(tab) != everyone, "the table to have been searched")
        fewer = found(tab)
        assert 0 < fewer < everyone
        tab.reload()
        assert found(tab) == fewer
        assert tab.locator("mark", has_text="假设你是").count() > 0, "what was sought is marked"


# -- what a model wrote ------------------------------------------------------------------------------------------------


def test_hostile_content_stays_inert_on_every_page(browser: Any, shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    ids = ui.spoil(runs)
    here = f"/runs/{ui.NAME}"
    pages = [address for id_ in ids.values() for address in (f"{here}/candidates/{id_}", f"{here}/candidates/{id_}?raw=1")]
    pages += ["/", here, f"{here}/candidates?q=harmed", f"{here}/review?ids={ids['waiting']}", f"{here}/review/agreement"]
    pages += [
        f"{here}/roles/annotator-clarity",
        f"/compare?a={ui.NAME}&b={ui.NAME}:writer.zh",
        f"{here}/candidates/{ids['accepted']}/text/row.answer",
    ]
    with serving(runs) as address, opened(browser, address) as tab:
        for page in pages:
            tab.goto(page)
            settle(tab)
            tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            settle(tab)
            tab.evaluate("document.querySelectorAll('main *').forEach((one) => { one.dispatchEvent(new Event('mouseover')); })")
            assert tab.evaluate("window.harmed") is None, page
            assert tab.evaluate(FOREIGN) == [], page
            assert tab.url == address + page
            assert tab.locator("main").is_visible()
        tab.goto(pages[0])
        assert "window.harmed = 1" in tab.locator("#row").inner_text(), "it is shown"


FOREIGN = """() => [
  ...[...document.scripts].filter((one) => !one.src.startsWith(location.origin + "/static/")),
  ...document.querySelectorAll("iframe, object, embed, meta[http-equiv], base, style, [srcdoc], [onerror], [onload], [onmouseover]"),
  ...document.querySelectorAll("[hx-get='/harm'], form[action^=http], [src*=harm], main a[href^='javascript:'], main a[href^='data:']"),
].map((one) => one.outerHTML.slice(0, 200))"""


def test_the_static_report_is_quiet_and_asks_for_nothing(browser: Any, shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    ui.spoil(runs)
    file = tmp_path / "report.html"
    with ThreadPoolExecutor() as beside:  # Playwright has a loop on this thread
        file.write_text(beside.submit(static_report.render, RunFolder(runs / ui.NAME)).result(), encoding="utf-8")
    with opened(browser, file.as_uri(), narrow=True) as tab:
        tab.goto(file.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert tab.evaluate("window.harmed") is None
        assert tab.evaluate("document.scripts.length") == 0
        assert tab.locator("#distributions svg .mark-rect path").first.is_visible()
        assert tab.evaluate(TOO_WIDE) == []


# -- people decide -----------------------------------------------------------------------------------------------------


def shown(tab: Any) -> str:
    """The id of the candidate that is to be decided; "" when nobody waits."""
    return (tab.locator("#review").get_attribute("data-claim") or "").rpartition("/claim")[0].rpartition("/")[2]


def press(tab: Any, *keys: str) -> str:
    """Decide what is shown by keys; its id, once the next one is shown."""
    decided = shown(tab)
    for key in keys:
        tab.keyboard.press(key)
    wait(lambda: shown(tab) != decided, f"another one than {decided} after {keys}", 20)
    return decided


def reviews(runs: Path) -> list[dict[str, Any]]:
    with Ledger(runs / ui.NAME / "ledger.db", read_only=True) as ledger:
        return ledger.rows(sa.select(REVIEWS).order_by(REVIEWS.c.id))


def candidate(runs: Path, id_: str) -> dict[str, Any]:
    with Ledger(runs / ui.NAME / "ledger.db", read_only=True) as ledger:
        (one,) = ledger.rows(sa.select(CANDIDATES).where(CANDIDATES.c.id == id_))
    return one


ASKED = "Tell the new clerk in one sentence how a box of old receipts is closed before it goes down to the cellar."
EDITED = "Write the number on the lid, in ink, and let the second clerk sign beside it before the box is carried down."


def test_ten_are_decided_by_keyboard_and_the_run_goes_on_by_it(browser: Any, shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    queue = f"/runs/{ui.NAME}/review?language=en&code=agreement.disagree"
    with serving(runs) as address, opened(browser, address) as tab:
        tab.goto(f"{queue}&leaf=whole/notes&reviewer=Ann")
        edited = shown(tab)
        tab.keyboard.press("e")
        assert tab.evaluate("document.activeElement.id") == "edit-answer"
        for part, text in (("answer", EDITED), ("instruction", ASKED), ("input", "")):
            tab.locator(f"#edit-{part}").fill(text)
        press(tab, "Control+Enter")
        tab.goto(queue)
        accepted = [press(tab, "a") for _ in range(5)]
        undone = press(tab, "a")
        tab.keyboard.press("u")
        wait(lambda: shown(tab) == undone, "what was taken back")
        rejected = [press(tab, "r", number) for number in "123"]
        press(tab, "s")
        made = {one["candidate"]: one for one in reviews(runs) if one["undone_at"] is None}
        assert {made[id_]["decision"] for id_ in accepted} == {"accept"}
        assert [made[id_]["code"] for id_ in rejected] == ["wrong", "unhelpful", "unsafe"]
        assert rejected[0] == undone
        assert made[edited]["decision"] == "edit"
        assert len(made) == 10
        assert {one["reviewer"] for one in made.values()} == {"Ann"}
        assert candidate(runs, edited)["state"] == "waiting"

        go_on(runs, tmp_path)
        ended = candidate(runs, edited)
        assert ended["state"] == "accepted", ended["detail"]
        assert (ended["row"]["instruction"], ended["row"]["answer"]) == (ASKED, EDITED)
        ends = {(one["state"], one["stage"]) for one in (candidate(runs, id_) for id_ in accepted)}
        assert ("accepted", "admit") in ends
        assert ends <= {("accepted", "admit"), ("rejected", "admit")}, "a duplicate stays out, whoever likes it"
        assert {candidate(runs, id_)["code"] for id_ in rejected} == {"review.wrong", "review.unhelpful", "review.unsafe"}
        tab.goto(f"/runs/{ui.NAME}/candidates/{edited}")
        assert tab.locator("main .state.accepted").first.is_visible()
        assert EDITED in tab.locator("#row").inner_text()
        assert "Ann" in tab.locator("main").inner_text()


def go_on(runs: Path, folder: Path) -> None:
    """`leafmill run`, as a process, until it ends."""
    shutil.copy(ui.WHOLE / "taxonomy.yaml", folder)
    with ui.serving() as models:
        recipe = ui.write_recipe(folder / "recipe.yaml", models.base_url)
        with process("run", recipe, "--runs", runs) as one:
            wait(lambda: one.code is not None, "the run to end", 120)
            assert one.code == 0, one.said


def test_two_reviewers_are_never_shown_the_same_candidate(browser: Any, shop: Path, tmp_path: Path) -> None:
    runs = ui.copy_of(shop, tmp_path)
    with serving(runs) as address, opened(browser, address) as ann, opened(browser, address, language="zh") as bo:
        ann.goto(f"/runs/{ui.NAME}/review?reviewer=Ann")
        bo.goto(f"/runs/{ui.NAME}/review?reviewer=薄")
        for _ in range(3):
            assert shown(ann) != shown(bo)
            press(ann, "a" if ann.locator("[data-key=a]:enabled").count() else "s")
            assert shown(ann) != shown(bo)
            press(bo, "r", "6")
        decided = [one["candidate"] for one in reviews(runs)]
        assert len(decided) == len(set(decided)) == 6
        assert {one["reviewer"] for one in reviews(runs)} == {"Ann", "薄"}


def test_a_run_in_progress_is_followed_without_loading_the_page_anew(browser: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copy(ui.WHOLE / "taxonomy.yaml", tmp_path)
    with ui.serving(latency=0.25) as models, serving(runs) as address:
        recipe = ui.write_recipe(tmp_path / "recipe.yaml", models.base_url, leaves=["whole/orders"], target=6, in_flight=1)
        with process("run", recipe, "--runs", runs) as one, opened(browser, address) as tab:
            wait(lambda: state(tab) == "running" or one.code is not None, "the run to begin")
            assert one.code is None, one.said
            tab.goto("/")
            tab.get_by_role("link", name=ui.NAME, exact=True).first.click()
            tab.locator("#head .state.running").wait_for()
            tab.evaluate("window.here = 'still'")
            before = accepted(tab)
            wait(lambda: accepted(tab) > before, "another row")
            models.latency = 0.0
            wait(lambda: not tab.locator("#head .state.running").count(), "the page to say that it has ended")
            wait(lambda: accepted(tab) == 6, "all rows")
            assert tab.evaluate("window.here") == "still"
            wait(lambda: one.code is not None, "the run to end")
            assert one.code == 0, one.said


def state(tab: Any) -> str:
    """Of the run, as programs are told it; "" before there is one."""
    answer = tab.request.get(f"/runs/{ui.NAME}/parts/head?format=json")
    return str(answer.json()["state"]) if answer.ok else ""


def accepted(tab: Any) -> int:
    """The rows that the head of a run's page shows."""
    return int(re.match(r"[\d,]+", tab.locator("#head .figures b").first.inner_text())[0])
