"""The server of the pages: an address to listen on, its token, and who is told where it is."""

from __future__ import annotations

import os
import secrets
import socket
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import uvicorn

from leafmill.errors import InputError
from leafmill.ui.access import is_loopback
from leafmill.ui.app import create

TOKEN = "LEAFMILL_UI_TOKEN"


def serve(runs: Path, host: str, port: int, opens: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. Raises InputError when the address cannot be listened on, or the runs are no folder."""
    if runs.exists() and not runs.is_dir():
        raise InputError(f"--runs {runs}: this is a file, expected the folder of all runs")
    token = token_for(host, os.environ)
    listening = listen(host, port)
    address = address_of(host, listening.getsockname()[1], token)
    say(f"the runs in {runs}/ are at {address} (Ctrl-C to stop)")
    if opens:
        webbrowser.open(address)
    config = uvicorn.Config(create(runs, token), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listening])


def token_for(host: str, environ: Mapping[str, str]) -> str | None:
    """The one that is set, anywhere; a random one where strangers could come; None on loopback."""
    return environ.get(TOKEN) or (None if is_loopback(host) else secrets.token_urlsafe(24))


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address. Raises InputError, which says whether another program is there."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as fault:
        raise InputError(f"--host {host}: not an address of this machine ({fault.strerror})") from fault
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(place)
        listening.listen()
    except OSError as fault:
        listening.close()
        raise InputError(f"--host {host} --port {port}: cannot be listened on ({fault.strerror}); --port 0 takes any free port") from fault
    return listening


def address_of(host: str, port: int, token: str | None) -> str:
    """What to open. A host that means all addresses is shown as this machine's name."""
    named = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{named}:{port}/" + (f"?{urlencode({'token': token})}" if token else "")
