"""Where a server is, as people write it: `redis://user:password@host:port/db`, and lists of `host:port`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix")
_HINT: Final = (
    "redis://host:6379/0, rediss://host:6379/0 for TLS, or unix:///path/to/socket?db=0 is accepted, "
    "each with user:password@ in front of the host"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, taken apart. Its repr shows neither user nor password."""

    tls: bool
    host: str
    """Empty for a unix socket."""
    port: int | None
    """None where the URL names none."""
    path: str
    """Of the unix socket; else empty."""
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)


def parse(url: str) -> Address:
    """Take *url* apart. Raises ValueError, whose text never repeats the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"not a URL with a host and a port; {_HINT}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a URL of another scheme; {_HINT}")
    unknown = set(parse_qs(parts.query, keep_blank_values=True)) - (
        {"db"} if parts.scheme == "unix" else set()
    )
    if unknown or parts.fragment:
        raise ValueError(f"the URL has parameters; what they set are options of the table. {_HINT}")
    if parts.scheme == "unix":
        db = parse_qs(parts.query, keep_blank_values=True).get("db", ["0"])[-1]
        if not parts.path.strip("/"):
            raise ValueError(f"the URL names no socket; {_HINT}")
    else:
        db = parts.path.strip("/") or "0"
    if not (db.isascii() and db.isdigit()):
        raise ValueError(f"the number of the database must be a whole number; {_HINT}")
    unix = parts.scheme == "unix"
    return Address(
        tls=parts.scheme == "rediss",
        host="" if unix else parts.hostname or "localhost",
        port=None if unix else port,
        path=unquote(parts.path) if unix else "",
        db=int(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def parse_node(text: str) -> tuple[str, int | None]:
    """Return host and port of "host:port", "host" or "[::1]:port". Raises ValueError."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or "@" in text or text.strip("/") != text or "/" in text:
        raise ValueError('a node must be "host:port"')
    return host, port
