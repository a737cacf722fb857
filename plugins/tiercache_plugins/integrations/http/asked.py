"""A request as a cache sees it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from tiercache_plugins.integrations.http.fields import Directives, members
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.status import Handling

Scope = MutableMapping[str, Any]

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""
CONDITIONS: Final = (b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since", b"if-range")
"""Fields that make a request conditional."""
LONGEST_KEY: Final = 900
"""Bytes of a key beyond which its end is a hash; the suffixes of a partition and of a variant have to fit
into the kernel's 1,024.
"""
PARTITION: Final = "tiercache.partition"
"""Where a scope tells whose its response is, for a cache that serves several users."""
PARTITION_LENGTH: Final = 32
READABLE: Final = 640
"""Bytes of a long key that stay as they are, for invalidation by prefix."""

_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")
_QUERY = re.compile(r"[\x21-\x22\x24-\x7e]*")
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(?::\d{0,5})?|\[[0-9A-Fa-f:.]+\](?::\d{0,5})?")
_PORTS: Final = (("http", ":80"), ("https", ":443"))
# Services name the fields that tell who asks as they like: Private-Token, X-Vault-Token, DD-API-KEY …
_TELLING = re.compile(
    "account|auth|cert|cookie|cred|customer|key|login|pass|secret|session|sign|tenant|token|user"
)
_LISTS: Final = frozenset({"accept-language", "accept-encoding", "accept-charset"})


class Asked:
    """One request: its key, and what its fields say. Reading hostile fields never raises."""

    __slots__ = (
        "_directives",
        "_partition",
        "credentials",
        "fields",
        "handling",
        "key",
        "keyed",
        "method",
        "origin",
        "settings",
        "url",
    )

    def __init__(self, scope: Scope, settings: HttpSettings) -> None:
        self.settings = settings
        self.method: str = scope["method"]
        self.fields: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self.fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        shown = frozenset(name for name in settings.credentials if name in self.fields)
        self.credentials = shown if settings.shared else frozenset()
        """Fields that tell who asks, where the key does not."""
        self.handling = Handling()
        """What became of the request."""
        self._directives: Directives | None = None
        self._partition = self._parted(scope.get(PARTITION))
        self.origin = self._origin(scope)
        """Scheme and host of the target; None where they are unclear."""
        self.url = _url(scope)
        """Path and query of the target as they were sent; None where they hold what no key can."""
        self.key: str | None = None
        """The cache key of the target."""
        if self.origin is not None and self.url is not None:
            path, _, query = self.url.partition("?")
            self.key = self.key_of(path, query)
        self.keyed = frozenset(name for name in settings.keyed if name in self.fields)
        """Fields of the request that every response varies by, whether it says so or not."""

    def key_of(self, path: str, query: str) -> str:
        """Return the key of another target on the same host, for whoever asks here."""
        assert self.origin is not None
        return target_key(self.settings.prefix, path, query, self.origin) + self._partition

    def field(self, name: str) -> str | None:
        """Return the lines of the field *name* as one."""
        found = self.fields.get(name)
        return None if found is None else found[0] if len(found) == 1 else ", ".join(found)

    @property
    def directives(self) -> Directives:
        """What the request's Cache-Control says; Pragma where there is none."""
        if self._directives is None:
            text = self.field("cache-control")
            if text is None and "no-cache" in (self.field("pragma") or "").lower():
                text = "no-cache"
            self._directives = Directives(text or "")
        return self._directives

    @property
    def has_body(self) -> bool:
        """Whether content comes with the request."""
        return "transfer-encoding" in self.fields or self.field("content-length") not in {None, "0"}

    @property
    def conditional(self) -> bool:
        """Whether the request is conditional in another way than a cache answers by itself."""
        return "if-match" in self.fields or "if-unmodified-since" in self.fields

    def selecting(self, vary: tuple[str, ...]) -> str:
        """Return what tells this request's variant from those of others; *vary* is sorted names.

        A name such as "cookie:session" stands for one cookie. Credentials go in, so a hash comes out.
        """
        parts = []
        for name in vary:
            value = self._cookie(name[7:]) if name.startswith("cookie:") else self._normal(name)
            parts += [name, "-" if value is None else f"+{value}"]
        return _digest(parts)[:40]

    def names(self, vary: tuple[str, ...]) -> bool:
        """Whether the request carries one of the fields, or cookies, of *vary*."""
        return any(
            bool(self._cookie(name[7:]) if name.startswith("cookie:") else self.field(name)) for name in vary
        )

    def _parted(self, named: str | None) -> str:
        """Return what keeps the keys of those apart who may not see each other's responses.

        That is whom *named* tells, else, in a private cache, whoever shows these credentials. The end of a
        key is a scheme and a host, or this, which is neither.
        """
        if self.settings.shared and named is None:
            return ""
        kind = "shared" if self.settings.shared else "private"
        if named is not None:
            parts = [kind, "named", named]
        else:
            parts = [kind, "shown"]
            for name in sorted(self.fields):
                if name in self.settings.credentials or (_TELLING.search(name) and name != "user-agent"):
                    # Line by line: two lines are not one that holds a comma.
                    parts += [name, str(len(self.fields[name])), *self.fields[name]]
        return f"|{_digest(parts)[:PARTITION_LENGTH]}"

    def _normal(self, name: str) -> str | None:
        value = self.field(name)
        if value is None:
            return None
        if name in _LISTS:
            return ",".join(re.sub(r"\s*([;=])\s*", r"\1", part).lower() for part in members(value))
        return value.strip()

    def _cookie(self, wanted: str) -> str | None:
        found = []
        for line in self.fields.get("cookie", ()):
            for pair in line.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == wanted:
                    found.append(value)
        return "\n".join(found) if found else None

    def _origin(self, scope: Scope) -> str | None:
        hosts = self.fields.get("host", ())
        if len(hosts) > 1:
            return None
        if hosts:
            host = hosts[0].strip().lower()
        else:
            server = scope.get("server") or ("", None)
            host = f"{server[0]}:{server[1]}" if server[1] else str(server[0])
        scheme = scope.get("scheme", "http")
        if not _HOST.fullmatch(host) or scheme not in {"http", "https"}:
            return None
        return origin_of(scheme, host)


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()


def _url(scope: Scope) -> str | None:
    raw = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=~%").encode("ascii")
    path = raw.decode("latin-1").partition("?")[0]
    query = scope.get("query_string", b"").decode("latin-1")
    if not can_be_keyed(path, query):
        return None
    return f"{path}?{query}" if query else path


def can_be_keyed(path: str, query: str) -> bool:
    """Whether responses of the target are stored: it has visible ASCII alone, and no fragment."""
    return _PATH.fullmatch(path) is not None and _QUERY.fullmatch(query) is not None


def origin_of(scheme: str, host: str) -> str:
    """Return scheme and host in the form that keys have: lower case, without the usual port."""
    host = host.lower().removesuffix(":")
    for usual, port in _PORTS:
        if scheme == usual:
            host = host.removesuffix(port)
    return f"{scheme}://{host}"


def target_key(prefix: str, path: str, query: str, origin: str) -> str:
    """Return the key of a target. The path comes first, so that a prefix invalidates what lies below it."""
    key = f"{prefix}{path}?{query}|{origin}" if query else f"{prefix}{path}|{origin}"
    if len(key) <= LONGEST_KEY:
        return key
    return f"{key[:READABLE]}#{hashlib.sha256(key.encode()).hexdigest()}"
