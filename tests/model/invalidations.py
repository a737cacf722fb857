"""Invalidation beside a dictionary that knows who is dead, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tiercache import Cache
from tiercache.keys import glob
from tiercache.testing import FakeClock

KEY = st.sampled_from(("a", "ab", "ab:1", "ab:2", "b:1", "é"))
TAGS = st.lists(st.sampled_from(("red", "blue", "green")), max_size=2, unique=True)
PREFIX = st.sampled_from(("a", "ab:", "b", "é", "z"))
PATTERN = st.sampled_from(("a*", "*:1", "a?", "[ab]*", "é", "*"))


class Invalidations(RuleBasedStateMachine):
    """Nothing dead is ever served, and nothing alive is lost: not to memory that is dropped, not to a file
    that is opened again, not to a load that an invalidation meets.
    """

    most = 10_000
    """Markers that are kept. Where it is low, folding may lose what is alive, and nothing else may."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.held: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.values = iter(range(1, 10**6))
        self.cache: Cache

    def run(self, awaitable: Any) -> Any:
        """Return what *awaitable* brings, once the far tiers are quiet: nobody waits for a load's write."""

        async def whole() -> Any:
            try:
                return await awaitable
            finally:
                for tier in self.cache._house.fars.values():
                    await tier.idle()

        return self.runner.run(whole())

    @initialize()
    def open(self) -> None:
        self.cache = Cache.open(
            {
                # Between two rules nobody listens, for as long as that takes.
                "cache": {"max_markers": self.most, "lease": "1h"},
                "tier": {
                    "memory": {"type": "memory"},
                    "disk": {
                        "type": "sqlite",
                        "path": f"{self.directory.name}/cache.db",
                        # A loaded machine is no matter here.
                        "deadline": "60s",
                    },
                },
                "route": {"all": {"tiers": ["memory", "disk"], "ttl": "1h"}},
            },
            clock=self.clock,
        )
        self.run(self.cache.start())

    @rule(key=KEY, tags=TAGS)
    def set(self, key: str, tags: list[str]) -> None:
        value = next(self.values)
        self.run(self.cache.set(key, value, tags=tags))
        self.held[key] = value, tuple(tags)

    @rule(key=KEY)
    def delete(self, key: str) -> None:
        there = self.run(self.cache.delete(key))
        assert there == (key in self.held) or self.folding
        self.held.pop(key, None)

    @property
    def folding(self) -> bool:
        return self.most < 100

    def drop(self, tags: list[str], prefix: str | None, pattern: str | None) -> set[str]:
        gone = {
            key
            for key, (_, held) in self.held.items()
            if set(held) & set(tags)
            or (prefix is not None and key.startswith(prefix))
            or (pattern is not None and glob(pattern).fullmatch(key))
        }
        for key in gone:
            del self.held[key]
        return gone

    @rule(tags=TAGS, prefix=st.none() | PREFIX)
    def invalidate(self, tags: list[str], prefix: str | None) -> None:
        if tags or prefix is not None:
            self.run(self.cache.invalidate(tags=tags, prefix=prefix))
            self.drop(tags, prefix, None)
            self.check_all()

    @rule(number=st.integers(0, 30))
    def invalidate_what_nobody_has(self, number: int) -> None:
        self.run(self.cache.invalidate(tags=[f"tag{number}"], prefix=f"nobody{number}"))

    @rule(pattern=PATTERN)
    def match(self, pattern: str) -> None:
        counted = self.run(self.cache.invalidate(match=pattern))
        gone = self.drop([], None, pattern)
        assert counted in {None, len(gone)} or self.folding

    @rule()
    def clear(self) -> None:
        self.run(self.cache.clear())
        self.held.clear()

    @rule(key=KEY, tags=TAGS, hit=TAGS, prefix=st.none() | PREFIX, everything=st.booleans())
    def load(self, key: str, tags: list[str], hit: list[str], prefix: str | None, everything: bool) -> None:
        value = next(self.values)

        async def scenario() -> Any:
            began, go_on = asyncio.Event(), asyncio.Event()

            async def loader() -> int:
                began.set()
                await go_on.wait()
                return value

            loading = asyncio.create_task(self.cache.get_or_set(key, loader, tags=tags))
            waiting = asyncio.create_task(began.wait())
            await asyncio.wait([loading, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if everything:
                await self.cache.clear()
            elif hit or prefix is not None:
                await self.cache.invalidate(tags=hit, prefix=prefix)
            go_on.set()
            return await loading

        found = self.run(scenario())
        if found == value:
            assert key not in self.held or self.folding
            self.held[key] = value, tuple(tags)
        else:
            assert self.held[key][0] == found
        if everything:
            self.held.clear()
        else:
            self.drop(hit, prefix, None)
        if self.folding and self.run(self.cache.get(key)) is None:
            self.held.pop(key, None)

    @rule(seconds=st.integers(0, 3))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def drop_near(self) -> None:
        for near in self.cache._house.nears.values():
            for key in list(near.keys()):
                near.remove(key)
        self.check_all()

    @rule()
    def reopen(self) -> None:
        self.run(self.cache.close())
        # A new process begins its stamps at the wall clock, which has gone on meanwhile.
        self.clock.advance(0.01)
        self.open()
        self.check_all()

    @rule(key=KEY)
    def get(self, key: str) -> None:
        self.check(key, self.run(self.cache.get(key)))

    @rule()
    def list(self) -> None:
        async def listed() -> set[str]:
            return {key async for key in self.cache.keys()}

        found = self.run(listed())
        assert found <= self.held.keys()
        assert found == self.held.keys() or self.folding

    def check_all(self) -> None:
        for key in ("a", "ab", "ab:1", "ab:2", "b:1", "é"):
            self.get(key)

    def check(self, key: str, found: Any) -> None:
        expected = self.held[key][0] if key in self.held else None
        if found is None and self.folding:
            self.held.pop(key, None)
            return
        assert found == expected

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.run(self.cache.close())
        self.runner.close()
        self.directory.cleanup()


class Folding(Invalidations):
    """The same where markers fold all the time."""

    most = 10
