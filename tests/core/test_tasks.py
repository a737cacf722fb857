"""Whatever the application does to its loop's tasks, the engine's own begin and end as it relies on."""

import asyncio
import contextvars

import pytest

from gated import document, opened, tier
from tiercache.engine.tasks import begin
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
