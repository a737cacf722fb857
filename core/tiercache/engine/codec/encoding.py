"""Values to frames, by today's serializer and compressor."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from tiercache import frame as layout
from tiercache.contracts import Seals
from tiercache.errors import Unserializable
from tiercache.frame import COUNTER, LARGEST, SEALED, SLIDING, TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiercache.contracts import Compressor, Serializer

LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1


class Codec:
    """One serializer and one compressor: makes frames. Tiers with equal codecs share what it makes.

    Ints of 64 bits always become counter frames, whatever the serializer, so that any tier can raise them.
    """

    __slots__ = ("_compress", "_compressor", "_dumps", "_flags", "_limit", "_seal", "_serializer",
                 "_threshold", "name", "seals")  # fmt: skip

    def __init__(
        self,
        serializer_name: str,
        serializer: Serializer,
        compressor_name: str = "",
        compressor: Compressor | None = None,
        *,
        limit: int,
    ) -> None:
        self.name = (serializer_name, compressor_name)
        """What frames call the serializer and the compressor; "" for none."""
        self._serializer = _named(serializer_name)
        self._compressor = _named(compressor_name) if compressor is not None else b""
        self._dumps = serializer.dumps
        self._seal: Callable[[bytes, bytes], bytes] | None = None
        self._flags = 0
        if isinstance(serializer, Seals):
            self._seal = serializer.seal
            self._flags = SEALED
        self.seals = bool(self._flags)
        """Whether every frame that is made is sealed, counters apart."""
        self._limit = min(limit, LARGEST)
        self._compress: Callable[[bytes], bytes] | None = None
        self._threshold = self._limit + 1
        if compressor is not None:
            self._compress = compressor.compress
            self._threshold = compressor.threshold

    def encode(
        self,
        address: bytes,
        value: Any,
        created_at: int,
        fresh_until: int,
        stale_until: int,
        tags: Sequence[str] = (),
        end: int = 0,
    ) -> bytes:
        """Return *value* as a frame for the key *address* (with its namespace, in UTF-8). Stamps are
        microseconds. With *end* it is no stale copy after *fresh_until*, which reads move, up to *end*.

        Raises Unserializable for a value that the serializer refuses, or that is larger than the limit.
        """
        slides = SLIDING if end else 0
        if slides:
            stale_until = end
        if type(value) is int and LOWEST <= value <= HIGHEST:
            # The size is left out: a script that raises the payload may make it longer.
            return packed(
                address, COUNTER | slides, b"", b"", created_at, fresh_until, stale_until, 0, tags,
                b"%d" % value,
            )  # fmt: skip
        try:
            data = self._dumps(value)
        except Unserializable:
            raise
        except Exception as error:
            raise Unserializable(
                f'serializer "{self.name[0]}" failed on a value of type {type(value).__name__}: '
                f"{type(error).__name__}"
            ) from error
        if type(data) is not bytes:
            raise Unserializable(f'serializer "{self.name[0]}" gave {type(data).__name__} instead of bytes')
        size = len(data)
        if size > self._limit:
            raise Unserializable(
                f"the value takes {size} bytes as {self.name[0]}; at most {self._limit} are accepted"
            )
        compressor = b""
        if size >= self._threshold:
            smaller = self._smaller(data)
            if len(smaller) < size:
                data, compressor = smaller, self._compressor
        if self._seal is not None:
            # The seal covers the header, so the header is made first, around no payload.
            bare = packed(
                address, SEALED | slides, self._serializer, compressor, created_at, fresh_until, stale_until,
                size, tags, b"",
            )  # fmt: skip
            data = self._seal(data, layout.about(address, bare, layout.unpack(address, bare)))
        return packed(
            address, self._flags | slides, self._serializer, compressor, created_at, fresh_until, stale_until,
            size, tags, data,
        )  # fmt: skip

    def _smaller(self, data: bytes) -> bytes:
        assert self._compress is not None
        try:
            return self._compress(data)
        except Exception as error:
            raise Unserializable(
                f'compressor "{self.name[1]}" failed on {len(data)} bytes: {type(error).__name__}'
            ) from error


def tombstone(address: bytes, stamp: int, expires_at: int) -> bytes:
    """Return the frame that says nothing has stood at *address* since *stamp*, until *expires_at*."""
    return packed(address, TOMBSTONE, b"", b"", stamp, expires_at, expires_at, 0, (), b"")


def packed(
    address: bytes, flags: int, serializer: bytes, compressor: bytes, created_at: int, fresh_until: int,
    stale_until: int, size: int, tags: Sequence[str], payload: bytes,
) -> bytes:  # fmt: skip
    """Return the frame of these. Raises Unserializable for what no frame can hold."""
    try:
        return layout.pack(
            address, flags=flags, serializer=serializer, compressor=compressor, created_at=created_at,
            fresh_until=fresh_until, stale_until=stale_until, size=size, tags=tags, payload=payload,
        )  # fmt: skip
    except (struct.error, UnicodeEncodeError) as error:
        raise Unserializable(
            f"stamps, or {len(tags)} tags, that no frame can hold: stamps are 63 bits, tags at most 65535, "
            "each at most 65535 bytes of UTF-8"
        ) from error


def _named(name: str) -> bytes:
    if not (name.isascii() and name.isprintable() and 1 <= len(name) <= 255):
        raise ValueError(f"a codec is called by 1 to 255 printable ASCII characters, not {name!r}")
    return name.encode()
