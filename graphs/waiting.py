"""Those who wait for a person: LangGraph's checkpoints of them, in the ledger's file.

A candidate's graph runs without a checkpointer, which would cost more than the graph; only when it has stopped at its `interrupt` is it put
down here, once, and taken up again by `Command(resume=...)` when somebody has decided. A checkpoint that is lost loses nothing: the
candidate is carried to the same place again from its recorded calls.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from agents.critic import Critique
from graphs.candidate import RECURSION_LIMIT, Context
from graphs.state import Earlier, Evolved, State
from leafmill.ledger import Ending, disk_error
from leafmill.records import Brief, Mode, Review, Row, Seed, Source, ToolCall, Turn, Vote
from taxonomy.tools import ToolTask

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

Graph = CompiledStateGraph[State, Context, State, State]
STATE = (Brief, Mode, Seed, Source, Row, Turn, ToolCall, Vote, Review, Evolved, Earlier, Critique, Ending, ToolTask)
"""what a state may hold beside plain values: nothing else is made from a checkpoint"""


@dataclass
class Waiting:
    """Open with `Waiting.open(ledger's path)`."""

    saver: AsyncSqliteSaver
    path: Path
    _graphs: dict[int, Graph] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Waiting]:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        kept = JsonPlusSerializer(allowed_msgpack_modules=[(one.__module__, one.__qualname__) for one in STATE])
        async with aiosqlite.connect(path, timeout=10) as connection:
            waiting = cls(AsyncSqliteSaver(connection, serde=kept), path)
            with waiting._on_disk():
                await waiting.saver.setup()
            yield waiting

    async def hold(self, graph: Graph, state: State, context: Context) -> None:
        """Put down a candidate that has stopped at its `interrupt`. Raises DiskError."""
        brief = state["brief"]
        with self._on_disk():
            await self.saver.adelete_thread(brief.id)
            keeping = self._keeping(graph)
            await keeping.aupdate_state(_thread(brief.id), dict(state), as_node="wait")
            await keeping.ainvoke(None, _thread(brief.id), context=context, durability="exit")

    async def holds(self, candidate: str) -> bool:
        with self._on_disk():
            return await self.saver.aget_tuple(_thread(candidate)) is not None

    async def resume(self, graph: Graph, decided: Review, context: Context) -> State:
        """Go on from where it waited, by what was decided; the state at its end, or where it waits again. Raises DiskError."""
        with self._on_disk():
            going: Command[Any] = Command(resume=decided.model_dump(mode="json"))
            final = await self._keeping(graph).ainvoke(going, _thread(decided.candidate), context=context, durability="exit")
            if final["ending"].state != "waiting":
                await self.saver.adelete_thread(decided.candidate)
        return final  # type: ignore[return-value]

    def _keeping(self, graph: Graph) -> Graph:
        """The same graph, with a checkpointer."""
        if id(graph) not in self._graphs:
            self._graphs[id(graph)] = graph.copy({"checkpointer": self.saver})
        return self._graphs[id(graph)]

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as fault:
            raise disk_error(self.path, fault) from fault


def _thread(candidate: str) -> Any:
    return {"configurable": {"thread_id": candidate}, "recursion_limit": RECURSION_LIMIT, "run_name": candidate}
