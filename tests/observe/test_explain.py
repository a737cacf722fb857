"""`explain`: where a key goes and why, what stands where, and what it is worth. It changes nothing."""

import asyncio
import json

import pytest
from click.testing import CliRunner

import gated
from gated import document, opened
from tiercache import InvalidKey
from tiercache.cli import main
from tiercache.testing import FakeClock

ROUTES = {
    "pages": {"tiers": ["memory", "shelf"], "keys": ["page:*"], "ttl": "100s", "stale": "50s"},
    "rest": {"tiers": ["memory", "shelf", "cellar"], "default": True, "ttl": "1h", "refresh_ahead": 0.5},
}


def told(act, clock=None):
    async def use():
        async with opened(document(**ROUTES), clock=clock or FakeClock()) as cache:
            return await act(cache)

    return asyncio.run(use())


def states(explanation):
    return {copy.tier: copy.state for copy in explanation.copies}


def test_the_route_of_a_key_is_told_with_the_reason():
    async def act(cache):
        return [
            (found.route, found.why)
            for found in [
                await cache.explain("page:1"),
                await cache.explain("x"),
                await cache.explain("x", route="pages"),
            ]
        ]  # fmt: skip

    assert told(act) == [
        ("pages", 'it is the first with a pattern that matches: "page:*"'),
        ("rest", "it is the default route: no pattern matches"),
        ("pages", "it was asked for"),
    ]


def test_every_copy_is_told_with_its_times_tags_codec_and_size():
    clock = FakeClock()

    async def act(cache):
        await cache.set("x", "value", tags=["t"])
        clock.advance(60)
        return await cache.explain("x")

    found = told(act, clock)
    assert found.verdict == 'a read is answered by "memory"'
    memory, shelf, cellar = found.copies
    assert (memory.state, shelf.state, cellar.state) == ("fresh", "fresh", "fresh")
    assert shelf.fresh_for == pytest.approx(3540, abs=1)
    assert shelf.refresh_in == pytest.approx(1740, abs=1)
    assert memory.refresh_in == pytest.approx(1740, abs=1)
    assert shelf.age == pytest.approx(60, abs=1)
    assert (shelf.tags, shelf.serializer, shelf.breaker) == (("t",), "msgpack", "closed")
    assert shelf.size > 20


def test_what_was_invalidated_is_told_with_what_it_was_invalidated_by():
    async def act(cache):
        house = cache._house
        await cache.set("page:1", 1, tags=["news"])
        house.invalidation.markers.mark({"t:news": cache._clock.stamp()})
        return await cache.explain("page:1")

    found = told(act)
    assert states(found)["shelf"] == "invalidated"
    assert 'the tag "news" was invalidated after it was made' in found.verdict


def test_what_is_stale_expired_deleted_or_away_is_told_apart():
    clock = FakeClock()

    async def act(cache):
        await cache.set("page:1", 1)
        clock.advance(120)
        stale = states(await cache.explain("page:1"))["shelf"]
        await cache.set("x", 1)
        await cache.delete("x")
        deleted = states(await cache.explain("x"))["shelf"]
        gated.tier(cache, "shelf").error = OSError("away")
        away = await cache.explain("page:1")
        return stale, deleted, states(away)["shelf"], away.verdict

    stale, deleted, away, verdict = told(act, clock)
    assert (stale, deleted, away) == ("stale", "deleted", "unreachable")
    assert "stale copy" in verdict or "does not answer" in verdict


def test_damaged_frames_are_told_and_left_alone():
    async def act(cache):
        await cache.set("x", "value")
        shelf = gated.tier(cache, "shelf")
        frame, expires = shelf.rows["tiercache:x"]
        shelf.rows["tiercache:x"] = (frame[:-1] + bytes((frame[-1] ^ 1,)), expires)
        found = await cache.explain("x")
        return states(found)["shelf"], "tiercache:x" in shelf.rows, cache.stats().tiers["shelf"].corrupt

    assert told(act) == ("damaged", True, 0)


def test_explaining_changes_and_counts_nothing():
    async def act(cache):
        await cache.set("x", 1)
        before = cache.stats().as_dict()
        await cache.explain("x")
        await cache.explain("absent")
        after = cache.stats().as_dict()
        return [{k: v for k, v in one.items() if k in {"hits", "misses", "routes", "patterns"}}
                for one in (before, after)]  # fmt: skip

    before, after = told(act)
    assert before == after


def test_a_copy_that_the_route_does_not_read_is_told_as_elsewhere():
    async def act(cache):
        await cache.set("x", 1)
        return await cache.explain("x", route="pages")

    assert states(told(act))["cellar"] == "elsewhere"


def test_a_key_that_is_none_is_refused():
    async def act(cache):
        with pytest.raises(InvalidKey):
            await cache.explain("")
        with pytest.raises(ValueError, match="no route"):
            await cache.explain("x", route="nowhere")

    told(act)


def test_the_command_tells_it_for_people_and_for_programs(tmp_path, monkeypatch):
    (tmp_path / "tiercache.toml").write_text(
        '[tier.disk]\ntype = "sqlite"\npath = "cache.db"\n[route.all]\ntiers = ["disk"]\nttl = "1h"\n'
    )
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    run.invoke(main, ["set", "user:1", "Ada", "--tag", "people"])
    result = run.invoke(main, ["explain", "user:1"])
    assert result.exit_code == 0, result.output
    assert 'user:1: a read is answered by "disk"' in result.stdout
    assert "people" in result.stdout
    found = json.loads(run.invoke(main, ["explain", "user:1", "--json"]).stdout)
    assert found["copies"][0]["state"] == "fresh"
    absent = run.invoke(main, ["explain", "absent"])
    assert absent.exit_code == 1
    assert "a miss: no tier has it" in absent.stdout
