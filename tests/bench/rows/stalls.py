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
    "one, swept out when dead (in slices, as the kernel asks for them), put again, cleared, and taken "
    "apart. With Python's collector off, and the better of two runs where the first was above 2 ms: a "
    "stall that is the cache's own shows in both. With the collector on, its full passes are part of it: "
    "it looks at every object of the process. cashews walks all its keys each second: its longest is one "
    "such walk."
)


async def run(scale: Scale) -> list[Result]:
    size = scale(1_000_000, 2_000)
    results = []
    cases = Cases(scale)
    figures: dict[str, float] = {"2 ms": 2.0}
    facts: dict[str, str] = {}
    for name in ("hybrid", "lru"):
        gc.collect()
        gc.disable()
        try:
            runs = [cost.stalled(SHIPPED[name], size)]
            if max(runs[0].values()) > 2.0:
                runs.append(cost.stalled(SHIPPED[name], size))
        finally:
            gc.enable()
        steps = {step: min(run[step] for run in runs) for step in runs[0]}
        figures[f"tiercache {name}"] = max(steps.values())
        facts[f"tiercache {name}"] = ", ".join(f"{step} {figure:.2f}" for step, figure in steps.items())
    on = cost.stalled(SHIPPED["hybrid"], size)
    figures["hybrid, collector on"] = max(on.values())
    facts["hybrid, collector on"] = ", ".join(f"{step} {figure:.2f}" for step, figure in on.items())
    if (cashews := cases.peer("cashews.backends.memory")) is not None:
        figures["cashews"] = await _cashews(cashews, size)
    ratios = {name: figure / 2.0 for name, figure in figures.items()}
    for name in ("hybrid", "lru"):
        results.append(
            Result(
                title=f"longest stall while {size:,} entries come and go, {name}", base="2 ms",
                ours=f"tiercache {name}", unit="ms", figures=figures, ratios=ratios, terms=TERMS, most=1.0,
                facts=facts, absent=tuple(cases.absent),
            )
        )  # fmt: skip
    return results


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
