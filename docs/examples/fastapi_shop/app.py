"""A shop whose responses are cached, served by several workers that share one cache.

    TIERCACHE_CONFIG=docs/examples/fastapi_shop/disk.toml \
        uvicorn --app-dir docs/examples/fastapi_shop app:app --workers 2

`disk.toml` needs nothing else; `redis.toml` shares the cache with other hosts, too.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tiercache import Cache
from tiercache_plugins.integrations import setup_fastapi_caching
from tiercache_plugins.integrations.http import cached_response, invalidates, uncached_response

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite3")

with closing(sqlite3.connect(DATABASE, timeout=30)) as _database, _database:
    _database.execute("CREATE TABLE IF NOT EXISTS thing (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")

app = FastAPI(title="Shop")
http = setup_fastapi_caching(app, Cache.open(), api_cache_ttl="1h", route="responses")


def rows(statement: str, *values: Any) -> list[Any]:
    """Run one statement on the shop's database, and return what it brings."""
    with closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:
        database.execute("PRAGMA synchronous = NORMAL")
        return database.execute(statement, values).fetchall()


def version(name: str) -> int:
    """Return how often the thing *name* was changed."""
    found = rows("SELECT version FROM thing WHERE name = ?", name)
    return found[0][0] if found else 0


def changed(name: str) -> int:
    """Change the thing *name*, and return its version."""
    statement = (
        "INSERT INTO thing VALUES (?, 1) ON CONFLICT DO UPDATE SET version = version + 1 RETURNING version"
    )
    return rows(statement, name)[0][0]


def customer(shown: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """Return who asks. A real shop would look at more than the name."""
    if shown.credentials not in {"ada", "bob"}:
        raise HTTPException(401)
    return shown.credentials


@app.get("/items/{item_id}")
@cached_response(public=True)
def item(item_id: int) -> dict[str, int]:
    """Everybody sees the same: cached for those who log in, too."""
    return {"id": item_id, "version": version(f"item {item_id}")}


@app.put("/items/{item_id}")
@invalidates("list of items")
def change_item(item_id: int) -> dict[str, int]:
    """Drop `/items/{item_id}`, because it is the target, and by its tag the list."""
    return {"id": item_id, "version": changed(f"item {item_id}")}


@app.get("/items")
@cached_response(public=True, tags=["list of items"])
def items() -> dict[str, int]:
    """Return the newest version of every item."""
    return dict(rows("SELECT name, version FROM thing WHERE name LIKE 'item %'"))


@app.get("/me")
@cached_response(whose="authorization")
def me(who: Annotated[str, Depends(customer)]) -> dict[str, Any]:
    """Each customer has a response of his own; without `whose` the application would not start."""
    return {"name": who, "version": version(f"customer {who}")}


@app.put("/me")
def change_me(who: Annotated[str, Depends(customer)]) -> dict[str, Any]:
    """Drop `/me`, whoever's."""
    return {"name": who, "version": changed(f"customer {who}")}


@app.get("/worker")
@uncached_response
def worker() -> dict[str, Any]:
    """Return which process answered, and what its cache has done."""
    return {"pid": os.getpid(), **http.stats()}
