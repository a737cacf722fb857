"""Sessions of Starlette and FastAPI applications: what requests see, and what of their changes is kept."""

from __future__ import annotations

import asyncio
import copy

import pytest
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.asking import COOKIE, browser, during
from tiercache import Cache, LockTimeout, TierUnavailable
from tiercache_plugins.integrations import SessionCache, setup_fastapi_caching
from tiercache_plugins.integrations.http import cached_response
from tiercache_plugins.integrations.sessions import Session, SessionMiddleware, logout, rotate
from tiercache_plugins.integrations.sessions.cookie import Cookie
from tiercache_plugins.integrations.sessions.fields import personal
from tiercache_plugins.integrations.sessions.session import alike


def shop(sessions, **options):
    app = FastAPI()

    @app.put("/put/{name}/{value}")
    async def put(name: str, value: int, request: Request):
        request.session[name] = value
        return dict(request.session)

    @app.delete("/take/{name}")
    async def take(name: str, request: Request):
        del request.session[name]

    @app.put("/cart/{thing}")
    async def cart(thing: str, request: Request):
        request.session.setdefault("cart", []).append(thing)

    @app.post("/login/{name}")
    async def login(name: str, request: Request):
        request.session["user_id"] = name
        rotate(request)

    @app.post("/switch/{name}")
    async def switch(name: str, request: Request):
        request.session.clear()
        request.session["user_id"] = name

    @app.post("/logout")
    async def leave(request: Request):
        logout(request)

    @app.get("/me")
    async def me(request: Request):
        return dict(request.session)

    @app.get("/public")
    async def public():
        return "all"

    app.add_middleware(SessionMiddleware, sessions=sessions, **options)
    return app


def given_cookie(response):
    return response.headers.get_list("set-cookie")


def test_what_a_request_puts_in_the_next_one_finds():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            assert (await client.get("/me")).json() == {}
            first = await client.put("/put/a/1")
            (cookie,) = given_cookie(first)
            name, *flags = cookie.split("; ")
            assert name.startswith(f"{COOKIE}=")
            assert flags == ["Path=/", "Max-Age=3600", "HttpOnly", "Secure", "SameSite=Lax"]
            second = await client.put("/put/b/2")
            assert second.json() == {"a": 1, "b": 2}
            assert given_cookie(second) == []
            await client.delete("/take/a")
            assert (await client.get("/me")).json() == {"b": 2}

    during(scenario)


def test_a_value_that_is_changed_in_place_is_kept():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            for thing in ("tea", "jam"):
                await client.put(f"/cart/{thing}")
            assert (await client.get("/me")).json() == {"cart": ["tea", "jam"]}
            assert sessions.stats()["updated"] == 1
            await client.get("/me")
            assert sessions.stats()["updated"] == 1

    during(scenario)


@pytest.mark.parametrize("brought", ["A" * 43, "x", "", "A" * 42 + "/", "B" * 5000])
def test_an_id_that_nobody_issued_is_never_taken_over(brought):
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions), cookies={COOKIE: brought}) as client:
            assert (await client.get("/me")).json() == {}
            (cookie,) = given_cookie(await client.put("/put/a/1"))
            assert brought not in cookie.partition(";")[0].split("=") or not brought
            assert await sessions.get_session(brought) is None

    during(scenario)


def test_of_two_ids_neither_is_believed():
    async def scenario(sessions, cache, clock):
        one, other = [await sessions.create_session({"n": n}) for n in range(2)]
        async with browser(shop(sessions)) as client:
            for sent, found in ((f"{COOKIE}={one}", {"n": 0}), (f"{COOKIE}={one}; {COOKIE}={other}", {})):
                assert (await client.get("/me", headers={"cookie": sent})).json() == found

    during(scenario)


def test_logging_in_gives_another_id_and_the_old_one_is_dead():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            await client.put("/put/a/1")
            old = client.cookies[COOKIE]
            clock.advance(100)
            (cookie,) = given_cookie(await client.post("/login/ann"))
            assert "Max-Age=3500" in cookie
            new = client.cookies[COOKIE]
            assert new != old
            assert await sessions.get_session(old) is None
            assert (await client.get("/me")).json() == {"a": 1, "user_id": "ann"}
            await sessions.logout_everywhere("ann")
            assert (await client.get("/me")).json() == {}

    during(scenario)


def test_logging_out_ends_the_session_and_takes_the_cookie():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            await client.put("/put/a/1")
            old = client.cookies[COOKIE]
            (cookie,) = given_cookie(await client.post("/logout"))
            assert "Max-Age=0" in cookie
            assert COOKIE not in client.cookies
            assert await sessions.get_session(old) is None
            await client.put("/put/a/1")
            old = client.cookies[COOKIE]
            await client.post("/switch/bob")
            assert client.cookies[COOKIE] != old
            assert await sessions.get_session(old) is None
            assert (await client.get("/me")).json() == {"user_id": "bob"}

    during(scenario)


def test_a_session_ends_unused_and_at_its_age():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            await client.put("/put/a/1")
            for _ in range(11):
                clock.advance(300)
                assert (await client.get("/me")).json() == {"a": 1}
            clock.advance(301)
            assert (await client.get("/me")).json() == {}
            await client.put("/put/a/1")
            clock.advance(601)
            assert (await client.get("/me")).json() == {}

    during(scenario)


def test_an_old_id_is_replaced_and_leads_to_the_session_for_a_while():
    async def scenario(sessions, cache, clock):
        app = shop(sessions, rotate_every="5m", grace="30s")
        async with browser(app) as client, browser(app) as late:
            await client.put("/put/a/1")
            old = client.cookies[COOKIE]
            sent = {"headers": {"cookie": f"{COOKIE}={old}"}}
            clock.advance(299)
            assert given_cookie(await client.get("/me")) == []
            clock.advance(2)
            (cookie,) = given_cookie(await client.put("/put/b/2"))
            assert "Max-Age=3299" in cookie
            assert client.cookies[COOKIE] != old
            clock.advance(29)
            response = await late.put("/put/c/3", **sent)
            assert response.json() == {"a": 1, "b": 2, "c": 3}
            assert given_cookie(response) == []
            assert (await client.get("/me")).json() == {"a": 1, "b": 2, "c": 3}
            clock.advance(2)
            assert (await late.get("/me", **sent)).json() == {}
            assert given_cookie(await client.get("/me")) == []
            assert (await client.get("/me")).json() == {"a": 1, "b": 2, "c": 3}

    during(scenario)


@pytest.mark.parametrize("how", ["logout", "login"])
def test_who_still_has_the_old_id_can_end_and_rename_the_session(how):
    async def scenario(sessions, cache, clock):
        app = shop(sessions, rotate_every="5m")
        async with browser(app) as client, browser(app) as late:
            await client.put("/put/a/1")
            sent = {"headers": {"cookie": f"{COOKIE}={client.cookies[COOKIE]}"}}
            clock.advance(301)
            await client.get("/me")
            await late.post("/logout" if how == "logout" else "/login/ann", **sent)
            assert (await client.get("/me")).json() == {}
            assert (await late.get("/me", **sent)).json() == {}
            if how == "login":
                assert (await late.get("/me")).json() == {"a": 1, "user_id": "ann"}

    during(scenario)


def gated(sessions):
    """Return an application whose requests wait for each other before they answer, with its events."""
    app, came, go = FastAPI(), asyncio.Queue(), asyncio.Event()

    @app.put("/slow/{put}/{gone}")
    async def slow(put: str, gone: str, request: Request):
        request.session[put] = 1
        request.session.pop(gone)
        came.put_nowait(put)
        await go.wait()

    app.add_middleware(SessionMiddleware, sessions=sessions)
    return app, came, go


def test_requests_at_the_same_time_lose_nothing_of_each_other():
    async def scenario(sessions, cache, clock):
        app, came, go = gated(sessions)
        old = {f"old{n}": 0 for n in range(8)}
        session_id = await sessions.create_session(old)
        async with browser(app, cookies={COOKIE: session_id}) as client:
            asked = [asyncio.create_task(client.put(f"/slow/new{n}/old{n}")) for n in range(7)]
            for _ in asked:
                await asyncio.wait_for(came.get(), 30)
            go.set()
            await asyncio.gather(*asked)
        assert await sessions.get_session(session_id) == {"old7": 0} | {f"new{n}": 1 for n in range(7)}

    during(scenario)


def test_a_session_that_is_ended_while_a_request_runs_stays_ended():
    async def scenario(sessions, cache, clock):
        app, came, go = gated(sessions)
        session_id = await sessions.create_session({"old": 1})
        async with browser(app, cookies={COOKIE: session_id}) as client:
            asked = asyncio.create_task(client.put("/slow/new/old"))
            await asyncio.wait_for(came.get(), 30)
            await sessions.delete_session(session_id)
            go.set()
            assert given_cookie(await asked) == []
        assert await sessions.get_session(session_id) is None
        assert [key async for key in cache.keys()] == []

    during(scenario)


def test_what_is_kept_is_kept_before_the_response_starts():
    async def scenario(sessions, cache, clock):
        seen = []

        async def app(scope, receive, send):
            scope["session"]["n"] = 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for text in (b"a", b"b"):
                await send({"type": "http.response.body", "body": text, "more_body": True})
            with pytest.raises(RuntimeError, match="has started"):
                scope["session"]["n"] = 2
            assert scope["session"]["n"] == 1
            await send({"type": "http.response.body", "body": b""})

        async def send(message):
            seen.append((message["type"], sessions.stats()["created"]))

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await SessionMiddleware(app, sessions)(scope, None, send)
        assert seen == [("http.response.start", 1)] + [("http.response.body", 1)] * 3

    during(scenario)


def test_a_response_that_streams_may_not_look_first_when_it_has_begun():
    async def scenario(sessions, cache, clock):
        app = FastAPI()

        @app.get("/{when}")
        async def stream(when: str, request: Request):
            if when == "before":
                request.session.get("n")

            async def parts():
                yield f"{request.session['n']}"

            return StreamingResponse(parts())

        app.add_middleware(SessionMiddleware, sessions=sessions)
        session_id = await sessions.create_session({"n": 7})
        async with browser(app, cookies={COOKIE: session_id}) as client:
            response = await client.get("/before")
            assert response.text == "7"
            assert response.headers["vary"] == "Cookie"
            with pytest.raises(RuntimeError, match="first looked at while"):
                await client.get("/after")

    during(scenario)


def test_a_response_says_whose_it_is_only_where_the_session_was_looked_at():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions)) as client:
            await client.put("/put/a/1")
            looked, other = await client.get("/me"), await client.get("/public")
            assert looked.headers["cache-control"] == "private, no-cache"
            assert looked.headers["vary"] == "Cookie"
            assert not {"vary", "cache-control", "set-cookie"} & set(other.headers)

    during(scenario)


@pytest.mark.parametrize(
    ("given_fields", "wanted"),
    [
        ([], {"cache-control": "private, no-cache", "vary": "Cookie"}),
        (
            [("Cache-Control", "public, s-maxage=9, max-age=5"), ("Vary", "Accept")],
            {"cache-control": "private, max-age=5", "vary": "Accept, Cookie"},
        ),
        (
            [("cache-control", 'private="x, y"'), ("cache-control", "no-store"), ("vary", "*")],
            {"cache-control": "private, no-store", "vary": "*"},
        ),
        (
            [("CDN-Cache-Control", "max-age=9"), ("surrogate-control", "max-age=9"), ("vary", "cookie")],
            {"cache-control": "private, no-cache", "vary": "cookie"},
        ),
        (
            [("tiercache-cache-control", "max-age=9"), ("x-y", "1")],
            {"cache-control": "private, no-cache", "vary": "Cookie", "x-y": "1"},
        ),
    ],
)
def test_no_field_lets_others_share_it(given_fields, wanted):
    raw = [(name.encode(), value.encode()) for name, value in given_fields]
    assert {name.decode(): value.decode() for name, value in personal(raw)} == wanted


def test_with_the_cache_outside_nobody_is_shown_the_page_of_another():
    async def scenario(sessions, cache, clock):
        app = shop(sessions)
        calls = []

        @app.get("/cached")
        @cached_response(public=True, ttl="1h")
        async def cached(request: Request, response: Response):
            calls.append(1)
            response.headers["cache-control"] = "public, max-age=600, s-maxage=600"
            return dict(request.session)

        @app.get("/shared")
        @cached_response(public=True, ttl="1h")
        async def shared():
            calls.append(1)
            return len(calls)

        setup_fastapi_caching(app, cache, route="other")
        async with browser(app) as ann, browser(app) as bob, browser(app) as nobody:
            for client, name in ((ann, "ann"), (bob, "bob")):
                await client.post(f"/login/{name}")
            for _ in range(2):
                for path in ("/cached", "/me"):
                    assert (await ann.get(path)).json() == {"user_id": "ann"}
                    assert (await bob.get(path)).json() == {"user_id": "bob"}
                    assert (await nobody.get(path)).json() == {}
            assert len(calls) == 6
            found = {(await client.get("/shared")).text for client in (ann, bob, nobody)}
            assert found == {"7"}

    during(scenario)


def test_a_cache_within_the_sessions_is_refused():
    async def scenario(sessions, cache, clock):
        app = FastAPI()
        setup_fastapi_caching(app, cache, route="other")
        app.add_middleware(SessionMiddleware, sessions=sessions)
        async with browser(app) as client:
            with pytest.raises(ValueError, match="before the cache"):
                await client.get("/")

    during(scenario)


def test_an_application_with_a_cache_of_its_own_within_stores_no_page_that_looked_at_a_session():
    async def scenario(sessions, cache, clock):
        app, inner = shop(sessions), FastAPI()
        calls = []

        @inner.get("/{kind}")
        @cached_response(public=True, ttl="1h")
        async def page(kind: str, request: Request, response: Response):
            calls.append(kind)
            response.headers["cache-control"] = "public, max-age=600"
            return dict(request.session) if kind == "own" else kind

        setup_fastapi_caching(inner, cache, route="other")
        app.mount("/inner", inner)
        async with browser(app) as ann, browser(app) as bob:
            for client, name in ((ann, "ann"), (bob, "bob")):
                await client.post(f"/login/{name}")
            for _ in range(2):
                for client, name in ((ann, "ann"), (bob, "bob")):
                    own = await client.get("/inner/own")
                    assert own.json() == {"user_id": name}
                    assert own.headers["cache-control"] == "private, max-age=600"
                    assert (await client.get("/inner/shared")).json() == "shared"
        assert sorted(calls) == ["own"] * 4 + ["shared"]

    during(scenario)


AWAY = {
    "tier": {"far": {"type": "redis", "url": "redis://127.0.0.1:1"}},
    "route": {"session": {"tiers": ["far"], "near": False, "ttl": "1h"}},
}


@pytest.mark.parametrize("unavailable", ["empty", "refuse"])
def test_without_the_store_there_is_no_session_and_no_cookie_is_touched(unavailable):
    async def life():
        async with Cache.open(AWAY) as cache:
            sessions = SessionCache(cache)
            app = shop(sessions, unavailable=unavailable)
            refused = unavailable == "refuse"
            async with browser(app, cookies={COOKIE: "A" * 43}) as client:
                read, changed = await client.get("/me"), await client.put("/put/a/1")
                assert [read.status_code, changed.status_code] == ([503, 503] if refused else [200, 200])
                assert given_cookie(read) == given_cookie(changed) == []
                if not refused:
                    assert read.json() == {}
                    (cookie,) = given_cookie(await client.post("/logout"))
                    assert "Max-Age=0" in cookie
            async with browser(app) as client:
                assert (await client.get("/me")).status_code == 200
                begun = await client.put("/put/a/1")
                assert begun.status_code == (503 if refused else 200)
                assert given_cookie(begun) == []
            assert sessions.stats()["away"] == (3 if refused else 6)

    asyncio.run(life())


def test_a_session_that_could_not_be_read_is_not_replaced_once_the_store_is_back():
    class Flapping(SessionCache):
        async def open_session(self, session_id):
            raise TierUnavailable("away")

    async def scenario(sessions, cache, clock):
        session_id = await sessions.create_session({"user_id": 1})
        async with browser(shop(Flapping(cache)), cookies={COOKIE: session_id}) as client:
            for change in (client.put("/put/a/1"), client.post("/login/ann")):
                assert given_cookie(await change) == []
            assert await sessions.get_session(session_id) == {"user_id": 1}
            (cookie,) = given_cookie(await client.post("/logout"))
            assert "Max-Age=0" in cookie
        assert await sessions.get_session(session_id) is None

    during(scenario)


def test_logging_out_ends_the_session_also_where_its_turn_can_not_be_had(monkeypatch):
    def never(*given):
        raise LockTimeout("held")

    async def scenario(sessions, cache, clock):
        session_id = await sessions.create_session({"user_id": 1})
        async with browser(shop(sessions), cookies={COOKIE: session_id}) as client:
            monkeypatch.setattr("tiercache_plugins.integrations.sessions.sessions.turn", never)
            (cookie,) = given_cookie(await client.post("/logout"))
            assert "Max-Age=0" in cookie
        assert await sessions.get_session(session_id) is None
        assert sessions.stats()["away"] == 1

    during(scenario)


def test_a_websocket_reads_its_session_and_may_not_change_it():
    async def scenario(sessions, cache, clock):
        app = FastAPI()

        @app.websocket("/ws")
        async def ws(socket: WebSocket):
            await socket.accept()
            with pytest.raises(RuntimeError, match="websocket"):
                socket.session["n"] = 2
            await socket.send_text(str(socket.session["n"]))

        app.add_middleware(SessionMiddleware, sessions=sessions)
        session_id = await sessions.create_session({"n": 7})
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        headers = [(b"cookie", f"a=b; {COOKIE}={session_id}".encode())]
        scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": headers, "app": app}
        await app(scope, receive, send)
        assert sent[1]["text"] == "7"

    during(scenario)


def test_without_tls_the_cookie_has_no_prefix():
    async def scenario(sessions, cache, clock):
        async with browser(shop(sessions, secure=False, same_site="strict", name="s")) as client:
            (cookie,) = given_cookie(await client.put("/put/a/1"))
            assert cookie.startswith("s=")
            assert cookie.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict")

    during(scenario)


@pytest.mark.parametrize(
    "options",
    [{"name": "a b"}, {"name": ""}, {"same_site": "Lax"}, {"same_site": "none", "secure": False}],
)
def test_cookies_that_browsers_refuse_are_refused_first(options):
    with pytest.raises(ValueError, match="accepted"):
        Cookie(**options)


def test_without_sessions_the_functions_say_what_is_missing():
    with pytest.raises(RuntimeError, match="add SessionMiddleware"):
        rotate({"type": "http"})
    with pytest.raises(ValueError, match="unavailable"):
        SessionMiddleware(None, None, unavailable="ignore")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 2) | st.text(max_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3)
    | st.tuples(inner, inner) | st.sets(st.integers(0, 2) | st.booleans(), max_size=2),
    max_leaves=5,
)  # fmt: skip


def told(value):
    """Write *value* so that the types of all it holds can be read."""
    if isinstance(value, (set, frozenset)):
        value = sorted(repr(each) for each in value), "set"
    elif isinstance(value, dict):
        value = [(repr(name), told(each)) for name, each in value.items()], "dict"
    elif isinstance(value, (list, tuple)):
        value = [told(each) for each in value], type(value).__name__
    return repr(value)


@settings(deadline=None, database=None)
@given(VALUES, VALUES)
def test_values_are_alike_where_a_copy_could_not_be_told_from_them(one, other):
    assert alike(one, copy.deepcopy(one))
    assert alike(one, other) == (told(one) == told(other))


NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, VALUES),
        st.tuples(st.just("pop"), NAMES),
        st.tuples(st.just("append"), NAMES),
        st.tuples(st.just("update"), st.dictionaries(NAMES, VALUES, max_size=2)),
        st.tuples(st.just("setdefault"), NAMES),
    ),
    max_size=8,
)


@settings(deadline=None, database=None)
@given(st.dictionaries(NAMES, VALUES, max_size=3), STEPS)
def test_the_difference_makes_of_the_old_data_what_a_dict_would_hold(data, steps):
    session, model = Session(copy.deepcopy(data)), copy.deepcopy(data)
    for name, *rest in steps:
        for target in (session, model):
            if name == "put":
                target[rest[0]] = copy.deepcopy(rest[1])
            elif name == "pop":
                target.pop(rest[0], None)
            elif name == "append" and isinstance(target.get(rest[0]), list):
                target[rest[0]].append(1)
            elif name == "update":
                target.update(copy.deepcopy(rest[0]))
            elif name == "setdefault":
                target.setdefault(rest[0], [])
    put, gone = session.difference()
    made = {key: value for key, value in data.items() if key not in gone} | put
    assert alike(sorted(made.items()), sorted(model.items()))
    assert dict(session) == model == {**session} == session.copy() == session | {}


def test_a_dict_made_of_a_session_counts_as_a_look():
    for look in (dict, list, len, bool, lambda s: {**s}, lambda s: s | {}, lambda s: s == {}, repr):
        session = Session({"a": 1})
        look(session)
        assert session.accessed == (look is not repr)
    assert "secret" not in repr(Session({"secret": "secret"}))
