"""The conformance suite of far tiers, and what its tests are made of."""

from __future__ import annotations

from tiercache.testing.tiers.frames import frame_of, record_of
from tiercache.testing.tiers.suite import FarTierSuite
from tiercache.testing.tiers.surroundings import Surroundings

__all__ = ["FarTierSuite", "Surroundings", "frame_of", "record_of"]
