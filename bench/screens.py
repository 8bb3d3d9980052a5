"""Pictures of every page: in both languages, light and dark, 1280 and 390 pixels wide, to be looked at.

    python -m bench.screens FOLDER [--runs RUNS --run NAME] [--only PAGE]...
    python -m bench.screens docs/screens --kept

Without --runs they are of a run that the scripted server makes (tests/ui.py). --kept: those that the documentation shows, as they are seen
in a window. Needs Chromium, as tests/test_browser.py does.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path

from playwright.sync_api import sync_playwright

from leafmill.index.index import Index
from leafmill.runfolder import RunFolder
from tests import ui
from tests.test_browser import FLAGS, addresses, chromium, opened, serving, settle

MOST = 2600
"""pixels of a page that are shown, from its top"""
WINDOW = 1000
"""its height, of those that are kept"""
KEPT = {
    ("run", "en", False, False),
    ("candidate", "en", True, False),
    ("review", "zh", False, False),
    ("roles", "en", False, False),
    ("run", "zh", True, True),
}
"""page, language, whether dark, whether narrow"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--run", default=ui.NAME)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--kept", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        runs = given.runs or ui.made(Path(made))
        shoot(runs, given.run, given.folder, given.only, given.kept)


def shoot(runs: Path, name: str, folder: Path, only: list[str], kept: bool) -> None:
    """Of each page a picture for each way to look at it: <page>-<language>-<light or dark>-<width>.png."""
    index = Index(RunFolder(runs / name))
    while (progress := index.refresh()).done < progress.total:  # a picture is of all of it
        pass
    index.close()
    with serving(runs) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=FLAGS)
        for language, dark, narrow in product(("en", "zh"), (False, True), (False, True)):
            with opened(browser, address, language=language, dark=dark, narrow=narrow) as tab:
                for page, place in addresses(runs, name).items():
                    if (only and page not in only) or (kept and (page, language, dark, narrow) not in KEPT):
                        continue
                    tab.goto(place)
                    settle(tab)
                    tab.wait_for_timeout(600)  # charts and formulas
                    width = tab.viewport_size["width"]
                    file = folder / f"{page}-{language}-{'dark' if dark else 'light'}-{width}.png"
                    if kept:
                        tab.set_viewport_size({"width": width, "height": WINDOW})
                        tab.screenshot(path=file)
                    else:
                        height = min(MOST, tab.evaluate("document.documentElement.scrollHeight"))
                        tab.screenshot(path=file, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
        browser.close()


if __name__ == "__main__":
    main()
