"""SessionCache: the sessions of an application's users."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from tiercache import Cache, Loaded, TierUnavailable
from tiercache.units import seconds
from tiercache_plugins.integrations.sessions.turn import turn
from tiercache_plugins.integrations.source import cache_of
from tiercache_plugins.patterns.turns import Turns

ATTEMPTS: Final = 8
"""How often a change is made anew because the session was set meanwhile."""

Change = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]
"""What is laid over the data of a session, or what makes the new data of the old."""


class SessionCache:
    """Sessions in the cache of *source*, on *route*, under keys that begin with *prefix*.

    A session is stored under the SHA-256 of its id, so who can read the store can't take sessions over. The
    route decides the rest: its `sliding` is how long a session lives that nobody uses; `coherent = true` lets
    every process see at once what another one ended; `copy = true` gives each reader data of its own.
    `CacheIntegrationManager` has such a route. *max_age* is how long a session lives however much it is used.

    *user_field* names the item of the data that says whose the session is, for `logout_everywhere`; None:
    only the argument *user* says it. *clock* gives seconds since the epoch, for tests.

    Where the tier that all processes share is away, there are no sessions, and changes raise TierUnavailable.
    """

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = "session",
        prefix: str = "session:",
        max_age: float | str | timedelta = "7d",
        user_field: str | None = "user_id",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._route = route
        self._prefix = prefix
        self._max_age = seconds(max_age)
        self._field = user_field
        self._clock = clock
        self._turns = Turns()
        self._created = self._updated = self._ended = self._found = self._absent = 0

    async def create_session(self, data: Mapping[str, Any], *, user: object = None) -> str:
        """Begin a session with *data* and return its new id: 256 random bits, to be known by its user alone.

        *user* says whose it is, where the data don't. Raises as `Cache.set` does.
        """
        session_id = secrets.token_urlsafe(32)
        await self.set_session(session_id, data, user=user)
        return session_id

    async def set_session(self, session_id: str, data: Mapping[str, Any], *, user: object = None) -> None:
        """Begin the session *session_id* anew, with *data* in place of all that it had.

        An id must be impossible to guess: take those of `create_session`, not one that a client sent.
        """
        record = {"data": dict(data), "started": self._clock(), "user": self._user(data, user)}
        await self._store(session_id, record)
        self._created += 1

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """Return the data of *session_id*, None where it is over. Counts as use."""
        key = self._key(session_id)
        record = await self._read(cache_of(self._source), key)
        self._found += record is not None
        self._absent += record is None
        return None if record is None else dict(record["data"])

    async def update_session(self, session_id: str, change: Change) -> dict[str, Any] | None:
        """Change the data of *session_id*, and return what they are then; None where it is over.

        A mapping is laid over the data. A function is given the data and returns the new ones; it may be
        called more than once, and must not wait. Of changes at the same time, in whatever processes, none is
        lost. A session that is ended meanwhile stays ended. Its age goes on.

        Raises TierUnavailable where it can't be known that the change will stand, LockTimeout where another
        one holds it up for a minute.
        """
        key, cache = self._key(session_id), cache_of(self._source)
        for _ in range(ATTEMPTS):
            async with self._turns.of(key), turn(cache, f"{key}:turn", self._route):
                record, stands = await self._changed(cache, key, change)
            if record is None:
                return None
            if stands:
                self._updated += 1
                return dict(record["data"])
        raise TierUnavailable(f"the session was set anew {ATTEMPTS} times while it was being changed")

    async def delete_session(self, session_id: str) -> bool:
        """End *session_id* in every process; return whether it was alive."""
        ended = await cache_of(self._source).delete(self._key(session_id))
        self._ended += ended
        return ended

    async def rotate_session(self, session_id: str) -> str | None:
        """Give the session *session_id* a new id, and return it; None where the session is over.

        To be called where the rights of its user change, such as at login, so that an id which somebody
        planted or saw before is worth nothing. Data and age stay.
        """
        key, cache = self._key(session_id), cache_of(self._source)
        async with self._turns.of(key), turn(cache, f"{key}:turn", self._route):
            record = await self._read(cache, key)
            if record is None:
                return None
            new_id = secrets.token_urlsafe(32)
            await self._store(new_id, record)
            # What ended the old one before the new one was there has not ended the new one.
            if await self._read(cache, key) is None:
                await cache.delete(self._key(new_id))
                return None
            await cache.delete(key)
        return new_id

    async def logout_everywhere(self, user: object) -> None:
        """End all sessions of *user*, in every process, whatever their number."""
        await cache_of(self._source).invalidate(tags=(self._tag(_hashed(str(user))),))

    def stats(self) -> dict[str, Any]:
        """Return what happened here, in this process."""
        return {
            "session_max_age": self._max_age,
            "session_prefix": self._prefix,
            "created": self._created,
            "found": self._found,
            "absent": self._absent,
            "updated": self._updated,
            "ended": self._ended,
        }

    async def _changed(self, cache: Cache, key: str, change: Change) -> tuple[dict[str, Any] | None, bool]:
        """Return the record of *key* as it is after *change*, None where there is none, and if it stands.

        It is stored as a load is, which dates from before what it read: so it is kept out by whatever ended
        the session meanwhile. That it stands is known when it is found, after all writes before are done.
        """
        mark = secrets.token_bytes(12)
        left = 0.0

        async def load() -> Loaded:
            nonlocal left
            record = await self._read(cache, key)
            if record is None:
                return Loaded(None, store=False)
            old = dict(record["data"])
            data = dict(change(old)) if callable(change) else {**old, **change}
            left = self._left(record)
            record = {**record, "data": data, "mark": mark, "user": self._user(data, None) or record["user"]}
            return Loaded(record, ttl=left, tags=self._tags(record))

        made = await cache.refresh(key, load, route=self._route)
        if made is None or not await cache.touch(key, ttl=left, route=self._route):
            return None, False
        found = await self._read(cache, key)
        return found, found is not None and found.get("mark") == mark

    async def _read(self, cache: Cache, key: str) -> dict[str, Any] | None:
        record = await cache.get(key, route=self._route)
        if not isinstance(record, dict) or self._left(record) <= 0:
            return None
        return record

    async def _store(self, session_id: str, record: Mapping[str, Any]) -> None:
        left = self._left(record)
        await cache_of(self._source).set(
            self._key(session_id), dict(record), route=self._route, ttl=left, tags=self._tags(record)
        )

    def _left(self, record: Mapping[str, Any]) -> float:
        """Return for how many seconds *record* may live yet."""
        if math.isinf(self._max_age):
            return math.inf
        left: float = min(record["started"] + self._max_age - self._clock(), self._max_age)
        return left

    def _key(self, session_id: str) -> str:
        if not isinstance(session_id, str):
            raise TypeError(f"a session id is a str, not {type(session_id).__name__}")
        return self._prefix + _hashed(session_id)

    def _user(self, data: Mapping[str, Any], user: object) -> str | None:
        if user is None and self._field is not None:
            user = data.get(self._field)
        return None if user is None else _hashed(str(user))

    def _tags(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        return () if record["user"] is None else (self._tag(record["user"]),)

    def _tag(self, user: str) -> str:
        return f"{self._prefix}of:{user}"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
