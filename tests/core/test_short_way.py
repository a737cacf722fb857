"""Plain frames are judged by a short way once their like was met: it must be as strict as the long one."""

import asyncio
from types import SimpleNamespace

from tiercache import Cache, Clock
from tiercache.engine.batching import Arrival
from tiercache.engine.codec import Decoder
from tiercache.engine.judging import informed
from tiercache.testing import FakeClock


def document(tmp_path):
    return {
        "cache": {"namespace": "n"},
        "tier": {"disk": {"type": "sqlite", "path": str(tmp_path / "short.sqlite3")}},
        "route": {"all": {"tiers": ["disk"], "ttl": 60.0}},
    }


def play(tmp_path, scenario, monkeypatch):
    """Run *scenario* with a cache that has met a plain frame; return, for each frame, whether it took it."""
    taken = []
    fresh = Decoder.fresh

    def watched(self, addresses, frames, after, now, seen):
        founds, stamps = fresh(self, addresses, frames, after, now, seen)
        taken.extend(found is not None for found in founds)
        return founds, stamps

    async def run():
        clock = FakeClock(1_000_000.0)
        async with Cache.open(document(tmp_path), clock=clock) as cache:
            await cache.set("first", "value")
            assert await cache.get("first") == "value"
            assert await cache.get("first") == "value"
            monkeypatch.setattr(Decoder, "fresh", watched)
            await scenario(cache, clock)

    asyncio.run(run())
    return taken


def test_a_plain_frame_takes_it(tmp_path, monkeypatch):
    async def scenario(cache, clock):
        await cache.set("k", {"a": (1, None)})
        assert await cache.get("k") == {"a": (1, None)}
        assert cache.stats().tiers["disk"].hits == 3

    assert play(tmp_path, scenario, monkeypatch) == [True]


def test_it_ends_where_the_life_does(tmp_path, monkeypatch):
    async def scenario(cache, clock):
        await cache.set("k", "v")
        clock.advance(59.9)
        assert await cache.get("k") == "v"
        clock.advance(0.1)
        assert await cache.get("k") is None

    assert play(tmp_path, scenario, monkeypatch)[0] is True


def test_markers_hold_on_it(tmp_path, monkeypatch):
    async def scenario(cache, clock):
        for drop in (lambda: cache.invalidate(prefix="k"), cache.clear):
            await cache.set("k1", "v")
            frame = (await cache._house.fars["disk"].guard.tier.read(["n:k1"]))[0]
            assert await cache.get("k1") == "v"
            await drop()
            # Put back behind the cache's back, as a restored backup would.
            route = cache._house.default
            record = route.fars[0].record("n:k1", frame, route.until(60.0), conditional=False)
            await route.fars[0].guard.tier.write([record])
            assert await cache.get("k1") is None
            await cache.set("k1", "new")
            assert await cache.get("k1") == "new"

    assert True in play(tmp_path, scenario, monkeypatch)


def test_a_stamp_met_on_it_raises_the_clock(tmp_path, monkeypatch):
    async def scenario(cache, clock):
        ahead = FakeClock(clock() + 900)
        async with Cache.open(document(tmp_path), clock=ahead) as other:
            await other.set("k", "old")
        assert await cache.get("k") == "old"
        await cache.invalidate(prefix="k")
        assert await cache.get("k") is None

    assert play(tmp_path, scenario, monkeypatch)[0] is True


def test_each_batch_asks_the_lease_anew():
    def heard(lives):
        """Stand in for the coherence of a tier with a bus."""
        trust = SimpleNamespace(holds=lambda: lives[0])
        return SimpleNamespace(bus=object(), trust=trust, informed=lambda: lives[0])

    clock, lives = Clock(FakeClock(5.0)), [True]
    coherence = heard(lives)
    one = Arrival(clock)
    assert informed(coherence, one)
    lives[0] = False
    assert informed(coherence, one), "nothing was awaited in between"
    assert not informed(heard(lives), one), "of another tier"
    assert not informed(coherence, Arrival(clock))
