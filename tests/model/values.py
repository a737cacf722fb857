"""Values as strategies: everything that msgpack brings back, and what narrower serializers take of it."""

from __future__ import annotations

import math
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

COUNTED = range(-(2**63), 2**63)
_ZONES = st.sampled_from((None, UTC, timezone(timedelta(hours=-3)), ZoneInfo("Europe/Berlin")))

_NUMBERS = st.one_of(
    st.integers(-9, 9),
    st.integers(),
    st.sampled_from((2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**40)),
    st.floats(),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    _NUMBERS,
    st.text(max_size=12),
    st.binary(max_size=40),
    st.dates(),
    st.datetimes(timezones=_ZONES),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False) | st.just(Decimal("NaN")),
    st.uuids(),
)
_HASHABLE = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
_NESTED = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_HASHABLE, inner, max_size=3),
        st.sets(_HASHABLE, max_size=3),
    ),
    max_leaves=6,
)
# Long enough for a compressor to try.
_LONG = st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=5), st.integers(300, 900))

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-9, 9), st.none(), _SCALARS, _NESTED, st.binary().map(bytearray), _LONG
)


def fits(serializer: str, value: Any) -> bool:
    """Whether *serializer* takes *value*."""
    if type(value) is int and value in COUNTED:
        return True
    if serializer == "json":
        return _plain(value)
    if serializer == "raw":
        return type(value) in {str, bytes}
    return True


def _plain(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is list:
        return all(map(_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_plain, value.values()))
    return value is None or type(value) in {bool, int, str}
