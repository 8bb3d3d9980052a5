"""The frame of the web pages: who may ask, what a page may do, what is said when something goes wrong, and what is shipped."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import socket
import sqlite3
import string
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml
from jinja2 import Environment, nodes

from agents.scripted import ScriptedServer
from leafmill.errors import DiskError, InputError, LockedError, OtherVersionError, RecipeError, ReviewError, RunFolderError
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe
from leafmill.ui import access, errors_page, server, words
from leafmill.ui.app import create
from leafmill.ui.page import HERE
from tests import conftest, ui
from tests.ui import Client, client

ROOT = Path(__file__).parent.parent
TEMPLATES = sorted((HERE / "templates").glob("*.html"))
MODULES = sorted(HERE.rglob("*.py"))
VENDOR = HERE / "static" / "vendor"
TOKEN = "a word that is not guessed"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one run, `secretive`, that has a ledger and nothing in it."""
    (tmp_path / "runs" / "secretive").mkdir(parents=True)
    Ledger(tmp_path / "runs" / "secretive" / "ledger.db").close()
    return tmp_path / "runs"


def visitor(runs: Path, **headers: str) -> Client:
    """From elsewhere, of a server that wants a token."""
    return Client(create(runs, TOKEN), base_url="http://192.0.2.7:8765", headers={"accept": "text/html", **headers}, follow_redirects=False)


def word_of(one: Client) -> str:
    """What this browser must say to change something."""
    return one.get("/").headers["x-csrf-token"]


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:8765", "127.8.9.1:1", "leafmill.localhost"])
def test_on_loopback_every_name_of_this_machine_is_answered(runs: Path, host: str) -> None:
    assert client(runs).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::"])
def test_a_foreign_name_that_points_here_is_turned_away(runs: Path, host: str) -> None:
    found = client(runs).get("/", headers={"host": host})
    assert found.status_code == 403
    assert "secretive" not in found.text
    assert repr(host)[1:-1] in unescape(found.text)


def test_a_stranger_without_the_token_sees_no_run_but_a_field_for_it(runs: Path) -> None:
    for address in ("/", "/openapi.json", "/api", "/?token=guess", "/nothing"):
        found = visitor(runs).get(address)
        assert found.status_code == 401
        assert "secretive" not in found.text
    assert 'name="token"' in found.text
    assert visitor(runs, accept="application/json").get("/").json()["status"] == 401
    assert visitor(runs).get("/static/app.css").status_code == 200


def test_the_token_in_an_address_is_put_into_a_cookie_and_out_of_the_address(runs: Path) -> None:
    one = visitor(runs)
    found = one.get("/runs/a%20b/x", params={"q": "1 2", "token": TOKEN})
    assert (found.status_code, found.headers["location"]) == (303, "/runs/a%20b/x?q=1+2")
    (cookie,) = (said for said in found.headers.get_list("set-cookie") if said.startswith(access.TOKEN_COOKIE))
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert one.get("/").status_code == 200
    assert one.get("/%2Fevil.example", params={"token": TOKEN}).headers["location"] == "/evil.example"


def test_a_program_says_the_token_in_a_header(runs: Path) -> None:
    assert visitor(runs, authorization=f"Bearer {TOKEN}").get("/").status_code == 200
    assert visitor(runs, authorization="Bearer guess").get("/").status_code == 401


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_needs_the_word_that_this_browser_was_given(runs: Path) -> None:
    one, other = client(runs), client(runs)
    word = word_of(one)
    assert one.post("/settings", data={"lang": "zh"}).status_code == 403
    assert one.post("/settings", data={"lang": "zh"}, headers={"x-csrf-token": word_of(other)}).status_code == 403
    assert one.post("/settings", data={"lang": "zh"}, headers={"x-csrf-token": word}).status_code == 303
    assert one.post("/settings", data={"lang": "zh", "csrf": word}).status_code == 303
    assert f'name="csrf" value="{word}"' in one.get("/").text
    assert f'hx-headers=\'{{"X-CSRF-Token": "{word}"}}\'' in one.get("/").text


def test_the_word_is_of_this_browser_and_of_this_process(runs: Path) -> None:
    app = create(runs)
    one, other = (Client(app, base_url=ui.HOST, follow_redirects=False) for _ in "ab")
    word = word_of(one)
    other.get("/")
    assert other.post("/settings", headers={"x-csrf-token": word}).status_code == 403
    again = Client(create(runs), base_url=ui.HOST, cookies=dict(one.cookies))
    assert again.post("/settings", headers={"x-csrf-token": word}).status_code == 403


@pytest.mark.parametrize(
    "header",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:99"}, {"sec-fetch-site": "cross-site"}],
)
def test_a_change_from_another_site_is_refused_whatever_it_knows(runs: Path, header: dict[str, str]) -> None:
    one = client(runs)
    own = {"x-csrf-token": word_of(one)}
    assert one.post("/settings", headers={**own, **header}).status_code == 403
    assert one.post("/settings", headers={**own, "origin": ui.HOST, "sec-fetch-site": "same-origin"}).status_code == 303


def test_a_body_that_is_too_long_is_not_taken_whether_it_says_so_or_not(runs: Path) -> None:
    one = client(runs)
    own = {"x-csrf-token": word_of(one)}
    assert one.post("/settings", content=b"x" * (access.BODY + 1), headers=own).status_code == 413
    assert one.post("/settings", content=(b"x" * 2**20 for _ in range(9)), headers=own).status_code == 413


async def test_half_of_a_change_whose_sender_is_gone_is_not_done(runs: Path) -> None:
    app = create(runs)
    word = word_of(one := Client(app, base_url=ui.HOST))
    headers = {"host": "127.0.0.1", "x-csrf-token": word, "cookie": f"{access.BROWSER_COOKIE}={one.cookies[access.BROWSER_COOKIE]}"}
    coming = [{"type": "http.request", "body": b"lang=zh", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    about = {"method": "POST", "path": "/settings", "query_string": b"", "headers": [*raw, (b"content-type", access.FORM.encode())]}
    await app({"type": "http", **about}, receive, send)
    assert not sent


def test_language_and_theme_are_kept_and_nobody_is_led_away(runs: Path) -> None:
    one = client(runs)
    assert '<html lang="en">' in one.get("/").text
    assert one.change("/settings", lang="zh", theme="dark", back="/api?x=1").headers["location"] == "/api?x=1"
    assert '<html lang="zh-Hans" data-theme="dark">' in one.get("/").text
    assert one.change("/settings", theme="auto", back="//evil.example").headers["location"] == "/"
    assert '<html lang="zh-Hans">' in one.get("/").text
    assert one.change("/settings", lang="fr").status_code == 422
    assert '<html lang="en">' in one.get("/?lang=en").text
    assert '<html lang="en">' in one.get("/").text


# -- what a page may do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["/", "/?format=json", "/nothing", "/runs/nobody", "/static/app.css", "/static/nothing", "/openapi.json"]
)
def test_every_reply_forbids_what_the_pages_do_not_need(runs: Path, address: str) -> None:
    headers = client(runs).get(address).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if address.startswith("/static/") else "no-store")


def test_no_template_holds_script_or_style_of_its_own() -> None:
    own = re.compile(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:|hx-on|\|\s*safe\b")
    found = {path.name: own.findall(path.read_text(encoding="utf-8")) for path in TEMPLATES if path.name != "static_report.html"}
    assert not {name: what for name, what in found.items() if what}


def test_what_a_page_links_to_is_shipped(runs: Path) -> None:
    for path in TEMPLATES:
        for file in re.findall(r'(?:src|href)="/static/([^"{]+)"', path.read_text(encoding="utf-8")):
            assert (HERE / "static" / file).is_file(), f"{path.name}: {file}"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_what_is_not_there_has_a_page_a_notice_and_a_json_of_the_same(runs: Path) -> None:
    one = client(runs)
    page = one.get("/runs/nobody/recipe")
    assert page.status_code == 404
    assert "unknown run &#39;nobody&#39;" in page.text
    assert "It may have been deleted" in page.text
    part = one.get("/runs/nobody/recipe", headers={"hx-request": "true"})
    assert (part.status_code, "<html" in part.text, 'role="alert"' in part.text) == (404, False, True)
    told = one.get("/runs/nobody/recipe?format=json").json()
    assert told["status"] == 404
    assert told["detail"].startswith("unknown run 'nobody'")
    assert one.get("/nothing").status_code == 404
    refused = one.change("/api")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert "这里没有你要找的内容" in one.get("/nothing?lang=zh").text


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RunFolderError("unknown run 'x'"), 404), (RecipeError("no"), 400), (InputError("no"), 400), (LockedError("no"), 409),
        (OtherVersionError("no"), 409), (ReviewError("decided", "no"), 409), (DiskError("no"), 503),
    ],
)  # fmt: skip
def test_each_error_has_its_status(fault: Exception, status: int) -> None:
    problem = errors_page.problem_of(fault)
    assert problem is not None
    assert (problem.status, problem.detail) == (status, str(fault))
    assert problem.todo


def test_a_locked_and_a_damaged_ledger_are_told_apart(runs: Path) -> None:
    path = runs / "secretive" / "ledger.db"
    with sqlite3.connect(path, isolation_level=None) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as locked, sqlite3.connect(path, timeout=0) as other:
            other.execute("SELECT * FROM meta")
    path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    with pytest.raises(sqlite3.DatabaseError) as damaged, sqlite3.connect(path) as other:
        other.execute("SELECT * FROM meta")
    with pytest.raises(sqlite3.OperationalError) as bug:
        sqlite3.connect(":memory:").execute("SELECT * FROM nothing")
    found = [errors_page.problem_of(fault.value) for fault in (locked, damaged)]
    assert [(one.status, one.title) for one in found if one] == [(503, "The ledger is locked"), (503, "The ledger is damaged")]
    assert errors_page.problem_of(bug.value) is None


def test_a_bug_is_told_without_its_inside_and_goes_to_the_log(runs: Path) -> None:
    app = create(runs)

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("the inside of it")

    found = Client(app, base_url=ui.HOST, raise_server_exceptions=False).get("/broken", headers={"accept": "text/html"})
    assert found.status_code == 500
    assert "the inside" not in found.text
    assert "The terminal" in found.text
    assert "content-security-policy" in found.headers
    with pytest.raises(ValueError, match="the inside"):
        client(runs).__class__(app, base_url=ui.HOST).get("/broken")


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_no_page_shows_a_secret_and_no_link_leads_nowhere(tmp_path: Path, server: ScriptedServer) -> None:
    secret = "sk-of-nobody-else-1234567890"
    model = {"base_url": server.base_url, "model": "m", "api_key": "${A_KEY}", "attempts": 2, "patience": 5}
    path = conftest.write_recipe(tmp_path, server, target=2, models={"generator": model, "judge": {**model, "model": "llama"}})
    await conftest.go(Recipe.read(path, {"A_KEY": secret}), tmp_path / "runs")
    (tmp_path / ".env").write_text(f"A_KEY={secret}")
    found = {address: reply for address, reply in crawl(client(tmp_path / "runs"))}
    assert {shape(address) for address in found} >= {"/", "/api", "/runs/*", "/runs/*/recipe", "/runs/*/candidates", "/runs/*/candidates/*"}
    assert "${A_KEY}" in found["/runs/run/recipe"].text
    for address, reply in found.items():
        assert reply.status_code == 200, f"{address}: {reply.status_code}"
        assert secret not in reply.text, address


def crawl(one: Client, most: int = 2) -> Iterator[tuple[str, Any]]:
    """Follow all links, at most so many addresses of one shape; every page and its JSON."""
    todo, seen, shapes = ["/"], {"/"}, Counter[str]()
    while todo:
        address = todo.pop(0)
        reply = one.get(address)
        yield address, reply
        if "text/html" not in reply.headers["content-type"]:
            continue
        yield address + " as JSON", one.get(address, headers={"accept": "application/json"})
        for link in re.findall(r'(?:href|src|hx-get|sse-connect)="([^"]*)"', reply.text):
            parts = urlsplit(unescape(link))
            there = parts.path + (f"?{parts.query}" if parts.query else "")
            internal = there.startswith("/") and not parts.netloc and not there.endswith("/events")
            if internal and there not in seen and shapes[shape(there)] < most:
                seen.add(there)
                shapes[shape(there)] += 1
                todo.append(there)


def shape(address: str) -> str:
    """An address without what is of this run: names stand at every second place."""
    path = urlsplit(address).path
    if not path.startswith("/runs/"):
        return path
    parts = path.split("/")
    return "/".join("*" if place in (2, 4, 6) else part for place, part in enumerate(parts))


# -- for programs ------------------------------------------------------------------------------------------------------


def test_every_address_says_to_programs_what_it_is_and_gives(runs: Path) -> None:
    document = client(runs).get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("tags"), f"{method} {path} has no tag"
            derived = operation["operationId"].partition("_")[0].replace("_", " ").title()
            assert operation["summary"].casefold() != derived.casefold(), f"{method} {path} has no summary of its own"
            replies = {code: reply for code, reply in operation["responses"].items() if code.startswith("2")}
            given = [kind["schema"] for reply in replies.values() for kind in reply.get("content", {}).values() if "schema" in kind]
            assert all(given), f"{method} {path} does not say what it gives"
    page = client(runs).get("/api").text
    assert all(unescape(path) in unescape(page) for path in document["paths"])


# -- words -------------------------------------------------------------------------------------------------------------


class Phrase(NamedTuple):
    """A phrase where it is said, and the names that are filled in there (None: not known)."""

    text: str
    place: str
    filled: frozenset[str] | None


def said() -> list[Phrase]:
    """All phrases of templates and modules: what is given to `_` (or `say`), or marked by `phrase`."""
    return [one for path in TEMPLATES for one in said_in_template(path)] + [one for path in MODULES for one in said_in_module(path)]


def said_in_template(path: Path) -> Iterator[Phrase]:
    for call in Environment().parse(path.read_text(encoding="utf-8")).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "_" and isinstance(call.args[0], nodes.Const):
            filled = None if call.dyn_kwargs else frozenset(one.key for one in call.kwargs)
            yield Phrase(call.args[0].value, f"{path.name}:{call.lineno}", filled)


def said_in_module(path: Path) -> Iterator[Phrase]:
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match call:
            case ast.Call(func=ast.Name(id="_" | "say" | "phrase" as by), args=[ast.Constant(value=str() as text), *_], keywords=given):
                names = frozenset(one.arg for one in given if one.arg)
                yield Phrase(text, f"{path.name}:{call.lineno}", names if by != "phrase" and len(names) == len(given) else None)


def literals() -> set[str]:
    """All strings of templates and modules: a phrase may be said by a variable."""
    found = set()
    for path in TEMPLATES:
        consts = Environment().parse(path.read_text(encoding="utf-8")).find_all(nodes.Const)
        found |= {one.value for one in consts if isinstance(one.value, str)}
    for path in (
        *MODULES,
        *(ROOT / "leafmill" / "index").glob("*.py"),
        *(ROOT / "leafmill").glob("*.py"),
        ROOT / "filters" / "reliability.py",
    ):
        walked = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found |= {one.value for one in walked if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def placeholders(text: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(text) if name}


def test_every_phrase_of_the_pages_is_there_in_chinese() -> None:
    missing = {f"{one.place}: {one.text}" for one in said() if one.text not in words.chinese()}
    assert not missing


def test_no_translation_is_of_a_phrase_that_nobody_says() -> None:
    unused = set(words.chinese()) - literals()
    assert not unused


def test_a_phrase_is_translated_once_and_into_chinese() -> None:
    where: dict[str, list[str]] = {}
    for path in sorted(words.FOLDER.glob("*.zh.yaml")):
        told: Mapping[str, str] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for english in told:
            where.setdefault(english, []).append(path.name)
    twice = {english: names for english, names in where.items() if len(names) > 1}
    assert not twice
    assert all(isinstance(chinese, str) and chinese for chinese in words.chinese().values())


def test_what_is_filled_in_is_the_same_in_both_languages_and_where_it_is_said() -> None:
    for english, chinese in words.chinese().items():
        assert placeholders(english) == placeholders(chinese), english
    for one in said():
        if one.filled is not None and (one.filled or placeholders(one.text)):
            assert placeholders(one.text) == one.filled, f"{one.place}: {one.text}"


# -- what is shipped ---------------------------------------------------------------------------------------------------


def test_the_files_of_others_are_what_their_list_says() -> None:
    listed = (VENDOR / "README.md").read_text(encoding="utf-8")
    sums = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", listed, re.MULTILINE))
    found = {str(path.relative_to(VENDOR)): path for path in VENDOR.rglob("*") if path.is_file()}
    files = {name for name in found if name != "README.md" and not name.startswith("licences/")}
    assert {name: one for one, name in sums.items()} == {name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in files}
    assert set(re.findall(r"\]\((licences/[^)]+)\)", listed)) == {name for name in found if name.startswith("licences/")}


def test_an_installed_leafmill_has_all_that_its_pages_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hatchling.build import build_wheel

    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        shipped = {Path(name) for name in wheel.namelist()}
    wanted = {path.relative_to(ROOT) for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert not wanted - shipped


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_host_that_others_reach_wants_a_token_and_loopback_does_not() -> None:
    assert server.token_for("127.0.0.1", {}) is None
    assert server.token_for("localhost", {}) is None
    assert len(server.token_for("0.0.0.0", {}) or "") >= 32
    assert server.token_for("192.0.2.7", {}) != server.token_for("192.0.2.7", {})
    assert server.token_for("127.0.0.1", {server.TOKEN: "given"}) == server.token_for("::", {server.TOKEN: "given"}) == "given"
    assert server.address_of("::1", 80, None) == "http://[::1]:80/"
    assert server.address_of("192.0.2.7", 80, "a/b") == "http://192.0.2.7:80/?token=a%2Fb"


def test_a_port_in_use_and_a_host_of_another_machine_are_told(tmp_path: Path) -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"--host 127\.0\.0\.1 --port {port}: .*in use.*--port 0"):
            server.listen("127.0.0.1", port)
    with pytest.raises(InputError, match=r"--host 192\.0\.2\.7"):
        server.listen("192.0.2.7", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: this is a file"):
        server.serve(tmp_path / "file", "127.0.0.1", 0, False, lambda line: None)


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['leafmill', 'ui', '--port', '0']\n"
        "from leafmill import cli; cli.main()"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "pip install 'leafmill[ui]'" in done.stderr


def test_the_help_of_the_command_needs_nothing_of_the_server() -> None:
    heavy = ("fastapi", "uvicorn", "jinja2", "sqlalchemy")
    code = f"import sys; from leafmill import cli; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_serves_until_it_is_stopped_and_prints_where(runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "leafmill.cli", "ui", "--runs", str(runs), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert f"http://127.0.0.1:{port}/" in line
            with socket.create_connection(("127.0.0.1", port)) as asked:
                asked.sendall(b"GET /static/leaf.svg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert asked.recv(15) == b"HTTP/1.1 200 OK"
        finally:
            process.terminate()
            process.wait(10)
