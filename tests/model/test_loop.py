"""The loop of the schedules keeps what asyncio's own primitives rest on, in every order."""

from __future__ import annotations

import asyncio
import random

import pytest

from model.schedules.loop import Loop, Stuck

ORDERS = ("queue", "round", "any")


def run(scenario, order="any", seed=0):
    loop = Loop(random.Random(seed), order)
    try:
        return loop.run_until_complete(scenario(loop))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert loop.lost == []


@pytest.fixture(params=[(order, seed) for order in ORDERS for seed in range(20)], ids=str)
def drawn(request):
    return request.param


def test_time_jumps_to_the_next_timer_and_never_goes_back(drawn):
    async def scenario(loop):
        woken = []

        async def sleeper(seconds):
            began = loop.time()
            await asyncio.sleep(seconds)
            woken.append(seconds)
            assert seconds <= loop.time() - began < seconds + 0.01

        await asyncio.gather(*map(sleeper, (3600, 1, 0, 60, 0.5)))
        assert woken == [0, 0.5, 1, 60, 3600]
        assert loop.time() >= 3600

    run(scenario, *drawn)


def test_locks_exclude_and_queues_keep_their_order(drawn):
    async def scenario(loop):
        lock, queue = asyncio.Lock(), asyncio.Queue(2)
        inside = most = 0
        taken = []

        async def enter():
            nonlocal inside, most
            async with lock:
                inside += 1
                most = max(inside, most)
                await asyncio.sleep(loop.chance.random())
                inside -= 1

        async def put():
            for item in range(20):
                await queue.put(item)

        async def take():
            for _ in range(20):
                taken.append(await queue.get())

        async with asyncio.TaskGroup() as group:
            for coroutine in (*(enter() for _ in range(9)), put(), take()):
                group.create_task(coroutine)
        assert (most, taken) == (1, list(range(20)))

    run(scenario, *drawn)


def test_timeouts_groups_shields_and_waits_do_what_they_say(drawn):
    async def scenario(loop):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        assert await asyncio.wait_for(asyncio.sleep(1, "early"), 2) == "early"

        async def fail():
            await asyncio.sleep(1)
            raise LookupError

        siblings = []
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                siblings = [group.create_task(asyncio.sleep(9)) for _ in range(3)]
                group.create_task(fail())
        assert all(task.cancelled() for task in siblings)

        inner = asyncio.create_task(asyncio.sleep(3, "whole"))
        outer = asyncio.create_task(asyncio.wait([asyncio.shield(inner)]))
        await asyncio.sleep(1)
        outer.cancel()
        assert await inner == "whole"
        tasks = [asyncio.create_task(asyncio.sleep(seconds)) for seconds in (1, 2, 3)]
        done, pending = await asyncio.wait(tasks, timeout=2.5)
        assert (len(done), len(pending)) == (2, 1)
        await asyncio.gather(*tasks)

    run(scenario, *drawn)


def test_callbacks_of_one_future_run_in_their_order(drawn):
    async def scenario(loop):
        future, seen = loop.create_future(), []
        for number in range(9):
            future.add_done_callback(lambda _, number=number: seen.append(number))
        future.set_result(None)
        await asyncio.sleep(1)
        assert seen == list(range(9))

    run(scenario, *drawn)


def order_of(order, seed):
    async def scenario(loop):
        seen = []
        await asyncio.gather(*(noted(number, seen) for number in range(12)))
        return seen

    async def noted(number, seen):
        await asyncio.sleep(0)
        seen.append(number)

    return run(scenario, order, seed)


def test_one_seed_is_one_order_and_many_seeds_are_many():
    assert order_of("queue", 1) == sorted(order_of("any", 1)) == list(range(12))
    for order in ("round", "any"):
        assert order_of(order, 5) == order_of(order, 5)
        assert len({tuple(order_of(order, seed)) for seed in range(50)}) > 45


def test_waiting_for_what_nobody_brings_is_told_and_not_endless():
    loop = Loop(random.Random(0))
    try:
        with pytest.raises(Stuck):
            loop.run_until_complete(asyncio.wait_for(loop.create_future(), None))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_what_is_lost_is_collected():
    async def scenario(loop):
        asyncio.get_running_loop().create_future().set_exception(LookupError())

    loop = Loop(random.Random(0))
    loop.run_until_complete(scenario(loop))
    loop.close()
    assert [str(context["message"]) for context in loop.lost] == ["Future exception was never retrieved"]
