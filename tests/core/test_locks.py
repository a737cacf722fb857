"""Locks of applications: one holder at a time, among caches that share a tier as processes would."""

import asyncio
import threading
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gated import document, opened, tier
from leased import Leased, fleet
from tiercache import Cache, Clock, InvalidKey, LockError, LockTimeout, TierUnavailable, Unsupported
from tiercache.engine.guard import Guard
from tiercache.engine.locks.leases import Leases
from tiercache.engine.locks.lending import Lending
from tiercache.testing import FakeClock

NAME = "tiercache\x01job"


async def until(done, what="it"):
    """Wait until *done*."""
    for _ in range(2000):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} did not come about")


def asked(cache, what):
    """Return how often the far tier was asked *what*."""
    return sum(call == what for call, _ in tier(cache, "shelf").calls)


def near_only(clock=None):
    return opened(document(all={"tiers": ["memory"]}), clock=clock)


@pytest.mark.parametrize("near", [True, False])
def test_one_at_a_time_holds_a_lock(near):
    async def work(caches):
        inside = most = 0

        async def one(cache):
            nonlocal inside, most
            async with cache.lock("job"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(one(cache) for cache in caches for _ in range(5)))
        assert most == 1

    async def scenario():
        if near:
            async with near_only() as cache:
                await work([cache, cache])
        else:
            async with fleet(3) as caches:
                await work(caches)
                assert not tier(caches[0], "shelf").leases

    asyncio.run(scenario())


@pytest.mark.parametrize("wait", [0, "30ms"])
def test_who_waits_too_long_is_told(wait):
    async def scenario():
        async with fleet(2) as (one, two):
            async with one.lock("job") as held:
                late = two.lock("job", wait=wait)
                with pytest.raises(LockTimeout, match="'job' was not free"):
                    await late.acquire()
                assert isinstance(LockTimeout(), TimeoutError)
                assert not late.held
                assert late.fence == 0
                assert held.held
                assert await late.release() is False, "harmless"
                assert held.held
                assert tier(one, "shelf").holder(NAME) == held.token
            async with late:
                assert late.held
            assert not late.held

    asyncio.run(scenario())


def test_waiting_holds_no_call_to_the_tier():
    async def scenario():
        async with fleet(2) as (one, two):
            async with one.lock("job"):
                waiting = [asyncio.create_task(two.lock("job").acquire()) for _ in range(50)]
                await until(lambda: asked(two, "acquire") > 1)
                calls = [keys for call, keys in tier(two, "shelf").calls if call == "acquire"]
                assert len(calls[0]) == 50, "those who ask at once ask together"
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_a_task_that_waits_for_itself_is_told():
    async def scenario():
        async with fleet(1) as (cache,):
            lock = cache.lock("job")
            async with lock:
                with pytest.raises(LockError, match="would wait for itself"):
                    await cache.lock("job").acquire()
                with pytest.raises(LockError, match="release it first"):
                    await asyncio.create_task(lock.acquire())
                async with cache.lock("another"):
                    pass
                other = asyncio.create_task(cache.lock("job", wait=0.02).acquire())
                with pytest.raises(LockTimeout):
                    await other
            async with cache.lock("job"):
                pass

    asyncio.run(scenario())


def test_a_holder_who_died_is_followed_and_its_lock_is_lost():
    async def scenario():
        clock = FakeClock()
        async with fleet(2, clock) as (one, two):
            dead = await one.lock("job", ttl="10s").acquire()
            assert dead.held
            clock.advance(9.9)
            assert not dead.lost
            with pytest.raises(LockTimeout):
                await two.lock("job", wait=0).acquire()
            clock.advance(0.1)
            assert dead.lost
            assert not dead.held
            # A server that lost its memory goes by the clocks.
            tier(one, "shelf").fences.clear()
            async with two.lock("job", wait=0) as next_one:
                assert next_one.fence > dead.fence
                assert await dead.release() is False
                assert next_one.held
                assert tier(two, "shelf").holder(NAME) == next_one.token, "not the holder's to release"

    asyncio.run(scenario())


@pytest.mark.parametrize("near", [True, False])
def test_a_lock_is_prolonged_while_it_is_held_and_no_longer(near):
    async def scenario(cache, prolonged):
        async with cache.lock("job", ttl=0.06) as lock:
            await until(prolonged, "the third prolonging")
            assert lock.held
        if not near:
            count = asked(cache, "prolong")
            await asyncio.sleep(0.1)
            assert asked(cache, "prolong") == count

    async def main():
        # By a clock that stands still no lease runs out, however slow this machine is.
        if not near:
            async with fleet(1, FakeClock()) as (cache,):
                await scenario(cache, lambda: asked(cache, "prolong") > 2)
            return
        async with near_only(FakeClock()) as cache:
            local = cache._lending._local.tier
            calls, prolong = [], local.prolong

            class Counting(type(local)):
                async def prolong(self, claims):
                    calls.append(claims)
                    return await prolong(claims)

            counting = Counting(cache._clock)
            counting._held = local._held
            cache._lending._local.tier = counting
            await scenario(cache, lambda: len(calls) > 2)

    asyncio.run(main())


def test_what_the_tier_says_of_a_lost_lock_is_heeded():
    async def scenario():
        async with fleet(1, FakeClock()) as (cache,):
            lock = await cache.lock("job", ttl=0.06).acquire()
            tier(cache, "shelf").leases.clear()
            await until(lambda: lock.lost)
            count = asked(cache, "prolong")
            await asyncio.sleep(0.1)
            assert asked(cache, "prolong") == count
            assert await lock.release() is False

    asyncio.run(scenario())


def test_a_tier_that_is_away_for_a_moment_costs_no_lock():
    async def scenario():
        async with fleet(1, FakeClock()) as (cache,):
            shelf = tier(cache, "shelf")
            async with cache.lock("job", ttl=0.06) as lock:
                shelf.lease_error = OSError("away")
                await until(lambda: asked(cache, "prolong") > 1)
                shelf.lease_error = None
                count = asked(cache, "prolong")
                await until(lambda: asked(cache, "prolong") > count)
                assert lock.held

    asyncio.run(scenario())


def test_without_the_tier_nothing_is_guessed():
    async def scenario():
        async with fleet(1) as (cache,):
            tier(cache, "shelf").error = OSError("away")
            with pytest.raises(TierUnavailable, match="shelf can't be reached"):
                await cache.lock("job").acquire()
        with pytest.raises(Unsupported, match="Locks"):
            async with opened(document()) as cache:
                cache.lock("job")

    asyncio.run(scenario())


def test_a_waiting_task_that_is_cancelled_leaves_nothing_behind():
    async def scenario(steps):
        async with fleet(1) as (cache,):
            waiting = asyncio.create_task(cache.lock("job").acquire())
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            results = await asyncio.gather(waiting, return_exceptions=True)
            if not isinstance(results[0], BaseException):
                await results[0].release()
            await until(lambda: not tier(cache, "shelf").leases, "the lease's end")
            await asyncio.sleep(0.01)
            assert not tier(cache, "shelf").leases

    for steps in range(12):
        asyncio.run(scenario(steps))


def test_releasing_is_done_even_where_the_task_is_cancelled():
    async def scenario():
        async with fleet(1) as (cache,):
            shelf = tier(cache, "shelf")
            lock = await cache.lock("job").acquire()
            shelf.gate.clear()
            releasing = asyncio.create_task(lock.release())
            await until(lambda: asked(cache, "release"))
            releasing.cancel()
            shelf.gate.set()
            await asyncio.gather(releasing, return_exceptions=True)
            await until(lambda: not shelf.leases)

    asyncio.run(scenario())


def test_keys_and_locks_of_one_name_have_nothing_to_do_with_each_other():
    async def scenario():
        async with fleet(1) as (cache,):
            async with cache.lock("k") as lock:
                assert await cache.get_or_set("k", lambda: 1) == 1
                await cache.set("k", 2)
                await cache.delete("k")
                await cache.clear()
                assert lock.held
                assert tier(cache, "shelf").holder("tiercache\x01k") == lock.token
                assert [key async for key in cache.keys()] == []

    asyncio.run(scenario())


def test_after_close_nothing_is_prolonged():
    async def scenario(opened_caches):
        async with opened_caches as (cache,):
            lock = await cache.lock("job", ttl=0.03).acquire()
        assert lock.lost
        count = asked(cache, "prolong")
        await asyncio.sleep(0.05)
        assert asked(cache, "prolong") == count

    asyncio.run(scenario(fleet(1, FakeClock())))


def test_what_makes_no_lock_is_refused():
    async def scenario():
        async with fleet(1) as (cache,):
            for wrong in ({"ttl": 0}, {"ttl": "never"}, {"wait": -1}, {"wait": "soon"}):
                with pytest.raises(ValueError, match=r"duration|never ends"):
                    cache.lock("job", **wrong)
            with pytest.raises(InvalidKey):
                cache.lock("a\x01b")
            with pytest.raises(ValueError, match="no route"):
                cache.lock("job", route="nowhere")
            assert repr(cache.lock("job")) == "<Lock 'job', not held>"

    asyncio.run(scenario())


# Threads


def test_threads_hold_a_lock_one_at_a_time():
    with Cache.open_sync(
        {"route": {"all": {"tiers": ["memory"]}}, "tier": {"memory": {"type": "memory"}}}
    ) as cache:
        inside, most = [], []

        def work():
            for _ in range(5):
                with cache.lock("job", wait=60) as lock:
                    inside.append(1)
                    most.append(len(inside))
                    assert lock.held
                    assert lock.fence
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 20
        lock = cache.lock("job")
        assert not lock.held
        assert lock.release() is False
        with lock:
            with pytest.raises(LockError, match="wait for itself"):
                cache.lock("job").acquire()
            with pytest.raises(LockTimeout):
                in_thread(cache.lock("job", wait=0).acquire)
        with pytest.raises(ValueError, match="never ends"):
            cache.lock("job", ttl="never").acquire()


def in_thread(act):
    """Return what *act* returns in another thread, or raise what it raises."""
    brought = []

    def run():
        try:
            brought.append((act(), None))
        except BaseException as error:
            brought.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = brought[0]
    if error is not None:
        raise error
    return result


def test_a_thread_that_is_interrupted_in_the_moment_of_the_grant_leaves_no_lock_behind():
    async def scenario():
        async with fleet(1) as (cache,):
            face, shelf = cache.sync, tier(cache, "shelf")
            ask = face._ask

            def interrupted(self, asking, turn=None):
                ask(asking, turn)
                raise KeyboardInterrupt

            def thread():
                lock = face.lock("job")
                original = type(face)._ask
                type(face)._ask = interrupted
                try:
                    with pytest.raises(KeyboardInterrupt):
                        lock.acquire()
                finally:
                    type(face)._ask = original

            await asyncio.to_thread(thread)
            assert asked(cache, "acquire") == 1
            await until(lambda: not shelf.leases)

    asyncio.run(scenario())


# Any order of events


class Exclusion(RuleBasedStateMachine):
    """Whatever happens, nobody believes to hold what another one holds, and fences rise."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.source = FakeClock()
        self.shelf = Leased(Clock(self.source))
        self.processes = [self.process() for _ in range(3)]
        self.locks = {}
        self.fence = {"x": 0, "y": 0}

    def process(self):
        """Return what makes the locks of one process."""
        clock = Clock(self.source)
        leases = Leases(self.shelf, clock, Guard("shelf", self.shelf, clock))
        route = SimpleNamespace(authority=SimpleNamespace(name="shelf", leases=leases))
        return partial(Lending("tiercache", clock).lock, route)

    @rule(who=st.integers(0, 2), name=st.sampled_from("xy"), ttl=st.sampled_from([1, 5]))
    def acquire(self, who, name, ttl):
        if self.locks.get((who, name)) is not None:
            return
        lock = self.processes[who](name, ttl, 0)
        free = not any(other.held for (_, held), other in self.locks.items() if held == name)
        assert free is not bool(self.shelf.holder(f"tiercache\x01{name}"))
        try:
            self.runner.run(lock.acquire())
        except LockTimeout:
            assert not free
            return
        assert free
        assert lock.fence > self.fence[name]
        self.fence[name] = lock.fence
        self.locks[who, name] = lock

    @rule(who=st.integers(0, 2), name=st.sampled_from("xy"))
    def release(self, who, name):
        lock = self.locks.pop((who, name), None)
        if lock is not None:
            held = lock.held
            assert self.runner.run(lock.release()) is held

    @rule(seconds=st.sampled_from([0.5, 1, 4]))
    def advance(self, seconds):
        self.source.advance(seconds)

    @rule(who=st.integers(0, 2), name=st.sampled_from("xy"))
    def prolong(self, who, name):
        lock = self.locks.get((who, name))
        if lock is not None and lock._lease is not None:

            async def prolonged():
                lock._leases._prolong(lock._lease)
                await lock._leases.idle()

            held = lock.held
            self.runner.run(prolonged())
            assert lock.held is held

    @invariant()
    def one_holder_at_most(self):
        for name in "xy":
            held = [lock for (_, of), lock in self.locks.items() if of == name and lock.held]
            assert len(held) <= 1
            for lock in held:
                assert self.shelf.holder(f"tiercache\x01{name}") == lock.token

    def teardown(self):
        self.runner.close()


Exclusion.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, database=None, print_blob=True
)
TestExclusion = Exclusion.TestCase
