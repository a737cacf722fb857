"""Reads without a task bring what others bring; whatever goes wrong with them goes the way of all others."""

import asyncio
import time
from typing import Literal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gated import Able, document, opened, tier
from tiercache import FarTierConfig, hookimpl
from tiercache.engine.guard import REOPEN_AFTER
from tiercache.testing import FakeClock

DEADLINE = 0.05


class Prompted(Able):
    """Answers `read_soon` by *manner*; `prompt` tells what was asked that way."""

    def __init__(self, clock):
        super().__init__(clock)
        self.prompt = []
        self.held = []
        self.manner = "answer"

    def read_soon(self, keys, answered):
        if self.manner == "refuse":
            return False
        if self.manner == "raise":
            raise RuntimeError("a bug")
        self.prompt.append(list(keys))
        frames = [self.standing(key) for key in keys]
        if self.manner == "fail":
            frames = None
        elif self.manner == "short":
            frames = frames[:-1]
        elif self.manner == "odd":
            frames = ["text" for _ in frames]
        if self.manner == "hold":
            self.held.append((answered, frames))
        else:
            asyncio.get_running_loop().call_soon(answered, frames)
        return True

    def release(self, *, lost=False):
        held, self.held = self.held, []
        for answered, frames in held:
            asyncio.get_running_loop().call_soon(answered, None if lost else frames)


class PromptedConfig(FarTierConfig):
    """A far tier that answers without a coroutine."""

    type: Literal["prompted"] = "prompted"

    def build(self, context):
        return Prompted(context.clock)


@hookimpl
def tiercache_tiers():
    return [PromptedConfig]


def prompted(*tiers, **cache):
    wanted = document(all={"tiers": list(tiers or ("shelf",))})
    wanted["tier"]["shelf"] = {"type": "prompted", "deadline": f"{int(DEADLINE * 1000)}ms"}
    return opened(wanted | cache, clock=FakeClock(), plugins=[__name__])


def run(scenario, *tiers):
    async def main():
        async with prompted(*tiers) as cache:
            for number in range(100):
                await cache.set(f"k{number}", number)
            shelf = tier(cache, "shelf")
            shelf.calls.clear()
            for near in cache._house.nears.values():
                for key in list(near.keys()):
                    near.remove(key)
            return await scenario(cache, shelf)

    return asyncio.run(main())


@pytest.mark.parametrize("tiers", [("shelf",), ("memory", "shelf"), ("shelf", "cellar")])
def test_one_read_after_the_other_takes_no_task_and_is_counted_as_any(tiers):
    async def scenario(cache, shelf):
        calls = cache.stats().tiers["shelf"].calls
        assert [await cache.get(f"k{number}") for number in range(10)] == [*range(10)]
        assert await cache.get("none", "miss") == "miss"
        assert shelf.prompt == [*([f"tiercache:k{number}"] for number in range(10)), ["tiercache:none"]]
        assert shelf.calls == []
        stats = cache.stats()
        assert stats.tiers["shelf"].calls - calls == 11
        assert (stats.tiers["shelf"].hits, stats.misses) == (10, 1)
        assert stats.tiers["shelf"].seconds > 0

    run(scenario, *tiers)


def test_what_comes_in_one_turn_goes_out_together_but_for_the_first_after_a_lone_one():
    async def scenario(cache, shelf):
        assert await cache.get("k0") == 0
        shelf.prompt.clear()
        for _ in range(2):
            assert await asyncio.gather(*(cache.get(f"k{n}") for n in range(50))) == [*range(50)]
        assert [len(keys) for keys in shelf.prompt] == [1, 49, 50]
        assert shelf.calls == []

    run(scenario)


def test_get_many_is_one_call_whatever_went_before():
    async def scenario(cache, shelf):
        assert await cache.get("k0") == 0
        shelf.prompt.clear()
        assert len(await cache.get_many([f"k{n}" for n in range(100)])) == 100
        assert [len(keys) for keys in shelf.prompt] == [100]

    run(scenario)


def test_no_call_carries_more_keys_than_the_limit_and_none_is_lost():
    async def scenario(cache, shelf):
        found = await asyncio.gather(*(cache.get(f"k{n}", "miss") for n in range(1200)))
        assert found == [*range(100), *["miss"] * 1100]
        sizes = [len(keys) for keys in shelf.prompt]
        assert sum(sizes) == 1200
        assert max(sizes) == 512

    run(scenario)


@pytest.mark.parametrize("manner", ["refuse", "raise", "fail", "short", "odd"])
def test_what_it_can_not_answer_is_asked_for_the_other_way(manner):
    async def scenario(cache, shelf):
        shelf.manner = manner
        assert await cache.get("k1") == 1
        assert await asyncio.gather(*(cache.get(f"k{n}") for n in range(50))) == [*range(50)]
        assert len([what for what, keys in shelf.calls if what == "read"]) >= 2
        assert cache.stats().tiers["shelf"].errors == 0
        shelf.manner = "answer"
        shelf.calls.clear()
        assert await cache.get("k2") == 2
        assert shelf.calls == []

    run(scenario)


def test_a_failure_is_counted_once_and_what_follows_it_goes_the_guarded_way_until_all_is_well():
    async def scenario(cache, shelf):
        shelf.manner, shelf.error = "fail", OSError("gone")
        assert await cache.get("k1", "miss") == "miss"
        assert cache.stats().tiers["shelf"].errors == 1
        assert not cache.stats().tiers["shelf"].available
        shelf.prompt.clear()
        assert await cache.get("k1", "miss") == "miss"
        assert shelf.prompt == []
        shelf.manner, shelf.error = "answer", None
        assert await cache.get("k1") == 1
        assert cache.stats().tiers["shelf"].available
        assert shelf.prompt == []
        await cache._house.fars["shelf"].reads.idle()
        assert await cache.get("k1") == 1
        assert len(shelf.prompt) == 1

    run(scenario)


def test_who_asks_again_while_it_fails_is_answered_with_the_others():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        first = asyncio.create_task(cache.get("k1"))
        await asyncio.sleep(0)
        # The flight is over for who comes now, and its address is still under way.
        cache._house.routes["all"].detach("k1")
        again = asyncio.create_task(cache.get("k1"))
        await asyncio.sleep(0)
        shelf.release(lost=True)
        assert await asyncio.gather(first, again) == [1, 1]

    run(scenario)


def test_one_that_hangs_is_a_miss_at_its_deadline_for_all_who_wait_and_its_late_answer_is_nobodys():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        began = time.monotonic()
        first = asyncio.create_task(cache.get("k1", "miss"))
        await asyncio.sleep(DEADLINE / 2)
        behind = asyncio.create_task(cache.get("k2", "miss"))
        assert await asyncio.gather(first, behind) == ["miss", "miss"]
        assert DEADLINE * 0.9 <= time.monotonic() - began < 20 * DEADLINE
        stats = cache.stats().tiers["shelf"]
        assert (stats.timeouts, stats.errors, stats.available) == (1, 1, False)
        assert "no answer within" in cache._house.fars["shelf"].guard.last_error
        shelf.release()
        shelf.manner = "answer"
        await asyncio.sleep(0)
        assert await cache.get("k1") == 1
        assert cache.stats().tiers["shelf"].available

    run(scenario)


def test_a_second_answer_is_nobodys_whoever_waits_by_then():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        first = asyncio.create_task(cache.get("k1"))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.get("k2"))
        await asyncio.sleep(0)
        ((answered, frames),) = shelf.held
        shelf.release()
        assert await first == 1
        # The second is on its way.
        assert len(shelf.held) == 1
        asyncio.get_running_loop().call_soon(answered, frames)
        await asyncio.sleep(0.01)
        assert not second.done()
        shelf.release()
        assert await second == 2
        assert cache.stats().tiers["shelf"].corrupt == 0

    run(scenario)


def test_one_answer_ends_its_deadline():
    async def scenario(cache, shelf):
        for _ in range(3):
            assert await cache.get("k1") == 1
            await asyncio.sleep(DEADLINE)
        await asyncio.sleep(2 * DEADLINE)
        assert cache.stats().tiers["shelf"].timeouts == 0

    run(scenario)


def test_closing_ends_what_is_under_way_as_a_miss():
    async def main():
        cache = await prompted().start()
        shelf = tier(cache, "shelf")
        shelf.manner = "hold"
        reading = asyncio.create_task(cache.get("k1", "miss"))
        await asyncio.sleep(0)
        await cache.close()
        assert await asyncio.wait_for(reading, 5) == "miss"
        shelf.release()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_to_be_idle_is_waited_for():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        reading = asyncio.create_task(cache.get("k1"))
        await asyncio.sleep(0)
        idle = asyncio.create_task(cache._house.fars["shelf"].idle())
        await asyncio.sleep(0.01)
        assert not idle.done()
        shelf.manner = "answer"
        shelf.release()
        await asyncio.wait_for(idle, 5)
        assert await reading == 1

    run(scenario)


def test_who_leaves_takes_nobody_along():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        one, two = (asyncio.create_task(cache.get("k1")) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        shelf.manner = "answer"
        shelf.release()
        assert await two == 1
        assert one.cancelled()

    run(scenario)


def test_what_was_written_meanwhile_and_has_not_arrived_hides_what_is_read():
    async def scenario(cache, shelf):
        shelf.manner = "hold"
        reading = asyncio.create_task(cache.get("k1", "miss"))
        await asyncio.sleep(0)
        shelf.error = OSError("gone")
        await cache.set("k1", "new")
        shelf.error = None
        shelf.manner = "answer"
        shelf.release()
        assert await reading == "miss"
        shelf.clock.wall.advance(REOPEN_AFTER)
        await cache._house.fars["shelf"].idle()
        assert await cache.get("k1") == "new"

    run(scenario)


def test_where_somebody_follows_the_calls_each_is_one_that_can_be_followed(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    async def main():
        async with prompted(telemetry={"traces": True}) as cache:
            await cache.set("k1", 1)
            assert await cache.get("k1") == 1
            assert tier(cache, "shelf").prompt == []

    asyncio.run(main())
    provider.shutdown()
    names = [span.name for span in exporter.get_finished_spans()]
    assert names.count("tiercache.read") == 1
