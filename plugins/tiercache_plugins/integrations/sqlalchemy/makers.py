"""The class whose sessions are followed."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker


def session_class(target: Any) -> Any:
    """Return what SQLAlchemy's events take for the sessions of *target*.

    An `async_sessionmaker` gets a class of sync sessions of its own, so that no other maker's are followed.
    Raises TypeError where *target* makes no sessions.
    """
    if isinstance(target, scoped_session | async_scoped_session):
        return session_class(target.session_factory)
    if isinstance(target, sessionmaker) or (isinstance(target, type) and issubclass(target, Session)):
        return target
    if isinstance(target, async_sessionmaker):
        given = target.kw.get("sync_session_class") or target.class_.sync_session_class
        own = given.class_ if isinstance(given, sessionmaker) else given
        followed = type(own.__name__, (own,), {})
        target.configure(sync_session_class=followed)
        return followed
    if isinstance(target, type) and issubclass(target, AsyncSession):
        target.sync_session_class = type("FollowedSession", (target.sync_session_class,), {})
        return target.sync_session_class
    raise TypeError(
        f"{target!r} makes no sessions; a sessionmaker, async_sessionmaker, scoped_session or class of "
        "sessions is accepted"
    )
