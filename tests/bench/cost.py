"""What the memory tier costs: an insertion, an entry's memory, the longest single call.

Only ratios within one run mean anything: machines differ, and a shared one differs from minute to minute.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from threading import Lock
from time import process_time, thread_time

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


_FILL = """
import sys
from bench.cost import fill
print(fill(sys.argv[1], int(sys.argv[2])))
"""


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
    before = resident()
    if policy == "dict":
        held = dict(zip(keys, values, strict=True))
        return (resident() - before) / len(held)
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


def memory(configs: dict[str, PolicyConfig], size: int) -> None:
    """Print the memory an entry takes beside key and value, each policy in a process of its own."""
    if not sys.platform.startswith("linux"):
        print("\nmemory is measured on Linux alone: skipped")
        return
    print(
        f"\nbytes an entry beside key and value, {size:,} entries, and times a bare dict's with key and value"
    )
    contents = sys.getsizeof("user:0000000") + sys.getsizeof(1.0)
    base = 0.0
    for name in ["dict", *configs]:
        run = subprocess.run(
            [sys.executable, "-c", _FILL, name, str(size)], check=True, capture_output=True, text=True
        )
        each = float(run.stdout)
        base = base or each + contents
        print(f"{name:16}{each:9.0f}{(each + contents) / base:8.2f}")


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
            runs = [_stalls(configs[name], size) for _ in range(2)]
        finally:
            gc.enable()
        print(f"{name:16} gc off" + "".join(f"{min(pair):8.2f}" for pair in zip(*runs, strict=True)))
    figures = _stalls(configs["hybrid"], size)
    print(f"{'hybrid':16} gc on " + "".join(f"{figure:8.2f}" for figure in figures))


def _stalls(config: PolicyConfig, size: int) -> list[float]:
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

    figures = [_longest(store, size), _longest(store, size), drain(LIVES + 1)]
    _longest(store, size)
    figures += [_longest(tier.clear, 1), drain(0.0)]
    return figures
