from __future__ import annotations

import math
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from tiercache import Entry, Terms
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))), st.integers(1, 6))
def test_it_keeps_exactly_what_was_used_last(steps: list[tuple[bool, int]], capacity: int) -> None:
    tier, terms = MemoryTier(LruConfig(), capacity), Terms("r")
    model: OrderedDict[str, None] = OrderedDict()
    assert tier.entries is not None
    assert tier.touch is not None
    for writes, number in steps:
        key = f"k{number}"
        if writes:
            tier.put(Entry(key, number, 1, math.inf, terms))
            if key not in model and len(model) >= capacity:
                model.popitem(last=False)
            model[key] = None
            model.move_to_end(key)
        elif key in model:
            tier.touch(key)
            model.move_to_end(key)
        assert list(tier.entries) == list(model)


def test_segments_dispatch_touches() -> None:
    tier, terms = MemoryTier(LruConfig(), 100_000), Terms("r")
    for number in range(200_000):
        tier.put(Entry(f"k{number}", number, 1, math.inf, terms))
        if number > 1000:
            assert tier.touch is not None
            tier.touch("k1")
            tier.touch("k999")
    assert tier.get("k1") is not None
    assert tier.get("k999") is not None
    assert tier.get("k2") is None
