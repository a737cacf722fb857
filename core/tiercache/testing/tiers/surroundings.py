"""A context to build stages in, without a cache around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from tiercache.clock import Clock
from tiercache.contracts import PolicyConfig
from tiercache.hookspecs import GROUP


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a stage is given when it is built (a `tiercache.Context`)."""

    directory: Path
    """Where relative paths start."""
    name: str = "kit"
    namespace: str = "kit"
    clock: Clock = field(default_factory=Clock)
    policies: Mapping[str, PolicyConfig] = field(default_factory=dict)
    """Policies by reference; what is not among them is taken from the plugins installed here."""

    def policy(self, reference: str) -> PolicyConfig:
        """Return the policy that *reference* names, with its defaults. Raises LookupError."""
        if (declared := self.policies.get(reference)) is not None:
            return declared
        for entry_point in entry_points(group=GROUP):
            if entry_point.name != reference:
                continue
            for config in getattr(entry_point.load(), "tiercache_policies", tuple)():
                if issubclass(config, PolicyConfig) and config.type_name() == reference:
                    policy: PolicyConfig = config()
                    return policy
        raise LookupError(
            f'no policy "{reference}" is installed; override the fixture `policies` of the suite to bring one'
        )
