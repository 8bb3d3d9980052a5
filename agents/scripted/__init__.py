"""A model server that follows a script: for tests and dry runs, with all that can go wrong."""

from agents.scripted.faults import Fault, FaultKind, RateLimit
from agents.scripted.server import Record, Script, ScriptedServer, Structured, serve_forever
from agents.scripted.wire import Reply, Request

__all__ = ["Fault", "FaultKind", "RateLimit", "Record", "Reply", "Request", "Script", "ScriptedServer", "Structured", "serve_forever"]
