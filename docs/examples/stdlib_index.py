"""Index the running Python's standard library through the cache that tiercache.toml describes.

Parsing a module and measuring its functions takes milliseconds; the index of one that has not changed is
the same every time. Many tasks ask for modules in a skewed order, as readers of a documentation site would.

    python docs/examples/stdlib_index.py [--requests N] [--tasks N] [--fresh] [--redis URL]
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import itertools
import os
import random
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tiercache import Cache, ConfigError, Stats, TiercacheError

ROOT = Path(__file__).resolve().parents[2]
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.comprehension,
    ast.Assert,
)
UNCACHED = 200
"""Requests that are timed without a cache: enough for a rate, without making anybody wait."""


def modules() -> list[Path]:
    """Return the modules of the standard library, packages of tests and add-ons apart."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "lib2to3",
        "ensurepip",
    }
    found = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in skipped)
        found += [Path(folder) / name for name in sorted(files) if name.endswith(".py")]
    return found


def index(path: Path) -> dict[str, Any]:
    """Return the definitions of a module, each with its line, docstring and cyclomatic complexity (McCabe,
    "A Complexity Measure", 1976: one, and one more for each branch).
    """
    tree = ast.parse(path.read_bytes(), filename=str(path))
    definitions = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            branches = sum(
                len(part.values) - 1 if isinstance(part, ast.BoolOp) else isinstance(part, BRANCHES)
                for part in ast.walk(node)
            )
            definitions.append(
                {
                    "name": node.name,
                    "kind": type(node).__name__,
                    "line": node.lineno,
                    "doc": ast.get_docstring(node),
                    "complexity": 1 + branches,
                }
            )
    return {"module": path.name, "doc": ast.get_docstring(tree), "definitions": definitions}


def key_of(path: Path) -> str:
    """Return a key that changes when the module does, or the Python that parses it."""
    status = path.stat()
    version = sysconfig.get_python_version()
    return f"computed:stdlib:{version}:{path.stem}:{hash_of(str(path))}:{status.st_mtime_ns}:{status.st_size}"


def hash_of(text: str) -> str:
    """Return a short digest, the same in every process."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def skewed(count: int, requests: int, seed: int = 1) -> list[int]:
    """Return *requests* indexes below *count*: each once, the rest by Zipf's law (exponent 1)."""
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    weights = list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))
    order = list(range(count))
    chance.shuffle(order)
    drawn = chance.choices(order, cum_weights=weights, k=max(0, requests - count))
    asked = [*order, *drawn]
    chance.shuffle(asked)
    return asked


def milliseconds(seconds: float) -> str:
    """Return *seconds* in milliseconds, to two digits at least."""
    return f"{seconds * 1000:,.0f}" if seconds >= 0.1 else f"{seconds * 1000:.2g}"


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over the requests took."""

    name: str
    requests: int
    seconds: float
    latencies: list[float]
    before: Stats | None = None
    after: Stats | None = None

    def row(self, tiers: list[str], each: float) -> list[str]:
        """Return the cells of the table."""
        ordered = sorted(self.latencies)
        cells = [
            self.name,
            f"{self.requests:,}",
            f"{self.requests / self.seconds:,.0f}",
            milliseconds(ordered[len(ordered) // 2]),
            milliseconds(ordered[int(len(ordered) * 0.99)]),
        ]
        if self.before is None or self.after is None:
            return [*cells, *("-" for _ in tiers), f"{self.requests:,}", "-"]
        before, after = self.before, self.after
        loads = sum(r.loads for r in after.routes.values()) - sum(r.loads for r in before.routes.values())
        hits = [after.tiers[tier].hits - before.tiers[tier].hits for tier in tiers]
        return [*cells, *(f"{n:,}" for n in hits), f"{loads:,}", f"{(self.requests - loads) * each:,.1f} s"]


async def timed(
    name: str, asked: list[int], tasks: int, fetch: Callable[[int], Awaitable[Any]], progress: Progress
) -> tuple[float, list[float]]:
    """Ask for all of *asked*, *tasks* at a time; return the seconds in all and those of each request."""
    bar = progress.add_task(name, total=len(asked))
    queue = iter(asked)
    latencies: list[float] = []

    async def worker() -> None:
        for number in queue:
            started = time.perf_counter()
            await fetch(number)
            latencies.append(time.perf_counter() - started)
            if len(latencies) % 64 == 0:
                progress.update(bar, completed=len(latencies))
                await asyncio.sleep(0)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(tasks)))
    elapsed = time.perf_counter() - started
    progress.update(bar, completed=len(asked))
    return elapsed, latencies


def opened(redis: str | None) -> Cache:
    """Return the cache of tiercache.toml, with Redis between memory and disk where it is asked for."""
    if redis is None:
        return Cache.open(ROOT / "tiercache.toml")
    return Cache.open(
        ROOT / "tiercache.toml",
        tier={"redis": {"type": "redis", "url": redis}},
        route={"computed": {"tiers": ["memory", "redis", "disk"]}},
    )


async def job(options: argparse.Namespace, console: Console) -> None:
    """Run the three passes and print their table."""
    paths = modules()
    keys = [key_of(path) for path in paths]
    asked = skewed(len(paths), options.requests)
    passes: list[Pass] = []
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        async def uncached(number: int) -> Any:
            return index(paths[number])

        seconds, latencies = await timed("no cache", asked[:UNCACHED], 1, uncached, progress)
        passes.append(Pass("no cache", len(latencies), seconds, latencies))
        each = seconds / len(latencies)
        async with opened(options.redis) as cache:
            if options.fresh:
                await cache.clear()

            async def cached(number: int) -> Any:
                return await cache.get_or_set(keys[number], lambda: asyncio.to_thread(index, paths[number]))

            for name in ("first pass", "second pass"):
                before = cache.stats()
                seconds, latencies = await timed(name, asked, options.tasks, cached, progress)
                passes.append(Pass(name, len(asked), seconds, latencies, before, cache.stats()))
            tiers = list(cache.stats().tiers)
    table = Table(
        title=f"{len(paths):,} modules of Python {sys.version.split()[0]}, {options.tasks} tasks at once",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="hits by tier; who joins a read or load under way is no hit; saved: loading not done",
    )
    for heading in ("", "requests", "per s", "p50 ms", "p99 ms", *tiers, "loads", "saved"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for one in passes:
        table.add_row(*one.row(tiers, each))
    console.print(table)
    first = passes[1].row(tiers, each)[-2]
    console.print(
        f"The first pass loaded {first} modules"
        + (
            ": everything was still on disk from an earlier run."
            if first == "0"
            else "; run it again, and it loads none."
        )
    )


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Index the standard library through tiercache.")
    parser.add_argument(
        "--requests", type=int, default=20_000, help="how many requests a pass (default 20000)"
    )
    parser.add_argument("--tasks", type=int, default=64, help="how many at once (default 64)")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs stored")
    parser.add_argument("--redis", metavar="URL", help="put this Redis or Valkey between memory and disk")
    options = parser.parse_args()
    console = Console()
    try:
        asyncio.run(job(options, console))
    except ConfigError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except TiercacheError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
