"""The cache before a FastAPI application: what is cached unasked, what endpoints can say, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import subprocess
import sys
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Request, Response, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery, HTTPBearer
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from http_cache.talking import ask, cache_of
from tiercache.testing import FakeClock
from tiercache_plugins.integrations import setup_fastapi_caching
from tiercache_plugins.integrations.http import cached_response, invalidates, uncached_response

BEARER = HTTPBearer(auto_error=False)
KEY = APIKeyHeader(name="X-Key", auto_error=False)
SESSION = APIKeyCookie(name="session", auto_error=False)


def scenario(test):
    @functools.wraps(test)
    def run(*args, **named):
        asyncio.run(asyncio.wait_for(test(*args, **named), 30))

    return run


@contextlib.asynccontextmanager
async def serving(app, **options):
    async with cache_of() as cache:
        yield setup_fastapi_caching(app, cache, **options)


def counting(app, path="/n", **route):
    """Add an endpoint that counts its calls."""
    count = itertools.count(1)

    @app.get(path, **route)
    async def number():
        return next(count)


def user(credentials: Annotated[Any, Depends(BEARER)]):
    return credentials.credentials if credentials else "nobody"


async def texts(app, target, *headers):
    return [(await ask(app, target, one)).text for one in headers]


@scenario
async def test_endpoints_are_cached_unasked():
    app = FastAPI()
    async with serving(app) as http:
        calls = itertools.count(1)

        @app.get("/api/users/{user_id}")
        async def get_user(user_id: int):
            return {"id": user_id, "call": next(calls)}

        answers = [await ask(app, f"/api/users/{number}") for number in (1, 1, 2)]
        assert [answer.text for answer in answers] == ['{"id":1,"call":1}'] * 2 + ['{"id":2,"call":2}']
        assert [answer.hit for answer in answers] == [False, True, False]
        stats = http.stats()
        assert (stats["hits"], stats["misses"], stats["stored"]) == (1, 2, 2)
        assert "/api/users/{user_id}" in stats["routes"]
        assert stats["cacheable_routes"] == len(stats["routes"])


GUARDS = {
    "Depends of a scheme": {"dependencies": [Depends(KEY)]},
    "Security": {"dependencies": [Security(user)]},
    "Security with scopes": {"dependencies": [Security(lambda: None, scopes=["read"])]},
    "a scheme below": {"dependencies": [Depends(user)]},
}


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
@scenario
async def test_guarded_endpoints_are_never_cached_unasked(guard):
    app = FastAPI()
    async with serving(app) as http:
        count = itertools.count(1)

        @app.get("/n", **guard)
        async def number(response: Response):
            response.headers["Cache-Control"] = "public, max-age=60"
            return next(count)

        assert await texts(app, "/n", {}, {}, {"X-Key": "a"}) == ["1", "2", "3"]
        assert "/n" not in http.stats()["routes"]


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
@scenario
async def test_an_application_with_a_guarded_endpoint_that_asks_to_be_cached_does_not_start(guard):
    app = FastAPI()

    @app.get("/mine", **guard)
    @cached_response(ttl=60)
    async def mine():
        return 1

    async with serving(app):
        with pytest.raises(ValueError, match=r"/mine .*whose"):
            await ask(app, "/other")
        sent = []

        async def receive():
            return {"type": "lifespan.startup"}

        async def send(message):
            sent.append(message)

        with pytest.raises(ValueError, match="/mine"):
            await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
        assert sent[0]["type"] == "lifespan.startup.failed"
        assert "/mine" in sent[0]["message"]


def guards_at(place):
    app, router = FastAPI(), APIRouter()
    if place == "annotation":

        @app.get("/mine")
        @cached_response()
        async def annotated(who: Annotated[str, Security(user)]):
            return who

    elif place == "default":

        @app.get("/mine")
        @cached_response()
        async def default(who: str = Security(user)):  # noqa: FAST002 - this form is tested
            return who

    elif place == "public":

        @app.get("/mine", dependencies=[Depends(KEY)])
        @cached_response(public=True)
        async def public():
            return 1

    elif place == "application":
        app = FastAPI(dependencies=[Depends(KEY)])

        @app.get("/mine")
        @cached_response()
        async def whole():
            return 1

    else:

        @router.get("/mine")
        @cached_response()
        async def routed():
            return 1

        app.include_router(router, dependencies=[Depends(KEY)])
    return app


@pytest.mark.parametrize("place", ["annotation", "default", "public", "application", "router"])
@scenario
async def test_a_guard_is_seen_wherever_it_stands(place):
    app = guards_at(place)
    async with serving(app) as http:
        with pytest.raises(ValueError, match="/mine"):
            http.check()


@pytest.mark.parametrize(
    ("scheme", "whose", "fine"),
    [
        (BEARER, "authorization", True), (BEARER, "Authorization", True), (BEARER, "x-key", False),
        (KEY, "x-key", True), (KEY, "authorization", False), (KEY, ("authorization", "X-Key"), True),
        (SESSION, "cookie:session", True), (SESSION, "cookie", True), (SESSION, "cookie:theme", False),
        (APIKeyQuery(name="key"), "authorization", True),
    ],
)  # fmt: skip
@scenario
async def test_whose_must_name_what_the_guard_reads(scheme, whose, fine):
    app = FastAPI()

    @app.get("/mine", dependencies=[Depends(scheme)])
    @cached_response(whose=whose)
    async def mine():
        return 1

    async with serving(app) as http:
        if fine:
            http.check()
        else:
            with pytest.raises(ValueError, match="must name"):
                http.check()


@scenario
async def test_each_user_has_responses_of_his_own():
    app = FastAPI()
    async with serving(app) as http:
        count = itertools.count(1)

        @app.get("/mine")
        @cached_response(ttl=60, whose="authorization")
        async def mine(who: Annotated[str, Depends(user)]):
            return f"{who}{next(count)}"

        ada, bob = {"Authorization": "Bearer ada"}, {"Authorization": "Bearer bob"}
        assert await texts(app, "/mine", ada, bob, ada, bob) == ['"ada1"', '"bob2"', '"ada1"', '"bob2"']
        # Nobody's is stored for nobody.
        assert await texts(app, "/mine", {}, {}) == ['"nobody3"', '"nobody4"']
        answer = await ask(app, "/mine", ada)
        assert (answer.hit, answer["cache-control"], answer["vary"]) == (True, "private", "authorization")
        assert http.counts.hits == 3
        # A change by one drops what all see.
        app.put("/mine")(lambda: None)
        assert (await ask(app, "/mine", bob, method="PUT")).status == 200
        assert await texts(app, "/mine", ada, bob) == ['"ada5"', '"bob6"']


@scenario
async def test_fields_and_cookies_that_an_endpoint_declares_are_part_of_the_key():
    app = FastAPI()
    async with serving(app):

        def theme(theme: Annotated[str, Cookie()] = "light"):
            return theme

        @app.get("/page")
        @cached_response(public=True)
        async def page(
            look: str = Depends(theme),  # noqa: FAST002 - an annotation could not name what is local
            x_lang: Annotated[str, Header()] = "en",
            level: Annotated[str, Header(alias="X-Level")] = "0",
        ):
            return f"{x_lang}{level}{look}"

        asked = [{}, {"X-Lang": "de"}, {"X-Level": "1"}, {"Cookie": "theme=dark; a=1"}, {"Cookie": "a=2"}]
        shown = ['"en0light"', '"de0light"', '"en1light"', '"en0dark"', '"en0light"']
        assert await texts(app, "/page", *asked) == shown
        assert await texts(app, "/page", *asked) == shown
        assert (await ask(app, "/page", {"Cookie": "a=3; theme=dark"})).hit


@scenario
async def test_what_endpoints_say_holds():
    app = FastAPI()
    clock = FakeClock()
    async with cache_of(clock=clock) as cache:
        setup_fastapi_caching(app, cache, clock=clock)
        count = itertools.count(1)

        @app.get("/long")
        @cached_response(ttl="1h")
        async def long():
            return next(count)

        @app.get("/never")
        @uncached_response
        async def never(response: Response):
            response.headers["Cache-Control"] = "max-age=60"
            return next(count)

        @app.get("/own")
        @cached_response(ttl="1h")
        async def own(response: Response):
            response.headers["Cache-Control"] = "max-age=10"
            return next(count)

        assert await texts(app, "/long", {}, {}) == ["1", "1"]
        assert await texts(app, "/never", {}, {}) == ["2", "3"]
        assert await texts(app, "/own", {}, {}) == ["4", "4"]
        clock.advance(301)
        assert await texts(app, "/long", {}) == ["1"]
        assert await texts(app, "/own", {}) == ["5"]


@scenario
async def test_tags_are_dropped_by_changes_and_by_hand():
    app = FastAPI()
    async with serving(app) as http:
        count = itertools.count(1)

        @app.get("/users/{user_id}")
        @cached_response(tags=["user:{user_id}", "users"])
        async def one(user_id: int):
            return next(count)

        @app.get("/list/{user_id}")
        @cached_response(tags=["user:{user_id}"])
        async def listed(user_id: int, page: int = 0):
            return next(count)

        @app.post("/rename/{user_id}")
        @invalidates("user:{user_id}")
        async def rename(user_id: int, response: Response, fail: bool = False):
            response.status_code = 409 if fail else 204

        targets = ["/users/1", "/users/2", "/list/1?page=1", "/list/1?page=2"]

        async def hits():
            return [(await ask(app, target)).hit for target in targets]

        assert await hits() == [False] * 4
        await ask(app, "/rename/1?fail=1", method="POST")
        assert await hits() == [True] * 4
        await ask(app, "/rename/1", method="POST")
        assert await hits() == [False, True, False, False]
        await http.purge(tags=["users"])
        assert await hits() == [False, False, True, True]
        await http.purge(prefix="/list")
        assert await hits() == [True, True, False, False]


@scenario
async def test_a_tag_that_names_no_parameter_of_the_path_keeps_the_response_out(caplog):
    app = FastAPI()
    async with serving(app) as http:
        count = itertools.count(1)

        @app.get("/a")
        @cached_response(tags=["{nothing}"])
        async def a():
            return next(count)

        assert await texts(app, "/a", {}, {}) == ["1", "2"]
        assert http.counts.troubles == 2


@scenario
async def test_routers_and_mounted_applications_are_known():
    app, router, inner = FastAPI(), APIRouter(), FastAPI()
    counting(router, "/deep")
    counting(router, "/guarded", dependencies=[Depends(KEY)])
    counting(inner, "/leaf")
    counting(inner, "/guarded", dependencies=[Depends(KEY)])
    app.include_router(router, prefix="/v1")
    app.mount("/inner", inner)
    async with serving(app):
        assert await texts(app, "/v1/deep", {}, {}) == ["1", "1"]
        assert await texts(app, "/v1/guarded", {}, {}) == ["1", "2"]
        assert await texts(app, "/inner/leaf", {}, {}) == ["1", "1"]
        assert await texts(app, "/inner/guarded", {}, {}) == ["1", "2"]


@scenario
async def test_a_route_that_is_added_later_is_known():
    app = FastAPI()
    async with serving(app):
        counting(app, "/a")
        await ask(app, "/a")
        counting(app, "/b")
        counting(app, "/c", dependencies=[Depends(KEY)])
        assert await texts(app, "/b", {}, {}) == ["1", "1"]
        assert await texts(app, "/c", {}, {}) == ["1", "2"]


@scenario
async def test_starlette_applications_are_cached_too():
    count = itertools.count(1)

    async def number(request):
        return PlainTextResponse(str(next(count)))

    app = Starlette(routes=[Route("/n", number), Mount("/sub", routes=[Route("/n", number)])])
    async with serving(app):
        assert await texts(app, "/n", {}, {}) == ["1", "1"]
        assert await texts(app, "/sub/n", {}, {}) == ["2", "2"]


@scenario
async def test_streams_compression_and_errors_go_together_with_the_cache():
    app = FastAPI()
    async with cache_of() as cache:
        app.add_middleware(GZipMiddleware, minimum_size=10)
        setup_fastapi_caching(app, cache)

        @app.get("/stream")
        async def stream():
            async def parts():
                for number in range(5):
                    yield f"{number}" * 100

            return StreamingResponse(parts(), media_type="text/plain")

        @app.get("/fails")
        async def fails():
            raise RuntimeError("no")

        packed = {"Accept-Encoding": "gzip"}
        plain = [await ask(app, "/stream") for _ in range(2)]
        small = [await ask(app, "/stream", packed) for _ in range(2)]
        assert [answer.hit for answer in (*plain, *small)] == [False, True, False, True]
        assert plain[0].body == plain[1].body
        assert small[0].body == small[1].body
        assert small[1]["content-encoding"] == "gzip"
        with pytest.raises(RuntimeError, match="no"):
            await ask(app, "/fails")


@scenario
async def test_pages_of_other_origins_may_read_what_was_cached_for_those_of_none():
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["http://one.example", "http://two.example"])
    async with serving(app):
        counting(app)
        origins = [{}, {"Origin": "http://one.example"}, {"Origin": "http://two.example"}]
        for hit in (False, True):
            answers = [await ask(app, "/n", origin) for origin in origins]
            assert [answer.hit for answer in answers] == [hit] * 3
            allowed = [answer["access-control-allow-origin"] for answer in answers]
            assert allowed == [None, "http://one.example", "http://two.example"]


@scenario
async def test_the_cache_is_opened_and_closed_with_the_application():
    app = FastAPI()
    cache = cache_of()
    setup_fastapi_caching(app, cache)
    counting(app)
    events = asyncio.Queue()
    sent = []

    async def send(message):
        sent.append((message["type"], cache.is_open))

    await events.put({"type": "lifespan.startup"})
    life = asyncio.create_task(app({"type": "lifespan", "asgi": {}, "state": {}}, events.get, send))
    while not sent:
        await asyncio.sleep(0)
    assert sent == [("lifespan.startup.complete", True)]
    assert await texts(app, "/n", {}, {}) == ["1", "1"]
    await events.put({"type": "lifespan.shutdown"})
    await life
    assert sent[1] == ("lifespan.shutdown.complete", False)


@scenario
async def test_what_has_a_cache_is_taken_for_one_with_its_configuration():
    app = FastAPI()
    async with cache_of() as cache:
        config = SimpleNamespace(api_cache_ttl=None, api_cache_prefix="web:")
        http = setup_fastapi_caching(app, SimpleNamespace(cache=cache, config=config))
        assert (http.settings.ttl, http.settings.prefix) == (None, "web:")
        given = setup_fastapi_caching(
            FastAPI(), SimpleNamespace(cache=cache, config=config), api_cache_ttl="1m"
        )
        assert given.settings.ttl == 60.0
        counting(app)
        assert await texts(app, "/n", {}, {}) == ["1", "2"]
        with pytest.raises(TypeError, match="no cache"):
            _ = setup_fastapi_caching(FastAPI(), object()).cache


@pytest.mark.parametrize(
    "wrong",
    [{"api_cache_ttl": 0}, {"api_cache_ttl": "never"}, {"max_body": 0}, {"api_cache_prefix": ""},
     {"api_cache_prefix": "a#b"}, {"keep": "x"}],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="accepted|duration|size|prefix"):
        setup_fastapi_caching(FastAPI(), cache_of(), **wrong)


def test_decorators_refuse_what_cannot_be_meant():
    with pytest.raises(ValueError, match="names no field"):
        cached_response(whose="not a field")
    with pytest.raises(ValueError, match="either"):
        cached_response(whose="authorization", public=True)
    with pytest.raises(TypeError, match="middleware"):
        setup_fastapi_caching(object(), cache_of())


def test_an_endpoint_stays_the_function_it_was():
    def endpoint(request: Request):
        return request

    marked = cached_response(ttl=5, tags=["a"])(invalidates("b")(endpoint))
    assert marked is endpoint


def test_the_integration_loads_no_framework():
    code = "import tiercache_plugins.integrations, sys; print({'fastapi', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
