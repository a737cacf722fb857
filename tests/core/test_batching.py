"""Single calls become batches, in order; a tier that fails hurts nobody."""

import asyncio
import logging
import re

import pytest

from gated import document, opened, tier
from tiercache import TierRefused
from tiercache.engine.guard import REOPEN_AFTER
from tiercache.testing import FakeClock


def run(scenario, doc=None):
    async def main():
        clock = FakeClock()
        async with opened(doc or document(all={"tiers": ["shelf"]}), clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def test_calls_that_arrive_while_one_is_in_flight_go_out_together():
    async def scenario(cache, clock):
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        first = asyncio.create_task(cache.get("first"))
        await settle()
        rest = [asyncio.create_task(cache.get(f"k{i % 100}")) for i in range(200)]
        await settle()
        assert [len(keys) for what, keys in shelf.calls] == [1]
        shelf.gate.set()
        await asyncio.gather(first, *rest)
        assert [len(keys) for what, keys in shelf.calls] == [1, 100]

    run(scenario)


def test_get_many_is_one_call_a_tier():
    async def scenario(cache, clock):
        await cache.set_many({f"k{i}": i for i in range(50)})
        shelf = tier(cache, "shelf")
        shelf.calls.clear()
        found = await cache.get_many([f"k{i}" for i in range(100)])
        assert found == {f"k{i}": i for i in range(50)}
        assert [len(keys) for what, keys in shelf.calls] == [100]

    run(scenario)


def test_no_call_carries_more_keys_than_the_limit():
    async def scenario(cache, clock):
        await cache.get_many([f"k{i}" for i in range(1200)])
        sizes = [len(keys) for what, keys in tier(cache, "shelf").calls]
        assert sum(sizes) == 1200
        assert max(sizes) <= 512

    run(scenario)


def test_writes_and_deletes_of_a_key_leave_in_the_order_of_the_calls():
    async def scenario(cache, clock):
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        steps = [
            asyncio.create_task(step)
            for step in (
                cache.set("k", 1),
                cache.delete("k"),
                cache.set("k", 2),
                cache.delete("k"),
                cache.set("k", 3),
            )
        ]
        await settle()
        shelf.gate.set()
        await asyncio.gather(*steps)
        # A delete looks what is there, and writes a tombstone.
        writes = ["write", "read", "write", "write", "read", "write", "write"]
        assert [what for what, keys in shelf.calls] == writes
        assert await cache.get("k") == 3

    run(scenario)


def test_a_caller_who_leaves_does_not_take_the_write_along():
    async def scenario(cache, clock):
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        setter = asyncio.create_task(cache.set("k", 1))
        await settle()
        setter.cancel()
        await asyncio.gather(setter, return_exceptions=True)
        shelf.gate.set()
        assert await cache.get("k") in {1, None}
        await cache._house.fars["shelf"].idle()
        assert await cache.get("k") == 1

    run(scenario)


@pytest.mark.parametrize("error", [OSError("gone"), TypeError("bug"), OverflowError(), ValueError("x" * 10)])
def test_a_tier_that_fails_is_a_miss_and_is_logged_once_until_it_is_back(error, caplog):
    caplog.set_level(logging.INFO, "tiercache.tier")

    async def scenario(cache, clock):
        await cache.set("k", 1)
        await cache.set("other", 1)
        shelf = tier(cache, "shelf")
        shelf.error = error
        for _ in range(5):
            assert await cache.get("k", "miss") == "miss"
            await cache.set("k", 2)
            await cache.delete("k")
        assert 5 <= cache.stats().tiers["shelf"].errors < 15
        assert not cache.stats().tiers["shelf"].available
        shelf.error = None
        clock.advance(REOPEN_AFTER)
        assert await cache.get("k", "miss") == "miss"
        assert await cache.get("other") == 1
        await cache._house.fars["shelf"].idle()
        assert cache.stats().tiers["shelf"].available

    run(scenario)
    assert [re.split("[,:]", record.getMessage(), maxsplit=2)[:2] for record in caplog.records] == [
        ["tier shelf is lost", " reads miss and writes are skipped"],
        ["tier shelf", " its breaker is open"],
        ["tier shelf", " its breaker is closed"],
        ["tier shelf is back"],
    ]


def test_a_tier_that_is_away_at_start_does_not_stop_the_application_and_is_tried_again():
    async def main():
        clock = FakeClock()
        cache = opened(document(all={"tiers": ["memory", "shelf"]}), clock=clock)
        shelf = tier(cache, "shelf")
        shelf.open_error = OSError("away")
        async with cache:
            await cache.set("k", 1)
            assert await cache.get("k") == 1
            shelf.open_error = None
            await cache.set("k", 2)
            assert shelf.rows == {}
            clock.advance(REOPEN_AFTER)
            await cache.set("k", 3)
            assert shelf.opened == 1
            assert list(shelf.rows) == ["tiercache:k"]
        assert shelf.closed == 1

    asyncio.run(main())


def test_a_tier_that_refuses_stops_the_start_and_leaves_nothing_open():
    async def main():
        cache = opened(document(), clock=FakeClock())
        tier(cache, "shelf").open_error = TierRefused("wrong password")
        with pytest.raises(TierRefused, match="wrong password"):
            await cache.start()
        assert tier(cache, "shelf").closed == tier(cache, "cellar").closed == 1

    asyncio.run(main())


def test_close_closes_every_tier_also_where_one_fails(caplog):
    async def main():
        cache = opened(document(), clock=FakeClock())

        async def failing():
            raise OSError("stuck")

        async with cache:
            tier(cache, "shelf").close = failing
        assert tier(cache, "cellar").closed == 1
        await cache.close()
        assert tier(cache, "cellar").closed == 1

    asyncio.run(main())
    assert "tier shelf did not close cleanly: OSError: stuck" in caplog.text


def test_close_waits_for_writes_under_way():
    async def main():
        cache = opened(document(all={"tiers": ["memory", "shelf"]}), clock=FakeClock())
        async with cache:
            shelf = tier(cache, "shelf")
            await cache.get_or_set("k", lambda: 1)
        assert list(shelf.rows) == ["tiercache:k"]

    asyncio.run(main())


def test_a_tier_that_hangs_is_closed_within_its_deadline(monkeypatch, caplog):
    monkeypatch.setattr("tiercache.engine.house.CLOSE_WITHIN", 0.05)

    async def main():
        async with opened(document(all={"tiers": ["memory", "shelf"]})) as cache:
            tier(cache, "shelf").gate.clear()
            reader = asyncio.create_task(cache.get("k"))
            await settle()
        assert tier(cache, "shelf").closed == 1
        tier(cache, "shelf").gate.set()
        assert await reader is None

    asyncio.run(main())
    assert "did not close cleanly" in caplog.text


def test_closing_never_hides_the_error_of_the_body():
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with opened(document(), clock=FakeClock()) as cache:
                tier(cache, "shelf").close = None
                raise ZeroDivisionError

    asyncio.run(main())
