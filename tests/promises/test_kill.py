"""kill -9 in the middle of writes: what was acknowledged stands, and nothing else is read."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from tiercache import Cache

WRITERS = 4
SLOTS = 40

CHILD = (
    textwrap.dedent("""
    import asyncio, json, os, sys
    from tiercache import Cache

    async def write(cache, writer, number):
        while True:
            # Some in one page, some over several.
            value = [writer, number, "x" * (number * 37 % 5000)]
            if number % 7 == 0:
                await cache.delete(f"{writer}:{number % SLOTS}")
            await cache.set(f"{writer}:{number % SLOTS}", value)
            os.write(1, b"%d %d\\n" % (writer, number))
            number += 1

    async def main(document, start):
        async with Cache.open(document) as cache:
            await asyncio.gather(*(write(cache, writer, start) for writer in range(WRITERS)))

    asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2])))
""")
    .replace("SLOTS", str(SLOTS))
    .replace("WRITERS", str(WRITERS))
)


def described(path):
    """Return a document: memory before the file at *path*."""
    return {
        "cache": {"bus": "none"},
        "tier": {"memory": {"type": "memory"}, "disk": {"type": "sqlite", "path": str(path)}},
        "route": {"all": {"tiers": ["memory", "disk"], "ttl": "never"}},
    }


def killed(path, start, seconds):
    """Kill a process that writes, after *seconds*; return the last number that each writer acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(described(path)), str(start)], stdout=subprocess.PIPE
    )
    try:
        said = os.read(process.stdout.fileno(), 65_536)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said += os.read(process.stdout.fileno(), 65_536)
    finally:
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    acknowledged = {}
    for line in (said + rest).decode().split("\n")[:-1]:
        writer, number = map(int, line.split())
        acknowledged[writer] = number
    return acknowledged


async def examined(path, acknowledged, start):
    """Open the file, look at every key, and return how long that took, and the greatest number."""
    cache = Cache.open(described(path))
    began = time.monotonic()
    await cache.start()
    took = time.monotonic() - began
    greatest = start
    try:
        for writer in range(WRITERS):
            last = acknowledged.get(writer, -1)
            for slot in range(SLOTS):
                found = await cache.get(f"{writer}:{slot}")
                # The newest that was acknowledged for this slot, if any was in this life of the process.
                promised = last - (last - slot) % SLOTS
                if found is None:
                    # Deleted, and killed before it was set again; or never set.
                    following = promised + SLOTS
                    assert promised < start or following % 7 == 0, (writer, slot, promised)
                    continue
                owner, number, text = found
                assert (owner, number % SLOTS) == (writer, slot)
                assert text == "x" * (number * 37 % 5000)
                assert number >= promised or promised < start, (writer, slot, number, promised)
                greatest = max(greatest, number)
        own = cache.stats().tiers["disk"].own
        assert own["recovered"] == own["corrupt"] == 0
    finally:
        await cache.close()
    return took, greatest


def life(directory, kills, seed):
    """Write to one file and be killed, *kills* times; return how long each opening took."""
    chance = random.Random(seed)
    path = directory / f"{seed}.db"
    start, openings = 0, []
    for _ in range(kills):
        acknowledged = killed(path, start, chance.uniform(0.0, 0.25))
        took, greatest = asyncio.run(examined(path, acknowledged, start))
        openings.append(took)
        start = greatest + SLOTS
    return openings


@pytest.mark.parametrize(
    "kills", [10, pytest.param(100, marks=pytest.mark.slow)], ids=lambda kills: f"{kills} kills"
)
def test_a_process_that_is_killed_loses_nothing_that_was_acknowledged(kills, tmp_path, record_property):
    """diskcache keeps large values beside its database, so that a kill leaves a row without its file."""
    files = 5
    with ThreadPoolExecutor(files) as pool:
        lives = pool.map(lambda seed: life(tmp_path, kills // files, seed), range(files))
        openings = list(chain.from_iterable(lives))
    assert len(openings) == kills
    assert max(openings) < 10
    record_property("longest_opening_seconds", round(max(openings), 4))
    print(f"{kills} kills: the longest opening took {max(openings):.3f} s")
