"""`import tiercache`."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.row import Cases, Result, Scale, waited

BASE = "250 ms"
TERMS = (
    "A new process each time, by the wall, compiled files in place; the interpreter's own start is part of "
    "all of them. The goal is absolute."
)
_OPENED = """
import tiercache
tiercache.Cache.open({"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"]}}})
"""


async def run(scale: Scale) -> list[Result]:
    cases = Cases(scale)

    def add(name: str, statement: str) -> None:
        async def start() -> None:
            # Compiled files are to be written, whatever this process was told.
            told = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL, env=told)

        cases.add(name, waited(start, 1))

    add("tiercache", "import tiercache")
    if not scale.short:
        add("asyncio alone", "import asyncio")
        add("tiercache, and a cache opened", _OPENED)
    for package in ("cashews", "aiocache", "coredis", "redis.asyncio"):
        if cases.peer(package) is not None:
            add(package, f"import {package}")
    await cases.run(scale(7, 1), warm=scale(1, 0))
    figures = {BASE: 250.0, **cases.figures(1000)}
    return [
        Result(
            title="import tiercache", base=BASE, ours="tiercache", unit="ms", figures=figures,
            ratios={name: figure / 250.0 for name, figure in figures.items()}, terms=TERMS, most=1.0,
            absent=tuple(cases.absent),
        )
    ]  # fmt: skip
