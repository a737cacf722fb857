"""Warming: from mappings, items, loaders and files, a few at a time, and what happens to those that fail."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from click.testing import CliRunner

from gated import opened
from tiercache import WarmItem, read_lines, warm, warm_by
from tiercache.cli import main

DOCUMENT = {
    "tier": {"memory": {"type": "memory"}, "shelf": {"type": "able"}},
    "route": {
        "all": {"tiers": ["memory", "shelf"], "ttl": 100, "default": True},
        "near": {"tiers": ["memory"], "ttl": 100},
    },
}


def run(scenario):
    async def main():
        async with opened(DOCUMENT) as cache:
            return await scenario(cache)

    return asyncio.run(main())


def test_a_mapping_is_stored_whole_and_progress_is_told():
    async def scenario(cache):
        told = []
        done = await warm(
            cache, {f"k{at}": at for at in range(50)}, ttl=50, tags=["t"], concurrency=7, progress=told.append
        )
        assert (done.stored, done.failed, done.total) == (50, 0, 50)
        assert [each.stored for each in told] == list(range(1, 51))
        assert await cache.get("k7") == 7
        assert await cache.ttl("k7") <= 50

    run(scenario)


def test_items_say_what_they_are_stored_with():
    async def items():
        yield WarmItem("a", 1, "near", 10, ("mine",))
        yield WarmItem("b", None)

    async def scenario(cache):
        done = await warm(cache, items(), ttl=50, tags=["all"])
        assert (done.stored, done.failed, done.total) == (2, 0, None)
        assert await cache.ttl("a", route="near") <= 10
        assert 10 < await cache.ttl("b") <= 50
        assert await cache.get("b", "absent") is None
        assert cache._house.nears["memory"].tags("a") == ("all", "mine")

    run(scenario)


def test_what_fails_is_counted_and_logged_and_the_others_go_on(caplog):
    async def scenario(cache):
        done = await warm(cache, {"a": 1, "": 2, "b": object(), "c": 3})
        assert (done.stored, done.failed) == (2, 2)
        assert await cache.get_many(["a", "c"]) == {"a": 1, "c": 3}

    run(scenario)
    assert "'b' was not warmed: Unserializable" in caplog.text
    assert "'' was not warmed: InvalidKey" in caplog.text


def test_no_more_are_under_way_than_asked_for():
    async def scenario(cache):
        running = most = 0
        loaded = []

        async def load(key):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            loaded.append(key)
            if key == "k3":
                raise OSError("down")
            return key

        await cache.set("k1", "there")
        done = await warm_by(cache, [f"k{at}" for at in range(30)], load, concurrency=4)
        assert (done.stored, done.failed, done.total) == (29, 1, 30)
        assert most == 4
        assert "k1" not in loaded
        assert await cache.get("k1") == "there"
        assert await cache.get("k29") == "k29"

    run(scenario)


def test_a_rate_spreads_the_keys_over_time():
    async def scenario(cache):
        began = time.monotonic()
        await warm(cache, {f"k{at}": at for at in range(6)}, rate=100)
        assert time.monotonic() - began >= 0.05

    run(scenario)


def test_a_mistake_in_the_numbers_is_refused():
    async def scenario(cache):
        with pytest.raises(ValueError, match="concurrency"):
            await warm(cache, {}, concurrency=0)
        with pytest.raises(ValueError, match="rate"):
            await warm(cache, {}, rate=0)

    run(scenario)


LINES = [
    {"key": "user:1", "value": {"name": "Ann"}, "ttl": "1h", "tags": ["people"]},
    {"key": "user:2", "value": None, "route": "dynamic"},
]


def test_a_file_has_an_item_a_line(tmp_path):
    path = tmp_path / "hot.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in LINES))
    assert list(read_lines(path)) == [
        WarmItem("user:1", {"name": "Ann"}, None, "1h", ("people",)),
        WarmItem("user:2", None, "dynamic", None, ()),
    ]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"key": "k"}', '{"key": 1, "value": 1}', '{"key": "k", "value": 1, "tag": "t"}',
     '{"key": "k", "value": 1, "tags": "t"}', '{"key": "k", "value": 1, "route": 1}'],
)  # fmt: skip
def test_a_line_that_is_something_else_is_told_with_its_number(tmp_path, line):
    path = tmp_path / "hot.jsonl"
    path.write_text(f'{{"key": "k", "value": 1}}\n{line}\n')
    with pytest.raises(ValueError, match="hot.jsonl:2: "):
        list(read_lines(path))


def test_the_command_stores_what_is_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "tiercache.toml").write_text(
        '[tier.disk]\ntype = "sqlite"\npath = "c.db"\n[route.dynamic]\ntiers = ["memory", "disk"]\n'
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hot.jsonl").write_text("\n".join(json.dumps(line) for line in LINES))

    def call(*arguments):
        return CliRunner().invoke(main, arguments)

    assert call("warm", "hot.jsonl").output == "stored 2 of 2\n"
    assert json.loads(call("get", "user:1", "--json").output)["value"] == {"name": "Ann"}
    assert json.loads(call("warm", "hot.jsonl", "--json", "--rate", "1e6", "--tag", "t").output) == {
        "stored": 2, "failed": 0,
    }  # fmt: skip
    (tmp_path / "hot.jsonl").write_text('{"key": "ok", "value": 1}\n{"key": "bad\\u0000", "value": 1}')
    result = call("warm", "hot.jsonl")
    assert result.exit_code == 1
    assert "stored 1 of 2" in result.output
    assert "1 could not be stored" in result.output
    (tmp_path / "hot.jsonl").write_text('{"key": "late", "value": 1}\nnonsense')
    result = call("warm", "hot.jsonl")
    assert result.exit_code == 2
    assert "hot.jsonl:2" in result.output
    assert call("get", "late").exit_code == 1
    assert call("warm", "nowhere.jsonl").exit_code == 2
