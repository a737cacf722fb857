"""AssetCache: files that change with a release, with their entity tags."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from tiercache_plugins.integrations.source import cache_of

ROUNDS: Final = 4
"""How often a path may be percent-encoded; what is encoded more often is nobody's file."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it was loaded."""

    path: str
    content: bytes
    digest: str
    """SHA-256 of the content, in hex."""

    @property
    def etag(self) -> str:
        """The entity tag: strong, and the same wherever the content is."""
        return f'"{self.digest[:32]}"'

    @property
    def immutable_path(self) -> str:
        """The path with the digest in its name, to be served with `Cache-Control: immutable`."""
        path = PurePosixPath(self.path)
        return str(path.with_name(f"{path.stem}.{self.digest[:16]}{path.suffix}"))

    def matches(self, if_none_match: str | None) -> bool:
        """Return whether a client that sends this If-None-Match has the content already, so that a 304 does
        (RFC 9110, 13.1.2: tags are compared weakly).
        """
        if if_none_match is None:
            return False
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return "*" in tags or self.etag in tags


class AssetCache:
    """Assets in the cache of *source*, on *route*, under keys that begin with *prefix*.

    *ttl* is how long they are fresh; None: as long as the route says.
    """

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = None,
        prefix: str = "asset:",
        ttl: float | str | timedelta | None = None,
    ) -> None:
        self._source = source
        self._route = route
        self._prefix = prefix
        self._ttl = ttl
        self._asked = self._loads = 0

    async def get_asset_cached(
        self,
        path: str,
        loader: Callable[[str], Awaitable[bytes] | bytes],
        *,
        ttl: float | str | timedelta | None = None,
    ) -> bytes:
        """Return the content at *path*; where nothing is cached, what *loader* brings for it.

        Raises ValueError, before anything is read, for a *path* that leads out of where it begins; TypeError
        where *loader* brings no bytes; else what *loader* raises, which is not cached.
        """
        return (await self.get_asset(path, loader, ttl=ttl)).content

    async def get_asset(
        self,
        path: str,
        loader: Callable[[str], Awaitable[bytes] | bytes],
        *,
        ttl: float | str | timedelta | None = None,
    ) -> Asset:
        """As `get_asset_cached`, with the entity tag and the immutable name."""
        key = self._prefix + checked(path)
        self._asked += 1

        async def load() -> dict[str, Any]:
            self._loads += 1
            made = loader(path)
            content = await made if inspect.isawaitable(made) else made
            if not isinstance(content, bytes):
                raise TypeError(f"the loader of asset {path!r} brought {type(content).__name__}, not bytes")
            digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
            return {"content": content, "digest": digest}

        found: Mapping[str, Any] = await cache_of(self._source).get_or_set(
            key, load, route=self._route, ttl=self._ttl if ttl is None else ttl
        )
        return Asset(path, found["content"], found["digest"])

    async def invalidate_asset(self, path: str) -> bool:
        """Drop the asset at *path*; return whether it was there."""
        return await cache_of(self._source).delete(self._prefix + checked(path))

    def stats(self) -> dict[str, Any]:
        """Return what was asked for and loaded here, in this process."""
        return {"prefix": self._prefix, "asked": self._asked, "loaded": self._loads}


def files_in(directory: str | os.PathLike[str]) -> Callable[[str], Awaitable[bytes]]:
    """Return a loader of the files in *directory* and below, never of others: links that lead out of it are
    not followed. It raises FileNotFoundError where there is no such file, ValueError for a path that leads
    out.
    """
    root = Path(directory).resolve()

    def read(path: str) -> bytes:
        file = (root / checked(path).lstrip("/")).resolve()
        if not file.is_relative_to(root):
            raise ValueError(f"the asset {path!r} lies outside its directory; a path below it is accepted")
        return file.read_bytes()

    async def load(path: str) -> bytes:
        return await asyncio.to_thread(read, path)

    return load


def checked(path: str) -> str:
    """Return *path*. Raises ValueError where it, or what it is percent-encoded from, leads out of where it
    begins, or is not the one way to write it.
    """
    plain = path
    for _ in range(ROUNDS):
        plain, encoded = unquote(plain), plain
        if plain == encoded:
            break
    else:
        raise ValueError(f"the asset {path[:80]!r} is encoded too often; a plain path is accepted")
    parts = plain.removeprefix("/").split("/")
    if (
        any(part in {"", ".", ".."} for part in parts)
        or "\\" in plain
        or ":" in plain
        or not plain.isprintable()
    ):
        raise ValueError(
            f'{path[:80]!r} is no path of an asset; one as "/images/logo.png" is accepted: without "..", '
            '".", empty parts, backslashes, colons and control characters'
        )
    return path
