"""Cache what functions read from a database until the tables change, with nothing but sqlite3.

python docs/examples/database_functions.py
"""

from __future__ import annotations

import asyncio
import sqlite3

from tiercache import Cache
from tiercache_plugins.integrations import DatabaseCache

cache = Cache.open({"route": {"queries": {"tiers": ["memory"], "ttl": "10m"}}})
queries = DatabaseCache(cache)


@queries.query_cache_decorator(tables=("book",), ignore=("database",))
async def titles(database: sqlite3.Connection, author: str) -> list[str]:
    """Return the titles of *author*. The connection tells no results apart: it is no part of the key."""
    print("asked for", author)
    found = database.execute("SELECT title FROM book WHERE author = ? ORDER BY title", (author,))
    return [title for (title,) in found]


async def main() -> None:
    """Read, change, and read again."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE book (author TEXT, title TEXT)")
    database.execute("INSERT INTO book VALUES ('Lem', 'Solaris')")
    async with cache:
        for _ in range(2):
            print(await titles(database, "Lem"))
        with database:
            database.execute("INSERT INTO book VALUES ('Lem', 'Fiasco')")
        # After the commit: what was read before it is dropped, and what is being read meanwhile is not kept.
        await queries.invalidate_tables("book")
        print(await titles(database, "Lem"))
        print("queries:", queries.stats()["queries"])
    database.close()


if __name__ == "__main__":
    asyncio.run(main())
