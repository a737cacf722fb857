"""Lives that differ a little, so that they do not end together."""

from __future__ import annotations

import pytest

from promises.scene import Source, play, settle


def test_jitter_shortens_a_life_once_and_all_tiers_agree():
    """FusionCache's jitter lengthens a life; here it is taken off, once, so that tiers agree."""

    async def scenario(here):
        lives = set()
        for number in range(40):
            await here.cache.set(f"k{number}", 1)
            life = await here.cache.ttl(f"k{number}")
            assert 50 <= life <= 100.001
            async with here.another(tiers=["cellar"]) as other:
                assert await other.cache.ttl(f"k{number}") == pytest.approx(life, abs=0.01)
            lives.add(round(life, 3))
        assert len(lives) > 30

    play(scenario, jitter=0.5)


def test_a_stale_copy_that_stands_in_rests_for_a_fixed_time():
    """FusionCache tests that jitter is not used when fail-safe is activated."""

    async def scenario(here):
        for number in range(20):
            source = Source("old")
            await here.cache.get_or_set(f"k{number}", source)
            await here.later(101)
            source.error = OSError("source")
            assert await here.cache.get_or_set(f"k{number}", source) == "old"
            await settle()
            here.clock.advance(4.9)
            assert await here.cache.get_or_set(f"k{number}", source) == "old"
            assert source.calls == 2

    play(scenario, jitter=0.5, stale="1h")
