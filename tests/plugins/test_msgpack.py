import collections
import dataclasses
import enum
import functools
import math
import re
import sys
import threading
import typing
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from uuid import UUID

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from tiercache import Undecodable, Unserializable
from tiercache.testing.codecs import same
from tiercache_plugins.serializers.msgpack import MsgpackConfig
from tiercache_plugins.serializers.msgpack.forms import form_of
from tiercache_plugins.serializers.msgpack.serializer import MsgpackSerializer


class Colour(enum.Enum):
    RED = "r"
    ROT = "r"  # noqa: PIE796
    BLUE = ("b", 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: typing.Any = None

    @functools.cached_property
    def length(self):
        return self.x


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    name: str
    seen: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Empty:
    pass


class User(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    at: datetime | None = None
    points: list[Point] = []
    _secret: int = PrivateAttr(default=3)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True)

    pair: tuple[int, int]


class Plain:
    pass


TYPES = (Colour, Level, Right, Point, Frozen, Empty, User, Strict)


@pytest.fixture(autouse=True, scope="module")
def _importable():
    # Under import mode importlib the module need not be importable by the name that the option gives.
    sys.modules["named_here"] = sys.modules[__name__]
    yield
    del sys.modules["named_here"]


def named(*classes):
    return tuple(f"named_here:{cls.__qualname__}" for cls in classes)


@pytest.fixture(scope="module")
def serializer(_importable):
    return MsgpackConfig(types=named(*TYPES)).build(None)


@pytest.fixture(scope="module")
def plain():
    return MsgpackSerializer()


def refusal(serializer, value):
    with pytest.raises(Unserializable) as caught:
        serializer.dumps(value)
    return str(caught.value)


zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timezones(),
    st.builds(
        timezone,
        st.timedeltas(min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59)),
    ),
    st.builds(timezone, st.just(timedelta(hours=1)), st.text(max_size=4).filter(lambda s: s.isprintable())),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**130), 2**130),
    st.text(max_size=20),
    st.text(st.characters(categories=("Cs", "L")), max_size=4),
    st.binary(max_size=20),
    st.dates(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.times(timezones=st.sampled_from([None, UTC])),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.floats(allow_nan=False),
    st.sampled_from(list(Colour)),
    st.sampled_from(list(Level)),
    st.sampled_from([Right(0), Right.READ, Right.READ | Right.WRITE]),
)
keys = st.recursive(
    scalars, lambda below: st.tuples(below, below) | st.frozensets(below, max_size=3), max_leaves=3
)
values = st.recursive(
    scalars | st.binary(max_size=9).map(bytearray) | st.floats() | st.decimals(),
    lambda below: st.one_of(
        st.lists(below, max_size=4),
        st.lists(below, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=4), below, max_size=4),
        st.dictionaries(keys, below, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        st.builds(Point, st.integers(), below),
        st.builds(
            User, name=st.text(max_size=3), points=st.lists(st.builds(Point, st.integers()), max_size=2)
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(value=values)
def test_every_value_comes_back_equal_and_of_equal_types(serializer, value):
    assert same(serializer.loads(serializer.dumps(value)), value)


@settings(max_examples=80, deadline=None)
@given(value=values)
def test_the_walk_of_our_own_and_the_driver_agree(serializer, value):
    assert same(serializer.loads(serializer._rewritten(value)), value)


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_from_anywhere_are_undecodable_or_a_value(serializer, data):
    try:
        serializer.dumps(serializer.loads(data))
    except (Undecodable, Unserializable):
        pass


@settings(max_examples=80, deadline=None)
@given(value=values, data=st.data())
def test_damaged_bytes_never_give_a_mark(serializer, value, data):
    honest = bytearray(serializer.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        honest[data.draw(st.integers(0, len(honest) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = serializer.loads(bytes(honest))
    except Undecodable:
        return
    assert "Mark object" not in repr(back)


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    pass


class Moment(datetime):
    pass


class Pair(typing.NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    "value",
    [
        Text("x"),
        Bytes(b"x"),
        Pair(1, 2),
        Moment.now(),
        collections.OrderedDict(a=1),
        type("Sub", (int,), {})(1),
        collections.defaultdict(int),
        collections.deque(),
        type("Sub", (list,), {})(),
        memoryview(b"x"),
        type("Sub", (float,), {})(1.0),
        type("Sub", (Decimal,), {})(1),
        type("Sub", (UUID,), {})(int=1),
        Plain(),
        Plain,
        len,
        1j,
        range(3),
        ...,
        NotImplemented,
        memoryview(b"abcd")[::2],
        iter([]),
        Point(1),
        Colour.RED,
        Level.LOW,
        User(name="x"),
        ValueError("x"),
        re.compile("x"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize(
    "wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (1, v)}, lambda v: {1: {"x": v}}]
)
def test_what_would_come_back_as_another_type_is_refused(plain, value, wrap):
    assert type(value).__name__ in refusal(plain, wrap(value))


@pytest.mark.parametrize(
    "key", [Text("x"), Level.LOW, Colour.RED, Pair(1, 2), (1, Text("x")), frozenset({Level.LOW})]
)
def test_a_key_that_would_come_back_as_another_type_is_refused(plain, key):
    assert "can't be brought back" in refusal(plain, {key: 1})
    assert "can't be brought back" in refusal(plain, [{key: 1}, 1, {"x": 1}])


def test_a_refusal_names_the_part(serializer):
    bad = Plain()
    assert refusal(serializer, bad).startswith("value: ")
    assert refusal(serializer, {"user": [0, 1, 2, {"tags": bad}]}).startswith('value["user"][3]["tags"]: ')
    assert refusal(serializer, {"user": [Point(1, bad)]}).startswith('value["user"][0].y: ')
    assert refusal(serializer, User(name="x", more=bad)).startswith("value.more: ")
    assert refusal(serializer, {1: (bad,)}).startswith("value[1][0]: ")
    assert refusal(serializer, {(1, "a"): bad}).startswith("value[(1, 'a')]: ")
    assert refusal(serializer, [{bad}]).startswith("value[0]{…}: ")
    assert refusal(serializer, {"a": {bad: 1}}).startswith('value["a"].keys(): ')
    assert "test_msgpack.Plain" in refusal(serializer, bad) or "Plain" in refusal(serializer, bad)


def test_a_refusal_stays_short(serializer):
    value = Plain()
    for _ in range(50):
        value = {"long key " * 50: value}
    assert len(refusal(serializer, value)) < 700


def test_what_contains_itself_is_refused(plain):
    ring = [1]
    ring.append({"again": (ring,)})
    assert refusal(plain, ring) == 'value[1]["again"][0]: contains itself'
    loop = {}
    loop[1] = loop
    assert "contains itself" in refusal(plain, loop)


def test_the_same_part_twice_is_no_cycle(plain):
    part = [1, (2,)]
    assert same(plain.loads(plain.dumps([part, part, {1: part}])), [part, part, {1: part}])


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1: v}])
def test_nesting_comes_back_or_is_refused(plain, wrap):
    for depth in (10, 90, 120, 240, 260, 400, 5000, 100_000):
        value = 1
        for _ in range(depth):
            value = wrap(value)
        try:
            data = plain.dumps(value)
        except Unserializable as error:
            assert depth > 90
            assert "nested deeper than" in str(error)
        else:
            back = plain.loads(data)
            for _ in range(depth):
                [back] = back.values() if isinstance(back, dict) else back
            assert back == 1


def test_nested_models_come_back_or_are_refused(serializer):
    for depth in (70, 90, 120, 5000):
        value = 1
        for _ in range(depth):
            value = Point(1, value)
        try:
            data = serializer.dumps(value)
        except Unserializable as error:
            assert depth > 70
            assert "nested deeper than" in str(error)
        else:
            back = serializer.loads(data)
            for _ in range(depth):
                back = back.y
            assert back == 1


def test_hostile_nesting_ends_in_undecodable_also_where_the_stack_is_small(plain):
    hostile = [
        head * 200_000 + b"\xc0"
        for head in (
            b"\x91",
            b"\x81\xa1k",
            b"\x81\x91",
            b"\x92\xc7\x00\x20",
            b"\x92\xc7\x00\x23\xc0",
            b"\xc7\x03\x20",
        )
    ]
    seen = []

    def read():
        for data in hostile:
            with pytest.raises(Undecodable):
                plain.loads(data)
            seen.append(1)

    size = threading.stack_size(2 << 20)
    try:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert len(seen) == len(hostile)


@pytest.mark.parametrize("mark", range(32, 37))
def test_a_mark_where_none_can_be_is_undecodable(serializer, mark):
    ext = ormsgpack.Ext(mark, b"")
    for value in (ext, [1, ext], {"k": ext}, [[1], ext], [ext, ext], {1: [[1, ext]]}):
        with pytest.raises(Undecodable):
            serializer.loads(ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS))


@pytest.mark.parametrize(
    "data",
    [
        b"\x92\xc7\x01\x20x\xc7\x00\x20",
        b"\x92\xd4\x20x\x01",
        b"\x81\x92\xc7\x00\x20\x01\x01",
        b"\x81\xc7\x00\x20\x01",
        b"\x91\x81\x91\x91\xc7\x00\x23\x01",
    ],
    ids=["with bytes", "with one byte", "in a key", "as a key", "deep in a key"],
)
def test_a_mark_in_a_key_or_with_bytes_is_undecodable(plain, data):
    with pytest.raises(Undecodable):
        plain.loads(data)


@pytest.mark.parametrize("encoding", [b"\xc8\x00\x00", b"\xc9\x00\x00\x00\x00"])
def test_a_mark_written_in_another_way_is_undecodable(plain, encoding):
    assert plain.loads(b"\x92\xc7\x00\x20\x01") == (1,)
    with pytest.raises(Undecodable):
        plain.loads(b"\x92" + encoding + b"\x20\x01")


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        (0, b""),
        (2, b"x"),
        (2, b"1e99999999999999999999"),
        (2, b"\xff"),
        (3, b"x"),
        (4, b"\0\0\0\0"),
        (5, b"xx"),
        (6, bytes(12)),
        (6, b"\x07\xe9\x01\x01" + bytes(7) + b"\x08" + b"../../etc/passwd"),
        (6, b"\x07\xe9\x01\x01" + bytes(7) + b"\x08No/Where"),
        (6, b"\x07\xe9\x01\x01" + bytes(7) + b"\x0a"),
        (6, b"\x07\xe9\x01\x01" + bytes(7) + b"\x04" + b"\x7f" * 8),
        (7, b"\x7f" * 12),
        (9, b"\xff"),
        (99, b"x"),
        (127, b""),
    ],
)
def test_an_extension_that_makes_no_sense_is_undecodable(plain, tag, data):
    with pytest.raises(Undecodable):
        plain.loads(ormsgpack.packb(ormsgpack.Ext(tag, data)))


def test_enums_dataclasses_and_models_come_back(serializer):
    user = User(name="x", at=datetime.now(UTC), points=[Point(1, (2,))], more={1: "extra"})
    user._secret = 8
    frozen = Frozen(name="f")
    point = Point(3, Colour.BLUE)
    assert point.length == 3
    value = [
        user,
        frozen,
        point,
        Empty(),
        Strict(pair=(1, 2)),
        Colour.ROT,
        Level.HIGH,
        Right.READ | Right.WRITE,
        {Level.LOW: 1, Colour.RED: {Right.READ}},
    ]
    back = serializer.loads(serializer.dumps(value))
    assert same(back, value)
    assert back[0]._secret == 8
    assert back[0].model_fields_set == user.model_fields_set
    assert back[0].model_extra == {"more": {1: "extra"}}
    assert back[5] is Colour.RED
    assert "length" not in vars(back[2])


def test_bytes_that_would_come_back_as_another_type_are_found_inside_models(serializer):
    value = [b"x", Point(1, [bytearray(b"y")]), User(name="n", raw=bytearray(b"z"))]
    assert same(serializer.loads(serializer.dumps(value)), value)
    assert "memoryview" in refusal(serializer, [Point(1, {"k": [memoryview(b"y")]})])


def test_a_subclass_of_a_registered_type_is_refused(serializer):
    @dataclasses.dataclass
    class Deeper(Point):
        pass

    assert "Deeper" in refusal(serializer, [Deeper(1)])


def test_state_beside_the_fields_is_refused_and_not_lost(serializer):
    point = Point(1)
    point.extra = 1
    assert 'value[0]: the attribute "extra" is no field' in refusal(serializer, [point])
    unset = Frozen.__new__(Frozen)
    assert "never set" in refusal(serializer, unset)


def test_a_class_that_has_changed_since_is_undecodable(serializer):
    dumped = {
        cls: serializer.dumps(value)
        for cls, value in (
            (Point, Point(1)),
            (User, User(name="x")),
            (Colour, Colour.BLUE),
            (Strict, Strict(pair=(1, 2))),
        )
    }

    @dataclasses.dataclass
    class Point3(Point):
        z: int = 0

    @dataclasses.dataclass
    class Point1:
        x: int

    class Grown(User):
        age: int = 0

    class Hidden(Strict):
        _more: int = 1

    class Fewer(enum.Enum):
        RED = 1

    for old, new in (
        (Point, Point3),
        (Point, Point1),
        (User, Grown),
        (Strict, Hidden),
        (Colour, Fewer),
        (Point, Fewer),
        (User, Point3),
    ):
        changed = MsgpackSerializer([_renamed(new, f"named_here:{old.__qualname__}")])
        with pytest.raises(Undecodable):
            changed.loads(dumped[old])


def _renamed(cls, name):
    sys.modules["named_here"].Renamed = cls
    form = form_of("named_here:Renamed")
    form.name = name
    return form


def test_a_type_that_is_no_longer_registered_is_undecodable(serializer, plain):
    with pytest.raises(Undecodable, match="named_here:Point"):
        plain.loads(serializer.dumps(Point(1)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:X", "can't be imported: ModuleNotFoundError"),
        ("named_here:Missing", "can't be imported"),
        ("named_here:Plain", "neither Enum, dataclass nor pydantic model"),
        ("named_here:named", "is no class"),
        ("datetime:datetime", "neither Enum"),
    ],
)
def test_a_type_that_can_not_be_taken_is_a_problem(name, message):
    config = MsgpackConfig(types=(name,))
    [(option, problem)] = config.check(None)
    assert option == "types"
    assert message in problem
    assert name in problem
    with pytest.raises(ValueError, match=message):
        config.build(None)


@pytest.mark.parametrize("name", ["", "x", "x.y", "x:", ":x", "x y:z", "x:y:z", "../x:y", "1x:y"])
def test_a_name_that_names_no_type_is_refused(name):
    with pytest.raises(ValidationError, match="package.module:Class"):
        MsgpackConfig(types=(name,))


def test_a_type_named_twice_is_refused():
    with pytest.raises(ValidationError, match="twice"):
        MsgpackConfig(types=("a:B", "a:B"))


def test_a_zone_that_can_not_be_named_is_refused(plain):
    class Zone(tzinfo):
        def utcoffset(self, when):
            return timedelta(0)

    message = refusal(plain, {"at": [datetime(2026, 1, 1, tzinfo=Zone())]})
    assert message.startswith('value["at"][0]: a time in a zone of type')
    assert "zoneinfo.ZoneInfo" in message


def test_the_order_of_a_dict_is_kept(plain):
    for value in ({"z": 1, "a": 2, "m": 3}, {3: 1, 1: 2, 2: 3}, {(2,): 1, (1,): 2}):
        assert list(plain.loads(plain.dumps(value))) == list(value)


def test_nan_and_zero_keep_their_sign_and_kind(plain):
    assert math.isnan(plain.loads(plain.dumps(math.nan)))
    assert math.copysign(1, plain.loads(plain.dumps({"z": -0.0}))["z"]) == -1
    assert [type(x) for x in plain.loads(plain.dumps([1, True, 1.0]))] == [int, bool, float]


def test_many_values_beside_each_other_are_no_nesting(plain):
    value = [(i, date(2026, 1, 1), time(i % 24), {i}) for i in range(5000)]
    assert same(plain.loads(plain.dumps(value)), value)
