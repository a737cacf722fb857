"""The dashboard over a real server: what it shows, to whom, and how its streams begin and end."""

import asyncio
import base64
import hashlib
import json
import re
import socket
from contextlib import contextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from servers import Server
from serving import Serving
from tiercache import Cache
from tiercache.dashboard import Dashboard, history, stream
from tiercache.dashboard.door import Door
from tiercache.dashboard.figures import Figures
from tiercache.dashboard.history import History

TOKEN = "a-token-of-some-length"
WICKED = "<img src=x onerror=alert(1)>*"
TABLES = {
    "tier": {"memory": {"type": "memory", "max_entries": 100}},
    "route": {"pages": {"tiers": ["memory"], "keys": ["page:*"], "ttl": "1h"},
              "rest": {"tiers": ["memory"], "ttl": "1h", "default": True}},
    "telemetry": {"patterns": [WICKED]},
}  # fmt: skip


@contextmanager
def serving(tables=TABLES, mounted=None, **options):
    """Serve a dashboard; yield the server and a client."""

    def make(cache):
        return (mounted or (lambda app: app))(Dashboard(cache, **{"every": 0.05, **options}))

    with Serving(tables, make) as served, httpx.Client(base_url=served.url, timeout=30) as client:
        yield served, client


def events(response, count):
    """Return the next *count* events of a stream: id and content."""
    found = []
    name = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
            if len(found) == count:
                return found
    raise AssertionError(f"ended after {len(found)} events")


def freed(served, client):
    """Wait until nobody is told of changes any more."""

    async def wait():
        async with asyncio.timeout(30):
            while served.app.looking:
                await asyncio.sleep(0.01)

    served.run(wait())


@pytest.fixture(scope="module")
def plain():
    """One that is only looked at."""
    with serving() as (_, client):
        yield client


# What is on the page


def test_the_page_tells_the_numbers_without_any_script():
    with serving() as (served, client):
        served.run(served.cache.set("page:secret-name", "secret-value"))
        for _ in range(3):
            served.run(served.cache.get("page:secret-name"))
        served.run(served.cache.get("absent"))
        page = client.get("/").text
    plain = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "75.0 %" in plain
    row = re.search(r'<th scope="row">page:\*</th>(.*?)</tr>', plain)[1]
    assert re.findall(r">([^<]+)</td>", row)[1:4] == ["3", "0", "100.0 %"]
    assert "secret" not in page


def test_what_the_configuration_says_is_shown_as_text(plain):
    page = plain.get("/").text
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;*" in page


def test_only_what_is_on_the_page_may_run_and_nothing_comes_from_elsewhere(plain):
    answer = plain.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    for name in ("script", "style"):
        texts = re.findall(rf"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert texts
        assert policy[f"{name}-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert not re.search(r'\s(style|on\w+)="', answer.text)
    assert not re.search(r'(src|href)="(?!data:,")', answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_secrets_of_the_configuration_are_not_on_the_page():
    tables = {"tier": {"redis": {"type": "redis", "url": "redis://:hunter2@127.0.0.1:9/0"}},
              "route": {"all": {"tiers": ["redis"], "ttl": "1h"}}}  # fmt: skip
    with serving(tables) as (_, client):
        page = client.get("/").text
        with client.stream("GET", "/events") as response:
            (_, first), *_ = events(response, 1)
    assert "tier redis is away" in page.lower()
    assert "Tier redis is away" in first["status"]
    assert "hunter2" not in page + json.dumps(first)


# Who may look


def test_it_can_only_be_looked_at(plain):
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for path in ("/", "/events"):
            answer = plain.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD"), method


def test_head_tells_the_headers_alone(plain):
    head, page = plain.head("/"), plain.get("/")
    told = plain.head("/events")
    assert plain.get("/other").status_code == 404
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers.keys() == page.headers.keys()
    assert (told.status_code, told.headers["content-type"], told.content) == (200, "text/event-stream", b"")


def test_other_names_for_this_machine_lead_nowhere():
    with serving(hosts=("localhost", "127.0.0.1", "[::1]")) as (_, client):
        for host in ("localhost", "LOCALHOST:80", "127.0.0.1:8642", "[::1]:8642"):
            assert client.get("/", headers={"host": host}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::2]"):
            for path in ("/", "/events"):
                assert client.get(path, headers={"host": host}).status_code == 421, host


def test_other_sites_can_neither_read_nor_hold_streams(plain):
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "cors"}
        assert plain.get("/events", headers=headers).status_code == 403
    for site, mode in (("cross-site", "navigate"), ("same-origin", "cors"), ("none", "navigate")):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        assert plain.get("/", headers=headers).is_success


def test_without_the_token_nothing_is_told():
    with serving(token=TOKEN) as (_, client):
        wrong = (
            {}, {"authorization": "Bearer"}, {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Basic {TOKEN}"}, {"authorization": b"Bearer \xff\xfe"},
            {"cookie": "tiercache_dashboard="}, {"cookie": f"tiercache_dashboard={TOKEN}"},
            {"cookie": 'tiercache_dashboard="\\777'},
        )  # fmt: skip
        queries = ("/?token=", "/?token=%C3%A9%FF", f"/?token={TOKEN[:-1]}", f"/?other={TOKEN}", "/events")
        for path, headers in [*(("/", one) for one in wrong), *((query, {}) for query in queries)]:
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401, (headers, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "set-cookie" not in answer.headers
        assert client.get("/", headers={"authorization": f"bearer {TOKEN}"}).is_success


def test_a_token_in_the_address_becomes_a_cookie():
    with serving(token=TOKEN) as (_, client):
        first = client.get(f"/?token={TOKEN}")
        assert (first.status_code, first.headers["location"]) == (303, "./")
        cookie = first.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        assert client.get("/").is_success
        with client.stream("GET", "/events") as response:
            assert events(response, 1)[0][1]["first"]


@pytest.mark.parametrize("token", ["", "short", "ümlaut-is-no-ascii-text", "a line\nand another one"])
def test_a_token_that_is_no_good_is_refused(token):
    with pytest.raises(ValueError, match="at least 16 printable ASCII characters"):
        Door(token, None)


def test_a_cookie_is_for_encrypted_connections_alone_where_they_are():
    scope = {"headers": [], "query_string": f"token={TOKEN}".encode()}
    assert b"Secure" in Door(TOKEN, None).admit({**scope, "scheme": "https"})
    assert b"Secure" not in Door(TOKEN, None).admit({**scope, "scheme": "http"})


# Streams


def test_the_first_event_tells_everything_and_the_next_what_changed():
    with serving() as (served, client), client.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.iter_lines()
        assert next(lines).startswith("retry: ")
        found = []
        for line in lines:
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == 1:
                    served.run(served.cache.set("page:1", 1))
                    served.run(served.cache.get("page:1"))
                if any(cell == "100.0 %" for cell in found[-1]["cells"].values()):
                    break
        first, *_, last = found
        assert first["first"]
        assert not last["first"]
        assert len(last["cells"]) < len(first["cells"])
        assert "changes" in first
        assert "changes" not in last
        assert len(last["points"]) >= 1
        assert "page:1" not in json.dumps(found)


def test_a_stream_is_resumed_where_it_ended():
    with serving() as (served, client):
        with client.stream("GET", "/events") as response:
            *_, (name, _) = events(response, 3)
        freed(served, client)
        with client.stream("GET", "/events", headers={"last-event-id": name}) as response:
            ((_, resumed),) = events(response, 1)
        known = int(name.partition(":")[2])
        assert not resumed["first"]
        assert len(resumed["points"]) == served.app._history.looks[-1].number - known
        assert resumed["cells"]
        for strange in ("0000:1", "x", f"{name.partition(':')[0]}:²", f"{name}{'0' * 40}"):
            with client.stream("GET", "/events", headers={"last-event-id": strange.encode()}) as response:
                assert events(response, 1)[0][1]["first"], strange


def test_streams_end_with_the_cache_and_none_begins_after_it(monkeypatch):
    monkeypatch.setattr("tiercache.dashboard.LIFE", 20.0)
    with serving() as (served, client):
        with client.stream("GET", "/events") as response:
            lines = response.iter_lines()
            assert any(line.startswith("data: ") for line in lines)
            served.run(served.cache.close())
            # Life would have been long enough for four hundred.
            assert sum(line.startswith("data: ") for line in lines) < 100
        answer = client.get("/events")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "The cache is not open." in client.get("/").text


def test_streams_end_after_a_while_so_that_a_server_can_shut_down(monkeypatch):
    monkeypatch.setattr("tiercache.dashboard.LIFE", 0.2)
    with serving() as (served, client):
        with client.stream("GET", "/events") as response:
            assert sum(line.startswith("data: ") for line in response.iter_lines()) >= 1
        freed(served, client)


def test_no_more_browsers_are_told_than_are_allowed():
    with serving(clients=2) as (served, client):
        with client.stream("GET", "/events") as one, client.stream("GET", "/events") as two:
            # What reads them is kept: a response ends with it.
            reading = [one.iter_lines(), two.iter_lines()]
            assert [next(lines).startswith("retry: ") for lines in reading] == [True, True]
            assert served.app.looking == 2
            refused = client.get("/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert client.get("/").is_success
        freed(served, client)
        with client.stream("GET", "/events") as response:
            assert events(response, 1)


def test_silence_is_broken_by_comments(monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT", 0.02)
    with serving(every="1h") as (_, client), client.stream("GET", "/events") as response:
        lines = response.iter_lines()
        assert sum(line == ":" for line, _ in zip(lines, range(60), strict=False)) > 5


def test_it_can_be_mounted_anywhere():
    with serving(mounted=lambda app: Starlette(routes=[Mount("/ops/cache", app)])) as (_, client):
        page = client.get("/ops/cache", follow_redirects=True)
        assert page.is_success
        assert str(page.url).endswith("/ops/cache/")
        with client.stream("GET", "/ops/cache/events") as response:
            assert events(response, 1)
        assert client.get("/ops/cache/other").status_code == 404
        assert client.get("/events").status_code == 404


# Without a server


def asked(app, path="/", method="GET", send=None, **scope):
    """Ask *app* directly; return what it sent."""
    sent = []

    async def keep(message):
        sent.append(message)
        if send is not None:
            await send(message)

    async def receive():
        await asyncio.Event().wait()

    about = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", **scope}
    return sent, app(about, receive, keep)


@pytest.mark.parametrize(
    ("path", "scope", "location"),
    [
        ("", {}, b".//"),
        ("/cache", {"root_path": "/cache"}, b"./cache/"),
        ("", {"root_path": "/cache"}, b".//"),
        ("/a//evil.example", {"root_path": "/a//evil.example"}, b"./evil.example/"),
        ("/a\r\nset-cookie: x", {"root_path": "/a\r\nset-cookie: x"}, b"./a%0D%0Aset-cookie%3A%20x/"),
    ],
)
def test_a_missing_slash_is_added_and_leads_nowhere_else(path, scope, location):
    async def act():
        async with Cache.open(TABLES) as cache:
            sent, done = asked(Dashboard(cache), path, **scope)
            await done
        assert sent[0]["status"] == 308
        assert (b"location", location) in sent[0]["headers"]

    asyncio.run(act())


def test_a_browser_that_takes_nothing_is_let_go_of_and_one_that_is_slow_loses_no_point(monkeypatch):
    monkeypatch.setattr("tiercache.dashboard.LIFE", 0.3)

    async def act():
        async with Cache.open(TABLES) as cache:
            app = Dashboard(cache, every=0.01)

            async def stuck(message):
                if message.get("body", b"").startswith(b"id: "):
                    await asyncio.Event().wait()

            sent, done = asked(app, "/events", send=stuck)
            async with asyncio.timeout(30):
                await done
            assert app.looking == 0
            assert sent[-1]["more_body"], "a response that was not whole must not look whole"

            async def slow(message):
                if message.get("body", b"").startswith(b"id: "):
                    app._history._keep(cache.stats())
                    app._history._keep(cache.stats())

            sent, done = asked(app, "/events", send=slow)
            await done
            told = [json.loads(m["body"].split(b"data: ")[1]) for m in sent[2:-1] if b"data: " in m["body"]]
            assert len(told) > 1
            assert len(told[-1]["points"]) > 1
            newest = app._history.looks[-1].number
            assert newest - 2 <= len(app._history.looks) == newest
            # None was left out and none came twice, but for the two that followed the last event.
            assert sum(len(one["points"]) for one in told) == newest - 2
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(act())


def test_an_answer_to_head_has_no_body():
    async def act():
        async with Cache.open(TABLES) as cache:
            for path in ("/", "/events", "/other"):
                sent, done = asked(Dashboard(cache), path, "HEAD")
                await done
                assert [message.get("body", b"") for message in sent] == [b"", b""], path

    asyncio.run(act())


def test_what_comes_beside_requests_is_answered():
    async def act():
        async with Cache.open(TABLES) as cache:
            app = Dashboard(cache)
            messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
            sent = []

            async def receive():
                return next(messages)

            async def send(message):
                sent.append(message["type"])

            await app({"type": "lifespan"}, receive, send)
            messages = iter([{"type": "websocket.connect"}])
            await app({"type": "websocket"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]

    asyncio.run(act())


def test_all_who_look_share_one_look_and_it_takes_a_hundredth_of_the_time_at_most():
    looks = 0

    async def act():
        async with Cache.open(TABLES) as cache:

            def look():
                nonlocal looks
                looks += 1
                return cache.stats()

            row = History(look, Figures(), 3600.0)
            found = await asyncio.gather(*(row.current() for _ in range(50)))
            assert (looks, {one.number for one in found}) == (1, {1})
            assert row.every == 3600
            row.cost = 72.0
            assert row.every == 7200

    asyncio.run(act())


def test_what_is_too_long_ago_is_no_rate():
    async def act():
        async with Cache.open(TABLES) as cache:
            row = History(cache.stats, Figures(), 0.001)
            await row.current()
            row._looked -= 100
            assert (await row.current()).recent is None
            while (look := await row.current()).number == 2:
                await asyncio.sleep(0.001)
            row._keep(cache.stats())
            assert row.looks[-1].number == look.number + 1
            for _ in range(2 * history.KEPT):
                row._keep(cache.stats())
            assert len(row.looks) == history.KEPT

    asyncio.run(act())


@pytest.mark.parametrize("options", [{"clients": 0}, {"every": 0}, {"every": "soon"}, {"token": "short"}])
def test_options_that_make_no_sense_are_refused(options):
    cache = Cache.open(TABLES)
    with pytest.raises(ValueError, match="."):
        Dashboard(cache, **options)


# Alone


def test_a_process_of_its_own_says_what_it_can_not_know(tmp_path):
    tables = {
        "tier": {"memory": {"type": "memory"}, "disk": {"type": "sqlite", "path": str(tmp_path / "c.db")}},
        "route": {"all": {"tiers": ["memory", "disk"], "ttl": "1h"}},
    }
    with serving(tables, alone=True) as (served, client):
        page = client.get("/").text
        with client.stream("GET", "/events") as response:
            (_, first), (_, second) = events(response, 2)
    assert "are counted in the applications, and can't be seen from here" in page
    assert "hits" not in re.findall(r"<th[^>]*>([^<]+)</th>", page)
    assert "Who answered reads" not in page
    assert ">memory<" not in page
    # It asks by itself, so that a tier that went away is known to be.
    assert served.app._history.looks[-1].stats.tiers["disk"].calls > 1
    assert first["first"]
    assert second["points"]


def test_a_stopped_server_shows_and_so_does_its_return():
    with Server("valkey") as server:
        tables = {"tier": {"redis": {"type": "redis", "url": server.url, "deadline": "5s"}},
                  "route": {"all": {"tiers": ["redis"], "ttl": "1h"}}}  # fmt: skip
        with serving(tables, alone=True) as (_, client):
            assert "Nothing is amiss." in client.get("/").text
            server.kill()
            until(client, lambda page: "Tier redis is away" in page)
            server.start()
            page = until(client, lambda page: "Nothing is amiss." in page)
    assert "tier redis is lost" in page
    assert "tier redis is back" in page


def until(client, fits):
    for _ in range(1200):
        page = client.get("/").text
        if fits(page):
            return page
        client.get("/other")
        with client.stream("GET", "/events") as response:
            events(response, 1)
    raise AssertionError(page)


def test_nothing_listens_where_it_was():
    with serving() as (served, _):
        port = served.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
