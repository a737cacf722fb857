"""`reload`: what can change while a cache is open, and what is refused with the reason."""

import asyncio
import os
import signal

import pytest

from tiercache import Cache, ConfigError
from tiercache.testing import FakeClock

TOML = """
[cache]
tombstone = "60s"
[tier.memory]
type = "memory"
[tier.disk]
type = "sqlite"
path = "cache.db"
deadline = "2s"
[route.all]
tiers = ["memory", "disk"]
ttl = "100s"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(TOML)

    def write(*replacements):
        text = TOML
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)
        return path

    write.path = path
    return write


def run(file, act, clock=None):
    async def use():
        async with Cache.open(file.path, clock=clock) as cache:
            return await act(cache)

    return asyncio.run(use())


def test_a_ttl_changes_for_what_is_stored_from_now_on(file):
    clock = FakeClock()

    async def act(cache):
        await cache.set("before", 1)
        file(('ttl = "100s"', 'ttl = "10s"\nstale = "5s"'))
        changes = await cache.reload()
        await cache.set("after", 1)
        assert {change.path for change in changes} == {"route.all.ttl", "route.all.stale"}
        return await cache.ttl("before"), await cache.ttl("after"), await cache.reload()

    before, after, again = run(file, act, clock)
    assert before == pytest.approx(100, abs=0.1)
    assert after == pytest.approx(10, abs=0.1)
    assert again == ()


def test_timeouts_deadlines_and_bounds_change_live(file):
    async def act(cache):
        file(
            ('ttl = "100s"', 'ttl = "100s"\nhard_timeout = "20ms"'),
            ('deadline = "2s"', 'deadline = "7s"\nmax_ttl = "50s"'),
            ('tombstone = "60s"', 'tombstone = "90s"\nmax_markers = 50'),
        )
        await cache.reload()
        house = cache._house
        assert house.fars["disk"].guard.deadline == 7
        assert house.fars["disk"].max_ttl == 50
        assert house.tombstone == 90
        assert house.invalidation.markers.most == 50
        never = asyncio.Event()
        with pytest.raises(TimeoutError):
            await cache.get_or_set("k", never.wait)
        never.set()

    run(file, act)


def test_telemetry_is_switched_on_and_off_live(file):
    async def act(cache):
        assert cache._house.fars["disk"].guard.watch is None
        file(("[cache]", "[telemetry]\nmetrics = true\ntraces = true\n[cache]"))
        await cache.reload()
        assert cache._house.fars["disk"].guard.watch.tracing is not None
        file()
        await cache.reload()
        assert cache._house.fars["disk"].guard.watch is None
        assert cache._house.routes["all"].watch is None

    run(file, act)


@pytest.mark.parametrize(
    ("replacement", "path"),
    [
        (('tiers = ["memory", "disk"]', 'tiers = ["memory"]'), "route.all.tiers"),
        (('path = "cache.db"', 'path = "other.db"'), "tier.disk.path"),
        (("[cache]", '[cache]\nnamespace = "other"'), "cache.namespace"),
        (("[cache]", '[cache]\nlease = "3s"'), "cache.lease"),
        (('ttl = "100s"', 'ttl = "1s"\nkeys = ["a*"]'), "route.all.keys"),
        (('type = "memory"', 'type = "memory"\nmax_entries = 5'), "tier.memory.max_entries"),
    ],
)
def test_what_needs_another_cache_is_refused_with_the_reason_and_changes_nothing(file, replacement, path):
    async def act(cache):
        file(replacement)
        with pytest.raises(ConfigError, match="opened anew") as caught:
            await cache.reload()
        assert path in {problem.path for problem in caught.value.problems}
        await cache.set("k", 1)
        return await cache.ttl("k")

    assert run(file, act) == pytest.approx(100, abs=5)


def test_a_document_with_problems_changes_nothing_and_says_why(file):
    async def act(cache):
        file(('ttl = "100s"', 'ttl = "soon"'))
        with pytest.raises(ConfigError, match=r"route\.all\.ttl"):
            await cache.reload()
        file.path.write_text("[")
        with pytest.raises(ConfigError):
            await cache.reload()
        file.path.unlink()
        with pytest.raises(ConfigError):
            await cache.reload()
        await cache.set("k", 1)
        return await cache.ttl("k")

    assert run(file, act) == pytest.approx(100, abs=5)


def test_what_won_over_the_file_at_open_wins_again(file):
    async def use():
        async with Cache.open(file.path, route={"all": {"ttl": "30s"}}) as cache:
            file(('ttl = "100s"', 'ttl = "10s"'))
            assert await cache.reload() == ()
            (change,) = await cache.reload(route={"all": {"ttl": "40s"}})
            return change.old, change.new

    assert asyncio.run(use()) == (30, 40)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_a_hangup_reloads_and_a_wrong_file_is_only_logged(file, caplog):
    caplog.set_level("INFO")

    async def until(done):
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.01)

    async def act(cache):
        cache.reload_on_hangup()
        file(('ttl = "100s"', 'ttl = "10s"'))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: cache._house.default.life.ttl == 10)
        file(('ttl = "100s"', 'ttl = "soon"'))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "not reloaded" in caplog.text)
        assert cache._house.default.life.ttl == 10

    run(file, act)
    assert "route.all.ttl" in caplog.text
