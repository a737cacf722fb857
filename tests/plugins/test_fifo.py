from __future__ import annotations

import math
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from tiercache import Entry, Terms
from tiercache_plugins.policies.fifo import FifoConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier


@given(st.lists(st.tuples(st.sampled_from("prx"), st.integers(0, 9)), max_size=120), st.integers(1, 6))
def test_it_keeps_what_came_last_whatever_is_read(steps: list[tuple[str, int]], capacity: int) -> None:
    tier, terms = MemoryTier(FifoConfig(), capacity), Terms("r")
    model: deque[str] = deque()
    for what, number in steps:
        key = f"k{number}"
        if what == "p":
            tier.put(Entry(key, number, 1, math.inf, terms))
            if key not in model:
                if len(model) >= capacity:
                    model.popleft()
                model.append(key)
        elif what == "x":
            assert tier.remove(key) is (key in model)
            if key in model:
                model.remove(key)
        elif (entry := tier.get(key)) is not None:
            entry.hits += 1
        assert set(tier.keys()) == set(model)
