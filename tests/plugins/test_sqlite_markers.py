"""Markers in the file: what is damaged counts for everything."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from tiercache.testing.tiers import Surroundings
from tiercache_plugins.tiers.sqlite import SqliteConfig


def test_a_damaged_marker_is_told_under_a_name_of_its_own_and_stays_so(tmp_path: Path) -> None:
    context = Surroundings(tmp_path)

    async def main() -> None:
        tier = SqliteConfig(path="a.db").build(context)
        await tier.open()
        await tier.mark({"t:x": 5, "t:y": 6}, 0)
        with sqlite3.connect(tmp_path / "a.db") as raw:
            raw.execute("UPDATE markers SET stamp = 1 WHERE name = CAST('t:x' AS BLOB)")
        raw.close()
        before = context.clock.micros()
        for _ in range(2):
            found = dict(await tier.marks())
            assert found.keys() == {"t:y", "damaged"}
            assert found["damaged"] >= before
        assert tier.stats()["corrupt"] == 1
        await tier.close()

    asyncio.run(main())


def test_a_file_of_before_there_were_markers_is_taken(tmp_path: Path) -> None:
    context = Surroundings(tmp_path)

    async def main() -> None:
        for _ in range(2):
            tier = SqliteConfig(path="a.db").build(context)
            await tier.open()
            assert await tier.marks() == {}
            await tier.mark({"*": 1}, 0)
            await tier.close()
            with sqlite3.connect(tmp_path / "a.db") as raw:
                raw.execute("DROP TABLE markers")
            raw.close()

    asyncio.run(main())
