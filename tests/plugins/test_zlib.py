import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tiercache import Undecodable
from tiercache_plugins.compressors.zlib import ZlibConfig


@pytest.fixture(scope="module")
def compressor():
    return ZlibConfig().build(None)


@settings(deadline=None)
@given(data=st.binary(max_size=2000), times=st.integers(1, 50))
def test_data_comes_back(compressor, data, times):
    data *= times
    assert compressor.decompress(compressor.compress(data), len(data)) == data


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 10}, {"threshold": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        ZlibConfig(**options)


def test_a_limit_of_zero_is_a_limit(compressor):
    assert compressor.decompress(compressor.compress(b""), 0) == b""
    with pytest.raises(Undecodable, match="more than the 0 bytes"):
        compressor.decompress(compressor.compress(bytes(1 << 20)), 0)


def test_every_flipped_bit_is_undecodable_or_harmless(compressor):
    data = b"tiercache keeps what it was given " * 20
    packed = compressor.compress(data)
    for bit in range(len(packed) * 8):
        changed = bytearray(packed)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert compressor.decompress(bytes(changed), len(data)) == data
        except Undecodable:
            continue


def test_a_bomb_expands_no_further_than_the_limit(compressor):
    bomb = zlib.compress(bytes(256 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable, match="more than the 1000 bytes"):
            compressor.decompress(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_another_format_is_undecodable(compressor):
    import gzip

    for data in (gzip.compress(b"x"), b"", b"plain text", zlib.compress(b"x")[2:]):
        with pytest.raises(Undecodable):
            compressor.decompress(data, 100)
