"""Sessions: kept under hashes, ended everywhere at once, changed without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack

import pytest

from servers import Server
from tiercache import Cache, TierUnavailable
from tiercache.testing import FakeClock
from tiercache_plugins.integrations import CacheIntegrationConfig, CacheIntegrationManager, SessionCache


@pytest.fixture(params=["sqlite", "redis"])
def far(request, tmp_path):
    if request.param == "sqlite":
        return {"type": "sqlite", "path": str(tmp_path / "x.db"), "deadline": "60s"}
    server: Server = request.getfixturevalue("valkey_server")
    server.ask("FLUSHALL")
    return {"type": "redis", "url": server.url, "timeout": "30s", "deadline": "60s"}


MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"session": {"tiers": ["memory"], "copy": True}}}


def document(far):
    return {
        # Without a bus nothing but the question itself tells of what others do.
        "cache": {"namespace": "sessions", "bus": "none"},
        "tier": {"memory": {"type": "memory"}, "far": far},
        "route": {
            "session": {
                "tiers": ["memory", "far"], "ttl": "7d", "sliding": "10m", "coherent": True, "copy": True,
            }
        },
    }  # fmt: skip


def processes(wanted, act, clock=None):
    """Run *act* with two caches. Where a moment decides, one clock is given to both: clocks of their own,
    though set by that of the server, differ by more than a moment.
    """

    async def life():
        async with AsyncExitStack() as stack:
            caches = [await stack.enter_async_context(Cache.open(wanted, clock=clock)) for _ in range(2)]
            await act(*[SessionCache(cache) for cache in caches], *caches)

    asyncio.run(life())


def alone(scenario, **route):
    """Run *scenario* with sessions in memory, and the clock that they and the cache have."""
    wanted = {**MEMORY, "route": {"session": {**MEMORY["route"]["session"], **route}}}

    async def life():
        clock = FakeClock()
        async with Cache.open(wanted, clock=clock) as cache:
            await scenario(SessionCache(cache, max_age="1h", clock=clock), cache, clock)

    asyncio.run(life())


def test_a_session_is_set_read_changed_and_ended():
    async def scenario(sessions, cache, clock):
        await sessions.set_session("s", {"user_id": 1, "a": [1]})
        assert await sessions.update_session("s", {"b": 2}) == {"user_id": 1, "a": [1], "b": 2}
        assert await sessions.update_session("s", lambda data: {"n": data["b"] + 1}) == {"n": 3}
        held = await sessions.get_session("s")
        held["n"] = 99
        assert await sessions.get_session("s") == {"n": 3}
        assert await sessions.delete_session("s")
        assert not await sessions.delete_session("s")
        assert await sessions.get_session("s") is None
        assert await sessions.update_session("s", {"b": 2}) is None
        assert await sessions.get_session("s") is None
        counted = sessions.stats()
        assert [counted[name] for name in ("created", "found", "absent", "updated", "ended")] == [
            1,
            2,
            2,
            2,
            1,
        ]

    alone(scenario)


def test_ids_are_long_random_and_nowhere_in_the_store():
    async def scenario(sessions, cache, clock):
        ids = {await sessions.create_session({"user_id": "ann@example.org"}) for _ in range(50)}
        assert len(ids) == 50
        assert all(len(each) >= 43 for each in ids)
        keys = [key async for key in cache.keys()]
        assert len(keys) == 50
        for key in keys:
            assert not any(each in key for each in ids)
            record = str(await cache.get(key))
            assert not any(each in record for each in ids)
            # Who reads the store and sends what stands there gets nothing.
            for guess in (key, key.removeprefix("session:")):
                assert await sessions.get_session(guess) is None

    alone(scenario)


def test_a_session_ends_when_nobody_used_it_and_at_its_age_whatever_was_done():
    async def scenario(sessions, cache, clock):
        await sessions.set_session("idle", {"n": 1})
        await sessions.set_session("used", {"n": 0})
        for minute in range(11):
            clock.advance(300)
            await sessions.update_session("used", {"n": minute})
            assert await sessions.get_session("used") == {"n": minute}
            await asyncio.sleep(0)
        assert await sessions.get_session("idle") is None
        # 55 minutes by now, of an hour.
        renamed = await sessions.rotate_session("used")
        clock.advance(299)
        assert await sessions.get_session(renamed) == {"n": 10}
        clock.advance(2)
        assert await sessions.get_session(renamed) is None
        assert await sessions.update_session(renamed, {"n": 1}) is None

    alone(scenario, sliding="10m")


def test_a_new_id_takes_the_place_of_the_old_one():
    async def scenario(sessions, cache, clock):
        await sessions.set_session("old", {"user_id": 7})
        new = await sessions.rotate_session("old")
        assert await sessions.get_session("old") is None
        assert await sessions.get_session(new) == {"user_id": 7}
        assert await sessions.rotate_session("old") is None

    alone(scenario)


def test_what_one_process_ended_is_dead_in_the_other_at_once(far):
    async def act(one, other, *caches):
        for _ in range(3):
            session = await one.create_session({"user_id": 7})
            assert await other.get_session(session) == {"user_id": 7}
            assert await one.delete_session(session)
            assert await other.get_session(session) is None
            assert await other.update_session(session, {"x": 1}) is None
            assert await one.get_session(session) is None

    processes(document(far), act)


def test_logging_out_everywhere_ends_the_sessions_of_one_user_alone(far):
    clock = FakeClock()

    async def act(one, other, *caches):
        mine = [await one.create_session({"user_id": 7}), await other.create_session({"role": "x"}, user="7")]
        theirs = await one.create_session({"user_id": 8})
        rotated = await other.rotate_session(mine.pop())
        changed = await one.create_session({})
        await one.update_session(changed, {"user_id": 7})
        await other.update_session(rotated, {"role": "y"})
        mine += [rotated, changed]
        for session in (*mine, theirs):
            assert await one.get_session(session) is not None
            assert await other.get_session(session) is not None
        clock.advance(1)
        await one.logout_everywhere(7)
        clock.advance(1)
        for sessions in (other, one):
            assert [await sessions.get_session(session) for session in mine] == [None] * 3
            assert await sessions.update_session(mine[0], {"x": 1}) is None
            assert await sessions.get_session(theirs) == {"user_id": 8}
        again = await other.create_session({"user_id": 7})
        assert await one.get_session(again) == {"user_id": 7}

    processes(document(far), act, clock)


def test_of_fifty_changes_at_once_in_two_processes_none_is_lost(far):
    async def act(one, other, *caches):
        await one.set_session("s", {"n": 0})

        def raised(data):
            return {**data, "n": data["n"] + 1}

        await asyncio.gather(*[
            (one, other)[at % 2].update_session("s", raised if at % 4 < 2 else {f"k{at}": at})
            for at in range(50)
        ])  # fmt: skip
        wanted = {f"k{at}": at for at in range(50) if at % 4 >= 2} | {"n": 26}
        assert await one.get_session("s") == wanted
        assert await other.get_session("s") == wanted

    processes(document(far), act)


@pytest.mark.parametrize("how", ["delete", "everywhere", "set"])
def test_what_ends_a_session_while_it_is_changed_is_not_undone(far, how):
    clock = FakeClock()

    async def act(one, other, *caches):
        await one.set_session("s", {"user_id": 7})
        ending = []

        async def end():
            clock.advance(1)
            if how == "delete":
                ending.append(await gone(one, other.delete_session("s"), read))
            elif how == "everywhere":
                await other.logout_everywhere(7)
            else:
                await other.set_session("s", {"user_id": 9})

        calls = 0

        def merged(data):
            nonlocal calls
            calls += 1
            return {**data, "x": 1}

        read = one._read

        async def slow(cache, key):
            """Read, and before anything is made of it the other process ends the session."""
            record = await read(cache, key)
            if calls == 0:
                one._read = read
                await end()
            return record

        one._read = slow
        result = await one.update_session("s", merged)
        await asyncio.gather(*ending)
        wanted = {"user_id": 9, "x": 1} if how == "set" else None
        assert result == wanted
        assert await one.get_session("s") == wanted
        assert await other.get_session("s") == wanted

    processes(document(far), act, clock)


@pytest.mark.parametrize("end", ["delete_session", "end_session"])
@pytest.mark.parametrize(("grace", "seen"), [(None, True), ("1m", True), ("1m", False)])
def test_who_ends_a_session_that_is_given_a_new_id_ends_that_too(far, end, grace, seen):
    clock = FakeClock()

    async def act(one, other, *caches):
        await one.set_session("s", {"user_id": 7})
        read, reads, ending = one._read, 0, []

        async def slow(cache, key):
            """Read, and before anything is made of the first or second look the other process ends it."""
            nonlocal reads
            record = await read(cache, key)
            reads += 1
            if reads == (1 if seen else 2):
                clock.advance(1)
                ending.append(await gone(one, getattr(other, end)("s"), read))
            return record

        one._read = slow
        new = await one.rotate_session("s", grace=grace)
        assert (new is None) is seen
        assert await ending[0]
        for sessions in (one, other):
            assert await sessions.get_session("s") is None
            assert new is None or await sessions.get_session(new) is None

    processes(document(far), act, clock)


async def gone(sessions, ending, read=None):
    """Begin to end the session "s", and return once it is gone, which is before all is done."""
    task = asyncio.create_task(ending)
    async with asyncio.timeout(20):
        while await (read or sessions._read)(sessions._source, sessions._key("s")) is not None:
            await asyncio.sleep(0.001)
    return task


def test_a_session_is_ended_without_its_turn_where_none_can_be_had(monkeypatch):
    @contextlib.asynccontextmanager
    async def turn(*_):
        raise TierUnavailable("away")
        yield

    monkeypatch.setattr("tiercache_plugins.integrations.sessions.sessions.turn", turn)

    async def scenario(sessions, cache, clock):
        for name in ("s", "t"):
            await sessions.set_session(name, {"n": 0})
        assert await sessions.delete_session("s")
        assert sessions.stats()["away"] == 1
        with pytest.raises(TierUnavailable):
            await sessions.end_session("t")
        assert await sessions.get_session("s") is await sessions.get_session("t") is None
        assert sessions.stats()["ended"] == 2

    alone(scenario)


def test_logging_out_while_an_id_is_changed_ends_both(far):
    clock = FakeClock()

    async def act(one, other, *caches):
        await one.set_session("s", {"user_id": 7})
        store = one._store_new

        async def late(session_id, record):
            clock.advance(1)
            await other.logout_everywhere(7)
            await store(session_id, record)

        one._store_new = late
        assert await one.rotate_session("s") is None
        keys = [key async for key in caches[0].keys()]
        assert keys == []

    processes(document(far), act, clock)


def test_who_is_cancelled_leaves_no_turn_behind(far):
    async def act(one, other, cache, *_):
        await one.set_session("s", {"n": 0})
        for steps in range(40):
            changing = asyncio.create_task(one.update_session("s", {"n": steps}))
            for _ in range(steps):
                await asyncio.sleep(0.0001 if steps % 2 else 0)
            changing.cancel()
            await asyncio.wait([changing])
            # Far sooner than a turn ends by itself.
            async with cache.lock(f"{one._key('s')}:turn", wait=15, route="session"):
                pass
        assert await other.update_session("s", {"n": -1}) == {"n": -1}

    processes(document(far), act)


def test_a_change_that_outlived_its_turn_is_no_success():
    async def scenario(sessions, cache, clock):
        await sessions.set_session("s", {"n": 0})

        def slow(data):
            clock.advance(31)
            return {"n": data["n"] + 1}

        with pytest.raises(TierUnavailable, match="was lost"):
            await sessions.update_session("s", slow)
        assert await sessions.update_session("s", {"m": 1}) is not None

    alone(scenario)


def test_without_what_all_share_there_are_no_sessions_and_changes_say_so():
    wanted = document({"type": "redis", "url": "redis://127.0.0.1:1"})

    async def act(one, other, *caches):
        await one.set_session("s", {"n": 1})
        assert await one.get_session("s") is None
        with pytest.raises(TierUnavailable):
            await one.update_session("s", {"n": 2})

    processes(wanted, act)


def test_the_manager_has_sessions_unless_it_is_told_not_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        async with CacheIntegrationManager(CacheIntegrationConfig(session_ttl=60)) as manager:
            sessions = manager.get_session_cache()
            await sessions.set_session("s", {"a": 1})
            assert await sessions.get_session("s") == {"a": 1}
            counted = manager.get_comprehensive_stats()["integrations"]["session_cache"]
            assert (counted["enabled"], counted["session_ttl"], counted["found"]) == (True, 60, 1)
        off = CacheIntegrationManager(CacheIntegrationConfig(enable_session_caching=False))
        with pytest.raises(RuntimeError, match="enable_session_caching"):
            off.get_session_cache()

    asyncio.run(main())


def test_an_id_is_text():
    with pytest.raises(TypeError, match="a session id is a str"):
        asyncio.run(SessionCache(object()).get_session(7))
