"""Bytes of an entry in the near tier."""

from __future__ import annotations

import sys

from bench import cost
from bench.row import Cases, Result, Scale

BASE = "dict"
TERMS = (
    "Resident memory with key and value, each case in a process of its own; ours is filled half as full "
    "again, so that the policy's books are whole, and holds stamps, TTL and counts. Peers are given the "
    "same keys and values, and a TTL where they know one, and a fifth as many; cashews and aiocache evict"
    " nothing."
)


async def run(scale: Scale) -> list[Result]:
    if not sys.platform.startswith("linux"):
        return []
    size = scale(1_000_000, 2_000)
    cases = Cases(scale)
    names = [BASE, "hybrid", "lru"]
    for package, name in cost.HOLDERS.items():
        if cases.peer(package) is not None:
            names.append(name)
    figures: dict[str, float] = {}
    for name in names:
        ours = name in {"hybrid", "lru"}
        count = size if ours or name == BASE else size // 5
        figures[f"tiercache {name}" if ours else name] = cost.filled(name, count) + cost.CONTENTS
    ratios = {name: figure / figures[BASE] for name, figure in figures.items()}

    def result(title: str, ours: str, most: float) -> Result:
        return Result(
            title=title, base=BASE, ours=ours, unit="B", figures=figures, ratios=ratios, terms=TERMS,
            most=most, absent=tuple(cases.absent),
        )  # fmt: skip

    return [
        result(f"bytes of a near entry, {size:,} small ones, hybrid", "tiercache hybrid", 2.6),
        result(f"bytes of a near entry, {size:,} small ones, lru", "tiercache lru", 2.9),
    ]
