"""Conformance of eviction policies and near tiers."""

from __future__ import annotations

from tiercache.testing.policies.near import NearTierSuite
from tiercache.testing.policies.policy import PolicySuite

__all__ = ["NearTierSuite", "PolicySuite"]
