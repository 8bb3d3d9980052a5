"""Passages of the user's documents: text, Markdown, PDF (pypdf) and HTML (selectolax), cut where a paragraph or a sentence ends.

    for passage in read(Path("handbook.md"), most=400): ...       # heading "Returns > Refunds", place "lines 12-18"

A document is a row of blocks (paragraphs, list items, code), each under its headings. Blocks under one heading are put together as long
as they fit; one that is too long by itself is cut between sentences, Chinese ones too, and a sentence that is too long between units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from leafmill.errors import InputError, Place
from taxonomy.seeds import units

LEAST = 20
"""units under which a passage says too little to ask about: a title page, "see also" """
NEEDS = "pip install 'leafmill[documents]'"

_SENTENCE = re.compile(r"(?<=[。！？；…])(?![”’」』）])|(?<=[。！？；…][”’」』）])|(?<=[.!?])\s+(?=[^\sa-z])|\n")
_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n", re.DOTALL)
_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_WRAPPED_CJK = re.compile(r"(?<=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef])\n(?=[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef])")

DROPPED_TAGS = ("script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "svg", "iframe", "button")
BLOCK_TAGS = frozenset(
    str.split(
        "body main article section div p li ul ol dl dt dd pre blockquote table caption tr td th figure figcaption details summary address "
        "h1 h2 h3 h4 h5 h6"
    )
)


class Block(NamedTuple):
    text: str
    heading: tuple[str, ...]
    """the titles that it stands under, the outermost first"""
    place: int
    """its line, page or number"""


class Passage(NamedTuple):
    text: str
    heading: str
    place: str


class _Kind(NamedTuple):
    read: Callable[[Path], Iterable[Block]]
    place: str
    """what the numbers of its places are"""


def read(path: Path, most: int) -> list[Passage]:
    """The passages of a document, of `most` units each, without those that say too little. Raises InputError."""
    if path.suffix.lower() not in KINDS:
        raise InputError(f"a document should be one of {', '.join(KINDS)}, got {path.name!r}", Place(str(path)))
    kind = KINDS[path.suffix.lower()]
    packed = _packed(kind.read(path), most)
    return [Passage(text, " > ".join(heading), _place(kind.place, places)) for text, heading, places in packed if units(text) >= LEAST]


def find(folder: Path, given: str) -> list[Path]:
    """The documents that a path, a folder or a glob means, in the order of their names. Raises InputError where there are none."""
    path = folder / given
    if path.is_file():
        return [path]
    inside = path.rglob("*") if path.is_dir() else folder.glob(given)
    found = sorted(one for one in inside if one.is_file() and one.suffix.lower() in KINDS)
    if not found:
        raise InputError(f"there is no document in {str(path)!r}: expected files of {', '.join(KINDS)}")
    return found


class _Packed(NamedTuple):
    text: str
    heading: tuple[str, ...]
    places: tuple[int, int]


def _packed(blocks: Iterable[Block], most: int) -> Iterator[_Packed]:
    """Blocks under one heading together, as many as fit."""
    held: list[Block] = []
    for piece in (piece for block in blocks for piece in _cut(block, most)):
        if held and (piece.heading != held[0].heading or sum(units(one.text) for one in [*held, piece]) > most):
            yield _joined(held)
            held = []
        held.append(piece)
    if held:
        yield _joined(held)


def _joined(blocks: list[Block]) -> _Packed:
    return _Packed("\n\n".join(block.text for block in blocks), blocks[0].heading, (blocks[0].place, blocks[-1].place))


def _cut(block: Block, most: int) -> Iterator[Block]:
    """The block, in pieces where it is too long."""
    if units(block.text) <= most:
        yield block
        return
    held = ""
    for piece in (piece for sentence in _sentences(block.text) for piece in _hard_cut(sentence, most)):
        if held and units(held + piece) > most:
            yield block._replace(text=held.strip())
            held = ""
        held += piece
    if held.strip():
        yield block._replace(text=held.strip())


def _sentences(text: str) -> list[str]:
    """The sentences, each with the spaces behind it, so that together they are the text."""
    ends = [found.end() for found in _SENTENCE.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if text[start:end]]


def _hard_cut(sentence: str, most: int) -> Iterator[str]:
    """A sentence that is longer than a passage, between its units."""
    while units(sentence) > most:
        at = _end_of_units(sentence, most)
        yield sentence[:at]
        sentence = sentence[at:]
    if sentence:
        yield sentence


def _end_of_units(text: str, most: int) -> int:
    """The longest beginning of `most` units, by halving."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if units(text[:middle]) <= most else (low, middle - 1)
    space = text.rfind(" ", 0, low)
    return space + 1 if space > low // 2 else low


def _place(kind: str, places: tuple[int, int]) -> str:
    first, last = places
    return f"{kind} {first}" if first == last else f"{kind}s {first}-{last}"


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise InputError(f"not valid UTF-8: byte {fault.object[fault.start]:#04x} at offset {fault.start}", Place(str(path))) from None
    except OSError as fault:
        raise InputError(f"cannot be read: {fault.strerror}", Place(str(path))) from None
    return text.replace("\r\n", "\n")


def _read_txt(path: Path) -> Iterator[Block]:
    return _paragraphs(_text(path))


def _paragraphs(text: str, heading: tuple[str, ...] = (), first_line: int = 1) -> Iterator[Block]:
    """What stands between blank lines."""
    start = 0
    for end, after in [*(found.span() for found in _BLANK.finditer(text)), (len(text), len(text))]:
        paragraph = text[start:end]
        if paragraph.strip():
            line = first_line + text.count("\n", 0, start + len(paragraph) - len(paragraph.lstrip()))
            yield Block(paragraph.strip(), heading, line)
        start = after


def _read_md(path: Path) -> Iterator[Block]:
    """Paragraphs and fenced code, each whole, under their headings."""
    text = _text(path)
    front = _FRONT_MATTER.match(text)
    skipped = front[0].count("\n") if front else 0
    trail: list[tuple[int, str]] = []
    held: list[str] = []
    began, fence = 1, ""

    def flush() -> Iterator[Block]:
        heading = tuple(title for _, title in trail)
        body = "\n".join(held)
        yield from [Block(body.strip(), heading, began)] if _FENCE.match(body) else _paragraphs(body, heading, began)
        held.clear()

    for number, line in enumerate(text.split("\n")[skipped:], start=skipped + 1):
        mark, title = _FENCE.match(line), None if fence else _HEADING.match(line)
        if (mark and not fence) or title:
            yield from flush()
        if title:
            trail = [*(one for one in trail if one[0] < len(title[1])), (len(title[1]), title[2])]
            continue
        began = began if held else number
        held.append(line)
        if mark and fence and mark[1].startswith(fence):
            fence = ""
            yield from flush()
        elif mark and not fence:
            fence = mark[1]
    yield from flush()


def _read_pdf(path: Path) -> Iterator[Block]:
    """The paragraphs of each page. Lines are joined: a PDF breaks them where the paper ends."""
    try:
        import pypdf
    except ImportError:
        raise InputError(f"{path.name} is a PDF, which takes: {NEEDS}", Place(str(path))) from None
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    except (pypdf.errors.PyPdfError, OSError, ValueError, KeyError, TypeError) as fault:  # what a damaged file makes of its parser
        raise InputError(f"is no PDF that can be read: {fault}", Place(str(path))) from fault
    if not any(page.strip() for page in pages):
        raise InputError(f"its {len(pages)} pages hold no text: a scan has to be recognised first", Place(str(path)))
    for number, page in enumerate(pages, start=1):
        for block in _paragraphs(page):
            flowing = _WRAPPED_CJK.sub("", _HYPHENATED.sub("", block.text))
            yield Block(" ".join(flowing.split()), (), number)


def _read_html(path: Path) -> Iterator[Block]:
    """The blocks of the main part, under their headings, without navigation, forms and scripts."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise InputError(f"{path.name} is HTML, which takes: {NEEDS}", Place(str(path))) from None
    tree = LexborHTMLParser(_text(path))
    for dropped in tree.css(",".join(DROPPED_TAGS)):
        dropped.decompose()
    for broken in tree.css("br"):
        broken.replace_with("\n")
    root = tree.css_first("main") or tree.css_first("article") or tree.body
    trail: list[tuple[str, str]] = []
    texts = (node for node in root.traverse(include_text=True) if node.is_text_node) if root else ()
    for number, (_, nodes) in enumerate(groupby(texts, key=lambda node: _block_of(node).mem_id), start=1):
        inside = list(nodes)
        tag, text = str(_block_of(inside[0]).tag), "".join(str(node.text_content) for node in inside)
        text = text.strip("\n") if tag == "pre" else " ".join(text.split())
        if re.fullmatch("h[1-6]", tag):
            trail = [*(one for one in trail if one[0] < tag), (tag, text)]
        elif text.strip():
            yield Block(text, tuple(title for _, title in trail), number)


def _block_of(text: Any) -> Any:
    """The block that a piece of text stands in."""
    node = text.parent
    while node.tag not in BLOCK_TAGS and node.parent is not None:
        node = node.parent
    return node


KINDS: Mapping[str, _Kind] = {
    ".txt": _Kind(_read_txt, "line"),
    ".md": _Kind(_read_md, "line"),
    ".markdown": _Kind(_read_md, "line"),
    ".pdf": _Kind(_read_pdf, "page"),
    ".html": _Kind(_read_html, "block"),
    ".htm": _Kind(_read_html, "block"),
}
