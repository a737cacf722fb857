import pickle

import pytest
from pydantic import SecretStr, ValidationError

from tiercache import Undecodable, Unserializable
from tiercache import frame as layout
from tiercache.engine.codec import Codec, Decoder
from tiercache_plugins.serializers.msgpack import MsgpackConfig
from tiercache_plugins.serializers.pickle import PickleConfig

OLD, NEW, OTHER = "old key of 20 bytes!", "new key of 20 bytes!", "somebody else's key!"
LIMIT = 1 << 20


class Boom:
    went_off = 0

    def __reduce__(self):
        return _go_off, ()


def _go_off():
    Boom.went_off += 1


def build(key=NEW, **options):
    return PickleConfig(key=SecretStr(key), **options).build(None)


def frame_of(serializer, value=(1, 2), address=b"ns:key", stamps=(1, 2, 3), tags=("t",)):
    return Codec("pickle", serializer, limit=LIMIT).encode(address, value, *stamps, tags)


def read(serializer, frame, address=b"ns:key"):
    decoder = Decoder({"pickle": serializer}, {}, limit=LIMIT)
    return decoder.value(address, frame, decoder.head(address, frame))


def refitted(frame, address, head=None):
    """Return *frame* with a checksum that fits *address*: what whoever can write to the store would do."""
    head = frame[:44] if head is None else head
    return head + layout._checksum(address, head, frame[48:]).to_bytes(4, "big") + frame[48:]


def test_signed_values_come_back():
    assert read(build(), frame_of(build())) == (1, 2)


@pytest.mark.parametrize("algorithm", ["blake2b", "hmac-sha256"])
def test_nothing_is_unpickled_before_the_signature_holds(algorithm):
    mine, theirs = build(algorithm=algorithm), build(OTHER, algorithm=algorithm)
    Boom.went_off = 0
    with pytest.raises(Undecodable, match="key that is not among"):
        read(mine, frame_of(theirs, Boom()))
    frame = frame_of(mine, Boom())
    damaged = frame[:-1] + bytes([frame[-1] ^ 1])
    with pytest.raises(Undecodable, match="signature"):
        read(mine, refitted(damaged, b"ns:key"))
    assert Boom.went_off == 0


def test_a_frame_that_says_it_needs_no_seal_is_undecodable():
    Boom.went_off = 0
    data = pickle.dumps(Boom())
    for flags in (0, layout.COUNTER, layout.TOMBSTONE, layout.COUNTER | layout.SEALED):
        forged = layout.pack(
            b"ns:key",
            flags=flags,
            serializer=b"pickle",
            compressor=b"",
            created_at=1,
            fresh_until=2,
            stale_until=3,
            size=len(data),
            tags=(),
            payload=data,
        )
        with pytest.raises(Undecodable):
            read(build(), forged)
    assert Boom.went_off == 0


def test_a_sealed_frame_moved_to_another_key_is_undecodable():
    frame = frame_of(build())
    with pytest.raises(Undecodable, match="signature"):
        read(build(), refitted(frame, b"ns:other"), b"ns:other")


def test_a_sealed_frame_given_another_life_is_undecodable():
    frame = frame_of(build())
    # created_at, fresh_until, stale_until, size; the stamp in front may be raised by the store.
    for place in range(8, 44):
        changed = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 : 44]
        with pytest.raises(Undecodable):
            read(build(), refitted(frame, b"ns:key", changed))
    assert read(build(), refitted(frame, b"ns:key", bytes(8) + frame[8:44])) == (1, 2)


def test_a_sealed_frame_given_other_tags_is_undecodable():
    frame = frame_of(build(), tags=("aaaa",))
    with pytest.raises(Undecodable, match="signature"):
        read(build(), refitted(frame.replace(b"aaaa", b"bbbb"), b"ns:key"))


def test_a_serializer_that_does_not_seal_reads_no_sealed_frame():
    decoder = Decoder({"pickle": MsgpackConfig().build(None)}, {}, limit=LIMIT)
    with pytest.raises(Undecodable, match="must not be sealed"):
        decoder.head(b"ns:key", frame_of(build()))


def test_a_new_key_reads_what_the_previous_one_signed():
    frame = frame_of(build(OLD))
    assert read(build(NEW, previous_keys=(SecretStr(OLD),)), frame) == (1, 2)
    with pytest.raises(Undecodable):
        read(build(NEW), frame)
    with pytest.raises(Undecodable):
        read(build(OLD), frame_of(build(NEW, previous_keys=(SecretStr(OLD),))))


def test_another_algorithm_reads_what_the_previous_one_signed():
    assert read(build(algorithm="hmac-sha256"), frame_of(build(algorithm="blake2b"))) == (1, 2)
    assert read(build(algorithm="blake2b"), frame_of(build(algorithm="hmac-sha256"))) == (1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": "x" * 15},
        {"key": OLD, "previous_keys": ["short secret"]},
        {"key": OLD, "previous_keys": [OLD]},
        {"key": NEW, "previous_keys": [OLD, OLD]},
        {"key": OLD, "algorithm": "md5"},
    ],
)
def test_keys_that_are_missing_short_or_doubled_are_refused_without_being_told(options):
    with pytest.raises(ValidationError) as caught:
        PickleConfig(**options)
    for secret in ("x" * 15, "short secret", OLD):
        assert secret not in str(caught.value)


def test_no_repr_tells_a_key():
    config = PickleConfig(key=OLD, previous_keys=(NEW,))
    serializer = config.build(None)
    for text in (
        repr(config),
        str(config),
        repr(serializer),
        str(config.model_dump()),
        config.model_dump_json(),
    ):
        assert OLD not in text
        assert NEW not in text


def test_the_id_of_a_key_does_not_tell_the_key():
    ids = {
        build(key, algorithm=name).seal(b"", b"")[:8]
        for key in (OLD, NEW)
        for name in ("blake2b", "hmac-sha256")
    }
    assert len(ids) == 4
    assert not any(key.encode()[:4] in one for one in ids for key in (OLD, NEW))


def test_what_can_not_be_pickled_is_refused_with_the_reason():
    with pytest.raises(Unserializable, match="function can't be pickled: .*lambda"):
        build().dumps(lambda: 0)
