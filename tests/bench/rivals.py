"""What the policies are compared with: the offline optimum, two textbook policies, the peers installed."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush

FAR = 1 << 60

Replay = Callable[[list[int], int], int]
"""Hits of a trace with a capacity."""


def next_uses(trace: list[int]) -> list[int]:
    """Return for each request when its key comes again."""
    following = [FAR] * len(trace)
    seen: dict[int, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        following[at] = seen.get(trace[at], FAR)
        seen[trace[at]] = at
    return following


def opt(trace: list[int], capacity: int) -> int:
    """Belady's MIN: evict what is used again last. No policy that must store each miss does better."""
    held: dict[int, int] = {}
    latest: list[tuple[int, int]] = []
    hits = 0
    for key, following in zip(trace, next_uses(trace), strict=True):
        if key in held:
            hits += 1
        elif len(held) >= capacity:
            while True:
                use, victim = heappop(latest)
                if held.get(victim) == -use:
                    del held[victim]
                    break
        held[key] = following
        heappush(latest, (-following, key))
        if len(latest) > 4 * capacity + 64:
            latest = [(-use, victim) for victim, use in held.items()]
            heapify(latest)
    return hits


def lru(trace: list[int], capacity: int) -> int:
    """Least recently used, on an OrderedDict."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        if len(held) >= capacity:
            held.popitem(last=False)
        held[key] = None
    return hits


def lfu(trace: list[int], capacity: int) -> int:
    """Least frequently used without aging; of equals the oldest at its count."""
    counts: dict[int, int] = {}
    groups: dict[int, OrderedDict[int, None]] = {}
    least = 0
    hits = 0
    for key in trace:
        count = counts.get(key, 0)
        if count:
            hits += 1
            group = groups[count]
            del group[key]
            if not group:
                del groups[count]
                if least == count:
                    least = count + 1
        else:
            if len(counts) >= capacity:
                victim, _ = groups[least].popitem(last=False)
                del counts[victim]
                if not groups[least]:
                    del groups[least]
            least = 1
        counts[key] = count + 1
        groups.setdefault(count + 1, OrderedDict())[key] = None
    return hits


def peers() -> tuple[dict[str, Replay], list[str]]:
    """Return the peers that are installed, and the packages that are not."""
    found: dict[str, Replay] = {}
    absent: list[str] = []
    for package, policies in (
        ("theine", {"theine": _theine}),
        ("moka_py", {"moka": _moka}),
        ("cachebox", {"cachebox lru": _mapping("LRUCache"), "cachebox lfu": _mapping("LFUCache")}),
        ("cachetools", {"cachetools lru": _mapping("LRUCache"), "cachetools lfu": _mapping("LFUCache")}),
        (
            "libcachesim",
            {name: _simulated(name) for name in ("S3FIFO", "Clock2QPlus", "ARC", "LIRS", "Sieve")},
        ),
    ):
        try:
            module = importlib.import_module(package)
        except ImportError:
            absent.append(package)
            continue
        for name, make in policies.items():
            found[name] = make(module)
    return found, absent


def _theine(module) -> Replay:
    def replay(trace: list[int], capacity: int) -> int:
        cache = module.Cache(capacity, nolock=True)
        hits = 0
        for key in trace:
            _, hit = cache.get(key)
            if hit:
                hits += 1
            else:
                cache.set(key, key)
        cache.close()
        return hits

    return replay


def _moka(module) -> Replay:
    def replay(trace: list[int], capacity: int) -> int:
        cache = module.Moka(capacity)
        hits = 0
        for key in trace:
            if cache.get(key) is None:
                cache.set(key, True)
            else:
                hits += 1
        return hits

    return replay


def _mapping(name: str) -> Callable[[object], Replay]:
    def make(module) -> Replay:
        def replay(trace: list[int], capacity: int) -> int:
            cache = getattr(module, name)(capacity)
            hits = 0
            for key in trace:
                if cache.get(key) is None:
                    cache[key] = True
                else:
                    hits += 1
            return hits

        return replay

    return make


def _simulated(name: str) -> Callable[[object], Replay]:
    def make(module) -> Replay:
        def replay(trace: list[int], capacity: int) -> int:
            cache = getattr(module, name)(cache_size=capacity)
            request = module.Request()
            request.obj_size = 1
            hits = 0
            for key in trace:
                request.obj_id = key
                hits += cache.get(request)
            return hits

        return replay

    return make
