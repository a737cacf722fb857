"""Loaders that confirm what stands."""

from __future__ import annotations

import pytest

from promises.scene import play
from tiercache import MISSING, Loaded


def test_a_value_that_its_loader_confirms_has_a_new_life_and_keeps_its_tags():
    """FusionCache #515: `NotModified` lost the tags, so that a later invalidation did not reach the value."""

    async def scenario(here):
        async def loader(context):
            return "v" if context.stale is MISSING else Loaded(context.stale)

        await here.cache.get_or_set("k", loader, tags=["t"])
        await here.later(101)
        assert await here.cache.get_or_set("k", loader, tags=["t"]) == "v"
        assert await here.cache.ttl("k") == pytest.approx(100, abs=0.01)
        await here.cache.invalidate(tags=["t"])
        assert await here.cache.get("k") is None

    play(scenario, stale="1h")


@pytest.mark.parametrize("far_only", [False, True])
def test_what_was_invalidated_is_not_offered_for_confirmation(far_only):
    """FusionCache #638: `NotModified` after a tag was removed brings back what the tag had removed."""

    async def scenario(here):
        async def loader(context):
            return "new" if context.stale is MISSING else context.stale

        await here.cache.set("k", "old", tags=["t"])
        await here.later(101)
        async with here.another() as other:
            there = other if far_only else here
            await there.cache.invalidate(tags=["t"])
            assert await there.cache.get_or_set("k", loader) == "new"

    play(scenario, stale="1h")
