"""A cache among damaged bytes, lying tiers, and stages that raise whatever they like."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import tracemalloc
import zlib
from typing import Any, Literal

import pytest
import zstandard

from gated import Able, document, opened, tier
from tiercache import (
    NEVER,
    Cache,
    CompressorConfig,
    FarTierConfig,
    Record,
    SerializerConfig,
    TierUnavailable,
    Undecodable,
    Unserializable,
    hookimpl,
)
from tiercache.engine.guard import REOPEN_AFTER
from tiercache.errors import TierError
from tiercache.frame import COUNTER, pack, unpack
from tiercache.testing import FakeClock
from tiercache.testing.codecs import same

VALUES: list[Any] = [
    None, 7, -(2**63), 1.5, "text", "long " * 500, b"\0\xff" * 700, [1, (2, {"a": {3}})], {"k": [None, True]},
    ("tuple",), {1, 2}, "x", [], {}, 10**30, "ö" * 999,
]  # fmt: skip
KEYS = [f"key:{number}" for number in range(len(VALUES))]


def disk(tmp_path, **options: Any) -> dict[str, Any]:
    path = str(tmp_path / "cache.db")
    return {
        "cache": {"max_value_bytes": "1MiB"},
        "tier": {"disk": {"type": "sqlite", "path": path, "compressor": "zstd", **options}},
        "serializer": {"pickle": {"type": "pickle", "key": "a key of the tests"}},
        "compressor": {"zstd": {"type": "zstd", "threshold": 100}},
        "route": {"all": {"tiers": ["disk"]}},
    }


def address(key: str) -> str:
    return f"tiercache:{key}"


# Damaged frames


def damaged(key: str, frames: dict[str, bytes], chance: random.Random) -> bytes:
    """Return what is not the frame of *key*, though it may come near."""
    whole = frames[key]
    while True:
        frame, other = whole, frames[chance.choice(KEYS)]
        match chance.randrange(6):
            case 0:
                # Not the stamp in front, which a tier may raise.
                for bit in [chance.randrange(64, len(frame) * 8) for _ in range(chance.randrange(1, 4))]:
                    frame = flipped(frame, bit)
            case 1:
                frame = frame[: chance.randrange(len(frame))]
            case 2:
                frame = frame[: chance.randrange(len(frame))] + other[chance.randrange(len(other)) :]
            case 3:
                frame = other
            case 4:
                frame = frame[:8] + chance.randbytes(chance.randrange(200))
            case _:
                at = chance.randrange(8, len(frame))
                frame = frame[:at] + chance.randbytes(chance.randrange(1, 40)) + frame[at:]
        if frame[8:] != whole[8:] and not counts(key, whole, frame):
            return frame


def flipped(frame: bytes, bit: int) -> bytes:
    changed = bytearray(frame)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def counts(key: str, whole: bytes, frame: bytes) -> bool:
    """Whether *frame* is a counter as *whole* is, with another number: that is outside the checksum."""
    head = unpack(address(key).encode(), whole)
    if not head.flags & COUNTER or frame[8 : head.payload] != whole[8 : head.payload]:
        return False
    return re.fullmatch(rb"0|-?[1-9][0-9]*", frame[head.payload :]) is not None


def whole_frames(document: dict[str, Any]) -> dict[str, bytes]:
    async def scenario():
        async with Cache.open(document) as cache:
            await cache.set_many(dict(zip(KEYS, VALUES, strict=True)), tags=["tag"])
            found = dict(zip(KEYS, await tier(cache, "disk").read([*map(address, KEYS)]), strict=True))
            values = await cache.get_many(KEYS)
            assert all(same(values[key], value) for key, value in zip(KEYS, VALUES, strict=True))
            await cache.clear()
            return found

    return asyncio.run(scenario())


@pytest.mark.parametrize("serializer", ["msgpack", "pickle"])
def test_ten_thousand_damaged_frames_are_a_miss_each(tmp_path, caplog, serializer):
    options = disk(tmp_path, serializer=serializer)
    frames = whole_frames(options)
    chance = random.Random(11)

    async def scenario():
        async with Cache.open(options) as cache:
            far = tier(cache, "disk")
            for count in range(len(KEYS), 10_000 + len(KEYS), len(KEYS)):
                records = [Record(address(key), damaged(key, frames, chance), NEVER, 1) for key in KEYS]
                await far.write(records)
                assert await cache.get_many(KEYS) == {}
                # The deletions are under way; whatever is asked for after them waits its turn.
                await cache._house.fars["disk"].idle()
                stats = cache.stats().tiers["disk"]
                assert (stats.corrupt, stats.misses, stats.errors, stats.hits) == (count, count, 0, 0)
                assert stats.own["entries"] == 0
            assert list(await far.read([*map(address, KEYS)])) == [None] * len(KEYS)

    asyncio.run(scenario())
    assert caplog.records == []


def test_every_bit_of_a_frame_matters(tmp_path):
    options = disk(tmp_path)
    whole = whole_frames(options)["key:4"]

    async def scenario():
        async with Cache.open(options) as cache:
            for bit in range(64, len(whole) * 8):
                await tier(cache, "disk").write([Record(address("key:4"), flipped(whole, bit), NEVER, 1)])
                assert await cache.get("key:4", "missed") == "missed", f"bit {bit}"
                await cache._house.fars["disk"].idle()

    asyncio.run(scenario())


def test_a_damaged_copy_is_served_by_the_next_tier_and_mended():
    async def scenario():
        async with opened(document(all={"tiers": ["shelf", "cellar"]})) as cache:
            await cache.set("k", "value", tags=["t"])
            shelf = tier(cache, "shelf")
            whole = shelf.rows[address("k")]
            shelf.rows[address("k")] = (flipped(whole[0], 300), NEVER)
            assert await cache.get("k") == "value"
            await cache._house.fars["shelf"].idle()
            assert shelf.rows[address("k")] == whole
            stats = cache.stats().tiers
            assert (stats["shelf"].corrupt, stats["shelf"].promotions, stats["cellar"].hits) == (1, 1, 1)

    asyncio.run(scenario())


def lying(
    key: str, payload: bytes, *, size: int, compressor: bytes = b"", serializer: bytes = b"msgpack"
) -> Record:
    """Return a frame whose checksum is right and whose promises are not."""
    frame = pack(
        address(key).encode(), flags=0, serializer=serializer, compressor=compressor, created_at=1,
        fresh_until=NEVER, stale_until=NEVER, size=size, tags=(), payload=payload,
    )  # fmt: skip
    return Record(address(key), frame, NEVER, 1)


def bombs() -> dict[str, Record]:
    zeros = bytes(64 << 20)
    zstd, flat = zstandard.compress(zeros), zlib.compress(zeros)
    # An array that announces four thousand million items, and text that announces as many bytes.
    array, text = b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"
    return {
        "zstd, the truth": lying("b", zstd, size=len(zeros), compressor=b"zstd"),
        "zstd, too little": lying("b", zstd, size=1 << 20, compressor=b"zstd"),
        "zstd, far too much": lying("b", zstd, size=2**32 - 1, compressor=b"zstd"),
        "zlib, too little": lying("b", flat, size=1 << 20, compressor=b"zlib"),
        "zlib, nothing": lying("b", flat, size=0, compressor=b"zlib"),
        "an array": lying("b", array, size=len(array)),
        "a text": lying("b", text, size=len(text)),
        "nested": lying("b", b"\x91" * 200_000, size=200_000),
        "json, nested": lying("b", b"[" * 200_000, size=200_000, serializer=b"json"),
        "a size that is less": lying("b", b"\xc0", size=0),
        "a size that is more": lying("b", b"\xc0", size=1000),
        "nobody's serializer": lying("b", b"\xc0", size=1, serializer=b"\x00\xff"),
        "a serializer called none": lying("b", b"\xc0", size=1, serializer=b"none"),
        "a pickle without its seal": lying("b", b"N.", size=2, serializer=b"pickle"),
        "nobody's compressor": lying("b", b"\xc0", size=1, compressor=b"nobody"),
    }


def test_frames_that_promise_too_much_are_a_miss_and_take_no_memory(tmp_path):
    made = bombs()

    async def scenario():
        async with Cache.open(disk(tmp_path)) as cache:
            await cache.set("warm", "x" * 5000)
            await cache.get("warm")
            for count, (name, record) in enumerate(made.items(), 1):
                await tier(cache, "disk").write([record])
                tracemalloc.start()
                assert await cache.get("b", "missed") == "missed", name
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 8 << 20, f"{name}: {peak} bytes"
                await cache._house.fars["disk"].idle()
                assert cache.stats().tiers["disk"].corrupt == count, name
                assert await tier(cache, "disk").read([record.key]) == [None], name

    try:
        asyncio.run(scenario())
    finally:
        tracemalloc.stop()


# Stages that raise, or answer with something else


class Own(Exception):
    """Of a kind that nobody can know."""


ODD = {
    type(error).__name__: error
    for error in (
        Own("odd"), KeyError("k"), StopIteration("s"), StopAsyncIteration(), RecursionError(), MemoryError(),
        OSError(28, "no space"), TimeoutError(), AssertionError(), UnicodeError("u"), TypeError(),
        OverflowError(), Undecodable("u"), Unserializable("u"), TierError("t"), asyncio.CancelledError(),
    )
}  # fmt: skip
EXCEPTIONS = [name for name, error in ODD.items() if isinstance(error, Exception)]


class OddSerializer:
    """Raises what a value asks for: {"dumps": …} when it is stored, {"loads": …} when it is read."""

    def dumps(self, value: Any) -> Any:
        what = value.get("dumps")
        if what in ODD:
            raise ODD[what]
        return {"text": "text", "nothing": None, "list": [1], "view": memoryview(b"x")}.get(
            what, value.get("loads", "").encode()
        )

    def loads(self, data: bytes) -> Any:
        if data.decode() in ODD:
            raise ODD[data.decode()]
        return {"loads": data.decode()}


class OddSerializerConfig(SerializerConfig):
    """A serializer that raises odd things."""

    type: Literal["odd"] = "odd"

    def build(self, context):
        return OddSerializer()


class OddCompressor:
    """Raises both ways."""

    threshold = 0

    def compress(self, data: bytes) -> bytes:
        if b"refused" in data:
            raise Own("odd")
        return data[:-1]

    def decompress(self, data: bytes, limit: int) -> bytes:
        raise Own("odd")


class OddCompressorConfig(CompressorConfig):
    """A compressor that raises odd things."""

    type: Literal["odd"] = "odd"

    def build(self, context):
        return OddCompressor()


class Liar(Able):
    """Raises `error`, or answers batch calls with `answer(results)`."""

    answer: Any = None
    raising: BaseException | None = None

    async def read(self, keys):
        return await self._lie(await super().read(keys))

    async def write(self, records):
        return await self._lie(await super().write(records))

    async def delete(self, keys):
        return await self._lie(await super().delete(keys))

    async def swap(self, record, expected):
        await self._lie(())
        return await super().swap(record, expected)

    async def scan(self, prefix):
        async for keys in super().scan(prefix):
            await self._lie(())
            yield keys

    async def wipe(self, prefix):
        await self._lie(())
        if self.answer is not None:
            raise TierError("it would lie if it could")

    async def _lie(self, results):
        if self.raising is not None:
            raise self.raising
        return results if self.answer is None or results == () else self.answer(results)


class LiarConfig(FarTierConfig):
    """A far tier that raises and lies."""

    type: Literal["liar"] = "liar"

    def build(self, context):
        return Liar(context.clock)


@hookimpl
def tiercache_tiers():
    return [LiarConfig]


@hookimpl
def tiercache_serializers():
    return [OddSerializerConfig]


@hookimpl
def tiercache_compressors():
    return [OddCompressorConfig]


def odd(clock: Any = None, **far: Any) -> Cache:
    wanted = document(all={"tiers": ["memory", "shelf"]})
    wanted["tier"]["shelf"] = {"type": "liar", **far}
    return opened(wanted, clock=clock, plugins=[__name__])


@pytest.mark.parametrize("what", [*EXCEPTIONS, "text", "nothing", "list", "view"])
def test_a_value_that_can_not_be_stored_reaches_the_caller_and_leaves_the_old_one(what):
    async def scenario():
        async with odd(serializer="odd") as cache:
            await cache.set("k", {"loads": "old"}, tags=["t"])
            for act in (
                cache.set("k", {"dumps": what}),
                cache.set_many({"k": {"dumps": what}}),
                cache.get_or_set("other", lambda: {"dumps": what}),
                cache.add("other", {"dumps": what}),
            ):
                with pytest.raises(Unserializable):
                    await act
            assert await cache.get("k") == {"loads": "old"}
            cache._empty()
            assert await cache.get("k") == {"loads": "old"}
            assert await cache.get("other", "absent") == "absent"
            assert cache.stats().tiers["shelf"].errors == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("what", EXCEPTIONS)
def test_a_serializer_that_fails_to_read_makes_a_miss_and_is_loaded_again(what):
    async def scenario():
        async with odd(serializer="odd") as cache:
            await cache.set("k", {"loads": what})
            cache._empty()
            assert await cache.get("k", "missed") == "missed"
            await cache._house.fars["shelf"].idle()
            assert not tier(cache, "shelf").rows
            assert cache.stats().tiers["shelf"].corrupt == 1
            await cache.set("k", {"loads": what})
            cache._empty()
            assert await cache.get_or_set("k", lambda: {"loads": "new"}) == {"loads": "new"}

    asyncio.run(scenario())


def test_a_compressor_that_fails_is_a_refusal_or_a_miss():
    async def scenario():
        async with odd(serializer="raw", compressor="odd") as cache:
            with pytest.raises(Unserializable, match='compressor "odd"'):
                await cache.set("k", b"refused")
            await cache.set("k", "text")
            cache._empty()
            assert await cache.get("k", "missed") == "missed"
            assert cache.stats().tiers["shelf"].corrupt == 1

    asyncio.run(scenario())


LIES = {
    "nothing": lambda results: None,
    "too few": lambda results: list(results)[:-1],
    "too many": lambda results: [*results, *results, None],
    "a number": lambda results: 5,
    "text": lambda results: "x",
    "objects": lambda results: [object() for _ in results],
    "text for each": lambda results: ["x" for _ in results],
    "a set": lambda results: {object() for _ in results},
    "views": lambda results: [memoryview(b"x") for _ in results],
}
TROUBLES = [*(("raises", name) for name in ODD), *(("answers", name) for name in LIES)]


def lie(far: Any, kind: str, name: str) -> None:
    far.raising = ODD[name] if kind == "raises" else None
    far.answer = LIES[name] if kind == "answers" else None


@pytest.mark.parametrize(("kind", "name"), TROUBLES, ids=str)
def test_whatever_a_far_tier_does_reads_miss_and_writes_are_skipped(caplog, kind, name):
    caplog.set_level(logging.INFO, "tiercache")

    async def scenario():
        clock = FakeClock()
        async with odd(clock=clock) as cache:
            far = tier(cache, "shelf")
            await cache.set("before", "value")
            cache._empty()
            lie(far, kind, name)
            assert await cache.get("before", "missed") == "missed"
            assert await cache.get_many(["before", "b", "c"]) == {}
            await cache.set("k", 1)
            assert await cache.get("k") == 1
            await cache.set_many({"l": 1, "m": 2})
            assert await cache.get_or_set("n", lambda: "loaded") == "loaded"
            assert await cache.exists("n")
            assert await cache.ttl("before") is None
            assert await cache.delete("k") is True
            assert await cache.delete_many(["k", "nobody"]) == 0
            assert {key async for key in cache.keys()} >= {"l", "m", "n"}
            for act in (cache.add("a", 1), cache.touch("l", ttl=5), cache.increment("i")):
                with pytest.raises(TierUnavailable):
                    await act
            await cache.clear()
            assert cache.stats().tiers["shelf"].errors >= 5
            assert cache.stats().tiers["shelf"].available is False
            assert len(told(caplog)) == 1, told(caplog)

            lie(far, "not at all", "")
            clock.advance(REOPEN_AFTER)
            await cache.set("after", "value")
            cache._empty()
            assert await cache.get("after") == "value"
            assert cache.stats().tiers["shelf"].available is True
            assert len(told(caplog)) == 2, told(caplog)

            lie(far, kind, name)
            await cache.get("gone")
            await cache.get("gone")
            assert len(told(caplog)) == 3, told(caplog)

    run_within(scenario())


def told(caplog) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if "its breaker is" not in message]


def run_within(scenario: Any, seconds: float = 10) -> None:
    async def timed():
        async with asyncio.timeout(seconds):
            await scenario

    asyncio.run(timed())


def test_frames_that_are_none_of_ours_are_not_believed():
    async def scenario():
        async with odd() as cache:
            far = tier(cache, "shelf")
            await cache.set("k", 1)
            cache._empty()
            # Right in number and type, and wrong in everything else.
            far.answer = lambda results: [b"x" * 60 for _ in results]
            assert await cache.get("k", "missed") == "missed"
            assert cache.stats().tiers["shelf"].corrupt == 1

    asyncio.run(scenario())


def test_stamps_that_lie_far_ahead_do_not_move_the_clock():
    async def scenario():
        async with odd() as cache:
            far = tier(cache, "shelf")
            far.answer = lambda results: [2**62 if type(result) is int else result for result in results]
            await cache.set("k", 1)
            assert cache._clock.stamp() < 2**62

    asyncio.run(scenario())


def test_a_tier_that_never_answers_does_not_keep_close_waiting(caplog, monkeypatch):
    monkeypatch.setattr("tiercache.engine.house.CLOSE_WITHIN", 0.05)

    async def scenario():
        async with odd() as cache:
            tier(cache, "shelf").gate.clear()
            waiting = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.01)
        waiting.cancel()

    run_within(scenario())
    assert any("did not close cleanly" in message for message in told(caplog))
