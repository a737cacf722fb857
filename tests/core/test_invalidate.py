"""Invalidation: by tags, prefixes, globs, and of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gated import document, opened, tier
from marked import marked
from servers import Server
from tiercache import Cache, CacheClosed, InvalidKey, LoadContext, Loaded, Record, Unsupported
from tiercache.engine import invalidation
from tiercache.frame import stamp_of
from tiercache.testing import FakeClock

TREE = {
    "user:1": ("red",),
    "user:2": ("blue",),
    "user:3": ("red", "blue"),
    "used": (),
    "post:1": ("red",),
}


def run(
    act: Callable[[Cache], Awaitable[None]],
    description: Mapping[str, Any] | None = None,
    clock: FakeClock | None = None,
) -> None:
    async def main() -> None:
        async with opened(description or marked(), clock=clock, plugins=["marked"]) as cache:
            await act(cache)

    asyncio.run(main())


async def planted(cache: Cache) -> None:
    for key, tags in TREE.items():
        await cache.set(key, key, tags=tags)


async def standing(cache: Cache) -> set[str]:
    """Return which keys of the tree are there, by every way of asking."""
    found = set(await cache.get_many(TREE))
    assert found == {key for key in TREE if await cache.get(key) == key}
    assert found == {key for key in TREE if await cache.exists(key)}
    assert found == {key for key in TREE if await cache.ttl(key) is not None}
    assert found == {key async for key in cache.keys()}
    return found


def near_lost(cache: Cache) -> None:
    for near in cache._house.nears.values():
        for key in list(near.keys()):
            near.remove(key)


INVALIDATIONS = {
    "a tag": ({"tags": ["red"]}, {"user:2", "used"}),
    "tags": ({"tags": ["red", "blue", "nobody"]}, {"used"}),
    "a prefix": ({"prefix": "user:"}, {"used", "post:1"}),
    "tags and a prefix": ({"tags": ["blue"], "prefix": "post"}, {"user:1", "used"}),
    "a glob that is a prefix": ({"match": "use*"}, {"post:1"}),
    "a glob": ({"match": "*:1"}, {"user:2", "user:3", "used"}),
    "a glob that is a key": ({"match": "user:1"}, set(TREE) - {"user:1"}),
    "a glob of everything": ({"match": "**"}, set()),
    "what nobody has": ({"tags": ["green"], "prefix": "nobody"}, set(TREE)),
}


@pytest.mark.parametrize("name", INVALIDATIONS)
@pytest.mark.parametrize("far_only", [False, True])
def test_what_is_invalidated_goes_and_nothing_else(name: str, far_only: bool) -> None:
    request, left = INVALIDATIONS[name]

    async def act(cache: Cache) -> None:
        await planted(cache)
        if far_only:
            near_lost(cache)
        await cache.invalidate(**request)
        assert await standing(cache) == left
        near_lost(cache)
        assert await standing(cache) == left
        await planted(cache)
        assert await standing(cache) == set(TREE), "what is set afterwards lives"

    run(act)


def test_markers_count_nobody_and_other_globs_count_what_was_there() -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        assert await cache.invalidate(tags=["red"]) is None
        assert await cache.invalidate(match="use*") is None
        await planted(cache)
        near_lost(cache)
        assert await cache.invalidate(match="user:[12]") == 2
        assert await cache.invalidate(match="user:[12]") == 0

    run(act)


@pytest.mark.parametrize("request_", [{"tags": ["red"]}, {"prefix": "user:"}, {"match": "user:*"}])
def test_far_tiers_are_told_one_marker_however_much_it_concerns(request_: dict[str, Any]) -> None:
    async def act(cache: Cache) -> None:
        await cache.set_many({f"user:{n}": n for n in range(700)}, tags=["red"])
        for name in ("shelf", "cellar"):
            tier(cache, name).calls.clear()
        await cache.invalidate(**request_)
        for name in ("shelf", "cellar"):
            ((what, names),) = tier(cache, name).calls
            assert what == "mark"
            assert len(names) == 1
        assert await cache.get("user:1") is None

    run(act)


async def during(cache: Cache, interrupt: Callable[[], Awaitable[object]], brought: Any = "old") -> Any:
    """Return what a load brings that is under way while *interrupt* happens."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def loader() -> Any:
        began.set()
        await go_on.wait()
        return brought

    loading = asyncio.create_task(cache.get_or_set("user:1", loader, tags=["blue"]))
    await began.wait()
    await interrupt()
    go_on.set()
    return await loading


@pytest.mark.parametrize("brought", ["old", Loaded("old", tags=("red",))])
@pytest.mark.parametrize("request_", [{"tags": ["red", "blue"]}, {"prefix": "user:"}, {"match": "*:1"}, {}])
def test_a_load_that_an_invalidation_meets_is_stored_nowhere(brought: Any, request_: dict[str, Any]) -> None:
    async def act(cache: Cache) -> None:
        async def interrupt() -> None:
            await (cache.invalidate(**request_) if request_ else cache.clear())

        assert await during(cache, interrupt, brought) == "old"
        assert await cache.get("user:1") is None
        assert not tier(cache, "cellar").rows

    run(act)


@pytest.mark.parametrize(
    "brought", ["old", Loaded("old", tags=("red",)), Loaded("old", tags=("red",), store=False)]
)
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_who_comes_after_the_invalidation_is_not_given_what_began_before(
    brought: Any, again: bool, many: bool
) -> None:
    async def act(cache: Cache) -> None:
        late: list[asyncio.Task[Any]] = []
        # What a loader names itself is known only when it ends.
        tags = ["blue"] if brought == "old" else ["red"]

        async def interrupt() -> None:
            await cache.invalidate(tags=tags)
            if many:
                call = cache.get_or_set_many(["user:1"], lambda keys: dict.fromkeys(keys, "new"))
            else:
                call = cache.get_or_set("user:1", lambda: "new")
            late.append(asyncio.create_task(call))
            await asyncio.sleep(0)
            if again:
                # Of the two markers only this one will be known.
                await cache.invalidate(tags=tags)

        assert await during(cache, interrupt, brought) == "old"
        assert await late[0] == ({"user:1": "new"} if many else "new")
        assert await cache.get("user:1") == "new"

    run(act)


def test_a_load_goes_on_for_all_where_a_tag_that_it_does_not_carry_is_invalidated() -> None:
    async def act(cache: Cache) -> None:
        async def interrupt() -> None:
            await cache.invalidate(tags=["green"], prefix="post:")
            late.append(asyncio.create_task(cache.get_or_set("user:1", pytest.fail)))
            await asyncio.sleep(0)

        late: list[asyncio.Task[Any]] = []
        assert await during(cache, interrupt) == "old"
        assert await late[0] == "old"
        assert await cache.get("user:1") == "old"

    run(act)


@pytest.mark.parametrize("request_", [{"tags": ["red"]}, {"prefix": "user:"}, {"match": "*:1"}, {}])
def test_a_far_read_that_an_invalidation_meets_finds_nothing(request_: dict[str, Any]) -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        near_lost(cache)
        cellar, shelf = tier(cache, "cellar"), tier(cache, "shelf")
        shelf.rows.clear()
        cellar.gate.clear()
        reading = asyncio.create_task(cache.get("user:1"))
        while cellar.calls[-1][0] != "read":
            await asyncio.sleep(0)
        invalidating = asyncio.create_task(cache.invalidate(**request_) if request_ else cache.clear())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cellar.gate.set()
        await invalidating
        await reading
        assert await cache.get("user:1") is None
        near_lost(cache)
        assert await cache.get("user:1") is None

    run(act)


def test_a_stale_copy_is_never_served_after_an_invalidation() -> None:
    time = FakeClock()
    seen: list[Any] = []

    def fail(context: LoadContext) -> Any:
        seen.append(context.stale)
        raise RuntimeError("away")

    async def act(cache: Cache) -> None:
        await cache.set("user:1", "old", ttl=1, stale=1000, tags=["red"])
        time.advance(2)
        assert await cache.get_or_set("user:1", fail) == "old"
        time.advance(10)
        near_lost(cache)
        await cache.invalidate(tags=["red"])
        assert await cache.get_or_set("user:1", fail, fallback="nothing") == "nothing"
        assert [value == "old" for value in seen] == [True, False]

    run(act, clock=time)


def test_what_must_not_be_guessed_takes_what_was_invalidated_as_absent() -> None:
    description = marked()
    description["route"]["all"]["default"] = True
    description["route"]["far"] = {"tiers": ["shelf"], "keys": ["far:*"], "ttl": "1h"}

    async def act(cache: Cache) -> None:
        for key in ("near:1", "far:1"):
            await cache.set(key, 41, tags=["red"])
            await cache.invalidate(tags=["red"])
            assert not await cache.touch(key, ttl=5)
            assert await cache.add(key, 1)
            await cache.invalidate(prefix=key)
            assert await cache.increment(key) == 1
            await cache.clear()
            assert not await cache.delete(key)

    run(act, description)


def test_near_entries_go_in_slices_and_meanwhile_every_hit_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidation, "SLICE", 0.0)
    description = {
        "tier": {"memory": {"type": "memory", "max_entries": 1000}},
        "route": {"all": {"tiers": ["memory"]}},
    }

    async def act(cache: Cache) -> None:
        keys = [f"user:{n}" for n in range(200)]
        await cache.set_many(dict.fromkeys(keys, 1), tags=["red"])
        await cache.set("other", 1)
        requests: tuple[dict[str, Any], ...] = ({"prefix": "user:"}, {"tags": ["red"]})
        for request in requests:
            assert all([await cache.get(key) for key in keys])
            invalidating = asyncio.create_task(cache.invalidate(**request))
            await asyncio.sleep(0)
            held = cache._house.nears["memory"].stats()["entries"]
            assert held > 100, "not dropped at once"
            assert cache.now == float("inf")
            assert not any([await cache.get(key) for key in keys])
            assert not any(cache.peek(key) for key in keys)
            assert await cache.get("other") == 1
            await invalidating
            assert cache._house.nears["memory"].stats()["entries"] == 1
            await cache.get("other")
            assert cache.now < float("inf"), "hits are quick again"
            await cache.set_many(dict.fromkeys(keys, 1), tags=["red"])
            assert await cache.get(keys[0]) == 1

    run(act, description)


def test_a_cancelled_invalidation_leaves_nothing_that_is_dead_to_quick_hits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invalidation, "SLICE", 0.0)

    async def act(cache: Cache) -> None:
        keys = [f"user:{n}" for n in range(200)]
        await cache.set_many(dict.fromkeys(keys, 1))
        invalidating = asyncio.create_task(cache.invalidate(prefix="user:"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        invalidating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await invalidating
        assert not any([await cache.get(key) for key in keys])
        await cache._house.fars["cellar"].writes.idle()
        assert tier(cache, "cellar").markers.keys() == {"p:user:"}

    run(act)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, ValueError),
        ({"tags": ()}, ValueError),
        ({"tags": "red"}, TypeError),
        ({"tags": [""]}, InvalidKey),
        ({"tags": [1]}, InvalidKey),
        ({"prefix": ""}, ValueError),
        ({"prefix": "a\n"}, InvalidKey),
        ({"match": ""}, ValueError),
        ({"match": "[a"}, ValueError),
        ({"match": "a*", "prefix": "a"}, ValueError),
        ({"match": "a*", "tags": ["red"]}, ValueError),
    ],
)
def test_what_is_no_invalidation_is_refused_and_changes_nothing(
    request_: dict[str, Any], error: type[Exception]
) -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        with pytest.raises(error):
            await cache.invalidate(**request_)
        assert await standing(cache) == set(TREE)

    run(act)


def test_a_closed_cache_refuses() -> None:
    async def main() -> None:
        cache = opened(marked(), plugins=["marked"])
        with pytest.raises(CacheClosed):
            await cache.invalidate(tags=["red"])

    asyncio.run(main())


def test_without_a_tier_that_keeps_markers_tags_are_refused_and_prefixes_deleted() -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        with pytest.raises(Unsupported, match="Marks"):
            await cache.invalidate(tags=["red"])
        assert await standing(cache) == set(TREE)
        await cache.invalidate(prefix="user:")
        assert await standing(cache) == {"used", "post:1"}
        for name in ("shelf", "cellar"):
            assert tier(cache, name).living() == {"tiercache:used", "tiercache:post:1"}

    run(act, document())


def test_a_glob_falls_back_to_a_marker_where_a_tier_cannot_be_listed() -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        tier(cache, "shelf").error = OSError("away")
        assert await cache.invalidate(match="user:[12]") is None
        tier(cache, "shelf").error = None
        near_lost(cache)
        found = {key for key in TREE if await cache.get(key) == key}
        assert found == {"used", "post:1"}

    run(act)


def test_a_tier_that_was_away_is_told_later() -> None:
    async def act(cache: Cache) -> None:
        await planted(cache)
        shelf = tier(cache, "shelf")
        shelf.mark_error = OSError("full")
        await cache.invalidate(tags=["red"])
        assert await standing(cache) == {"user:2", "used"}
        assert not shelf.markers
        assert cache.stats().tiers["shelf"].queued == 1
        shelf.mark_error = None
        await cache.invalidate(tags=["green"])
        assert shelf.markers == tier(cache, "cellar").markers
        assert shelf.markers.keys() == {"t:red", "t:green"}
        assert cache.stats().tiers["shelf"].queued == 0

    run(act)


def test_a_tier_that_is_away_when_the_cache_closes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def act(cache: Cache) -> None:
        tier(cache, "shelf").mark_error = OSError("full")
        await cache.invalidate(tags=["red"])

    run(act)
    assert "tier shelf was never told of 1 invalidations" in caplog.text


def test_a_tier_is_read_only_once_its_markers_are_known() -> None:
    time = FakeClock()

    async def main() -> None:
        first = opened(marked(), clock=time, plugins=["marked"])
        async with first:
            await planted(first)
            await first.invalidate(tags=["red"])
        time.advance(1)
        second = opened(marked(), clock=time, plugins=["marked"])
        shelf = tier(second, "shelf")
        shelf.rows, shelf.markers = tier(first, "shelf").rows, tier(first, "shelf").markers
        shelf.open_error = OSError("away")
        async with second:
            await second.set("mine", "mine", tags=["red"])
            assert not tier(second, "cellar").markers
            shelf.open_error = None
            time.advance(60)
            assert await second.get("user:1") is None
            assert await second.get("user:2") == "user:2"
            assert await second.get("mine") == "mine"
            assert tier(second, "cellar").markers == shelf.markers, "what one knows the other is told"
        assert next(what for what, _ in shelf.calls if what in {"marks", "read"}) == "marks"

    asyncio.run(main())


def test_a_marker_of_a_far_future_kills_what_is_there_and_nothing_to_come() -> None:
    async def main() -> None:
        cache = opened(marked(), clock=FakeClock(), plugins=["marked"])
        tier(cache, "shelf").markers["t:red"] = 2**62
        async with cache:
            await cache.set("user:1", "user:1", tags=["red"])
            near_lost(cache)
            assert await cache.get("user:1") == "user:1"
            await cache.invalidate(tags=["red"])
            assert await cache.get("user:1") is None

    asyncio.run(main())


def test_a_tier_that_answers_with_nonsense_for_markers_is_taken_for_away() -> None:
    async def main() -> None:
        cache = opened(marked(), clock=FakeClock(), plugins=["marked"])
        tier(cache, "shelf").markers["t:red"] = "yesterday"
        async with cache:
            await cache.set("user:1", 1)
            assert await cache.get("user:1") == 1
            assert not tier(cache, "shelf").rows

    asyncio.run(main())


def test_beyond_their_bound_the_oldest_markers_become_one_for_everything() -> None:
    description = {**marked(), "cache": {"max_markers": 10}}

    async def act(cache: Cache) -> None:
        await cache.set("old", 1)
        await cache.invalidate(tags=["first"])
        await cache.set("middle", 1)
        for n in range(10):
            await cache.invalidate(tags=[f"tag{n}"])
        await cache.set("new", 1)
        near_lost(cache)
        assert await cache.get("old") is None
        assert await cache.get("new") == 1
        for name in ("shelf", "cellar"):
            kept = tier(cache, name).markers
            assert kept.items() >= cache._house.invalidation.markers.all().items()
            assert len(kept) <= 11

    run(act, description)


def on_disk(path: Path, **tiers: Any) -> dict[str, Any]:
    return {
        "cache": {"namespace": "markers"},
        "tier": {"memory": {"type": "memory"}, "disk": {"type": "sqlite", "path": str(path)}, **tiers},
        "route": {"all": {"tiers": ["memory", *tiers, "disk"], "ttl": "1h"}},
    }


@pytest.mark.parametrize("request_", [{"tags": ["red"]}, {"prefix": "user:"}, {"match": "user:*"}, {}])
def test_what_was_invalidated_stays_so_when_the_file_is_opened_again(
    tmp_path: Path, request_: dict[str, Any]
) -> None:
    time = FakeClock()
    left: set[str] = set()

    async def main() -> None:
        async with Cache.open(on_disk(tmp_path / "a.db"), clock=time) as cache:
            await planted(cache)
            await (cache.invalidate(**request_) if request_ else cache.clear())
            left.update(await standing(cache))
            assert len(left) < len(TREE)
        async with Cache.open(on_disk(tmp_path / "a.db"), clock=time) as cache:
            assert await standing(cache) == left
            await planted(cache)
            near_lost(cache)
            assert await standing(cache) == set(TREE)

    asyncio.run(main())


def test_a_flushed_server_revives_nothing_that_the_disk_holds(tmp_path: Path, valkey_server: Server) -> None:
    description = on_disk(tmp_path / "a.db", shared={"type": "redis", "url": valkey_server.url, "timeout": 5})
    description["cache"]["namespace"] = f"flushed{tmp_path.name}"

    async def main() -> None:
        async with Cache.open(description) as cache:
            await planted(cache)
            await cache.invalidate(tags=["red"])
            shared = tier(cache, "shared")
            async for keys in shared.scan(f"{cache._house.namespace}:"):
                await shared.delete(keys)
            assert (await shared.marks()).keys() == {"t:red"}
            await shared.mark({}, 2**62)
            near_lost(cache)
            assert await standing(cache) == {"user:2", "used"}
        async with Cache.open(description) as cache:
            assert (await tier(cache, "shared").marks()).keys() == {"t:red"}, "told again by the disk"
            assert await standing(cache) == {"user:2", "used"}
            await cache.clear()

    asyncio.run(main())


def test_a_delete_is_remembered_in_far_tiers_and_keeps_out_what_is_older() -> None:
    time = FakeClock()

    async def act(cache: Cache) -> None:
        shelf, cellar = tier(cache, "shelf"), tier(cache, "cellar")
        await cache.set("user:1", "old")
        late = {name: tier(cache, name).rows["tiercache:user:1"] for name in ("shelf", "cellar")}
        assert await cache.delete("user:1")
        assert not await cache.delete("user:1"), "a tombstone is nothing"
        for name, (frame, expires_at) in late.items():
            record = Record("tiercache:user:1", frame, expires_at, stamp_of(frame), conditional=True)
            assert list(await tier(cache, name).write([record])) == [0], "a load result from elsewhere"
        assert await standing(cache) == set()
        assert await cache.add("user:1", "new")
        assert await cache.delete("user:1")
        assert await cache.increment("user:1", 2) == 2
        await cache.set("user:1", "user:1")
        assert await standing(cache) == {"user:1"}
        await cache.delete_many(["user:1", "never:there"])
        assert len(shelf.rows) == len(cellar.rows) == 2
        time.advance(59)
        assert shelf.standing("tiercache:never:there") is not None
        time.advance(2)
        assert shelf.standing("tiercache:never:there") is None

    run(act, clock=time)


def test_a_tombstone_outlasts_the_longest_load() -> None:
    time = FakeClock()

    async def act(cache: Cache) -> None:
        await cache.delete("user:1")
        time.advance(500)
        assert tier(cache, "shelf").standing("tiercache:user:1") is not None

    run(act, {**marked(hard_timeout="10m"), "cache": {"tombstone": "1s"}}, clock=time)


def test_deleting_counts_what_was_fresh() -> None:
    time = FakeClock()

    async def act(cache: Cache) -> None:
        await cache.set("stale", 1, ttl=1, stale=100)
        await cache.set("dead", 1, tags=["red"])
        await cache.set("fresh", 1)
        time.advance(2)
        await cache.invalidate(tags=["red"])
        near_lost(cache)
        assert [await cache.delete(key) for key in ("stale", "dead", "fresh", "absent")] == [
            False, False, True, False,
        ]  # fmt: skip

    run(act, clock=time)


def test_a_delete_that_a_tier_misses_is_made_good() -> None:
    time = FakeClock()

    async def act(cache: Cache) -> None:
        await cache.set("user:1", "old")
        shelf = tier(cache, "shelf")
        shelf.error = OSError("away")
        assert await cache.delete("user:1")
        shelf.error = None
        time.advance(60)
        assert await cache.get("user:1") is None
        await cache._house.fars["shelf"].idle()
        assert shelf.living() == set()

    run(act, clock=time)
