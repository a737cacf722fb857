"""Routes whose lives reads lengthen, where the tiers are odd, slow, or not alone."""

import asyncio
import threading

import pytest

from gated import document, opened, tier
from tiercache import Cache, ConfigError, Loaded
from tiercache.frame import SLIDING, restamped
from tiercache.testing import FakeClock

WINDOW = 40


def run(scenario, tiers=("memory", "shelf", "cellar"), kind="able", stages=None, **options):
    async def main():
        clock = FakeClock()
        doc = document(all={"tiers": list(tiers), "ttl": "1000s", "sliding": WINDOW, **options})
        for name, table in (stages or {}).items():
            doc["tier"][name] |= table
        for name in ("shelf", "cellar"):
            doc["tier"][name]["type"] = kind
        async with opened(doc, clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


async def settle():
    for _ in range(60):
        await asyncio.sleep(0)


async def read(cache, clock, seconds, key="k"):
    """Return what is read after *seconds*, once all that it began is done."""
    clock.advance(seconds)
    found = await cache.get(key, "miss")
    await settle()
    return found


@pytest.mark.parametrize("kind", ["able", "gated"])
@pytest.mark.parametrize("tiers", [("memory",), ("memory", "shelf", "cellar"), ("shelf",)])
def test_what_is_read_in_time_lives_until_its_ttl_and_what_is_not_is_gone(kind, tiers):
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await cache.set("unread", "v")
        for _ in range(34):
            assert await read(cache, clock, 29) == "v"
        assert await read(cache, clock, 13.9) == "v"
        assert await read(cache, clock, 0.2) == "miss"
        assert await read(cache, clock, 0, "unread") == "miss"
        await cache.set("k", "v")
        assert await read(cache, clock, 29) == "v"
        assert await read(cache, clock, WINDOW) == "miss"

    run(scenario, tiers, kind)


def test_a_life_is_written_at_most_four_times_a_window_and_hits_ask_nobody():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await settle()
        shelf = tier(cache, "shelf")
        shelf.calls.clear()
        for _ in range(3 * WINDOW * 10):
            assert await read(cache, clock, 0.1) == "v"
        swaps = [call for call in shelf.calls if call[0] == "swap"]
        assert 10 <= len(swaps) <= 3 * 4
        # One read that finds what is due, one before each write.
        assert len(shelf.calls) <= 3 * len(swaps)

    run(scenario)


def test_a_read_that_another_process_has_noted_is_not_noted_anew_and_one_in_between_is_not_lost():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await settle()
        shelf = tier(cache, "shelf")
        way = cache._house.routes["all"]
        real = shelf.swap
        met = []

        async def swap(record, expected):
            if not met:
                # Another process is quicker: its read came a second before.
                met.append(1)
                head = way.decoder.head(record.key.encode(), record.frame)
                other = way.decoder.relived(
                    record.key.encode(), record.frame, head, head.fresh_until - 10**6, 0, head.end
                )
                other = restamped(other, record.stamp)
                assert await real(record._replace(frame=other), expected)
            return await real(record, expected)

        far = way.fars[0]
        far.swap = swap
        assert await read(cache, clock, 25) == "v"
        frame = shelf.standing("tiercache:k")
        assert way.head(far, b"tiercache:k", frame).fresh_until == int((clock() + WINDOW) * 10**6)

    run(scenario)


def test_a_tier_that_never_swaps_does_not_keep_the_cache_busy():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await settle()

        async def swap(record, expected):
            return False

        cache._house.routes["all"].fars[0].swap = swap
        assert await read(cache, clock, 25) == "v"
        await settle()
        assert not cache._house.routes["all"].flights.running

    run(scenario)


@pytest.mark.parametrize("change", ["set", "delete"])
def test_what_changes_while_a_read_is_being_noted_wins(change):
    async def scenario(cache, clock):
        await cache.set("k", "old")
        await settle()
        clock.advance(25)
        shelf = tier(cache, "shelf")
        assert await cache.get("k") == "old"
        shelf.gate.clear()
        await settle()
        changing = asyncio.create_task(cache.set("k", "new") if change == "set" else cache.delete("k"))
        await settle()
        shelf.gate.set()
        await changing
        await settle()
        cache._house.nears["memory"].remove("k")
        assert await cache.get("k", "miss") == ("new" if change == "set" else "miss")

    for kind in ("able", "gated"):
        run(scenario, ("memory", "shelf"), kind)


def test_a_tier_that_keeps_nothing_for_long_is_filled_anew():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        for _ in range(20):
            assert await read(cache, clock, 25) == "v"
            assert tier(cache, "shelf").rows["tiercache:k"][1] <= int((clock() + 20) * 10**6)

    run(scenario, ("shelf", "cellar"), stages={"shelf": {"max_ttl": "20s"}})


def test_a_near_tier_that_keeps_nothing_for_long_hides_no_reads():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        for _ in range(20):
            assert await read(cache, clock, 29) == "v"

    run(scenario, stages={"memory": {"max_ttl": "35s"}})
    run(scenario, stages={"memory": {"max_ttl": "5s"}})


def test_reads_that_are_proven_to_be_of_what_stands_are_noted():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        for _ in range(200):
            assert await read(cache, clock, 4) == "v"
        assert await read(cache, clock, WINDOW) == "miss"

    run(scenario, ("memory", "shelf"), coherent=True)


def test_entries_slide_through_tiers_that_speak_otherwise():
    async def scenario(cache, clock):
        await cache.set("k", {"a": 1})
        await settle()
        tier(cache, "shelf").rows.clear()
        for _ in range(10):
            assert await read(cache, clock, 25) == {"a": 1}
        assert tier(cache, "shelf").standing("tiercache:k")[11] & SLIDING

    run(scenario, ("shelf", "cellar"), stages={"cellar": {"serializer": "json"}})


@pytest.mark.parametrize("tiers", [("memory",), ("shelf",)])
def test_a_counter_that_slides_goes_on_sliding_when_it_is_raised(tiers):
    async def scenario(cache, clock):
        await cache.increment("k", 1)
        assert await read(cache, clock, 25) == 1
        assert await cache.increment("k", 1) == 2
        for _ in range(30):
            assert await read(cache, clock, 25) == 2
        assert await read(cache, clock, WINDOW) == "miss"

    run(scenario, tiers)


def test_a_read_in_a_thread_counts_when_it_was_and_takes_nothing_from_a_later_one():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        clock.advance(20)
        found = []
        thread = threading.Thread(target=lambda: found.append(cache.peek("k")))
        thread.start()
        thread.join()
        clock.advance(15)
        assert cache.peek("k") == "v"
        await settle()
        clock.advance(WINDOW - 1)
        assert found == ["v"]
        assert cache.peek("k") == "v"

        # Alone, it is taken note of with the time at which it was.
        clock.advance(20)
        thread = threading.Thread(target=lambda: found.append(cache.peek("k")))
        thread.start()
        thread.join()
        clock.advance(25)
        await settle()
        clock.advance(10)
        assert cache.peek("k") == "v"
        clock.advance(WINDOW)
        assert cache.peek("k", "miss") == "miss"

    run(scenario, ("memory",))


def test_the_ends_of_entries_that_are_gone_are_forgotten():
    async def scenario(cache, clock):
        for number in range(5000):
            await cache.set(f"k{number}", number)
        near = cache._house.nears["memory"]
        assert len(cache._house.routes["all"].slides._ends) <= 2 * near.stats()["entries"] + 2

    run(scenario, ("memory",))


def test_a_route_that_slides_keeps_no_stale_copies():
    async def scenario(cache, clock):
        with pytest.raises(ValueError, match='stale=60.0 on route "all", which is sliding'):
            await cache.set("k", 1, stale=60)
        with pytest.raises(ValueError, match="which is sliding"):
            await cache.get_or_set("k", lambda: Loaded(1, stale=60))
        assert await cache.get_or_set("k", lambda: 1) == 1
        await settle()
        clock.advance(WINDOW)

        def failing():
            raise OSError("source")

        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", failing)
        await cache.set("k", 1)
        assert await cache.expire("k")
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", failing)

    run(scenario)


@pytest.mark.parametrize(("option", "value"), [("stale", "1h"), ("refresh_ahead", 0.8)])
def test_what_can_not_stand_beside_sliding_is_told(option, value):
    with pytest.raises(ConfigError, match=f"route.all.{option}: can't stand beside sliding"):
        Cache.open(
            {
                "tier": {"memory": {"type": "memory"}},
                "route": {"all": {"tiers": ["memory"], "sliding": "30m", option: value}},
            }
        )


def test_without_a_ttl_what_is_read_lives_for_ever():
    async def scenario(cache, clock):
        await cache.set("k", "v", ttl="never")
        for _ in range(100):
            assert await read(cache, clock, 29) == "v"
        assert await read(cache, clock, WINDOW) == "miss"

    run(scenario)
