"""Parts of Jinja2 templates, rendered once: `{% cache "name", user.id, ttl="5m" %}…{% endcache %}`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from jinja2 import Environment, nodes, pass_eval_context
from jinja2.ext import Extension
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from markupsafe import Markup

from tiercache import Loaded, cached_by
from tiercache.units import seconds
from tiercache_plugins.integrations.source import Found, cache_of

Terms = tuple[float | None, tuple[str, ...]]


class Fragments:
    """The rendered fragments of one environment, in the cache of *source*; `cache_fragments` makes it."""

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = None,
        prefix: str = "fragment:",
        ttl: float | str | timedelta | None = None,
        version: int | str = 1,
    ) -> None:
        self._source = source
        self._route = route
        self._prefix = prefix
        self._ttl = None if ttl is None else seconds(ttl)
        found = Found(source)
        self._told = cached_by(found, version=version)(_fragment)
        self._sync: Callable[..., Any] = cached_by(found, key=_first, route=route)(_loaded)
        self._asked = self._renders = 0

    def key_for(self, name: str, *vary_on: Any, template: str, digest: str, autoescape: bool) -> str:
        """Return the key of the fragment *name* of *template*, whose source has *digest*, for *vary_on*.

        Raises TypeError for a *name* that is no text, and where *vary_on* holds what can't be told from
        others, such as a value that is undefined.
        """
        if not isinstance(name, str):
            raise TypeError(f"a fragment is named by a str, not by {type(name).__name__}")
        try:
            safe = tuple(isinstance(value, Markup) for value in vary_on)
            plain = tuple(str(value) if isinstance(value, Markup) else value for value in vary_on)
            told = self._told.key_for(str(name), plain, safe, template, digest, autoescape)
        except TypeError as error:
            raise TypeError(f"fragment {name!r} can't be told by what it varies on: {error}") from None
        hashed = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._prefix}{name}#{hashed[:40]}"

    def terms(self, name: str, ttl: float | str | timedelta | None, tags: str | Iterable[str]) -> Terms:
        """Return for how long a fragment is fresh, and what it is invalidated by.

        Raises ValueError for a *ttl* that is no duration, TypeError for tags that are no text.
        """
        labels = (tags,) if isinstance(tags, str) else tuple(tags)
        if not all(isinstance(label, str) for label in labels):
            raise TypeError(f"the tags of fragment {name!r} are not all text; a list of str is accepted")
        life = self._ttl if ttl is None else seconds(ttl)
        return life, (self._tag(name), *map(str, labels))

    def rendered(self, key: str, caller: Callable[[], str], terms: Terms) -> str:
        """Return what stands under *key*, or what *caller* renders.

        On the thread of an event loop nothing may wait: there what is near is taken, else *caller* is called
        for this call alone, and the cache stores what it renders in the background.
        """
        self._asked += 1

        def render() -> str:
            self._renders += 1
            return str(caller())

        found: str = self._sync(key, render, terms)
        return found

    async def rendered_async(self, key: str, caller: Callable[[], Any], terms: Terms) -> str:
        """Return what stands under *key*, or what *caller* renders, once for all who ask at a time."""
        self._asked += 1

        async def render() -> str:
            self._renders += 1
            return str(await caller())

        found: str = await cache_of(self._source).get_or_set(
            key, render, route=self._route, ttl=terms[0], tags=terms[1]
        )
        return found

    async def invalidate_fragment(self, name: str) -> None:
        """Drop the fragments *name* of all templates, whatever they vary on."""
        await cache_of(self._source).invalidate(tags=(self._tag(name),))

    def stats(self) -> dict[str, Any]:
        """Return what was asked for and rendered here, in this process."""
        return {"prefix": self._prefix, "asked": self._asked, "rendered": self._renders}

    def _tag(self, name: str) -> str:
        return f"{self._prefix}{name}"


class FragmentExtension(Extension):
    """The tag `cache`. `cache_fragments` adds it, and says where fragments are kept."""

    tags = frozenset({"cache"})  # type: ignore[assignment]

    def parse(self, parser: Parser) -> nodes.Node:
        """Read one tag, up to its `endcache`. Raises TemplateSyntaxError."""
        line = next(parser.stream).lineno
        if parser.stream.current.type == "block_end":
            parser.fail('a fragment needs a name: {% cache "name" %}', line)
        values, named = [parser.parse_expression()], []
        while parser.stream.skip_if("comma"):
            if parser.stream.current.type == "name" and parser.stream.look().type == "assign":
                option = parser.stream.expect("name").value
                parser.stream.skip(1)
                if option not in {"ttl", "tags"}:
                    parser.fail(f"{option} is no option of a fragment; ttl and tags are accepted", line)
                named.append(nodes.Keyword(option, parser.parse_expression(), lineno=line))
            elif named:
                parser.fail("what a fragment varies on stands before its options", line)
            else:
                values.append(parser.parse_expression())
        body = parser.parse_statements(("name:endcache",), drop_needle=True)
        # The tree holds all that the source says; so an edit of the fragment is another key.
        digest = hashlib.sha256(repr(body).encode("utf-8", "surrogatepass")).hexdigest()
        place = [nodes.Const(parser.name or ""), nodes.Const(digest)]
        call = self.call_method("_render", [*place, *values], named, lineno=line)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    @pass_eval_context
    def _render(
        self,
        context: EvalContext,
        template: str,
        digest: str,
        name: str,
        *vary_on: Any,
        caller: Callable[[], Any],
        ttl: float | str | timedelta | None = None,
        tags: str | Iterable[str] = (),
    ) -> Any:
        fragments: Fragments = self.environment.tiercache_fragments  # type: ignore[attr-defined]
        escapes = bool(context.autoescape)
        key = fragments.key_for(name, *vary_on, template=template, digest=digest, autoescape=escapes)
        terms = fragments.terms(name, ttl, tags)

        # What a call block returns is put out as it is, and what captures it marks it as it escapes itself.
        if self.environment.is_async:
            return fragments.rendered_async(key, caller, terms)
        return fragments.rendered(key, caller, terms)


def cache_fragments(
    environment: Environment,
    source: Any,
    *,
    route: str | None = None,
    prefix: str = "fragment:",
    ttl: float | str | timedelta | None = None,
    version: int | str = 1,
) -> Fragments:
    """Give the templates of *environment* the tag `cache`, and return what to drop fragments by.

    The first value of the tag is the name of the fragment; those after it are what it varies on, told apart
    by their exact types. Whatever else it shows, such as the user or the language, must be among them. Its
    own source, the name of its template, and whether it escapes are part of the key; templates that it
    includes are not, so change *version* with them. `ttl` and `tags` are options of the tag.

    *source* is a `Cache` or has one as `cache`; *route*, *prefix* and *ttl* are those of the fragments that
    say nothing themselves. Templates of an async environment must be rendered on the event loop of the cache.

    Raises ValueError for a *ttl* that is no duration.
    """
    fragments = Fragments(source, route=route, prefix=prefix, ttl=ttl, version=version)
    environment.extend(tiercache_fragments=fragments)
    environment.add_extension(FragmentExtension)
    return fragments


def _first(key: str, render: Callable[[], str], terms: Terms) -> str:
    del render, terms
    return key


def _loaded(key: str, render: Callable[[], str], terms: Terms) -> Any:
    del key
    return Loaded(render(), ttl=terms[0], tags=terms[1])


def _fragment(
    name: str, vary_on: tuple[Any, ...], safe: tuple[bool, ...], template: str, digest: str, autoescape: bool
) -> None:
    """Stands for all fragments, so that the kernel tells what they vary on apart."""
    del name, vary_on, safe, template, digest, autoescape
