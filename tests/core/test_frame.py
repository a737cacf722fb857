import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache import NEVER, Undecodable
from tiercache.frame import (
    COUNTER,
    HEADER,
    KNOWN,
    SEALED,
    SLIDING,
    TOMBSTONE,
    _checksum,
    about,
    pack,
    restamped,
    stamp_of,
    unpack,
)

KEY = b"ns:key"


def packed(address=KEY, **changes):
    parts = {
        "flags": 0,
        "serializer": b"msgpack",
        "compressor": b"zstd",
        "created_at": 5,
        "fresh_until": 6,
        "stale_until": 7,
        "size": 9,
        "tags": ("a", "ü"),
        "payload": b"payload",
    }
    return pack(address, **(parts | changes))


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=255).map(str.encode)
stamps = st.integers(0, NEVER)


@settings(deadline=None)
@given(
    address=st.binary(max_size=50),
    flags=st.integers(0, KNOWN),
    serializer=names,
    compressor=names,
    created_at=stamps,
    fresh_until=stamps,
    stale_until=stamps,
    size=st.integers(0, 2**32 - 1),
    tags=st.lists(st.text(max_size=20), max_size=5).map(tuple),
    payload=st.binary(max_size=50),
)
def test_what_is_packed_is_unpacked(address, **parts):
    frame = pack(address, **parts)
    head = unpack(address, frame)
    assert head.stamp == head.created_at == parts["created_at"]
    assert (head.serializer.encode(), head.compressor.encode()) == (parts["serializer"], parts["compressor"])
    assert (head.flags, head.fresh_until) == (parts["flags"], parts["fresh_until"])
    if head.flags & SLIDING:
        assert (head.stale_until, head.end) == (parts["fresh_until"], parts["stale_until"])
    else:
        assert (head.stale_until, head.end) == (parts["stale_until"], 0)
    assert (head.size, head.tags) == (parts["size"], parts["tags"])
    assert frame[head.payload :] == parts["payload"]


def test_the_layout_is_what_the_module_says():
    frame = packed()
    assert HEADER.size == 48
    assert struct.unpack(">Q2sBBBBHqqqI", frame[:44]) == (5, b"tC", 1, 0, 7, 4, 2, 5, 6, 7, 9)
    assert frame[48:] == b"msgpackzstd" + b"\0\x01a" + b"\0\x02\xc3\xbc" + b"payload"


@given(stamp=st.integers(0, 2**64 - 1))
def test_another_stamp_changes_nothing_else(stamp):
    frame = restamped(packed(), stamp)
    assert stamp_of(frame) == stamp
    assert unpack(KEY, frame) == unpack(KEY, packed())._replace(stamp=stamp)


@pytest.mark.parametrize("frame", [b"", b"1234567"])
def test_what_is_too_short_has_stamp_zero(frame):
    assert stamp_of(frame) == 0


def test_every_flipped_bit_behind_the_stamp_is_found():
    frame = packed()
    for bit in range(64, len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Undecodable):
            unpack(KEY, bytes(changed))


def test_every_cut_is_found():
    frame = packed()
    for length in range(len(frame)):
        with pytest.raises(Undecodable):
            unpack(KEY, frame[:length])
    with pytest.raises(Undecodable):
        unpack(KEY, frame + b"\0")


@pytest.mark.parametrize("address", [b"", b"ns:kez", b"ns:ke", b"ns:key ", b"other"])
def test_a_frame_under_another_key_is_found(address):
    with pytest.raises(Undecodable, match="another key"):
        unpack(address, packed())


def test_a_counter_may_be_raised_where_it_lies():
    frame = packed(flags=COUNTER, serializer=b"", compressor=b"", size=0, payload=b"9")
    assert unpack(KEY, frame[:-1] + b"10") == unpack(KEY, frame)
    with pytest.raises(Undecodable):
        unpack(KEY, packed(flags=SEALED, payload=b"9")[:-1] + b"10")


def test_a_later_version_and_unknown_flags_are_told():
    frame = packed()
    with pytest.raises(Undecodable, match="a frame of version 2.* this release reads version 1"):
        unpack(KEY, frame[:10] + b"\x02" + frame[11:])
    with pytest.raises(Undecodable, match="flags 0x80"):
        unpack(KEY, frame[:11] + b"\x80" + frame[12:])


def test_names_and_tags_that_are_no_text_are_undecodable():
    with pytest.raises(Undecodable, match="must be text"):
        unpack(KEY, packed(serializer=b"\xff"))
    with pytest.raises(Undecodable, match="must be text"):
        unpack(KEY, packed(compressor=b"\x80"))
    frame = packed(tags=("aa",))
    at = frame.index(b"\0\x02aa") + 2
    broken = frame[:at] + b"\xff\xff" + frame[at + 2 :]
    broken = broken[:44] + _checksum(KEY, broken, broken[48:]).to_bytes(4, "big") + broken[48:]
    with pytest.raises(Undecodable, match="must be text"):
        unpack(KEY, broken)


def test_a_claim_of_many_tags_ends_where_the_frame_ends():
    frame = bytearray(packed(tags=()))
    frame[14:16] = b"\xff\xff"
    with pytest.raises(Undecodable, match="inside its (tags|header)"):
        unpack(KEY, bytes(frame))


@given(frame=st.binary(max_size=200))
def test_any_bytes_are_undecodable(frame):
    with pytest.raises(Undecodable):
        unpack(KEY, frame)
    with pytest.raises(Undecodable):
        unpack(KEY, frame[:8] + b"tC\x01\0" + frame[12:])


def test_a_seal_covers_key_codec_life_size_and_tags_but_not_the_stamp():
    def covered(address=KEY, stamp=5, **changes):
        frame = restamped(packed(address, flags=SEALED, **changes), stamp)
        return about(address, frame, unpack(address, frame))

    changed = [
        covered(b"ns:kez"),
        covered(b"ns:key0"),
        covered(created_at=6),
        covered(fresh_until=7),
        covered(stale_until=8),
        covered(size=10),
        covered(tags=("a",)),
        covered(tags=("aü",)),
        covered(tags=()),
        covered(compressor=b""),
        covered(serializer=b"msgpackz", compressor=b"std"),
        covered(serializer=b"json"),
    ]
    assert len({covered(), *changed}) == len(changed) + 1
    assert covered(stamp=99) == covered()


def test_flags_are_single_bits():
    assert TOMBSTONE | COUNTER | SEALED | SLIDING == KNOWN
    assert TOMBSTONE + COUNTER + SEALED + SLIDING == KNOWN
