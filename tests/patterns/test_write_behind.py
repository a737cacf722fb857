"""Write-behind: what was acknowledged reaches the source, in order by key, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

import storehouse
import storing_child
from tiercache import MISSING, Cache, InvalidKey, Unserializable
from tiercache_plugins.advanced import AdvancedCachingSystem, CacheConfig
from tiercache_plugins.patterns import OutboxFull, WriteBehindPattern
from tiercache_plugins.patterns.write_behind import Terms

MEMORY = {"route": {"all": {"tiers": ["memory"]}}}
SOON = Terms(backoff=0.001, max_backoff=0.01)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    storehouse.reset()
    monkeypatch.chdir(tmp_path)


def run(scenario, **options):
    options = {"writer": storehouse.save, "path": "outbox.db", "terms": SOON} | options

    async def main():
        async with Cache.open(MEMORY) as cache, WriteBehindPattern(cache, **options) as pattern:
            return await scenario(pattern, cache)

    return asyncio.run(main())


def test_the_cache_has_it_at_once_and_the_source_soon_after():
    async def scenario(pattern, cache):
        gate = asyncio.Event()
        storehouse.GATES.append(gate)
        await pattern.set("k", {"a": (1, None)})
        assert await cache.get("k") == {"a": (1, None)}
        assert storehouse.WRITES == []
        gate.set()
        await pattern.flush()
        assert storehouse.ROWS == {"k": {"a": (1, None)}}
        assert pattern.delivery.delivered == 1

    run(scenario)


@pytest.mark.parametrize("options", [{"writer": storehouse.save_slowly, "batch_writer": None},
                                     {"writer": None, "batch_writer": storehouse.save_many}])  # fmt: skip
def test_every_write_is_delivered_in_order_by_key(options):
    async def scenario(pattern, cache):
        for number in range(20):
            await asyncio.gather(*(pattern.set(f"k{key}", number) for key in range(5)))
        await pattern.flush()
        for key in range(5):
            assert [value for name, value in storehouse.WRITES if name == f"k{key}"] == list(range(20))

    run(scenario, **options)


def test_what_fails_is_tried_again_before_later_writes_of_its_key():
    async def scenario(pattern, cache):
        storehouse.BROKEN.extend(OSError("down") for _ in range(3))
        await pattern.set("a", 1)
        await pattern.set("a", 2)
        await pattern.set("b", 1)
        await pattern.flush()
        assert [value for key, value in storehouse.WRITES if key == "a"] == [1, 2]
        assert storehouse.ROWS == {"a": 2, "b": 1}
        assert pattern.delivery.retries == 3

    run(scenario)


def test_a_batch_that_fails_is_tried_write_by_write():
    tried = []

    async def save_many(writes):
        tried.append([write.key for write in writes])
        if any(write.key == "bad" for write in writes):
            raise OSError("not this one")

    async def scenario(pattern, cache):
        # Stored while the first call is under way, so that they make a batch.
        gate = asyncio.Event()

        async def hold(writes):
            await gate.wait()

        pattern.delivery._batch_writer = hold
        await pattern.set("first", 0)
        for key in ("a", "bad", "b", "bad"):
            await pattern.set(key, 1)
        pattern.delivery._batch_writer = save_many
        gate.set()
        while len(await pattern.dead_letters()) < 2:
            await asyncio.sleep(0.01)
        await pattern.flush()
        dead = await pattern.dead_letters()
        assert [(write.key, write.attempts, error) for write, error in dead] == [
            ("bad", 2, "OSError: not this one")
        ] * 2
        assert tried[0] == ["a", "bad", "b", "bad"]
        assert tried[1:4] == [["a"], ["bad"], ["b"]]

    run(scenario, writer=None, batch_writer=save_many, terms=Terms(backoff=0.001, max_attempts=2))


def test_what_fails_for_ever_becomes_a_dead_letter_and_later_writes_go_on():
    async def scenario(pattern, cache):
        storehouse.BROKEN.extend(OSError("no") for _ in range(3))
        await pattern.set("a", 1)
        await pattern.set("a", 2)
        await pattern.flush()
        assert storehouse.WRITES == [("a", 2)]
        [(write, error)] = await pattern.dead_letters()
        assert (write.key, write.value, write.attempts, error) == ("a", 1, 3, "OSError: no")
        assert pattern.delivery.buried == 1
        assert await pattern.retry_dead_letters() == 1
        await pattern.flush()
        assert storehouse.WRITES == [("a", 2), ("a", 1)]
        assert await pattern.dead_letters() == []

    run(scenario, terms=Terms(backoff=0.001, max_attempts=3))


def test_loads_see_what_the_source_has_yet_to_be_told():
    async def scenario(pattern, cache):
        gate = asyncio.Event()
        storehouse.GATES.append(gate)
        storehouse.ROWS["k"] = "old"
        await pattern.set("k", "new")
        await cache.delete("k")
        assert await pattern.get("k", storehouse.load, "k") == "new"
        await pattern.delete("k")
        assert await pattern.get("k", storehouse.load, "k") is MISSING
        assert storehouse.LOADS == []
        gate.set()
        await pattern.flush()
        assert storehouse.WRITES == [("k", "new"), ("k", MISSING)]
        storehouse.ROWS["k"] = "again"
        assert await pattern.get("k", storehouse.load, "k") == "again"

    run(scenario, remover=storehouse.remove)


def test_a_source_that_can_t_keep_up_makes_writers_wait_and_then_fail():
    async def scenario(pattern, cache):
        gate = asyncio.Event()
        storehouse.GATES.append(gate)
        await pattern.set("a", 1)
        await pattern.set("b", 1)
        with pytest.raises(OutboxFull, match="2 writes wait"):
            await pattern.set("c", 1)
        assert await cache.get("c") is None
        pattern.delivery._terms = Terms(max_pending=2, patience=60)
        waiting = asyncio.ensure_future(pattern.set("d", 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        gate.set()
        await waiting
        await pattern.flush()
        assert storehouse.ROWS == {"a": 1, "b": 1, "d": 1}

    run(scenario, terms=Terms(max_pending=2, patience=0.01, backoff=0.001))


def test_what_can_t_be_brought_back_is_refused_and_nothing_changes():
    async def scenario(pattern, cache):
        with pytest.raises(Unserializable):
            await pattern.set("k", object())
        with pytest.raises(InvalidKey):
            await pattern.set("", 1)
        with pytest.raises(TypeError, match="remover"):
            await pattern.delete("k")
        assert await cache.get("k") is None
        assert pattern.delivery.pending == 0

    run(scenario)
    with pytest.raises(ValueError, match="one of them alone"):
        WriteBehindPattern(None)


def test_what_waits_at_the_end_is_delivered_at_the_next_start():
    async def stop(pattern, cache):
        storehouse.GATES.append(asyncio.Event())
        for number in range(5):
            await pattern.set("k", number)

    async def go_on(pattern, cache):
        await pattern.flush()
        assert await cache.get("k") is None

    run(stop, terms=Terms(drain=0.01))
    assert storehouse.WRITES == []
    run(go_on)
    assert storehouse.WRITES == [("k", number) for number in range(5)]


def test_closing_delivers_what_it_can():
    async def scenario(pattern, cache):
        for number in range(50):
            await pattern.set("k", number)

    run(scenario, terms=Terms(drain=60))
    assert storehouse.WRITES == [("k", number) for number in range(50)]


def test_many_first_calls_at_once_open_it_once():
    async def main():
        async with Cache.open(MEMORY) as cache:
            pattern = WriteBehindPattern(cache, writer=storehouse.save, path="outbox.db", terms=SOON)
            await asyncio.gather(*(pattern.set(f"k{at}", at) for at in range(20)))
            running = [thread for thread in threading.enumerate() if thread.name == "tiercache-outbox"]
            assert len(running) == 1
            await pattern.close()
            assert storehouse.ROWS == {f"k{at}": at for at in range(20)}

    asyncio.run(main())


def test_the_outbox_is_for_its_owner_alone(tmp_path):
    async def scenario(pattern, cache):
        await pattern.set("k", 1)

    run(scenario)
    if os.name == "posix":
        assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


def test_of_two_that_share_an_outbox_one_delivers_and_the_other_takes_over():
    async def main():
        async with Cache.open(MEMORY) as cache:
            first = WriteBehindPattern(cache, writer=storehouse.save, path="outbox.db", terms=SOON)
            second = WriteBehindPattern(cache, writer=storehouse.save, path="outbox.db", terms=SOON)
            await first.set("a", 1)
            await first.flush()
            await second.set("b", 1)
            await second.flush()
            assert (first.delivery.delivered, second.delivery.delivered) == (2, 0)
            await first.close()
            await second.set("c", 1)
            await second.flush()
            await second.close()
            assert second.delivery.delivered == 1
            assert storehouse.ROWS == {"a": 1, "b": 1, "c": 1}

    asyncio.run(main())


def test_on_a_route_it_is_the_same():
    document = {
        "pattern": {"behind": {"type": "write_behind", "writer": "storehouse:save", "path": "outbox.db",
                               "backoff": "1ms"}},
        "route": {"all": {"tiers": ["memory"], "patterns": ["behind"]}},
    }  # fmt: skip

    async def main():
        async with Cache.open(document) as cache:
            gate = asyncio.Event()
            storehouse.GATES.append(gate)
            storehouse.ROWS["k"] = "old"
            await cache.set("k", "new")
            await cache.delete("k")
            assert await cache.get_or_set("k", lambda: storehouse.load("k")) == "new"
            assert storehouse.LOADS == []
            gate.set()
            await cache.set_many({f"k{at}": at for at in range(9)})
        assert storehouse.ROWS == {"k": "new"} | {f"k{at}": at for at in range(9)}

    asyncio.run(main())


def test_with_a_system_the_outbox_stands_beside_its_file(tmp_path):
    async def main():
        config = CacheConfig(disk_cache_dir="there")
        async with AdvancedCachingSystem(config) as system:
            async with WriteBehindPattern(system, config, writer=storehouse.save) as pattern:
                await pattern.set("k", 1)
            assert await system.get("k") == 1
        assert storehouse.ROWS == {"k": 1}
        assert (tmp_path / "there" / "outbox.sqlite3").exists()

    asyncio.run(main())


def killed_at_random(directory: Path, times: int, seed: int) -> None:
    """Kill a process that stores again and again; then let another deliver the rest, and compare."""
    chance = random.Random(seed)
    acknowledged: dict[str, list[int]] = defaultdict(list)
    child = Path(storing_child.__file__)
    for turn in range(times):
        with (directory / "said").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, str(child), str(directory), str(turn * 1_000_000)],
                stdout=subprocess.PIPE,
                stderr=said,
            )
        # Not before it works; then at any point of it.
        lines = [process.stdout.readline()]
        assert lines[0], f"it ended by itself: {(directory / 'said').read_text()}"
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        for line in lines:
            words = line.split()
            acknowledged[words[0].decode()].append(int(words[1]))
    delivered: dict[str, list[int]] = defaultdict(list)

    async def main():
        source = os.open(directory / "source", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        async def save(key, value):
            os.write(source, f"{key} {value}\n".encode())

        async with Cache.open(MEMORY) as cache:
            async with WriteBehindPattern(cache, writer=save, path=directory / "outbox.db") as pattern:
                await pattern.flush()
                assert await pattern.dead_letters() == []
        os.close(source)

    asyncio.run(main())
    for line in (directory / "source").read_text().splitlines():
        key, value = line.split()
        delivered[key].append(int(value))
    assert len(acknowledged) == storing_child.KEYS
    for key, numbers in acknowledged.items():
        # Repeats are allowed: a kill may come between the source and the note that it has it. What counts is
        # when each was there first.
        first = list(dict.fromkeys(delivered[key]))
        assert first == sorted(first)
        assert set(numbers) <= set(first), f"{key} lacks {sorted(set(numbers) - set(first))[:3]}"
        assert delivered[key][-1] == max(first)


def test_what_was_acknowledged_before_a_kill_reaches_the_source(tmp_path):
    killed_at_random(tmp_path, 5, seed=1)


@pytest.mark.slow
def test_what_was_acknowledged_before_fifty_kills_reaches_the_source(tmp_path):
    killed_at_random(tmp_path, 50, seed=2)
