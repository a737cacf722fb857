"""Hit ratios of the eviction policies, by the optimum of each trace."""

from __future__ import annotations

import os
from statistics import mean
from typing import Any

from bench import rivals
from bench.policies import SHARES, SHIPPED, SMALLEST, load, through_tier
from bench.row import Cases, Result, Scale

GOAL = 0.875
BELOW = 0.01
TERMS = (
    "Mean over the traces of hits by those of Belady's optimum, at bounds of 0.1, 1, 5, 10 and 25 % of "
    "the different keys. Ours run through the memory tier as the kernel uses it. The base is exact LRU, "
    "and the ratio the mean by the mean. Which policy is best depends on the traces: bring your own by "
    "--traces."
)


async def run(scale: Scale) -> list[Result]:
    directory = os.environ.get("TIERCACHE_TEST_TRACES") or None
    found = load(None if scale.short else directory, [])
    if scale.short:
        found = {name: trace[:3000] for name, trace in found.items()}
    real = not scale.short and directory is not None
    cases = Cases(scale)
    replays: dict[str, rivals.Replay] = {"LRU": rivals.lru}
    replays |= {f"tiercache {name}": through_tier(SHIPPED[name]) for name in ("hybrid", "lru", "lfu")}
    if scale.peers:
        peers, cases.absent = rivals.peers()
        replays |= peers
    to_optimum: dict[str, list[float]] = {name: [] for name in replays}
    to_lru: list[float] = []
    for trace in found.values():
        unique = len(set(trace))
        bounds = [bound for share in SHARES if (bound := -int(-unique * share // 1)) >= SMALLEST]
        best = [max(rivals.opt(trace, bound), 1) for bound in bounds]
        base = [rivals.lru(trace, bound) for bound in bounds]
        for name, replay in replays.items():
            hits = [replay(trace, bound) for bound in bounds]
            to_optimum[name].append(mean(h / o for h, o in zip(hits, best, strict=True)))
            if name == "tiercache hybrid":
                to_lru += [h / b for h, b in zip(hits, base, strict=True) if b]
    figures = {name: mean(ratios) for name, ratios in to_optimum.items()}
    below = sum(ratio < 0.97 for ratio in to_lru)
    worst = min(to_lru)
    wrong = []
    if real:
        wrong = [f"{figures['tiercache hybrid']:.3f} < {GOAL}"] * (figures["tiercache hybrid"] < GOAL)
        wrong += ["below 0.97 of LRU too often"] * (below > BELOW * len(to_lru)) + ["below 0.9"] * (
            worst < 0.9
        )
    more: dict[str, Any] = {
        "facts": {
            "tiercache hybrid": f"below 0.97 of LRU in {below} of {len(to_lru)} cases, worst {worst:.3f}",
            "traces": ", ".join(found) + ("" if real else " (generated: the goal of 0.875 is for real ones)"),
        },
        "wrong": wrong,
    }
    ours = {"tiercache hybrid", "tiercache lru", "tiercache lfu"}
    return [
        Result(
            title="hit ratio by the optimum's (HR/OPT ≥ 0.875 on real traces)",
            base="LRU",
            ours="tiercache hybrid",
            unit="HR/OPT", figures=figures,
            ratios={name: figure / figures["LRU"] for name, figure in figures.items()},
            terms=TERMS, least=1.0, ahead_of=[name for name in replays if name not in ours],
            absent=tuple(cases.absent), **more,
        )
    ]  # fmt: skip
