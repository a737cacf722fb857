"""A route that slides beside a dictionary that knows when each key was read last, and when it ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tiercache import MISSING, Cache
from tiercache.testing import FakeClock

WINDOW = 40
TTL = 200
KEYS = st.sampled_from(["a", "b"])


@dataclass
class Living:
    """What is known of one key."""

    value: Any
    ends: float
    read: float


class Sliding(RuleBasedStateMachine):
    """Subclasses name the far tier: a table, or None for a route of memory alone."""

    far: dict[str, Any] | None = None
    spaces = count()

    def __init__(self) -> None:
        super().__init__()
        # The server expires by its own clock, which must not be ahead.
        self.clock = FakeClock(float(int(time.time()) + 3600))
        self.runner = asyncio.Runner()
        self.living: dict[str, Living] = {}
        self.values = count()
        namespace = f"slides{time.time_ns()}.{next(self.spaces)}"
        self.cache = self.opened(namespace, ["memory"] if self.far is None else ["memory", "far"])
        self.other = None if self.far is None else self.opened(namespace, ["far"])

    def opened(self, namespace: str, tiers: list[str]) -> Cache:
        stages = {"memory": {"type": "memory", "max_entries": 100}, "far": self.far}
        document = {
            "cache": {"namespace": namespace, "bus": "none"},
            "tier": {name: stages[name] for name in tiers},
            "route": {"r": {"tiers": tiers, "ttl": TTL, "sliding": WINDOW}},
        }
        cache = Cache.open(document, clock=self.clock)
        self.runner.run(cache.start())
        return cache

    def teardown(self) -> None:
        for cache in (self.cache, self.other):
            if cache is not None:
                self.runner.run(cache.close())
        self.runner.close()

    def run(self, awaitable: Any) -> Any:
        """Return what *awaitable* brings, once what it began is done."""

        async def whole() -> Any:
            result = await awaitable
            for cache in (self.cache, self.other):
                while cache is not None and any(
                    [*route.flights.running, *(far.writes._task for far in route.fars if far.writes._task)]
                    for route in cache._house.routes.values()
                ):
                    await asyncio.sleep(0)
            return result

        return self.runner.run(whole())

    def judge(self, key: str, found: Any, *, read: bool = True) -> None:
        """Check what was found against what is known, and take note of the read."""
        known, now = self.living.get(key), self.clock.now
        if known is None:
            assert found is MISSING
        elif now >= known.ends or now >= known.read + WINDOW:
            assert found is MISSING, f"{known} is found at {now}"
        elif now < known.read + WINDOW * 3 / 4:
            assert found == known.value, f"{known} is not found at {now}"
        if found is MISSING:
            self.living.pop(key, None)
        else:
            assert known is not None and found == known.value
            if read:
                known.read = now

    def stored(self, key: str, value: Any, ttl: float) -> None:
        self.living[key] = Living(value, self.clock.now + ttl, self.clock.now)

    @initialize()
    def begin(self) -> None:
        self.stored("a", None, TTL)
        self.run(self.cache.set("a", None))

    @rule(key=KEYS, ttl=st.sampled_from([None, 10, 30, 60, 1000]), number=st.booleans())
    def set(self, key: str, ttl: float | None, number: bool) -> None:
        value = next(self.values) if number else f"v{next(self.values)}"
        self.stored(key, value, TTL if ttl is None else ttl)
        self.run(self.cache.set(key, value, ttl=ttl))

    @rule(key=KEYS)
    def load(self, key: str) -> None:
        value = next(self.values)
        found = self.run(self.cache.get_or_set(key, lambda: value))
        if found == value:
            self.judge(key, MISSING)
            self.stored(key, value, TTL)
        else:
            self.judge(key, found)

    @rule(key=KEYS, seconds=st.integers(1, 45))
    def wait_and_read(self, key: str, seconds: int) -> None:
        self.clock.advance(seconds)
        self.judge(key, self.run(self.cache.get(key, MISSING)))

    @rule(key=KEYS, seconds=st.integers(1, 29), times=st.integers(2, 8))
    def read_again_and_again(self, key: str, seconds: int, times: int) -> None:
        for _ in range(times):
            self.clock.advance(seconds)
            self.judge(key, self.run(self.cache.get(key, MISSING)))

    @rule(seconds=st.integers(1, 29))
    def wait_and_read_many(self, seconds: int) -> None:
        self.clock.advance(seconds)
        found = self.run(self.cache.get_many(["a", "b"]))
        for key in ("a", "b"):
            self.judge(key, found.get(key, MISSING))

    @rule(key=KEYS, seconds=st.integers(1, 45))
    def read_elsewhere(self, key: str, seconds: int) -> None:
        self.clock.advance(seconds)
        reader = self.cache if self.other is None else self.other
        self.judge(key, self.run(reader.get(key, MISSING)))

    @rule(key=KEYS, seconds=st.integers(0, 45))
    def peek(self, key: str, seconds: int) -> None:
        self.clock.advance(seconds)

        async def peek() -> Any:
            return self.cache.peek(key, MISSING)

        found = self.run(peek())
        if found is not MISSING or self.far is None:
            self.judge(key, found)

    @rule(key=KEYS, seconds=st.integers(0, 30))
    def look(self, key: str, seconds: int) -> None:
        self.clock.advance(seconds)
        there = self.run(self.cache.exists(key))
        left = self.run(self.cache.ttl(key))
        assert (left is None) is not there
        self.judge(key, self.living[key].value if there else MISSING, read=False)
        if left is not None:
            known = self.living[key]
            assert left <= min(known.ends, known.read + WINDOW) - self.clock.now
            assert left >= min(known.ends, known.read + WINDOW * 3 / 4) - self.clock.now

    @rule(key=KEYS, ttl=st.sampled_from([5, 60, 300]))
    def touch(self, key: str, ttl: float) -> None:
        known = self.living.get(key)
        touched = self.run(self.cache.touch(key, ttl=ttl))
        self.judge(key, known.value if known is not None and touched else MISSING)
        if touched:
            self.living[key].ends = self.clock.now + ttl

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.living.pop(key, None)
        self.run(self.cache.delete(key))

    @rule(key=KEYS)
    def expire(self, key: str) -> None:
        self.living.pop(key, None)
        self.run(self.cache.expire(key))

    @rule(key=KEYS)
    def evict(self, key: str) -> None:
        if self.far is not None:
            self.cache._house.nears["memory"].remove(key)
