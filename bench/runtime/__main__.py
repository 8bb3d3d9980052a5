"""The benchmark's command line: python -m bench.runtime compare | kill | resume | memory | ledger."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench.runtime import compare, trials


def show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _help(name: str) -> str:
    return str(getattr(trials, name).__doc__).splitlines()[0]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stub is ended too
    parser = argparse.ArgumentParser(prog="python -m bench.runtime", description="What Leafmill itself costs per model call.")
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("compare", help="beside the plain runners, in cells of rows x concurrency x latency")
    one.add_argument("--rows", type=numbers, default=[200, 1000])
    one.add_argument("--concurrency", type=numbers, default=[64, 512])
    one.add_argument("--latency", type=numbers, default=[0, 200], help="milliseconds")
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--json", type=Path, help="append a line for each run to this file")

    for name, rows, latency in (("kill", 300, 200), ("resume", 5000, None), ("ledger", 300, 200)):
        one = commands.add_parser(name, help=_help(name))
        one.add_argument("--rows", type=int, default=rows)
        one.add_argument("--concurrency", type=int, default=64)
        if latency is not None:
            one.add_argument("--latency", type=int, default=latency, help="milliseconds")
        if name == "ledger":
            one.add_argument("--repeats", type=int, default=3)
    one = commands.add_parser("memory", help=_help("memory"))
    one.add_argument("--rows", type=numbers, default=[2000, 5000, 20000], help="numbers of candidates at which to look")
    one.add_argument("--concurrency", type=int, default=64)

    asked = vars(parser.parse_args())
    command = asked.pop("command")
    if command == "memory":
        trials.memory(asked.pop("rows"), show=show, **asked)
    elif command != "compare":
        getattr(trials, command)(show=show, **asked)
    else:
        out = asked.pop("json")
        lines = []
        for line in compare.runs(**asked, show=show):
            lines.append(line)
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
        results = compare.Results(lines)
        show(compare.tables(results))
        show(compare.goals(results))


if __name__ == "__main__":
    main()
