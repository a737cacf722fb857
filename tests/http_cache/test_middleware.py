"""What the cache answers, what it asks the application, and what it never does."""

from __future__ import annotations

import asyncio
import functools

import pytest

from http_cache.talking import ask, until, web

MINUTE = ("Cache-Control", "max-age=60")
FORWARDED = b"x-forwarded-host"


def scenario(test):
    """Let a test be a coroutine."""

    @functools.wraps(test)
    def run(*args, **named):
        asyncio.run(asyncio.wait_for(test(*args, **named), 30))

    return run


@scenario
async def test_a_fresh_response_is_answered_from_the_cache_with_its_age():
    async with web() as w:
        w.origin.say(MINUTE, ("Content-Type", "text/plain"))
        first = await w.ask("/a")
        w.clock.advance(10)
        second = await w.ask("/a")
        assert (first.text, second.text, len(w.origin.asked)) == ("1", "1", 1)
        assert first["age"] is None
        assert second["age"] == "10"
        assert second["content-type"] == "text/plain"
        assert second["content-length"] == "1"
        assert first["cache-status"] == "tiercache; fwd=uri-miss; fwd-status=200; stored"
        assert second["cache-status"] == "tiercache; hit; ttl=50"
        w.clock.advance(51)
        assert (await w.ask("/a")).text == "2"


@scenario
async def test_path_query_host_and_scheme_are_part_of_the_key_as_they_were_sent():
    async with web() as w:
        w.origin.say(MINUTE)
        targets = ["/a", "/a?x=1", "/a?x=2", "/A", "/a/", "/%61", "/a%3Fx=1", "//a"]
        assert len({(await w.ask(target)).text for target in targets}) == len(targets)
        assert (await w.ask("/a", {"Host": "other.example"})).text == str(len(targets) + 1)
        assert (await w.ask("/a", {"Host": "SHOP.example:80"})).text == "1"


@scenario
async def test_a_target_that_no_key_can_be_built_from_is_passed_on():
    async with web() as w:
        w.origin.say(MINUTE)
        for target in ("/a#b", "/\xe9", "/a b", "/a?x=\x00"):
            first, second = await w.ask(target), await w.ask(target)
            assert first.text != second.text
        for headers in ([("Host", "a"), ("Host", "b")], {"Host": "a|b"}, {"Host": "evil/path"}):
            first, second = await w.ask("/h", headers), await w.ask("/h", headers)
            assert first.text != second.text


@scenario
async def test_a_very_long_target_is_cached_under_a_key_of_its_own():
    async with web() as w:
        w.origin.say(MINUTE)
        long = "/" + "x" * 5000
        answers = [(await w.ask(long + end)).text for end in ("", "", "y", "y")]
        assert answers == ["1", "1", "2", "2"]


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Original-URL", "Origin"])
@scenario
async def test_fields_that_change_answers_without_a_vary_poison_nobody(header):
    async with web() as w:
        w.origin.say(MINUTE, body=lambda scope: dict(scope["headers"]).get(header.lower().encode(), b"-"))
        assert (await w.ask("/a", {header: "evil.example"})).text == "evil.example"
        assert (await w.ask("/a")).text == "-"
        assert (await w.ask("/a", {header: "evil.example"})).hit
        assert (await w.ask("/a")).hit
        # The other way round, where the response without the field is there first.
        assert (await w.ask("/b")).text == "-"
        assert (await w.ask("/b", {header: "evil.example"})).text == "evil.example"
        assert [(await w.ask("/b", fields)).text for fields in ({}, {header: "c"}, {})] == ["-", "c", "-"]
        assert (await w.ask("/b", {header: "evil.example"})).hit
        assert (await w.ask("/b")).hit
        # A change drops all of them, whatever it came with.
        w.origin.say(status=204, body=b"")
        await w.ask("/b", {header: "d"}, method="PUT")
        w.origin.say(MINUTE)
        for fields in ({}, {header: "evil.example"}, {header: "c"}):
            assert not (await w.ask("/b", fields)).hit


@scenario
async def test_fields_that_change_answers_poison_nobody_who_waits_or_confirms():
    async with web() as w:
        evil = {"X-Forwarded-Host": "evil.example"}
        w.origin.say(MINUTE, ("ETag", '"v1"'), body=lambda scope: dict(scope["headers"]).get(FORWARDED, b"-"))
        for leader, follower in (({}, evil), (evil, {})):
            w.origin.gate.clear()
            count = len(w.origin.asked)
            asking = [asyncio.create_task(w.ask("/a", fields)) for fields in (leader, follower)]
            await until(lambda count=count: len(w.origin.asked) > count)
            w.origin.gate.set()
            shown = [answer.text for answer in await asyncio.gather(*asking)]
            assert shown == [fields.get("X-Forwarded-Host", "-") for fields in (leader, follower)]
            await w.http.purge_all()
        await w.ask("/b")
        w.clock.advance(61)
        assert (await w.ask("/b", evil)).text == "evil.example"
        assert "if-none-match" not in w.origin.fields()


@pytest.mark.parametrize(
    "headers",
    [
        [("Cache-Control", "no-store, max-age=60")],
        [("Cache-Control", "private, max-age=60")],
        [("Cache-Control", 'private="x", max-age=60')],
        [("Cache-Control", "max-age=0")],
        [("Cache-Control", "max-age=60, s-maxage=0")],
        [("Cache-Control", 'max-age=60, x="')],
        [MINUTE, ("Vary", "*")],
        [MINUTE, ("Vary", "a, *")],
        [MINUTE, ("Vary", "a b")],
        [MINUTE, ("Set-Cookie", "a=b")],
        [MINUTE, ("Content-Length", "7")],
        [MINUTE, ("Age", "61")],
        [MINUTE, ("Age", "-1")],
        [MINUTE, ("Age", "0"), ("Age", "0")],
        [("Expires", "0")],
        [MINUTE, ("Tiercache-Cache-Control", "no-store")],
        [],
    ],
    ids=str,
)
@scenario
async def test_what_may_not_be_stored_is_asked_for_each_time(headers):
    async with web(ttl=None) as w:
        w.origin.say(*headers)
        assert [(await w.ask("/a")).text for _ in range(3)] == ["1", "2", "3"]
        assert w.http.counts.stored == 0


@scenario
async def test_a_targeted_field_takes_the_place_of_cache_control():
    async with web(ttl=None) as w:
        w.origin.say(("Cache-Control", "no-store"), ("Tiercache-Cache-Control", "max-age=60"))
        assert [(await w.ask("/a")).text for _ in range(2)] == ["1", "1"]
        w.origin.say(("Cache-Control", "no-store"), ("Tiercache-Cache-Control", "Max-Age= 60"))
        assert [(await w.ask("/b")).text for _ in range(2)] == ["2", "3"]


@scenario
async def test_a_response_that_states_nothing_is_fresh_for_the_assumed_time():
    async with web(ttl=30.0) as w:
        w.origin.say()
        assert (await w.ask("/a")).text == "1"
        w.clock.advance(29)
        assert (await w.ask("/a")).text == "1"
        w.clock.advance(2)
        assert (await w.ask("/a")).text == "2"


@pytest.mark.parametrize("credential", ["Authorization", "Cookie", "X-API-Key"])
@scenario
async def test_what_states_nothing_is_neither_stored_for_credentials_nor_shown_to_them(credential):
    async with web(ttl=30.0) as w:
        w.origin.say()
        assert (await w.ask("/a", {credential: "mine"})).text == "1"
        assert (await w.ask("/a")).text == "2"
        assert (await w.ask("/a")).text == "2"
        assert (await w.ask("/a", {credential: "mine"})).text == "3"
        assert (await w.ask("/a", {credential: "other"})).text == "4"
        w.origin.say(status=500)
        assert [(await w.ask("/b")).text for _ in range(2)] == ["5", "6"]


@pytest.mark.parametrize("allowed", ["public", "s-maxage=60", "must-revalidate"])
@scenario
async def test_a_response_to_authorization_is_stored_where_it_says_so_alone(allowed):
    async with web() as w:
        mine = {"Authorization": "Bearer a"}
        w.origin.say(MINUTE)
        assert [(await w.ask("/a", mine)).text, (await w.ask("/a")).text] == ["1", "2"]
        w.origin.say(("Cache-Control", f"max-age=60, {allowed}"))
        assert [(await w.ask("/b", mine)).text, (await w.ask("/b")).text] == ["3", "3"]


@scenario
async def test_variants_are_kept_apart_and_dropped_together():
    async with web() as w:
        w.origin.say(MINUTE, ("Vary", "X-Lang, Accept"))
        de, en = {"X-Lang": "de"}, {"X-Lang": "en"}
        assert [(await w.ask("/a", h)).text for h in (de, en, {}, de, en, {})] == [
            "1",
            "2",
            "3",
            "1",
            "2",
            "3",
        ]
        assert (await w.ask("/a", {"X-Lang": "de", "X-Other": "1"})).hit
        assert not (await w.ask("/a", {"X-Lang": "de", "Accept": "x"})).hit
        w.origin.say(status=204)
        await w.ask("/a", method="PUT")
        w.origin.say(MINUTE, ("Vary", "X-Lang, Accept"))
        assert {(await w.ask("/a", h)).text for h in (de, en, {})} == {"6", "7", "8"}


@scenario
async def test_a_target_that_varies_by_more_than_was_known_mixes_nothing_up():
    async with web() as w:
        w.origin.body = lambda scope: repr(sorted(scope["headers"])).encode()
        one, two = {"A": "1", "B": "1"}, {"A": "1", "B": "2"}
        w.origin.say(MINUTE, ("Vary", "A"))
        await w.ask("/a", one)
        w.clock.advance(61)
        w.origin.say(MINUTE, ("Vary", "B"))
        for _ in range(2):
            for headers in (one, two):
                answer = await w.ask("/a", headers)
                assert (b"b", headers["B"].encode()) in eval(answer.text)
        assert (await w.ask("/a", one)).hit
        assert (await w.ask("/a", two)).hit


@scenario
async def test_lists_of_languages_are_told_apart_by_what_they_say_alone():
    async with web() as w:
        w.origin.say(MINUTE, ("Vary", "Accept-Language"))
        assert (await w.ask("/a", {"Accept-Language": "en, de;q=0.5"})).text == "1"
        assert (await w.ask("/a", {"Accept-Language": "EN,de; q=0.5"})).hit
        assert not (await w.ask("/a", {"Accept-Language": "de, en;q=0.5"})).hit


@scenario
async def test_clients_get_a_304_for_what_they_hold():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'), ("Content-Type", "text/plain"))
        await w.ask("/a")
        for tag in ('"v1"', 'W/"v1"', '"x", "v1"', "*"):
            answer = await w.ask("/a", {"If-None-Match": tag})
            assert (answer.status, answer.body) == (304, b"")
            assert (answer["etag"], answer["content-type"], answer["age"]) == ('"v1"', None, "0")
            assert answer["cache-control"] == "max-age=60"
        assert (await w.ask("/a", {"If-None-Match": '"v2"'})).status == 200
        changed = "Fri, 15 Jan 2027 07:00:00 GMT"
        w.origin.say(MINUTE, ("Last-Modified", changed))
        await w.ask("/b")
        assert (await w.ask("/b", {"If-Modified-Since": changed})).status == 304
        assert (await w.ask("/b", {"If-Modified-Since": "Fri, 15 Jan 2027 06:59:59 GMT"})).status == 200
        both = {"If-Modified-Since": changed, "If-None-Match": '"other"'}
        assert (await w.ask("/b", both)).status == 200


@scenario
async def test_a_stored_response_without_an_entity_tag_is_given_one():
    async with web() as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        tag = (await w.ask("/a"))["etag"]
        assert tag.startswith('W/"')
        assert (await w.ask("/a", {"If-None-Match": tag})).status == 304
        w.clock.advance(61)
        await w.ask("/a", {"If-None-Match": tag})
        # The application did not make it, so it is never asked about it by the cache itself.
        w.clock.advance(61)
        await w.ask("/a")
        assert "if-none-match" not in w.origin.fields()


@scenario
async def test_a_client_that_holds_the_new_response_already_gets_a_304_and_others_the_response():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'))
        assert (await w.ask("/a", {"If-None-Match": '"v1"'})).status == 304
        assert (await w.ask("/a")).text == "1"


@scenario
async def test_a_stale_response_is_confirmed_by_the_application():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'), ("X-A", "1"), ("X-B", "1"))
        await w.ask("/a")
        w.clock.advance(61)
        w.origin.say(("Cache-Control", "max-age=90"), ("ETag", '"v1"'), ("X-A", "2"), status=304)
        second = await w.ask("/a")
        assert (second.status, second.text, second["x-a"], second["x-b"]) == (200, "1", "2", "1")
        assert w.origin.fields()["if-none-match"] == '"v1"'
        assert second["cache-status"].startswith("tiercache; fwd=stale; fwd-status=304")
        w.clock.advance(89)
        third = await w.ask("/a")
        assert third.hit
        assert third["x-a"] == "2"
        assert (await w.ask("/a", {"If-None-Match": '"v1"'})).status == 304


@scenario
async def test_a_stale_response_that_changed_is_replaced():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'))
        await w.ask("/a")
        w.clock.advance(61)
        w.origin.say(MINUTE, ("ETag", '"v2"'))
        assert [(await w.ask("/a")).text for _ in range(2)] == ["2", "2"]


@scenario
async def test_no_cache_is_stored_and_confirmed_each_time():
    async with web() as w:
        w.origin.say(("Cache-Control", "no-cache"), ("ETag", '"v1"'), ("Content-Type", "text/plain"))
        await w.ask("/a")
        w.origin.say(("Cache-Control", "no-cache"), ("ETag", '"v1"'), status=304)
        for number in (2, 3, 4):
            answer = await w.ask("/a")
            assert (answer.status, answer.text, len(w.origin.asked)) == (200, "1", number)


@scenario
async def test_no_cache_is_confirmed_however_fresh_it_says_it_is():
    async with web() as w:
        w.origin.say(("Cache-Control", "no-cache, max-age=60"), ("ETag", '"v1"'))
        assert [(await w.ask("/a")).text for _ in range(2)] == ["1", "2"]


@scenario
async def test_a_date_that_a_confirmation_does_not_repeat_ages_nothing():
    async with web() as w:
        date = "Fri, 15 Jan 2027 08:00:00 GMT"
        w.origin.say(MINUTE, ("ETag", '"v1"'), ("Date", date))
        await w.ask("/a")
        w.clock.advance(70)
        w.origin.say(MINUTE, ("ETag", '"v1"'), status=304)
        await w.ask("/a")
        answer = await w.ask("/a")
        assert (answer.hit, answer["age"]) == (True, "0")


@scenario
async def test_what_one_client_made_the_cache_ask_for_and_drop_is_gone_for_all():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'))
        await w.ask("/a")
        w.origin.say(("Cache-Control", "private"), status=304)
        assert (await w.ask("/a", {"Cache-Control": "no-cache"})).text == "1"
        w.origin.say(MINUTE)
        assert (await w.ask("/a")).text == "3"


@scenario
async def test_what_a_confirmation_forbids_is_stored_no_more():
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'))
        await w.ask("/a")
        w.clock.advance(61)
        w.origin.say(("Cache-Control", "no-store"), ("ETag", '"v1"'), status=304)
        assert (await w.ask("/a")).text == "1"
        w.origin.say(MINUTE, ("ETag", '"v1"'))
        assert (await w.ask("/a")).text == "3"


@scenario
async def test_head_is_answered_from_get_and_never_stored():
    async with web() as w:
        w.origin.say(MINUTE)
        assert (await w.ask("/a", method="HEAD")).status == 200
        assert (await w.ask("/a")).text == "2"
        head = await w.ask("/a", method="HEAD")
        assert (head.body, head["content-length"], head.hit) == (b"", "1", True)


@pytest.mark.parametrize(
    ("asked", "status", "body", "span"),
    [
        ("bytes=0-1", 206, "01", "bytes 0-1/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=5-99", 206, "56789", "bytes 5-9/10"),
        ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=-0", 416, "", "bytes */10"),
        ("bytes=3-1", 200, "0123456789", None),
    ],
)
@scenario
async def test_one_range_is_cut_from_a_stored_response(asked, status, body, span):
    async with web() as w:
        w.origin.say(MINUTE, ("ETag", '"v1"'), body=b"0123456789")
        await w.ask("/a")
        answer = await w.ask("/a", {"Range": asked})
        assert (answer.status, answer.text, answer["content-range"]) == (status, body, span)
        assert answer["content-length"] == str(len(body))
        assert (await w.ask("/a", {"Range": asked, "If-Range": '"v2"'})).text == "0123456789"
        assert len(w.origin.asked) == 1


@scenario
async def test_ranges_without_a_stored_response_and_odd_ones_are_passed_on():
    async with web() as w:
        w.origin.say(MINUTE, ("Content-Range", "bytes 0-1/10"), status=206, body=b"01")
        for _ in range(2):
            assert (await w.ask("/a", {"Range": "bytes=0-1"})).status == 206
        assert (len(w.origin.asked), w.http.counts.stored) == (2, 0)
        w.origin.say(MINUTE, body=b"0123456789")
        await w.ask("/a")
        await w.ask("/a", {"Range": "bytes=0-1,4-5"})
        assert w.origin.fields()["range"] == "bytes=0-1,4-5"


@pytest.mark.parametrize(
    ("wish", "asks"),
    [
        ("no-cache", True), ("max-age=0", True), ("max-age=5", True), ("min-fresh=55", True),
        ("max-age=20", False), ("min-fresh=40", False), ("max-stale", False), ("", False), ("odd", False),
    ],
)  # fmt: skip
@scenario
async def test_clients_may_ask_for_fresher_responses(wish, asks):
    async with web() as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        w.clock.advance(10)
        assert (await w.ask("/a", {"Cache-Control": wish})).text == ("2" if asks else "1")
        # What was fetched for one is there for all.
        assert (await w.ask("/a")).text == ("2" if asks else "1")
    async with web(heed_requests=False) as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        w.clock.advance(10)
        assert (await w.ask("/a", {"Cache-Control": wish})).text == "1"


@scenario
async def test_no_store_in_a_request_touches_nothing_and_only_if_cached_asks_nobody():
    async with web() as w:
        w.origin.say(MINUTE)
        assert (await w.ask("/a", {"Cache-Control": "only-if-cached"})).status == 504
        assert (await w.ask("/a", {"Cache-Control": "no-store"})).text == "1"
        assert (await w.ask("/a")).text == "2"
        assert (await w.ask("/a", {"Cache-Control": "only-if-cached"})).text == "2"
        assert (await w.ask("/a", {"Pragma": "no-cache"})).text == "3"


@scenario
async def test_a_stale_response_serves_while_a_new_one_is_fetched_once():
    async with web() as w:
        w.origin.say(("Cache-Control", "max-age=60, stale-while-revalidate=30"))
        await w.ask("/a")
        w.clock.advance(70)
        w.origin.gate.clear()
        stale = [await w.ask("/a") for _ in range(5)]
        assert {answer.text for answer in stale} == {"1"}
        assert stale[0]["cache-status"] == "tiercache; hit; ttl=-10"
        await until(lambda: len(w.origin.asked) == 2)
        w.origin.gate.set()
        await until(lambda: w.http.counts.refreshed)
        assert ((await w.ask("/a")).text, len(w.origin.asked)) == ("2", 2)
        w.clock.advance(91)
        assert (await w.ask("/a")).text == "3"


@pytest.mark.parametrize("failure", [500, 502, 503, 504, RuntimeError("down")])
@scenario
async def test_a_stale_response_stands_in_for_an_error_where_it_says_so(failure):
    async with web() as w:
        w.origin.say(("Cache-Control", "max-age=60, stale-if-error=100"))
        await w.ask("/a")
        w.clock.advance(70)
        if isinstance(failure, int):
            w.origin.say(status=failure)
        else:
            w.origin.error = failure
        answer = await w.ask("/a")
        assert (answer.status, answer.text) == (200, "1")
        w.clock.advance(100)
        if isinstance(failure, int):
            assert (await w.ask("/a")).status == failure
        else:
            with pytest.raises(RuntimeError):
                await w.ask("/a")


@scenario
async def test_must_revalidate_lets_nothing_stale_through():
    async with web(stale_if_error=100.0) as w:
        text = "max-age=60, must-revalidate, stale-if-error=100, stale-while-revalidate=100"
        w.origin.say(("Cache-Control", text), ("ETag", '"v1"'))
        await w.ask("/a")
        w.clock.advance(61)
        w.origin.say(status=503, body=b"down")
        assert (await w.ask("/a")).status == 503
        assert (await w.ask("/a", {"Cache-Control": "max-stale"})).status == 503


@scenario
async def test_a_hundred_requests_at_once_ask_the_application_once():
    async with web() as w:
        w.origin.say(MINUTE)
        w.origin.gate.clear()
        asking = [asyncio.create_task(w.ask("/a")) for _ in range(100)]
        await until(lambda: w.origin.asked)
        w.origin.gate.set()
        answers = await asyncio.gather(*asking)
        assert {answer.text for answer in answers} == {"1"}
        assert (len(w.origin.asked), w.http.counts.collapsed) == (1, 99)


@pytest.mark.parametrize(
    "headers",
    [[("Cache-Control", "private")], [MINUTE, ("Set-Cookie", "a=b")], [("Cache-Control", "no-store")]],
)
@scenario
async def test_those_who_wait_for_a_response_that_is_not_theirs_ask_for_themselves(headers):
    async with web() as w:
        w.origin.say(*headers, body=lambda scope: dict(scope["headers"])[b"x-me"])
        w.origin.gate.clear()
        asking = [asyncio.create_task(w.ask("/a", {"X-Me": str(number)})) for number in range(20)]
        await until(lambda: w.origin.asked)
        w.origin.gate.set()
        assert [answer.text for answer in await asyncio.gather(*asking)] == [str(n) for n in range(20)]


@scenario
async def test_nobody_waits_for_a_target_that_was_private_a_moment_ago():
    async with web() as w:
        w.origin.say(("Cache-Control", "private"))
        await w.ask("/a")
        w.origin.gate.clear()
        asking = [asyncio.create_task(w.ask("/a")) for _ in range(5)]
        await until(lambda: len(w.origin.asked) == 6)
        w.origin.gate.set()
        await asyncio.gather(*asking)
        w.origin.say(MINUTE)
        await w.ask("/a")
        await w.ask("/a")
        # It turned out to be worth it again.
        assert (await w.ask("/a")).hit


@scenario
async def test_a_client_who_leaves_takes_nothing_from_those_who_wait():
    async with web() as w:
        w.origin.say(MINUTE)
        w.origin.gate.clear()
        leader = asyncio.create_task(w.ask("/a"))
        await until(lambda: w.origin.asked)
        others = [asyncio.create_task(w.ask("/a")) for _ in range(5)]
        await asyncio.sleep(0)
        leader.cancel()
        w.origin.gate.set()
        answers = await asyncio.gather(*others)
        assert {answer.status for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert len(w.origin.asked) == 2
        assert leader.cancelled()


@scenario
async def test_one_who_waits_and_leaves_does_not_end_the_ask():
    async with web() as w:
        w.origin.say(MINUTE)
        w.origin.gate.clear()
        leader, other = asyncio.create_task(w.ask("/a")), asyncio.create_task(w.ask("/a"))
        await until(lambda: w.origin.asked)
        other.cancel()
        w.origin.gate.set()
        assert (await leader).text == "1"
        assert (await w.ask("/a")).hit


@scenario
async def test_a_body_is_passed_on_as_it_comes_and_stored():
    async with web() as w:
        w.origin.say(MINUTE, body=[b"a", b"b", b"c"])
        first = await w.ask("/a")
        assert (first.text, first.parts) == ("abc", 3)
        assert (await w.ask("/a")).text == "abc"
        assert len(w.origin.asked) == 1


@scenario
async def test_what_grows_too_long_is_passed_on_and_not_stored():
    async with web(max_body=10) as w:
        w.origin.say(MINUTE, body=[b"12345", b"67890", b"1"])
        assert [(await w.ask("/a")).text for _ in range(2)] == ["12345678901"] * 2
        w.origin.say(MINUTE, ("Content-Length", "11"), body=[b"12345678901"])
        assert (await w.ask("/b")).complete
        w.origin.say(MINUTE, body=[b"12345", b"67890"])
        assert [(await w.ask("/c")).text for _ in range(2)] == ["1234567890"] * 2
        assert len(w.origin.asked) == 4


@scenario
async def test_a_body_that_breaks_off_is_not_stored():
    async with web() as w:

        async def breaks(scope, receive, send):
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=9")]}
            )
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("torn")

        async def stops(scope, receive, send):
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=9")]}
            )
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

        w.origin.handler = breaks
        with pytest.raises(RuntimeError, match="torn"):
            await w.ask("/a")
        w.origin.handler = stops
        assert not (await w.ask("/a")).complete
        w.origin.handler = None
        w.origin.say(MINUTE, body=b"whole")
        assert (await w.ask("/a")).text == "whole"


@scenario
async def test_a_body_whose_client_is_gone_is_stored_for_others():
    async with web() as w:
        w.origin.say(MINUTE, body=[b"a", b"b"])

        def gone(message):
            if message["type"] == "http.response.body":
                raise OSError("broken pipe")

        await w.ask("/a", on=gone)
        assert (await w.ask("/a")).text == "ab"
        assert len(w.origin.asked) == 1


@scenario
async def test_an_application_that_watches_for_the_end_of_the_client_goes_on_while_its_answer_is_stored():
    async with web() as w:
        leave = asyncio.Event()

        async def streams(scope, receive, send):
            await receive()
            watching = asyncio.create_task(receive())
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=9")]}
            )
            for part in (b"a", b"b"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                leave.set()
                for _ in range(5):
                    await asyncio.sleep(0)
                if watching.done():
                    return
            await send({"type": "http.response.body", "body": b"c"})
            assert (await watching)["type"] == "http.disconnect"

        w.origin.handler = streams
        await w.ask("/a", leave=leave)
        assert (await w.ask("/a")).text == "abc"
        assert len(w.origin.asked) == 1


@scenario
async def test_events_are_passed_on_one_by_one_and_keep_nobody_waiting():
    async with web() as w:
        more = asyncio.Event()

        async def events(scope, receive, send):
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"max-age=60")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await more.wait()
            await send({"type": "http.response.body", "body": b"data: 2\n\n"})

        w.origin.handler = events
        seen = []
        first = asyncio.create_task(w.ask("/events", on=seen.append))
        await until(lambda: len(seen) == 2)
        second = asyncio.create_task(w.ask("/events"))
        await until(lambda: len(w.origin.asked) == 2)
        more.set()
        assert {(await first).text, (await second).text} == {"data: 1\n\ndata: 2\n\n"}
        assert w.http.counts.stored == 0


@scenario
async def test_the_application_is_offered_no_way_around_the_cache():
    async with web() as w:
        w.origin.say(MINUTE)
        offered = {"http.response.pathsend": {}, "http.response.trailers": {}, "tls": {}}
        await w.ask("/a", extensions=offered)
        assert set(w.origin.asked[0]["extensions"]) == {"tls"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH"])
@scenario
async def test_a_change_drops_its_target_and_what_it_points_to_on_the_same_host(method):
    async with web() as w:
        w.origin.say(MINUTE)
        targets = ["/a", "/a?x=1", "/made", "/place?x=1", "/far"]
        for target in targets:
            await w.ask(target)
        w.origin.say(
            ("Location", "made"), ("Content-Location", "http://shop.example:80/place?x=1"),
            ("Content-Location", "http://other.example/far"), status=201,
        )  # fmt: skip
        await w.ask("/a", method=method)
        w.origin.say(MINUTE)
        assert [(await w.ask(target)).hit for target in targets] == [False, True, False, False, True]


@pytest.mark.parametrize("odd", ["\x7f", "//[", "\xff", "http://shop.example:x/", "", "#", "x" * 9000])
@scenario
async def test_a_change_that_points_nowhere_drops_its_target_all_the_same(odd):
    async with web() as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        w.origin.say(("Location", odd), ("Content-Location", odd), status=201)
        await w.ask("/a", method="POST")
        w.origin.say(MINUTE)
        assert not (await w.ask("/a")).hit
        assert w.http.counts.troubles == 0


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
@scenario
async def test_a_change_that_failed_drops_nothing(status):
    async with web() as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        w.origin.say(status=status)
        await w.ask("/a", method="POST")
        assert (await w.ask("/a")).hit


@pytest.mark.parametrize("vary", [[], [("Vary", "X-Lang")]])
@scenario
async def test_what_was_on_its_way_when_a_change_came_is_not_stored(vary):
    async with web() as w:
        w.origin.say(MINUTE, *vary, body=b"old")
        w.origin.gate.clear()
        reading = asyncio.create_task(w.ask("/a"))
        await until(lambda: w.origin.asked)
        change = asyncio.create_task(w.ask("/a", method="PUT"))
        await until(lambda: len(w.origin.asked) == 2)
        w.origin.handler = changed
        await w.ask("/a", method="PUT")
        w.origin.handler = None
        w.origin.say(MINUTE, *vary, body=b"new")
        late = asyncio.create_task(w.ask("/a"))
        await until(lambda: len(w.origin.asked) == 4)
        w.origin.gate.set()
        assert (await reading).text == "old"
        await change
        assert (await late).text == "new"
        assert (await w.ask("/a")).text == "new"


async def changed(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("how", ["url", "path", "prefix", "all"])
@scenario
async def test_purging_drops_what_is_stored_and_what_is_on_its_way(how):
    async with web() as w:
        w.origin.say(MINUTE, body=b"old")
        await w.ask("/items/1?x=1")
        await w.ask("/other")
        w.origin.gate.clear()
        reading = asyncio.create_task(w.ask("/items/1?y=2"))
        await until(lambda: len(w.origin.asked) == 3)
        purges = {
            "url": lambda: w.http.purge("http://shop.example/items/1?x=1"),
            "path": lambda: w.http.purge("/items/1"),
            "prefix": lambda: w.http.purge(prefix="/items/"),
            "all": w.http.purge_all,
        }
        await purges[how]()
        w.origin.gate.set()
        await reading
        w.origin.say(MINUTE, body=b"new")
        assert (await w.ask("/items/1?x=1")).text == "new"
        assert (await w.ask("/items/1?y=2")).text == ("old" if how == "url" else "new")
        assert (await w.ask("/other")).text == ("new" if how == "all" else "old")


@scenario
async def test_a_purge_that_names_nothing_is_an_error():
    async with web() as w:
        for wrong in (
            {},
            {"prefix": "items"},
            {"url": "items"},
            {"url": "/a?b"},
            {"prefix": "/" + "x" * 700},
        ):
            with pytest.raises(ValueError, match="purge|accepted"):
                await w.http.purge(**wrong)


@scenario
async def test_an_application_that_asks_itself_for_the_same_target_is_answered():
    async with web() as w:
        inner = []

        async def asks(scope, receive, send):
            if len(w.origin.asked) == 1:
                inner.append(await ask(w.app, "/a"))
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=9")]}
            )
            await send({"type": "http.response.body", "body": b"x"})

        w.origin.handler = asks
        assert (await w.ask("/a")).text == "x"
        assert inner[0].text == "x"


@scenario
async def test_a_cache_that_fails_leaves_the_application_to_answer(caplog):
    async with web() as w:
        w.origin.say(MINUTE)
        await w.ask("/a")
        await w.cache.close()
        assert [(await w.ask("/a")).text for _ in range(2)] == ["2", "3"]
        assert (await w.ask("/a", method="POST")).status == 200
        assert w.http.counts.troubles == 3
        assert len([record for record in caplog.records if record.name == "tiercache.http"]) == 1


@scenario
async def test_what_a_tier_cannot_store_is_passed_on(tmp_path, caplog):
    disk = {"disk": {"type": "sqlite", "path": str(tmp_path / "c.db"), "serializer": "json"}}
    async with web({"tier": disk, "route": {"r": {"tiers": ["disk"]}}}) as w:
        w.origin.say(MINUTE)
        assert [(await w.ask("/a")).text for _ in range(2)] == ["1", "2"]
        assert w.http.counts.troubles > 0


@scenario
async def test_responses_survive_in_a_file(tmp_path):
    disk = {"disk": {"type": "sqlite", "path": str(tmp_path / "c.db")}}
    pipeline = {"tier": disk, "route": {"r": {"tiers": ["disk"]}}}
    for hit in (False, True):
        async with web(pipeline) as w:
            w.origin.say(MINUTE, ("Vary", "X-Lang"), ("X-Raw", "\xe9"), body=b"\x00\xff")
            answer = await w.ask("/a", {"X-Lang": "de"})
            assert (answer.hit, answer.body, answer["x-raw"]) == (hit, b"\x00\xff", "\xe9")


@pytest.mark.parametrize(
    "value",
    [None, 5, "x", (), ("tiercache-http-1",), ("tiercache-http-1", (), "", (1,)),
     ("tiercache-http-1", (3,), "", None), {"a": 1}],
    ids=str,
)  # fmt: skip
@scenario
async def test_what_is_no_stored_response_is_a_miss(value):
    async with web() as w:
        w.origin.say(MINUTE)
        await w.cache.set("api:/a|http://shop.example", value)
        assert (await w.ask("/a")).text == "1"


@scenario
async def test_other_connections_and_requests_with_a_body_are_left_alone():
    async with web() as w:
        w.origin.say(MINUTE)
        assert [(await w.ask("/a", {"Content-Length": "3"})).text for _ in range(2)] == ["1", "2"]
        assert [(await w.ask("/a", method="OPTIONS")).text for _ in range(2)] == ["3", "4"]
        passed = []

        async def socket(scope, receive, send):
            passed.append(scope["type"])

        w.origin.handler = socket
        await w.app({"type": "websocket"}, None, None)
        assert passed == ["websocket"]
