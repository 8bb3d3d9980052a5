"""How fast the web pages are over a large run, and what looking costs a run.

python -m bench.ui                                     # 100,000 candidates, over 1,000,000 calls: 3 GB for a while
python -m bench.ui --candidates 2000 --each 5
python -m bench.ui --folder FOLDER --keep              # makes FOLDER/big, or takes what is there
python -m bench.ui --beside --pairs 6                  # a run with and without somebody looking
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.ui import beside, pages
from bench.ui.ledger import make
from leafmill.index.index import NAME, Index
from leafmill.runfolder import RunFolder

RUN = "big"


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench.ui", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--candidates", type=int, default=100_000)
    asked.add_argument("--each", type=int, default=20, help="requests of each page")
    asked.add_argument("--folder", type=Path, help="where the run lies, or is made; a temporary one otherwise")
    asked.add_argument("--keep", action="store_true", help="leave the run there")
    asked.add_argument("--beside", action="store_true", help="measure what looking costs a run, not the pages")
    asked.add_argument("--pairs", type=int, default=6, help="of runs, with and without")
    args = asked.parse_args()
    if args.beside:
        for line in beside.table(beside.measure(args.pairs)):
            show(line)
        return
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as aside:
        folder = (args.folder or Path(aside)) / RUN
        is_there = folder.exists()
        if not is_there:
            begun = time.perf_counter()
            path = make(folder, args.candidates)
            took, size = time.perf_counter() - begun, path.stat().st_size / 1e6
            show(f"a ledger of {args.candidates} candidates was made in {took:.0f} s: {size:.0f} MB")
        show(build(folder))
        lines = pages.measure(folder, args.each)
        for line in pages.table(lines):
            show(line)
        if not is_there and not args.keep:
            for left in sorted(folder.rglob("*"), reverse=True):
                left.rmdir() if left.is_dir() else left.unlink()
    sys.exit(0 if all(line.is_met for line in lines) else 1)


def build(folder: Path) -> str:
    """Make the index from nothing."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{NAME}{suffix}").unlink(missing_ok=True)
    begun, used = time.perf_counter(), time.process_time()
    with closing(Index(RunFolder(folder))) as index:
        index.refresh(3600)
        (held,) = index.rows("SELECT (SELECT count(*) FROM candidates) AS candidates, (SELECT sum(calls) FROM spent) AS calls")
        took, used = time.perf_counter() - begun, time.process_time() - used
        size = index.path.stat().st_size / 1e6
    what = f"{size:.0f} MB of {held['candidates']} candidates and {held['calls']} calls"
    return f"its index was made in {took:.0f} s ({used:.0f} s of one core): {what}"


def show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
