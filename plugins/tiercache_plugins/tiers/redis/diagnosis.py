"""What commonly goes wrong with a server, looked at for `tiercache doctor`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions

from tiercache import Context, Diagnosis

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis.exchange import Reply
    from tiercache_plugins.tiers.redis.line import Command

OLDEST: Final = (6, 2)
"""The first release that is supported."""
OFFSET: Final = 0.5
"""Seconds by which clocks may differ before it is told."""

Run = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


async def diagnose(run: Run, context: Context) -> list[Diagnosis]:
    """Look at the server that *run* sends commands to. It may refuse some: then that is told."""
    namespace, wall = context.namespace, context.clock.wall
    markers = f"{namespace}:"
    absent = f"{namespace}:tiercache:doctor"
    needed: dict[str, Command] = {
        "mget": ("MGET", absent),
        "eval": ("EVAL", "return 1", 0),
        "evalsha": ("EVALSHA", "0" * 40, 0),
        "unlink": ("UNLINK", absent),
        "hgetall": ("HGETALL", markers),
        "scan": ("SCAN", "0", "MATCH", f"{absent}*", "COUNT", 1),
    }
    began, wrote = time.perf_counter(), wall()
    (pong,) = await run([("PING",)])
    took = time.perf_counter() - began
    replies = await run([("INFO",), ("TIME",), *needed.values()])
    about, now, *tried = replies
    found = [_ping(pong, took)]
    found += _server(about)
    found += _clock(now, wrote, took)
    refused = [
        name for name, reply in zip(needed, tried, strict=True)
        if isinstance(reply, exceptions.NoPermissionError)
    ]  # fmt: skip
    if refused:
        rights = " ".join(f"+{name}" for name in refused)
        found.append(Diagnosis("problem", "rights", f"the user lacks {rights}; ACL SETUSER grants them"))
    else:
        found.append(Diagnosis("ok", "rights", "every command that is needed may be used"))
    return found


async def diagnose_each(servers: Mapping[str, Run], context: Context) -> list[Diagnosis]:
    """Look at several servers, given by address: what is amiss is told of each, of what is well one line."""
    found = {address: await diagnose(run, context) for address, run in servers.items()}
    kept: dict[str, Diagnosis] = {}
    amiss: list[Diagnosis] = []
    for address, diagnoses in found.items():
        for one in diagnoses:
            if one.level != "ok":
                amiss.append(replace(one, message=f"{address}: {one.message}"))
            kept.setdefault(one.subject, one)
    count = f"{len(found)} primaries; of {next(iter(found), 'none')}"
    poor = {one.subject for one in amiss}
    well = [
        replace(one, message=f"{count}: {one.message}") for one in kept.values() if one.subject not in poor
    ]
    return [*well, *amiss]


def _ping(reply: Reply, took: float) -> Diagnosis:
    if isinstance(reply, exceptions.NoPermissionError):
        return Diagnosis("ok", "ping", "answers (PING itself is not allowed, and not needed)")
    if took > 0.1:
        return Diagnosis("warning", "ping", f"takes {took * 1000:.0f} ms: every far read takes as long")
    return Diagnosis("ok", "ping", f"answers in {took * 1000:.1f} ms")


def _server(reply: Reply) -> Iterator[Diagnosis]:
    about = _parsed(reply)
    if not about:
        yield Diagnosis("warning", "version", "INFO is not allowed: version and memory are not known")
        return
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = about.get("valkey_version") or about.get("redis_version", "0")
    numbers = tuple(int(part) for part in about.get("redis_version", "0").split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        yield Diagnosis("problem", "version", f"{name} {version}; 6.2 is the oldest that is supported")
    else:
        yield Diagnosis("ok", "version", f"{name} {version}")
    if about.get("role") == "slave":
        yield Diagnosis("problem", "role", "the server is a replica, and takes no writes; name the primary")
    yield _memory(about)


def _memory(about: Mapping[str, str]) -> Diagnosis:
    limit, policy = int(about.get("maxmemory", "0")), about.get("maxmemory_policy", "")
    if limit and policy == "noeviction":
        return Diagnosis(
            "problem", "maxmemory",
            "maxmemory-policy is noeviction: a full server fails every write; volatile-lru is usual",
        )  # fmt: skip
    if limit and policy.startswith("allkeys"):
        return Diagnosis(
            "warning", "maxmemory",
            f"maxmemory-policy {policy} may evict the markers of invalidations; volatile-lru leaves them",
        )  # fmt: skip
    if not limit:
        return Diagnosis(
            "warning", "maxmemory", "there is no maxmemory: the server may grow until its host has no more"
        )
    return Diagnosis("ok", "maxmemory", f"{limit:,} bytes, {policy}")


def _clock(reply: Reply, wrote: float, took: float) -> Iterable[Diagnosis]:
    if isinstance(reply, BaseException):
        yield Diagnosis("warning", "clock", "TIME is not allowed: how far the clocks differ is not known")
        return
    offset = int(reply[0]) + int(reply[1]) / 1e6 - wrote
    told = f"the server's differs by {offset:+.3f} s"
    if abs(offset) > OFFSET + took:
        yield Diagnosis(
            "problem", "clock", f"{told}: TTLs and invalidations are off by as much; let NTP set both clocks"
        )
    else:
        yield Diagnosis("ok", "clock", told)


def _parsed(reply: Reply) -> dict[str, str]:
    if isinstance(reply, BaseException):
        return {}
    if isinstance(reply, Mapping):
        return {_text(name): _text(value) for name, value in reply.items()}
    lines = _text(reply).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
