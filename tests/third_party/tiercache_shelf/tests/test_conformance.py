"""The suites that the kernel gives plugin authors, over these stages."""

from __future__ import annotations

import math
from datetime import date

import pytest
from tiercache_shelf.codecs import BencodeConfig, GzipConfig
from tiercache_shelf.policy import DiceConfig
from tiercache_shelf.tier import ShelfConfig

from tiercache import Scans, Swaps
from tiercache.testing.codecs import CompressorSuite, SerializerSuite
from tiercache.testing.policies import PolicySuite
from tiercache.testing.tiers import FarTierSuite


class TestShelf(FarTierSuite):
    abilities = (Scans, Swaps)

    @pytest.fixture
    def config(self):
        return ShelfConfig(directory="books")


class TestDice(PolicySuite):
    @pytest.fixture
    def policy(self):
        return DiceConfig(seed=1)


class TestBencode(SerializerSuite):
    @pytest.fixture
    def serializer(self):
        return BencodeConfig().build(None)

    @pytest.fixture
    def values(self):
        return [
            None, True, False, 0, -1, 2**70, 0.0, -0.0, 0.1, math.inf, -math.inf, math.nan, "", "grüße 🌍",
            b"", b"\0\xff", [], [[], [1, True, 1.0, None]], {}, {"b": 1, "a": {"": [b"x", "x"]}},
        ]  # fmt: skip

    @pytest.fixture
    def refused(self):
        deep = []
        for _ in range(200):
            deep = [deep]
        return [(), {1}, {1: 2}, date(2026, 1, 1), "\ud800", bytearray(b"x"), object(), deep, 10**5000]


class TestGzip(CompressorSuite):
    @pytest.fixture
    def compressor(self):
        return GzipConfig().build(None)
