"""The same for clients without an event loop, used by threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from http_cache.calling import URL, calling_from_threads, named, told
from http_cache.test_middleware import MINUTE
from servers import wait_until
from tiercache import Cache
from tiercache.testing import FakeClock
from tiercache_plugins.integrations.http.outgoing import CacheTransport

TAGGED = ("ETag", '"t"')


def test_responses_are_cached_as_they_are_for_an_event_loop():
    with calling_from_threads() as (client, origin, transport):
        origin.say(MINUTE, TAGGED, body=[b"one ", b"two"])
        assert [client.get(URL).text for _ in range(2)] == ["one two", "one two"]
        assert [told(client.get(URL)).hit, len(origin.asked), origin.closed] == [True, 1, 1]
        assert client.get(URL, headers=named({"If_None_Match": '"t"'})).status_code == 304
        transport.purge(URL)
        assert not told(client.get(URL)).hit
        client.put(URL, content=b"x")
        assert not told(client.get(URL)).hit


def test_no_credentials_find_the_responses_to_others_whichever_thread_asks():
    with calling_from_threads() as (client, origin, _):
        origin.say(MINUTE, body=lambda request: request.headers["authorization"].encode())

        def ask(number):
            name = f"user{number % 5}"
            return client.get(URL, headers={"Authorization": name}).text == name

        with ThreadPoolExecutor(10) as threads:
            assert all(threads.map(ask, range(200)))
        assert len(origin.asked) == 5


def test_threads_that_want_the_same_at_once_make_one_call():
    with calling_from_threads() as (client, origin, transport):
        gate = threading.Event()

        def body(request):
            assert gate.wait(30)
            return b"once"

        origin.say(MINUTE, body=body)
        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(client.get, URL) for _ in range(8)]
            # All of them are there before the origin answers.
            wait_until(lambda: transport._calls and len(transport._calls._tasks) == 8, "eight calls")
            gate.set()
            assert {one.result(30).text for one in asking} == {"once"}
        assert len(origin.asked) == 1


def test_one_who_does_not_read_what_he_was_answered_holds_up_nobody():
    with calling_from_threads() as (client, origin, _):
        origin.say(MINUTE, body=[b"x" * 90_000] * 5)
        with client.stream("GET", URL) as unread:
            assert len(client.get(URL).content) == 450_000
            assert len(unread.read()) == 450_000
        assert len(origin.asked) == 1


def test_one_who_leaves_before_the_end_leaves_nothing_behind_and_closes_the_response():
    with calling_from_threads() as (client, origin, transport):
        origin.say(("Cache-Control", "no-store"), body=[b"x" * 40_000] * 50)
        with client.stream("GET", URL) as response:
            next(response.iter_raw())
        wait_until(lambda: origin.closed == 1, "the response is closed")
        assert origin.read < 10
        assert transport._calls._tasks == set()


def test_errors_are_raised_in_the_thread_that_asked():
    with calling_from_threads(stale_if_error="1m") as (client, origin, _):
        origin.say(("Cache-Control", "max-age=60"))
        client.get(URL)
        origin.error = httpx.ConnectError("nobody is there")
        assert told(client.get(URL, headers={"Cache-Control": "no-cache"})).detail == "stale-if-error"
        with pytest.raises(httpx.ConnectError, match="nobody is there") as caught:
            client.get(URL + "?other")
        assert caught.value.request.url == URL + "?other"
        origin.error, origin.breaks = None, httpx.RemoteProtocolError("broken off")
        with pytest.raises(httpx.RemoteProtocolError, match="broken off"):
            client.get(URL + "?other")
        origin.breaks = None
        assert not told(client.get(URL + "?other")).hit


def test_an_application_in_this_process_may_ask_by_the_same_client():
    with Cache.open_sync({"route": {"responses": {"tiers": ["memory"]}}}) as cache:
        asked = []

        def answer(request):
            asked.append(request.url.path)
            if len(asked) == 1:
                return httpx.Response(200, headers=[MINUTE], text=client.get(URL).text + "!")
            return httpx.Response(200, headers=[MINUTE], text="inner")

        with httpx.Client(transport=CacheTransport(cache, httpx.MockTransport(answer))) as client:
            assert client.get(URL).text == "inner!"
            assert len(asked) == 2


def test_where_the_cache_is_closed_calls_are_made_without_it():
    with calling_from_threads() as (client, origin, transport):
        origin.say(MINUTE)
        client.get(URL)
        transport.http.cache.sync.close()
        assert [client.get(URL).text for _ in range(2)] == ["2", "3"]
        assert transport.http.counts.troubles == 2


def test_a_stale_response_is_answered_at_once_and_fetched_anew_behind():
    clock = FakeClock()
    with calling_from_threads(clock=clock) as (client, origin, transport):
        origin.say(("Cache-Control", "max-age=60, stale-while-revalidate=600"))
        client.get(URL)
        clock.advance(61)
        stale = client.get(URL)
        assert (stale.text, told(stale).stale) == ("1", True)
        wait_until(lambda: transport.http.counts.refreshed, "a newer response")
        assert client.get(URL).text == "2"
