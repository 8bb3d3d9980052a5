from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill.ui.roles import drawing
from leafmill.ui.roles.drawing import END, START, Edge, Graph, Note

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """As LangGraph may have them: from a start to an end, with loops, ways back, and nodes to which many lead."""
    inner = [f"n{number}" for number in range(draw(st.integers(1, 12)))]
    pairs = st.tuples(st.sampled_from([START, *inner]), st.sampled_from([*inner, END]))
    edges = {(START, inner[0]), (inner[-1], END), *draw(st.lists(pairs, max_size=40))}
    if draw(st.booleans()):
        edges |= {(name, inner[-1]) for name in inner}
    made = [Edge(source=one, target=other, conditional=draw(st.booleans())) for one, other in sorted(edges)]
    return Graph(nodes=[START, *inner, END], edges=made)


def chain(*names: str, more: tuple[tuple[str, str], ...] = ()) -> Graph:
    """A line from the start to the end, and more edges."""
    nodes = [START, *names, END]
    return Graph(nodes=nodes, edges=[Edge(source=one, target=other) for one, other in (*pairwise(nodes), *more)])


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def boxes(picture: str) -> dict[str, tuple[float, float, float, float]]:
    """left, top, right, bottom of each node"""
    found = {}
    for node in parsed(picture).iter(f"{SVG}g"):
        if name := node.get("data-node"):
            rect = node.find(f"{SVG}rect")
            assert rect is not None
            x, y, w, h = (float(rect.get(key, 0)) for key in ("x", "y", "width", "height"))
            found[name] = (x, y, x + w, y + h)
    return found


def strokes(picture: str) -> list[ElementTree.Element]:
    return [one for one in parsed(picture).iter(f"{SVG}g") if "data-edges" in one.attrib]


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_every_edge_of_a_graph_is_drawn_and_no_other_one(graph: Graph) -> None:
    """A line that stands for several edges leads to a joint, or from one: of those each edge has one of each."""
    lines = Counter[str]()
    for one in strokes(drawing.svg(graph)):
        pairs = one.attrib["data-edges"].split()
        lines.update(pairs if len(pairs) == 1 else dict.fromkeys(pairs, 1))
    wanted = {f"{edge.source}>{edge.target}" for edge in graph.edges}
    assert set(lines) == wanted
    assert all(number in (1, 2) for number in lines.values())


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_no_node_stands_on_another_and_all_is_within_the_picture(graph: Graph) -> None:
    picture = drawing.svg(graph)
    there = boxes(picture)
    assert set(there) == {*graph.nodes} - {START, END}
    left, top, width, height = map(float, parsed(picture).attrib["viewBox"].split())
    for name, (x, y, right, bottom) in there.items():
        assert left <= x
        assert right <= left + width
        assert top <= y
        assert bottom <= top + height
        for other, (x2, y2, right2, bottom2) in there.items():
            assert name == other or right <= x2 or right2 <= x or bottom <= y2 or bottom2 <= y, (name, other)


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_no_line_runs_through_a_node(graph: Graph) -> None:
    picture = drawing.svg(graph)
    there = boxes(picture)
    for one in strokes(picture):
        path = one.find(f"{SVG}path")
        assert path is not None
        ends = {end for pair in one.attrib["data-edges"].split() for end in pair.split(">")}
        for x, y in points(path.attrib["d"]):
            for name, (left, top, right, bottom) in there.items():
                inside = left + 1 < x < right - 1 and top + 1 < y < bottom - 1
                assert not inside or name in ends, (one.attrib["data-edges"], name, x, y)


def points(path: str) -> list[tuple[float, float]]:
    """Many points of a path."""
    found: list[tuple[float, float]] = []
    for kind, numbers in re.findall(r"([MLQC])([^MLQC]*)", path):
        values = [float(number) for number in numbers.split()]
        corners = [*found[-1:], *zip(values[::2], values[1::2], strict=True)]
        if kind == "M":
            found += corners
            continue
        for step in range(1, 21):
            along = corners
            while len(along) > 1:  # de Casteljau
                along = [tuple(a + (b - a) * step / 20 for a, b in zip(*two, strict=True)) for two in pairwise(along)]  # type: ignore[misc]
            found += along
    return found


def test_the_whole_graph_is_drawn_from_langgraphs_own_structure() -> None:
    graph = drawing.whole()
    assert {"write", "evolve", "annotate", "admit", "reject"} <= {*graph.nodes}
    assert Edge(source="annotate", target="criticise", conditional=True) in graph.edges
    there = boxes(drawing.svg(graph))
    assert there["write"][3] < there["evolve"][1] < there["annotate"][1] < there["score"][1] < there["admit"][1]
    assert there["reject"][0] > max(there[name][2] for name in ("write", "vote", "admit"))  # at the side


def test_the_same_graph_is_drawn_the_same_in_every_process() -> None:
    graph = chain("a", "b", "c", "d", more=(("a", "d"), ("c", "a"), ("a", "c"), ("b", "d")))
    script = "import sys; from leafmill.ui.roles import drawing; print(drawing.svg(drawing.Graph.model_validate_json(sys.argv[1])))"
    command, seed = [sys.executable, "-c", script, graph.model_dump_json()], {**os.environ, "PYTHONHASHSEED": "7"}
    elsewhere = subprocess.run(command, env=seed, capture_output=True, text=True, check=True).stdout
    assert elsewhere.strip() == drawing.svg(graph)


def test_names_and_notes_are_text_and_nothing_else() -> None:
    harm = '<script>alert(1)</script>"&'
    picture = drawing.svg(chain(harm, "b"), {harm: Note(harm, f"/runs/x?{harm}", harm)}, title=harm)
    assert "<script" not in picture
    assert harm in boxes(picture)
    assert "style=" not in picture


def test_a_node_is_a_link_and_says_its_figures_and_where_it_leads() -> None:
    picture = drawing.svg(chain("write", "answer"), {"write": Note("12 calls", "/runs/a/roles/writer", "writer")})
    link = next(parsed(picture).iter(f"{SVG}a"))
    assert link.get("href") == "/runs/a/roles/writer"
    assert [one.text for one in link.iter(f"{SVG}text")] == ["write", "12 calls"]
    assert next(link.iter(f"{SVG}title")).text == "writer\nwrite leads to answer"


def test_what_leads_to_and_from_the_chosen_node_stands_out() -> None:
    picture = drawing.svg(chain("a", "b", "c"), chosen=["b"])
    lit = {one.attrib["data-edges"] for one in strokes(picture) if "on" in one.attrib["class"].split()}
    assert lit == {"a>b", "b>c"}
    assert 'class="node chosen" data-node="b"' in picture


def test_a_way_back_is_drawn_beside_the_nodes_and_one_of_several_ways_is_dashed() -> None:
    graph = chain("a", "b", "c", more=(("c", "a"),))
    for edge in graph.edges:
        edge.conditional = edge.source == "c"
    kinds = {one.attrib["data-edges"]: one.attrib["class"].split() for one in strokes(drawing.svg(graph))}
    assert "back" in kinds["c>a"]
    assert "dashed" in kinds[f"c>{END}"]
    assert kinds["a>b"] == ["edge", "way"]


def test_an_edge_says_the_label_that_langgraph_has_for_it() -> None:
    graph = Graph.model_validate(
        {
            "nodes": [START, "a", END],
            "edges": [{"source": START, "target": "a", "data": "go"}, {"source": "a", "target": END, "data": None}],
        }
    )
    assert [one.text for one in parsed(drawing.svg(graph)).iter(f"{SVG}text")] == ["go", "a"]


@pytest.mark.parametrize("name", ["标注员-清晰度", "a" * 60])
def test_a_name_fits_its_node(name: str) -> None:
    picture = drawing.svg(chain(name))
    left, _, right, _ = boxes(picture)[name]
    shown = next(parsed(picture).iter(f"{SVG}text")).text or ""
    assert right - left > len(shown) * (12 if name[0] > "z" else 6)
