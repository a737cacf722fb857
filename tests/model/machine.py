"""A whole cache beside a dictionary, driven by Hypothesis."""

from __future__ import annotations

import asyncio
import copy
import math
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from model.values import COUNTED, VALUES, fits
from tiercache import MISSING, NEVER, Cache, Record, Unserializable
from tiercache.frame import HEADER, stamp_of
from tiercache.keys import glob
from tiercache.testing import FakeClock
from tiercache.testing.codecs import same

KEYS = ("a", "a:1", "a:2", "b", "user:é", "*")
TAGS = ("", "red", "blue")
GLOBS = ("*", "a*", "a:?", "[ab]", "user:*", "\\*", "zz*")
KEY = st.sampled_from(KEYS)
LABELS = st.lists(st.sampled_from(TAGS[1:]), max_size=2)
DELTAS = st.integers(-9, 9) | st.sampled_from((2**63 - 1, -(2**63)))
ROUTE_TTL = 600.0
TOLERANCE = 0.001
SECRET = "a signing key of the tests"


@dataclass(frozen=True)
class Pipeline:
    """What a machine runs on."""

    tiers: tuple[str, ...]
    """Of the default route, nearest first: out of memory, redis, disk."""
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other routes."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Options of the memory tier."""
    url: str = ""
    slow: float = 1.0
    """What durations are multiplied by, where a tier's own clock must not come into play."""

    @property
    def every(self) -> frozenset[str]:
        return frozenset(self.tiers).union(*self.routes.values())

    @property
    def forgetful(self) -> bool:
        """Whether the memory tier may drop entries by itself."""
        return "max_entries" in self.memory or "max_ttl" in self.memory

    @property
    def clamps(self) -> bool:
        """Whether the memory tier shortens lives."""
        return "max_ttl" in self.memory

    def document(self, namespace: str, path: str, codec: Mapping[str, str]) -> dict[str, Any]:
        tiers: dict[str, Any] = {
            "memory": {"type": "memory", **self.memory},
            # A loaded machine is no matter here.
            "redis": {"type": "redis", "url": self.url, "timeout": "60s", "deadline": "60s", **codec},
            "disk": {"type": "sqlite", "path": path, "deadline": "60s", **codec},
        }
        routes = {"all": self.tiers, **self.routes}
        return {
            # Between two rules nobody listens, for as long as that takes.
            "cache": {"namespace": namespace, "lease": "1h"},
            "tier": {name: options for name, options in tiers.items() if name in self.every},
            "serializer": {"pickle": {"type": "pickle", "key": SECRET}},
            "compressor": {"zlib": {"type": "zlib", "threshold": 100}, "zstd": {"type": "zstd"}},
            "route": {
                name: {"tiers": list(tiers), "ttl": ROUTE_TTL * self.slow, "default": name == "all"}
                for name, tiers in routes.items()
            },
        }


@dataclass
class Held:
    """What the dictionary knows of a key."""

    value: Any
    expires: float
    stale: float = 0.0
    surely: frozenset[str] = frozenset()
    """Tiers that hold it for certain; promotion may have brought it to others."""


CODECS = st.fixed_dictionaries(
    {
        "serializer": st.sampled_from(("msgpack", "msgpack", "json", "pickle")),
        "compressor": st.sampled_from(("none", "zstd", "zlib")),
    }
)


def machine(pipeline: Pipeline) -> type[RuleBasedStateMachine]:
    """Return the state machine of *pipeline*."""
    far_tiers = pipeline.every - {"memory"}
    far = bool(far_tiers)
    route_names = st.sampled_from((None, "all", *pipeline.routes))
    lives = st.sampled_from((1.0, 7.5, 60.0, timedelta(minutes=10), "90s")).map(
        lambda life: _longer(life, pipeline.slow)
    )
    ttls = st.one_of(st.none(), lives, st.sampled_from(("never", math.inf)))
    stales = st.sampled_from((None, None, None, 30 * pipeline.slow))

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.clock = FakeClock(1_800_000_000.0)
            self.runner = asyncio.Runner()
            self.directory = tempfile.TemporaryDirectory(prefix="tc-model-")
            # Not by random: Hypothesis seeds it, and machines that share a server would meet.
            self.namespace = self.directory.name.rpartition("-")[2]
            self.held: dict[str, Held] = {}
            self.cache: Any = None
            self.codec: Mapping[str, str] = {}
            self.damage = 0

        # The machine's own tools

        @initialize(codec=CODECS)
        def open(self, codec: Mapping[str, str]) -> None:
            self.codec = codec
            path = f"{self.directory.name}/cache.db"
            document = pipeline.document(self.namespace, path, codec)
            self.cache = Cache.open(document, clock=self.clock)
            self.runner.run(self.cache.start())

        def run(self, awaitable: Awaitable[Any]) -> Any:
            """Return what *awaitable* brings, once the far tiers are quiet again."""

            async def whole() -> Any:
                try:
                    return await awaitable
                finally:
                    for tier in self.cache._house.fars.values():
                        await tier.idle()

            self.steer()
            return self.runner.run(whole())

        def steer(self) -> None:
            """Let no entry be just about to expire: which side of the border it is on must be certain."""
            while any(
                abs(border - self.clock.now) < 4 * TOLERANCE
                for held in self.held.values()
                for border in (held.expires, held.expires + held.stale)
            ):
                self.clock.advance(0.01)

        def fresh(self, key: str) -> Held | None:
            held = self.held.get(key)
            return held if held is not None and self.clock.now < held.expires else None

        def tiers(self, route: str | None) -> tuple[str, ...]:
            return pipeline.tiers if route in {None, "all"} else pipeline.routes[str(route)]

        def authority(self, route: str | None) -> str:
            tiers = self.tiers(route)
            return next((tier for tier in ("redis", "disk") if tier in tiers), "memory")

        def sure(self, key: str, tiers: Iterable[str]) -> bool:
            held = self.fresh(key)
            return held is not None and not held.surely.isdisjoint(tiers)

        def certain(self, tiers: Iterable[str]) -> frozenset[str]:
            """Return those of *tiers* that keep what they are given."""
            return frozenset(tiers) - ({"memory"} if pipeline.forgetful else set())

        def hold(
            self, key: str, value: Any, route: str | None, ttl: Any, stale: float | None = None,
            tiers: Iterable[str] | None = None,
        ) -> None:  # fmt: skip
            life = ROUTE_TTL * pipeline.slow if ttl is None else _seconds(ttl)
            self.held[key] = Held(
                # A copy, so that a cache that changed the object would be noticed.
                copy.deepcopy(value),
                self.clock.now + life,
                stale or 0.0,
                self.certain(self.tiers(route) if tiers is None else tiers),
            )

        def storable(self, value: Any, route: str | None) -> bool:
            return self.tiers(route) == ("memory",) or fits(self.codec["serializer"], value)

        def check(self, key: str, value: Any, tiers: Iterable[str]) -> None:
            """Fail where *value*, read through *tiers*, is not what the dictionary has."""
            held = self.fresh(key)
            if value is MISSING:
                assert not self.sure(key, tiers), f"{key!r} is lost; it was {held}"
            else:
                assert held is not None, f"{key!r} gave {value!r}, but nothing fresh was put there"
                assert same(value, held.value), f"{key!r} gave {value!r} for {held.value!r}"

        # Writes

        @rule(key=KEY, value=VALUES, ttl=ttls, stale=stales, tags=LABELS, route=route_names)
        def set(self, key, value, ttl, stale, tags, route) -> None:
            act = self.cache.set(key, value, ttl=ttl, stale=stale, tags=tags, route=route)
            if not self.storable(value, route):
                with pytest.raises(Unserializable):
                    self.run(act)
                return
            self.run(act)
            self.hold(key, value, route, ttl, stale)

        @rule(values=st.dictionaries(KEY, VALUES, max_size=4), ttl=ttls, tags=LABELS, route=route_names)
        def set_many(self, values, ttl, tags, route) -> None:
            act = self.cache.set_many(values, ttl=ttl, tags=tags, route=route)
            if all(self.storable(value, route) for value in values.values()):
                self.run(act)
            else:
                with pytest.raises(Unserializable):
                    self.run(act)
            for key, value in values.items():
                if self.storable(value, route):
                    self.hold(key, value, route, ttl)

        @rule(key=KEY, value=VALUES, ttl=ttls, tags=LABELS, route=route_names, slow=st.booleans())
        def get_or_set(self, key, value, ttl, tags, route, slow) -> None:
            called = []

            async def load() -> Any:
                called.append(key)
                await asyncio.sleep(0)
                return value

            loader: Callable[[], Any] = load if slow else lambda: called.append(key) or value
            act = self.cache.get_or_set(key, loader, ttl=ttl, tags=tags, route=route)
            if not self.storable(value, route) and not self.sure(key, self.tiers(route)):
                try:
                    found = self.run(act)
                except Unserializable:
                    assert called == [key]
                    return
                assert not called
                self.check(key, found, self.tiers(route))
                return
            found = self.run(act)
            if not called:
                self.check(key, found, self.tiers(route))
                return
            assert called == [key]
            self.check(key, MISSING, self.tiers(route))
            assert same(found, value)
            if self.fresh(key) is not None:
                # Somewhere this route does not look, an entry may live on beside what was loaded: a load
                # says nothing of it. Only a set makes them one again.
                self.run(self.cache.set(key, value, ttl=ttl, route=route))
            self.hold(key, value, route, ttl)

        @rule(key=KEY)
        def get_or_set_that_fails(self, key) -> None:
            def load() -> Any:
                raise KeyError("the source is gone")

            try:
                found = self.run(self.cache.get_or_set(key, load))
            except KeyError:
                found = MISSING
            held = self.held.get(key)
            if found is not MISSING and self.fresh(key) is None:
                # A stale copy stood in, and does for a while: the dictionary is no measure for that.
                assert held is not None, f"{key!r} gave {found!r}, but nothing was put there"
                assert self.clock.now < held.expires + held.stale
                assert same(found, held.value)
                self.run(self.cache.delete(key))
                del self.held[key]
                return
            self.check(key, found, pipeline.tiers)

        @rule(key=KEY, value=VALUES, ttl=ttls, stale=stales, tags=LABELS, route=route_names)
        def add(self, key, value, ttl, stale, tags, route) -> None:
            authority = self.authority(route)
            act = self.cache.add(key, value, ttl=ttl, stale=stale, tags=tags, route=route)
            if not self.storable(value, route):
                try:
                    assert self.run(act) is False
                except Unserializable:
                    assert not self.sure(key, (authority,))
                else:
                    assert self.fresh(key) is not None
                return
            added = self.run(act)
            assert added or self.fresh(key) is not None, f"nothing stood under {key!r}"
            if added:
                assert not self.sure(key, (authority,)), f"{key!r} stood, and was replaced"
                self.hold(key, value, route, ttl, stale, (authority,))

        @rule(key=KEY, ttl=lives | st.just("never"), route=route_names)
        def touch(self, key, ttl, route) -> None:
            authority = self.authority(route)
            touched = self.run(self.cache.touch(key, ttl=ttl, route=route))
            held = self.fresh(key)
            assert touched or not self.sure(key, (authority,)), f"{key!r} stood"
            if touched:
                assert held is not None, f"nothing stood under {key!r}"
                stale = held.stale
                self.hold(key, held.value, route, ttl, stale, (authority,))

        @rule(
            key=KEY,
            delta=st.integers(-9, 9) | st.sampled_from((2**63 - 1, -(2**63))),
            ttl=ttls,
            route=route_names,
        )
        def increment(self, key, delta, ttl, route) -> None:
            authority = self.authority(route)
            held = self.fresh(key)
            act = self.cache.increment(key, delta, ttl=ttl, route=route)
            outcomes: list[Any] = []
            if held is not None:
                number = type(held.value) is int and held.value in COUNTED
                total = held.value + delta if number else None
                outcomes.append(TypeError if not number else total if total in COUNTED else OverflowError)
            if not self.sure(key, (authority,)):
                outcomes.append(delta)
            try:
                result: Any = self.run(act)
            except (TypeError, OverflowError) as error:
                result = type(error)
            assert result in outcomes, f"{key!r} + {delta}: {result!r}; possible were {outcomes}"
            if isinstance(result, type):
                return
            if len(outcomes) == 2 and outcomes[0] == outcomes[1]:
                # Raised, or new with the same sum: only its life tells, so that is taken as it is.
                ttl = self.run(self.cache.ttl(key, route=route))
                self.hold(key, result, route, ttl, None, (authority,))
            elif held is not None and result == outcomes[0]:
                self.held[key] = replace(held, value=result, surely=self.certain((authority,)))
            else:
                self.hold(key, result, route, ttl, None, (authority,))

        @rule(key=KEY)
        def delete(self, key) -> None:
            there = self.run(self.cache.delete(key))
            assert there or not self.sure(key, pipeline.every)
            held = self.held.pop(key, None)
            # A copy that is stale and still kept for later counts as there.
            assert not there or (held is not None and self.clock.now < held.expires + held.stale)

        @rule(keys=st.lists(KEY, max_size=4))
        def delete_many(self, keys) -> None:
            sure = sum(self.sure(key, pipeline.every) for key in {*keys})
            count = self.run(self.cache.delete_many(keys))
            there = [held for key in {*keys} if (held := self.held.pop(key, None)) is not None]
            assert sure <= count <= sum(self.clock.now < held.expires + held.stale for held in there)

        @rule()
        def clear(self) -> None:
            self.run(self.cache.clear())
            self.held.clear()

        # Reads

        @rule(key=KEY, route=route_names)
        def get(self, key, route) -> None:
            found = self.run(self.cache.get(key, MISSING, route=route))
            self.check(key, found, self.tiers(route))
            # Whatever brought it, the second hit must not differ.
            again = self.run(self.cache.get(key, MISSING, route=route))
            assert same(found, again), f"{key!r} gave {found!r}, then {again!r}"

        @rule(keys=st.lists(KEY, max_size=6), route=route_names)
        def get_many(self, keys, route) -> None:
            found = self.run(self.cache.get_many(keys, route=route))
            assert list(found) == [key for key in dict.fromkeys(keys) if key in found]
            for key in keys:
                self.check(key, found.get(key, MISSING), self.tiers(route))

        @rule(key=KEY)
        def peek(self, key) -> None:
            self.steer()
            self.check(key, self.cache.peek(key, MISSING), {"memory"}.intersection(pipeline.tiers))

        @rule(key=KEY, route=route_names)
        def exists(self, key, route) -> None:
            there = self.run(self.cache.exists(key, route=route))
            assert there or not self.sure(key, self.tiers(route))
            assert not there or self.fresh(key) is not None

        @rule(key=KEY, route=route_names)
        def ttl(self, key, route) -> None:
            # Twice: the first may read a far tier, the second what that promoted.
            for _ in range(2):
                left = self.run(self.cache.ttl(key, route=route))
                held = self.fresh(key)
                if left is None:
                    assert not self.sure(key, self.tiers(route)), f"{key!r} is lost"
                    continue
                assert held is not None, f"{key!r} is absent, and lives on for {left} s"
                due = held.expires - self.clock.now
                # A clamped near copy whose far one is lost knows of its own life alone.
                shorter = pipeline.clamps and left <= due and not self.sure(key, self.tiers(route))
                right = left == due or abs(left - due) <= TOLERANCE
                assert right or shorter, f"{key!r}: {left} s for {due} s"

        @rule(match=st.sampled_from(GLOBS))
        def keys(self, match) -> None:
            async def collected() -> list[str]:
                return [key async for key in self.cache.keys(match)]

            found = self.run(collected())
            assert len({*found}) == len(found)
            matching = [key for key in KEYS if glob(match).fullmatch(key)]
            assert {*found} <= {key for key in matching if self.fresh(key) is not None}
            assert {*found} >= {key for key in matching if self.sure(key, pipeline.every)}

        # The world around

        @rule(seconds=st.sampled_from((0.3017, 1.3017, 6.3017, 61.3017)))
        def advance(self, seconds) -> None:
            self.clock.advance(seconds)

        @precondition(lambda _: pipeline.slow == 1.0)
        @rule()
        def advance_far(self) -> None:
            self.clock.advance(700.3017)

        @precondition(lambda _: far and "memory" in pipeline.every)
        @rule()
        def lose_what_is_near(self) -> None:
            self.cache._empty()
            self.lost("memory")

        @precondition(lambda _: far)
        @rule(codec=CODECS)
        def reopen(self, codec) -> None:
            self.runner.run(self.cache.close())
            # A new process begins its stamps at the wall clock, which has gone on meanwhile.
            self.clock.advance(0.01)
            self.lost("memory")
            if "redis" in pipeline.every:
                # What stands behind a shared tier may have missed something while nobody listened.
                self.lost("disk")
            if codec["serializer"] == "pickle" and self.codec["serializer"] != "pickle":
                # A tier that seals takes nothing that has no seal, not even what it wrote itself before.
                self.damage += 1
                for tier in far_tiers:
                    self.lost(tier)
            self.open(codec)

        @precondition(lambda _: "redis" in pipeline.every)
        @rule()
        def the_server_forgets_everything(self) -> None:
            async def wiped() -> None:
                await self.cache._house.fars["redis"].guard.tier.wipe(f"{self.namespace}:")

            self.run(wiped())
            self.lost("redis")

        @precondition(lambda _: far)
        @rule(key=KEY, bit=st.integers(64, 48 * 8 - 1), tier=st.sampled_from(("redis", "disk")))
        def a_frame_is_damaged(self, key, bit, tier) -> None:
            """One bit of the header, behind the stamp, which a tier may raise."""
            damaged = self.cache._house.fars.get(tier)
            address = self.cache._house.default.address(key)

            async def flipped() -> bool:
                (frame,) = await damaged.guard.tier.read([address])
                if frame is None:
                    return False
                expires_at = unpack_stale_until(frame)
                changed = bytearray(frame)
                changed[bit // 8] ^= 1 << bit % 8
                await damaged.guard.tier.write([Record(address, bytes(changed), expires_at, stamp_of(frame))])
                return True

            if damaged is not None and self.run(flipped()):
                self.damage += 1
                if key in self.held:
                    self.held[key].surely -= {tier}

        def lost(self, tier: str) -> None:
            for held in self.held.values():
                held.surely -= {tier}

        def teardown(self) -> None:
            try:
                if self.cache is not None:
                    for stats in self.cache.stats().tiers.values():
                        assert stats.errors == 0, stats
                        assert stats.corrupt == 0 or self.damage, stats
                    self.runner.run(self.cache.clear())
                    self.runner.run(self.cache.close())
            finally:
                self.runner.close()
                self.directory.cleanup()

    return Machine


def unpack_stale_until(frame: bytes) -> int:
    """Return until when *frame* may be kept; its checksum need not hold any more."""
    return min(HEADER.unpack_from(frame)[9], NEVER)


def _seconds(ttl: Any) -> float:
    if isinstance(ttl, timedelta):
        return ttl.total_seconds()
    if isinstance(ttl, str):
        return math.inf if ttl == "never" else float(ttl.removesuffix("s"))
    return float(ttl)


def _longer(life: Any, times: float) -> Any:
    if isinstance(life, str):
        return f"{_seconds(life) * times:.0f}s"
    return life * times
