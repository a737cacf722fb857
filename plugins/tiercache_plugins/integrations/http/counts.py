"""What an HTTP cache counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class HttpCounts:
    """Requests by what became of them, and what else happened, since the start of this process."""

    hits: int = 0
    """Answered from the cache, fresh."""
    stale: int = 0
    """Answered from the cache, stale: as the client or the response allows it."""
    stood_in: int = 0
    """Answered by a stale response because the application failed."""
    collapsed: int = 0
    """Answered by what the application told another request at the same time."""
    confirmed: int = 0
    """Answered from the cache after the application said 304."""
    misses: int = 0
    """Answered by the application; the answer could have been cached."""
    passed: int = 0
    """Passed to the application, without use of the cache."""
    stored: int = 0
    refused: int = 0
    """Answers that may not be stored."""
    changes: int = 0
    """Successful unsafe requests, which drop what they make out of date."""
    refreshed: int = 0
    """Fetched anew behind a stale answer."""
    troubles: int = 0
    """Errors of the cache itself; the application answered, or something stayed that was to be dropped."""

    def as_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)
