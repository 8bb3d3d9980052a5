"""Who may ask, and what a page may do: a token or a loopback name, one origin for all changes, bodies that end, and no foreign script.

On loopback no token is needed, but the Host must be a name of loopback: a foreign site whose name is made to point here is turned away.
Elsewhere every request brings the token: in a cookie, which the first visit with `?token=` sets, or as `Authorization: Bearer`.

A change (any method but GET, HEAD and OPTIONS) comes from a page of ours and says so: `X-CSRF-Token`, or the form's field `csrf`, is the
word that this process gave to this browser. It stands in every page, and for programs in the header X-CSRF-Token of every reply.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import MutableMapping
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leafmill.ui import errors_page
from leafmill.ui.errors_page import Problem
from leafmill.ui.words import phrase

BODY = 4 * 2**20
"""bytes that a request may have: a row of a million characters, edited, fits"""
SAFE = ("GET", "HEAD", "OPTIONS")
STATIC = "/static/"
"""files of the package, which anybody may have"""
TOKEN_COOKIE, BROWSER_COOKIE = "leafmill_token", "leafmill_browser"
FORM = "application/x-www-form-urlencoded"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access:
    """Stands before the application. `token` is what strangers lack; None: only who is on this machine can ask."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app = app
        self.token = token
        self._secret = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        visit = _Visit(request, self._secret, send)
        if (answer := self._token_taken(request)) is not None:
            await answer(scope, receive, visit.send)
            return
        problem = self._stranger(request)
        if problem is None and request.method not in SAFE:
            try:
                body = await _read(request, receive)
            except ClientDisconnect:  # nobody is told, and nothing is done with half of what was to come
                return
            problem, receive = _foreign_change(request, visit.csrf, body), _again(body or b"", receive)
        if problem is not None:
            await errors_page.show(request, problem)(scope, receive, visit.send)
            return
        try:
            await self.app(scope, receive, visit.send)
        except Exception as fault:
            if not visit.answered:
                await errors_page.show_bug(request)(scope, receive, visit.send)
            raise fault

    def _token_taken(self, request: Request) -> Response | None:
        """The address without its token, which a cookie holds from then on."""
        given = request.query_params.get("token")
        if self.token is None or given is None or not _same(given, self.token):
            return None
        rest = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "token"])
        there = "/" + quote(request.url.path.lstrip("/")) + (f"?{rest}" if rest else "")
        answer = RedirectResponse(there, 303)
        answer.set_cookie(TOKEN_COOKIE, self.token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer

    def _stranger(self, request: Request) -> Problem | None:
        """What is told to who must not see anything."""
        if request.url.path.startswith(STATIC):
            return None
        if self.token is None:
            host = request.headers.get("host", "")
            return None if is_loopback(_name(host)) else _not_this_machine(host)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = (request.cookies.get(TOKEN_COOKIE, ""), bearer)
        return None if any(_same(one, self.token) for one in given) else _NO_TOKEN


class _Visit:
    """One request of one browser: its word for changes, and what every reply to it says."""

    def __init__(self, request: Request, secret: bytes, send: Send) -> None:
        known = request.cookies.get(BROWSER_COOKIE)
        browser = known or secrets.token_urlsafe(16)
        self.csrf = hmac.new(secret, browser.encode(), "sha256").hexdigest()
        request.state.csrf = self.csrf
        self.answered = False
        self._static = request.url.path.startswith(STATIC)
        self._cookie = None if known or self._static else f"{BROWSER_COOKIE}={browser}; Path=/; HttpOnly; SameSite=Lax"
        self._send = send

    async def send(self, message: MutableMapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            self.answered = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-cache" if self._static else "no-store")
            if not self._static:
                headers["X-CSRF-Token"] = self.csrf
            if self._cookie:
                headers.append("Set-Cookie", self._cookie)
        await self._send(message)


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _name(host: str) -> str:
    """The name in `name:port`; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _foreign_change(request: Request, csrf: str, body: bytes | None) -> Problem | None:
    """What is told to a request that changes something and is not of a page of ours. `body`: None when it is too long."""
    if body is None:
        return _TOO_MUCH
    headers = request.headers
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _FOREIGN
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return _FOREIGN
    word = headers.get("x-csrf-token")
    if word is None and headers.get("content-type", "").startswith(FORM):
        word = parse_qs(body.decode("latin-1")).get("csrf", [""])[0]
    return None if _same(word or "", csrf) else _OLD_PAGE


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


async def _read(request: Request, receive: Receive) -> bytes | None:
    """The whole body; None when it is longer than it may be. Raises ClientDisconnect."""
    body, more = b"", True
    if int(request.headers.get("content-length") or 0) > BODY:
        return None
    while more and len(body) <= BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body if len(body) <= BODY else None


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for the application to read."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


_NO_TOKEN = Problem(
    status=401,
    title=phrase("A token is needed"),
    todo=phrase("Open the address that `leafmill ui` printed, with `?token=` at its end, or give the token here."),
)
_TOO_MUCH = Problem(
    status=413, title=phrase("That is too much at once"), detail=f"at most {BODY} bytes", todo=phrase("Send less: a few rows at a time.")
)
_FOREIGN = Problem(
    status=403,
    title=phrase("Another site asked for this"),
    detail="a change must come from a page of this server",
    todo=phrase("Open the page here and do it there."),
)
_OLD_PAGE = Problem(
    status=403,
    title=phrase("This page is too old to change anything"),
    detail="X-CSRF-Token (or the field `csrf`) is not the one that this server gave to this browser",
    todo=phrase("Load it again, then repeat what you did: `leafmill ui` was started anew since, or the browser keeps no cookies."),
)


def _not_this_machine(host: str) -> Problem:
    return Problem(
        status=403,
        title=phrase("This name is not one of this machine"),
        detail=f"Host is {host!r}, expected localhost, 127.0.0.1 or [::1]",
        todo=phrase("Open it by such an address; to be asked from elsewhere, start `leafmill ui --host` with a token."),
    )
