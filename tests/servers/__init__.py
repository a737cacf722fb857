"""Real servers on loopback for tests: Valkey, Redis 6.2 and 7, a cluster, Sentinel, TLS.

Usable outside pytest:

    with Server("valkey") as server:
        server.kill()      # SIGKILL: memory is lost, port and address stay
        server.start()

Every server has a directory of its own and ends with the process that started it, however that one ends.
"""

from __future__ import annotations

from servers.certificates import Certificates, Unavailable
from servers.groups import Cluster, Sentinel
from servers.server import Kind, Server, binary, free_port, wait_until

__all__ = [
    "Certificates",
    "Cluster",
    "Kind",
    "Sentinel",
    "Server",
    "Unavailable",
    "binary",
    "free_port",
    "wait_until",
]
