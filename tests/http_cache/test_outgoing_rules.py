"""Whatever origins say and whoever asks: what is fresh is what RFC 9111 says, and nobody finds another's."""

from __future__ import annotations

import asyncio
import email.utils
from dataclasses import dataclass, field

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from http_cache.calling import URL, calling, told

START = 1_800_000_000.0


def date(seconds: float) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


spans = st.none() | st.integers(0, 60)


@given(
    shared=st.booleans(), s_maxage=spans, max_age=spans, expires=st.none() | st.integers(-30, 60), age=spans,
    late=spans, default=st.none() | st.integers(1, 40), passed=st.integers(0, 90),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_response_is_a_hit_exactly_while_it_is_fresh(
    shared, s_maxage, max_age, expires, age, late, default, passed
):
    """RFC 9111, 4.2: fresh while freshness_lifetime > current_age, as the formulas there give both."""
    made = START - (late or 0)
    headers = [("Date", date(made))]
    stated = {"s-maxage": s_maxage, "max-age": max_age}
    if text := ", ".join(f"{name}={delta}" for name, delta in stated.items() if delta is not None):
        headers.append(("Cache-Control", text))
    if expires is not None:
        headers.append(("Expires", date(made + expires)))
    if age is not None:
        headers.append(("Age", str(age)))
    lifetimes = [
        s_maxage if shared else None,
        max_age,
        None if expires is None else max(expires, 0),
        default,
        0,
    ]
    lifetime = next(one for one in lifetimes if one is not None)
    current = max(late or 0, age or 0) + passed

    async def main():
        async with calling(shared=shared, default_ttl=default) as c:
            c.clock.advance(START - c.clock())
            c.origin.say(*headers)
            await c.get()
            c.clock.advance(passed)
            answer = await c.get()
            assert told(answer).hit is (lifetime > current), (lifetime, current)
            if told(answer).hit:
                assert int(answer.headers["age"]) == current

    asyncio.run(main())


CONTROLS = [
    None, "max-age=10", "max-age=10, public", "private, max-age=10", "no-store", "no-cache", "s-maxage=10",
    "max-age=10, must-revalidate", "max-age=5, stale-while-revalidate=9", "max-age=5, stale-if-error=9",
]  # fmt: skip
PERMITS = ("public", "s-maxage", "must-revalidate")
VARIES = [None, "X-Lang", "Authorization", "*"]
who = st.sampled_from([None, "ada", "bob", "eve"])
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            st.tuples(st.sampled_from(CONTROLS), st.sampled_from(VARIES), st.sampled_from([200, 200, 503])),
        ),
        st.tuples(
            st.just("get"), st.lists(st.tuples(who, st.sampled_from([None, "de"])), min_size=1, max_size=4)
        ),
        st.tuples(st.just("post"), who),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 6.0, 11.0])),
    ),
    min_size=3, max_size=25,
)  # fmt: skip


@dataclass
class Api:
    """Answers with whom it answers, and which answer that is; confirms what it answered to the same."""

    control: str | None = "max-age=10"
    vary: str | None = None
    status: int = 200
    said: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By the text of an answer to whom it was given, and what its Cache-Control said."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        user = request.headers.get("authorization", "-")
        tag = request.headers.get("if-none-match", "")
        headers = {"etag": f'"{user}"'}
        if self.control:
            headers["cache-control"] = self.control
        if self.vary:
            headers["vary"] = self.vary
        if request.method == "GET" and self.status == 200 and tag == f'"{user}"':
            return httpx.Response(304, headers=headers)
        text = f"{user} {len(self.said)}"
        self.said[text] = (user, self.control)
        return httpx.Response(self.status, headers=headers, text=text)


def run(steps, shared, allowed):
    async def main():
        async with calling(shared=shared, default_ttl="20s") as c:
            api = Api()
            wrapped = httpx.MockTransport(api)
            c.origin.handle_async_request = wrapped.handle_async_request
            for what, given_ in steps:
                if what == "say":
                    api.control, api.vary, api.status = given_
                elif what == "wait":
                    c.clock.advance(given_)
                elif what == "post":
                    await c.client.post(URL, headers={"Authorization": given_} if given_ else {})
                else:
                    asked = [{"Authorization": user or "", "X-Lang": lang or ""} for user, lang in given_]
                    asked = [{name: value for name, value in one.items() if value} for one in asked]
                    answers = await asyncio.gather(*(c.client.get(URL, headers=one) for one in asked))
                    for one, answer in zip(asked, answers, strict=True):
                        whom, control = api.said[answer.text]
                        assert whom == one.get("Authorization", "-") or allowed(whom, control), answer.text
            assert c.transport.http.counts.troubles == 0

    asyncio.run(main())


@given(steps)
@settings(max_examples=60, deadline=None)
def test_in_a_private_cache_nobody_finds_what_was_sent_to_others(steps):
    run(steps, shared=False, allowed=lambda whom, control: False)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_in_a_shared_cache_what_was_sent_to_credentials_is_shown_where_it_says_so(steps):
    run(
        steps, shared=True,
        allowed=lambda whom, control: whom == "-" or any(name in (control or "") for name in PERMITS),
    )  # fmt: skip
