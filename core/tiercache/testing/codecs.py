"""Conformance suites of serializers and compressors: what the kernel relies on."""

from __future__ import annotations

import copy
import math
import random
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from tiercache.contracts import Compressor, Seals, Serializer
from tiercache.engine.codec import Codec, Decoder
from tiercache.errors import Undecodable, Unserializable

_ADDRESS = b"suite:key"
_LIMIT = 1 << 20


def same(left: Any, right: Any) -> bool:
    """Whether both are equal and of equal types, part by part: 1 is not True, 0.0 not -0.0, a dict keeps its
    order, nan is nan.
    """
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return math.isnan(right) if math.isnan(left) else left.hex() == right.hex()
    if isinstance(left, dict):
        return same([*left.items()], [*right.items()])
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, (set, frozenset)):
        return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
    if isinstance(left, (datetime, time)):
        zones = (left.tzinfo, right.tzinfo)
        return (
            left.replace(tzinfo=None) == right.replace(tzinfo=None)
            and left.fold == right.fold
            and type(zones[0]) is type(zones[1])
            and str(zones[0]) == str(zones[1])
        )
    if isinstance(left, Decimal):
        # 1.0 is equal to 1.00, nan is not equal to itself, and a signalling nan can't be compared at all.
        return str(left) == str(right)
    if is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    if isinstance(left, BaseModel):
        return same(left.__getstate__(), right.__getstate__())
    return bool(left == right)


class SerializerSuite:
    """Inherit, and provide the fixtures `serializer` (live), `values` (some that must come back), `refused`
    (some that must not be taken).
    """

    @pytest.fixture
    def serializer(self) -> Serializer:
        """Return the serializer under test."""
        raise NotImplementedError

    @pytest.fixture
    def values(self) -> Sequence[Any]:
        """Return values that must come back equal and of equal types."""
        raise NotImplementedError

    @pytest.fixture
    def refused(self) -> Sequence[Any]:
        """Return values that `dumps` must refuse."""
        raise NotImplementedError

    def test_values_come_back_equal_and_of_equal_types(
        self, serializer: Serializer, values: Sequence[Any]
    ) -> None:
        for value in values:
            data = serializer.dumps(value)
            assert type(data) is bytes
            assert same(serializer.loads(data), value), value

    def test_values_inside_frames_come_back(self, serializer: Serializer, values: Sequence[Any]) -> None:
        codec = Codec("suite", serializer, limit=_LIMIT)
        decoder = Decoder({"suite": serializer}, {}, limit=_LIMIT)
        for value in values:
            frame = codec.encode(_ADDRESS, value, 1, 2, 3)
            assert same(decoder.value(_ADDRESS, frame, decoder.head(_ADDRESS, frame)), value)

    def test_dumping_leaves_the_value_alone(self, serializer: Serializer, values: Sequence[Any]) -> None:
        for value in values:
            before = copy.deepcopy(value)
            serializer.dumps(value)
            assert same(value, before)

    def test_what_would_not_come_back_is_refused(
        self, serializer: Serializer, refused: Sequence[Any]
    ) -> None:
        for value in refused:
            with pytest.raises(Unserializable):
                serializer.dumps(value)

    def test_hostile_bytes_raise_undecodable_and_nothing_else(
        self, serializer: Serializer, values: Sequence[Any]
    ) -> None:
        if isinstance(serializer, Seals):
            pytest.skip("what is sealed is not read before its seal holds")
        for data in _hostile([serializer.dumps(value) for value in values]):
            try:
                serializer.loads(data)
            except Undecodable:
                continue

    def test_threads_may_share_it(self, serializer: Serializer, values: Sequence[Any]) -> None:
        many = [value for value in values for _ in range(8)]
        with ThreadPoolExecutor(4) as pool:
            back = pool.map(lambda value: serializer.loads(serializer.dumps(value)), many)
            assert all(map(same, back, many))

    def test_a_seal_holds_for_its_data_and_its_place_alone(self, serializer: Serializer) -> None:
        if not isinstance(serializer, Seals):
            pytest.skip("it does not seal")
        sealed = serializer.seal(b"payload", b"place")
        assert serializer.unseal(sealed, b"place") == b"payload"
        moved = [(sealed, b"place2"), (sealed, b""), (sealed[:-1], b"place"), (sealed + b"x", b"place")]
        moved += [(_flipped(sealed, bit), b"place") for bit in range(len(sealed) * 8)]
        for data, place in [*moved, (b"", b"place"), (b"payload", b"place")]:
            with pytest.raises(Undecodable):
                serializer.unseal(data, place)


class CompressorSuite:
    """Inherit, and provide the fixture `compressor` (live)."""

    @pytest.fixture
    def compressor(self) -> Compressor:
        """Return the compressor under test."""
        raise NotImplementedError

    def test_data_comes_back(self, compressor: Compressor) -> None:
        for data in _samples():
            packed = compressor.compress(data)
            assert type(packed) is bytes
            assert compressor.decompress(packed, len(data)) == data
            assert compressor.decompress(packed, len(data) + 100) == data

    def test_what_repeats_shrinks(self, compressor: Compressor) -> None:
        assert len(compressor.compress(b"abcdefgh" * 1000)) < 1000

    def test_its_threshold_is_a_size(self, compressor: Compressor) -> None:
        assert type(compressor.threshold) is int
        assert compressor.threshold >= 0

    def test_more_than_the_limit_is_refused(self, compressor: Compressor) -> None:
        for data in _samples():
            if data:
                with pytest.raises(Undecodable):
                    compressor.decompress(compressor.compress(data), len(data) - 1)

    def test_a_bomb_takes_no_memory(self, compressor: Compressor) -> None:
        bomb = compressor.compress(bytes(32 << 20))
        compressor.decompress(compressor.compress(b"warm"), 4)
        assert _peak(lambda: compressor.decompress(bomb, 1000)) < 1 << 20

    def test_cut_off_data_is_refused(self, compressor: Compressor) -> None:
        packed = compressor.compress(b"tiercache " * 50)
        for length in range(len(packed)):
            with pytest.raises(Undecodable):
                compressor.decompress(packed[:length], 500)

    def test_anything_behind_the_end_is_refused(self, compressor: Compressor) -> None:
        packed = compressor.compress(b"tiercache " * 50)
        for tail in (b"\0", b"x" * 100, packed):
            with pytest.raises(Undecodable):
                compressor.decompress(packed + tail, 5000)

    def test_hostile_bytes_raise_undecodable_and_nothing_else(self, compressor: Compressor) -> None:
        for data in _hostile([compressor.compress(data) for data in _samples()]):
            try:
                out = compressor.decompress(data, 5000)
            except Undecodable:
                continue
            assert len(out) <= 5000

    def test_threads_may_share_it(self, compressor: Compressor) -> None:
        samples = _samples() * 20
        with ThreadPoolExecutor(4) as pool:
            back = pool.map(lambda data: compressor.decompress(compressor.compress(data), len(data)), samples)
            assert [*back] == samples


def _samples() -> list[bytes]:
    chance = random.Random(1)
    return [b"", b"x", b"tiercache " * 200, chance.randbytes(3000), bytes(100_000)]


def _hostile(honest: Sequence[bytes], count: int = 1500) -> list[bytes]:
    chance = random.Random(2)
    out = [
        b"",
        b"\0",
        b"\xff" * 9,
        b"[" * 100_000,
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ]
    for _ in range(count):
        data = chance.choice(honest)[:5000]
        match chance.randrange(4):
            case 0:
                out.append(chance.randbytes(chance.randrange(64)))
            case 1:
                out.append(data[: chance.randrange(len(data) + 1)])
            case 2:
                other = chance.choice(honest)
                out.append(
                    data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
                )
            case _:
                for _ in range(chance.randrange(1, 4)):
                    data = _flipped(data, chance.randrange(len(data) * 8)) if data else data
                out.append(data)
    return out


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
