"""The graph of a candidate as a picture: nodes and edges as LangGraph knows them, laid out by grandalf, written as SVG.

Rows and columns are Sugiyama's. What would make a tangle is drawn together, and stands for the same edges:

- a node to which most others lead (such as `reject`) stands at the side, and all its edges come down one thin rail; so does what only
  such a node leads to;
- where several nodes lead to the same several nodes, their edges meet in a joint;
- edges that lead back run beside the nodes, those to one node in one lane.

The order in which the nodes were added to the graph says which edges lead back. There is no style in it: classes, coloured by drawing.css.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import combinations, pairwise
from typing import Literal, NamedTuple

from grandalf.graphs import Edge as Link
from grandalf.graphs import Graph as Links
from grandalf.graphs import Vertex
from grandalf.layouts import SugiyamaLayout
from markupsafe import Markup
from pydantic import AliasChoices, BaseModel, Field

START, END = "__start__", "__end__"

HEIGHT, NARROW, LONGEST = 38, 96, 26
"""of a node; the least width of one, and the most characters of its name"""
GAP, BESIDE = 26, 20
"""between rows, and between nodes of a row"""
ROUNDS = 6
"""in which the order of rows is made better"""
LANE, ROUND = 11, 6
"""between two lanes beside the nodes, and the radius of their corners"""
DOT = 12
"""how wide and high START, END and joints are"""
HUB_SHARE, HUB_LEAST = 0.6, 4
"""a node to which this share of the others leads, and as many as this, stands at the side"""


class Edge(BaseModel):
    source: str
    target: str
    conditional: bool = False
    label: str | None = Field(None, validation_alias=AliasChoices("label", "data"))
    """`data` is what LangGraph calls it"""


class Graph(BaseModel):
    """As the ledger keeps it: nodes in the order in which they were added."""

    nodes: list[str]
    edges: list[Edge]


class Note(NamedTuple):
    """What a node says beside its name."""

    line: str = ""
    href: str = ""
    """where it leads"""
    title: str = ""
    """what it is, for who points at it"""


Point = tuple[float, float]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Stroke:
    """One line of the picture. `pairs` are the edges that it stands for, whole or in part."""

    pairs: frozenset[Pair]
    points: tuple[Point, ...]
    kind: Literal["way", "back", "rail", "loop"]
    dashed: bool
    arrow: bool
    label: str = ""


@dataclass(frozen=True)
class Box:
    """A node or a joint: its middle and its size."""

    x: float
    y: float
    w: float
    h: float
    row: int

    def side(self, side: int) -> float:
        return self.x + side * self.w / 2

    def edge(self, side: int) -> float:
        return self.y + side * self.h / 2


def svg(
    graph: Graph,
    notes: Mapping[str, Note] | None = None,
    chosen: Collection[str] = (),
    title: str = "",
    say: Callable[..., str] = lambda phrase, **values: phrase.format(**values) if values else phrase,
) -> Markup:
    """The picture. `chosen` nodes and what leads to and from them stand out; `say` translates."""
    notes = notes or {}
    plan = _Plan(graph, max((_wide(notes[name].line) * 0.85 for name in graph.nodes if name in notes), default=0))
    strokes = list(plan.strokes())
    left, top, width, height = _extent(plan.boxes.values(), strokes)
    lit = [bool(chosen) and any(end in chosen for pair in stroke.pairs for end in pair) for stroke in strokes]
    lines = [_line(stroke, on) for on in (False, True) for stroke, was in zip(strokes, lit, strict=True) if was is on]
    ways = defaultdict(list)
    for edge in graph.edges:
        ways[edge.source].append(_name(edge.target, say))
    nodes = [
        _node(name, plan.boxes[name], notes.get(name, Note()), name in chosen, _name(name, say), ways[name], say) for name in graph.nodes
    ]
    joints = [Markup('<circle class="joint" cx="{}" cy="{}" r="2.5"/>').format(*_at(plan.boxes[name])) for name in plan.joints]
    said = say("{nodes} nodes and {edges} edges, from the first at the top to the end.", nodes=len(graph.nodes), edges=len(graph.edges))
    return Markup(
        '<svg class="graph" role="group" xmlns="http://www.w3.org/2000/svg" viewBox="{} {} {} {}" width="{}" height="{}">'
        "<title>{}</title><desc>{}</desc>{}</svg>"
    ).format(left, top, width, height, width, height, title or say("The graph"), said, Markup("").join([*lines, *joints, *nodes]))


@cache
def whole() -> Graph:
    """The graph with everything that Leafmill has of its own, for a run that did not write down what it ran."""
    from graphs.candidate import build  # LangGraph takes its time

    drawn = build().get_graph()
    return Graph.model_validate({"nodes": list(drawn.nodes), "edges": [edge._asdict() for edge in drawn.edges]})


@dataclass
class _Joint:
    """Where the edges from all of some nodes to all of some others meet."""

    name: str
    sources: frozenset[str]
    targets: frozenset[str]


@dataclass
class _Plan:
    """Where everything stands."""

    graph: Graph
    least: float
    """the width that the notes take"""
    joints: dict[str, _Joint] = field(default_factory=dict)
    ways: list[Edge] = field(default_factory=list)
    """edges that are drawn on their own, or to and from a joint, and lead on or back"""
    tops: list[float] = field(default_factory=list)
    """of the rows"""
    bottoms: list[float] = field(default_factory=list)
    _bends: dict[Pair, list[tuple[float, int]]] = field(default_factory=dict)
    """columns and rows through which a long edge goes"""

    def __post_init__(self) -> None:
        self._join()
        self.boxes = self._layered()
        self._stack()

    @cached_property
    def order(self) -> dict[str, int]:
        """The place of each node in the course of things; a joint's is before the first that it leads to."""
        nodes = {name: 2 * place for place, name in enumerate(self.graph.nodes)}
        return nodes | {name: min(nodes[target] for target in joint.targets) - 1 for name, joint in self.joints.items()}

    @cached_property
    def pairs(self) -> dict[Pair, Edge]:
        return {(edge.source, edge.target): edge for edge in self.graph.edges}

    @cached_property
    def hubs(self) -> list[str]:
        """The nodes to which most others lead; those that lead to the end first."""
        led = {
            name: sum(target == name != source for source, target in self.pairs) for name in self.graph.nodes if name not in (START, END)
        }
        least = max(HUB_LEAST, HUB_SHARE * (len(self.graph.nodes) - 3))
        return sorted((name for name, n in led.items() if n >= least), key=lambda name: (name, END) not in self.pairs)

    @cached_property
    def beside(self) -> list[str]:
        """What stands at the side, from below: hubs, and above each what only it leads to."""
        led = {name: {source for source, target in self.pairs if target == name != source} for name in self.graph.nodes}
        stack: list[str] = []
        for hub in self.hubs:
            stack.append(hub)
            stack += [name for name, sources in led.items() if name not in (START, END, *self.hubs) and sources == {hub}]
        return stack

    @cached_property
    def width(self) -> float:
        return max(NARROW, self.least + 16, *(_wide(_shown(name)) + 22 for name in self.graph.nodes))

    def _free(self) -> list[Edge]:
        """Edges that are neither a loop nor of what stands at the side."""
        return [edge for edge in self.pairs.values() if edge.source != edge.target and not {edge.source, edge.target} & {*self.beside}]

    def _join(self) -> None:
        """Let edges meet in joints, as long as that saves lines."""
        left = {(edge.source, edge.target): edge for edge in self._free()}
        plain = {pair for pair, edge in left.items() if not edge.label}
        while best := _biclique(plain, self.graph.nodes):
            name = f" joint {len(self.joints)}"  # no node's: it would not be a name
            self.joints[name] = _Joint(name, *best)
            gone = {(source, target) for source in best[0] for target in best[1]}
            plain -= gone
            left = {pair: edge for pair, edge in left.items() if pair not in gone}
        self.ways = list(left.values())
        for joint in self.joints.values():
            self.ways += [Edge(source=source, target=joint.name) for source in self.graph.nodes if source in joint.sources]
            self.ways += [Edge(source=joint.name, target=target) for target in self.graph.nodes if target in joint.targets]

    def _back(self, edge: Edge) -> bool:
        return self.order[edge.source] >= self.order[edge.target]

    def _layered(self) -> dict[str, Box]:
        """Rows and columns of all but what stands at the side, by grandalf; it is told which edges lead on, so it has no cycle to break."""
        names = sorted((name for name in (*self.graph.nodes, *self.joints) if name not in self.beside), key=self.order.__getitem__)
        vertices = {name: Vertex(name) for name in names}
        for name, vertex in vertices.items():
            vertex.view = _View(*self._size(name))
        on = [(edge.source, edge.target) for edge in self.ways if not self._back(edge)]
        links = {(source, target): Link(vertices[source], vertices[target]) for source, target in on}
        leading, led = {source for source, _ in on}, {target for _, target in on}
        unseen = {(one, name) for one, name in pairwise(names) if name not in led}  # so that all hang together, the end below all others
        unseen |= {(name, names[-1]) for name in names[:-1] if name not in leading} - unseen
        others = [Link(vertices[one], vertices[other]) for one, other in sorted(unseen - set(on))]
        layout = SugiyamaLayout(Links(list(vertices.values()), [*links.values(), *others]).C[0])
        layout.dw, layout.dh, layout.xspace, layout.yspace = DOT, DOT, BESIDE, GAP
        layout.init_all(roots=[vertices[names[0]]], inverted_edges=[])
        layout.draw(ROUNDS)
        for row in layout.layers:
            for one, other in pairwise(row):  # columns are a mean of four: it may bring two of a row too near
                nearest = one.view.xy[0] + (one.view.w + other.view.w) / 2 + BESIDE
                other.view.xy = (max(other.view.xy[0], nearest), 0.0)
            self.tops.append(self.bottoms[-1] + GAP if self.bottoms else 0.0)
            self.bottoms.append(self.tops[-1] + max(vertex.view.h for vertex in row))
        for pair, link in links.items():
            between = layout.ctrls.get(link, {})
            self._bends[pair] = [(between[row].view.xy[0], row) for row in sorted(between)[1:-1]]
        boxes = {}
        for name, vertex in vertices.items():
            row = layout.grx[vertex].rank
            boxes[name] = Box(vertex.view.xy[0], (self.tops[row] + self.bottoms[row]) / 2, vertex.view.w, vertex.view.h, row)
        for source, target in on:  # the first and the last, alone in their rows, stand straight above and below their only neighbours
            if source == START and sum(one == START for one, _ in on) == 1 and not self._bends[source, target]:
                boxes[START] = replace(boxes[START], x=boxes[target].x)
            if target == END and sum(other == END for _, other in on) == 1 and not self._bends[source, target]:
                boxes[END] = replace(boxes[END], x=boxes[source].x)
        return boxes

    def _size(self, name: str) -> tuple[float, float]:
        return (DOT, DOT) if name in (START, END) or name in self.joints else (self.width, HEIGHT)

    def _stack(self) -> None:
        """Put at the side what belongs there, one above the other; the lowest in the row before the end."""
        x = self._rail(2 * len(self.beside)) + self.width / 2
        y = (self.tops[-2] + self.bottoms[-2]) / 2 if len(self.tops) > 1 else self.bottoms[-1]
        for place, name in enumerate(self.beside):
            self.boxes[name] = Box(x, y - place * (HEIGHT + GAP), self.width, HEIGHT, -1 - place)

    @cached_property
    def _columns(self) -> list[float]:
        """Those that are kept free for long edges."""
        return [x for bends in self._bends.values() for x, _ in bends]

    @cached_property
    def _right(self) -> float:
        return max([*(box.side(1) for box in self.boxes.values()), *self._columns])

    def _rail(self, number: int) -> float:
        return self._right + 2 * LANE + number * LANE

    def strokes(self) -> Iterator[Stroke]:
        """All lines, those that matter least first."""
        yield from self._rails()
        yield from self._lanes()
        for edge in self.ways:
            if not self._back(edge):
                yield Stroke(
                    self._carried(edge), self._way(edge), "way", self._dashed(edge), edge.target not in self.joints, edge.label or ""
                )
        for source, target in self.pairs:
            if source == target:
                box = self.boxes[source]
                x, y, out = box.side(1), box.edge(-1), 11
                points = ((x, y + 11), (x + out, y + 11), (x + out, y - out), (x - 14, y - out), (x - 14, y))
                yield Stroke(frozenset({(source, target)}), points, "loop", True, True, self.pairs[source, target].label or "")

    def _carried(self, edge: Edge) -> frozenset[Pair]:
        """The edges that a line to or from a joint stands for."""
        if joint := self.joints.get(edge.target):
            return frozenset((edge.source, target) for target in joint.targets)
        if joint := self.joints.get(edge.source):
            return frozenset((source, edge.target) for source in joint.sources)
        return frozenset({(edge.source, edge.target)})

    def _dashed(self, edge: Edge) -> bool:
        """Whether it is one of several ways on, not counting the side, to which nearly all lead."""
        if edge.source in self.joints:
            return True
        ways = {pair for pair in self.pairs if pair[0] == edge.source and pair[1] not in self.beside}
        return len(ways) > 1 and all(self.pairs[pair].conditional for pair in self._carried(edge))

    def _way(self, edge: Edge) -> tuple[Point, ...]:
        """From the foot of one to the head of the other, through the columns that are kept free for it."""
        source, target = self.boxes[edge.source], self.boxes[edge.target]
        columns = [(source.x, source.row), *self._bends[edge.source, edge.target], (target.x, target.row)]
        through = [point for x, row in columns for point in ((x, self.tops[row]), (x, self.bottoms[row]))]
        points = ((source.x, source.edge(1)), *through[1:-1], (target.x, target.edge(-1)))
        return tuple(dict.fromkeys(points))

    def _lanes(self) -> Iterator[Stroke]:
        """What leads back, on the left, lanes to near nodes nearest."""
        lanes: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.ways:
            if self._back(edge):
                lanes[edge.target].append(edge)
        spans = {target: (self.boxes[target].row, max(self.boxes[edge.source].row for edge in edges)) for target, edges in lanes.items()}
        left = min([*(box.side(-1) for box in self.boxes.values()), *self._columns]) - 1.6 * LANE
        taken: list[list[tuple[int, int]]] = []
        for target in sorted(lanes, key=lambda target: (spans[target][1] - spans[target][0], spans[target])):
            first, last = spans[target]
            free = (n for n, there in enumerate(taken) if all(last < low or first > high for low, high in there))
            if (lane := next(free, len(taken))) == len(taken):
                taken.append([])
            taken[lane].append(spans[target])
            for edge in lanes[target]:
                points = (*self._out(edge.source, -1, left - lane * LANE), *self._in(edge.target, -1, left - lane * LANE))
                yield Stroke(self._carried(edge), points, "back", False, target not in self.joints, edge.label or "")

    def _rails(self) -> Iterator[Stroke]:
        """What leads to the side, from there, and between what stands there."""
        place = {name: number for number, name in enumerate(self.beside)}
        for (source, target), edge in self.pairs.items():
            here, there = place.get(source), place.get(target)
            if source == target or (here is None and there is None):
                continue
            one, other = self.boxes[source], self.boxes[target]
            if here is None:
                assert there is not None
                rail = self._rail(there)
                points = (*self._out(source, 1, rail, there), (rail, other.y + 4), (other.side(-1), other.y + 4))
            elif here == 0 and target == END:
                points = ((one.x, one.edge(1)), (one.x, other.y), (other.side(1), other.y))
            elif there == here + 1:
                points = ((one.x, one.edge(-1)), (other.x, other.edge(1)))
            elif there is not None or target == END:
                lane, y = one.side(1) + LANE * (2 + here), other.y - (0 if target == END else 8)
                points = ((one.side(1), one.y + 8), (lane, one.y + 8), (lane, y), (other.side(1), y))
            else:
                rail = self._rail(len(place) + here)
                points = ((one.side(-1), one.y - 8), (rail, one.y - 8), *self._in(target, 1, rail))
            yield Stroke(frozenset({(source, target)}), points, "rail", False, True, edge.label or "")

    def _alone(self, box: Box, side: int) -> bool:
        """Whether nothing stands in its row on that side."""
        return not any(other.row == box.row and (other.x - box.x) * side > 0 for other in self.boxes.values() if other is not box)

    def _out(self, name: str, side: int, lane: float, number: int = 0) -> tuple[Point, ...]:
        """From a node to a lane: from its side, or, where others stand there, from its foot and below them."""
        box = self.boxes[name]
        if self._alone(box, side):
            y = box.y + (4 + 6 * number if box.h == HEIGHT else 0)
            return ((box.side(side), y), (lane, y))
        x, y = box.x + side * (box.w / 4 + 6 * number), self.bottoms[box.row] + GAP * 0.25 + 4 * number
        return ((x, box.edge(1)), (x, y), (lane, y))

    def _in(self, name: str, side: int, lane: float) -> tuple[Point, ...]:
        """From a lane to a node: to its side, or, where others stand there, above them and to its head."""
        box = self.boxes[name]
        if self._alone(box, side):
            y = box.y - (8 if box.h == HEIGHT else 0)
            return ((lane, y), (box.side(side), y))
        x, y = box.x + side * box.w / 4, self.tops[box.row] - GAP * 0.4
        return ((lane, y), (x, y), (x, box.edge(-1)))


@dataclass
class _View:
    """What grandalf wants to know of a vertex."""

    w: float
    h: float
    xy: Point = (0.0, 0.0)


def _biclique(pairs: set[Pair], order: Sequence[str]) -> tuple[frozenset[str], frozenset[str]] | None:
    """The sources and targets, each led to by each, whose meeting in one point saves most lines; None when none does."""
    led: dict[str, set[str]] = defaultdict(set)
    for source, target in pairs:
        led[target].add(source)
    best: tuple[int, frozenset[str], frozenset[str]] | None = None
    for one, other in combinations([name for name in order if name in led], 2):
        sources = led[one] & led[other]
        targets = {name for name in led if sources <= led[name]} - sources
        saved = len(sources) * len(targets) - len(sources) - len(targets)
        if len(sources) > 1 and len(targets) > 1 and saved > (best[0] if best else 0):
            best = saved, frozenset(sources), frozenset(targets)
    return best and best[1:]


def _wide(text: str) -> float:
    """About how wide a text is in the node's type."""
    return sum(14.0 if unicodedata.east_asian_width(char) in "WF" else 7.4 for char in text)


def _shown(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _name(name: str, say: Callable[..., str]) -> str:
    return {START: say("start"), END: say("end")}.get(name, name)


def _extent(boxes: Iterable[Box], strokes: Iterable[Stroke]) -> tuple[int, int, int, int]:
    """left, top, width and height of the picture, whole numbers"""
    corners = [(box.side(side), box.edge(side)) for box in boxes for side in (-1, 1)]
    corners += [point for stroke in strokes for point in stroke.points]
    xs, ys = zip(*corners, strict=True)
    left, top = int(min(xs) // 1) - 6, int(min(ys) // 1) - 6
    return left, top, int(max(xs)) + 8 - left, int(max(ys)) + 8 - top


def _at(box: Box) -> tuple[float, float]:
    return round(box.x, 1), round(box.y, 1)


def _line(stroke: Stroke, on: bool) -> Markup:
    """A stroke with its head, as one group that knows its edges."""
    classes = " ".join(["edge", stroke.kind, *(["dashed"] if stroke.dashed else []), *(["on"] if on else [])])
    path = _curve(stroke.points) if stroke.kind == "way" else _rounded(stroke.points)
    edges = " ".join(sorted(f"{source}>{target}" for source, target in stroke.pairs))
    head, label = Markup(""), Markup("")
    if stroke.arrow:
        head = Markup('<path class="head" d="{}"/>').format(_head(stroke.points[-2], stroke.points[-1], stroke.kind == "way"))
    if stroke.label:
        (x, y), (there, below) = stroke.points[0], stroke.points[1]
        label = Markup('<text class="label" x="{}" y="{}">{}</text>').format(
            round((x + there) / 2, 1), round((y + below) / 2 - 3, 1), stroke.label
        )
    return Markup('<g class="{}" data-edges="{}"><path d="{}"/>{}{}</g>').format(classes, edges, path, head, label)


def _curve(points: Sequence[Point]) -> str:
    """Down from point to point, leaving and arriving upright."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (there, below) in pairwise(points):
        half = (y + below) / 2
        parts.append(f"L{there:.1f} {below:.1f}" if x == there else f"C{x:.1f} {half:.1f} {there:.1f} {half:.1f} {there:.1f} {below:.1f}")
    return "".join(parts)


def _rounded(points: Sequence[Point]) -> str:
    """Straight from point to point, with round corners."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        first, last = _towards(corner, before), _towards(corner, after)
        parts.append(f"L{first[0]:.1f} {first[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {last[0]:.1f} {last[1]:.1f}")
    return "".join([*parts, f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"])


def _towards(corner: Point, other: Point) -> Point:
    """A point near a corner on the way to another."""
    across, down = other[0] - corner[0], other[1] - corner[1]
    far = max(abs(across), abs(down))
    share = min(1.0, ROUND / far) if far else 0.0
    return corner[0] + across * min(share, 0.5), corner[1] + down * min(share, 0.5)


def _head(before: Point, tip: Point, upright: bool) -> str:
    """An arrowhead. Curves arrive upright, other lines as they run."""
    across, down = (0.0, 1.0) if upright or before == tip else (tip[0] - before[0], tip[1] - before[1])
    length = (across**2 + down**2) ** 0.5
    across, down = across / length, down / length
    x, y = tip[0] - 7 * across, tip[1] - 7 * down
    return f"M{tip[0]:.1f} {tip[1]:.1f}L{x - 3.2 * down:.1f} {y + 3.2 * across:.1f}L{x + 3.2 * down:.1f} {y - 3.2 * across:.1f}Z"


def _node(name: str, box: Box, note: Note, chosen: bool, called: str, ways: Sequence[str], say: Callable[..., str]) -> Markup:
    """A node, as a link where it leads somewhere."""
    goes = say("{node} leads to {others}", node=called, others=", ".join(ways)) if ways else called
    title = Markup("<title>{}</title>").format(f"{note.title}\n{goes}" if note.title else goes)
    x, y = _at(box)
    if name in (START, END):
        return Markup('<g class="node point {}">{}<circle cx="{}" cy="{}" r="{}"/></g>').format(
            "start" if name == START else "end", title, x, y, DOT / 2
        )
    rect = Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="6"/>').format(
        round(box.side(-1), 1), round(box.edge(-1), 1), round(box.w, 1), box.h
    )
    text = Markup('<text class="name" x="{}" y="{}">{}</text>').format(x, y + (-3 if note.line else 4.5), _shown(name))
    if note.line:
        text += Markup('<text class="line" x="{}" y="{}">{}</text>').format(x, y + 12, note.line)
    inside = Markup('<g class="node{}" data-node="{}">{}{}{}</g>').format(" chosen" if chosen else "", name, title, rect, text)
    return Markup('<a href="{}">{}</a>').format(note.href, inside) if note.href else inside
