"""What an endpoint says about the caching of its responses, by decorators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, TypeVar

from tiercache.units import seconds
from tiercache_plugins.integrations.http.fields import is_token

MARK: Final = "__tiercache_http__"
"""The attribute of an endpoint that holds its rule."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """How the responses of one endpoint are cached."""

    cached: bool = False
    """Whether the endpoint asks for it; others are cached where that is safe."""
    never: bool = False
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    whose: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    public: bool = False
    drops: tuple[str, ...] = ()
    """Tags that a successful call invalidates."""


def cached_response(
    *,
    ttl: float | str | timedelta | None = None,
    tags: Iterable[str] = (),
    whose: str | Iterable[str] = (),
    vary: str | Iterable[str] = (),
    public: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator for endpoints whose responses are cached; it goes below the one of the route.

    *ttl* is how long a response is fresh that does not say so itself (None: as for all endpoints). *tags* are
    what it can be invalidated by, templates of path parameters such as "user:{user_id}". *whose* names the
    fields of the request that tell whose the response is, such as "authorization" or "cookie:session"; only
    requests that carry one are cached, each user's apart. *vary* names further fields that it depends on.
    *public* says that it is the same for everybody, whatever cookies or authorization the request carries.

    Raises ValueError for names that can't be those of fields, and where both *whose* and *public* are given.
    """
    rule = Rule(
        cached=True, ttl=None if ttl is None else seconds(ttl), tags=tuple(tags), whose=_names(whose),
        vary=_names(vary), public=public,
    )  # fmt: skip
    if rule.whose and public:
        raise ValueError("a response is either one user's (whose=…) or everybody's (public=True), not both")

    def mark(endpoint: Endpoint) -> Endpoint:
        return _marked(
            endpoint,
            lambda old: replace(rule, drops=old.drops),
        )

    return mark


def uncached_response(endpoint: Endpoint) -> Endpoint:
    """Decorate an endpoint whose responses are never cached, whatever they say."""
    return _marked(endpoint, lambda old: replace(old, never=True))


def invalidates(*tags: str) -> Callable[[Endpoint], Endpoint]:
    """Return a decorator for endpoints that change something: a successful call invalidates *tags*.

    They are templates of path parameters, as those of `cached_response`.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        return _marked(endpoint, lambda old: replace(old, drops=(*old.drops, *tags)))

    return mark


def rule_of(endpoint: Any) -> Rule:
    """Return what *endpoint* was decorated with."""
    rule = getattr(endpoint, MARK, None)
    return rule if isinstance(rule, Rule) else Rule()


def filled(tags: Iterable[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return *tags* with path parameters put in. Raises KeyError where one is missing."""
    return tuple(tag.format_map(values) if "{" in tag else tag for tag in tags)


def _marked(endpoint: Endpoint, change: Callable[[Rule], Rule]) -> Endpoint:
    setattr(endpoint, MARK, change(rule_of(endpoint)))
    return endpoint


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not is_token(name.removeprefix("cookie:")):
            raise ValueError(f'"{name}" names no field of a request; "authorization" and "cookie:session" do')
    # The names of cookies are told apart by case, those of fields are not.
    return tuple(name if name.startswith("cookie:") else name.lower() for name in names)
