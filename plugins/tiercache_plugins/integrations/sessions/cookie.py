"""The cookie that carries the id of a session."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

SameSite = Literal["lax", "strict", "none"]
SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""What `SessionCache.create_session` makes; anything else is no id, and the store is not asked for it."""
TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cookie:
    """How the id travels.

    Raises ValueError for a name that is none, for another word than the three of *same_site*, and for "none"
    without *secure*, which browsers refuse.
    """

    name: str = "session"
    secure: bool = True
    same_site: SameSite = "lax"

    def __post_init__(self) -> None:
        if not TOKEN.fullmatch(self.name):
            raise ValueError(f'{self.name!r} names no cookie; a token such as "session" is accepted')
        if self.same_site not in {"lax", "strict", "none"}:
            raise ValueError(f'same_site is {self.same_site!r}; "lax", "strict" and "none" are accepted')
        if self.same_site == "none" and not self.secure:
            raise ValueError('same_site = "none" is accepted only where the cookie is secure')

    @property
    def field(self) -> str:
        """The name as browsers know it. The prefix lets no other host and no plain HTTP set such a cookie."""
        return f"__Host-{self.name}" if self.secure else self.name

    def brought(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the id that a request with *headers* brings; None where there is none, or several."""
        found = set()
        for name, value in headers:
            if name.lower() != b"cookie":
                continue
            for pair in value.decode("latin-1").split(";"):
                key, _, content = pair.partition("=")
                if key.strip(" \t") == self.field:
                    found.add(content.strip(' \t"'))
        # Two ids under one name: one was planted, and nobody can say which.
        session_id = found.pop() if len(found) == 1 else ""
        return session_id if SHAPE.fullmatch(session_id) else None

    def given(self, session_id: str, left: float) -> tuple[bytes, bytes]:
        """Return the field that gives a client *session_id*, for *left* seconds at most."""
        age = "" if math.isinf(left) else f"; Max-Age={max(int(left), 0)}"
        return self._field(session_id, age)

    def taken(self) -> tuple[bytes, bytes]:
        """Return the field that takes the id away."""
        return self._field("", "; Max-Age=0")

    def _field(self, value: str, age: str) -> tuple[bytes, bytes]:
        secure = "; Secure" if self.secure else ""
        text = f"{self.field}={value}; Path=/{age}; HttpOnly{secure}; SameSite={self.same_site.capitalize()}"
        return b"set-cookie", text.encode("latin-1")
