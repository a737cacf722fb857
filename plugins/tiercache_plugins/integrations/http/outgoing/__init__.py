"""Responses to the calls that an application makes itself, by httpx, cached as RFC 9111 has it.

`AsyncCacheTransport` goes around the transport of an `httpx.AsyncClient`, `CacheTransport` around that of an
`httpx.Client`. Both need httpx.
"""

from tiercache_plugins.integrations.http.outgoing.options import DEFAULTS, outgoing_settings
from tiercache_plugins.integrations.http.outgoing.threads import CacheTransport
from tiercache_plugins.integrations.http.outgoing.transport import AsyncCacheTransport
from tiercache_plugins.integrations.http.status import Handling

__all__ = ["DEFAULTS", "AsyncCacheTransport", "CacheTransport", "Handling", "outgoing_settings"]
