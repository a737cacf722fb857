"""What plugins implement: Protocols that the kernel calls, and the configuration classes that declare them.

A configuration class is the whole registration of a plugin: its `type`, its options with their
descriptions, and `build`, which makes the live stage. A hook of `tiercache.hookspecs` returns the classes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from tiercache.clock import Clock
from tiercache.entry import Entry
from tiercache.units import Duration

Kind = Literal["tier", "serializer", "compressor", "policy", "pattern", "bus"]
"""What a plugin can provide; also the name of its TOML table."""

KINDS: Final[tuple[Kind, ...]] = ("tier", "serializer", "compressor", "policy", "pattern", "bus")
"""All kinds, in the order in which documents name them."""


# Configuration


@dataclass(frozen=True, slots=True)
class StageRef:
    """Marks an option whose text names another stage: a declared table, or a type with its defaults."""

    kind: Kind


PolicyRef = Annotated[str, StageRef("policy")]
"""Name of a declared policy, or a policy type."""
SerializerRef = Annotated[str, StageRef("serializer")]
"""Name of a declared serializer, or a serializer type."""
CompressorRef = Annotated[str, StageRef("compressor")]
"""Name of a declared compressor, a compressor type, or "none"."""
TierRef = Annotated[str, StageRef("tier")]
"""Name of a declared tier, or a tier type."""


class StageConfig(BaseModel):
    """Base of all configuration classes. Subclasses add `type: Literal["name"] = "name"`, one described
    field an option, and `build`.

    `build` wires and does no I/O; what has to be opened is opened by the kernel afterwards. Drivers are
    imported there, not at the top of the module.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    kind: ClassVar[Kind]

    @classmethod
    def type_name(cls) -> str:
        """Return the name that `type = "…"` selects this class by."""
        return str(cls.model_fields["type"].default)

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Yield (option, message) for what validation of single options can't see.

        Called once the references of the whole document are resolved. No I/O, but for the import of what
        an option names.
        """
        del context
        return ()


class CheckContext(Protocol):
    """What `StageConfig.check` may ask."""

    def policy(self, reference: str) -> PolicyConfig:
        """Return the policy configuration that *reference* names."""
        ...


class Context(CheckContext, Protocol):
    """What a stage is given when it is built."""

    @property
    def name(self) -> str:
        """Name of the stage in the document."""
        ...

    @property
    def namespace(self) -> str:
        """Namespace of the cache. Far keys arrive with it already in front."""
        ...

    @property
    def directory(self) -> Path:
        """Where relative paths start: the directory of the configuration file, else the working directory."""
        ...

    @property
    def clock(self) -> Clock:
        """The cache's clock."""
        ...


class TierConfig(StageConfig):
    """Options that all tiers have."""

    kind: ClassVar[Kind] = "tier"

    max_ttl: Duration | None = Field(
        None,
        description="The longest that a copy may stay in this tier; the entry's own life is not changed.",
    )


class NearTierConfig(TierConfig):
    """Base of tiers that keep entries as objects in this process."""

    def build(self, context: Context) -> NearTier:
        """Return the live tier."""
        raise NotImplementedError


class FarTierConfig(TierConfig):
    """Base of tiers that keep frames outside the process."""

    scope: ClassVar[Literal["shared", "host"]] = "shared"
    """Whether processes of other hosts see the same entries."""

    serializer: SerializerRef = Field("msgpack", description="How values become bytes.")
    compressor: CompressorRef = Field("none", description='How bytes are made smaller, or "none".')
    deadline: Duration = Field(
        2.0,
        ge=0.001,
        le=3600,
        description=(
            "How long one call may take, whatever the driver's own timeouts are. A call that is not over by "
            "then is given up: a miss, or a write that is made good later."
        ),
    )

    def build(self, context: Context) -> FarTier:
        """Return the tier, not yet open."""
        raise NotImplementedError


class SerializerConfig(StageConfig):
    """Base of serializer configurations."""

    kind: ClassVar[Kind] = "serializer"

    reads_undeclared: ClassVar[bool] = False
    """Whether frames that name this type are read even where no document declares it. Only for
    serializers that can't be made to run code by hostile bytes, and need no option to read.
    """

    def build(self, context: Context) -> Serializer:
        """Return the live serializer."""
        raise NotImplementedError


class CompressorConfig(StageConfig):
    """Base of compressor configurations."""

    kind: ClassVar[Kind] = "compressor"

    def build(self, context: Context) -> Compressor:
        """Return the live compressor."""
        raise NotImplementedError


class PolicyConfig(StageConfig):
    """Base of eviction policy configurations."""

    kind: ClassVar[Kind] = "policy"

    order: ClassVar[Order | None] = None
    """The same order for tiers that keep rows; None where it can't be said in SQL."""
    segment: ClassVar[int] = 16_384
    """Entries up to which one policy keeps each of its calls short; larger near tiers build several."""

    def build(self, capacity: int) -> Policy:
        """Return a policy for at most *capacity* entries. A tier may build several, one a segment."""
        raise NotImplementedError


class PatternConfig(StageConfig):
    """Base of pattern configurations."""

    kind: ClassVar[Kind] = "pattern"

    def build(self, context: Context) -> Pattern:
        """Return the live pattern."""
        raise NotImplementedError


class BusConfig(StageConfig):
    """Base of bus configurations. A bus tells other processes what changed in one far tier."""

    kind: ClassVar[Kind] = "bus"

    carries: ClassVar[str]
    """The type of the tiers whose changes it can tell. `[cache] bus = "auto"` goes by it."""

    tier: TierRef | None = Field(
        None,
        description="The tier whose changes are told; without it, each of the type that is used.",
    )

    def build(self, context: Context, tier: FarTier) -> Bus:
        """Return the bus of *tier*, which is the live stage and not open yet.

        From then on each change that *tier* makes must be announced, in one act with the change itself.
        """
        raise NotImplementedError


# Near


class Policy(Protocol):
    """Decides which entries a near tier gives up.

    It makes the dictionary of entries; the near tier is its only writer, and calls the policy under its
    lock; the kernel reads it directly. A policy knows no TTL, no tags, no locks and no segments.

    Room is made first: `victims`, then the new entry is put into `entries`, then `added`. Writing a key
    that is held changes its entry in place and is told to policies that are `Renews` alone.
    """

    entries: dict[str, Entry]
    """Made here, empty; written by the tier alone. A tier that is cleared builds a new policy."""
    touch: Callable[[str], object] | None
    """Called with the key at each hit, without the lock; may raise KeyError. None: `Entry.hits` is enough."""

    def added(self, entry: Entry) -> None:
        """Take note of *entry*, which has just been put into `entries`."""
        ...

    def removed(self, entry: Entry) -> None:
        """Forget *entry*, which was deleted or has expired. Never called for the policy's own victims."""
        ...

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose at least *count* entries that weigh at least *weight* together, or all there are.

        They leave the policy's books here (`place` is 0 again) and `entries` in the tier, right after.
        """
        ...


@runtime_checkable
class Renews(Protocol):
    """A policy that wants to know when a resident was given a new value and life in place."""

    def renewed(self, entry: Entry) -> None:
        """Take note that *entry*, which the policy holds, was written again. Under the tier's lock."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a policy evicts first, for tiers that keep rows.

    Written over these columns, all integers and never NULL: `created` (microseconds, when the row was
    written), `last_read` (microseconds; begins as `created`), `reads` (since the row was written; begins
    at 0), `expires` (microseconds; `NEVER` for none), `size` (bytes).

    A rewrite of a key leaves `created` and `reads` as they are and counts as a read for `last_read`.

    To evict, a tier takes the first rows by `by`, a chunk at a time. Of a chunk, the rows that `spared`
    holds for are updated with `chance`, which moves them back in the order; the others go. It repeats that
    until enough has gone. Because a row is spared only a few times (counts halve), this ends; a tier that
    wants a bound drops rows whether spared or not once it has spared 32 for each that it had to drop.
    """

    by: tuple[str, ...]
    """Terms of an ORDER BY, ascending, first to go first; each is a column or an expression without
    parameters, so that one index over the terms (with the key behind) serves the whole order.
    """
    spared: str = ""
    """An SQL condition for rows that get another chance instead of going; "" where none do."""
    chance: str = ""
    """Assignments for spared rows, the right side of SET. `:now` is the time in microseconds. Repeated, it
    must end in `spared` being false.
    """


class NearTier(Protocol):
    """Entries as objects in this process. Everything is synchronous, nothing blocks.

    Safe from several threads: reads take no lock, writes take the tier's own.
    """

    entries: dict[str, Entry] | None
    """The dictionary itself, which the kernel reads. None where the tier has segments."""
    segments: tuple[dict[str, Entry], ...] | None
    """A power of two of dictionaries; a key is in `segments[hash(key) & (len(segments) - 1)]`."""
    touch: Callable[[str], object] | None
    """Called by the kernel with the key of each hit, where the policy wants it; may raise KeyError."""
    max_ttl: float
    """Seconds; `math.inf` where there is no limit. The kernel clamps with it."""

    def get(self, key: str) -> Entry | None:
        """Return the entry of *key*, fresh or not."""
        ...

    def put(self, entry: Entry, tags: Sequence[str] = ()) -> Entry:
        """Store *entry*, unless the resident of its key has a later `created_at`; evict where needed.

        The resident is updated in place. Return whatever now stands.
        """
        ...

    def remove(self, key: str) -> bool:
        """Drop *key*; return whether it was there."""
        ...

    def keys(self) -> Iterable[str]:
        """Return the keys held at this moment, in chunks that never block for long."""
        ...

    def tagged(self, tag: str) -> Iterable[str]:
        """Return the keys that carry *tag*."""
        ...

    def tags(self, key: str) -> Sequence[str]:
        """Return the tags of *key*."""
        ...

    def work(self, now: float, budget: float) -> bool:
        """Do at most *budget* seconds of housekeeping (dead entries out, old dictionaries apart).

        *now* is `Clock.monotonic`. Return whether more is waiting.
        """
        ...

    def clear(self) -> None:
        """Drop everything in O(1). The kernel reads `entries`, `segments` and `touch` again afterwards."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Return counts: `entries`, `bytes`, `evicted`, `expired`, `hits` and what else the tier knows."""
        ...


@runtime_checkable
class Fills(Protocol):
    """A near tier that takes many entries at once, in less time than one by one."""

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store *entries*, none of which has tags, each as `NearTier.put` does."""
        ...


# Far


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


# Buses


class Change(NamedTuple):
    """That a key was written or dropped."""

    key: str
    """With the namespace in front, as the tier knows it."""
    stamp: int
    """What was created before it is out of date; `NEVER`: whatever stands is."""


class Listener(Protocol):
    """What a bus tells: the kernel's side of it. Called on the event loop; nothing here blocks or raises."""

    lease: float
    """Seconds for which near entries are trusted after each `confirmed`."""

    def changed(self, changes: Iterable[Change]) -> None:
        """Take note of what other processes changed. Twice, late or out of order does no harm."""
        ...

    def marked(self, markers: Mapping[str, int]) -> None:
        """Take note of markers that other processes raised: stamps by name."""
        ...

    def now(self) -> float:
        """Return the seconds that `confirmed` is given in."""
        ...

    def confirmed(self, since: float, position: int | None = None) -> None:
        """Take note that everything announced before *since* has been told, or `lost` was called.

        *position* is a number that no change leaves as it was, and that never comes again; None where the bus
        has none. Who finds it again after a restart has missed nothing.
        """
        ...

    def lost(self) -> None:
        """Take note that something may have been announced and not been told."""
        ...


class Bus(Protocol):
    """Tells what other processes change in one far tier. No values travel, and no own changes come back.

    The tier announces what it changes, in one act with the change: how the two speak is theirs alone.
    """

    async def follow(self, listener: Listener) -> None:
        """Tell *listener* what happens, until cancelled; raise TierError where that fails.

        It is called again after a pause. Unless nothing can have been missed since the last `confirmed`,
        `lost` must be called before the next one. `confirmed` must come several times a lease, and only by
        proof, such as a message of one's own that has come back the way the others come.

        Raise TierRefused where it never will work as configured.
        """
        ...

    async def close(self) -> None:
        """Release everything. Called once, after `follow` was cancelled, also where it was never called."""
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


# Codecs


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


# Patterns


class Life(NamedTuple):
    """What a value is stored with."""

    ttl: float
    """Seconds that it is fresh; `math.inf` for ever."""
    stale: float = 0.0
    """Seconds after that during which it may serve as a stale copy."""
    tags: tuple[str, ...] = ()


Load = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Brings the value of a key by a loader, which may be sync or async."""
Save = Callable[[str, Any, Life], Awaitable[None]]
"""Stores the value of a key."""


class Pattern(Protocol):
    """Wraps what a route does. Composed once, when the cache is built; implement any ability below."""


@runtime_checkable
class Loads(Protocol):
    """A pattern around loading."""

    def around_load(self, load: Load) -> Load:
        """Return *load* wrapped."""
        ...


@runtime_checkable
class Saves(Protocol):
    """A pattern around storing."""

    def around_save(self, save: Save) -> Save:
        """Return *save* wrapped."""
        ...


@runtime_checkable
class Watches(Protocol):
    """A pattern that is told of reads. Routes without one pay nothing for it."""

    def seen(self, key: str, *, hit: bool) -> None:
        """Take note that *key* was asked for. Called on the reader's path: be quick, never block."""
        ...


@runtime_checkable
class Supplies(Protocol):
    """A pattern that knows where values come from, so that reads without a loader can load."""

    on_miss: bool
    """Whether a read that finds nothing loads."""
    ahead: float | None
    """Share of an entry's life after which a read of it starts a load in the background; the route's own
    `refresh_ahead` wins. None: never.
    """

    def loader(self, key: str) -> Callable[..., Any] | None:
        """Return what loads *key*, as `Cache.get_or_set` takes it; None where nothing here does.

        A loader that brings MISSING says that there is no such thing: the reader is given the default.
        """
        ...


@runtime_checkable
class Works(Protocol):
    """A pattern with work of its own while the cache is open."""

    async def open(self, cache: Any) -> None:
        """Begin. *cache* is the `Cache`, started; every tier answers. What is raised stops the start."""
        ...

    async def close(self) -> None:
        """End, while every tier still answers. Called once, also where `open` failed."""
        ...
