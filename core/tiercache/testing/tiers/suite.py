"""What every far tier must do, as tests to inherit."""

from __future__ import annotations

import asyncio

from tiercache.contracts import FarTierConfig
from tiercache.testing.tiers.abilities import Abilities
from tiercache.testing.tiers.configuration import Configuration
from tiercache.testing.tiers.ground import Address
from tiercache.testing.tiers.leases import Leases
from tiercache.testing.tiers.model import check_against_model
from tiercache.testing.tiers.precedence import Precedence
from tiercache.testing.tiers.storage import Storage
from tiercache.testing.tiers.surroundings import Surroundings


class FarTierSuite(Configuration, Storage, Precedence, Abilities, Leases):
    """Inherit from it, provide the fixture `config`, and set the class attributes that differ.

    Fixtures that may be overridden: `config` (must be: an instance of the tier's configuration class, whose
    options suit a test), `policies` (policy configurations by reference, where the tier takes one),
    `namespace` (must not meet that of another run on the same store), `context`. Tests are synchronous and
    drive the tier by `runner`.

    All tests use keys under `address(…)`, so that a store may be shared.
    """

    def test_the_tier_agrees_with_a_dictionary(
        self,
        config: FarTierConfig,
        context: Surroundings,
        address: Address,
        runner: asyncio.Runner,
    ) -> None:
        check_against_model(
            lambda: config.build(context),
            runner,
            context.clock,
            address.namespace,
            reopens=self.persists,
            abilities=self.abilities,
            examples=self.examples,
        )
