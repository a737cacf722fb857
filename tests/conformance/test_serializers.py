import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from tiercache.testing.codecs import SerializerSuite
from tiercache_plugins.serializers.json import JsonConfig
from tiercache_plugins.serializers.msgpack import MsgpackConfig
from tiercache_plugins.serializers.pickle import PickleConfig
from tiercache_plugins.serializers.raw import RawConfig

PLAIN = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    -(2**63),
    2**64,
    10**100,
    0.0,
    -0.0,
    0.1,
    1e308,
    5e-324,
    "",
    "text",
    "grüße, 世界 🌍",
    "\0\x7f\u2028",
    [],
    {},
    [1, True, 1.0, None, "1"],
    [[[[]]], {}],
    {"b": 1, "a": {"": [None]}, "1": 2},
    [{"id": i, "name": f"user {i}"} for i in range(50)],
]
RICH = [
    math.nan,
    math.inf,
    -math.inf,
    b"",
    b"\xc4\xc7\x00\xff" * 20,
    bytearray(b"mutable"),
    (),
    (1, (2, [3])),
    {1, "1", None},
    frozenset({(1, 2), b"x"}),
    {1: "int", "1": "str", None: 0, 2.5: 1, b"k": 2, (1, "a"): 3, 2**70: 4},
    {True: 1},
    {1.0: 1},
    {1: 1},
    {frozenset({1}): date(2026, 1, 2)},
    datetime.min,  # noqa: DTZ901
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, microseconds=7))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "MEZ")),
    date(2026, 2, 28),
    time(1, 2, 3, 4, fold=1),
    time(1, tzinfo=UTC),
    timedelta.min,
    timedelta.max,
    Decimal("1.50"),
    Decimal("-0"),
    Decimal("NaN"),
    Decimal("1E+1000"),
    UUID(int=0),
    UUID(int=2**128 - 1),
]


class TestMsgpack(SerializerSuite):
    @pytest.fixture
    def serializer(self):
        return MsgpackConfig().build(None)

    @pytest.fixture
    def values(self):
        return [*PLAIN, *RICH, "\ud800 lone", {"\udfff": 1}]

    @pytest.fixture
    def refused(self):
        return [object(), lambda: 0, 1j, memoryview(b"x"), range(3), [object()], {"a": {"b": ...}}]


class TestJson(SerializerSuite):
    @pytest.fixture
    def serializer(self):
        return JsonConfig().build(None)

    @pytest.fixture
    def values(self):
        return PLAIN

    @pytest.fixture
    def refused(self):
        return [*RICH, "\ud800", "\ud800\udc00", [(1,)], {"a": {1: 2}}, {"1": 1, 1: 2}, object()]


class TestRaw(SerializerSuite):
    @pytest.fixture
    def serializer(self):
        return RawConfig().build(None)

    @pytest.fixture
    def values(self):
        return [b"", b"\0\xff", "", "grüße 🌍", b"b", "s"]

    @pytest.fixture
    def refused(self):
        return [None, 1, 1.0, True, bytearray(b"x"), memoryview(b"x"), "\ud800", [], {}]


class TestPickle(SerializerSuite):
    @pytest.fixture(params=["blake2b", "hmac-sha256"])
    def serializer(self, request):
        return PickleConfig(key=SecretStr("k" * 32), algorithm=request.param).build(None)

    @pytest.fixture
    def values(self):
        return [*PLAIN, *RICH, 1j, range(3)]

    @pytest.fixture
    def refused(self):
        return [lambda: 0, (i for i in ()), memoryview(b"x")]
