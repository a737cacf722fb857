"""What a database is called in keys and tags."""

from __future__ import annotations

import hashlib
import secrets
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine


class Databases:
    """Names the databases of engines; *named* is what the application calls them."""

    def __init__(self, prefix: str, named: Callable[[Engine], str] | None) -> None:
        self._prefix = prefix
        self._named = named
        self._in_memory: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._names: weakref.WeakKeyDictionary[Engine, tuple[str, str]] = weakref.WeakKeyDictionary()

    def of(self, engine: Engine) -> str:
        """Return what tells the database of *engine* from others: a digest, so that no host is in a tag."""
        return self._both(engine)[0]

    def whole(self, engine: Engine) -> str:
        """Return what tells the results of *engine* from those of others: also as whom it asks, and how."""
        return self._both(engine)[1]

    def tag(self, engine: Engine, table: str) -> str:
        """Return the tag of *table* in the database of *engine*."""
        return f"{self._prefix}{self.of(engine)}:table:{table}"

    def _both(self, engine: Engine) -> tuple[str, str]:
        both = self._names.get(engine)
        if both is None:
            name = self._name(engine) if self._named is None else self._named(engine)
            digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
            url = "" if _in_memory(engine) else engine.url.render_as_string(hide_password=True)
            both = self._names[engine] = digest, f"{digest} {url}"
        return both

    def _name(self, engine: Engine) -> str:
        url = engine.url
        kind = url.get_backend_name()
        if _in_memory(engine):
            # It lives in the pool's one connection, whatever engines share that.
            return self._in_memory.setdefault(engine.pool, f"{kind} {secrets.token_hex(16)}")
        if kind == "sqlite":
            return f"{kind} {Path(str(url.database)).resolve()}"
        return f"{kind} {url.host or url.query.get('host') or ''} {url.port or ''} {url.database or ''}"


def _in_memory(engine: Engine) -> bool:
    url = engine.url
    if url.get_backend_name() != "sqlite":
        return False
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"
