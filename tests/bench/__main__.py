"""`scripts/bench`: every row of the table, or those named."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from bench.machine import described
from bench.report import line, page
from bench.row import Result, Scale, pin
from bench.rows import measured

ROWS = {
    "near_get": "await get, near hit",
    "near_peek": "peek and sync.get, near hit",
    "decorated": "decorated functions, hit",
    "near_zipf": "get, and set on a miss, under zipf",
    "near_get_or_set": "get_or_set under zipf",
    "insert": "insertion with eviction",
    "stampede": "1,000 tasks on a cold key",
    "redis_hit": "Redis hit, 1, 64 and 256 tasks",
    "two_tiers": "near miss, Redis, decode, near",
    "redis_hit_uvloop": "the row redis_hit on uvloop, peers too",
    "two_tiers_uvloop": "the row two_tiers on uvloop, peers too",
    "sqlite": "SQLite hits and writes",
    "memory": "bytes of a near entry",
    "stalls": "longest stall of the loop",
    "hit_ratios": "hit ratios by the optimum's",
    "growth": "what grows with the number of entries",
    "imports": "import tiercache",
    "telemetry": "near hit, telemetry off, API, SDK",
}
"""What `bench.rows` measures, in the order of the table."""
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["policies"]:
        # Trace by trace; the row `hit_ratios` is its mean.
        return importlib.import_module("bench.policies").main(arguments[1:])
    known = "\n".join(f"  {name:16} {meaning}" for name, meaning in ROWS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures tiercache and its peers. Without a name: everything, in about ten minutes, and "
        "docs/benchmarks.md is written. Peers take part where they are installed (the extra `bench`).",
        epilog=f"rows:\n{known}\n  policies         hit ratios trace by trace, with options of its own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help="`all`, or rows, which are then only printed")
    parser.add_argument("--short", action="store_true", help="whether it works, not how fast")
    parser.add_argument("--no-pin", action="store_true", help="let the system choose processors")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what was measured there, and do not measure it again"
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="a sentence for the page: what else the machine did"
    )
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in {*ROWS, "all"}]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; there are: all, {', '.join(ROWS)}")
    if options.json:
        return _one(options.names[0], Scale(short=options.short), pinned=not options.no_pin)
    whole = options.names in ([], ["all"])
    began = perf_counter()
    results: list[Result] = []
    broken: list[str] = []
    for name in ROWS if whole else options.names:
        # In a process of its own: what one row leaves behind is not the next one's.
        command = [sys.executable, "-m", "bench", name, "--json"]
        command += ["--short"] * options.short + ["--no-pin"] * options.no_pin
        started = perf_counter()
        kept = options.keep / f"{name}.json" if options.keep else None
        if kept is not None and kept.exists():
            found = kept.read_text()
        else:
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if run.returncode:
                broken.append(name)
                print(f"{name}: broken\n", flush=True)
                continue
            found = run.stdout.splitlines()[-1]
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(found)
        row = [Result(**figures) for figures in json.loads(found)]
        for result in row:
            print(line(result), flush=True)
        if not row:
            print(f"{name}: what it needs is not installed", flush=True)
        print(f"    ({name}, {perf_counter() - started:.0f} s)\n", flush=True)
        results += row
    missed = [result.title for result in results if result.reached is False]
    print(f"{len(results) - len(missed)} of {len(results)} rows reached or without a goal; missed:")
    for title in missed:
        print(f"    {title}")
    print(f"{perf_counter() - began:.0f} s")
    if whole and not options.short and not broken:
        pinned = "processors chosen by the system" if options.no_pin else _pinned()
        about = [*described(), pinned, *([options.note] if options.note else [])]
        (DOCS / "benchmarks.md").write_text(page(results, about, DOCS / "benchmarks"))
    return 1 if broken else 0


def _pinned() -> str:
    return "every row with the servers it asks pinned to one processor, where the system can"


def _one(name: str, scale: Scale, *, pinned: bool) -> int:
    """Measure one row in this process, and print it as JSON."""
    if pinned:
        pin()
    results = measured(name, scale)
    print(json.dumps([result.as_dict() for result in results]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
