"""A serializer in the manner of bencode, and gzip for stores that other programs read."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from tiercache import (
    Compressor,
    CompressorConfig,
    Context,
    Serializer,
    SerializerConfig,
    Size,
    Undecodable,
    Unserializable,
    hookimpl,
)

_DEEPEST: Final = 100
_LONGEST: Final = 4000
_NUMBER: Final = re.compile(rb"-?[0-9]{1,4001}(?=e)")
_FLOAT: Final = re.compile(rb"(-?inf|nan|-?0x[01]\.[0-9a-f]{1,13}p[-+][0-9]{1,4})(?=;)")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}(?=:)")
_CONSTANTS: Final[Mapping[bytes, Any]] = MappingProxyType({b"n": None, b"t": True, b"f": False})


class Bencode:
    """`n`, `t` and `f`; `i42e`; `r0x1.8p+1;`; `b3:…`, `s3:…`; `l…e`; `d…e`, keys and values in turn."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* as bytes. Raises Unserializable for what is none of the above."""
        parts: list[bytes] = []
        _write(value, parts, "value", 0)
        return b"".join(parts)

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*. Raises Undecodable."""
        value, end = _read(data, 0, 0)
        if end != len(data):
            raise Undecodable(f"{len(data) - end} bytes behind the value")
        return value


def _write(value: Any, parts: list[bytes], where: str, depth: int) -> None:
    kind = type(value)
    if depth > _DEEPEST:
        raise Unserializable(f"{where}: nested deeper than {_DEEPEST}")
    if value is None:
        parts.append(b"n")
    elif kind is bool:
        parts.append(b"t" if value else b"f")
    elif kind is int and abs(value) < 10**_LONGEST:
        parts.append(b"i%de" % value)
    elif kind is float:
        parts.append(b"r" + value.hex().encode() + b";")
    elif kind is bytes:
        parts += (b"b%d:" % len(value), value)
    elif kind is str:
        try:
            text = value.encode()
        except UnicodeEncodeError as error:
            raise Unserializable(f"{where}: a str with a lone surrogate") from error
        parts += (b"s%d:" % len(text), text)
    elif kind is list:
        parts.append(b"l")
        for index, item in enumerate(value):
            _write(item, parts, f"{where}[{index}]", depth + 1)
        parts.append(b"e")
    elif kind is dict and all(type(key) is str for key in value):
        parts.append(b"d")
        for key, item in value.items():
            _write(key, parts, where, depth + 1)
            _write(item, parts, f"{where}[{key!r}]", depth + 1)
        parts.append(b"e")
    else:
        raise Unserializable(f"{where}: {kind.__name__} can't be brought back")


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise Undecodable(f"nested deeper than {_DEEPEST}")
    mark, at = data[at : at + 1], at + 1
    if mark in _CONSTANTS:
        return _CONSTANTS[mark], at
    if mark == b"i" and (number := _NUMBER.match(data, at)):
        return int(number[0]), number.end() + 1
    if mark == b"r" and (number := _FLOAT.match(data, at)):
        try:
            return float.fromhex(number[0].decode()), number.end() + 1
        except (ValueError, OverflowError) as error:
            raise Undecodable("no float") from error
    if mark in {b"b", b"s"} and (length := _LENGTH.match(data, at)):
        start, end = length.end() + 1, length.end() + 1 + int(length[0])
        if end > len(data):
            raise Undecodable("cut off")
        if mark == b"b":
            return data[start:end], end
        try:
            return data[start:end].decode(), end
        except UnicodeDecodeError as error:
            raise Undecodable("text that is no UTF-8") from error
    if mark in {b"l", b"d"}:
        items: list[Any] = []
        while data[at : at + 1] != b"e":
            item, at = _read(data, at, depth + 1)
            items.append(item)
        if mark == b"l":
            return items, at + 1
        if len(items) % 2 or any(type(key) is not str for key in items[::2]):
            raise Undecodable("a dict without pairs of str and value")
        return dict(zip(items[::2], items[1::2], strict=True)), at + 1
    raise Undecodable(f"nothing known at byte {at - 1}")


class BencodeConfig(SerializerConfig):
    """None, bool, int, float, bytes, str, list, and dict with str keys."""

    type: Literal["bencode"] = "bencode"

    reads_undeclared: ClassVar[bool] = True

    def build(self, context: Context) -> Serializer:
        """Return the serializer."""
        del context
        return Bencode()


class Gzip:
    """The format of RFC 1952."""

    def __init__(self, level: int, threshold: int) -> None:
        self._level = level
        self.threshold = threshold

    def compress(self, data: bytes) -> bytes:
        """Return *data* as a gzip file."""
        stream = zlib.compressobj(self._level, zlib.DEFLATED, 31)
        return stream.compress(data) + stream.flush()

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Undo `compress`. Raises Undecodable."""
        stream = zlib.decompressobj(31)
        try:
            out = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise Undecodable(f"damaged: {error}") from error
        if len(out) > limit or not stream.eof or stream.unused_data:
            raise Undecodable("longer than announced, cut off, or with something behind its end")
        return out


class GzipConfig(CompressorConfig):
    """gzip, as other programs read it."""

    type: Literal["gzip"] = "gzip"
    level: int = Field(6, ge=1, le=9, description="1 is the fastest, 9 the smallest.")
    threshold: Size = Field(512, description="Values smaller than this are stored as they are.")

    def build(self, context: Context) -> Compressor:
        """Return the compressor."""
        del context
        return Gzip(self.level, self.threshold)


@hookimpl
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer of this module."""
    return [BencodeConfig]


@hookimpl
def tiercache_compressors() -> Iterable[type[CompressorConfig]]:
    """Return the compressor of this module."""
    return [GzipConfig]
