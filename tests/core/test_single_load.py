"""One load a key in all processes: caches that share a tier stand for the processes here."""

import asyncio
from contextlib import suppress

import pytest

from gated import document, opened, tier
from leased import Leased, fleet, leased
from tiercache import MISSING, Claim, Clock, ConfigError, LoadCancelled, LoadTimeout
from tiercache.engine.guard import Guard
from tiercache.engine.locks import turns
from tiercache.engine.recovery import Recovery
from tiercache.testing import FakeClock
from tiercache.testing.tiers import record_of

KEY = "tiercache:k"


async def until(done, what="it"):
    """Wait until *done*."""
    for _ in range(2000):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} did not come about")


class Source:
    """A loader that counts, and can fail or be held up."""

    def __init__(self, *, ready=True):
        self.calls = 0
        self.error = None
        self.gate = asyncio.Event()
        if ready:
            self.gate.set()

    async def __call__(self):
        self.calls += 1
        value = self.calls
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


def held(cache, key=KEY):
    """Whether somebody holds the lease of *key*."""
    return bool(tier(cache, "shelf").holder(key))


def asked(cache, what):
    """Return how often the far tier was asked *what*."""
    return sum(call == what for call, _ in tier(cache, "shelf").calls)


def lend(cache, key=KEY, life=3600.0):
    """Let somebody who does nothing hold the lease of *key*, as who crashed does."""
    return tier(cache, "shelf").acquire([Claim(key, b"gone", life)])


async def settle():
    for _ in range(60):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "tiers", [("memory", "shelf"), ("shelf",), ("memory", "shelf", "cellar")], ids="+".join
)
def test_of_all_processes_one_loads(tiers):
    async def scenario():
        async with fleet(4, tiers=list(tiers)) as caches:
            source = Source(ready=False)
            asking = [asyncio.create_task(c.get_or_set("k", source)) for c in caches for _ in range(5)]
            await until(lambda: source.calls and all(asked(c, "acquire") > 1 for c in caches[1:]))
            source.gate.set()
            assert await asyncio.gather(*asking) == [1] * 20
            assert source.calls == 1
            await until(lambda: not held(caches[0]))
            for cache in caches:
                assert await cache.get("k") == 1

    asyncio.run(scenario())


def test_what_was_stored_between_the_look_and_the_lease_is_not_loaded_again():
    async def scenario():
        async with fleet(2) as (one, two):
            source = Source()
            shelf = tier(two, "shelf")
            shelf.gate.clear()
            late = asyncio.create_task(two.get_or_set("k", source))
            await until(lambda: asked(two, "read"))
            assert await one.get_or_set("k", source) == 1
            await until(lambda: tier(one, "shelf").rows)
            shelf.gate.set()
            assert await late == 1
            assert source.calls == 1
            await until(lambda: not held(two))

    asyncio.run(scenario())


def test_a_load_that_fails_lets_the_next_process_load():
    async def scenario():
        async with fleet(2) as (one, two):
            bad, good = Source(ready=False), Source()
            bad.error = OSError("source")
            first = asyncio.create_task(one.get_or_set("k", bad))
            await until(lambda: bad.calls)
            second = asyncio.create_task(two.get_or_set("k", good))
            await until(lambda: asked(two, "acquire"))
            bad.gate.set()
            with pytest.raises(OSError, match="source"):
                await first
            assert await second == 1
            assert (bad.calls, good.calls) == (1, 1)

    asyncio.run(scenario())


def test_who_crashed_is_waited_for_until_its_life_is_over_and_no_longer():
    async def scenario():
        clock = FakeClock()
        async with fleet(1, clock) as (cache,):
            source = Source()
            await lend(cache, life=10.0)
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "acquire") > 3)
            assert source.calls == 0
            clock.advance(10)
            assert await asking == 1

    asyncio.run(scenario())


# What another process changes during a load. Its clock is behind, so that stamps alone can't tell.


async def changed_during_load(change, behind=30.0, tiers=("memory", "shelf", "cellar"), more=None):
    """Return the caches' values, and what stands far, after *change* during a load of the first cache."""
    now = FakeClock()
    past = FakeClock(now() - behind)
    async with fleet(2, now, past, document=leased(tiers=list(tiers)) if more is None else more) as (
        one,
        two,
    ):
        source = Source(ready=False)
        loading = asyncio.create_task(one.get_or_set("k", source))
        await until(lambda: source.calls)
        await change(two)
        source.gate.set()
        assert await loading == 1, "its callers get what they waited for"
        await settle()
        cellar = tier(one, "cellar").living() if "cellar" in tiers else set()
        return one.peek("k", "gone"), await two.get("k", "gone"), cellar


@pytest.mark.parametrize("behind", [0.0, 30.0])
def test_what_was_loaded_before_a_delete_is_stored_nowhere(behind):
    async def delete(cache):
        await cache.delete("k")

    assert asyncio.run(changed_during_load(delete, behind)) == ("gone", "gone", set())


def test_what_was_loaded_before_a_set_does_not_replace_it():
    async def change(cache):
        await cache.set("k", "new")

    assert asyncio.run(changed_during_load(change)) == ("gone", "new", set())


def test_what_was_loaded_before_a_clear_is_stored_nowhere():
    async def clear(cache):
        await cache.clear()

    assert asyncio.run(changed_during_load(clear)) == ("gone", "gone", set())


def test_what_was_loaded_before_an_add_or_a_count_does_not_replace_it():
    async def add(cache):
        assert await cache.add("k", "added")

    async def count(cache):
        assert await cache.increment("k", 5) == 5

    assert asyncio.run(changed_during_load(add))[1] == "added"
    assert asyncio.run(changed_during_load(count))[1] == 5


def test_a_set_on_another_route_voids_the_lease_of_the_key():
    more = leased()
    more["route"]["other"] = {"tiers": ["memory", "cellar"]}
    more["route"]["all"]["default"] = True

    async def change(cache):
        await cache.set("k", "new", route="other")

    assert asyncio.run(changed_during_load(change, more=more, tiers=("memory", "shelf")))[0] == "gone"


def test_others_load_anew_once_a_lease_is_voided():
    async def scenario():
        async with fleet(3) as (one, two, three):
            old, new = Source(ready=False), Source()
            loading = asyncio.create_task(one.get_or_set("k", old))
            await until(lambda: old.calls)
            waiting = asyncio.create_task(two.get_or_set("k", new))
            await until(lambda: asked(two, "acquire"))
            await three.delete("k")
            assert await waiting == 1
            assert new.calls == 1
            old.gate.set()
            await loading

    asyncio.run(scenario())


def test_a_lease_that_ran_out_leaves_it_to_the_stamps():
    async def scenario(change):
        clock = FakeClock()
        async with fleet(2, clock) as (one, two):
            source = Source(ready=False)
            loading = asyncio.create_task(one.get_or_set("k", source))
            await until(lambda: source.calls)
            clock.advance(turns.LIFE + 1)
            if change:
                await two.delete("k")
            source.gate.set()
            await loading
            await settle()
            return await two.get("k", "gone")

    assert asyncio.run(scenario(False)) == 1, "a loader that blocks the loop must be able to fill the cache"
    assert asyncio.run(scenario(True)) == "gone"


def test_a_lease_is_prolonged_while_the_load_goes_on(monkeypatch):
    monkeypatch.setattr(turns, "LIFE", 0.06)

    async def scenario():
        # By a clock that stands still no lease runs out, however slow this machine is.
        async with fleet(1, FakeClock()) as (cache,):
            source = Source(ready=False)
            loading = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "prolong") > 2)
            assert held(cache)
            source.gate.set()
            await loading
            await until(lambda: not held(cache))
            count = asked(cache, "prolong")
            await asyncio.sleep(0.1)
            assert asked(cache, "prolong") == count

    asyncio.run(scenario())


def test_a_loader_that_hangs_holds_others_up_only_for_a_while(monkeypatch):
    monkeypatch.setattr(turns, "HELD", 0.1)

    async def scenario():
        async with fleet(2, FakeClock()) as (one, two):
            hung, good = Source(ready=False), Source()
            loading = asyncio.create_task(one.get_or_set("k", hung))
            await until(lambda: hung.calls)
            assert await two.get_or_set("k", good) == 1
            await two.delete("k")
            hung.gate.set()
            await loading
            await settle()
            assert await two.get("k", "gone") == "gone", "by the rule of the stamps"

    asyncio.run(scenario())


def test_a_loader_that_was_too_slow_for_its_lease_fills_the_cache_all_the_same(monkeypatch):
    monkeypatch.setattr(turns, "HELD", 0.05)

    async def scenario():
        async with fleet(1, FakeClock()) as (cache,):
            source = Source(ready=False)
            loading = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: source.calls and not held(cache))
            source.gate.set()
            await loading
            await until(lambda: KEY in tier(cache, "shelf").living())

    asyncio.run(scenario())


def test_a_load_that_waits_is_stored_although_its_key_changes_before_it_begins():
    async def scenario():
        async with fleet(1, FakeClock(), stale="1h") as (cache,):
            source = Source(ready=False)
            await cache.set("k", "before")
            await cache.expire("k")
            await lend(cache)
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "acquire") > 1)
            await cache.delete("k")
            await until(lambda: source.calls)
            joined = asyncio.create_task(cache.get_or_set("k", source))
            await settle()
            source.gate.set()
            assert await asyncio.gather(asking, joined) == [1, 1]
            assert source.calls == 1
            await until(lambda: not held(cache))
            assert cache.peek("k") == 1
            await cache.delete("k")

            # What was dropped while it waited does not stand in for a loader that fails.
            await cache.set("k", "before")
            await cache.expire("k")
            await lend(cache)
            source.error = OSError("source")
            asking = asyncio.create_task(cache.get_or_set("k", source))
            count = asked(cache, "acquire")
            await until(lambda: asked(cache, "acquire") > count)
            await cache.delete("k")
            with pytest.raises(OSError, match="source"):
                await asking

    asyncio.run(scenario())


# Failures


def test_where_leases_can_not_be_had_each_process_loads_for_itself():
    async def scenario():
        async with fleet(2) as (one, two):
            source = Source(ready=False)
            for cache in (one, two):
                tier(cache, "shelf").lease_error = OSError("away")
            asking = [asyncio.create_task(cache.get_or_set("k", source)) for cache in (one, two)]
            await until(lambda: source.calls == 2)
            source.gate.set()
            await asyncio.gather(*asking)

    asyncio.run(scenario())


def test_a_tier_that_fails_while_somebody_waits_ends_the_waiting():
    async def scenario():
        async with fleet(1) as (cache,):
            source = Source()
            await lend(cache)
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "acquire") > 2)
            assert not source.calls
            tier(cache, "shelf").error = OSError("away")
            assert await asking == 1

    asyncio.run(scenario())


def test_a_lease_whose_grant_was_lost_on_the_way_is_given_back():
    async def scenario():
        async with fleet(1) as (cache,):
            shelf = tier(cache, "shelf")
            shelf.lease_error = OSError("the answer was lost")
            source = Source(ready=False)
            loading = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: source.calls)
            assert asked(cache, "release") or held(cache)
            shelf.lease_error = None
            await until(lambda: asked(cache, "release"))
            source.gate.set()
            await loading

    asyncio.run(scenario())


def test_what_the_tier_has_no_room_for_is_kept_near_all_the_same():
    async def scenario():
        async with fleet(1) as (cache,):
            shelf = tier(cache, "shelf")

            async def full(records):
                return [0 for _ in records]

            shelf.write = full
            source = Source()
            assert await cache.get_or_set("k", source) == 1
            await settle()
            assert cache.peek("k") == 1

    asyncio.run(scenario())


# Callers who leave


def test_a_lease_is_given_back_when_the_last_caller_leaves():
    async def scenario():
        async with fleet(2) as (one, two):
            source, other = Source(ready=False), Source()
            asking = [asyncio.create_task(one.get_or_set("k", source)) for _ in range(3)]
            await until(lambda: source.calls)
            waiting = asyncio.create_task(two.get_or_set("k", other))
            await until(lambda: asked(two, "acquire"))
            for task in asking[:2]:
                task.cancel()
            await settle()
            assert held(one), "one is left"
            asking[2].cancel()
            assert await waiting == 1
            assert source.calls == other.calls == 1
            await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(scenario())


def test_who_leaves_while_waiting_for_its_turn_takes_nothing_along():
    async def scenario():
        async with fleet(1) as (cache,):
            source = Source()
            await lend(cache)
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "acquire") > 2)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            await settle()
            assert source.calls == 0
            assert tier(cache, "shelf").holder(KEY) == b"gone"
            count = asked(cache, "acquire")
            await asyncio.sleep(0.05)
            assert asked(cache, "acquire") == count

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(12))
def test_who_leaves_while_the_lease_is_being_lent_gives_it_back(steps):
    async def scenario():
        async with fleet(1) as (cache,):
            source = Source(ready=False)
            shelf = tier(cache, "shelf")
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "read"))
            shelf.gate.clear()
            await until(lambda: asked(cache, "acquire"))
            shelf.gate.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            await until(lambda: not held(cache), "the lease's end")
            await asyncio.sleep(0.02)
            assert not held(cache)

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(8))
def test_a_load_that_is_cancelled_in_the_moment_of_the_grant_gives_it_back(steps):
    async def scenario():
        async with fleet(1) as (cache,):
            source = Source(ready=False)
            shelf = tier(cache, "shelf")
            asking = asyncio.create_task(cache.get_or_set("k", source))
            await until(lambda: asked(cache, "read"))
            shelf.gate.clear()
            await until(lambda: asked(cache, "acquire"))
            load = cache._house.routes["all"].flights.loads["k"]
            shelf.gate.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            load._task.cancel()
            with pytest.raises(LoadCancelled):
                await asking
            await until(lambda: not held(cache), "the lease's end")

    asyncio.run(scenario())


def test_many_keys_that_are_given_up_while_they_are_looked_for_give_their_leases_back(monkeypatch):
    looking = []

    async def look(self, key):
        looking.append(key)
        await asyncio.Event().wait()

    monkeypatch.setattr(turns.Turns, "_look", look)

    async def scenario():
        async with fleet(1) as (cache,):
            many = asyncio.create_task(cache.get_or_set_many(["a", "b"], lambda keys: {}))
            await until(lambda: len(looking) == 2)
            many.cancel()
            with suppress(asyncio.CancelledError):
                await many
            await until(lambda: not tier(cache, "shelf").leases)

    asyncio.run(scenario())


def test_what_a_load_brought_while_the_tier_was_away_is_made_good_without_its_lease():
    async def scenario():
        clock = Clock(FakeClock())
        shelf = Leased(clock)
        guard = Guard("shelf", shelf, clock)
        recovery = Recovery(guard, clock, swap=None, empty=None)
        recovery.miss_delete(KEY, 1)
        record = record_of(KEY, stamp=5, conditional=True)
        recovery.miss_write(record._replace(lease=b"token"))
        await recovery.replay()
        assert shelf.rows[KEY][0] == record.frame
        assert len(recovery) == 0

    asyncio.run(scenario())


# With the other options of a route


def test_a_refresh_is_left_to_the_process_that_has_the_lease():
    async def scenario():
        clock = FakeClock()
        async with fleet(1, clock, ttl="100s", refresh_ahead=0.5) as (cache,):
            source = Source()
            await cache.get_or_set("k", source)
            await until(lambda: not held(cache))
            clock.advance(60)
            await lend(cache)
            assert await cache.get_or_set("k", source) == 1
            await settle()
            assert source.calls == 1
            count = asked(cache, "acquire")
            assert await cache.get_or_set("k", source) == 1
            await asyncio.sleep(0.05)
            assert asked(cache, "acquire") == count, "it does not wait for it either"
            tier(cache, "shelf").leases.clear()
            clock.advance(6)
            assert await cache.get_or_set("k", source) == 1
            await until(lambda: source.calls == 2)
            await until(lambda: cache.peek("k") == 2)

    asyncio.run(scenario())


def test_an_explicit_refresh_waits_for_nobody_and_outdates_what_others_load():
    async def scenario():
        async with fleet(2) as (one, two):
            old = Source(ready=False)
            loading = asyncio.create_task(one.get_or_set("k", old))
            await until(lambda: old.calls)
            assert await two.refresh("k", lambda: "fresh") == "fresh"
            await settle()
            old.gate.set()
            await loading
            await settle()
            assert await two.get("k") == "fresh"
            assert one.peek("k", "gone") == "gone"

    asyncio.run(scenario())


def test_timeouts_count_the_time_that_is_waited_for_others():
    async def scenario():
        async with fleet(1, hard_timeout="50ms") as (cache,):
            source = Source()
            await lend(cache)
            with pytest.raises(LoadTimeout):
                await cache.get_or_set("k", source)
            assert source.calls == 0
            tier(cache, "shelf").leases.clear()
            await until(lambda: source.calls == 1)

    asyncio.run(scenario())


def test_many_keys_are_loaded_together_but_for_those_that_others_load():
    async def scenario():
        async with fleet(2) as (one, two):
            asked_for = []

            async def loader(keys):
                asked_for.append(sorted(keys))
                return {key: key.upper() for key in keys}

            source = Source(ready=False)
            await two.set("x", "there")
            loading = asyncio.create_task(one.get_or_set("b", source))
            await until(lambda: source.calls)
            many = asyncio.create_task(two.get_or_set_many(["a", "b", "c", "x"], loader))
            await until(lambda: asked_for)
            assert asked_for == [["a", "c"]]
            source.gate.set()
            assert await many == {"a": "A", "b": 1, "c": "C", "x": "there"}
            assert asked_for == [["a", "c"]]
            await loading
            await until(lambda: not tier(two, "shelf").leases)
            assert await one.get_many(["a", "b", "c"]) == {"a": "A", "b": 1, "c": "C"}

    asyncio.run(scenario())


def test_many_keys_take_over_those_that_others_gave_up():
    async def scenario():
        async with fleet(1) as (cache,):
            asked_for = []

            def loader(keys):
                asked_for.append(sorted(keys))
                return {key: key.upper() for key in keys}

            await lend(cache, "tiercache:b")
            many = asyncio.create_task(cache.get_or_set_many(["a", "b"], loader))
            await until(lambda: asked_for)
            tier(cache, "shelf").leases.clear()
            assert await many == {"a": "A", "b": "B"}
            assert asked_for == [["a"], ["b"]]

    asyncio.run(scenario())


def test_many_keys_that_are_given_up_give_their_leases_back():
    async def scenario():
        async with fleet(1) as (cache,):
            gate = asyncio.Event()
            shelf = tier(cache, "shelf")

            async def loader(keys):
                await gate.wait()

            for wait_for in (lambda: asked(cache, "acquire"), lambda: len(shelf.leases) == 3):
                many = asyncio.create_task(cache.get_or_set_many(["a", "b", "c"], loader))
                await until(wait_for)
                many.cancel()
                with suppress(asyncio.CancelledError):
                    await many
                await until(lambda: not shelf.leases)

    asyncio.run(scenario())


def test_two_processes_whose_loads_need_each_other_do_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(turns, "LIFE", 0.3)

    async def scenario():
        async with fleet(2, FakeClock()) as (one, two):
            started = {"a": asyncio.Event(), "b": asyncio.Event()}

            def crossing(cache, mine, other):
                async def loader():
                    started[mine].set()
                    await started[other].wait()
                    return mine + await cache.get_or_set(other, lambda: "?")

                return cache.get_or_set(mine, loader)

            async with asyncio.timeout(20):
                both = await asyncio.gather(crossing(one, "a", "b"), crossing(two, "b", "a"))
            assert "?" in "".join(both)

    asyncio.run(scenario())


def test_a_value_that_is_not_to_be_stored_ends_the_lease():
    async def scenario():
        from tiercache import Loaded

        async with fleet(1) as (cache,):
            assert await cache.get_or_set("k", lambda: Loaded(1, store=False)) == 1
            await until(lambda: not held(cache))
            assert await cache.get("k", MISSING) is MISSING

    asyncio.run(scenario())


# Configuration


def test_a_tier_that_can_not_lend_is_refused_with_the_route():
    with pytest.raises(ConfigError, match=r'route\.all\.lock: tier "shelf" .*Locks'):
        opened(document(all={"tiers": ["memory", "shelf"], "lock": True}))


def test_within_one_process_nothing_is_needed():
    async def scenario():
        async with opened(document(all={"tiers": ["memory"], "lock": True})) as cache:
            assert await cache.get_or_set("k", lambda: 1) == 1

    asyncio.run(scenario())
