"""Many callers of one cold key, in one process."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from promises.scene import Source, play, settle
from tiercache import LoadCycle


def test_ten_thousand_callers_of_a_cold_key_make_one_load():
    """fastapi-cache #203, #419: requests that arrive together all call the source."""

    async def scenario(here):
        source = Source("v", held=True)
        callers = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(10_000)]
        await settle()
        leaving = set(range(0, 10_000, 3)) - {0} | {1}
        for number in leaving:
            callers[number].cancel()
        await settle()
        source.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, asyncio.CancelledError) if number in leaving else result == "v"
        assert source.calls == 1
        assert source.cancelled == 0
        assert here.route().loads == 1

    play(scenario)


@settings(max_examples=25, deadline=None, database=None, phases=[Phase.generate])
@given(
    before=st.sets(st.integers(0, 19), max_size=19),
    during=st.sets(st.integers(0, 19), max_size=19),
    tiers=st.sampled_from([("memory",), ("memory", "shelf", "cellar"), ("shelf",)]),
)
def test_any_subset_of_callers_may_be_cancelled_and_the_rest_are_unharmed(before, during, tiers):
    """cashews 7.6.0: of five callers one is cancelled, and all five get CancelledError."""

    async def scenario(here):
        source = Source("v", held=True)
        held = here.hold("shelf") if "shelf" in tiers else None
        callers = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(20)]
        await settle()
        for number in before:
            callers[number].cancel()
        await settle()
        if held is not None:
            held.set()
            await settle()
        for number in during:
            callers[number].cancel()
        await settle()
        source.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        staying = set(range(20)) - before - during
        for number, result in enumerate(results):
            assert result == "v" if number in staying else isinstance(result, asyncio.CancelledError)
        assert source.calls == (1 if staying else source.calls)
        assert await here.cache.get_or_set("k", Source("new")) == ("v" if staying else "new")

    play(scenario, tiers=tiers)


def test_the_last_caller_to_leave_takes_the_load_along():
    """openaivec #184: a cancelled caller left its key in flight, and nobody could load it any more."""

    async def scenario(here):
        source = Source(held=True)
        callers = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(3)]
        await settle()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await settle()
        assert source.cancelled == 1
        assert await here.cache.get_or_set("k", lambda: "anew") == "anew"

    play(scenario)


def test_nobody_joins_a_load_that_is_being_cancelled():
    """HybridCache joins by an increment from non-zero: a key in teardown starts a new load."""

    async def scenario(here):
        tidying, tidy = asyncio.Event(), asyncio.Event()

        async def reluctant():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                tidying.set()
                await tidy.wait()
                raise

        leaving = asyncio.create_task(here.cache.get_or_set("k", reluctant))
        await settle()
        leaving.cancel()
        await tidying.wait()
        newcomer = asyncio.create_task(here.cache.get_or_set("k", lambda: "anew"))
        await settle()
        tidy.set()
        assert await newcomer == "anew"

    play(scenario)


def test_asking_what_is_cached_never_finds_what_is_being_loaded():
    """HybridCache, dotnet/extensions #6202: a read-only probe joins a load, and sometimes "finds" a value."""

    async def scenario(here):
        source = Source("v", held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        assert await here.cache.get("k", "absent") == "absent"
        assert not await here.cache.exists("k")
        assert await here.cache.get_many(["k"]) == {}
        source.gate.set()
        assert await loading == "v"

    play(scenario)


def test_callers_have_the_value_before_the_far_tiers_do():
    """HybridCache hands out the value before L2 is written; a slow Redis then costs no request anything."""

    async def scenario(here):
        source = Source("v", held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        held = here.hold("shelf")
        source.gate.set()
        assert await loading == "v"
        assert here.far("shelf").rows == {}
        held.set()
        await settle()
        assert here.far("shelf").living() == {"tiercache:k"}

    play(scenario)


def test_an_error_reaches_all_who_wait_and_nobody_after_them():
    """FusionCache shares a failure and forgets it; a failure that is remembered makes one error an outage."""

    async def scenario(here):
        source = Source("v", held=True)
        source.error = OSError("source")
        callers = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(5)]
        await settle()
        source.gate.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [str(result) for result in results] == ["source"] * 5
        assert source.calls == 1
        source.error = None
        assert await here.cache.get_or_set("k", source) == "v"

    play(scenario)


def test_no_second_loader_runs_beside_the_first_however_callers_come_and_go():
    """bentocache drops a key's mutex while others wait for it: a newcomer takes a new one and loads, too."""

    async def scenario(here):
        source = Source("v", held=True)
        waves = []
        for wave in range(6):
            waves += [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(5)]
            await settle()
            waves[wave * 5 + 1].cancel()
            await settle()
        assert source.most_at_once == 1
        source.gate.set()
        await asyncio.gather(*waves, return_exceptions=True)
        assert source.calls == 1

    play(scenario)


def test_no_error_of_a_load_is_left_behind_unseen():
    """bentocache tests "should not generate an unhandled promise rejection", which asyncio has, too."""

    async def scenario(here):
        lost = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

        async def loader(keys):
            raise OSError("source")

        with pytest.raises(OSError, match="source"):
            await here.cache.get_or_set_many(["a", "b", "c"], loader)
        source = Source(held=True)
        source.error = OSError("source")
        callers = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(2)]
        await settle()
        source.gate.set()
        await asyncio.gather(*callers, return_exceptions=True)
        callers.clear()
        await settle()
        gc.collect()
        assert lost == []

    play(scenario)


def test_a_load_runs_in_a_copy_of_its_first_callers_context():
    """HybridCache runs a load apart from its callers; what it sets must not leak into them."""
    request = contextvars.ContextVar("request", default="none")

    async def scenario(here):
        seen = []

        async def loader():
            seen.append(request.get())
            request.set("changed by the loader")
            return "v"

        async def caller(name):
            request.set(name)
            await here.cache.get_or_set("k", loader)
            return request.get()

        async def reader():
            request.set("somebody who reads another key")
            await here.cache.get("other")

        held = here.hold("shelf")
        reading = asyncio.create_task(reader())
        await settle()
        callers = [asyncio.create_task(caller(name)) for name in ("first", "second")]
        await settle()
        held.set()
        assert await asyncio.gather(*callers) == ["first", "second"]
        assert seen == ["first"]
        await reading

    play(scenario)


def test_a_load_that_asks_for_its_own_key_is_an_error_and_no_deadlock():
    """With a lock for each key, as in dogpile, a factory that asks for its own key waits for itself."""

    async def scenario(here):
        async def loader():
            return await here.cache.get_or_set("k", loader)

        with pytest.raises(LoadCycle, match="'k' → 'k'"):
            await here.cache.get_or_set("k", loader)

    play(scenario)


def test_keys_that_overlap_in_bulk_loads_are_loaded_once_each():
    """FusionCache #16 and bentocache #78 ask for bulk loads; loaded by hand, overlapping ones load twice."""

    async def scenario(here):
        go_on = asyncio.Event()
        asked = []

        async def loader(keys):
            asked.extend(keys)
            await go_on.wait()
            return {key: key.upper() for key in keys}

        first = asyncio.create_task(here.cache.get_or_set_many(["a", "b", "c"], loader))
        await settle()
        second = asyncio.create_task(here.cache.get_or_set_many(["b", "c", "d"], loader))
        await settle()
        go_on.set()
        assert await first == {"a": "A", "b": "B", "c": "C"}
        assert await second == {"b": "B", "c": "C", "d": "D"}
        assert sorted(asked) == ["a", "b", "c", "d"]

    play(scenario)
