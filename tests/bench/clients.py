"""What speaks to Redis and to files beside ours: one coroutine that reads, one that writes, for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from bench.caches import LIFE
from bench.row import Cases


class Client(NamedTuple):
    """One peer, ready."""

    get: Callable[[str], Awaitable[Any]]
    set: Callable[[str, Any], Awaitable[Any]]


def spread(
    act: Callable[[str], Awaitable[Any]], keys: list[str], tasks: int
) -> Callable[[], Awaitable[None]]:
    """Return what has *tasks* tasks do *act* for all *keys* between them, each key once."""
    shares = [keys[at::tasks] for at in range(tasks)]

    async def one(share: list[str]) -> None:
        for key in share:
            await act(key)

    async def all_of_them() -> None:
        await asyncio.gather(*[one(share) for share in shares])

    return all_of_them


@asynccontextmanager
async def redis_peers(cases: Cases, host: str, port: int) -> AsyncIterator[dict[str, Client]]:
    """Open every client of Redis that is installed, each in a database of its own."""
    from redis.asyncio import Redis

    found: dict[str, Client] = {}
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(Redis(host=host, port=port, max_connections=1000))
        found["redis-py"] = Client(plain.get, lambda key, value: plain.set(key, value, ex=int(LIFE)))
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup(f"redis://{host}:{port}/1", max_connections=1000)
            stack.push_async_callback(peer.close)
            found["cashews"] = Client(peer.get, lambda key, value: peer.set(key, value, expire=LIFE))
        if (aiocache := cases.peer("aiocache")) is not None:
            from aiocache.serializers import JsonSerializer

            other = aiocache.RedisCache(
                endpoint=host, port=port, db=2, serializer=JsonSerializer(), pool_max_size=1000
            )
            stack.push_async_callback(other.close)
            found["aiocache"] = Client(other.get, lambda key, value: other.set(key, value, ttl=LIFE))
        if (coredis := cases.peer("coredis")) is not None:
            core = await stack.enter_async_context(coredis.Redis(host=host, port=port, db=3))
            found["coredis"] = Client(core.get, lambda key, value: core.set(key, value, ex=int(LIFE)))
        if (glide := cases.peer("glide")) is not None:
            client = await glide.GlideClient.create(
                glide.GlideClientConfiguration([glide.NodeAddress(host, port)], database_id=4)
            )
            stack.push_async_callback(client.close)
            life = glide.ExpirySet(glide.ExpiryType.SEC, int(LIFE))
            found["valkey-glide"] = Client(client.get, lambda key, value: client.set(key, value, expiry=life))
        yield found


@asynccontextmanager
async def disk_peers(cases: Cases, directory: str) -> AsyncIterator[dict[str, Client]]:
    """Open every cache on disk that is installed."""
    found: dict[str, Client] = {}
    async with AsyncExitStack() as stack:
        if (diskcache := cases.peer("diskcache")) is not None:
            disk = diskcache.Cache(f"{directory}/diskcache")
            stack.callback(disk.close)
            found["diskcache in threads"] = Client(
                lambda key: asyncio.to_thread(disk.get, key),
                lambda key, value: asyncio.to_thread(disk.set, key, value, expire=LIFE),
            )
            if (cashews := cases.peer("cashews")) is not None:
                peer = cashews.Cache()
                peer.setup(f"disk://?directory={directory}/cashews&shards=0")
                stack.push_async_callback(peer.close)
                found["cashews disk"] = Client(peer.get, lambda key, value: peer.set(key, value, expire=LIFE))
            if (stores := _disk_store(cases)) is not None:
                store = await stack.enter_async_context(stores.DiskStore(directory=f"{directory}/key-value"))
                found["py-key-value disk"] = Client(
                    lambda key: store.get(key=key),
                    lambda key, value: store.put(key=key, value={"v": value}, ttl=LIFE),
                )
        yield found


def _disk_store(cases: Cases) -> Any:
    return cases.peer("key_value.aio.stores.disk")
