"""The configuration classes, which are the whole registration of a plugin, and what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from tiercache.clock import Clock
from tiercache.contracts.buses import Bus
from tiercache.contracts.codecs import Compressor, Serializer
from tiercache.contracts.far import FarTier
from tiercache.contracts.near import NearTier, Order, Policy
from tiercache.contracts.patterns import Pattern
from tiercache.units import Duration

Kind = Literal["tier", "serializer", "compressor", "policy", "pattern", "bus"]
"""What a plugin can provide; also the name of its TOML table."""

KINDS: Final[tuple[Kind, ...]] = ("tier", "serializer", "compressor", "policy", "pattern", "bus")
"""All kinds, in the order in which documents name them."""


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
