"""What a client with a cache is answered, what its origin is asked, and what never happens."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from http_cache.calling import URL, calling, told
from http_cache.talking import cache_of, until
from http_cache.test_middleware import MINUTE, scenario
from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport

TAGGED = ("ETag", '"t"')


@scenario
async def test_a_fresh_response_is_answered_from_the_cache_with_its_age():
    async with calling() as c:
        c.origin.say(MINUTE, ("Content-Type", "text/plain"))
        first = await c.get()
        c.clock.advance(10)
        second = await c.get()
        assert (first.text, second.text, len(c.origin.asked)) == ("1", "1", 1)
        assert second.headers["age"] == "10"
        assert second.headers["content-type"] == "text/plain"
        assert "etag" not in second.headers
        assert first.headers["cache-status"] == "tiercache; fwd=uri-miss; fwd-status=200; stored"
        assert second.headers["cache-status"] == "tiercache; hit; ttl=50"
        assert (told(first).hit, told(first).stored, told(first).forwarded) == (False, True, "uri-miss")
        assert (told(second).hit, told(second).ttl, told(second).stale) == (True, 50.0, False)
        c.clock.advance(51)
        assert (await c.get()).text == "2"


@scenario
async def test_a_private_cache_keeps_what_is_meant_for_one_user_and_a_shared_one_does_not():
    for control in ("private, max-age=60", 'private="x-a", max-age=60', "max-age=60"):
        for shared in (False, True):
            async with calling(shared=shared) as c:
                c.origin.say(("Cache-Control", control))
                for _ in range(2):
                    answer = await c.get(Authorization="Bearer ada")
                assert told(answer).hit is not shared


@scenario
async def test_what_is_meant_for_shared_caches_alone_means_nothing_to_a_private_one():
    async with calling() as c:
        c.origin.say(("Cache-Control", "s-maxage=60, max-age=5, proxy-revalidate, stale-if-error=60"))
        await c.get()
        c.clock.advance(6)
        c.origin.say(status=503)
        answer = await c.get()
        assert (answer.text, answer.status_code, told(answer).detail) == ("1", 200, "stale-if-error")
    async with calling(shared=True) as c:
        c.origin.say(("Cache-Control", "s-maxage=60, max-age=5"))
        await c.get()
        c.clock.advance(6)
        assert told(await c.get()).hit


@scenario
async def test_nothing_is_fresh_that_does_not_say_so_unless_the_option_does():
    changed = ("Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT")
    async with calling() as c:
        c.origin.say(changed)
        assert [(await c.get()).text for _ in range(2)] == ["1", "2"]
        c.origin.say(changed, status=404)
        assert [(await c.get(URL + "?gone")).text for _ in range(2)] == ["3", "4"]
    async with calling(default_ttl="1m") as c:
        c.origin.say()
        assert [(await c.get()).text for _ in range(2)] == ["1", "1"]
        assert [(await c.get(Authorization="a")).text for _ in range(2)] == ["2", "2"]


@scenario
async def test_responses_to_other_credentials_are_never_found():
    async with calling() as c:
        c.origin.say(("Cache-Control", "max-age=60, public"))
        for fields in (
            {}, {"Authorization": "a"}, {"Authorization": "b"}, {"Cookie": "a"}, {"X_API_Key": "a"},
            {"Authorization": "a", "Cookie": "a"}, {"Private_Token": "a"}, {"Private_Token": "b"},
            {"DD_API_KEY": "a"}, {"X_Tenant": "a"}, {"X_On_Behalf_Of_User": "a"},
        ):  # fmt: skip
            number = str(len(c.origin.asked) + 1)
            assert [(await c.get(**fields)).text for _ in range(2)] == [number, number]
        assert told(await c.get(User_Agent="another", Traceparent="00-1")).hit


@scenario
async def test_a_partition_takes_the_place_of_credentials():
    async with calling(partition="ada") as c:
        c.origin.say(MINUTE)
        assert [(await c.get(Authorization=token)).text for token in ("t1", "t2")] == ["1", "1"]
        async with c.another(partition="bob") as bob, c.another(partition=None) as anybody:
            assert (await bob.get(URL, headers={"Authorization": "t2"})).text == "2"
            assert (await anybody.get(URL, headers={"Authorization": "t2"})).text == "3"
        async with c.another(partition="ada", shared=True) as shared:
            assert (await shared.get(URL)).text == "4"
    async with calling(partition=lambda request: request.headers["x-user"]) as c:
        c.origin.say(MINUTE)
        assert [(await c.get(X_User=user)).text for user in ("ada", "bob", "ada")] == ["1", "2", "1"]
    async with calling(partition=lambda request: None if request.url.path else 7) as c:
        c.origin.say(MINUTE)
        assert [(await c.get(Authorization=token)).text for token in ("t1", "t2")] == ["1", "2"]


@scenario
async def test_a_partition_that_is_no_text_is_refused():
    async with calling(partition=lambda request: 7) as c:
        with pytest.raises(TypeError, match="partition gave int; a str"):
            await c.get()


@scenario
async def test_a_private_and_a_shared_transport_of_one_cache_do_not_see_each_other():
    async with calling() as c:
        c.origin.say(("Cache-Control", "max-age=60"))
        await c.get()
        async with c.another(shared=True) as shared:
            assert (await shared.get(URL)).text == "2"
        assert (await c.get()).text == "1"


@scenario
async def test_a_304_updates_the_fields_and_keeps_the_body():
    async with calling() as c:
        c.origin.say(("Cache-Control", "max-age=5"), TAGGED, ("X-A", "old"))
        await c.get()
        c.clock.advance(6)
        c.origin.say(("Cache-Control", "max-age=50"), TAGGED, ("X-A", "new"), status=304)
        confirmed = await c.get()
        assert c.origin.asked[-1].headers["if-none-match"] == '"t"'
        assert (confirmed.status_code, confirmed.text, confirmed.headers["x-a"]) == (200, "1", "new")
        assert (told(confirmed).answered, told(confirmed).stored) == (304, True)
        c.clock.advance(40)
        assert told(await c.get()).hit


@scenario
async def test_a_client_that_asks_for_a_304_is_given_one():
    async with calling() as c:
        c.origin.say(MINUTE, TAGGED)
        await c.get()
        answer = await c.get(If_None_Match='"t"')
        assert (answer.status_code, answer.content, len(c.origin.asked)) == (304, b"", 1)


@scenario
async def test_stale_while_revalidate_answers_at_once_and_fetches_behind():
    async with calling() as c:
        c.origin.say(("Cache-Control", "max-age=5, stale-while-revalidate=60"))
        await c.get()
        c.clock.advance(6)
        c.origin.gate.clear()
        stale = await c.get()
        assert (stale.text, told(stale).hit, told(stale).stale) == ("1", True, True)
        c.origin.gate.set()
        await until(lambda: c.transport.http.counts.refreshed)
        assert (await c.get()).text == "2"
        assert len(c.origin.asked) == 2


@scenario
async def test_a_stale_response_stands_in_for_a_call_that_fails_where_it_may():
    async with calling(stale_if_error="1m") as c:
        c.origin.say(("Cache-Control", "max-age=5"))
        await c.get()
        c.origin.say(("Cache-Control", "max-age=5, must-revalidate"))
        await c.get(URL + "?strict")
        c.clock.advance(6)
        c.origin.error = httpx.ConnectError("nobody is there")
        answer = await c.get()
        assert (answer.text, told(answer).detail) == ("1", "stale-if-error")
        with pytest.raises(httpx.ConnectError, match="nobody is there"):
            await c.get(URL + "?strict")
        c.clock.advance(60)
        with pytest.raises(httpx.ConnectError):
            await c.get()


@scenario
async def test_what_a_request_says_about_the_cache_is_obeyed():
    async with calling() as c:
        c.origin.say(("Cache-Control", "max-age=20"), TAGGED)
        assert (await c.get(Cache_Control="only-if-cached")).status_code == 504
        assert not c.origin.asked
        await c.get()
        c.clock.advance(10)
        for control, text in (
            ("max-age=10", "1"), ("max-age=9", "2"), ("min-fresh=20", "2"), ("min-fresh=21", "3"),
            ("no-cache", "4"), ("no-store", "5"), ("only-if-cached", "4"),
        ):  # fmt: skip
            assert (await c.get(Cache_Control=control)).text == text
        c.clock.advance(25)
        assert (await c.get(Cache_Control="max-stale=10")).text == "4"
        assert (await c.get(Cache_Control="max-stale=4")).text == "6"


@scenario
async def test_responses_differ_by_what_vary_names():
    async with calling() as c:
        c.origin.say(MINUTE, ("Vary", "X-Lang"))
        assert [(await c.get(X_Lang=one)).text for one in ("de", "en", "de", "en")] == ["1", "2", "1", "2"]
        c.origin.say(MINUTE, ("Vary", "*"))
        assert [(await c.get(URL + "?all")).text for _ in range(2)] == ["3", "4"]


@scenario
async def test_head_is_answered_from_a_stored_get_and_a_part_is_cut_from_it():
    async with calling() as c:
        c.origin.say(MINUTE, ("Content-Length", "5"), body=b"12345")
        await c.get()
        head = await c.client.head(URL)
        assert (head.headers["content-length"], head.content, told(head).hit) == ("5", b"", True)
        part = await c.get(Range="bytes=1-2")
        assert (part.status_code, part.content) == (206, b"23")
        await c.get(URL + "?other", Range="bytes=1-2")
        assert c.origin.asked[-1].headers["range"] == "bytes=1-2"
        assert len(c.origin.asked) == 2


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@scenario
async def test_a_change_drops_its_target_and_what_it_names_on_the_same_host(field):
    elsewhere = "http://other.example/b"
    async with calling() as c:
        c.origin.say(MINUTE)
        urls = [URL, "http://api.example/b", elsewhere]
        for fields in ({}, {"Authorization": "a"}):
            for url in urls:
                await c.get(url, **fields)
            c.origin.say((field, "/b"), status=201)
            await c.client.post(URL, content=b"x", headers=fields)
            c.origin.say((field, elsewhere), status=201)
            await c.client.post(URL + "?another", content=b"x", headers=fields)
            assert c.origin.asked[-1].headers["content-length"] == "1"
            c.origin.say(MINUTE)
            assert [told(await c.get(url, **fields)).hit for url in urls] == [False, False, True]
            c.origin.say(status=500)
            await c.client.post(URL, headers=fields)
            c.origin.say(MINUTE)
            assert told(await c.get(**fields)).hit


@scenario
async def test_redirects_are_responses_of_their_own():
    async with calling() as c:
        c.origin.say(MINUTE, ("Location", "/b"), status=301)
        await c.get()
        c.origin.say(MINUTE)
        answer = await c.client.get(URL, follow_redirects=True)
        assert (answer.text, answer.url.path, told(answer.history[0]).hit) == ("2", "/b", True)


@scenario
async def test_callers_who_want_the_same_at_once_make_one_call():
    async with calling() as c:
        c.origin.say(MINUTE)
        c.origin.gate.clear()
        callers = [asyncio.create_task(c.get()) for _ in range(20)]
        await until(lambda: c.origin.asked)
        c.origin.gate.set()
        answers = await asyncio.gather(*callers)
        assert {answer.text for answer in answers} == {"1"}
        assert len(c.origin.asked) == 1
        assert sum(told(answer).collapsed for answer in answers) == 19


@scenario
async def test_callers_with_different_credentials_never_wait_for_one_response():
    async with calling() as c:
        c.origin.say(MINUTE, body=lambda request: request.headers["authorization"].encode())
        c.origin.gate.clear()
        names = [f"user{number % 4}" for number in range(12)]
        callers = [asyncio.create_task(c.get(Authorization=name)) for name in names]
        await until(lambda: len(c.origin.asked) == 4)
        c.origin.gate.set()
        assert [(await caller).text for caller in callers] == names
        assert len(c.origin.asked) == 4


@pytest.mark.parametrize("leaver", [0, 1, 4])
@scenario
async def test_a_caller_who_is_cancelled_harms_no_other(leaver):
    async with calling() as c:
        c.origin.say(MINUTE)
        c.origin.gate.clear()
        callers = [asyncio.create_task(c.get()) for _ in range(5)]
        await until(lambda: c.origin.asked)
        callers[leaver].cancel()
        with pytest.raises(asyncio.CancelledError):
            await callers[leaver]
        c.origin.gate.set()
        others = [await caller for caller in callers if caller is not callers[leaver]]
        assert len({answer.text for answer in others}) == 1
        assert len(c.origin.asked) <= 2
        assert told(await c.get()).hit


@scenario
async def test_one_who_does_not_read_what_he_was_answered_holds_up_nobody():
    async with calling() as c:
        c.origin.say(MINUTE, body=[b"x" * 90_000] * 5)
        async with c.client.stream("GET", URL) as unread:
            again = await c.get()
            assert len(again.content) == 450_000
            assert len(await unread.aread()) == 450_000
        assert len(c.origin.asked) == 1


@scenario
async def test_what_is_not_stored_is_read_no_faster_than_the_client_reads():
    async with calling() as c:
        c.origin.say(("Cache-Control", "no-store"), body=[b"x" * 40_000] * 50)
        async with c.client.stream("GET", URL) as response:
            parts = response.aiter_raw()
            await anext(parts)
            for _ in range(200):
                await asyncio.sleep(0)
            assert c.origin.read <= 5
            assert sum([len(part) async for part in parts]) == 49 * 40_000
        assert c.origin.closed == 1


@scenario
async def test_a_stream_comes_as_it_is_sent_and_is_stored_when_it_is_whole():
    async with calling() as c:
        c.origin.say(MINUTE, body=[b"one ", b"two"])
        c.origin.middle.clear()
        async with c.client.stream("GET", URL) as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"one "
            c.origin.middle.set()
            assert await anext(parts) == b"two"
            assert [part async for part in parts] == []
        assert (await c.get()).text == "one two"
        assert len(c.origin.asked) == 1


@scenario
async def test_one_who_leaves_before_the_end_leaves_nothing_behind():
    async with calling() as c:
        c.origin.say(MINUTE, body=[b"one ", b"two"])
        c.origin.middle.clear()
        async with c.client.stream("GET", URL) as response:
            assert await anext(response.aiter_raw()) == b"one "
        assert c.origin.closed == 1
        c.origin.middle.set()
        assert not told(await c.get()).hit
        assert c.transport._calls._tasks == set()


@scenario
async def test_a_body_that_breaks_off_or_has_another_length_is_not_stored():
    async with calling() as c:
        c.origin.say(MINUTE, body=[b"half"])
        c.origin.breaks = httpx.RemoteProtocolError("broken off")
        with pytest.raises(httpx.RemoteProtocolError, match="broken off"):
            await c.get()
        c.origin.breaks = None
        c.origin.say(MINUTE, ("Content-Length", "9"))
        await c.get()
        c.origin.say(MINUTE)
        assert not told(await c.get()).hit
        assert len(c.origin.asked) == 3


@scenario
async def test_what_is_longer_than_the_limit_is_passed_on_whole_and_not_stored():
    async with calling(max_body=1000) as c:
        c.origin.say(MINUTE, body=[b"x" * 400] * 3)
        assert [len((await c.get()).content) for _ in range(2)] == [1200, 1200]
        assert len(c.origin.asked) == 2


@scenario
async def test_calls_that_do_not_mean_their_url_are_passed_on():
    async with calling() as c:
        c.origin.say(MINUTE)
        for fields, extensions in (
            ({"Host": "other.example"}, {}), ({"Upgrade": "websocket"}, {}), ({}, {"target": b"/b"}),
            ({}, {"sni_hostname": "other.example"}),
        ):  # fmt: skip
            for _ in range(2):
                answer = await c.client.get(URL, headers=fields, extensions=extensions)
                assert "tiercache" not in answer.extensions
        assert len(c.origin.asked) == 8


@scenario
async def test_errors_reach_the_caller_and_the_next_call_is_made():
    async with calling() as c:
        c.origin.say(MINUTE)
        c.origin.error = httpx.ReadTimeout("too slow")
        with pytest.raises(httpx.ReadTimeout) as caught:
            await c.get()
        assert caught.value.request.url == URL
        c.origin.error = None
        assert (await c.get()).text == "2"


@scenario
async def test_responses_are_dropped_by_their_url_whoever_asked_for_them():
    async with calling() as c:
        c.origin.say(MINUTE)
        for fields in ({}, {"Authorization": "a"}):
            await c.get(**fields)
            await c.get(URL + "?page=2", **fields)
        await c.transport.http.purge(URL)
        for fields in ({}, {"Authorization": "a"}):
            assert not told(await c.get(**fields)).hit
            assert told(await c.get(URL + "?page=2", **fields)).hit


@scenario
async def test_a_caller_who_is_cancelled_alone_ends_the_call():
    async with calling() as c:
        c.origin.gate.clear()
        caller = asyncio.create_task(c.get())
        await until(lambda: c.origin.asked)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert c.transport._calls._tasks == set()


@scenario
async def test_a_cache_that_nobody_opened_is_opened_and_closed_with_the_transport():
    class Closing(httpx.MockTransport):
        closed = 0

        async def aclose(self):
            self.closed += 1

    cache = cache_of()
    wrapped = Closing(lambda request: httpx.Response(200, headers=[MINUTE]))
    async with httpx.AsyncClient(transport=AsyncCacheTransport(cache, wrapped)) as client:
        assert [told(await client.get(URL)).hit for _ in range(2)] == [False, True]
        assert cache.is_open
    assert (cache.is_open, wrapped.closed) == (False, 1)


@scenario
async def test_closing_the_client_ends_what_is_under_way():
    async with calling() as c:
        c.origin.say(MINUTE)
        c.origin.gate.clear()
        waiting = asyncio.create_task(c.get())
        await until(lambda: c.origin.asked)
        await c.transport.aclose()
        with pytest.raises(httpx.ReadError):
            await waiting


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_body": "a lot"}, "a lot"), ({"keep": "never"}, "never"), ({"prefix": "a#b"}, "#"),
        ({"default_ttl": -1}, "more than zero"), ({"stale_if_error": "never"}, "never"),
    ],
)  # fmt: skip
def test_options_that_can_not_be_are_refused(options, what):
    with pytest.raises(ValueError, match=what):
        AsyncCacheTransport(None, httpx.MockTransport(lambda request: httpx.Response(200)), **options)
