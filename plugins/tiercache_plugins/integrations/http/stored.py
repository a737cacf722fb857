"""A response as it is stored, and back: plain tuples, so that any serializer that knows bytes takes them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

FORM: Final = "tiercache-http-1"
"""Marks what this version stores; anything else is no record."""
VALIDATE: Final = 1
"""Never used without asking the application first: no-cache."""
STRICT: Final = 2
"""Never used stale: must-revalidate, proxy-revalidate, s-maxage, no-cache."""
IMPLICIT: Final = 4
"""Its freshness is the cache's assumption, so it is for requests without credentials alone."""
OWN_TAG: Final = 8
"""Its entity tag was made here; the application does not know it."""
PERSONAL: Final = 16
"""It is one user's: those behind this cache are told to keep it for nobody else."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that may be used again. Times are seconds since the epoch, spans seconds."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    received: float
    """When the response began to arrive."""
    age: float
    """How old it was then."""
    lifetime: float
    """The age up to which it is fresh."""
    flags: int
    revalidate: float
    """How long after that it may be used while a newer one is fetched."""
    error: float
    """How long after that it may stand in for an error."""

    def aged(self, now: float) -> float:
        """Return how old it is."""
        return self.age + max(now - self.received, 0.0)

    def first(self, name: bytes) -> str | None:
        """Return the first line of the field *name*."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands under a key: a response, or, for a target with variants, what they differ by."""

    vary: tuple[str, ...] = ()
    generation: str = ""
    """Part of the keys of the variants, so that dropping this drops them all."""
    response: Stored | None = None

    def pack(self) -> tuple[Any, ...]:
        """Return it as tuples of plain values."""
        one = self.response
        packed = None if one is None else (
            one.status, one.headers, one.body, one.received, one.age, one.lifetime, one.flags,
            one.revalidate, one.error,
        )  # fmt: skip
        return (FORM, self.vary, self.generation, packed)


def fork(vary: tuple[str, ...]) -> Kept:
    """Return the record of a target whose variants differ by *vary*, without any yet."""
    return Kept(vary, secrets.token_hex(12))


def unpack(value: Any) -> Kept | None:
    """Return what `pack` gave; None for anything else, wherever it came from."""
    match value:
        case (str() as form, tuple() as vary, str() as generation, packed) if form == FORM:
            if not all(isinstance(name, str) for name in vary):
                return None
            if packed is None:
                return Kept(vary, generation)
            response = _response(packed)
            return None if response is None else Kept(vary, generation, response)
    return None


def _response(packed: Any) -> Stored | None:
    match packed:
        case (
            int() as status, tuple() as headers, bytes() as body, float() as received, float() as age,
            float() as lifetime, int() as flags, float() as revalidate, float() as error,
        ) if all(_is_header(header) for header in headers):  # fmt: skip
            return Stored(status, headers, body, received, age, lifetime, flags, revalidate, error)
    return None


def _is_header(header: Any) -> bool:
    match header:
        case (bytes(), bytes()) if isinstance(header, tuple):
            return True
    return False
