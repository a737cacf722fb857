"""What another release, or another setting, left behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from promises.scene import PATIENCE, Source, play
from tiercache import Cache, Unserializable
from tiercache.testing import same


def document(path, **disk):
    """Return a document with nothing but a file at *path*."""
    return {
        "cache": {"bus": "none"},
        "tier": {"disk": {"type": "sqlite", "path": str(path), **disk}},
        "route": {"all": {"tiers": ["disk"], "ttl": "1h"}},
    }


def run(scenario):
    """Run the coroutine function *scenario*, and give up some time."""

    async def bounded():
        async with asyncio.timeout(3 * PATIENCE):
            await scenario()

    asyncio.run(bounded())


@pytest.mark.parametrize("damage", ["cut", "flipped", "later version", "no frame"])
def test_bytes_that_nobody_can_read_are_a_miss_and_a_count_and_go(damage):
    """FusionCache #324, #388: it throws by default, so that a deploy with another format is an outage."""

    async def scenario(here):
        await here.cache.set("k", ["v"] * 10)
        ((key, (frame, expires_at)),) = here.far("shelf").rows.items()
        here.far("shelf").rows[key] = (
            {
                "cut": frame[:-3],
                "flipped": frame[:-3] + bytes([frame[-3] ^ 1]) + frame[-2:],
                "later version": frame[:10] + b"\x09" + frame[11:],
                "no frame": b"somebody else's",
            }[damage],
            expires_at,
        )
        assert await here.cache.get("k") is None
        assert here.cache.stats().tiers["shelf"].corrupt == 1
        assert await here.cache.get_or_set("k", Source("new")) == "new"

    play(scenario, tiers=("shelf",))


def test_another_serializer_and_compressor_leave_old_entries_readable(tmp_path):
    """FusionCache #329: a change of the envelope, or of the serializer, makes a mixed fleet fail."""

    async def scenario():
        value = {"a": "long enough to be worth it " * 100}
        path = tmp_path / "c.db"
        compressed = document(path, serializer="json", compressor="zlib")
        async with Cache.open(compressed) as cache:
            await cache.set("k", value)
        async with Cache.open(document(path, serializer="msgpack")) as cache:
            assert await cache.get("k") == value
            assert cache.stats().tiers["disk"].corrupt == 0

    run(scenario)


VALUES = [
    datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    datetime(2026, 3, 1, 12, 30),  # noqa: DTZ001 - without a zone is one of the cases
    date(2026, 3, 1),
    timedelta(seconds=1.5),
    (1, (2, 3)),
    {1, 2},
    frozenset({"a"}),
    {1: "int", "1": "str"},
    Decimal("1.10"),
    UUID(int=7),
    b"bytes",
    2**70,
    float("inf"),
    True,
    None,
    "\N{SNOWMAN}",
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_far_hit_is_equal_to_a_near_hit_and_of_the_same_types(value):
    """fastapi-cache #120, #420, bentocache 1.1: a date from memory is a string from Redis."""

    async def scenario(here):
        await here.cache.set("k", value)
        assert same(here.cache.peek("k"), value)
        async with here.another() as other:
            assert same(await other.cache.get("k"), value)

    play(scenario)


def test_what_can_not_be_brought_back_is_refused_when_it_is_set():
    """fastapi-cache #420 again: what is lost without a word at `set` is missed at the first far hit."""

    class Custom:
        pass

    async def scenario(here):
        await here.cache.set("k", "old")
        with pytest.raises(Unserializable, match="Custom"):
            await here.cache.set("k", {"deep": [Custom()]})
        assert await here.cache.get("k") == "old"
        async with here.another() as other:
            assert await other.cache.get("k") == "old"

    play(scenario)


def test_a_frame_that_lies_under_another_key_is_no_answer():
    """HybridCache repeats the key inside its payload, as stores and clients may mix answers up."""

    async def scenario(here):
        await here.cache.set("mine", "mine")
        await here.cache.set("yours", "yours")
        rows = here.far("shelf").rows
        rows["tiercache:mine"] = rows["tiercache:yours"]
        assert await here.cache.get("mine") is None
        assert here.cache.stats().tiers["shelf"].corrupt == 1

    play(scenario, tiers=("shelf",))


def test_what_promises_to_be_huge_takes_no_memory(tmp_path):
    """HybridCache bounds what is written to 1 MiB; here what is read is bounded as well."""

    async def scenario():
        path = tmp_path / "c.db"
        async with Cache.open(document(path, compressor="zlib")) as cache:
            await cache.set("k", b"\0" * 10_000_000)
        small = document(path, compressor="zlib")
        small["cache"]["max_value_bytes"] = "1MiB"
        async with Cache.open(small) as cache:
            assert await cache.get("k") is None
            assert cache.stats().tiers["disk"].corrupt == 1

    run(scenario)
