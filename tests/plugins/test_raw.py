import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import Undecodable, Unserializable
from tiercache_plugins.serializers.raw import RawConfig


@pytest.fixture(scope="module")
def serializer():
    return RawConfig().build(None)


@given(value=st.binary() | st.text())
def test_bytes_and_text_come_back_as_what_they_were(serializer, value):
    back = serializer.loads(serializer.dumps(value))
    assert type(back) is type(value)
    assert back == value


@given(value=st.binary())
def test_one_byte_is_all_that_is_added(serializer, value):
    assert len(serializer.dumps(value)) == len(value) + 1


def test_a_refusal_says_what_is_taken(serializer):
    with pytest.raises(Unserializable, match='takes bytes and str, not dict; "msgpack" takes more'):
        serializer.dumps({})


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [Text("x"), bytearray(b"x"), "\udc80"])
def test_subclasses_and_lone_surrogates_are_refused(serializer, value):
    with pytest.raises(Unserializable):
        serializer.dumps(value)


@pytest.mark.parametrize("data", [b"", b"x", b"\0", b"s\xff"])
def test_other_bytes_are_undecodable(serializer, data):
    with pytest.raises(Undecodable):
        serializer.loads(data)
