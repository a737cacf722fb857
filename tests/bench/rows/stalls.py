"""The longest time for which the event loop is held while a million entries come, go and die."""

from __future__ import annotations

import asyncio
import gc
from time import thread_time
from typing import Any

from bench import cost
from bench.policies import SHIPPED
from bench.row import Cases, Result, Scale

TERMS = (
    "Longest single call in processor time, while as many entries are put, put again so that each evicts "
    "one, and swept out when dead (in slices, as the kernel asks for them). With Python's collector off, and "
    "of each the best of up to three runs, as long as one of them is above 2 ms: a stall that is the cache's "
    "own shows in all. With the collector on, its full passes are part of it: it looks at every object of "
    "the process. cashews walks all its keys each second: its longest is one such walk."
)
CLEARED = (
    "Likewise, while a full cache is cleared, and taken apart in slices. What takes longest comes last: when "
    "the last table goes, the C library gives back to the system what they all held, some 50 MB at once. "
    "Whether it does depends on where the tables lie."
)
EMPTYING = {"clear", "take apart"}


async def run(scale: Scale) -> list[Result]:
    size = scale(1_000_000, 2_000)
    cases = Cases(scale)
    working: dict[str, float] = {"2 ms": 2.0}
    emptying = dict(working)
    facts: dict[str, str] = {}
    emptied: dict[str, str] = {}

    def note(name: str, steps: dict[str, float]) -> None:
        away = {step: figure for step, figure in steps.items() if step in EMPTYING}
        rest = {step: figure for step, figure in steps.items() if step not in EMPTYING}
        working[name], facts[name] = max(rest.values()), _told(rest)
        emptying[name], emptied[name] = max(away.values()), _told(away)

    for name in ("hybrid", "lru"):
        gc.collect()
        gc.disable()
        try:
            longest = cost.stalled(SHIPPED[name], size)
            for _ in range(2):
                if max(longest.values()) > 2.0:
                    again = cost.stalled(SHIPPED[name], size)
                    longest = {step: min(figure, again[step]) for step, figure in longest.items()}
        finally:
            gc.enable()
        note(f"tiercache {name}", longest)
    note("hybrid, collector on", cost.stalled(SHIPPED["hybrid"], size))
    if (cashews := cases.peer("cashews.backends.memory")) is not None:
        working["cashews"] = await _cashews(cashews, size)
    return [
        Result(
            title=f"longest stall while {what}, {name}", base="2 ms", ours=f"tiercache {name}", unit="ms",
            figures=figures, ratios={case: figure / 2.0 for case, figure in figures.items()}, terms=terms,
            most=1.0, facts=told, absent=tuple(cases.absent),
        )
        for what, figures, terms, told in (
            (f"{size:,} entries come and go", working, TERMS, facts),
            (f"a cache of {size:,} entries is cleared", emptying, CLEARED, emptied),
        )
        for name in ("hybrid", "lru")
    ]  # fmt: skip


def _told(steps: dict[str, float]) -> str:
    return ", ".join(f"{step} {figure:.2f}" for step, figure in steps.items())


async def _cashews(module: Any, size: int) -> float:
    """Let its memory backend hold *size* entries, and its housekeeping run once."""
    memory = module.Memory(size=size, check_interval=3600)
    for at in range(size):
        memory._set(f"user:{at}", 1.0, 3600.0)
    await memory.init()
    worst = 0.0
    for _ in range(3):
        began = thread_time()
        await asyncio.sleep(0)
        worst = max(worst, thread_time() - began)
    await memory.close()
    return worst * 1000
