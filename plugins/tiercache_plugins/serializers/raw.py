"""Bytes and text as they are: nothing to encode, nothing to get wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from tiercache import Context, Serializer, SerializerConfig, Undecodable, Unserializable, hookimpl

_BYTES = b"b"
_TEXT = b"s"


class RawSerializer:
    """One byte that tells bytes from text, then the value itself."""

    def dumps(self, value: Any) -> bytes:
        """Return *value*, which must be bytes or str, behind one byte of its type."""
        if type(value) is bytes:
            return _BYTES + value
        if type(value) is str:
            try:
                return _TEXT + value.encode()
            except UnicodeEncodeError as error:
                raise Unserializable("value: a str with a lone surrogate is no valid UTF-8") from error
        raise Unserializable(
            f'value: the serializer "raw" takes bytes and str, not {type(value).__name__}; '
            '"msgpack" takes more'
        )

    def loads(self, data: bytes) -> bytes | str:
        """Return the bytes or the text behind the first byte of *data*."""
        tag = data[:1]
        if tag == _BYTES:
            return data[1:]
        if tag == _TEXT:
            try:
                return data[1:].decode()
            except UnicodeDecodeError as error:
                raise Undecodable("text that is no valid UTF-8") from error
        raise Undecodable("neither bytes nor text")


class RawConfig(SerializerConfig):
    """Bytes and str alone, stored as they are. Any other value is refused."""

    type: Literal["raw"] = "raw"

    reads_undeclared: ClassVar[bool] = True

    def build(self, context: Context) -> Serializer:
        """Return the serializer; it has no state."""
        del context
        return RawSerializer()


@hookimpl
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer type of this module."""
    return [RawConfig]
