"""`scripts/bench policies`: hit ratios beside the optimum and the peers, then cost, memory and stalls."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import mean
from time import perf_counter

from bench import cost, rivals, traces
from bench.rivals import Replay
from tiercache import Entry, PolicyConfig, Terms
from tiercache_plugins.policies.fifo import FifoConfig
from tiercache_plugins.policies.hybrid import HybridConfig
from tiercache_plugins.policies.lfu import LfuConfig
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.policies.ttl import TtlConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier

SHIPPED: dict[str, PolicyConfig] = {
    "hybrid": HybridConfig(),
    "lru": LruConfig(),
    "lfu": LfuConfig(),
    "lfu aging=false": LfuConfig(aging=False),
    "ttl": TtlConfig(),
    "fifo": FifoConfig(),
}
SHARES = (0.001, 0.01, 0.05, 0.1, 0.25)
SMALLEST = 64


def through_tier(config: PolicyConfig) -> Replay:
    """Return a replay through the memory tier, used as the kernel uses it."""

    def replay(trace: list[int], capacity: int) -> int:
        tier = MemoryTier(config, capacity)
        terms = Terms("bench")
        put, touch, segments, entries = tier.put, tier.touch, tier.segments, tier.entries
        mask = len(segments) - 1 if segments else 0
        hits = 0
        for at, key in enumerate(trace):
            if segments is not None:
                entries = segments[hash(key) & mask]
            try:
                entry = entries[key]
                if touch is not None:
                    touch(key)
            except KeyError:
                # Lives of one to two hours of a request each, or the ttl policy would have nothing to go by.
                put(Entry(key, key, at, at + 3600.0 * (1 + key * 0.6180339887 % 1), terms))
                continue
            entry.hits += 1
            hits += 1
        if tier.stats()["hits"] + terms.hits != hits:
            raise AssertionError("hits were lost")
        return hits

    return replay


def load(directory: str | None, names: list[str]) -> dict[str, list[int]]:
    """Return the traces of *directory*, or those made here, and say which."""
    chosen = names or list(traces.NAMES)
    missing = [name for name in chosen if not directory or not (Path(directory) / f"{name}.u32.xz").exists()]
    if directory is None:
        print("no traces given (--traces DIR or TIERCACHE_TEST_TRACES): replaying generated ones instead")
    elif missing:
        print(f"not in {directory}, skipped: {', '.join(missing)}")
    found = {
        name: traces.read(Path(directory) / f"{name}.u32.xz")
        for name in chosen
        if directory and name not in missing
    }
    if found:
        return found
    if directory is not None:
        print("no trace was found: replaying generated ones instead")
    return traces.generated()


def ratios(found: dict[str, list[int]], replays: dict[str, Replay]) -> None:
    """Replay everything, print a table a trace and the summary."""
    to_optimum: dict[str, list[float]] = {name: [] for name in replays}
    to_lru: dict[str, list[float]] = {name: [] for name in replays}
    width = max(map(len, replays))
    for trace_name, trace in found.items():
        unique = len(set(trace))
        capacities = [c for share in SHARES if (c := -int(-unique * share // 1)) >= SMALLEST]
        print(f"\n{trace_name}: {len(trace):,} requests, {unique:,} keys; hit ratios")
        print(f"{'capacity':{width}}" + "".join(f"{c:9,}" for c in capacities))
        best = [max(rivals.opt(trace, c), 1) for c in capacities]
        base = [rivals.lru(trace, c) for c in capacities]
        print(f"{'OPT':{width}}" + "".join(f"{hits / len(trace):9.4f}" for hits in best))
        for name, replay in replays.items():
            hits = [replay(trace, c) for c in capacities]
            print(f"{name:{width}}" + "".join(f"{h / len(trace):9.4f}" for h in hits))
            if capacities:
                to_optimum[name].append(mean(h / o for h, o in zip(hits, best, strict=True)))
            to_lru[name] += [h / b for h, b in zip(hits, base, strict=True) if b]
    print(f"\nmean over traces of HR/OPT; cases below 0.97 of LRU, worst, over {len(to_lru['LRU'])} cases")
    for name in sorted(replays, key=lambda name: -mean(to_optimum[name] or [0.0])):
        below = sum(ratio < 0.97 for ratio in to_lru[name])
        worst = min(to_lru[name], default=1.0)
        print(f"{name:{width}}{mean(to_optimum[name] or [0.0]):9.4f}{below:6}{worst:8.3f}")


def main(arguments: list[str]) -> int:
    """Run what *arguments* ask for."""
    parser = argparse.ArgumentParser(prog="scripts/bench policies", description=__doc__)
    parser.add_argument(
        "--traces",
        metavar="DIR",
        default=os.environ.get("TIERCACHE_TEST_TRACES"),
        help="directory of NAME.u32.xz files; else TIERCACHE_TEST_TRACES, else generated traces",
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="TRACE", help="replay these alone")
    parser.add_argument("--no-peers", action="store_true", help="replay the shipped policies alone")
    parser.add_argument("--skip", nargs="*", default=[], choices=["ratios", "cost", "memory", "stalls"])
    parser.add_argument("--size", type=int, default=1_000_000, help="entries for memory and stalls")
    options = parser.parse_args(arguments)
    began = perf_counter()
    if "ratios" not in options.skip:
        replays: dict[str, Replay] = {"LRU": rivals.lru, "LFU": rivals.lfu}
        replays |= {f"our {name}": through_tier(config) for name, config in SHIPPED.items()}
        if not options.no_peers:
            found, absent = rivals.peers()
            replays |= found
            for package in absent:
                print(f"peer {package} is not installed, skipped (the extra `bench` brings it)")
        ratios(load(options.traces, options.only), replays)
    if "cost" not in options.skip:
        cost.insertion(SHIPPED, 1_000)
        cost.insertion(SHIPPED, 20_000)
    if "memory" not in options.skip:
        cost.memory(SHIPPED, options.size)
    if "stalls" not in options.skip:
        cost.stalls(SHIPPED, options.size)
    print(f"\n{perf_counter() - began:.0f} s")
    return 0
