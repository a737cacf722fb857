"""Sessions: who is logged in, kept under hashes, dead everywhere at once when they are ended.

`SessionCache` keeps them; `SessionMiddleware` gives them to the requests of ASGI applications.
"""

from tiercache_plugins.integrations.sessions.middleware import SessionMiddleware, logout, rotate
from tiercache_plugins.integrations.sessions.opened import OpenedSession
from tiercache_plugins.integrations.sessions.session import Session
from tiercache_plugins.integrations.sessions.sessions import SessionCache

__all__ = ["OpenedSession", "Session", "SessionCache", "SessionMiddleware", "logout", "rotate"]
