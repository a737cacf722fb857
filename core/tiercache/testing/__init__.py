"""What plugin authors test with: conformance suites for each kind of plugin, and the clock that they use.

A suite is a plain class to inherit from; the docstring of each names the fixtures to provide. Importing
this package is a choice: nothing is registered with pytest by itself.
"""

import pytest

# Before the suites are imported, or their asserts would fail without saying what they compared.
pytest.register_assert_rewrite(
    "tiercache.testing.tiers",
    "tiercache.testing.policies",
    "tiercache.testing.codecs",
    "tiercache.testing.buses",
)

from tiercache.testing.buses import BusSuite  # noqa: E402
from tiercache.testing.chaos import ChaosTier, FaultProxy  # noqa: E402
from tiercache.testing.clock import FakeClock  # noqa: E402
from tiercache.testing.codecs import CompressorSuite, SerializerSuite, same  # noqa: E402
from tiercache.testing.policies import NearTierSuite, PolicySuite  # noqa: E402
from tiercache.testing.tiers import FarTierSuite, Surroundings, frame_of, record_of  # noqa: E402

__all__ = [
    "BusSuite",
    "ChaosTier",
    "CompressorSuite",
    "FakeClock",
    "FarTierSuite",
    "FaultProxy",
    "NearTierSuite",
    "PolicySuite",
    "SerializerSuite",
    "Surroundings",
    "frame_of",
    "record_of",
    "same",
]
