"""What type checkers make of the flat interface and the patterns. `test_typing.py` lets them read this."""

from __future__ import annotations

from typing import Any, assert_type

from tiercache import Warmed
from tiercache_plugins.advanced import (
    AdvancedCachingSystem,
    CacheConfig,
    CacheType,
    DiskCache,
    cache_result,
    computed_cache,
    dynamic_cache,
    static_cache,
    temporary_cache,
)
from tiercache_plugins.patterns import (
    CacheAsidePattern,
    CacheWithInvalidationPattern,
    CacheWithPrefetchPattern,
    ReadThrough,
    RefreshAhead,
    WriteBehindPattern,
    WriteThroughPattern,
)


@static_cache(ttl=86400)
async def settings() -> dict[str, str]:
    return {}


@dynamic_cache(ttl="1h", key="user:{user_id}", tags=["users"])
async def find(user_id: int, *, deep: bool = False) -> list[str]:
    return [str(user_id), str(deep)]


@computed_cache()
def size(word: str) -> int:
    return len(word)


@cache_result(ttl=1800, cache_type=CacheType.COMPUTED)
async def mean(data: list[float]) -> float:
    return sum(data) / len(data)


class Users:
    tenant = "shop"

    @temporary_cache(key="{self.tenant}:{name}")
    async def find(self, name: str) -> str:
        return name


async def decorators(users: Users) -> None:
    assert_type(await settings(), dict[str, str])
    assert_type(await find(7, deep=True), list[str])
    assert_type(await find.invalidate(7), bool)
    assert_type(await find.refresh(7), list[str])
    assert_type(find.key_for(7), str)
    assert_type(size("word"), int)
    assert_type(await mean([1.0]), float)
    assert_type(await users.find("Ann"), str)
    assert_type(await users.find.invalidate("Ann"), bool)
    await find("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    size(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await mean()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def system() -> None:
    config = CacheConfig(redis_url="redis://localhost", disk_cache_dir="./cache", memory_ttl="1h")
    async with AdvancedCachingSystem(config) as cache:
        await cache.set("k", 1, CacheType.STATIC, ttl=1800)
        assert_type(await cache.delete("k"), bool)
        assert_type(await cache.get_many(["k"]), dict[str, Any])
        assert_type(await cache.warmup_cache({"k": 1}, CacheType.STATIC), Warmed)
        assert_type(cache.get_comprehensive_stats()["overall"], dict[str, Any])
        await cache.get("k", "static")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with DiskCache(config) as disk:
        assert_type(await disk.exists("k"), bool)


def save(key: str, value: object) -> None: ...


async def patterns(cache: AdvancedCachingSystem, config: CacheConfig) -> None:
    await CacheAsidePattern(cache, config).get("k", find, 7)
    await WriteThroughPattern(cache, config).set("k", 1, save)
    await CacheWithInvalidationPattern(cache.cache).set_with_dependencies("k", 1, ["a"])
    await CacheWithPrefetchPattern(cache, config).register_prefetch_rule("user:", dict, threshold=3)
    ReadThrough(cache, config).register("user:*", find)
    RefreshAhead(cache.cache, ttl="1h", share=0.9).register("user:*", find)
    async with WriteBehindPattern(cache, config, writer=save) as behind:
        await behind.set("k", 1)
        assert_type(await behind.retry_dead_letters(), int)
    await WriteThroughPattern(cache, config).set("k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    CacheAsidePattern("cache")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
