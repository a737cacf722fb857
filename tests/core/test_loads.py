"""What a route's options make of loads that fail, are slow, bring nothing, or come too late."""

import asyncio

import pytest

from gated import document, opened, tier
from tiercache import MISSING, Loaded, LoadTimeout
from tiercache.engine.loads import Load
from tiercache.engine.negatives import MOST
from tiercache.engine.rules import REARM
from tiercache.testing import FakeClock


def run(scenario, tiers=("memory", "shelf", "cellar"), **options):
    async def main():
        clock = FakeClock()
        async with opened(
            document(all={"tiers": list(tiers), "ttl": "100s", **options}), clock=clock
        ) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


async def settle():
    for _ in range(30):
        await asyncio.sleep(0)


async def later(clock, seconds):
    """Let what is under way end, then let time pass."""
    await settle()
    clock.advance(seconds)


class Source:
    """A loader that counts, and can fail or be held up."""

    def __init__(self):
        self.calls = 0
        self.error = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.calls += 1
        value = self.calls
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


@pytest.fixture(params=[("memory",), ("memory", "shelf", "cellar"), ("shelf",)], ids="+".join)
def tiers(request):
    return request.param


def test_a_stale_copy_stands_in_for_a_loader_that_fails(tiers):
    async def scenario(cache, clock):
        source = Source()
        assert await cache.get_or_set("k", source) == 1
        await later(clock, 101)
        source.error = OSError("source")
        assert await cache.get_or_set("k", source) == 1
        assert cache.stats().routes["all"].stale_served == 1
        assert await cache.get("k", "miss") in {"miss", 1}
        await later(clock, 50)
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)

    run(scenario, tiers, stale="50s")


def test_after_a_failure_the_stale_copy_is_served_for_a_while_without_asking_the_loader():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 101)
        source.error = OSError("source")
        for _ in range(5):
            assert await cache.get_or_set("k", source) == 1
        assert source.calls == 2
        await later(clock, REARM)
        assert await cache.get_or_set("k", source) == 1
        assert source.calls == 3
        source.error = None
        await later(clock, REARM)
        assert await cache.get_or_set("k", source) == 4

    run(scenario, stale="50s")


def test_re_arming_never_lengthens_the_life_of_a_stale_copy():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        source.error = OSError("source")
        await later(clock, 100)
        for _ in range(9):
            assert await cache.get_or_set("k", source) == 1
            await later(clock, 1)
        await later(clock, 1.01)
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)
        frame = tier(cache, "shelf").rows["tiercache:k"]
        assert frame[1] <= int(clock() * 1e6)

    run(scenario, stale="10s")


@pytest.mark.parametrize("change", ["delete", "clear"])
def test_a_stale_copy_is_never_served_after_the_key_was_dropped(tiers, change):
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 101)
        source.error = OSError("source")
        source.gate.clear()
        during = asyncio.create_task(cache.get_or_set("k", source))
        await settle()
        await (cache.delete("k") if change == "delete" else cache.clear())
        source.gate.set()
        with pytest.raises(OSError, match="source"):
            await during
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)

    run(scenario, tiers, stale="1h")


def test_without_a_stale_window_an_old_value_is_never_served(tiers):
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 100)
        source.error = OSError("source")
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)

    run(scenario, tiers)


def test_the_newest_stale_copy_stands_in_not_the_nearest():
    async def scenario(cache, clock):
        await cache.set("k", "old")
        near = cache._house.nears["memory"].get("k")
        old = (near.value, near.created_at)
        await later(clock, 1)
        await cache.set("k", "new")
        entry = cache._house.nears["memory"].get("k")
        entry.value, entry.created_at = old
        await later(clock, 101)

        def failing():
            raise OSError("source")

        assert await cache.get_or_set("k", failing) == "new"

    run(scenario, stale="1h")


def test_where_every_far_tier_fails_a_read_is_given_the_stale_near_copy():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await later(clock, 101)
        assert await cache.get("k", "miss") == "miss"
        for name in ("shelf", "cellar"):
            tier(cache, name).error = OSError("away")
        assert await cache.get("k", "miss") == "v"
        assert not await cache.exists("k")
        await later(clock, 50)
        assert await cache.get("k", "miss") == "miss"

    run(scenario, stale="50s")


def test_a_fallback_stands_in_for_a_first_load_that_fails_and_is_not_cached(tiers):
    async def scenario(cache, clock):
        source = Source()
        source.error = OSError("source")
        assert await cache.get_or_set("k", source, fallback=None) is None
        assert await cache.get("k", "miss") == "miss"
        source.error = None
        assert await cache.get_or_set("k", source, fallback=None) == 2

    run(scenario, tiers)


def test_a_slow_loader_is_waited_for_only_where_nothing_stale_stands_in():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 101)
        source.gate.clear()
        assert await asyncio.wait_for(cache.get_or_set("k", source), 5) == 1
        assert await asyncio.wait_for(cache.get_or_set("k", source), 5) == 1
        assert source.calls == 2
        source.gate.set()
        await settle()
        assert cache.peek("k") == 2
        assert await cache.get_or_set("k", source) == 2

    run(scenario, stale="50s", soft_timeout="10ms")


def test_a_load_that_goes_on_in_the_background_survives_its_callers():
    async def scenario(cache, clock):
        source = Source()
        source.gate.clear()
        with pytest.raises(LoadTimeout, match="'k'"):
            await cache.get_or_set("k", source)
        assert isinstance(LoadTimeout(), TimeoutError)
        late = asyncio.create_task(cache.get_or_set("k", source))
        await settle()
        late.cancel()
        await settle()
        source.gate.set()
        await settle()
        assert cache.peek("k") == 1
        assert source.calls == 1

    run(scenario, hard_timeout="10ms")


def test_late_comers_of_a_slow_load_wait_as_long_as_the_first():
    async def scenario(cache, clock):
        source = Source()
        source.gate.clear()
        for _ in range(2):
            with pytest.raises(LoadTimeout):
                await asyncio.wait_for(cache.get_or_set("k", source), 5)
        source.gate.set()

    run(scenario, hard_timeout="10ms")


def test_an_entry_is_refreshed_in_the_background_before_it_ends():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 79)
        assert await cache.get_or_set("k", source) == 1
        await settle()
        assert source.calls == 1
        await later(clock, 2)
        source.gate.clear()
        readers = [asyncio.create_task(cache.get_or_set("k", source)) for _ in range(5)]
        assert await asyncio.gather(*readers) == [1] * 5
        await settle()
        assert source.calls == 2
        assert await cache.get("k") == 1
        assert await cache.ttl("k") == pytest.approx(19, abs=0.01)
        source.gate.set()
        await settle()
        assert await cache.get_or_set("k", source) == 2
        assert await cache.ttl("k") == pytest.approx(100, abs=0.01)
        assert cache.stats().routes["all"].refreshes == 1

    run(scenario, refresh_ahead=0.8)


def test_a_refresh_takes_what_another_process_has_loaded_already():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 85)
        async with opened(
            document(all={"tiers": ["memory", "shelf", "cellar"], "ttl": "100s"}), clock=clock
        ) as other:
            for name in ("shelf", "cellar"):
                tier(other, name).rows = tier(cache, name).rows
            await other.set("k", "theirs")
        assert await cache.get_or_set("k", source) == 1
        await settle()
        assert source.calls == 1
        assert cache.peek("k") == "theirs"

    run(scenario, refresh_ahead=0.8)


def test_a_refresh_of_a_key_that_changed_meanwhile_is_dropped():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 85)
        source.gate.clear()
        await cache.get_or_set("k", source)
        await settle()
        await cache.set("k", "mine")
        source.gate.set()
        await settle()
        assert await cache.get("k") == "mine"

    run(scenario, refresh_ahead=0.8)


def test_a_refresh_that_fails_is_not_tried_again_at_once():
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        await later(clock, 85)
        source.error = OSError("source")
        for _ in range(5):
            assert await cache.get_or_set("k", source) == 1
            await settle()
        assert source.calls == 2
        await later(clock, REARM)
        await cache.get_or_set("k", source)
        await settle()
        assert source.calls == 3
        await later(clock, 11)
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)

    run(scenario, refresh_ahead=0.8)


def test_without_a_refresh_an_entry_of_a_refreshing_route_ends_when_its_ttl_does(tiers):
    async def scenario(cache, clock):
        await cache.set("k", 1)
        for _ in range(99):
            await later(clock, 1)
            assert await cache.get("k") == 1
            assert await cache.exists("k")
        await later(clock, 1)
        assert await cache.get("k") is None
        assert await cache.ttl("k") is None

    run(scenario, tiers, refresh_ahead=0.5)


def test_jitter_only_shortens_and_is_the_same_in_every_tier():
    async def scenario(cache, clock):
        lives = set()
        for number in range(50):
            key = f"k{number}"
            await cache.set(key, 1)
            life = await cache.ttl(key)
            assert 80 <= life <= 100.001
            lives.add(life)
            cache._house.nears["memory"].remove(key)
            assert await cache.ttl(key) == pytest.approx(life, abs=0.002)
        assert len(lives) > 40
        await cache.set("never", 1, ttl="never")
        assert await cache.ttl("never") == float("inf")

    run(scenario, jitter=0.2)


def test_a_none_that_was_loaded_has_a_life_of_its_own_and_one_that_was_set_has_not(tiers):
    async def scenario(cache, clock):
        calls = []
        for _ in range(3):
            assert await cache.get_or_set("k", lambda: calls.append(1)) is None
        await cache.set("set", None)
        await later(clock, 5)
        assert await cache.get("k", "miss") == "miss"
        assert await cache.get("set", "miss") is None
        assert len(calls) == 1

    run(scenario, tiers, negative_ttl="5s")


def test_errors_are_remembered_where_the_route_asks_for_it():
    async def scenario(cache, clock):
        source = Source()
        source.error = OSError("source")
        for _ in range(3):
            with pytest.raises(OSError, match="source"):
                await cache.get_or_set("k", source)
            assert await cache.get_or_set("k", source, fallback=7) == 7
        assert source.calls == 1
        await later(clock, 5)
        source.error = None
        assert await cache.get_or_set("k", source) == 2
        source.error = OSError("again")
        with pytest.raises(OSError, match="again"):
            await cache.get_or_set("other", source)
        await cache.set("other", 1)
        assert await cache.get_or_set("other", source) == 1

    run(scenario, negative_ttl="5s", negative_errors=True)


def test_a_flood_of_absent_keys_takes_only_so_many_places_in_memory():
    async def scenario(cache, clock):
        for number in range(MOST + 50):
            await cache.get_or_set(f"absent{number}", lambda: None)
        assert cache.stats().tiers["memory"].own["entries"] <= MOST

    run(scenario, ("memory",), negative_ttl="50s")


def test_a_loader_may_say_how_its_value_is_stored(tiers):
    async def scenario(cache, clock):
        assert await cache.get_or_set("k", lambda: Loaded("v", ttl=5, tags=("t",)), tags=["u"]) == "v"
        assert await cache.ttl("k") == pytest.approx(5, abs=0.01)
        assert await cache.get_or_set("n", lambda: Loaded("v", store=False)) == "v"
        assert await cache.get("n", "miss") == "miss"
        if "memory" in tiers:
            assert cache._house.nears["memory"].tags("k") == ("t",)

    run(scenario, tiers)


def test_a_loader_that_takes_one_argument_is_told_the_key_and_the_stale_copy(tiers):
    async def scenario(cache, clock):
        async def loader(context):
            return (context.key, None if context.stale is MISSING else context.stale)

        assert await cache.get_or_set("k", loader) == ("k", None)
        await later(clock, 101)
        assert await cache.get_or_set("k", loader) == ("k", ("k", None))

    run(scenario, tiers, stale="50s")


def test_many_keys_are_loaded_in_one_call_that_is_given_only_the_missing(tiers):
    async def scenario(cache, clock):
        asked = []

        async def loader(keys):
            asked.append(keys)
            return {key: key.upper() for key in keys if key != "none"}

        await cache.set("b", "set")
        found = await cache.get_or_set_many(["a", "b", "c", "a", "none"], loader)
        assert found == {"a": "A", "b": "set", "c": "C"}
        assert asked == [["a", "c", "none"]]
        assert await cache.get_many(["a", "b", "c", "none"]) == found

    run(scenario, tiers)


def test_loads_of_many_keys_and_of_one_share_their_flights():
    async def scenario(cache, clock):
        gate = asyncio.Event()
        asked = []

        async def many(keys):
            asked.append(keys)
            await gate.wait()
            return dict.fromkeys(keys, "many")

        single = Source()
        single.gate.clear()
        one = asyncio.create_task(cache.get_or_set("a", single))
        await settle()
        all_ = asyncio.create_task(cache.get_or_set_many(["a", "b"], many))
        await settle()
        other = asyncio.create_task(cache.get_or_set("b", single))
        await settle()
        gate.set()
        single.gate.set()
        assert await all_ == {"a": 1, "b": "many"}
        assert (await one, await other) == (1, "many")
        assert asked == [["b"]]
        assert single.calls == 1

    run(scenario)


def test_a_loader_of_many_keys_that_fails_fails_for_all_who_wait_for_it():
    async def scenario(cache, clock):
        async def loader(keys):
            raise OSError("source")

        with pytest.raises(OSError, match="source"):
            await cache.get_or_set_many(["a", "b"], loader)
        assert await cache.get_many(["a", "b"]) == {}

    run(scenario)


def test_cancelling_the_only_caller_of_a_bulk_load_cancels_it():
    async def scenario(cache, clock):
        cancelled = []

        async def loader(keys):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(keys)
                raise

        caller = asyncio.create_task(cache.get_or_set_many(["a", "b"], loader))
        await settle()
        caller.cancel()
        await settle()
        assert cancelled == [["a", "b"]]
        assert await cache.get_or_set("a", lambda: 1) == 1

    run(scenario)


def test_refresh_loads_whatever_is_cached(tiers):
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        assert await cache.refresh("k", source) == 2
        assert await cache.get("k") == 2
        assert await cache.get_or_set("k", source) == 2

    run(scenario, tiers)


def test_expire_ends_an_entry_but_keeps_it_as_a_stale_copy(tiers):
    async def scenario(cache, clock):
        source = Source()
        await cache.get_or_set("k", source)
        assert await cache.expire("k")
        assert not await cache.expire("k")
        assert await cache.get("k", "miss") == "miss"
        source.error = OSError("source")
        assert await cache.get_or_set("k", source) == 1
        await later(clock, 151)
        assert not await cache.expire("absent")
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", source)

    run(scenario, tiers, stale="50s")


def test_loads_are_under_way_until_they_end_however_they_do(tiers):
    source, wrong = Source(), Source()
    wrong.error = ValueError("wrong")

    async def scenario(cache, clock):
        def under_way():
            return cache.stats().routes["all"].loading

        source.gate.clear()
        callers = [asyncio.create_task(cache.get_or_set(key, source)) for key in ("a", "b")]
        await settle()
        assert under_way() == 2
        callers[0].cancel()
        await settle()
        assert under_way() == 1
        source.gate.set()
        assert await callers[1] == 2
        with pytest.raises(ValueError, match="wrong"):
            await cache.get_or_set("c", wrong)
        # Nobody waits any more when its task would begin.
        way = cache._house.default
        load = Load(way, "d", source, way.life)
        load.start()
        load.leave(load.join())
        await settle()
        assert under_way() == 0
        assert source.calls == 2

    run(scenario, tiers)


def test_closing_waits_for_loads_in_the_background():
    async def main():
        doc = document(all={"tiers": ["memory", "shelf"], "ttl": "100s", "hard_timeout": "10ms"})
        async with opened(doc, clock=FakeClock()) as cache:
            source = Source()
            source.gate.clear()
            with pytest.raises(LoadTimeout):
                await cache.get_or_set("k", source)
            asyncio.get_running_loop().call_later(0.05, source.gate.set)
        assert list(tier(cache, "shelf").rows) == ["tiercache:k"]

    asyncio.run(main())


@pytest.mark.parametrize("far_only", [False, True])
def test_a_far_tier_that_is_slow_is_waited_for_no_longer_than_a_loader_that_is(far_only):
    async def scenario(cache, clock):
        await cache.set("k", "old")
        await later(clock, 101)
        if far_only:
            # The nearer far tier has the stale copy; the farther one holds the answer up.
            cache._house.nears["memory"].remove("k")
        held = tier(cache, "cellar" if far_only else "shelf")
        held.gate.clear()
        source = Source()
        reading = asyncio.create_task(cache.get_or_set("k", source))
        if far_only:
            await asyncio.sleep(0.05)
            source.gate.clear()
            held.gate.set()
        assert await asyncio.wait_for(reading, 10) == "old"
        held.gate.set()
        source.gate.set()
        await settle()
        assert await cache.get_or_set("k", source) == 1

    run(scenario, stale="1h", soft_timeout="10ms")


def test_no_caller_waits_beyond_the_hard_timeout_while_a_far_tier_is_slow():
    async def scenario(cache, clock):
        tier(cache, "shelf").gate.clear()
        source = Source()
        for _ in range(2):
            with pytest.raises(LoadTimeout):
                await asyncio.wait_for(cache.get_or_set("k", source), 10)
        assert source.calls == 0
        tier(cache, "shelf").gate.set()
        await settle()
        assert source.calls == 1
        assert cache.peek("k") == 1

    run(scenario, hard_timeout="10ms")
