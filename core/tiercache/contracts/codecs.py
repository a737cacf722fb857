"""Serializers and compressors."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


class Serializer(Protocol):
    """Values to bytes and back, equal and of the same type."""

    def dumps(self, value: Any) -> bytes:
        """Return *value* as bytes. Raise Unserializable, saying which part of it can't be brought back."""
        ...

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, which may come from a hostile place. Raise Undecodable for what
        `dumps` did not make; whatever else is raised is treated as that.
        """
        ...


@runtime_checkable
class Seals(Protocol):
    """A serializer that signs or encrypts what the frame carries, after compression."""

    def seal(self, data: bytes, about: bytes) -> bytes:
        """Return *data* sealed. *about* names where it belongs (namespace, key, stamps, codec) and must be
        covered, so that a sealed payload can't be moved to another key or given another life.
        """
        ...

    def unseal(self, data: bytes, about: bytes) -> bytes:
        """Undo `seal`. Raise Undecodable where *data* or *about* is not what was sealed."""
        ...


class Compressor(Protocol):
    """Bytes to fewer bytes and back."""

    threshold: int
    """Bytes below which the kernel does not try."""

    def compress(self, data: bytes) -> bytes:
        """Return *data*, made smaller if possible; the kernel stores it plain where it did not shrink."""
        ...

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Undo `compress`. Raise Undecodable for what is damaged or longer than *limit* bytes, and never
        allocate much more than *limit* to find out.
        """
        ...
