"""Whatever applications answer and clients ask: nobody is shown what is not for him, or is out of date."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from http_cache.talking import Answer, until, web

TTL = 20.0
CONTROLS = [
    None, "max-age=10", "max-age=10, public", "private, max-age=10", "no-store", "no-cache", "s-maxage=10",
    "max-age=10, must-revalidate", "max-age=5, stale-while-revalidate=5", "max-age=5, stale-if-error=9",
    "public", 'max-age=10, x="', "max-age=10, max-age=99",
]  # fmt: skip
VARIES = [None, "X-Lang", "Cookie", "Authorization", "X-Lang, Cookie", "*"]
SHARED = ("public", "s-maxage", "must-revalidate")

said = st.fixed_dictionaries(
    {
        "control": st.sampled_from(CONTROLS), "vary": st.sampled_from(VARIES),
        "cookie": st.sampled_from([False, False, False, True]), "tag": st.sampled_from([None, '"t"']),
        "status": st.sampled_from([200, 200, 200, 404, 503]),
    }
)  # fmt: skip
asked = st.fixed_dictionaries(
    {
        "Authorization": st.sampled_from([None, None, "ada", "bob"]),
        "Cookie": st.sampled_from([None, None, "s=ada", "s=bob"]),
        "X-Lang": st.sampled_from([None, "de", "en"]),
        "Cache-Control": st.sampled_from([None, None, None, "no-cache", "max-age=3", "max-stale=2"]),
    }
).map(lambda fields: {name: value for name, value in fields.items() if value is not None})
steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), said),
        st.tuples(st.just("get"), asked),
        st.tuples(st.just("together"), st.lists(asked, min_size=2, max_size=4)),
        st.tuples(st.just("put"), asked),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0, 6.0, 11.0])),
    ),
    min_size=3, max_size=25,
)  # fmt: skip


@dataclass
class Shop:
    """An origin that remembers what it answered to whom, and judges what is shown to others."""

    web: Any
    says: dict[str, Any] = field(
        default_factory=lambda: {
            "control": "max-age=10",
            "vary": None,
            "cookie": False,
            "tag": None,
            "status": 200,
        }
    )
    made: list[dict[str, Any]] = field(default_factory=list)
    version: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            self.version += 1
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        says = self.says
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        made = {"fields": fields, "says": says, "version": self.version, "at": self.web.clock()}
        await asyncio.sleep(0)
        headers = [(b"content-type", b"text/plain")]
        for name, value in (
            ("cache-control", says["control"]),
            ("vary", says["vary"]),
            ("etag", says["tag"]),
        ):
            if value is not None:
                headers.append((name.encode(), value.encode()))
        if says["cookie"]:
            headers.append((b"set-cookie", b"s=new"))
        self.made.append(made)
        body = json.dumps({"number": len(self.made) - 1}).encode()
        await send({"type": "http.response.start", "status": says["status"], "headers": headers})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": body})

    def judge(self, answer: Answer, request: dict[str, str], known: int, version: int) -> None:
        """Assert that *answer* may be shown to *request*; *known* answers were made before it was sent."""
        number = json.loads(answer.body)["number"]
        made = self.made[number]
        wanted = {name.lower(): value for name, value in request.items()}
        own = {name: value for name, value in made["fields"].items() if name not in {"host", "if-none-match"}}
        if own == wanted and number >= known:
            return
        says, fields = made["says"], made["fields"]
        control = says["control"] or ""
        assert not any(word in control for word in ("no-store", "private", 'x="')), "forbidden"
        assert not says["cookie"], "a cookie was shown to another"
        assert says["vary"] != "*"
        for name in (says["vary"] or "").lower().split(", "):
            assert fields.get(name) == wanted.get(name), f"a variant by {name}"
        if "authorization" in fields:
            assert any(word in control for word in SHARED), "an answer to an authorization"
        stated = any(word in control for word in ("max-age", "s-maxage"))
        if not stated:
            assert "public" in control or not {"authorization", "cookie"} & set(fields), (
                "assumed, and personal"
            )
            assert not {"authorization", "cookie"} & (
                set(wanted) - set((says["vary"] or "").lower().split(", "))
            )
        assert made["version"] >= version, "changed before it was asked for"
        lived = {"5": 5.0, "1": 10.0}.get(control.partition("max-age=")[2][:1], TTL)
        extra = 9.0 if "stale-if-error" in control else 5.0 if "stale-while" in control else 0.0
        extra = max(extra, 2.0 if "max-stale" in wanted.get("cache-control", "") else 0.0)
        if "must-revalidate" in control or "s-maxage" in control:
            extra = 0.0
        assert self.web.clock() - made["at"] <= lived + extra, "too old"
        assert "no-cache" not in control, "not without being asked"


@settings(max_examples=120, deadline=None)
@given(steps)
def test_nobody_is_shown_what_is_not_for_him_or_out_of_date(script):
    asyncio.run(asyncio.wait_for(play(script), 60))


async def play(script):
    async with web(ttl=TTL) as w:
        shop = Shop(w)
        w.origin.handler = shop
        for what, given_ in script:
            if what == "say":
                shop.says = given_
            elif what == "wait":
                w.clock.advance(given_)
            elif what == "put":
                await w.ask("/a", given_, method="PUT")
            else:
                requests = [given_] if what == "get" else given_
                known, version = len(shop.made), shop.version
                answers = await asyncio.gather(*(w.ask("/a", request) for request in requests))
                for answer, request in zip(answers, requests, strict=True):
                    shop.judge(answer, request, known, version)
            await until(lambda: not w.app._serving._leading._behind)
        assert w.http.counts.troubles == 0


header = st.tuples(
    st.sampled_from(
        ["cache-control", "vary", "etag", "age", "date", "expires", "last-modified", "content-length",
         "if-none-match", "if-modified-since", "range", "if-range", "accept-language", "cookie", "host",
         "authorization", "set-cookie", "location", "content-location", "connection", "content-type",
         "tiercache-cache-control", "x-forwarded-host"]
    ),
    st.one_of(
        st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30),
        st.text('max-age=019,"* \\;/W-:bytesnoche', max_size=30),
        st.sampled_from(["max-age=60", '"a"', "*", "bytes=0-", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "//["]),
    ),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(header, max_size=6), st.lists(header, max_size=6), st.sampled_from(["GET", "HEAD", "PUT", "X"]),
    st.sampled_from([200, 204, 301, 304, 404, 503]),
)  # fmt: skip
def test_hostile_fields_never_break_an_answer(request_fields, response_fields, method, status):
    async def run() -> None:
        async with web() as w:
            w.origin.say(*response_fields, status=status, body=b"body")
            for _ in range(2):
                answer = await w.ask("/a", request_fields, method)
                assert answer.status in {status, 200, 206, 304, 416, 504}
                w.clock.advance(30)
            assert w.http.counts.troubles == 0

    asyncio.run(run())
