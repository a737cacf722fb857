"""TemplateCache: what templates were rendered to."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from tiercache import cached_by
from tiercache_plugins.integrations.source import Found, cache_of


class TemplateCache:
    """Rendered templates in the cache of *source*, on *route*, under keys that begin with *prefix*.

    What was rendered is given back as it was: whatever must be escaped, the renderer escapes. *version* is
    part of every key; change it with the templates. *ttl* is how long results are fresh; None: as long as
    the route says.
    """

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = None,
        prefix: str = "template:",
        ttl: float | str | timedelta | None = None,
        version: int | str = 1,
    ) -> None:
        self._source = source
        self._route = route
        self._prefix = prefix
        self._ttl = ttl
        self._told = cached_by(Found(source), version=version)(_rendered)
        self._asked = self._renders = 0

    def key_for(self, template_name: str, data: Mapping[str, Any]) -> str:
        """Return the key of *template_name* with *data*: the name, and a hash of both.

        Raises TypeError where *data* holds what can't be told from others, such as an object of a class of
        one's own that is no dataclass.
        """
        if not isinstance(template_name, str):
            raise TypeError(f"a template is named by a str, not by {type(template_name).__name__}")
        try:
            told = self._told.key_for(template_name, dict(data))
        except TypeError as error:
            raise TypeError(f"the data of template {template_name!r} make no key: {error}") from None
        digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._prefix}{template_name}#{digest[:40]}"

    async def render_template_cached(
        self,
        template_name: str,
        data: Mapping[str, Any],
        renderer: Callable[[str, Any], Awaitable[str] | str],
        *,
        ttl: float | str | timedelta | None = None,
    ) -> str:
        """Return what *renderer* makes of *template_name* and *data*, called once for all who ask at a time.

        Name and data are the whole key, so whatever else the result depends on, such as a language, belongs
        in the data. Raises what *renderer* raises, TypeError for data that make no key, and else as
        `Cache.get_or_set`.
        """
        key = self.key_for(template_name, data)
        self._asked += 1

        async def render() -> str:
            self._renders += 1
            made = renderer(template_name, data)
            return await made if inspect.isawaitable(made) else made

        found: str = await cache_of(self._source).get_or_set(
            key,
            render,
            route=self._route,
            ttl=self._ttl if ttl is None else ttl,
            tags=(self._tag(template_name),),
        )
        return found

    async def invalidate_template(self, template_name: str) -> None:
        """Drop what *template_name* was rendered to, with whatever data."""
        await cache_of(self._source).invalidate(tags=(self._tag(template_name),))

    def stats(self) -> dict[str, Any]:
        """Return what was asked for and rendered here, in this process."""
        return {"prefix": self._prefix, "asked": self._asked, "rendered": self._renders}

    def _tag(self, template_name: str) -> str:
        return f"{self._prefix}{template_name}"


def _rendered(template_name: str, data: dict[str, Any]) -> None:
    """Stands for all renderers, so that the kernel tells their arguments apart."""
    del template_name, data
