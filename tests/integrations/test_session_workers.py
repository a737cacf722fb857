"""The example with sessions, served by two uvicorn workers over Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import httpx
import pytest

from http_cache.shop import connections, shop

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "fastapi_sessions"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the sockets of workers are handed down")


@contextlib.asynccontextmanager
async def browsers(address, count):
    """Yield clients, each with connections to both workers before long: one for every request at a time."""
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=0)
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=address, timeout=60, trust_env=False, limits=limits)
            )
            for _ in range(count)
        ]


async def visited(address):
    async with connections(address, each=1) as both:
        assert len({connection.pid for connection in both}) == 2
    async with browsers(address, 3) as (ann, phone, bob):
        await ann.put("/cart/gone")
        anonymous = ann.cookies["session"]
        for client, name in ((ann, "ann"), (phone, "ann"), (bob, "bob")):
            assert (await client.post(f"/login/{name}")).json() == {"name": name}
        assert ann.cookies["session"] != anonymous
        # Connections of their own, so both workers change the same sessions at the same time.
        for client in (ann, bob):
            await asyncio.gather(
                *[client.put(f"/cart/{number}") for number in range(16)], client.delete("/cart/gone")
            )
        wanted = {f"cart:{number}": 1 for number in range(16)}
        for client, name in ((ann, "ann"), (bob, "bob")):
            seen = [answer.json() for answer in await asyncio.gather(*[client.get("/me") for _ in range(8)])]
            assert seen == [wanted | {"user_id": name}] * 8
        old = {"cookie": f"session={anonymous}"}
        async with browsers(address, 1) as (thief,):
            for _ in range(8):
                assert (await thief.get("/me", headers=old)).json() == {}
        kept = {"cookie": f"session={ann.cookies['session']}"}
        assert (await ann.post("/logout")).status_code == 200
        async with browsers(address, 1) as (thief,):
            asked = await asyncio.gather(*[thief.get("/me", headers=kept) for _ in range(8)])
            assert [answer.json() for answer in asked] == [{}] * 8
        assert (await phone.get("/me")).json() == {"user_id": "ann"}
        assert (await ann.get("/me")).json() == {}


def test_two_workers_lose_no_change_and_forget_who_left_at_once(tmp_path, valkey_server):
    environment = {
        "TIERCACHE_TIER__REDIS__URL": valkey_server.url,
        "TIERCACHE_CACHE__NAMESPACE": "sessions-of-workers",
        "SHOP_PLAIN_HTTP": "1",
    }
    with shop("redis.toml", tmp_path, EXAMPLE, **environment) as address:
        asyncio.run(visited(address))
