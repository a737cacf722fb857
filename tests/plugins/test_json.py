import collections
import enum
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache import Undecodable, Unserializable
from tiercache.testing.codecs import same
from tiercache_plugins.serializers.json import JsonConfig


@pytest.fixture(scope="module")
def serializer():
    return JsonConfig().build(None)


def refusal(serializer, value):
    with pytest.raises(Unserializable) as caught:
        serializer.dumps(value)
    return str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=20,
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters(), max_size=9),
    lambda below: (
        st.lists(below) | st.lists(below).map(tuple) | st.dictionaries(st.text() | st.integers(), below)
    ),
    max_leaves=9,
)


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_what_json_knows_comes_back(serializer, value):
    assert same(serializer.loads(serializer.dumps(value)), value)


@settings(max_examples=300, deadline=None)
@given(value=anything)
def test_any_value_comes_back_the_same_or_is_refused(serializer, value):
    try:
        data = serializer.dumps(value)
    except Unserializable:
        return
    assert same(serializer.loads(data), value)


class Text(str):
    __slots__ = ()


class Single(typing.NamedTuple):
    a: int


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value",
    [
        (1,),
        {1: 2},
        {None: 1},
        {True: 1},
        {Text("x"): 1},
        Text("x"),
        Level.LOW,
        b"x",
        {1},
        float("nan"),
        float("-inf"),
        collections.OrderedDict(),
        Single(1),
        10**5000,
        "\ud800",
        {"\ud800": 1},
        "\ud800\udc00",
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, v], lambda v: {"k": [v]}])
def test_what_json_would_change_is_refused(serializer, value, wrap):
    refusal(serializer, wrap(value))


def test_a_refusal_names_the_part(serializer):
    assert refusal(serializer, {"a": [1, {"b": (1,)}]}).startswith('value["a"][1]["b"]: tuple ')
    assert refusal(serializer, {"a": [1, {"b": {1: 2}}]}).startswith('value["a"][1]["b"]: the key 1 is int')
    assert refusal(serializer, [0.0, float("nan")]).startswith("value[1]: ")
    assert refusal(serializer, ["fine", "\ud800"]).startswith("value[1]: ")


def test_what_contains_itself_is_refused(serializer):
    ring = []
    ring.append({"again": ring})
    assert refusal(serializer, ring) == 'value[0]["again"]: contains itself'


def test_deep_nesting_comes_back_or_is_refused(serializer):
    for depth in (100, 100_000):
        value = []
        for _ in range(depth):
            value = [value]
        if depth == 100:
            assert same(serializer.loads(serializer.dumps(value)), value)
        else:
            assert "nested too deeply" in refusal(serializer, value)


@pytest.mark.parametrize(
    "data", [b"", b"NaN", b"[Infinity]", b"{", b'"\xff"', b"1 2", b"[" * 10**6, b"1" * 10**5, b"nul"]
)
def test_what_is_no_json_is_undecodable(serializer, data):
    with pytest.raises(Undecodable):
        serializer.loads(data)
