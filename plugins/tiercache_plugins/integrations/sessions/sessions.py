"""SessionCache: the sessions of an application's users."""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from tiercache import Cache, Loaded, LockTimeout, TierUnavailable
from tiercache.units import seconds
from tiercache_plugins.integrations.sessions.opened import OpenedSession
from tiercache_plugins.integrations.sessions.turn import turn
from tiercache_plugins.integrations.source import cache_of
from tiercache_plugins.patterns.turns import Turns

ATTEMPTS: Final = 8
"""How often a change is made anew because the session was set meanwhile."""

_log = logging.getLogger("tiercache.sessions")

Change = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]
"""What is laid over the data of a session, or what makes the new data of the old."""


class SessionCache:
    """Sessions in the cache of *source*, on *route*, under keys that begin with *prefix*.

    A session is stored under the SHA-256 of its id, so who can read the store can't take sessions over. The
    route decides the rest: its `sliding` is how long a session lives that nobody uses; `coherent = true` lets
    every process see at once what another one ended; `copy = true` gives each reader data of its own.
    `CacheIntegrationManager` has such a route. *max_age* is how long a session lives however much it is used.

    *user_field* names the item of the data that says whose the session is, for `logout_everywhere`; None: the
    argument *user* alone. *clock* gives seconds since the epoch, for tests.

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
        self._created = self._updated = self._ended = self._found = self._absent = self._away = 0
        self._told = False

    async def create_session(self, data: Mapping[str, Any], *, user: object = None) -> str:
        """Begin a session with *data* and return its new id: 256 random bits, to be known by its user alone.

        *user* says whose it is, where the data don't. Raises as `Cache.add` does, TierUnavailable where the
        session could not be kept among them.
        """
        session_id = secrets.token_urlsafe(32)
        now = self._clock()
        record = {"data": dict(data), "started": now, "issued": now, "user": self._user(data, user)}
        await self._store_new(session_id, record)
        self._created += 1
        return session_id

    async def set_session(self, session_id: str, data: Mapping[str, Any], *, user: object = None) -> None:
        """Begin the session *session_id* anew, with *data* in place of all that it had.

        An id must be impossible to guess: take those of `create_session`, not one that a client sent.
        """
        now = self._clock()
        record = {"data": dict(data), "started": now, "issued": now, "user": self._user(data, user)}
        await self._store(session_id, record)
        self._created += 1

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """Return the data of *session_id*, None where it is over. Counts as use."""
        key = self._key(session_id)
        _, record = await self._find(cache_of(self._source), key)
        self._found += record is not None
        self._absent += record is None
        return None if record is None else dict(record["data"])

    async def open_session(self, session_id: str) -> OpenedSession | None:
        """Return *session_id* with its dates; None where it is over. Counts as use.

        Raises TierUnavailable where nobody can tell whether there is such a session.
        """
        key, cache = self._key(session_id), cache_of(self._source)
        key, record = await self._find(cache, key)
        # A tier that is away reads as a miss; this call is never guessed.
        if record is None and await cache.touch(key, ttl=self._max_age, route=self._route):
            record = await self._read(cache, key)
        self._found += record is not None
        self._absent += record is None
        if record is None:
            return None
        return OpenedSession(
            data=dict(record["data"]),
            started=record["started"],
            issued=record.get("issued", record["started"]),
            left=self._left(record),
        )

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
                if (moved := await self._moved(cache, key)) is None:
                    return None
                key = moved
                continue
            if stands:
                self._updated += 1
                return dict(record["data"])
        raise TierUnavailable(f"the session was set anew {ATTEMPTS} times while it was being changed")

    async def delete_session(self, session_id: str) -> bool:
        """End *session_id* in every process; return whether it was alive.

        A change under way does not undo it; a new id given meanwhile ends too. Where the tier that all share
        can't be asked, others learn of the end when it is back, and nothing is raised.
        """
        return await self._end(session_id, surely=False)

    async def end_session(self, session_id: str) -> bool:
        """End *session_id* as `delete_session` does, and tell where others may not know of it.

        Raises as `update_session` does; then the end is known to this process, and may not be to others.
        """
        return await self._end(session_id, surely=True)

    async def rotate_session(
        self,
        session_id: str,
        change: Change | None = None,
        *,
        grace: float | str | timedelta | None = None,
    ) -> str | None:
        """Give the session *session_id* a new id, and return it; None where the session is over.

        To be called where the rights of its user change, such as at login, so that an id which somebody
        planted or saw before is worth nothing. Age stays; *change* is made as `update_session` makes it, and
        is seen by the new id alone.

        The old id is dead at once, or, with *grace*, leads to the same session for so many seconds more, for
        requests that were sent before the new one arrived. With *grace*, an id that was replaced already is
        not replaced once more, and None is returned.

        Raises as `update_session` does.
        """
        key, cache = self._key(session_id), cache_of(self._source)
        for _ in range(ATTEMPTS):
            async with self._turns.of(key), turn(cache, f"{key}:turn", self._route):
                if (record := await self._read(cache, key)) is not None:
                    return await self._rotated(cache, key, record, change, grace)
                moved = await self._moved(cache, key)
            if moved is None or grace is not None:
                break
            key = moved
        return None

    async def logout_everywhere(self, user: object) -> None:
        """End all sessions of *user*, in every process, whatever their number."""
        await cache_of(self._source).invalidate(tags=(self._tag(_hashed(str(user))),))

    def stats(self) -> dict[str, Any]:
        """Return what happened in this process."""
        return {
            "session_max_age": self._max_age,
            "session_prefix": self._prefix,
            "created": self._created,
            "found": self._found,
            "absent": self._absent,
            "updated": self._updated,
            "ended": self._ended,
            "away": self._away,
        }

    @property
    def max_age(self) -> float:
        """Seconds that a session lives at most."""
        return self._max_age

    def now(self) -> float:
        """Return the time by the clock that sessions are dated by."""
        return self._clock()

    def trouble(self, what: str) -> None:
        """Count that sessions could not be read or kept; the first time it is logged."""
        self._away += 1
        if not self._told:
            # Once: a tier that is away would fill the log. The count goes on.
            self._told = True
            _log.error("%s; further times are only counted", what, exc_info=True)

    async def _end(self, session_id: str, *, surely: bool) -> bool:
        keys, cache, ended = [self._key(session_id)], cache_of(self._source), False
        try:
            # At once, so that a change under way finds it over.
            for key in keys:
                ended = await self._drop(cache, key, keys) or ended
            # And after that change, which may have looked before and have left a new id here.
            for key in keys:
                async with self._turns.of(key), turn(cache, f"{key}:turn", self._route):
                    ended = await self._drop(cache, key, keys) or ended
        except (TierUnavailable, LockTimeout):
            if surely:
                raise
            self.trouble("a session was ended without a look at changes under way")
        finally:
            self._ended += ended
        return ended

    async def _drop(self, cache: Cache, key: str, keys: list[str]) -> bool:
        """Drop *key*, and note in *keys* where it led; return whether a session was there that is alive."""
        moved = await self._moved(cache, key)
        if moved is not None and moved not in keys:
            keys.append(moved)
        return await cache.delete(key) and moved is None

    async def _rotated(
        self,
        cache: Cache,
        key: str,
        record: dict[str, Any],
        change: Change | None,
        grace: float | str | timedelta | None,
    ) -> str | None:
        old = dict(record["data"])
        data = dict(change(old)) if callable(change) else {**old, **(change or {})}
        new_id = secrets.token_urlsafe(32)
        user = self._user(data, None) or record["user"]
        await self._store_new(new_id, {**record, "data": data, "user": user, "issued": self._clock()})
        # What ended the old one before the new one was there has not ended the new one.
        if await self._read(cache, key) is None:
            await cache.delete(self._key(new_id))
            return None
        if grace is None:
            await cache.delete(key)
        else:
            await cache.set(key, {"moved": self._key(new_id)}, ttl=grace, route=self._route)
        return new_id

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

    async def _find(self, cache: Cache, key: str) -> tuple[str, dict[str, Any] | None]:
        """Return the record that *key* leads to, and its own key."""
        for _ in range(ATTEMPTS):
            record = await self._read(cache, key)
            if record is not None or (moved := await self._moved(cache, key)) is None:
                return key, record
            key = moved
        return key, None

    async def _moved(self, cache: Cache, key: str) -> str | None:
        """Return the key of the session whose id took the place of the one that is behind *key*."""
        record = await cache.get(key, route=self._route)
        return record.get("moved") if isinstance(record, dict) else None

    async def _read(self, cache: Cache, key: str) -> dict[str, Any] | None:
        record = await cache.get(key, route=self._route)
        if not isinstance(record, dict) or "moved" in record or self._left(record) <= 0:
            return None
        return record

    async def _store(self, session_id: str, record: Mapping[str, Any]) -> None:
        left = self._left(record)
        await cache_of(self._source).set(
            self._key(session_id), dict(record), route=self._route, ttl=left, tags=self._tags(record)
        )

    async def _store_new(self, session_id: str, record: Mapping[str, Any]) -> None:
        # Unlike `set`, this says where the session could not be kept.
        await cache_of(self._source).add(
            self._key(session_id), dict(record), route=self._route, ttl=self._left(record),
            tags=self._tags(record),
        )  # fmt: skip

    def _left(self, record: Mapping[str, Any]) -> float:
        """Return for how many seconds *record* may live yet."""
        if math.isinf(self._max_age):
            return math.inf
        return float(min(record["started"] + self._max_age - self._clock(), self._max_age))

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
