"""What type checkers make of the public names. `test_typing.py` lets them read this; nobody runs it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from tiercache import AsyncCached, Cache, SyncCache, SyncCached

cache: Cache = Cache.open()


@cache.cached(ttl="1h", key="user:{user_id}", tags=["user:{user_id}"])
async def find(user_id: int, *, deep: bool = False) -> list[str]:
    return [str(user_id), str(deep)]


@cache.cached()
def count(word: str, least: int = 0) -> int:
    return max(len(word), least)


class Users:
    def __init__(self, tenant: str) -> None:
        self.tenant = tenant

    @cache.cached(key="{self.tenant}:{user_id}")
    async def find(self, user_id: int) -> str:
        return f"{self.tenant} {user_id}"

    @cache.cached(ignore=("self",))
    def count(self, word: str) -> int:
        return len(word)

    @staticmethod
    @cache.cached()
    def size(word: str) -> int:
        return len(word)


async def coroutines(users: Users) -> None:
    assert_type(await find(7), list[str])
    assert_type(await find(7, deep=True), list[str])
    assert_type(await find.invalidate(7), bool)
    assert_type(await find.refresh(7), list[str])
    assert_type(await find.uncached(7), list[str])
    assert_type(find.key_for(user_id=7), str)
    assert_type(await users.find(7), str)
    assert_type(await users.find.invalidate(7), bool)
    assert_type(await users.find.refresh(user_id=7), str)
    as_before: Callable[[int], Coroutine[Any, Any, list[str]]] = find
    kept: AsyncCached[..., list[str]] = find
    await as_before(len(str(kept)))
    await find("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await find(7, deeper=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await find.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await users.find("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def functions(users: Users) -> None:
    assert_type(count("word"), int)
    assert_type(count("word", least=3), int)
    assert_type(count.invalidate("word"), bool)
    assert_type(count.refresh("word"), int)
    assert_type(count.cache_info().loads, int)
    assert_type(users.count("word"), int)
    assert_type(users.count.invalidate("word"), bool)
    assert_type(users.count.key_for("word"), str)
    assert_type(Users.count(users, "word"), int)
    assert_type(Users.size("word"), int)
    kept: SyncCached[..., int] = count
    kept()
    count(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.count()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def threads() -> None:
    face: SyncCache = cache.sync
    assert_type(face.delete("k"), bool)
    assert_type(face.get_many(["k"]), dict[str, Any])
    assert_type(face.ttl("k"), float | None)
    with Cache.open_sync({"tier": {}}) as own:
        assert_type(own, SyncCache)
        own.set("k", 1, ttl="1h")
        own.set("k", 1, "1h")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
