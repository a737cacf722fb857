"""Whatever the application does to its loop's tasks, the engine's own begin and end as it relies on."""

import asyncio
import contextvars

import pytest

from gated import document, opened, tier
from tiercache.engine.tasks import begin, settle, wake
from tiercache.testing import FakeClock


def test_a_task_begins_in_the_next_turn_in_the_context_that_it_is_given():
    spoken = contextvars.ContextVar("spoken", default="nothing")
    heard = []

    async def main():
        async def listen():
            heard.append((spoken.get(), asyncio.current_task().get_name()))

        context = contextvars.copy_context()
        context.run(spoken.set, "a word")
        task = begin(listen(), "tiercache-listen", context=context)
        assert heard == []
        await task

    asyncio.run(main())
    assert heard == [("a word", "tiercache-listen")]


def refusing(loop, coro, **options):
    """Stand in for any factory of the application's."""
    coro.close()
    raise AssertionError("the engine asked the application's factory")


FACTORIES = [refusing, *([asyncio.eager_task_factory] if hasattr(asyncio, "eager_task_factory") else [])]


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_task_factory_of_the_application_has_no_part_in_what_the_engine_does(factory):
    async def main():
        async with opened(
            document(all={"tiers": ["memory", "shelf"], "ttl": 60}), clock=FakeClock()
        ) as cache:
            plain = asyncio.get_running_loop().get_task_factory()
            asyncio.get_running_loop().set_task_factory(factory)
            try:
                await cache.set("a", 1)
                cache._empty()
                shelf = tier(cache, "shelf")
                shelf.calls.clear()
                reads = [asyncio.Task(cache.get(key)) for key in "ab"]
                assert await asyncio.wait_for(reads[0], 10) == 1
                assert await asyncio.wait_for(reads[1], 10) is None
                assert [what for what, _ in shelf.calls] == ["read"], (
                    "what is asked for at once goes together"
                )
                assert await cache.get_or_set("c", lambda: 3) == 3
                await cache.delete("a")
                assert await cache.get_many(["a", "c"]) == {"c": 3}
            finally:
                asyncio.get_running_loop().set_task_factory(plain)

    asyncio.run(main())


def waiting(count, then):
    """Return so many futures, and a task for each that waits for it and tells *then* what it got."""

    async def one(number, future):
        then.append((number, await future))

    futures = [asyncio.get_running_loop().create_future() for _ in range(count)]
    return futures, [asyncio.create_task(one(number, future)) for number, future in enumerate(futures)]


def test_who_is_woken_by_the_loop_goes_on_at_once_and_who_is_woken_by_a_task_in_the_next_turn():
    async def main():
        heard, woken = [], []
        futures, tasks = waiting(3, heard)
        await asyncio.sleep(0)

        def landed():
            settle(futures, "here", woken)
            assert heard == []
            wake(woken)
            assert heard == [(0, "here"), (1, "here"), (2, "here")]

        asyncio.get_running_loop().call_soon(landed)
        await asyncio.gather(*tasks)

        heard.clear()
        woken = []
        futures, tasks = waiting(3, heard)
        await asyncio.sleep(0)
        settle(futures, "there", woken)
        wake(woken)
        assert heard == []
        await asyncio.sleep(0)
        assert heard == [(0, "there"), (1, "there"), (2, "there")]
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_each_goes_on_in_its_own_context():
    spoken = contextvars.ContextVar("spoken")

    async def main():
        woken, heard = [], []
        future = asyncio.get_running_loop().create_future()

        async def one():
            spoken.set("mine")
            await future
            heard.append(spoken.get())

        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        settle([future], None, woken)
        asyncio.get_running_loop().call_soon(wake, woken)
        await task
        assert heard == ["mine"]

    asyncio.run(main())


def test_who_has_left_is_not_woken_and_who_leaves_meanwhile_is_cancelled():
    async def main():
        heard, woken = [], []
        futures, tasks = waiting(3, heard)
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        settle(futures, "here", woken)
        tasks[1].cancel()
        wake(woken)
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True, False]
        assert heard == [(2, "here")]

    asyncio.run(main())


def test_a_future_that_nobody_waits_for_yet_has_its_result_and_several_who_wait_for_one_all_hear():
    async def main():
        woken = []
        early = asyncio.get_running_loop().create_future()
        settle([early], 1, woken)
        assert woken == []
        assert await early == 1
        shared = asyncio.get_running_loop().create_future()

        async def wait():
            return await asyncio.shield(shared)

        tasks = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        settle([shared], 2, woken)
        wake(woken)
        assert await asyncio.gather(*tasks) == [2, 2, 2]

    asyncio.run(main())


def test_one_that_leaves_the_program_keeps_nobody_from_waking():
    heard, left = [], []

    async def main():
        async def leave(future):
            await future
            raise SystemExit(3)

        woken = []
        futures, _ = waiting(3, heard)
        first = asyncio.get_running_loop().create_future()
        leaving = asyncio.ensure_future(leave(first))
        left.append(leaving)
        await asyncio.sleep(0)
        settle((first, *futures), "here", woken)
        asyncio.get_running_loop().call_soon(wake, woken)
        await asyncio.wait([leaving])

    with asyncio.Runner() as runner:
        with pytest.raises(SystemExit):
            runner.run(main())
        runner.run(asyncio.sleep(0))
        assert isinstance(left[0].exception(), SystemExit)
    assert heard == [(0, "here"), (1, "here"), (2, "here")]
