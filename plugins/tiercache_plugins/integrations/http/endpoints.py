"""What is known of an application's endpoints: which are guarded, what they depend on, what they say.

Routes and dependants are looked at as FastAPI and Starlette make them, without importing either.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, get_type_hints

from tiercache_plugins.integrations.http.fields import is_token
from tiercache_plugins.integrations.http.rules import Rule, rule_of
from tiercache_plugins.integrations.http.storing import Terms

UNKNOWN: Final = Terms(store=False)
"""The terms of an endpoint that no route leads to."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one endpoint, by all routes that lead to it."""

    endpoint: Any
    rule: Rule
    paths: tuple[str, ...]
    reads: bool
    """Whether it answers GET."""
    guarded: bool
    """Whether a security dependency stands before it."""
    carriers: frozenset[str]
    """The fields that its security dependencies read; empty where that is not known."""
    terms: Terms

    @property
    def problem(self) -> str | None:
        """What makes it unsafe to cache as it asks for; None where nothing does."""
        if not self.rule.cached or not self.guarded:
            return None
        where = f"{self.paths[0]} ({_name(self.endpoint)})"
        if not self.rule.whose:
            return (
                f"{where}: a security dependency guards this endpoint, so its responses are cached only if "
                'cached_response says whose they are, as in whose="authorization"'
            )
        if missing := [name for name in self.carriers if not _covers(self.rule.whose, name)]:
            names = ", ".join(sorted(missing))
            return f"{where}: its security dependencies read {names}, which whose= must name"
        return None


class Endpoints:
    """The endpoints of *app*; read anew where a route was added."""

    __slots__ = ("_app", "_facts", "_missed")

    def __init__(self, app: Any) -> None:
        self._app = app
        self._facts: dict[int, Facts] = {}
        self._missed: set[int] = set()

    def read(self) -> list[str]:
        """Look at all routes; return what makes endpoints unsafe to cache as they ask for."""
        found: dict[int, Facts] = {}
        for path, methods, endpoint, route in _leaves(getattr(self._app, "routes", ())):
            facts = _facts(path, methods, endpoint, route)
            other = found.get(id(endpoint))
            found[id(endpoint)] = facts if other is None else _both(other, facts)
        self._facts = found
        return [facts.problem for facts in found.values() if facts.problem]

    def of(self, scope: Mapping[str, Any]) -> Facts | None:
        """Return what is known of the endpoint that answered *scope*."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None
        facts = self._facts.get(id(endpoint))
        if facts is None and id(endpoint) not in self._missed:
            self.read()
            facts = self._facts.get(id(endpoint))
            if facts is None and len(self._missed) < 1000:
                self._missed.add(id(endpoint))
        return facts

    def terms(self, scope: Mapping[str, Any]) -> Terms:
        """Return the terms that the response to *scope* is stored on."""
        # Where sessions are given outside the cache, nothing else says here that one was looked at.
        if getattr(scope.get("session"), "accessed", False):
            return UNKNOWN
        if not hasattr(self._app, "routes"):
            return Terms()
        facts = self.of(scope)
        return UNKNOWN if facts is None or facts.problem else facts.terms

    def cacheable(self) -> list[str]:
        """Return the paths of the routes whose responses may be cached."""
        return sorted(
            path
            for facts in self._facts.values()
            if facts.reads and facts.terms.store
            for path in facts.paths
        )


def _leaves(routes: Iterable[Any]) -> Iterator[tuple[str, frozenset[str], Any, Any]]:
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    # Recent versions of FastAPI keep routers that were included apart; older ones have one flat list.
    for route in routes if contexts is None else contexts(list(routes)):
        endpoint, nested = getattr(route, "endpoint", None), getattr(route, "routes", None)
        path = str(getattr(route, "path", ""))
        if endpoint is not None:
            yield path, frozenset(getattr(route, "methods", None) or {"GET"}), endpoint, route
        elif nested:
            for inner, methods, leaf, origin in _leaves(nested):
                yield path + inner, methods, leaf, origin
        elif (app := getattr(route, "app", None)) is not None:
            yield path, frozenset({"GET"}), app, route


def _facts(path: str, methods: frozenset[str], endpoint: Any, route: Any) -> Facts:
    rule = rule_of(endpoint)
    dependant = getattr(route, "dependant", None)
    guarded = any(map(_is_security, getattr(route, "dependencies", None) or ()))
    carriers: set[str] = set()
    declared: set[str] | None = set()
    if dependant is not None:
        for one in _tree(dependant):
            read = _carrier(one)
            guarded |= read is not None or bool(_scopes(one)) or _declares_security(one.call)
            carriers |= read or set()
            names = _declared(one)
            declared = None if declared is None or names is None else declared | names
    safe = not rule.never and declared is not None and (not guarded or bool(rule.whose))
    terms = Terms(
        ttl=rule.ttl, vary=tuple(sorted({*rule.vary, *(declared or ())})), whose=rule.whose,
        public=rule.public, store=safe,
    )  # fmt: skip
    return Facts(endpoint, rule, (path,), "GET" in methods, guarded, frozenset(carriers), terms)


def _both(one: Facts, other: Facts) -> Facts:
    """Return what holds for an endpoint that two routes lead to: the stricter of both."""
    terms = Terms(
        ttl=one.terms.ttl, vary=tuple(sorted({*one.terms.vary, *other.terms.vary})), whose=one.terms.whose,
        public=one.terms.public, store=one.terms.store and other.terms.store,
    )  # fmt: skip
    return Facts(
        one.endpoint, one.rule, tuple(dict.fromkeys((*one.paths, *other.paths))), one.reads or other.reads,
        one.guarded or other.guarded, one.carriers | other.carriers, terms,
    )  # fmt: skip


def _tree(dependant: Any) -> Iterator[Any]:
    yield dependant
    for below in getattr(dependant, "dependencies", ()):
        yield from _tree(below)


def _carrier(dependant: Any) -> set[str] | None:
    """Return what the security scheme of *dependant* reads; None where it is no scheme."""
    base = getattr(sys.modules.get("fastapi.security.base"), "SecurityBase", None)
    call = dependant.call
    while isinstance(call, partial):
        call = call.func
    call = inspect.unwrap(call) if callable(call) else call
    if base is None or not isinstance(call, base):
        return None
    model = getattr(call, "model", None)
    place = getattr(getattr(model, "in_", None), "value", None)
    name = str(getattr(model, "name", ""))
    if place == "query":
        return set()
    if place == "cookie":
        return {f"cookie:{name}"}
    return {name.lower()} if place == "header" else {"authorization"}


def _scopes(dependant: Any) -> Any:
    names = ("own_oauth_scopes", "security_scopes", "security_requirements", "security_scopes_param_name")
    return next((found for name in names if (found := getattr(dependant, name, None))), None)


def _is_security(value: Any) -> bool:
    kind = getattr(sys.modules.get("fastapi.params"), "Security", None)
    return kind is not None and isinstance(value, kind)


def _declares_security(call: Any) -> bool:
    """Whether *call* names a dependency by `Security`, in a default or in an annotation."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(_is_security(parameter.default) for parameter in parameters):
        return True
    function = call if inspect.isroutine(call) or inspect.isclass(call) else type(call).__call__
    try:
        hints = get_type_hints(function, include_extras=True).values()
    except Exception:  # noqa: BLE001 - hints that can't be read count by their text
        return any("Security" in str(parameter.annotation) for parameter in parameters)
    return any(_is_security(part) for hint in hints for part in getattr(hint, "__metadata__", ()))


def _declared(dependant: Any) -> set[str] | None:
    """Return the fields and cookies that *dependant* takes as parameters; None where they can't be told."""
    names: set[str] = set()
    for kind, prefix in (("header_params", ""), ("cookie_params", "cookie:")):
        for field in getattr(dependant, kind, ()):
            annotation = getattr(getattr(field, "field_info", None), "annotation", None)
            if hasattr(annotation, "model_fields") or not is_token(str(field.alias)):
                return None
            alias = str(getattr(field, "validation_alias", None) or field.alias)
            names.add(prefix + alias if prefix else alias.lower())
    return names


def _covers(whose: Iterable[str], name: str) -> bool:
    return name in whose or (name.startswith("cookie:") and "cookie" in whose)


def _name(endpoint: Any) -> str:
    return str(getattr(endpoint, "__qualname__", None) or type(endpoint).__qualname__)
