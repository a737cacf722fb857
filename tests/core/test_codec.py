import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tiercache import MISSING, NEVER, Undecodable, Unserializable
from tiercache import frame as layout
from tiercache.engine.codec import Codec, Decoder, tombstone
from tiercache.testing.codecs import same
from tiercache_plugins.compressors.zlib import ZlibConfig
from tiercache_plugins.compressors.zstd import ZstdConfig
from tiercache_plugins.serializers.json import JsonConfig
from tiercache_plugins.serializers.msgpack import MsgpackConfig
from tiercache_plugins.serializers.pickle import PickleConfig
from tiercache_plugins.serializers.raw import RawConfig

KEY = b"ns:key"
LIMIT = 1 << 20
SERIALIZERS = {
    "msgpack": MsgpackConfig().build(None),
    "json": JsonConfig().build(None),
    "raw": RawConfig().build(None),
    "pickle": PickleConfig(key=SecretStr("k" * 32)).build(None),
}
COMPRESSORS = {"zstd": ZstdConfig(threshold=64).build(None), "zlib": ZlibConfig(threshold=64).build(None)}
DECODER = Decoder(SERIALIZERS, COMPRESSORS, limit=LIMIT)
PAIRS = [(serializer, compressor) for serializer in SERIALIZERS for compressor in ("", *COMPRESSORS)]


def codec(serializer="msgpack", compressor="", limit=LIMIT):
    return Codec(serializer, SERIALIZERS[serializer], compressor, COMPRESSORS.get(compressor), limit=limit)


def fresh(decoder, address, frame, after, now):
    """Return stamp and entry as the short way sees *frame*, beside others that came with it."""
    address = address.decode()
    (found, nothing, again), stamps = decoder.fresh([address] * 3, [frame, None, frame], after, now, -1)
    assert nothing is None
    assert (found is None) is (again is None)
    assert len(stamps) == 2 * (found is not None)
    assert decoder.fresh([address], [frame], after, now, 2**64)[1] == [], "no stamp is news"
    return None if found is None else (stamps[0], found)


def read(frame, address=KEY, decoder=DECODER):
    """Return what *frame* holds. Every test that calls this holds the short way to the long one, too."""
    try:
        head = decoder.head(address, frame)
        value = decoder.value(address, frame, head)
    except Undecodable:
        assert fresh(decoder, address, frame, -(2**64), -(2**64)) is None
        raise
    plain = fresh(decoder, address, frame, head.created_at - 1, head.fresh_until - 1)
    if plain is not None:
        times = (head.created_at, head.fresh_until, head.stale_until, head.tags, head.end)
        assert plain[0] == head.stamp
        assert plain[1][1:] == times
        assert same(plain[1].value, value)
    return value


def forged(**changes):
    parts = {
        "flags": 0,
        "serializer": b"msgpack",
        "compressor": b"",
        "created_at": 1,
        "fresh_until": 2,
        "stale_until": 3,
        "size": 1,
        "tags": (),
        "payload": b"\xc0",
    }
    return layout.pack(KEY, **(parts | changes))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "value", ["x", "tiercache " * 500, 0, -5, 2**63 - 1, -(2**63)], ids=lambda v: str(v)[:12]
)
def test_every_pair_brings_back_what_was_put_in(pair, value):
    one = codec(*pair)
    frame = one.encode(KEY, value, 10, 20, NEVER, ("a", "b"))
    head = DECODER.head(KEY, frame)
    assert (head.stamp, head.created_at, head.fresh_until, head.stale_until) == (10, 10, 20, NEVER)
    assert head.tags == ("a", "b")
    assert same(DECODER.value(KEY, frame, head), value)
    assert one.name == pair


def test_frames_of_old_settings_stay_readable():
    frames = [codec(*pair).encode(KEY, "tiercache " * 100, 1, 2, 3) for pair in PAIRS]
    assert {read(frame) for frame in frames} == {"tiercache " * 100}
    assert len(set(frames)) == len(frames)


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_ints_of_64_bits_are_counters_that_any_tier_can_raise(pair, value):
    frame = codec(*pair).encode(KEY, value, 1, 2, 3, ("tag",))
    head = DECODER.head(KEY, frame)
    assert (head.flags, head.serializer, head.compressor, head.size) == (layout.COUNTER, "", "", 0)
    assert frame[head.payload :] == str(value).encode()
    if value < 2**63 - 1:
        assert read(frame[: head.payload] + str(value + 1).encode()) == value + 1


@pytest.mark.parametrize("value", [True, False, 2**63, -(2**63) - 1, 1.0, type("Sub", (int,), {})(1)])
def test_nothing_else_is_a_counter(value):
    pickled = Codec("msgpack", PickleConfig(key=SecretStr("k" * 32)).build(None), limit=LIMIT)
    try:
        frame = codec().encode(KEY, value, 1, 2, 3)
    except Unserializable:
        assert type(value) not in {bool, int, float}
        with pytest.raises(Unserializable):
            pickled.encode(KEY, value, 1, 2, 3)
    else:
        assert DECODER.head(KEY, frame).flags == 0
        assert same(read(frame), value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"-",
        b"-0",
        b"00",
        b"01",
        b"+1",
        b" 1",
        b"1 ",
        b"1\n",
        b"1_0",
        b"\xd9\xa1",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 19 + b"0",
        b"9" * 10_000,
        b"1.0",
        b"1e3",
        b"x",
    ],
)
def test_a_counter_that_is_no_canonical_decimal_is_undecodable(payload):
    frame = forged(flags=layout.COUNTER, serializer=b"", size=0, payload=payload)
    with pytest.raises(Undecodable, match="no decimal of 64 bits"):
        DECODER.head(KEY, frame)


def test_a_tombstone_says_since_when_nothing_is_there():
    frame = tombstone(KEY, 7, 99)
    head = DECODER.head(KEY, frame)
    assert (head.stamp, head.created_at, head.fresh_until, head.stale_until) == (7, 7, 99, 99)
    assert read(frame) is MISSING
    with pytest.raises(Undecodable):
        DECODER.head(b"ns:other", frame)


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 3},
        {"flags": 5},
        {"flags": 6},
        {"flags": 7},
        {"flags": 1, "serializer": b"msgpack"},
        {"flags": 2, "serializer": b"pickle"},
        {"flags": 2, "compressor": b"zstd"},
        {"flags": 1, "payload": b"x"},
        {"flags": 1, "size": 1},
        {"flags": 2, "size": 1},
    ],
    ids=str,
)
def test_tombstones_and_counters_carry_nothing_else(changes):
    plain = {"serializer": b"", "size": 0, "payload": b"1" if changes["flags"] & 2 else b""}
    with pytest.raises(Undecodable):
        DECODER.head(KEY, forged(**(plain | changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"serializer": b"cbor"},
            'serializer "cbor", which is not known here; known are "json", "msgpack", "pickle", "raw"',
        ),
        ({"serializer": b""}, 'serializer ""'),
        ({"compressor": b"lz4"}, 'compressor "lz4", which is not known here; known are "zlib", "zstd"'),
        ({"serializer": b"pickle"}, 'serializer "pickle" must be sealed'),
        ({"flags": layout.SEALED}, 'serializer "msgpack" must not be sealed'),
        ({"size": LIMIT + 1}, f"a payload of {LIMIT + 1} bytes; at most {LIMIT} are accepted"),
    ],
)
def test_what_can_not_be_read_here_is_told_by_the_head_alone(changes, message):
    with pytest.raises(Undecodable, match=message):
        DECODER.head(KEY, forged(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 2},
        {"size": 0},
        {"payload": b""},
        {"payload": b"\xc1"},
        {"payload": b"\xc0\xc0"},
        {"compressor": b"zstd"},
        {"compressor": b"zlib"},
        {"serializer": b"raw"},
        {"serializer": b"json"},
    ],
    ids=str,
)
def test_a_payload_that_is_not_what_the_head_says_is_undecodable(changes):
    frame = forged(**changes)
    head = DECODER.head(KEY, frame)
    with pytest.raises(Undecodable):
        DECODER.value(KEY, frame, head)


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("claim", [999, 1001, 0, 1])
def test_a_compressed_payload_of_another_size_than_announced_is_undecodable(name, claim):
    data = COMPRESSORS[name].compress(SERIALIZERS["raw"].dumps(b"x" * 999))
    assert read(forged(serializer=b"raw", compressor=name.encode(), size=1000, payload=data)) == b"x" * 999
    with pytest.raises(Undecodable):
        read(forged(serializer=b"raw", compressor=name.encode(), size=claim, payload=data))


class Hostile:
    def __init__(self, error):
        self.error = error

    def dumps(self, value):
        raise self.error

    def loads(self, data):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RecursionError(),
        MemoryError(),
        ValueError("x"),
        KeyError("k"),
        OSError(),
        ZeroDivisionError(),
        EOFError(),
    ],
)
def test_whatever_a_serializer_raises_becomes_the_error_of_the_codec(error):
    hostile = Hostile(error)
    decoder = Decoder({"msgpack": hostile}, {}, limit=LIMIT)
    with pytest.raises(Undecodable, match=f'read by "msgpack": {type(error).__name__}') as caught:
        read(forged(), decoder=decoder)
    assert caught.value.__cause__ is error
    with pytest.raises(
        Unserializable, match=f'serializer "h" failed on a value of type list: {type(error).__name__}'
    ):
        Codec("h", hostile, limit=LIMIT).encode(KEY, [], 1, 2, 3)


class Failing:
    threshold = 0

    def compress(self, data):
        raise OSError("x")

    def decompress(self, data, limit):
        raise OSError("x")


def test_whatever_a_compressor_raises_becomes_the_error_of_the_codec():
    with pytest.raises(Unserializable, match='compressor "f" failed on'):
        Codec("raw", SERIALIZERS["raw"], "f", Failing(), limit=LIMIT).encode(KEY, b"x", 1, 2, 3)
    with pytest.raises(Undecodable, match='read by "raw" behind "f": OSError'):
        read(
            forged(serializer=b"raw", compressor=b"f"),
            decoder=Decoder(SERIALIZERS, {"f": Failing()}, limit=LIMIT),
        )


def test_only_what_reaches_the_threshold_and_shrinks_is_compressed():
    def compressor_of(value):
        return DECODER.head(KEY, codec("raw", "zstd").encode(KEY, value, 1, 2, 3)).compressor

    assert compressor_of(b"a" * 62) == ""
    assert compressor_of(b"a" * 63) == "zstd"
    assert compressor_of(random.Random(1).randbytes(5000)) == ""


def test_a_value_larger_than_the_limit_is_refused_with_both_sizes():
    small = codec("raw", "zstd", limit=100)
    assert read(small.encode(KEY, b"a" * 99, 1, 2, 3)) == b"a" * 99
    with pytest.raises(Unserializable, match="takes 101 bytes as raw; at most 100 are accepted"):
        small.encode(KEY, b"a" * 100, 1, 2, 3)


@pytest.mark.parametrize(
    ("stamps", "tags"),
    [
        ((-1, 2, 3), ()),
        ((1, 2**63, 3), ()),
        ((1, 2, 3), ["x"] * 65536),
        ((1, 2, 3), ["x" * 65536]),
        ((1, 2, 3), ["\ud800"]),
    ],
)
def test_what_no_frame_can_hold_is_refused(stamps, tags):
    for value in (1, "x"):
        with pytest.raises(Unserializable, match="no frame can hold"):
            codec().encode(KEY, value, *stamps, tags)


@pytest.mark.parametrize("name", ["", "ü", "x" * 256, "a\nb"])
def test_a_codec_has_a_name_that_frames_can_hold(name):
    with pytest.raises(ValueError, match="printable ASCII"):
        Codec(name, SERIALIZERS["raw"], limit=LIMIT)
    with pytest.raises(ValueError, match="printable ASCII"):
        Codec("raw", SERIALIZERS["raw"], name, COMPRESSORS["zlib"], limit=LIMIT)


@settings(max_examples=300, deadline=None)
@given(
    flags=st.integers(0, 7),
    serializer=st.sampled_from([b"", *(name.encode() for name in SERIALIZERS)]),
    compressor=st.sampled_from([b"", b"zstd", b"zlib"]),
    size=st.integers(0, 100) | st.just(2**32 - 1),
    tags=st.just(()) | st.just(("a",)),
    payload=st.binary(max_size=100),
)
def test_any_frame_with_a_fitting_checksum_is_a_value_or_undecodable(**parts):
    try:
        read(forged(**parts))
    except Undecodable:
        return


def test_a_plain_frame_is_read_the_short_way_once_its_like_was_met():
    decoder = Decoder(SERIALIZERS, COMPRESSORS, limit=LIMIT)
    frame = codec().encode(KEY, {"a": (1, None)}, 10, 20, 30)
    assert fresh(decoder, KEY, frame, 9, 19) is None
    decoder.head(KEY, frame)
    assert fresh(decoder, KEY, frame, 9, 19) == (10, ({"a": (1, None)}, 10, 20, 30, (), 0))
    raised = layout.restamped(frame, 99)
    assert fresh(decoder, KEY, raised, 9, 19) == (99, ({"a": (1, None)}, 10, 20, 30, (), 0))


def test_the_short_way_leaves_to_the_long_one_what_is_dead_damaged_or_out_of_the_ordinary():
    decoder = Decoder(SERIALIZERS, COMPRESSORS, limit=LIMIT)
    long = "tiercache " * 500
    frames = [
        frame
        for value in ("x", long, 7)
        for tags in ((), ("a",))
        for pair in PAIRS
        for frame in (codec(*pair).encode(KEY, value, 10, 20, 30, tags, end) for end in (0, 30))
    ]
    for frame in (*frames, tombstone(KEY, 10, 20)):
        decoder.head(KEY, frame)
    plain = codec().encode(KEY, "x", 10, 20, 30)
    assert fresh(decoder, KEY, plain, 9, 19) is not None
    assert fresh(decoder, KEY, plain, 10, 19) is None, "created with the marker"
    assert fresh(decoder, KEY, plain, 9, 20) is None, "over"
    assert fresh(decoder, b"ns:other", plain, 9, 19) is None
    assert fresh(decoder, KEY, plain + b"x", 9, 19) is None
    assert fresh(decoder, KEY, tombstone(KEY, 10, 20), 9, 19) is None
    assert fresh(decoder, KEY, codec().encode(KEY, 7, 10, 20, 30), 9, 19) is None, "a counter"
    assert fresh(decoder, KEY, codec().encode(KEY, "x", 10, 20, 30, ("a",)), 9, 19) is None
    assert fresh(decoder, KEY, codec().encode(KEY, "x", 10, 20, 20, (), 30), 9, 19) is None, "sliding"
    assert fresh(decoder, KEY, codec("pickle").encode(KEY, "x", 10, 20, 30), 9, 19) is None, "sealed"
    assert fresh(decoder, KEY, codec("msgpack", "zstd").encode(KEY, long, 10, 20, 30), 9, 19) is None
    assert fresh(Decoder(SERIALIZERS, {}, limit=3), KEY, plain, 9, 19) is None


def test_the_short_way_takes_no_payload_beyond_the_limit():
    decoder = Decoder(SERIALIZERS, COMPRESSORS, limit=10)
    decoder.head(KEY, codec().encode(KEY, "short", 10, 20, 30))
    assert fresh(decoder, KEY, codec().encode(KEY, "as long as this", 10, 20, 30), 9, 19) is None


def test_ten_thousand_corrupted_frames_never_give_a_wrong_value():
    chance = random.Random(20)
    keys = [b"ns:%d" % i for i in range(40)]
    pairs = [PAIRS[i % len(PAIRS)] for i in range(40)]
    texts = [f"value of {key} " * chance.choice((1, 40)) for key in keys]
    frames = [
        codec(*pair).encode(key, text, 1, 2, 3, ("tag",) * (i % 3))
        for i, (pair, key, text) in enumerate(zip(pairs, keys, texts, strict=True))
    ]
    for frame, key, text in zip(frames, keys, texts, strict=True):
        assert read(frame, key) == text
    undecodable = 0
    tracemalloc.start()
    try:
        for _ in range(10_000):
            i = chance.randrange(40)
            key, frame = keys[i], corrupted(chance, frames, i)
            try:
                assert read(frame, key) == texts[i]
            except Undecodable:
                undecodable += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    # What is left are flips inside the stamp, which a store may change.
    assert undecodable > 9_000


def corrupted(chance, frames, i):
    frame, other = frames[i], frames[(i + chance.randrange(1, 40)) % 40]
    match chance.randrange(6):
        case 0:
            return frame[: chance.randrange(len(frame))]
        case 1:
            return other
        case 2:
            cut = chance.randrange(9, min(len(frame), len(other)))
            spliced = frame[:cut] + other[cut:]
            return spliced if spliced != frame else b""
        case 3:
            return chance.randbytes(chance.randrange(200))
        case 4:
            at = chance.randrange(8, len(frame))
            return frame[:at] + chance.randbytes(1) + frame[at:]
        case _:
            changed = bytearray(frame)
            for bit in {chance.randrange(len(frame) * 8) for _ in range(chance.randrange(1, 9))}:
                changed[bit // 8] ^= 1 << bit % 8
            return bytes(changed)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_bomb_takes_no_more_than_the_frame_announced(name):
    bomb = COMPRESSORS[name].compress(bytes(64 << 20))
    for size in (10, 1000, LIMIT):
        frame = forged(serializer=b"raw", compressor=name.encode(), size=size, payload=bomb)
        tracemalloc.start()
        try:
            with pytest.raises(Undecodable):
                read(frame)
            assert tracemalloc.get_traced_memory()[1] < 3 * size + (1 << 20)
        finally:
            tracemalloc.stop()
