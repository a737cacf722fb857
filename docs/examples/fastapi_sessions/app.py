"""Who is logged in, and what is in the cart: sessions that several workers and hosts share.

    TIERCACHE_CONFIG=docs/examples/fastapi_sessions/redis.toml \
        uvicorn --app-dir docs/examples/fastapi_sessions app:app --workers 2

Browsers send the cookie by HTTPS alone; set SHOP_PLAIN_HTTP=1 to try it without.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from tiercache import Cache
from tiercache_plugins.integrations.sessions import SessionCache, SessionMiddleware, logout, rotate

cache = Cache.open()
sessions = SessionCache(cache, max_age="7d")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the cache open while the application runs."""
    del app
    async with cache:
        yield


app = FastAPI(title="Sessions", lifespan=lifespan)
app.add_middleware(
    SessionMiddleware,
    sessions=sessions,
    secure=os.environ.get("SHOP_PLAIN_HTTP") != "1",
    rotate_every="1d",
)


@app.post("/login/{name}")
async def login(name: str, request: Request) -> dict[str, Any]:
    """A real shop would ask for a password. The cart stays, and the id is another one."""
    request.session["user_id"] = name
    rotate(request)
    return {"name": name}


@app.post("/logout")
async def log_out(request: Request) -> dict[str, Any]:
    """End this session."""
    logout(request)
    return {}


@app.post("/logout/everywhere")
async def log_out_everywhere(request: Request) -> dict[str, Any]:
    """End all sessions of the user, on whatever devices."""
    name = request.session.get("user_id")
    if name is None:
        raise HTTPException(401)
    logout(request)
    await sessions.logout_everywhere(name)
    return {}


@app.put("/cart/{thing}")
async def put(thing: str, request: Request) -> dict[str, Any]:
    """Put one more of *thing* into the cart. Each thing is an item of its own: two clicks lose nothing."""
    request.session[f"cart:{thing}"] = request.session.get(f"cart:{thing}", 0) + 1
    return dict(request.session)


@app.delete("/cart/{thing}")
async def take(thing: str, request: Request) -> dict[str, Any]:
    """Take all of *thing* out."""
    request.session.pop(f"cart:{thing}", None)
    return dict(request.session)


@app.get("/me")
async def me(request: Request) -> dict[str, Any]:
    """Return what the session holds."""
    return dict(request.session)


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Return which process answered."""
    return {"pid": os.getpid()}
