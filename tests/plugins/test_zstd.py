import resource
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tiercache import Undecodable
from tiercache_plugins.compressors.zstd import ZstdConfig


@pytest.fixture(scope="module")
def compressor():
    return ZstdConfig().build(None)


@settings(deadline=None)
@given(data=st.binary(max_size=2000), times=st.integers(1, 50))
def test_data_comes_back(compressor, data, times):
    data *= times
    assert compressor.decompress(compressor.compress(data), len(data)) == data


@pytest.mark.parametrize("level", [-50, -1, 0, 1, 22])
def test_every_level_is_read_by_any_other(compressor, level):
    data = b"tiercache " * 300
    assert compressor.decompress(ZstdConfig(level=level).build(None).compress(data), len(data)) == data


@pytest.mark.parametrize(
    "options", [{"level": 23}, {"level": -51}, {"threshold": 0}, {"threshold": "1 parsec"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        ZstdConfig(**options)


def test_the_threshold_takes_units():
    assert ZstdConfig(threshold="4KiB").build(None).threshold == 4096


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


def test_a_frame_that_does_not_tell_its_size_is_undecodable(compressor):
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 5000)
    with pytest.raises(Undecodable, match="does not tell its size"):
        compressor.decompress(silent, 5000)


def test_a_frame_that_lies_about_its_size_is_undecodable(compressor):
    packed = compressor.compress(b"x" * 3000)
    at = packed.index((3000 - 256).to_bytes(2, "little"))
    for lie in (256, 2999, 3001, 65791):
        changed = packed[:at] + (lie - 256).to_bytes(2, "little") + packed[at + 2 :]
        with pytest.raises(Undecodable):
            compressor.decompress(changed, 1 << 20)


def test_a_bomb_is_refused_before_it_expands(compressor):
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=512 << 20)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(512)), packer.flush()])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        with pytest.raises(Undecodable, match="536870912 bytes where 1000 were announced"):
            compressor.decompress(bomb, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


def test_a_skippable_frame_is_undecodable(compressor):
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    for data in (skippable, skippable + compressor.compress(b"x" * 100)):
        with pytest.raises(Undecodable):
            compressor.decompress(data, 1000)


def test_each_thread_has_contexts_of_its_own(compressor):
    mine = compressor._contexts.compress
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(compressor._contexts.compress))
    thread.start()
    thread.join()
    assert theirs[0].__self__ is not mine.__self__
    assert compressor._contexts.compress is mine
