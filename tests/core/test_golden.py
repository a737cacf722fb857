"""Frames as released. What one release has written, every later one reads: the files only ever grow."""

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from tiercache import MISSING, NEVER
from tiercache.engine.codec import Codec, Decoder, tombstone
from tiercache.testing.codecs import same
from tiercache_plugins.compressors.zlib import ZlibConfig
from tiercache_plugins.compressors.zstd import ZstdConfig
from tiercache_plugins.serializers.json import JsonConfig
from tiercache_plugins.serializers.msgpack import MsgpackConfig
from tiercache_plugins.serializers.pickle import PickleConfig
from tiercache_plugins.serializers.raw import RawConfig

FILE = Path(__file__).with_name("golden") / "version-1.json"
LIMIT = 1 << 20
SECRET = SecretStr("golden frames are signed with this")
SERIALIZERS = {
    "msgpack": MsgpackConfig().build(None),
    "json": JsonConfig().build(None),
    "raw": RawConfig().build(None),
    "pickle": PickleConfig(key=SECRET).build(None),
    "pickle-hmac": PickleConfig(key=SECRET, algorithm="hmac-sha256").build(None),
}
COMPRESSORS = {"zstd": ZstdConfig().build(None), "zlib": ZlibConfig().build(None)}
LONG = [{"id": i, "name": f"user {i}"} for i in range(100)]
EXPECTED = {
    "counter": ("msgpack", "", 42),
    "counter-lowest": ("msgpack", "", -(2**63)),
    "none": ("msgpack", "", None),
    "plain": ("msgpack", "", {"a": [1, True, 1.5, "ü", b"\0\xff", None], "b": {"c": -0.0}}),
    "groups": ("msgpack", "", [(1, ("x",)), {7}, frozenset({"y"}), bytearray(b"z"), ()]),
    "keys": ("msgpack", "", {1: "int", None: 0, 2.5: b"", (1, "a"): {date(2026, 1, 2): 1}, "t": 2}),
    "numbers": (
        "msgpack",
        "",
        [2**63, 2**64, -(2**100), float("inf"), Decimal("1.50"), Decimal("-Infinity")],
    ),
    "text": ("msgpack", "", ["\ud800", "grüße 🌍"]),
    "times": (
        "msgpack",
        "",
        [
            datetime(2026, 10, 25, 2, 30, 1, 5, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3), "BRT")),
            datetime(2026, 1, 2, tzinfo=timezone(timedelta(minutes=90))),
            datetime.max,  # noqa: DTZ901
            date(1, 1, 1),
            time(23, 59, 59, 999999, fold=1),
            timedelta(-1, 2, 3),
            UUID("12345678-1234-5678-1234-567812345678"),
        ],
    ),
    "zstd": ("msgpack", "zstd", LONG),
    "zlib": ("msgpack", "zlib", LONG),
    "json": ("json", "", {"a": [1, None, "ü", 10**30]}),
    "json-zstd": ("json", "zstd", LONG),
    "raw-bytes": ("raw", "", b"\0bytes"),
    "raw-text": ("raw", "", "text ü"),
    "pickle": ("pickle", "", (1, {2j})),
    "pickle-zlib": ("pickle", "zlib", LONG),
    "pickle-hmac": ("pickle-hmac", "", [range(3)]),
}


def made(name):
    serializer, compressor, value = EXPECTED[name]
    codec = Codec(serializer, SERIALIZERS[serializer], compressor, COMPRESSORS.get(compressor), limit=LIMIT)
    return codec.encode(address(name), value, 1_800_000_000_000_000, 1_800_000_060_000_000, NEVER, ("t", "ü"))


def address(name):
    return f"golden:{name}".encode()


def write():
    """Write the golden file of this version. Run by hand, once a version: it never overwrites."""
    frames = {name: made(name).hex() for name in EXPECTED} | {
        "tombstone": tombstone(address("tombstone"), 5, 9).hex()
    }
    with FILE.open("x") as file:
        json.dump(frames, file, indent=1)
        file.write("\n")


FRAMES = {name: bytes.fromhex(frame) for name, frame in json.loads(FILE.read_text()).items()}
DECODER = Decoder(SERIALIZERS, COMPRESSORS, limit=LIMIT)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_frame_of_version_1_is_read(name):
    frame = FRAMES[name]
    head = DECODER.head(address(name), frame)
    assert (head.stamp, head.created_at) == (1_800_000_000_000_000,) * 2
    assert (head.fresh_until, head.stale_until) == (1_800_000_060_000_000, NEVER)
    assert head.tags == ("t", "ü")
    assert head.compressor == EXPECTED[name][1]
    assert same(DECODER.value(address(name), frame, head), EXPECTED[name][2])


def test_a_tombstone_of_version_1_is_read():
    head = DECODER.head(address("tombstone"), FRAMES["tombstone"])
    assert (head.stamp, head.fresh_until) == (5, 9)
    assert DECODER.value(address("tombstone"), FRAMES["tombstone"], head) is MISSING


# What a compressor or pickle writes may differ with their versions; what we write may not.
OURS = [name for name, (kind, compressor, _) in EXPECTED.items() if not compressor and "pickle" not in kind]


@pytest.mark.parametrize("name", OURS)
def test_this_release_writes_what_version_1_wrote(name):
    assert made(name) == FRAMES[name]


def test_every_golden_frame_is_expected():
    assert FRAMES.keys() == EXPECTED.keys() | {"tombstone"}


def test_golden_frames_are_never_overwritten():
    with pytest.raises(FileExistsError):
        write()
