"""The configuration class, and what `build` may do."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from pydantic import ValidationError

from tiercache.contracts import (
    Counts,
    FarTier,
    FarTierConfig,
    Locks,
    Marks,
    Measured,
    Scans,
    Swaps,
    Wipes,
)
from tiercache.testing.tiers.frames import record_of
from tiercache.testing.tiers.ground import Address, Ground
from tiercache.testing.tiers.surroundings import Surroundings


class Configuration(Ground):
    """Tests of the configuration."""

    def test_the_configuration_names_its_type(self, config: FarTierConfig) -> None:
        name = type(config).type_name()
        assert name == name.lower()
        assert name.replace("_", "").isalnum()
        assert getattr(config, "type", None) == name

    def test_the_configuration_refuses_unknown_options(self, config: FarTierConfig) -> None:
        with pytest.raises(ValidationError, match="no_such_option"):
            type(config).model_validate({"no_such_option": 1})

    def test_every_option_is_described(self, config: FarTierConfig) -> None:
        fields = type(config).model_fields
        assert not [name for name, field in fields.items() if name != "type" and not field.description]
        assert type(config).model_json_schema()["additionalProperties"] is False

    def test_the_configuration_passes_its_own_check(
        self, config: FarTierConfig, context: Surroundings
    ) -> None:
        assert list(config.check(context)) == []

    def test_building_does_no_io(
        self, config: FarTierConfig, context: Surroundings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            pytest.fail("build opened a connection")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)
        threads = threading.active_count()
        before = sorted(context.directory.rglob("*"))
        config.build(context)
        assert sorted(context.directory.rglob("*")) == before
        assert threading.active_count() == threads

    def test_the_tier_has_the_abilities_it_claims(self, tier: FarTier) -> None:
        for ability in (Scans, Wipes, Swaps, Counts, Marks, Locks):
            assert isinstance(tier, ability) == (ability in self.abilities), ability.__name__

    def test_counts_are_integers_by_name(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        if not isinstance(tier, Measured):
            pytest.skip("the tier measures nothing")
        runner.run(tier.write([record_of(address("a"))]))
        runner.run(tier.read([address("a")]))
        stats = tier.stats()
        assert stats
        assert all(type(name) is str and type(count) is int for name, count in stats.items())
