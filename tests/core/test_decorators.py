"""Functions that remember what they returned."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import inspect
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated import document, opened
from tiercache import Cache, CacheClosed, InvalidKey, LoadCancelled, Loaded
from tiercache.decorators.arguments import text
from tiercache.decorators.naming import fitting
from tiercache.decorators.template import Template
from tiercache.keys import check_key
from tiercache.testing import FakeClock

NEAR = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
FORMS = {
    "plain": NEAR,
    "lru": {"tier": {"memory": {"type": "memory", "policy": "lru"}}, "route": NEAR["route"]},
    "split": {"tier": {"memory": {"type": "memory", "max_entries": 1_000_000}}, "route": NEAR["route"]},
    "copies": {"tier": NEAR["tier"], "route": {"all": {"tiers": ["memory"], "ttl": "1h", "copy": True}}},
    "far": {"tier": {"shelf": {"type": "able"}}, "route": {"all": {"tiers": ["shelf"], "ttl": "1h"}}},
    "near and far": document(),
}


@pytest.fixture
def cache():
    # On the real clock: an injected one is read on every call, which the wrapper leaves to the cache.
    return opened(NEAR)


def run(cache, scenario):
    async def main():
        async with cache:
            return await scenario()

    return asyncio.run(main())


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: int
    right: int


@dataclass(frozen=True)
class Point:
    x: int
    y: object = 0


@dataclass
class User:
    name: str


class Model(pydantic.BaseModel):
    name: str


class Row(TypedDict):
    name: str


# What a decorated function does


@pytest.mark.parametrize("form", FORMS)
def test_a_function_is_called_once_for_the_same_arguments(form):
    cache = opened(FORMS[form])
    calls = []

    @cache.cached(key="f:{a}:{b}")
    async def f(a, b=2, *, c=3):
        calls.append((a, b, c))
        return [a, b]

    @cache.cached(key="g:{a}:{b}")
    def g(a, b=2):
        calls.append((a, b))
        return [a, b]

    async def scenario():
        for _ in range(3):
            assert await f(1) == await f(1, 2) == await f(b=2, a=1) == [1, 2]
            assert await f("x", None) == ["x", None]
            assert await asyncio.to_thread(g, 1) == await asyncio.to_thread(g, b=2, a=1) == [1, 2]
            assert g(1) == [1, 2]
            assert await asyncio.to_thread(g, 2) == [2, 2]
        assert calls.count((1, 2, 3)) == calls.count(("x", None, 3)) == 1
        assert calls.count((2, 2)) == 1
        if form != "far":
            assert calls.count((1, 2)) == 1
        assert f.cache_info().loads == 2

    run(cache, scenario)


def test_ttl_stale_tags_and_route_are_those_of_the_entry():
    clock = FakeClock()
    cache = opened(
        {
            "tier": {"memory": {"type": "memory"}, "other": {"type": "memory"}},
            "route": {"a": {"tiers": ["memory"], "default": True}, "b": {"tiers": ["other"]}},
        },
        clock=clock,
    )

    @cache.cached(ttl="10s", route="b", key="k:{a}", tags=["tag:{a}", "all"])
    async def f(a):
        return a

    async def scenario():
        await f(1)
        assert await cache.ttl("k:1", route="b") == pytest.approx(10)
        assert await cache.get("k:1", route="a") is None
        assert set(cache._house.nears["other"].tags("k:1")) == {"tag:1", "all"}
        clock.advance(11)
        await f(1)
        assert f.cache_info().loads == 2

    run(cache, scenario)


def test_none_and_false_are_results_like_any_other(cache):
    for result in (None, False, 0, ""):

        @cache.cached(key=f"{result!r}" + "{a}")
        async def f(a, result=result):
            return result

        async def scenario(f=f):
            first, second = await f(1), await f(1)
            return first, second, f.cache_info().loads

        assert run(cache, scenario) == (result, result, 1)


def test_an_error_is_raised_and_not_kept(cache):
    @cache.cached()
    async def fails(a):
        raise KeyError(a)

    @cache.cached()
    def fails_too(a):
        raise KeyError(a)

    async def scenario():
        for _ in range(2):
            with pytest.raises(KeyError):
                await fails(1)
            with pytest.raises(KeyError):
                fails_too(1)
            with pytest.raises(KeyError):
                await asyncio.to_thread(fails_too, 1)
        assert fails.cache_info().load_errors == 2
        assert fails_too.cache_info().load_errors == 4

    run(cache, scenario)


def test_many_callers_of_an_async_function_share_one_call(cache):
    @cache.cached()
    async def slow(a):
        await asyncio.sleep(0.01)
        return object()

    async def scenario():
        results = await asyncio.gather(*(slow(1) for _ in range(100)))
        assert len({id(result) for result in results}) == 1
        assert slow.cache_info().loads == 1

    run(cache, scenario)


def test_wrong_arguments_are_the_functions_own_error(cache):
    @cache.cached()
    async def f(a, /, b, *, c):
        return a

    async def scenario():
        for wrong in (lambda: f(), lambda: f(1, 2), lambda: f(a=1, b=2, c=3), lambda: f(1, 2, c=3, d=4)):
            with pytest.raises(TypeError, match="argument"):
                await wrong()
        assert await f(1, b=2, c=3) == 1

    run(cache, scenario)


def test_the_function_looks_as_before(cache):
    @cache.cached()
    async def f(a: int, /, b: str = "x", *args: int, c: float, **rest: bytes) -> None:
        """Does nothing."""

    assert f.__name__ == "f"
    assert f.__doc__ == "Does nothing."
    assert f.__module__ == __name__
    assert inspect.iscoroutinefunction(f)
    assert str(inspect.signature(f)) == str(inspect.signature(f.uncached))
    assert f.__wrapped__ is f.uncached


def test_it_is_decorated_before_the_cache_is_open_and_refuses_while_it_is_not(cache):
    @cache.cached()
    async def f(a):
        return a

    @cache.cached()
    def g(a):
        return a

    with pytest.raises(CacheClosed):
        asyncio.run(f(1))
    with pytest.raises(CacheClosed):
        g(1)
    assert run(cache, lambda: f(1)) == 1
    with pytest.raises(CacheClosed):
        asyncio.run(f(1))


def test_invalidate_refresh_and_uncached_take_the_functions_arguments(cache):
    state = {"value": 1}

    @cache.cached(key="f:{a}:{b}")
    async def f(a, *, b=0):
        return state["value"]

    @cache.cached(key="g:{a}")
    def g(a):
        return state["value"]

    async def scenario():
        assert await f(1) == 1
        assert await asyncio.to_thread(g, 1) == 1
        state["value"] = 2
        assert await f(1) == 1
        assert await f.uncached(1) == g.uncached(1) == 2
        assert await f.refresh(a=1) == await f(1) == 2
        assert await asyncio.to_thread(g.refresh, 1) == g(1) == 2
        state["value"] = 3
        assert await f.invalidate(1, b=0) is True
        assert await f.invalidate(1) is False
        assert await asyncio.to_thread(g.invalidate, 1) is True
        assert await f(1) == g(1) == 3
        assert f.key_for(1) == "f:1:0"
        assert await cache.get("f:1:0") == 3

    run(cache, scenario)


def test_a_loaded_says_how_its_value_is_stored(cache):
    @cache.cached()
    async def f(a):
        return Loaded(a, store=False)

    @cache.cached()
    def g(a):
        return Loaded(a, ttl=5)

    async def scenario():
        assert await f(1) == await f(1) == 1
        assert f.cache_info().loads == 2
        assert g(1) == g(1) == 1
        assert await cache.ttl(g.key_for(1)) == pytest.approx(5, abs=1)

    run(cache, scenario)


# Keys


def test_the_key_tells_module_name_version_and_arguments(cache):
    @cache.cached()
    def f(a, b="x"):
        return a

    @cache.cached(version=2)
    def g(a):
        return a

    name = f"{__name__}.test_the_key_tells_module_name_version_and_arguments.<locals>"
    assert f.key_for(7) == f"{name}.f@1(7,'x')"
    assert g.key_for(7) == f"{name}.g@2(7)"


def test_a_version_is_part_of_a_key_that_was_given_too(cache):
    @cache.cached(key="user:{a}", version=3)
    def f(a):
        return a

    assert f.key_for(7) == "user:7@3"
    with pytest.raises(ValueError, match="version"):
        cache.cached(version="a\nb")(lambda: 1)


ALIKE = [1, True, 1.0, "1", b"1", Decimal(1), Level.LOW, (1,), [1], {1}, frozenset({1})]


@pytest.mark.parametrize("one", ALIKE)
def test_equal_arguments_of_different_types_have_different_keys(cache, one):
    @cache.cached()
    async def f(a):
        return type(a)

    async def scenario():
        for other in [*ALIKE, one, *ALIKE]:
            assert await f(other) is type(other)
        assert f.cache_info().loads == len(ALIKE)

    run(cache, scenario)


ZONES = [dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Paris")]
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.uuids(),
    st.decimals(allow_nan=False), st.fractions(), st.dates(), st.times(), st.timedeltas(),
    st.datetimes(timezones=st.none() | st.sampled_from(ZONES)),
    st.sampled_from(Color), st.sampled_from(Level), st.just(PurePosixPath("a/b")),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
        st.builds(Point, st.integers(), inner), st.builds(Pair, st.integers(), st.integers()),
    ),
    max_leaves=6,
)  # fmt: skip


def form(value):
    """A value as nested tuples that are equal only where the values are alike in type and content."""
    kind = type(value)
    if dataclasses.is_dataclass(value):
        return kind, tuple(form(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        return kind, frozenset((form(key), form(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return kind, tuple(form(item) for item in value)
    if isinstance(value, float):
        return kind, value.hex() if value == value else "nan"
    if isinstance(value, Decimal):
        return kind, value.as_tuple()
    if isinstance(value, dt.datetime):
        return kind, value.replace(tzinfo=None), value.fold, str(value.tzinfo)
    if isinstance(value, dt.time):
        return kind, value, value.fold
    return kind, value


@settings(max_examples=300)
@given(VALUES, VALUES)
def test_arguments_share_a_text_exactly_when_they_are_alike(one, other):
    assert (text(one) == text(other)) == (form(one) == form(other))


CALLS = st.tuples(
    PLAIN, PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(st.sampled_from("xyz"), PLAIN)
)  # fmt: skip


@settings(max_examples=300)
@given(CALLS, CALLS)
def test_no_two_different_calls_share_a_key(one, other):
    for call in (one, other):
        check_key(key_of(call))
        assert key_of(call) == key_of(call)
    assert (key_of(one) == key_of(other)) == (form(one) == form(other))


def key_of(call):
    a, b, more, named = call
    return SPREAD.key_for(a, *more, b=b, **dict(reversed(named.items())))


def spread(a, *more, b, **named):
    return None


SPREAD = opened(NEAR, clock=FakeClock()).cached()(spread)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), PLAIN, min_size=3), st.permutations(["a", "b", "c"]))
def test_the_order_of_keywords_means_nothing(values, order):
    @ORDERED.cached()
    def f(a, b, c=None):
        return a

    by_position = f.key_for(values["a"], values["b"], values["c"])
    assert f.key_for(**{name: values[name] for name in order}) == by_position
    assert f.key_for(values["a"], c=values["c"], b=values["b"]) == by_position


ORDERED = opened(NEAR, clock=FakeClock())


def test_the_hour_that_comes_twice_is_two_arguments():
    once = dt.datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001
    assert text(once) != text(once.replace(fold=1))
    assert text(once.time()) != text(once.time().replace(fold=1))


def test_defaults_are_part_of_the_call(cache):
    @cache.cached()
    def f(a, b=2, *, c=None):
        return a

    assert f.key_for(1) == f.key_for(1, 2) == f.key_for(1, b=2, c=None) == f.key_for(a=1)
    assert f.key_for(1) != f.key_for(1, 3)


@pytest.mark.parametrize("value", [object(), lambda: 1, bytearray(b"x"), iter([]), threading.Lock(), User])
def test_what_tells_no_key_is_refused_with_what_would_be_taken(cache, value):
    @cache.cached()
    def f(a, session):
        return a

    with pytest.raises(TypeError, match=r"'session' holds a .*accepted are .*ignore=\(\"session\",\)"):
        f.key_for(1, value)
    with pytest.raises(TypeError, match="session"):
        f.key_for(1, [value])


def test_ignored_arguments_reach_the_function_and_not_the_key(cache):
    @cache.cached(ignore=("session",))
    async def f(a, session=None):
        return session

    first = object()

    async def scenario():
        assert await f(1, first) is await f(1, session=object()) is first

    run(cache, scenario)
    with pytest.raises(ValueError, match=r"'sesion', which is no parameter; there are: a"):
        cache.cached(ignore=("sesion",))(f.uncached)
    with pytest.raises(TypeError, match=r"\('session',\)"):
        cache.cached(ignore="session")
    with pytest.raises(ValueError, match="nothing to ignore"):
        cache.cached(key="{a}", ignore=("session",))


@given(st.text(max_size=3000))
def test_long_keys_keep_their_beginning_and_are_told_apart_by_a_hash(value):
    @ORDERED.cached()
    def f(a):
        return a

    @ORDERED.cached(key="prefix:{a}")
    def g(a):
        return a

    for function, beginning in ((f, f"{__name__}."), (g, "prefix:")):
        key = function.key_for(value)
        check_key(key)
        assert key.startswith(beginning)
        assert key != function.key_for(value + "x")


def test_a_short_key_is_kept_as_it_is():
    assert fitting("user:7") == "user:7"
    assert len(fitting("x" * 5000).encode()) <= 1024
    assert fitting("a\nb") != fitting("a?b") != fitting("a b")


def test_more_calls_than_are_remembered_are_still_told_apart(monkeypatch):
    monkeypatch.setattr("tiercache.decorators.function.REMEMBERED", 10)
    cache = opened(NEAR, clock=FakeClock())

    @cache.cached()
    async def f(a):
        return a

    async def scenario():
        for _ in range(2):
            for at in range(100):
                assert await f(at) == at
        assert f.cache_info().loads == 100
        assert f.cache_info().remembered <= 10

    run(cache, scenario)


# Templates


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ("user:{a}", {"a": 7}, "user:7"),
        ("user:{a}", {"a": "a:b%"}, "user:a:b%"),
        ("{a}:{b}", {"a": "x:y", "b": "z%"}, "x%3Ay:z%25"),
        ("{a}/{b!r}", {"a": 1, "b": "q"}, "1/'q'"),
        ("{a.x}-{a.y}", {"a": Point(3, 4)}, "3-4"),
        ("{a[0]}", {"a": [5]}, "5"),
        ("{a:05d}", {"a": 42}, "00042"),
        ("{a:%Y-%m}", {"a": dt.date(2024, 5, 6)}, "2024-05"),
        ("{{{a}}}", {"a": 1}, "{1}"),
        ("{a}", {"a": uuid.UUID(int=1)}, str(uuid.UUID(int=1))),
        ("constant", {"a": 1}, "constant"),
        ("{a}", {"a": None}, "None"),
    ],
)
def test_a_template_is_filled_with_the_arguments(template, arguments, expected):
    assert Template(template, dict.fromkeys(arguments, inspect.Parameter.empty))(arguments) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("user:{id}", r"'id', which is no parameter; there are: a, b"),
        ("user:{}", "without a name"),
        ("user:{0}", "'0', which is no parameter"),
        ("user:{a", "can't be read"),
        ("user:}", "can't be read"),
        ("{a}{b}", "nothing between them"),
        ("{a:>>5q}", "can't take"),
        ("{a:d}", "which a can't take"),
        ("{b:{a}}", "field within a field"),
        ("{b!x}", "conversion"),
    ],
)
def test_a_template_that_can_never_work_is_refused_when_decorating(cache, template, message):
    def f(a: str, b=1):
        return a

    with pytest.raises(ValueError, match=message):
        cache.cached(key=template)(f)
    with pytest.raises(ValueError, match=message):
        cache.cached(tags=[template])(f)


@given(st.tuples(st.text(), st.text(), st.integers()), st.tuples(st.text(), st.text(), st.integers()))
def test_templates_with_several_fields_keep_calls_apart(one, other):
    template = Template("{a}:{b}-{c}", dict.fromkeys("abc", inspect.Parameter.empty))
    filled = [template(dict(zip("abc", call, strict=True))) for call in (one, other)]
    assert (filled[0] == filled[1]) == (one == other)


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, b"x", Point(1), User("x")])
def test_a_template_takes_no_value_without_a_text_of_its_own(cache, value):
    @cache.cached(key="k:{a}")
    def f(a):
        return a

    with pytest.raises(TypeError, match="has no text for a"):
        f.key_for(value)


def test_a_key_may_be_a_function_of_the_arguments(cache):
    tenant = {"now": "x"}

    @cache.cached(
        key=lambda a, *more, b=1: f"{tenant['now']}:{a}:{more}:{b}", tags=lambda a, *more, b=1: [f"t{a}"]
    )
    async def f(a, *more, b=1):
        return tenant["now"]

    async def scenario():
        assert f.key_for(1, 2, b=3) == "x:1:(2,):3"
        assert await f(1) == "x"
        tenant["now"] = "y"
        assert await f(1) == "y"
        assert set(cache._house.nears["memory"].tags(f.key_for(1))) == {"t1"}

    run(cache, scenario)

    @cache.cached(key=lambda a: a)
    def g(a):
        return a

    with pytest.raises(InvalidKey, match="returned int; str is accepted"):
        g.key_for(1)
    with pytest.raises(InvalidKey):
        g.key_for("")


# What can't be decorated


def test_generators_are_refused_when_decorating(cache):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="is a generator"):
            cache.cached()(function)
        with pytest.raises(TypeError, match="is a generator"):
            cache.cached()(staticmethod(function))


@pytest.mark.parametrize("thing", [print, 5, "f", User, object()])
def test_what_is_no_function_is_refused_when_decorating(cache, thing):
    with pytest.raises(TypeError, match="cached takes a function"):
        cache.cached()(thing)


def test_keys_that_other_functions_would_share_are_refused_when_decorating(cache):
    with pytest.raises(ValueError, match="lambdas of one module share their name"):
        cache.cached()(lambda a: a)
    factor = 3

    def nested(a):
        return a * factor

    with pytest.raises(ValueError, match="uses factor of the function around it"):
        cache.cached()(nested)
    assert cache.cached(key="nested:{a}")(nested).key_for(1) == "nested:1"


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": "soon"}, {"stale": -1}])
def test_a_life_of_nothing_is_refused_when_decorating(cache, options):
    with pytest.raises(ValueError, match="duration"):
        cache.cached(**options)


def test_one_tag_is_written_in_brackets(cache):
    with pytest.raises(TypeError, match="collection of str"):
        cache.cached(tags="tag")(key_of)


# Methods

METHODS = opened(NEAR)


class Users:
    def __init__(self, tenant):
        self.tenant = tenant
        self.calls = []

    @METHODS.cached(key="{self.tenant}:{user_id}")
    async def find(self, user_id):
        self.calls.append(user_id)
        return f"{self.tenant}/{user_id}"

    @METHODS.cached(ignore=("self",))
    def count(self, word):
        self.calls.append(word)
        return len(word)

    @METHODS.cached()
    @classmethod
    def made(cls, word):
        return cls.__name__ + word

    @classmethod
    @METHODS.cached()
    async def made_too(cls, word):
        return word

    @METHODS.cached()
    @staticmethod
    async def outer(word):
        return word

    @staticmethod
    @METHODS.cached()
    async def inner(word):
        return word


def test_methods_of_objects_are_told_apart_by_what_the_key_names():
    async def scenario():
        one, other = Users("one"), Users("other")
        for _ in range(2):
            assert await one.find(1) == await Users.find(one, 1) == "one/1"
            assert await other.find(user_id=1) == "other/1"
            assert await asyncio.to_thread(one.count, "abc") == other.count("abc") == 3
        assert one.calls == [1, "abc"]
        assert other.calls == [1]
        assert one.find.key_for(1) == Users.find.key_for(one, 1) == "one:1"
        assert await one.find.invalidate(1)
        assert await one.find.refresh(1) == "one/1"
        assert await one.find.uncached(5) == "one/5"
        assert one.count.cache_info().loads == 1
        assert one.find == one.find
        assert one.find != other.find
        assert len({one.find, one.find, other.find}) == 2
        assert str(inspect.signature(one.find)) == "(user_id)"
        assert asyncio.iscoroutinefunction(one.find)
        assert not asyncio.iscoroutinefunction(one.count)
        assert one.find.__name__ == "find"
        assert "find" in repr(one.find)

    run(METHODS, scenario)


def test_class_and_static_methods_leave_their_class_out_of_the_key():
    async def scenario():
        users = Users("x")
        for holder in (Users, users):
            assert await asyncio.to_thread(holder.made, "w") == "Usersw"
            assert await holder.made_too("w") == await holder.outer("w") == await holder.inner("w") == "w"
        assert Users.made.key_for("w").endswith("Users.made@1('w')")
        assert Users.outer.key_for("w").endswith("Users.outer@1('w')")
        assert await Users.outer.invalidate("w")
        assert await users.inner.invalidate("w")
        assert await Users.outer("w") == "w"

    run(METHODS, scenario)


def test_a_self_that_no_key_can_tell_is_refused_when_decorating(cache):
    with pytest.raises(ValueError, match=r'ignore=\("self",\) where all objects return the same'):

        class Wrong:
            @cache.cached()
            def find(self, user_id):
                return user_id


# What far hits come back as


@pytest.mark.parametrize(
    ("shape", "stored", "expected"),
    [
        (User, {"name": "a"}, User("a")),
        (Model, {"name": "a"}, Model(name="a")),
        (Row, {"name": "a"}, {"name": "a"}),
        (list[User], [{"name": "a"}], [User("a")]),
        (User | None, {"name": "a"}, User("a")),
        (User | None, None, None),
        (dict[str, Model], {"k": {"name": "a"}}, {"k": Model(name="a")}),
        (list[int], [1], [1]),
        (int, 5, 5),
    ],
)
def test_far_hits_come_back_as_the_annotation_says(shape, stored, expected):
    cache = opened(document())

    async def f(a):
        raise AssertionError("it is cached")

    f.__annotations__["return"] = shape
    f = cache.cached(key="k:{a}")(f)

    async def scenario():
        await cache.set("k:1", stored)
        for at in range(6):
            value = await f(1)
            assert value == expected
            assert type(value) is type(expected)
            if at == 3:
                cache._empty()
        assert f.cache_info().loads == 0

    run(cache, scenario)


class Later:
    @METHODS.cached(ignore=("self",))
    async def find(self, name) -> Unknown:  # noqa: F821
        return Unknown2(name)

    @METHODS.cached(ignore=("self",))
    async def find_later(self, name) -> Unknown2:
        return Unknown2(name)


@dataclass
class Unknown2:
    name: str


def test_annotations_that_are_known_later_or_never_do_no_harm():
    async def scenario():
        for _ in range(2):
            assert await Later().find("a") == Unknown2("a")
            assert await Later().find_later("a") == Unknown2("a")
            await METHODS.set(Later().find_later.key_for("b"), {"name": "b"})
            assert await Later().find_later("b") == Unknown2("b")

    run(METHODS, scenario)


# Sync functions where an event loop runs


def test_a_sync_function_on_the_loop_never_waits_and_stores_in_the_background():
    cache = opened(document(), clock=FakeClock())

    @cache.cached(key="k:{a}")
    def f(a):
        return [a]

    async def scenario():
        shelf = cache._house.fars["shelf"].guard.tier
        shelf.gate.clear()
        assert f(1) == [1]
        assert f(1) == [1]
        assert f.cache_info().loads == 1
        shelf.gate.set()
        deadline = asyncio.get_running_loop().time() + 5
        while not shelf.rows and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        cache._empty()
        assert await cache.get("k:1") == [1]
        assert cache.stats().routes["all"].loads == 1

    run(cache, scenario)


def test_a_sync_function_on_the_loop_of_somebody_else_does_the_same():
    with Cache.open_sync(NEAR) as own:
        calls = []

        @own.cached(key="k:{a}")
        def f(a):
            calls.append(a)
            return [a]

        async def scenario():
            assert f(1) == [1]
            deadline = asyncio.get_running_loop().time() + 5
            while own.peek("k:1") is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.001)
            assert f(1) == [1]
            assert calls == [1]

        asyncio.run(scenario())
        assert f(1) == [1]


def test_what_is_dropped_while_a_sync_function_loads_beside_a_loop_stays_dropped():
    with Cache.open_sync(NEAR) as own:

        @own.cached(key="k:{a}")
        def f(a):
            threading.Thread(target=own.delete, args=("k:1",)).start()
            for _ in range(1000):
                if not own._cache._house.default.flights.loads:
                    return "old"
                threading.Event().wait(0.005)
            raise AssertionError("the delete reached no flight")

        async def scenario():
            assert f(1) == "old"

        asyncio.run(scenario())
        assert own.set("barrier", 1) is None
        assert own.get("k:1", "miss") == "miss"


def test_who_wants_what_a_sync_function_loads_beside_a_loop_joins_it():
    with Cache.open_sync(NEAR) as own, ThreadPoolExecutor(1) as pool:
        joined = []

        @own.cached(key="k:{a}")
        def f(a):
            joined.append(pool.submit(own.get_or_set, "k:1", lambda: "another"))
            load = own._cache._house.default.flights.loads["k:1"]
            for _ in range(1000):
                if load._waiters:
                    return "one"
                threading.Event().wait(0.005)
            raise AssertionError("nobody joined")

        async def scenario():
            assert f(1) == "one"

        asyncio.run(scenario())
        assert joined[0].result(10) == "one"


def test_a_stale_copy_stands_in_for_a_sync_function_that_fails_on_the_loop():
    cache = opened(NEAR, clock=(clock := FakeClock()))
    state = {"fails": False}

    @cache.cached(key="k:{a}", ttl=10, stale="1h")
    def f(a):
        if state["fails"]:
            raise OSError("away")
        return "old"

    async def scenario():
        assert f(1) == "old"
        clock.advance(20)
        state["fails"] = True
        assert f(1) == "old"
        with pytest.raises(OSError, match="away"):
            f(2)

    run(cache, scenario)


def test_a_cache_with_a_loop_of_its_own_takes_sync_functions_alone():
    with Cache.open_sync(NEAR) as own:

        async def f(a):
            return a

        with pytest.raises(TypeError, match="a loop of its own"):
            own.cached()(f)

        @own.cached()
        def g(a):
            return a

        assert g(1) == g(1) == 1
        assert g.cache_info().loads == 1
        assert g.invalidate(1)
        assert g.refresh(1) == 1


def test_two_hundred_threads_call_a_cold_function_once():
    with Cache.open_sync(NEAR) as own:

        @own.cached()
        def slow(a):
            threading.Event().wait(0.1)
            return object()

        with ThreadPoolExecutor(200) as pool:
            results = list(pool.map(slow, [1] * 200))
        assert len({id(result) for result in results}) == 1
        assert slow.cache_info().loads == 1


def test_interrupting_a_sync_function_beside_a_loop_tells_those_who_joined():
    with Cache.open_sync(NEAR) as own, ThreadPoolExecutor(1) as pool:
        joined = []

        @own.cached(key="k:{a}")
        def f(a):
            joined.append(pool.submit(own.get_or_set, "k:1", lambda: "another"))
            load = own._cache._house.default.flights.loads["k:1"]
            while not load._waiters:
                threading.Event().wait(0.005)
            raise SystemExit

        async def scenario():
            with pytest.raises(SystemExit):
                f(1)

        asyncio.run(scenario())
        assert type(joined[0].exception(10)) is LoadCancelled


def test_the_route_that_was_named_is_the_one_that_is_read():
    cache = opened(
        {
            "tier": {"memory": {"type": "memory"}, "other": {"type": "memory"}},
            "route": {"a": {"tiers": ["memory"], "default": True}, "b": {"tiers": ["other"]}},
        },
        clock=FakeClock(),
    )

    @cache.cached(route="b", key="k:{a}")
    async def f(a):
        return "called"

    async def scenario():
        assert await f(1) == "called"
        cache._house.nears["memory"].put(cache._house.nears["other"].get("k:1"))
        await f.refresh(1)
        assert await f(1) == "called"
        assert cache.stats().routes["b"].loads == 2
        assert cache.stats().routes["a"].loads == 0

    run(cache, scenario)
