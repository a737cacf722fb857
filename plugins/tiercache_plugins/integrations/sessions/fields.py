"""What a response says to caches once it depends on a session."""

from __future__ import annotations

from typing import Final

Headers = list[tuple[bytes, bytes]]

SHARED: Final = ("public", "s-maxage", "proxy-revalidate")
"""Directives that speak to caches which many users share."""


def personal(headers: Headers) -> Headers:
    """Return *headers* so that no shared cache keeps the response, whatever they said.

    `Cache-Control` says `private`, and `no-cache` where it said nothing; `Vary` names Cookie; fields that
    address single caches (RFC 9213), which would count more than `Cache-Control`, are left out.
    """
    kept: Headers = []
    controls: list[str] = []
    vary: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"cache-control":
            controls += _members(value)
        elif lower == b"vary":
            vary += _members(value)
        elif lower != b"surrogate-control" and not lower.endswith(b"-cache-control"):
            kept.append((name, value))
    stated = bool(controls)
    controls = [
        each for each in controls if each.partition("=")[0].strip().lower() not in {*SHARED, "private"}
    ]
    controls.insert(0, "private")
    if not stated:
        controls.append("no-cache")
    if not {"*", "cookie"} & {each.lower() for each in vary}:
        vary.append("Cookie")
    kept.append((b"cache-control", ", ".join(controls).encode("latin-1")))
    kept.append((b"vary", ", ".join(vary).encode("latin-1")))
    return kept


def _members(value: bytes) -> list[str]:
    """Return the members of a list field. Commas within quotes do not part them."""
    members, quoted, begin = [], False, 0
    text = value.decode("latin-1")
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            members.append(text[begin:at].strip())
            begin = at + 1
    members.append(text[begin:].strip())
    return [member for member in members if member]
