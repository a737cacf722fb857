"""Sequences of keys to replay: real ones where they are, and a seeded generator that is always here."""

from __future__ import annotations

import array
import lzma
import random
import sys
from bisect import bisect
from itertools import accumulate
from pathlib import Path

NAMES = ("web12", "nasa", "adaptsize", "corda", "lirs_multi3", "lirs_sprite", "lirs_loop")
"""The traces to develop on, as NAME.u32.xz: little-endian 32-bit key ids, one for each request."""


def read(path: Path) -> list[int]:
    """Return the keys of a trace."""
    keys = array.array("I")
    with lzma.open(path) as file:
        keys.frombytes(file.read())
    if sys.byteorder == "big":
        keys.byteswap()
    return keys.tolist()


def zipf(
    requests: int, keys: int, seed: int, *, skew: float = 0.9, drift: float = 0.0, once: float = 0.0
) -> list[int]:
    """Return *requests* keys: popularity by Zipf's law over *keys*.

    *drift* is how much of the ranking is taken over by new keys within the trace (1.0: all of it), *once* the
    share of requests for keys that never come again.
    """
    chance = random.Random(seed)
    weights = list(accumulate((rank + 1) ** -skew for rank in range(keys)))
    shuffled = list(range(keys))
    chance.shuffle(shuffled)
    trace = []
    once_from = keys * (int(drift) + 2)
    for at in range(requests):
        if chance.random() < once:
            trace.append(once_from + at)
            continue
        rank = bisect(weights, chance.random() * weights[-1])
        # Each rank hands over to a new key at its own time, spread evenly over the ranks.
        generation = int(drift * at / requests + rank * 0.6180339887 % 1)
        trace.append(shuffled[rank] + keys * generation)
    return trace


def loop(requests: int, keys: int) -> list[int]:
    """Return the same *keys*, over and over."""
    return [at % keys for at in range(requests)]


def scanned(trace: list[int], every: int, length: int) -> list[int]:
    """Return *trace* with a scan over *length* new keys after each *every* requests."""
    fresh = max(trace) + 1
    mixed = []
    for at, key in enumerate(trace):
        mixed.append(key)
        if at % every == every - 1:
            mixed.extend(range(fresh, fresh + length))
            fresh += length
    return mixed


def generated(seed: int = 7) -> dict[str, list[int]]:
    """Return traces made here, alike in every run."""
    skewed = zipf(60_000, 8_000, seed, drift=0.3, once=0.15)
    return {
        "zipf_drift": skewed,
        "zipf_scans": scanned(zipf(40_000, 4_000, seed + 1), 4_000, 1_500),
        "loop": loop(30_000, 1_000),
    }
