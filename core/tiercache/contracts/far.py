"""Far tiers, and what they may be able to do beside reading and writing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

VOID: Final = b"*"
"""As `Record.lease`: whoever holds the lease of the key loses it."""


class Record(NamedTuple):
    """One frame on its way into a far tier."""

    key: str
    """With the namespace in front; valid UTF-8 of at most 1,100 bytes."""
    frame: bytes
    """Begins with its stamp: see `tiercache.frame`."""
    expires_at: int
    """Wall time in microseconds after which the tier must not return the frame; `NEVER` for none."""
    stamp: int
    """Of the frame. An unconditional record always wins: where the stored stamp is not below it, the
    tier stores the frame with the stored stamp + 1 in front (`frame.restamped`).
    """
    conditional: bool = False
    """Store only where nothing stands, or what stands has a lower stamp."""
    lease: bytes = b""
    """Only for tiers that are `Locks`, about the lease that is named as `key` is. A token: store only while
    it holds the lease, else answer -1; stored or kept out, the lease is given back in the same step. `VOID`:
    end the lease, whoever holds it.
    """
    news: bool = False
    """Only for tiers that a bus follows. A conditional record that finds nothing standing is not announced:
    what was read or loaded changes nothing for anybody. One that is news is, for it is a change that comes
    late.
    """


class FarTier(Protocol):
    """Frames outside the process. Calls come one batch at a time, from one event loop.

    An author writes storage and nothing else: codec, TTL clamp, deadline, namespace, batching and counting
    are the kernel's. Raise TierError (or any exception) where the tier fails; the kernel turns it into a
    miss or a skipped write. Further abilities are further Protocols: `Scans`, `Wipes`, `Swaps`, `Counts`,
    `Marks`, `Locks`.
    """

    async def open(self) -> None:
        """Make ready. Raise TierRefused where it never will work as configured."""
        ...

    async def close(self) -> None:
        """Release everything. Called once, also where `open` failed or was not called."""
        ...

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return the frame of each key, in order; None where there is none or it has expired."""
        ...

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        """Store *records*, in order; return for each the stamp it stands under; 0 where it was kept out,
        or has expired already; -1 where its lease is not held.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        """Drop *keys*; return for each whether an unexpired frame was there."""
        ...


@runtime_checkable
class Scans(Protocol):
    """A far tier that can list its keys."""

    def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """Yield the keys that begin with *prefix* (taken literally), in chunks. A key may come twice."""
        ...


@runtime_checkable
class Wipes(Protocol):
    """A far tier that can drop all keys of a prefix better than by listing them."""

    async def wipe(self, prefix: str) -> None:
        """Drop every key that begins with *prefix* (taken literally), in chunks."""
        ...


@runtime_checkable
class Swaps(Protocol):
    """A far tier that can compare and set."""

    async def swap(self, record: Record, expected: int | None) -> bool:
        """Store *record* only where the stored stamp is *expected*; None: only where nothing stands.

        An expired frame counts as nothing. Return whether it was stored.
        """
        ...


@runtime_checkable
class Counts(Protocol):
    """A far tier that can raise a counter in one step."""

    async def increment(self, record: Record, delta: int) -> bytes:
        """Add *delta* to the counter under `record.key`; return the frame that stands then.

        The kernel judges that frame by what a tier does not know, such as markers, and begins a dead counter
        anew; so the tier need not be read before.

        Where nothing stands, or a tombstone, store *record*, a counter frame that already holds *delta*. An
        existing counter keeps its expiry; its stamp is raised, so that who swaps by the old one sees the
        change. Raise TypeError where something else stands (a frame without
        `frame.COUNTER`), OverflowError where the sum does not fit 64 bits; both change nothing.
        """
        ...


@runtime_checkable
class Marks(Protocol):
    """A far tier that keeps markers: since when what is dead, by name. They're of the context's namespace.

    They stand apart from the entries: `scan` does not list them, `wipe` and `delete` leave them alone, they
    never expire and are never evicted. A name is text of at most 1,100 bytes of UTF-8.
    """

    async def marks(self) -> Mapping[str, int]:
        """Return all markers: stamps by name. Raise where they can't be read whole.

        What is damaged is returned under a name of the tier's own, with the stamp of now: the kernel takes
        what it does not know for a marker for everything.
        """
        ...

    async def mark(self, markers: Mapping[str, int], below: int) -> None:
        """Raise each of *markers* to its stamp, unless it stands higher; then drop those, of all that are
        kept, whose stamp is lower than *below* (0: none).
        """
        ...


class Claim(NamedTuple):
    """Who wants, or has, which lease."""

    name: str
    """Text of at most 1,100 bytes of UTF-8; it begins with the namespace."""
    token: bytes
    """Up to 64 random bytes. Whoever shows them is the holder."""
    life: float
    """Seconds for which the lease is taken, or prolonged, from the moment at which the tier does it."""
    floor: int = 0
    """The fence is to be at least this; 0: none is wanted, and nothing need be remembered of the name."""


@runtime_checkable
class Locks(Protocol):
    """A far tier that lends names: to one holder at a time, each for a bounded life.

    Leases stand apart from the entries: `read`, `scan` and `delete` do not see them, and they are never
    evicted. `wipe` ends those whose names begin with its prefix. Their lives are counted by a clock that all
    who use the tier share, such as the server's. A tier that is one of these heeds `Record.lease`.
    """

    async def acquire(self, claims: Sequence[Claim]) -> Sequence[int]:
        """Lend each name to the token of its claim, where nobody else holds it; return for each 0 where
        somebody does, else its fence, above zero.

        Who holds the lease already gets it anew, with the same fence: the first answer may have been lost.
        Where a floor is given, the fence is also above those that the name had within the last day; else any
        number above zero will do.
        """
        ...

    async def prolong(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """Let each lease that its token still holds live for `life` from now; return whether it does."""
        ...

    async def release(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """End each lease that its token still holds; return whether it did."""
        ...

    async def void(self, names: Sequence[str]) -> Sequence[bool]:
        """End the leases of *names*, whoever holds them; return for each whether there was one."""
        ...


@runtime_checkable
class Dates(Protocol):
    """A shared tier with a clock, by which all who share it date what they write."""

    async def time(self) -> int:
        """Return the tier's wall time in microseconds."""
        ...


@runtime_checkable
class Prompt(Protocol):
    """A far tier that can be read without a coroutine: a lone read takes three turns of the loop less."""

    def read_soon(
        self, keys: Sequence[str], answered: Callable[[Sequence[bytes | None] | None], object]
    ) -> bool:
        """Begin what `read` does and return True; or return False where that can't be done right now.

        *answered* is then called once, by the event loop in a turn of its own: never before this returns, and
        never from within a task. It is given the frames, or None where anything went wrong, and `read` is
        awaited in its place then, which says what it was. Must not raise.
        """
        ...


@runtime_checkable
class Heads(Protocol):
    """A far tier that can say whether a copy is still what it holds, for less than the frame itself."""

    async def heads(self, keys: Sequence[str]) -> tuple[int, Sequence[bytes | None]]:
        """Return a number that no marker which rises leaves as it was, and of each key the first 48 bytes of
        its frame, or None, as `read`. The number must be read no later than the frames.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """A far tier that keeps small notes of the kernel's, beside the entries and as long as they."""

    async def remember(self, name: str, note: bytes) -> None:
        """Keep *note* in place of what was kept under *name*."""
        ...

    async def recall(self, name: str) -> bytes | None:
        """Return what is kept under *name*; None for nothing, and for what is damaged."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A stage that counts things of its own."""

    def stats(self) -> Mapping[str, int]:
        """Return counts by name, such as `entries` and `bytes`; cheap, and without I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at, and how it is."""

    level: Literal["ok", "warning", "problem"]
    """"problem": it does not work, or will not; "warning": it works, and hardly as it was meant."""
    subject: str
    """What was looked at, in a word or two, such as "version"."""
    message: str
    """How it is, in one line; where it is not well, what would help. Never a password."""


@runtime_checkable
class Diagnoses(Protocol):
    """A far tier that can tell whether its storage stands well, for `tiercache doctor`."""

    async def diagnose(self) -> Iterable[Diagnosis]:
        """Look at all that commonly goes wrong, and change nothing. Called once the tier is open."""
        ...


@runtime_checkable
class Traced(Protocol):
    """A far tier whose calls are those of a database client, and are told to tracers as such."""

    def semantics(self, act: str) -> Mapping[str, str | int]:
        """Return the attributes of the span of *act*, by OpenTelemetry's conventions for database clients.

        *act* is the name of the method that is called, such as "read". `db.operation.name` is the name of
        the span. Never a key, a value or a password.
        """
        ...
