"""Servers that work together: a cluster, and what Sentinel watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from servers.server import Kind, Server, wait_until


class Cluster:
    """Primaries that share the slots; no replicas."""

    def __init__(self, size: int = 3, kind: Kind = "valkey", args: Sequence[str] = ()) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *args)
        self.nodes = tuple(Server(kind, options) for _ in range(size))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """URL of the first node."""
        return self.nodes[0].url

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of every node."""
        return tuple(node.address for node in self.nodes)

    def start(self) -> Self:
        """Start the nodes, deal out the slots, and wait until all agree."""
        step = 16384 // len(self.nodes)
        try:
            for i, node in enumerate(self.nodes):
                node.start()
                last = 16383 if node is self.nodes[-1] else (i + 1) * step - 1
                node.ask("CLUSTER", "ADDSLOTS", *range(i * step, last + 1))
                node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                if i:
                    self.nodes[0].ask("CLUSTER", "MEET", node.host, node.port)
            wait_until(self._whole, "the cluster")
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End every node with SIGKILL."""
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """End every node and remove their directories."""
        for node in self.nodes:
            node.stop()

    def _whole(self) -> bool:
        size = f"cluster_known_nodes:{len(self.nodes)}\r\n"
        return all(
            "cluster_state:ok" in info and size in info
            for info in (node.ask("CLUSTER", "INFO") for node in self.nodes)
        )


class Sentinel:
    """A primary, its replica, and one sentinel that decides alone after *patience* seconds.

    *password* is that of the sentinel.
    """

    service = "main"

    def __init__(self, kind: Kind = "valkey", patience: float = 0.5, password: str = "") -> None:
        self.primary = Server(kind, ("--repl-diskless-sync-delay", "0"))
        self.replica = Server(kind, ("--replicaof", self.primary.host, str(self.primary.port)))
        self.sentinel = Server(
            kind,
            password=password,
            sentinel=(
                f"sentinel monitor {self.service} {self.primary.host} {self.primary.port} 1\n"
                f"sentinel down-after-milliseconds {self.service} {int(patience * 1000)}\n"
                f"sentinel failover-timeout {self.service} 2000\n"
            ),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of the sentinels."""
        return (self.sentinel.address,)

    def start(self) -> Self:
        """Start all three and wait until the sentinel knows a replica that it could promote."""
        try:
            for server in (self.primary, self.replica, self.sentinel):
                server.start()
            wait_until(self._replicated, "the sentinel's view of the replica")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all three."""
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()

    def _replicated(self) -> bool:
        replicas = self.sentinel.ask("SENTINEL", "REPLICAS", self.service)
        synced = "master_link_status:up" in self.replica.ask("INFO", "replication")
        return synced and any("ok" in replica for replica in replicas)
