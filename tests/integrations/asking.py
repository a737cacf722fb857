"""A browser's view of an ASGI application: cookies are kept, and fields can be looked at."""

from __future__ import annotations

import asyncio

import httpx

from tiercache import Cache
from tiercache.testing import FakeClock
from tiercache_plugins.integrations.sessions import SessionCache

COOKIE = "__Host-session"
MEMORY = {
    "tier": {"memory": {"type": "memory"}},
    "route": {
        "session": {"tiers": ["memory"], "copy": True, "sliding": "10m"},
        "other": {"tiers": ["memory"], "default": True},
    },
}


def browser(app, **given):
    transport = httpx.ASGITransport(app, raise_app_exceptions=given.pop("raising", True))
    return httpx.AsyncClient(transport=transport, base_url="https://shop.example", **given)


def during(scenario, document=MEMORY, **options):
    """Run *scenario* with sessions, their cache, and the clock that both have."""

    async def life():
        clock = FakeClock()
        async with Cache.open(document, clock=clock) as cache:
            await scenario(SessionCache(cache, max_age="1h", clock=clock, **options), cache, clock)

    asyncio.run(life())
