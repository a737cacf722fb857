"""Frames to values, by whatever their headers name."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from zlib import crc32

from tiercache import frame as layout
from tiercache.contracts import Seals
from tiercache.engine.codec.encoding import HIGHEST, LOWEST, packed
from tiercache.engine.flights import Found
from tiercache.entry import MISSING
from tiercache.errors import Undecodable
from tiercache.frame import COUNTER, HEADER, SEALED, SLIDING, TOMBSTONE, Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tiercache.contracts import Compressor, Serializer

_Stage = TypeVar("_Stage")

_HEADER: Final = HEADER.size
_CHECKSUM: Final = _HEADER - 4
_COPIED: Final = 4096
"""Bytes up to which a copy is made sooner than a view."""
_PLAIN = struct.Struct(">Q8sqqqII").unpack_from
"""Reads a header whose form is known: of bytes 8 to 15 nothing more is to be learned."""
_tuple = tuple.__new__

_DECIMAL = re.compile(rb"0|-?[1-9][0-9]{0,18}")


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

    def fresh(
        self, addresses: Iterable[str], frames: Iterable[bytes | None], after: int, now: int, seen: int
    ) -> tuple[list[Found | None], list[int]]:
        """Return the entries of those *frames* that are plain, well, created after *after*, and fresh at
        *now*; and those of their stamps that are above *seen*. None for an entry says nothing: then `head`
        and `value` must be asked.

        Plain is what has neither tags nor flags nor a compressor, and a serializer that `head` has met: most
        of what there is. All that came together is judged in one loop, without a call for each, in a third
        of the time; every check is made that they make.
        """
        limit = self._limit
        founds: list[Found | None] = []
        known, names, start = b"", b"", 0
        loads: Callable[[bytes], Any] = bytes
        stamps: list[int] = []
        for address, frame in zip(addresses, frames):  # noqa: B905 - of a lone frame it is a tenth
            founds.append(None)
            if frame is None or not _HEADER < len(frame) <= _COPIED:
                continue
            stamp, about, created_at, fresh_until, stale_until, size, checksum = _PLAIN(frame)
            if about != known:
                form = self._forms.get(about)
                if form is None:
                    continue
                known = about
                names, start, loads = form
            if (
                frame[_HEADER:start] != names
                # What `head` sums piece by piece: one copy of a short frame is less than two more calls.
                or checksum != crc32(b"".join((address.encode(), frame[8:_CHECKSUM], frame[_HEADER:])))
                or created_at <= after
                or now >= fresh_until
                or size > limit
                or size != len(frame) - start
            ):
                continue
            try:
                value = loads(frame[start:])
            except Exception:  # noqa: BLE001, S112 - `value` meets it again, and says what it is
                continue
            if stamp > seen:
                stamps.append(stamp)
            # The class's own way in is a function written in Python, and takes twice as long.
            founds[-1] = _tuple(Found, (value, created_at, fresh_until, stale_until, (), 0))
        return founds, stamps

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


def _lived(address: bytes, head: Head, fresh_until: int, stale_until: int, end: int, payload: bytes) -> bytes:
    return packed(
        address, (head.flags & ~SLIDING) | (SLIDING if end else 0), head.serializer.encode(),
        head.compressor.encode(), head.created_at, fresh_until, end or stale_until, head.size, head.tags,
        payload,
    )  # fmt: skip


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
    if _DECIMAL.fullmatch(payload) is None or not LOWEST <= (value := int(payload)) <= HIGHEST:
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
