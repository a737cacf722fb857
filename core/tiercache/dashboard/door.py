"""Who may look: the names under which the page is asked for, and the token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

COOKIE: Final = "tiercache_dashboard"
"""What the first visit leaves behind."""
SHORTEST: Final = 16
"""Characters that a token has at least: it is not to be guessed."""

Header = tuple[bytes, bytes]


class Refused(Exception):
    """A request that is not answered, with the status and headers that say why."""

    def __init__(self, status: int, message: str, *headers: Header) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Door:
    """Lets requests in, or says why not."""

    __slots__ = ("_hosts", "_proof", "_token")

    def __init__(self, token: str | None, hosts: Collection[str] | None) -> None:
        if token is not None and (len(token) < SHORTEST or not token.isascii() or not token.isprintable()):
            raise ValueError(f"the token must have at least {SHORTEST} printable ASCII characters")
        self._token = token.encode() if token is not None else None
        # What a browser keeps is not the token, and can't be turned into it.
        self._proof = hmac.new(self._token or b"", b"tiercache dashboard", hashlib.sha256).hexdigest()
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    def admit(self, scope: Mapping[str, Any]) -> bytes:
        """Return the cookie to set where the token came with the address, else nothing.

        Raises Refused for a host that is not accepted (a page elsewhere may let its own name lead here), for
        requests that another site's page makes, and where the token is wanted and does not fit.
        """
        headers = dict(scope["headers"])
        if self._hosts is not None and _host(headers.get(b"host", b"")) not in self._hosts:
            raise Refused(421, "the dashboard is not served under this name")
        if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"} and (
            headers.get(b"sec-fetch-mode") != b"navigate"
        ):
            raise Refused(403, "other sites may not read the dashboard")
        if self._token is None:
            return b""
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if asked and hmac.compare_digest(asked[0].encode(), self._token):
            return self._cookie(scope)
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return b""
        if hmac.compare_digest(_cookie(headers.get(b"cookie", b"")), self._proof.encode()):
            return b""
        raise Refused(
            401, "a token is wanted: open the address with ?token=TOKEN, or send Authorization: Bearer TOKEN",
            (b"www-authenticate", b'Bearer realm="tiercache"'),
        )  # fmt: skip

    def _cookie(self, scope: Mapping[str, Any]) -> bytes:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{COOKIE}={self._proof}; HttpOnly; SameSite=Lax; Path=/{secure}".encode()


def _host(value: bytes) -> str:
    """Return the name in a Host header, without the port; that of an IPv6 address in its brackets."""
    text = value.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


def _cookie(value: bytes) -> bytes:
    try:
        found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
    except CookieError:
        return b""
    return found.value.encode() if found is not None else b""
