"""Extension types without parts: each is a tag and the bytes of one value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from tiercache import Undecodable, Unserializable

INT: Final = 1
DECIMAL: Final = 2
UUID_: Final = 3
DATE: Final = 4
TIME: Final = 5
DATETIME: Final = 6
TIMEDELTA: Final = 7
BYTEARRAY: Final = 8
TEXT: Final = 9

_DATE = struct.Struct(">HBB")
_TIME = struct.Struct(">BBBIB")
_DATETIME = struct.Struct(">HBBBBBIB")
_TIMEDELTA = struct.Struct(">iii")
_OFFSET = struct.Struct(">q")
_FOLD: Final = 1
_NO_ZONE: Final = 0
_UTC: Final = 2
_FIXED: Final = 4
_NAMED: Final = 6
_PLACE: Final = 8
_MICROSECOND: Final = timedelta(microseconds=1)


def _int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _decimal(value: Decimal) -> bytes:
    return str(value).encode()


def _read_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _uuid(value: UUID) -> bytes:
    return value.bytes


def _read_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _date(value: date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _read_date(data: bytes) -> date:
    return date(*_DATE.unpack(data))


def _time(value: time | datetime) -> bytes:
    zone, kind = _zone(value.tzinfo)
    fields = value.hour, value.minute, value.second, value.microsecond, kind | value.fold
    return _TIME.pack(*fields) + zone


def _read_time(data: bytes) -> time:
    hour, minute, second, microsecond, kind = _TIME.unpack_from(data)
    zone = _read_zone(kind & ~_FOLD, data[_TIME.size :])
    return time(hour, minute, second, microsecond, zone, fold=kind & _FOLD)


def _datetime(value: datetime) -> bytes:
    return _date(value) + _time(value)


def _read_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, kind = _DATETIME.unpack_from(data)
    zone = _read_zone(kind & ~_FOLD, data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=kind & _FOLD)


def _zone(zone: tzinfo | None) -> tuple[bytes, int]:
    if zone is None:
        return b"", _NO_ZONE
    if zone is UTC:
        return b"", _UTC
    if type(zone) is timezone:
        # Without a name of its own it makes one up; `__reduce__` is the one place that tells them apart.
        arguments: tuple[Any, ...] = zone.__reduce__()[1]  # type: ignore[assignment]
        offset = _OFFSET.pack(arguments[0] // _MICROSECOND)
        if len(arguments) == 1:
            return offset, _FIXED
        return offset + arguments[1].encode(), _NAMED
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key.encode(), _PLACE
    raise Unserializable(
        f"a time in a zone of type {type(zone).__module__}.{type(zone).__qualname__}; "
        "datetime.timezone and zoneinfo.ZoneInfo with a key are accepted"
    )


def _read_zone(kind: int, data: bytes) -> tzinfo | None:
    if kind == _NO_ZONE and not data:
        return None
    if kind == _UTC and not data:
        return UTC
    if kind == _FIXED:
        return timezone(timedelta(microseconds=_OFFSET.unpack(data)[0]))
    if kind == _NAMED:
        return timezone(timedelta(microseconds=_OFFSET.unpack_from(data)[0]), data[_OFFSET.size :].decode())
    if kind == _PLACE:
        return ZoneInfo(data.decode("ascii"))
    raise Undecodable("a time in a zone of unknown kind")


def _timedelta(value: timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _read_timedelta(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _read_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


WRITERS: Final[Mapping[type, tuple[int, Callable[[Any], bytes]]]] = MappingProxyType({
    int: (INT, _int),
    Decimal: (DECIMAL, _decimal),
    UUID: (UUID_, _uuid),
    date: (DATE, _date),
    time: (TIME, _time),
    datetime: (DATETIME, _datetime),
    timedelta: (TIMEDELTA, _timedelta),
    bytearray: (BYTEARRAY, bytes),
    str: (TEXT, _text),
})  # fmt: skip
"""Tag and writer of each type. An int is here beyond 64 bits, a str with lone surrogates, alone."""

READERS: Final[Mapping[int, Callable[[bytes], Any]]] = MappingProxyType({
    INT: _read_int,
    DECIMAL: _read_decimal,
    UUID_: _read_uuid,
    DATE: _read_date,
    TIME: _read_time,
    DATETIME: _read_datetime,
    TIMEDELTA: _read_timedelta,
    BYTEARRAY: bytearray,
    TEXT: _read_text,
})  # fmt: skip
"""Reader of each tag."""
