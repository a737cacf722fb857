"""What happens to reads and loads that are under way."""

import asyncio

import pytest

from gated import document, opened, tier
from tiercache import LoadCancelled, LoadCycle, LoadError, Unserializable
from tiercache.testing import FakeClock


def run(scenario):
    async def main():
        clock = FakeClock()
        async with opened(document(), clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


class Loader:
    """A loader that waits to be let go."""

    def __init__(self, value="loaded"):
        self.value = value
        self.calls = 0
        self.gate = asyncio.Event()
        self.cancelled = 0

    async def __call__(self):
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def test_a_thousand_callers_of_a_cold_key_make_one_load():
    async def scenario(cache, clock):
        loader = Loader()
        callers = [asyncio.create_task(cache.get_or_set("k", loader)) for _ in range(1000)]
        await settle()
        loader.gate.set()
        assert set(await asyncio.gather(*callers)) == {"loaded"}
        assert loader.calls == 1
        assert cache.stats().routes["all"].loads == 1

    run(scenario)


@pytest.mark.parametrize("leaving", [[0], [1, 3], [0, 1, 2, 3]])
def test_a_cancelled_caller_hurts_nobody_else(leaving):
    async def scenario(cache, clock):
        loader = Loader()
        callers = [asyncio.create_task(cache.get_or_set("k", loader)) for _ in range(5)]
        await settle()
        for number in leaving:
            callers[number].cancel()
        await settle()
        loader.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, asyncio.CancelledError) if number in leaving else result == "loaded"
        assert loader.calls == 1

    run(scenario)


def test_the_load_is_cancelled_when_the_last_caller_leaves_and_the_next_starts_anew():
    async def scenario(cache, clock):
        loader = Loader()
        callers = [asyncio.create_task(cache.get_or_set("k", loader)) for _ in range(3)]
        await settle()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await settle()
        assert loader.cancelled == 1
        assert await cache.get_or_set("k", lambda: "new") == "new"

    run(scenario)


def test_callers_who_leave_before_the_far_tiers_answered_start_no_load():
    async def scenario(cache, clock):
        tier(cache, "shelf").gate.clear()
        loader = Loader()
        caller = asyncio.create_task(cache.get_or_set("k", loader))
        await settle()
        caller.cancel()
        await settle()
        tier(cache, "shelf").gate.set()
        await settle()
        assert loader.calls == 0

    run(scenario)


def test_an_error_reaches_every_caller_and_is_not_cached():
    async def scenario(cache, clock):
        loader = Loader(KeyError("source"))
        callers = [asyncio.create_task(cache.get_or_set("k", loader)) for _ in range(3)]
        await settle()
        loader.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(result) for result in results] == [KeyError] * 3
        assert await cache.get_or_set("k", lambda: 1) == 1
        assert cache.stats().routes["all"].load_errors == 1

    run(scenario)


@pytest.mark.parametrize("change", ["set", "delete", "clear"])
def test_what_changes_during_a_load_wins_over_the_load(change):
    async def scenario(cache, clock):
        loader = Loader("old")
        caller = asyncio.create_task(cache.get_or_set("k", loader))
        await settle()
        if change == "set":
            await cache.set("k", "new")
        elif change == "delete":
            await cache.delete("k")
        else:
            await cache.clear()
        loader.gate.set()
        assert await caller == "old"
        await settle()
        expected = "new" if change == "set" else None
        assert await cache.get("k") == expected
        assert cache.peek("k") == expected
        for name in ("shelf", "cellar"):
            assert tier(cache, name).living() == ({"tiercache:k"} if change == "set" else set())

    run(scenario)


@pytest.mark.parametrize("change", ["set", "delete", "clear"])
def test_what_changes_during_a_far_read_wins_over_what_was_read(change):
    async def scenario(cache, clock):
        await cache.set("k", "old")
        cache._empty()
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        reader = asyncio.create_task(cache.get("k"))
        await settle()
        changer = asyncio.create_task(
            {"set": lambda: cache.set("k", "new"), "delete": lambda: cache.delete("k"), "clear": cache.clear}[
                change
            ]()
        )
        await settle()
        shelf.gate.set()
        # A tier that is being cleared answers nothing any more.
        assert await reader == "old" or change == "clear"
        await changer
        assert cache.peek("k") == ("new" if change == "set" else None)
        assert await cache.get("k") == ("new" if change == "set" else None)

    run(scenario)


def test_a_delete_between_two_reads_of_the_same_key_is_seen_by_the_second():
    async def scenario(cache, clock):
        await cache.set("k", "old")
        cache._empty()
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        first = asyncio.create_task(cache.get("k"))
        await settle()
        deleting = asyncio.create_task(cache.delete("k"))
        await settle()
        shelf.gate.set()
        await deleting
        assert await cache.get("k", "gone") == "gone"
        await first

    run(scenario)


def test_a_delete_whose_caller_leaves_goes_on_and_is_held_to():
    async def scenario(cache, clock):
        await cache.set("k", "old")
        cellar = tier(cache, "cellar")
        cellar.gate.clear()
        deleting = asyncio.create_task(cache.delete("k"))
        await settle()
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)
        assert deleting.cancelled()
        # What is read of it meanwhile is stored nowhere.
        assert "k" in cache._house.closing
        cellar.gate.set()
        await settle()
        assert "k" not in cache._house.closing
        assert cellar.living() == set()
        assert await cache.get("k", "gone") == "gone"

    run(scenario)


def test_a_read_only_probe_never_waits_for_a_load():
    async def scenario(cache, clock):
        loader = Loader()
        caller = asyncio.create_task(cache.get_or_set("k", loader))
        await settle()
        assert await asyncio.wait_for(cache.get("k", "absent"), 1) == "absent"
        loader.gate.set()
        await caller

    run(scenario)


def test_none_is_loaded_once_and_is_a_hit():
    async def scenario(cache, clock):
        calls = []
        for _ in range(3):
            assert await cache.get_or_set("k", lambda: calls.append(1)) is None
        cache._empty()
        assert await cache.get("k", "miss") is None
        assert len(calls) == 1

    run(scenario)


def test_callers_of_a_load_have_the_value_before_the_far_tiers_do():
    async def scenario(cache, clock):
        loader = Loader()
        caller = asyncio.create_task(cache.get_or_set("k", loader))
        await settle()
        tier(cache, "shelf").gate.clear()
        loader.gate.set()
        assert await asyncio.wait_for(caller, 1) == "loaded"
        tier(cache, "shelf").gate.set()

    run(scenario)


def test_a_caller_of_set_waits_for_the_far_tiers():
    async def scenario(cache, clock):
        tier(cache, "cellar").gate.clear()
        setter = asyncio.create_task(cache.set("k", 1))
        await settle()
        assert not setter.done()
        tier(cache, "cellar").gate.set()
        await setter

    run(scenario)


def test_without_a_near_tier_one_load_serves_all_who_come_while_its_writes_are_under_way():
    async def main():
        async with opened(document(far={"tiers": ["shelf"]}), clock=FakeClock()) as cache:
            loader = Loader()
            first = asyncio.create_task(cache.get_or_set("k", loader))
            await settle()
            tier(cache, "shelf").gate.clear()
            loader.gate.set()
            assert await asyncio.wait_for(first, 1) == "loaded"
            assert await asyncio.wait_for(cache.get_or_set("k", loader), 1) == "loaded"
            assert await asyncio.wait_for(cache.get("k"), 1) == "loaded"
            tier(cache, "shelf").gate.set()
            assert loader.calls == 1

    asyncio.run(main())


def test_a_loader_that_asks_for_its_own_key_is_told():
    async def scenario(cache, clock):
        async def loader():
            return await cache.get_or_set("k", loader)

        with pytest.raises(LoadCycle, match="'k'"):
            await cache.get_or_set("k", loader)

        async def outer():
            return await cache.get_or_set("b", inner)

        async def inner():
            return await cache.get_or_set("a", outer)

        with pytest.raises(LoadCycle, match="'a' → 'b' → 'a'"):
            await cache.get_or_set("a", outer)

    run(scenario)


def test_a_loader_may_ask_for_other_keys():
    async def scenario(cache, clock):
        async def outer():
            return 1 + await cache.get_or_set("inner", lambda: 1)

        assert await cache.get_or_set("outer", outer) == 2

    run(scenario)


def test_a_load_that_is_cancelled_from_inside_is_no_cancellation_of_its_callers():
    async def scenario(cache, clock):
        async def loader():
            raise asyncio.CancelledError

        with pytest.raises(LoadCancelled, match="'k'"):
            await cache.get_or_set("k", loader)
        assert await cache.get_or_set("k", lambda: 1) == 1

    run(scenario)


def test_stop_iteration_of_a_loader_arrives_as_an_error():
    async def scenario(cache, clock):
        def loader():
            return next(iter(()))

        with pytest.raises((LoadError, RuntimeError)):
            await asyncio.wait_for(cache.get_or_set("k", loader), 1)

    run(scenario)


def test_a_loaded_value_that_no_tier_could_give_back_reaches_the_caller_as_an_error():
    async def scenario(cache, clock):
        with pytest.raises(Unserializable):
            await cache.get_or_set("k", lambda: object())
        assert cache.peek("k", "nothing") == "nothing"

    run(scenario)


def test_the_loader_sees_the_context_of_the_caller_who_came_first():
    async def scenario(cache, clock):
        import contextvars

        who = contextvars.ContextVar("who")
        who.set("first")
        assert await cache.get_or_set("k", who.get) == "first"

    run(scenario)


def test_the_stamp_of_a_loaded_entry_is_when_its_load_began():
    async def scenario(cache, clock):
        loader = Loader()
        caller = asyncio.create_task(cache.get_or_set("k", loader))
        await settle()
        began = int(clock() * 1_000_000)
        clock.advance(5)
        loader.gate.set()
        await caller
        entry = cache._house.nears["memory"].get("k")
        assert began <= entry.created_at < began + 1000

    run(scenario)
