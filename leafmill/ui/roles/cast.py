"""Who works in a run: its roles and their prompt files, their places in the graph, and how they fared.

What a run wrote into its ledger comes first (`roles`, `graphs`); of an older run the prompt files in its folder say it, and the graph is
the one with everything. A node that no prompt file plays and that is none of Leafmill's own is a role in Python.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, computed_field

from agents.role import NODES
from agents.stages import ANSWERED, STAGES
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.records import digest
from leafmill.runfolder import RunFolder
from leafmill.ui.roles import drawing
from leafmill.ui.roles.drawing import END, START, Graph
from leafmill.ui.run import spending
from leafmill.ui.run.spending import Took
from leafmill.variants import Rate

SAFE: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""the quick one where there is one"""


REST = 20
"""times as long as it took: so long what was counted of candidates may be shown, while there are new ones"""


class Field(BaseModel):
    """One field of a reply; `name` is `list[].field` for those of a list's items."""

    name: str
    type: str
    says: str = ""


class RoleFile(BaseModel):
    """A prompt file as the run used it."""

    name: str
    variant: str
    stage: str = ""
    after: str = ""
    language: list[str] = []
    alias: str = ""
    """of the models that play it, as the recipe has it"""
    file: str = ""
    hash: str = ""
    says: str = ""
    reads: list[str] = []
    """the variables that its text may use"""
    returns: list[Field] = []
    """none: plain text"""
    node: str = ""


class Figures(BaseModel):
    """How calls went."""

    calls: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    """calls whose server did not say how many tokens they took"""
    unpriced: int = 0
    money: float | None = None
    """of the calls whose cost is known; None where none is"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens(self) -> int | None:
        """None where no call was counted."""
        return None if self.uncounted == self.calls else self.prompt_tokens + self.completion_tokens

    @computed_field  # type: ignore[prop-decorator]
    @property
    def failed_share(self) -> float | None:
        return self.failed / self.calls if self.calls else None


class Variant(Figures):
    """A prompt file of a role, and how it fared."""

    variant: str
    file: RoleFile | None = None
    """None: only its calls are left of it"""
    models: list[str] = []
    prompts: dict[str, int] = {}
    """calls by the hash of the file, should it have changed during the run"""
    fared: Rate | None = None
    """candidates in which it spoke and that were judged; None for what speaks in none"""
    query: str = ""


class Role(Figures):
    """A role with its variants."""

    name: str
    says: str = ""
    stage: str = ""
    after: str = ""
    nodes: list[str] = []
    """where it stands in the graph; none: it is asked before there are candidates"""
    python: bool = False
    variants: list[Variant] = []
    models: dict[str, list[str]] = {}
    """the models that have answered, by the alias that they played under"""
    statuses: dict[str, int] = {}
    fared: Rate | None = None
    took: Took | None = None
    """over all leaves"""
    query: str = ""

    @property
    def known(self) -> list[RoleFile]:
        return [one.file for one in self.variants if one.file]


def leaves(index: Index) -> list[str]:
    """Of the run: those of which something is known."""

    def read() -> list[str]:
        planned = _meta(index, "leaves") or {}
        found = index.rows("SELECT DISTINCT leaf FROM candidates UNION SELECT DISTINCT leaf FROM spent")
        return sorted({*planned, *(row["leaf"] for row in found)})

    return index.once("leaves", read)


def graph(index: Index, leaf: str = "") -> Graph:
    """The graph of a leaf's candidates, or all that the graphs of the run have."""
    written = _meta(index, "graphs")
    if not written or not written.get("shapes"):
        return drawing.whole()
    shapes = [Graph.model_validate(shape) for shape in written["shapes"]]
    return shapes[written["leaves"][leaf]] if leaf in written["leaves"] else together(shapes)


def together(shapes: Sequence[Graph]) -> Graph:
    """One graph with the nodes and edges of all; a node that is new stands behind the one that it follows."""
    nodes: list[str] = []
    for shape in shapes:
        for place, name in enumerate(shape.nodes):
            if name not in nodes:
                nodes.insert(nodes.index(shape.nodes[place - 1]) + 1 if place else 0, name)
    edges = {(edge.source, edge.target): edge for shape in shapes for edge in shape.edges}
    return Graph(nodes=nodes, edges=list(edges.values()))


def files(index: Index) -> list[RoleFile]:
    """All prompt files of the run."""
    written = _meta(index, "roles")
    if written is None:
        return index.once("files", lambda: sorted(_of_folder(index.folder), key=lambda one: (one.name, one.variant)))
    return [RoleFile(**{**one, "returns": [*_fields(one["returns"])]}) for one in written]


def text(index: Index, file: str) -> str | None:
    """What a prompt file in the run's folder says; None when it is not there."""
    try:
        return (index.folder.path / "prompts" / Path(file).name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def roles(index: Index, leaf: str = "") -> list[Role]:
    """Everybody, in the order of the graph; who is asked before there are candidates comes first."""
    return index.once(("cast", leaf), lambda: _roles(index, leaf))


def variants(index: Index) -> list[str]:
    """The prompt variants that have been asked for candidates, as role.variant; of roles with several for one language first."""

    def read() -> list[str]:
        asked = {
            (row["role"], row["variant"]) for row in index.rows("SELECT DISTINCT role, variant, node FROM spent") if _is_for_candidates(row)
        }
        spoken = Counter((one.name, language) for one in files(index) if (one.name, one.variant) in asked for language in one.language)
        several = {role for (role, _), count in spoken.items() if count > 1}
        return [f"{role}.{variant}" for role, variant in sorted(asked, key=lambda one: (one[0] not in several, one))]

    return index.once("variants", read)


def fared(index: Index, leaf: str = "") -> dict[str, Rate]:
    """How candidates fared that were judged, by the role, and by the role.variant, that spoke in them; a leaf that was full says nothing
    of one. With many candidates it takes longer than a page may, so while a run goes on it is a little old."""
    return index.once("fared", lambda: _count(index), rest=REST).get(leaf, {})


def _count(index: Index) -> dict[str, dict[str, Rate]]:
    """Of all leaves at once. Numbers come out of SQLite many at a time, as text: row by row, or joined there, they would take several
    times as long."""
    judged = "state IN ('accepted', 'rejected') AND code <> 'quota_met'"
    each = "SELECT leaf, state = 'accepted' AS accepted, group_concat(n) AS them FROM candidates"
    groups = index.rows(f"{each} WHERE {judged} GROUP BY 1, 2")
    (latest,) = index.rows("SELECT coalesce(max(n), 0) AS n FROM candidates")
    group_of = np.zeros(latest["n"] + 1, dtype=np.int64)  # 0: not judged
    for at, group in enumerate(groups, 1):
        group_of[_numbers(group["them"])] = at
    rates: dict[str, dict[str, Rate]] = defaultdict(dict)
    for row in index.rows("SELECT value, group_concat(n) AS them FROM tags WHERE kind IN ('role', 'variant') GROUP BY kind, value"):
        counts = np.bincount(group_of[_numbers(row["them"])], minlength=len(groups) + 1).tolist()
        for group, count in zip(groups, counts[1:], strict=True):
            for where in (group["leaf"], "") if count else ():
                rate = rates[where].setdefault(row["value"], Rate())
                rate.tried += count
                rate.accepted += count * group["accepted"]
    return dict(rates)


def _numbers(text: str) -> Any:
    """As SQLite's group_concat writes them."""
    return np.fromstring(text, dtype=np.int64, sep=",")


def _roles(index: Index, leaf: str) -> list[Role]:
    known: dict[str, list[RoleFile]] = defaultdict(list)
    for file in files(index):
        known[file.name].append(file)
    spent = _spent(index, leaf)
    by_role: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in spent:
        by_role[row["role"]].append(row)
    took = {one.role: one for one in spending.read(index).latencies if not one.model}
    rates = fared(index, leaf)
    drawn = graph(index, leaf)
    python = [name for name in drawn.nodes if name not in (*NODES, START, END) and name not in known]
    found = []
    for name in sorted({*known, *by_role, *python}):
        rows, own = by_role[name], known[name]
        speaks = any(_is_for_candidates(row) for row in rows)
        variants = []
        for variant in sorted({*(file.variant for file in own), *(row["variant"] for row in rows)}):
            its = [row for row in rows if row["variant"] == variant]
            prompts: dict[str, int] = defaultdict(int)
            for row in its:
                prompts[row["prompt"]] += row["calls"]
            variants.append(
                Variant(
                    **_added(its),
                    variant=variant,
                    file=next((file for file in own if file.variant == variant), None),
                    models=sorted({row["model"] for row in its if row["model"]}),
                    prompts=dict(prompts),
                    fared=rates.get(f"{name}.{variant}", Rate()) if speaks else None,
                    query=Filter().query(leaf=leaf, variant=f"{name}.{variant}"),
                )
            )
        models: dict[str, set[str]] = defaultdict(set)
        statuses: dict[str, int] = defaultdict(int)
        for row in rows:
            models[row["alias"]] |= {row["model"]} - {""}
            statuses[row["status"]] += row["calls"]
        first = own[0] if own else RoleFile(name=name, variant="")
        found.append(
            Role(
                **_added(rows),
                name=name,
                says=first.says,
                stage=first.stage,
                after=first.after,
                nodes=_nodes(first, rows, drawn, name in python),
                python=name in python,
                variants=variants,
                models={alias: sorted(seen) for alias, seen in sorted(models.items())},
                statuses=dict(sorted(statuses.items())),
                fared=rates.get(name, Rate()) if speaks else None,
                took=took.get(name),
                query=Filter().query(leaf=leaf, role=name),
            )
        )
    place = {name: number for number, name in enumerate(drawn.nodes)}
    return sorted(found, key=lambda one: (place[one.nodes[0]] if one.nodes else -1 if one.calls else len(place), not one.calls, one.name))


def _nodes(file: RoleFile, rows: Iterable[Mapping[str, Any]], drawn: Graph, python: bool) -> list[str]:
    """Where it was asked, the node that asked most first; else where it would stand."""
    if python:
        return [file.name]
    asked: dict[str, int] = defaultdict(int)
    for row in rows:
        asked[row["node"]] += row["calls"]
    there = [node for node in sorted(asked, key=lambda node: -asked[node]) if node in drawn.nodes]
    return there or ([file.node] if file.node in drawn.nodes else [])


def _is_for_candidates(row: Mapping[str, Any]) -> bool:
    """Whether calls were asked for candidates, and not by a leaf before it had any: by a node of the graph, which own roles are too."""
    return row["node"] in NODES or row["node"] == row["role"]


def _spent(index: Index, leaf: str) -> list[dict[str, Any]]:
    where = "WHERE leaf = :leaf" if leaf else ""
    sql = f"""SELECT role, variant, prompt, node, alias, model, status, sum(calls) AS calls, sum(prompt_tokens) AS prompt_tokens,
        sum(completion_tokens) AS completion_tokens, sum(uncounted) AS uncounted, sum(money) AS money, sum(unpriced) AS unpriced
        FROM spent {where} GROUP BY 1, 2, 3, 4, 5, 6, 7"""
    return index.rows(sql, {"leaf": leaf})


def _added(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = {name: sum(row[name] for row in rows) for name in ("calls", "prompt_tokens", "completion_tokens", "uncounted", "unpriced")}
    failed = sum(row["calls"] for row in rows if row["status"] != "ok")
    money = sum(row["money"] for row in rows) if total["unpriced"] < total["calls"] else None
    return {**total, "failed": failed, "money": money}


def _meta(index: Index, key: str) -> Any:
    found = index.rows("SELECT value FROM ledger.meta WHERE key = ?", (key,))
    return json.loads(found[0]["value"]) if found else None


def _of_folder(folder: RunFolder) -> Iterator[RoleFile]:
    """What the heads of the prompt files say. One that was spoilt since says its name."""
    for path in (folder.path / "prompts").glob("*.md"):
        name, _, variant = path.stem.partition(".")
        text = path.read_text(encoding="utf-8", errors="replace")
        try:
            head = yaml.load(text.split("\n---", 1)[0].removeprefix("---"), SAFE)
        except yaml.YAMLError:
            head = None
        said: dict[str, Any] = head if isinstance(head, dict) else {}
        stage = said.get("stage") if said.get("stage") in STAGES else ""
        language = said.get("language", ["en", "zh"])
        yield RoleFile(
            name=name,
            variant=variant or "default",
            stage=stage or "",
            after=str(said.get("after") or ""),
            language=[language] if isinstance(language, str) else [str(one) for one in language],
            file=path.name,
            hash=digest(text),
            says=str(said.get("says") or ""),
            reads=sorted(STAGES[stage].offers if stage else ANSWERED),
            returns=[*_fields(said["reply"])] if isinstance(said.get("reply"), dict) else [],
            node=name if said.get("after") else stage or "",
        )


def _fields(specs: Mapping[str, Any], within: str = "") -> Iterator[Field]:
    """The fields of a contract, those of a list's items behind it."""
    for name, spec in specs.items():
        said = spec if isinstance(spec, dict) else {"type": str(spec)}
        yield Field(name=within + name, type=_type(said), says=str(said.get("says") or ""))
        items = said.get("of")
        if isinstance(items, dict):
            yield from _fields(items, f"{within}{name}[].")


def _type(spec: Mapping[str, Any]) -> str:
    """Its type and limits in a few words: "int, 1 to 5", "str, at most 300"."""
    if spec.get("one_of"):
        return " | ".join(map(str, spec["one_of"]))
    low, high = (None if spec.get(end) is None else f"{spec[end]:g}" for end in ("min", "max"))
    limits = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else ""
    return ", ".join([str(spec.get("type") or "str"), *([limits] if limits else []), *(["optional"] if spec.get("optional") else [])])
