"""How a Redis tier tells of its changes, and what the messages look like."""

from __future__ import annotations

from typing import Final, NamedTuple

from tiercache import NEVER, Change, Undecodable

COUNTED: Final = b"#"
"""Field of the hash of the markers that counts the messages. No marker has the name."""
MARKED: Final = b"@"
"""Field that counts how often markers rose."""
FIELDS: Final = (COUNTED, MARKED)
SENDER: Final = 8
"""Bytes of the name that a process goes by."""
_HEAD: Final = 1 + SENDER + 8


class Voice(NamedTuple):
    """Where changes are announced, by whom, and what counts them."""

    channel: bytes
    sender: bytes
    counter: str
    """Key of the hash with the count; "" where one script can't reach it."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What a script is given behind its keys."""
        return (self.counter,) if self.counter else ()

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """What a script is given behind its arguments."""
        return self.channel, self.sender, b"1" if self.counter else b""


SILENT: Final = Voice(b"", b"", "")
"""Of a tier that nobody follows."""


class Message(NamedTuple):
    """What came over the channel."""

    kind: bytes
    """b"c" for changes, b"m" for markers, b"b" for a heartbeat."""
    sender: bytes
    number: int
    """Of the message itself; in a heartbeat, of the last message."""
    rest: bytes


def parsed(data: bytes) -> Message:
    """Return *data* taken apart. Raises Undecodable."""
    if len(data) < _HEAD:
        raise Undecodable("a message of the bus is too short")
    return Message(
        data[:1], data[1 : 1 + SENDER], int.from_bytes(data[1 + SENDER : _HEAD], "big"), data[_HEAD:]
    )


def changes(rest: bytes) -> list[Change]:
    """Return the changes, or the markers, of a message. Raises Undecodable."""
    found: list[Change] = []
    at = 0
    while at < len(rest):
        start = at + 2
        end = start + int.from_bytes(rest[at:start], "big")
        if end + 8 > len(rest):
            raise Undecodable("a message of the bus ends too early")
        try:
            name = rest[start:end].decode()
        except UnicodeDecodeError as error:
            raise Undecodable("a message of the bus names no key") from error
        found.append(Change(name, min(int.from_bytes(rest[end : end + 8], "big"), NEVER)))
        at = end + 8
    return found
