"""The rows of the table, and how each is measured."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace

from bench.row import Result, Scale

UVLOOP = "_uvloop"
"""What a row's name ends in that is another row measured on uvloop."""


def measured(name: str, scale: Scale) -> list[Result]:
    """Measure the row *name* on an event loop made for it; nothing where that loop is not installed."""
    row = importlib.import_module(f"bench.rows.{name.removesuffix(UVLOOP)}")
    if not name.endswith(UVLOOP):
        results: list[Result] = asyncio.run(row.run(scale))
        return results
    try:
        loop = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return []
    with asyncio.Runner(loop_factory=loop) as runner:
        return [
            replace(
                result,
                title=f"{result.title}, on uvloop",
                terms=f"{result.terms} On uvloop's event loop, base and peers included, so that a ratio is to"
                " the base on the same loop.",
            )
            for result in runner.run(row.run(scale))
        ]
