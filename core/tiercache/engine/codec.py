"""Values to frames and back: today's serializer and compressor on the way out, whatever the header names on
the way in.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from zlib import crc32

from tiercache import frame as layout
from tiercache.contracts import Seals
from tiercache.engine.flights import Found
from tiercache.entry import MISSING
from tiercache.errors import Undecodable, Unserializable
from tiercache.frame import COUNTER, HEADER, LARGEST, SEALED, SLIDING, TOMBSTONE, Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tiercache.contracts import Compressor, Serializer

_Stage = TypeVar("_Stage")

_HEADER: Final = HEADER.size
_CHECKSUM: Final = _HEADER - 4
_COPIED: Final = 4096
"""Bytes up to which a copy is made sooner than a view."""
_PLAIN = struct.Struct(">Q8sqqqII").unpack_from
"""Reads a header whose form is known: of bytes 8 to 15 nothing more is to be learned."""
_tuple = tuple.__new__

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
_DECIMAL = re.compile(rb"0|-?[1-9][0-9]{0,18}")


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
        if type(value) is int and _LOWEST <= value <= _HIGHEST:
            # The size is left out: a script that raises the payload may make it longer.
            return _packed(
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
            bare = _packed(
                address, SEALED | slides, self._serializer, compressor, created_at, fresh_until, stale_until,
                size, tags, b"",
            )  # fmt: skip
            data = self._seal(data, layout.about(address, bare, layout.unpack(address, bare)))
        return _packed(
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


class Decoder:
    """Reads any frame by its header, never by today's settings.

    Frames come from outside and may be damaged, old or hostile: whatever they hold, only Undecodable leaves.
    """

    __slots__ = ("_compressors", "_expanders", "_forms", "_limit", "_readers", "_serializers")

    def __init__(
        self, serializers: Mapping[str, Serializer], compressors: Mapping[str, Compressor], *, limit: int
    ) -> None:
        # Asked by name and never listed: what no tier writes may still be read, and is then made for the
        # first frame that names it.
        self._serializers = serializers
        self._compressors = compressors
        self._limit = limit
        self._readers: dict[str, tuple[Callable[[bytes], Any], Callable[[bytes, bytes], bytes] | None]] = {}
        self._expanders: dict[str, Callable[[bytes, int], bytes]] = {}
        # By bytes 8 to 15 of plain frames, which is all that their headers say but for times and size: the
        # names behind the header, where the payload begins, and what reads it. One a serializer.
        self._forms: dict[bytes, tuple[bytes, int, Callable[[bytes], Any]]] = {}

    def head(self, address: bytes, frame: bytes) -> Head:
        """Return what *frame* says of itself, once everything but the inside of its payload is checked.

        Raises Undecodable for what is damaged, stored under another key, larger than the limit, or made by
        a serializer or compressor that is not known here.
        """
        head = layout.unpack(address, frame)
        flags = head.flags
        if flags & (TOMBSTONE | COUNTER):
            _check_bare(head, frame)
            return head
        reader = self._readers.get(head.serializer)
        if reader is None:
            serializer = _made("serializer", self._serializers, head.serializer)
            reader = (serializer.loads, serializer.unseal if isinstance(serializer, Seals) else None)
            self._readers[head.serializer] = reader
        if head.compressor and head.compressor not in self._expanders:
            compressor = _made("compressor", self._compressors, head.compressor)
            self._expanders[head.compressor] = compressor.decompress
        if (reader[1] is None) is bool(flags & SEALED):
            # Without this, whoever can write to the store would strip the flag and with it the seal.
            expected = "be sealed" if reader[1] else "not be sealed"
            raise Undecodable(f'a frame of serializer "{head.serializer}" must {expected}')
        if head.size > self._limit:
            raise Undecodable(f"a payload of {head.size} bytes; at most {self._limit} are accepted")
        if not (flags or head.tags or head.compressor):
            self._forms[frame[8:16]] = (frame[HEADER.size : head.payload], head.payload, reader[0])
        return head

    def fresh(self, address: bytes, frame: bytes, after: int, now: int) -> tuple[int, Found] | None:
        """Return stamp and entry of *frame* where it is a plain one, well, created after *after*, and fresh
        at *now*. None says nothing: then `head` and `value` must be asked.

        Plain is what has neither tags nor flags nor a compressor, and a serializer that `head` has met: most
        of what there is, and judged here in half the time. Every check is made that they make.
        """
        form = self._forms.get(frame[8:16])
        if form is None or len(frame) > _COPIED:
            return None
        names, start, loads = form
        if frame[_HEADER:start] != names:
            return None
        stamp, _, created_at, fresh_until, stale_until, size, checksum = _PLAIN(frame)
        # One copy of so few bytes is made sooner than two more calls.
        if checksum != crc32(b"".join((address, frame[8:_CHECKSUM], frame[_HEADER:]))):
            return None
        if created_at <= after or now >= fresh_until or size > self._limit or size != len(frame) - start:
            return None
        try:
            value = loads(frame[start:])
        except Exception:  # noqa: BLE001 - `value` meets it again, and says what it is
            return None
        # The class's own way in is a function written in Python, and takes twice as long.
        return stamp, _tuple(Found, (value, created_at, fresh_until, stale_until, (), 0))

    def value(self, address: bytes, frame: bytes, head: Head) -> Any:
        """Return the value of *frame*, whose *head* this decoder has checked; MISSING for a tombstone.

        Raises Undecodable, and nothing else, where the payload is not what the head says.
        """
        if head.flags & TOMBSTONE:
            return MISSING
        payload = frame[head.payload :]
        if head.flags & COUNTER:
            return _counted(payload)
        loads, unseal = self._readers[head.serializer]
        try:
            if unseal is not None:
                payload = unseal(payload, layout.about(address, frame, head))
            if head.compressor:
                payload = self._expanders[head.compressor](payload, head.size)
            if len(payload) != head.size:
                _refuse_size(payload, head.size)
            return loads(payload)
        except Undecodable:
            raise
        except Exception as error:
            names = " behind ".join(f'"{name}"' for name in (head.serializer, head.compressor) if name)
            raise Undecodable(f"the payload can't be read by {names}: {type(error).__name__}") from error

    def relived(
        self, address: bytes, frame: bytes, head: Head, fresh_until: int, stale_until: int, end: int = 0
    ) -> bytes:
        """Return *frame*, whose *head* this decoder has checked, with another life, as of `Codec.encode`.

        The payload stays as it is, sealed anew where it was: today's serializer might not take the value.
        Raises Undecodable where the seal does not hold.
        """
        payload = frame[head.payload :]
        if head.flags & SEALED:
            serializer = self._serializers[head.serializer]
            assert isinstance(serializer, Seals)
            try:
                data = serializer.unseal(payload, layout.about(address, frame, head))
            except Undecodable:
                raise
            except Exception as error:
                raise Undecodable(
                    f'"{head.serializer}" can\'t unseal the payload: {type(error).__name__}'
                ) from error
            bare = _lived(address, head, fresh_until, stale_until, end, b"")
            payload = serializer.seal(data, layout.about(address, bare, layout.unpack(address, bare)))
        return _lived(address, head, fresh_until, stale_until, end, payload)


def tombstone(address: bytes, stamp: int, expires_at: int) -> bytes:
    """Return the frame that says nothing has stood at *address* since *stamp*, until *expires_at*."""
    return _packed(address, TOMBSTONE, b"", b"", stamp, expires_at, expires_at, 0, (), b"")


def _lived(address: bytes, head: Head, fresh_until: int, stale_until: int, end: int, payload: bytes) -> bytes:
    return _packed(
        address, (head.flags & ~SLIDING) | (SLIDING if end else 0), head.serializer.encode(),
        head.compressor.encode(), head.created_at, fresh_until, end or stale_until, head.size, head.tags,
        payload,
    )  # fmt: skip


def _packed(
    address: bytes, flags: int, serializer: bytes, compressor: bytes, created_at: int, fresh_until: int,
    stale_until: int, size: int, tags: Sequence[str], payload: bytes,
) -> bytes:  # fmt: skip
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


def _check_bare(head: Head, frame: bytes) -> None:
    flags = head.flags
    if (
        flags not in {TOMBSTONE, COUNTER, COUNTER | SLIDING}
        or head.serializer
        or head.compressor
        or head.size
    ):
        raise Undecodable(f"a tombstone or counter (flags {flags:#x}) that names a codec, a size or a seal")
    if flags & COUNTER:
        _counted(frame[head.payload :])
    elif len(frame) > head.payload:
        raise Undecodable("a tombstone with a payload")


def _refuse_size(payload: bytes, size: int) -> NoReturn:
    raise Undecodable(f"a payload of {len(payload)} bytes where {size} were announced")


def _counted(payload: bytes) -> int:
    if _DECIMAL.fullmatch(payload) is None or not _LOWEST <= (value := int(payload)) <= _HIGHEST:
        raise Undecodable(f"the {len(payload)} bytes of a counter are no decimal of 64 bits")
    return value


def _made(kind: str, stages: Mapping[str, _Stage], name: str) -> _Stage:
    try:
        return stages[name]
    except KeyError:
        raise Undecodable(
            f'a frame of {kind} "{name}", which is not known here; known are {_listed(stages)}'
        ) from None
    except Exception as error:
        raise Undecodable(f'{kind} "{name}" can\'t be made: {type(error).__name__}: {error}') from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names)) or "none"
