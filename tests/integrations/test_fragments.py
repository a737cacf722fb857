"""Fragments of Jinja2 templates: rendered once, for whom they vary on, and escaped as ever."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, TemplateSyntaxError, UndefinedError
from markupsafe import Markup

from tiercache import Cache, LoadCycle
from tiercache.testing import FakeClock
from tiercache_plugins.integrations.fragments import Fragments, cache_fragments

DOCUMENT = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}


class Shown:
    """Counts how often it is shown."""

    def __init__(self, text="x"):
        self.text = text
        self.times = 0

    def __str__(self):
        self.times += 1
        return self.text


def environment(source, templates=(), *, later=False, **options):
    made = Environment(
        loader=DictLoader(dict(templates)), autoescape=options.pop("autoescape", True), enable_async=later
    )
    return made, cache_fragments(made, source, **options)


def during(scenario, later=False, **options):
    """Run *scenario* with a way to render a source, by an environment that is async or not."""

    async def life():
        clock = FakeClock()
        async with Cache.open(DOCUMENT, clock=clock) as cache:
            made, fragments = environment(cache, later=later, **options)

            async def show(source, **values):
                template = made.from_string(source)
                if later:
                    return await template.render_async(**values)
                return await asyncio.to_thread(template.render, **values)

            await scenario(show, fragments, clock)

    asyncio.run(life())


both = pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])


@both
def test_a_fragment_is_rendered_once_until_it_ends_or_is_dropped(later):
    async def scenario(show, fragments, clock):
        shown = Shown()
        source = '<{% cache "box", 1, ttl="5m", tags=["shop"] %}[{{ shown }}]{% endcache %}>'
        for times in (1, 1):
            assert await show(source, shown=shown) == "<[x]>"
            assert shown.times == times
        clock.advance(299)
        await show(source, shown=shown)
        assert shown.times == 1
        clock.advance(2)
        await show(source, shown=shown)
        assert shown.times == 2
        await fragments.invalidate_fragment("box")
        await show(source, shown=shown)
        assert shown.times == 3
        await fragments._source.invalidate(tags=("shop",))
        await show(source, shown=shown)
        assert shown.times == 4
        assert (fragments.stats()["asked"], fragments.stats()["rendered"]) == (6, 4)

    during(scenario, later)


@both
def test_what_a_fragment_varies_on_is_told_by_its_exact_type(later):
    async def scenario(show, fragments, clock):
        source = '{% cache "box", who %}{{ who }}{% endcache %}'
        for _ in range(2):
            for who in (1, True, 1.0, "1", None, (1, 2), "a<b"):
                assert await show(source, who=who) == str(Markup.escape(who))

    during(scenario, later)


@both
def test_an_edit_of_a_fragment_is_another_key_and_an_edit_around_it_is_not(later):
    async def scenario(show, fragments, clock):
        shown = Shown()
        assert await show('{% cache "box" %}a{{ shown }}{% endcache %}', shown=shown) == "ax"
        assert await show('around {% cache "box" %}a{{ shown }}{% endcache %}', shown=shown) == "around ax"
        assert shown.times == 1
        assert await show('{% cache "box" %}b{{ shown }}{% endcache %}', shown=shown) == "bx"
        assert await show('{% cache "box" %}b{{ shown|upper }}{% endcache %}', shown=shown) == "bX"
        assert shown.times == 3

    during(scenario, later)


@both
def test_a_fragment_is_escaped_once_and_markup_stays_markup(later):
    async def scenario(show, fragments, clock):
        source = (
            '{% set kept %}{% cache "box", bad %}<b>{{ bad }}{{ good }}</b>{% endcache %}{% endset %}'
            "{{ kept }}"
        )
        for _ in range(2):
            assert await show(source, bad="<i>", good=Markup("<u>")) == "<b>&lt;i&gt;<u></b>"

    during(scenario, later)


@both
def test_what_was_rendered_without_escaping_is_never_shown_where_one_escapes(later):
    async def scenario(show, fragments, clock):
        body = '{% cache "box" %}{{ bad }}{% endcache %}'
        for _ in range(2):
            assert await show("{% autoescape false %}" + body + "{% endautoescape %}", bad="<i>") == "<i>"
            assert await show(body, bad="<i>") == "&lt;i&gt;"

    during(scenario, later)


@both
def test_one_tag_may_be_given_alone(later):
    async def scenario(show, fragments, clock):
        shown = Shown()
        source = '{% cache "box", tags="shop" %}{{ shown }}{% endcache %}'
        for tag, times in (("s", 1), ("shop", 2)):
            await show(source, shown=shown)
            await fragments._source.invalidate(tags=(tag,))
            assert await show(source, shown=shown) == "x"
            assert shown.times == times

    during(scenario, later)


@both
def test_an_error_in_a_fragment_is_raised_and_not_kept(later):
    async def scenario(show, fragments, clock):
        source = '{% cache "box" %}{{ missing.name }}{% endcache %}'
        with pytest.raises(UndefinedError):
            await show(source)
        assert await show(source, missing={"name": "n"}) == "n"

    during(scenario, later)


@both
def test_fragments_within_fragments_end_by_themselves(later):
    async def scenario(show, fragments, clock):
        inner, outer = Shown("i"), Shown("o")
        source = (
            '{% cache "out", ttl="1m" %}{{ outer }}{% for n in (1, 2) %}{% cache "in", n, ttl="1h" %}'
            "{{ inner }}{{ n }}{% endcache %}{% endfor %}{% endcache %}"
        )
        assert await show(source, inner=inner, outer=outer) == "oi1i2"
        clock.advance(61)
        assert await show(source, inner=inner, outer=outer) == "oi1i2"
        assert (outer.times, inner.times) == (2, 2)

    during(scenario, later)


def test_a_fragment_that_holds_itself_says_so():
    async def scenario(show, fragments, clock):
        source = (
            "{% macro deep(n) %}{% cache 'box' %}{% if n %}{{ deep(n - 1) }}{% endif %}{% endcache %}"
            "{% endmacro %}{{ deep(1) }}"
        )
        with pytest.raises(LoadCycle):
            await show(source)

    during(scenario, later=True)


def test_who_asks_meanwhile_waits_for_the_one_that_renders():
    async def scenario(show, fragments, clock):
        calls, go = [], asyncio.Event()

        async def slow():
            calls.append(1)
            await go.wait()
            return "x"

        source = '{% cache "box" %}{{ slow() }}{% endcache %}'
        asked = [asyncio.create_task(show(source, slow=slow)) for _ in range(5)]
        while fragments.stats()["asked"] < 5 or not calls:
            await asyncio.sleep(0)
        asked[0].cancel()
        await asyncio.wait([asked[0]])
        go.set()
        assert await asyncio.gather(*asked[1:]) == ["x"] * 4
        assert len(calls) == 1

    during(scenario, later=True)


def test_threads_that_ask_meanwhile_wait_for_the_one_that_renders():
    async def scenario(show, fragments, clock):
        calls, go = [], threading.Event()

        def slow():
            calls.append(1)
            assert go.wait(30)
            return "x"

        source = '{% cache "box" %}{{ slow() }}{% endcache %}'
        asked = [asyncio.create_task(show(source, slow=slow)) for _ in range(3)]
        while fragments.stats()["asked"] < 3 or not calls:
            await asyncio.sleep(0.001)
        go.set()
        assert await asyncio.gather(*asked) == ["x"] * 3
        assert len(calls) == 1

    during(scenario)


def test_on_the_thread_of_the_loop_a_sync_render_neither_waits_nor_fails():
    async def main():
        async with Cache.open(DOCUMENT) as cache:
            made, _ = environment(cache)
            shown = Shown()
            template = made.from_string('{% cache "box", ttl="5m", tags=["shop"] %}{{ shown }}{% endcache %}')
            assert template.render(shown=shown) == "x"
            async with asyncio.timeout(30):
                while not [key async for key in cache.keys()]:
                    await asyncio.sleep(0.001)
            assert template.render(shown=shown) == "x"
            assert shown.times == 1
            (key,) = [key async for key in cache.keys()]
            assert 200 < await cache.ttl(key) <= 300
            await cache.invalidate(tags=("shop",))
            template.render(shown=shown)
            assert shown.times == 2

    asyncio.run(main())


def test_without_a_loop_a_render_uses_the_cache_of_the_threads():
    with Cache.open_sync(DOCUMENT) as face:
        made, _ = environment(face)
        shown = Shown()
        template = made.from_string('{% cache "box" %}{{ shown }}{% endcache %}')
        assert [template.render(shown=shown) for _ in range(3)] == ["x"] * 3
        assert shown.times == 1


def test_equal_fragments_of_other_templates_and_versions_are_others():
    async def scenario(show, fragments, clock):
        given_name = {"digest": "d", "autoescape": True}
        keys = {
            fragments.key_for("box", 1, template="a", **given_name),
            fragments.key_for("box", 1, template="b", **given_name),
            fragments.key_for("box", (1,), template="a", **given_name),
            fragments.key_for("box", template="a", **given_name),
            fragments.key_for("box", 1, template="a", digest="e", autoescape=True),
            fragments.key_for("box", 1, template="a", digest="d", autoescape=False),
            Fragments(fragments._source, version=2).key_for("box", 1, template="a", **given_name),
        }
        assert len(keys) == 7

    during(scenario)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% cache %}{% endcache %}", "needs a name"),
        ('{% cache "a", time="5m" %}{% endcache %}', "time is no option"),
        ('{% cache "a", ttl="5m", 1 %}{% endcache %}', "before its options"),
        ('{% cache "a" %}', "endcache"),
    ],
)
def test_a_tag_that_makes_no_sense_is_refused_when_it_is_read(source, said):
    made, _ = environment(object())
    with pytest.raises(TemplateSyntaxError, match=said):
        made.from_string(source)


@both
@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{% cache 7 %}{% endcache %}", TypeError),
        ('{% cache "a", missing %}{% endcache %}', TypeError),
        ('{% cache "a", ttl="soon" %}{% endcache %}', ValueError),
        ('{% cache "a", tags=[1] %}{% endcache %}', TypeError),
    ],
)
def test_values_that_make_no_key_and_no_life_are_refused(source, error, later):
    async def scenario(show, fragments, clock):
        with pytest.raises(error):
            await show(source)

    during(scenario, later)


TEXTS = st.text(st.sampled_from("a<&\"'"), max_size=6)


@settings(deadline=None, database=None, max_examples=12)
@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=5))
def test_a_cached_page_is_the_page_without_the_cache(values):
    async def scenario(show, fragments, clock):
        plain = Environment(autoescape=True).from_string("<p>{{ value }}</p>{{ value|upper }}")
        source = '{% cache "box", value %}<p>{{ value }}</p>{{ value|upper }}{% endcache %}'
        for text, safe in values * 2:
            value = Markup(text) if safe else text
            assert await show(source, value=value) == plain.render(value=value)

    during(scenario, later=True)
