"""What the memory tier costs: an insertion, an entry's memory, the longest single call.

Only ratios within one run mean anything: machines differ, and a shared one differs from minute to minute.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from threading import Lock
from time import process_time, thread_time
from typing import Any

from tiercache import Entry, PolicyConfig, Terms
from tiercache_plugins.tiers.memory.tier import MemoryTier

LIVES = 600.0


class _Lru:
    """The LRU that everybody writes: an OrderedDict, and a method."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: OrderedDict[str, object] = OrderedDict()

    def put(self, key: str, value: object) -> None:
        held = self.held
        if key in held:
            held.move_to_end(key)
        elif len(held) >= self.capacity:
            held.popitem(last=False)
        held[key] = value


class _LockedLru(_Lru):
    """The same for threads."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.lock = Lock()

    def put(self, key: str, value: object) -> None:
        held = self.held
        with self.lock:
            if key in held:
                held.move_to_end(key)
            elif len(held) >= self.capacity:
                held.popitem(last=False)
            held[key] = value


def _plain(keys: list[str], capacity: int, lru: type[_Lru] = _Lru) -> float:
    put = lru(capacity).put
    began = process_time()
    for key in keys:
        put(key, key)
    return process_time() - began


def _tier(config: PolicyConfig, keys: list[str], capacity: int) -> float:
    terms = Terms("bench")
    put = MemoryTier(config, capacity).put
    began = process_time()
    for key in keys:
        put(Entry(key, key, 1, LIVES, terms))
    return process_time() - began


def _entries(keys: list[str]) -> float:
    terms = Terms("bench")
    began = process_time()
    for key in keys:
        Entry(key, key, 1, LIVES, terms)
    return process_time() - began


def insertion(configs: dict[str, PolicyConfig], capacity: int, rounds: int = 9) -> None:
    """Print what an insertion that evicts costs, beside a class around an OrderedDict."""
    keys = [f"user:{at}" for at in range(30_000 + capacity)]
    runs: dict[str, Callable[[], float]] = {
        "OrderedDict": lambda: _plain(keys, capacity),
        "with a lock": lambda: _plain(keys, capacity, _LockedLru),
        "Entry() alone": lambda: _entries(keys),
    }
    for name, config in configs.items():
        runs[name] = lambda config=config: _tier(config, keys, capacity)
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(runs[name]() / len(keys) * 1e9)
    print(f"\ninsert and evict, capacity {capacity:,}: ns, and times an OrderedDict LRU")
    for name, measured in times.items():
        ratio = median(a / b for a, b in zip(measured, times["OrderedDict"], strict=True))
        print(f"{name:16}{median(measured):9.0f}{ratio:8.2f}")


CONTENTS = sys.getsizeof("user:0000000") + sys.getsizeof(1.0)
"""Bytes of a key and a value as `fill` makes them."""

HOLDERS = {
    "cachebox": "cachebox VTTL",
    "cachetools": "cachetools TTL",
    "cashews": "cashews",
    "aiocache": "aiocache",
    "moka_py": "moka-py",
    "theine": "theine",
}
"""Peers that `fill` knows, by package."""
_MODULES = {"cashews": "cashews.backends.memory"}


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def fill(policy: str, size: int) -> float:
    """Fill a dictionary or a tier with *size* entries and then half as many again; return bytes an entry.

    Keys and values are made beforehand, so only what the cache adds is counted.
    """
    from bench.policies import SHIPPED

    keys = [f"user:{at:07}" for at in range(size)]
    values = [float(at) for at in range(size)]
    terms = Terms("bench")
    for package in [package for package, name in HOLDERS.items() if name == policy]:
        # Before the first look: a module is not an entry.
        importlib.import_module(_MODULES.get(package, package))
    before = resident()
    if policy == "dict":
        held = dict(zip(keys, values, strict=True))
        return (resident() - before) / len(held)
    if policy in HOLDERS.values():
        count = asyncio.run(_fill_peer(policy, keys, values))
        return (resident() - before) / count
    tier = MemoryTier(SHIPPED[policy], size)
    for at, (key, value) in enumerate(zip(keys, values, strict=True)):
        if at % 100 == 0:
            life = LIVES + at / 100  # as the kernel's coarse clock shares it
        tier.put(Entry(key, value, at + 2**50, life, terms))
    for _ in range(2):
        for key in keys[: size // 4]:
            entry = tier.get(key)
            if entry is not None:
                entry.hits += 1
    return (resident() - before) / tier.stats()["entries"]


async def _fill_peer(name: str, keys: list[str], values: list[float]) -> int:
    """Fill a peer with everything, each with a TTL; return how many there are."""
    size = len(keys)
    pairs = zip(keys, values, strict=True)
    holder: Any
    if name == "cachebox VTTL":
        holder = importlib.import_module("cachebox").VTTLCache(size)
        for key, value in pairs:
            holder.insert(key, value, LIVES)
    elif name == "cachetools TTL":
        holder = importlib.import_module("cachetools").TTLCache(size, LIVES)
        holder.update(pairs)
    elif name == "moka-py":
        holder = importlib.import_module("moka_py").Moka(size, ttl=LIVES)
        for key, value in pairs:
            holder.set(key, value)
    elif name == "theine":
        holder = importlib.import_module("theine").Cache(size)
        for key, value in pairs:
            holder.set(key, value, timedelta(seconds=LIVES))
    elif name == "cashews":
        holder = importlib.import_module("cashews.backends.memory").Memory(size=size, check_interval=0)
        for key, value in pairs:
            await holder.set(key, value, LIVES)
    else:
        holder = importlib.import_module("aiocache").SimpleMemoryCache()
        for key, value in pairs:
            await holder.set(key, value, ttl=LIVES)
    _HELD.append(holder)
    return size


_HELD: list[Any] = []
"""What was filled, kept until it is weighed."""


def memory(configs: dict[str, PolicyConfig], size: int) -> None:
    """Print the memory an entry takes beside key and value, each policy in a process of its own."""
    if not sys.platform.startswith("linux"):
        print("\nmemory is measured on Linux alone: skipped")
        return
    print(
        f"\nbytes an entry beside key and value, {size:,} entries, and times a bare dict's with key and value"
    )
    base = 0.0
    for name in ["dict", *configs]:
        each = filled(name, size)
        base = base or each + CONTENTS
        print(f"{name:16}{each:9.0f}{(each + CONTENTS) / base:8.2f}")


def filled(name: str, size: int) -> float:
    """Return what `fill` says, asked in a process of its own."""
    program = f"from bench.cost import fill; print(fill({name!r}, {size}))"
    found = os.pathsep.join(path for path in sys.path if path)
    run = subprocess.run(
        [sys.executable, "-c", program],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": found},
    )  # fmt: skip
    return float(run.stdout)


def _longest(step: Callable[[], object], times: int) -> float:
    worst = 0.0
    for _ in range(times):
        began = thread_time()
        step()
        worst = max(worst, thread_time() - began)
    return worst * 1000


def stalls(configs: dict[str, PolicyConfig], size: int) -> None:
    """Print the longest single call while *size* entries are put, evicted, swept out and cleared.

    In processor time, or the neighbours of a shared machine would be measured too.
    """
    print(f"\nlongest single call in ms of CPU, {size:,} entries: fill, evict, sweep, clear, take apart")
    # The better of two runs: a stall that is the cache's own shows in both.
    for name in ("hybrid", "lru"):
        gc.collect()
        gc.disable()
        try:
            runs = [stalled(configs[name], size) for _ in range(2)]
        finally:
            gc.enable()
        print(f"{name:16} gc off" + "".join(f"{min(run[step] for run in runs):8.2f}" for step in runs[0]))
    figures = stalled(configs["hybrid"], size).values()
    print(f"{'hybrid':16} gc on " + "".join(f"{figure:8.2f}" for figure in figures))


def stalled(config: PolicyConfig, size: int) -> dict[str, float]:
    """Return the longest call of each step, in ms of processor time."""
    tier = MemoryTier(config, size)
    terms = Terms("bench")
    keys = iter([f"user:{at}" for at in range(3 * size)])
    put, work = tier.put, tier.work

    def store() -> None:
        put(Entry(next(keys), 1.0, 1, LIVES, terms))

    def drain(now: float) -> float:
        worst, more = 0.0, True
        while more:
            began = thread_time()
            more = work(now, 0.0005)
            worst = max(worst, thread_time() - began)
        return worst * 1000

    figures = {"fill": _longest(store, size), "evict": _longest(store, size), "sweep": drain(LIVES + 1)}
    _longest(store, size)
    return {**figures, "clear": _longest(tier.clear, 1), "take apart": drain(0.0)}
