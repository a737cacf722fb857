"""Sessions: who is logged in, kept under hashes, dead everywhere at once when they are ended."""

from tiercache_plugins.integrations.sessions.sessions import SessionCache

__all__ = ["SessionCache"]
