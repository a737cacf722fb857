"""Spans: what there is one for, whose child it is, what it says and what it must not say."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import gated
from gated import document, opened
from servers import Server
from tiercache import Cache
from tiercache.testing import FakeClock

TOLD = {"traces": True, "patterns": ["user:*"]}


@pytest.fixture
def spans(monkeypatch):
    """The exporter of a provider that stands in for the application's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    exporter.tracer = provider.get_tracer("application")
    yield exporter
    provider.shutdown()


def traced(**options):
    return {**document(), "telemetry": {**TOLD, **options}}


def named(exporter, name):
    return [span for span in exporter.get_finished_spans() if span.name == name]


def parent(span):
    return span.parent.span_id if span.parent else None


def linked(span):
    return [link.context.span_id for link in span.links]


def test_a_far_read_is_a_child_of_the_span_that_asked(spans):
    async def use():
        async with opened(traced()) as cache:
            with spans.tracer.start_as_current_span("request") as request:
                await cache.get("user:1")
            return request.get_span_context().span_id

    request = asyncio.run(use())
    reads = named(spans, "tiercache.read")
    assert [read.attributes["tiercache.tier"] for read in reads] == ["shelf", "cellar"]
    assert [parent(read) for read in reads] == [request, request]
    assert dict(reads[0].attributes) == {
        "tiercache.cache": "tiercache",
        "tiercache.tier": "shelf",
        "tiercache.batch": 1,
        "tiercache.key.pattern": "user:*",
        "tiercache.found": 0,
    }


def test_a_batch_is_a_child_of_the_first_and_links_to_the_others(spans):
    async def use():
        async with opened(traced()) as cache:
            shelf = gated.tier(cache, "shelf")
            shelf.gate.clear()
            first = asyncio.create_task(cache.get("first"))
            while not shelf.calls:
                await asyncio.sleep(0)

            async def ask(key):
                with spans.tracer.start_as_current_span(key) as span:
                    await cache.get(key)
                    return span.get_span_context().span_id

            asked = [asyncio.create_task(ask(key)) for key in ("a", "b", "c")]
            await asyncio.sleep(0)
            shelf.gate.set()
            await first
            return [await task for task in asked]

    a, b, c = asyncio.run(use())
    batch = next(read for read in named(spans, "tiercache.read") if read.attributes["tiercache.batch"] == 3)
    assert parent(batch) == a
    assert linked(batch) == [b, c]
    assert not any(name.startswith("tiercache.key") for name in batch.attributes)


def test_nobody_is_given_the_trace_of_who_started_the_lane(spans):
    async def use():
        async with opened({**traced(), "route": {"all": {"tiers": ["memory", "shelf"]}}}) as cache:
            shelf = gated.tier(cache, "shelf")
            shelf.gate.clear()

            async def starts():
                with spans.tracer.start_as_current_span("starts"):
                    await cache.get("a")

            first = asyncio.create_task(starts())
            while not shelf.calls:
                await asyncio.sleep(0)
            second = asyncio.create_task(cache.get("b"))
            await asyncio.sleep(0)
            shelf.gate.set()
            await asyncio.gather(first, second)

    asyncio.run(use())
    assert [parent(read) is None for read in named(spans, "tiercache.read")] == [False, True]


def test_a_load_is_a_trace_of_its_own_that_links_to_the_first_caller(spans):
    async def use():
        async with opened(traced()) as cache:

            async def loader():
                with spans.tracer.start_as_current_span("SELECT"):
                    return 1

            with spans.tracer.start_as_current_span("request") as request:
                await cache.get_or_set("user:1", loader)
            return request.get_span_context().span_id

    request = asyncio.run(use())
    (load,) = named(spans, "tiercache.load")
    assert load.parent is None
    assert linked(load) == [request]
    assert load.kind is SpanKind.INTERNAL
    assert load.attributes["tiercache.route"] == "all"
    assert load.attributes["tiercache.key.pattern"] == "user:*"
    assert parent(named(spans, "SELECT")[0]) == load.context.span_id
    assert {parent(read) for read in named(spans, "tiercache.read")} == {request}
    assert {parent(write) for write in named(spans, "tiercache.write")} == {load.context.span_id}


def test_a_load_that_fails_says_so_by_type_alone(spans):
    async def use():
        async with opened(traced()) as cache:

            def loader():
                raise LookupError("the password is hunter2")

            with pytest.raises(LookupError):
                await cache.get_or_set("k", loader)

    asyncio.run(use())
    (load,) = named(spans, "tiercache.load")
    assert load.status.status_code is StatusCode.ERROR
    assert load.attributes["error.type"] == "LookupError"
    assert "hunter2" not in load.to_json()


def test_a_refresh_in_the_background_is_a_trace_of_its_own_with_a_link(spans):
    clock = FakeClock()
    pages = {"all": {"tiers": ["memory", "shelf"], "ttl": "100s", "refresh_ahead": 0.5}}

    async def use():
        async with opened({**document(**pages), "telemetry": TOLD}, clock=clock) as cache:
            await cache.get_or_set("k", lambda: 1)
            clock.advance(60)
            spans.clear()
            with spans.tracer.start_as_current_span("request") as request:
                await cache.get_or_set("k", lambda: 2)
            async with asyncio.timeout(10):
                while not named(spans, "tiercache.refresh"):
                    await asyncio.sleep(0)
            return request.get_span_context()

    request = asyncio.run(use())
    (refresh,) = named(spans, "tiercache.refresh")
    assert refresh.parent is None
    assert refresh.context.trace_id != request.trace_id
    assert linked(refresh) == [request.span_id]
    assert not named(spans, "tiercache.load")


def test_what_is_made_good_later_belongs_to_nobody(spans):
    clock = FakeClock()

    async def use():
        async with opened(traced(), clock=clock) as cache:
            shelf = gated.tier(cache, "shelf")
            shelf.error = OSError("away")
            with spans.tracer.start_as_current_span("request"):
                await cache.set("k", 1)
            shelf.error = None
            spans.clear()
            async with asyncio.timeout(20):
                while cache.stats().tiers["shelf"].queued:
                    clock.advance(60)
                    with spans.tracer.start_as_current_span("other"):
                        await cache.get("another")
                    await asyncio.sleep(0)

    asyncio.run(use())
    assert [parent(write) for write in named(spans, "tiercache.write")] == [None]


def test_a_tier_that_fails_marks_the_span(spans):
    async def use():
        async with opened(traced()) as cache:
            gated.tier(cache, "shelf").error = OSError("secret")
            await cache.get("k")

    asyncio.run(use())
    shelf, cellar = named(spans, "tiercache.read")
    assert shelf.status.status_code is StatusCode.ERROR
    assert shelf.attributes["error.type"] == "OSError"
    assert "secret" not in shelf.to_json()
    assert cellar.status.status_code is StatusCode.UNSET


def test_invalidations_are_spans_of_the_caller(spans):
    async def use():
        async with opened({**traced(), "route": {"all": {"tiers": ["memory", "shelf"]}}}) as cache:
            with spans.tracer.start_as_current_span("request") as request:
                await cache.invalidate(prefix="secret")
                await cache.invalidate(match="a?b")
                await cache.clear()
            return request.get_span_context().span_id

    request = asyncio.run(use())
    found = named(spans, "tiercache.invalidate")
    assert [span.attributes["tiercache.kind"] for span in found] == ["prefix", "match", "clear"]
    assert {parent(span) for span in found} == {request}
    assert "secret" not in "".join(span.to_json() for span in found)


@pytest.mark.parametrize(
    ("options", "key", "told"),
    [
        ({}, "user:1", {"tiercache.key.pattern": "user:*"}),
        ({"keys": True}, "user:1", {"tiercache.key": "user:1"}),
        ({"keys": True}, "else", {"tiercache.key": "else"}),
    ],
)
def test_keys_are_told_as_far_as_it_is_allowed(spans, options, key, told):
    async def use():
        async with opened(traced(**options)) as cache:
            await cache.get(key)

    asyncio.run(use())
    attributes = named(spans, "tiercache.read")[0].attributes
    assert {name: value for name, value in attributes.items() if name.startswith("tiercache.key")} == told


def test_a_key_of_no_pattern_is_told_by_a_hash_that_is_always_the_same(spans):
    async def use():
        async with opened(traced()) as cache:
            await cache.get("ada@example.org")
            await cache.get_or_set("ada@example.org", lambda: 1)

    asyncio.run(use())
    told = {span.attributes["tiercache.key.hash"] for span in spans.get_finished_spans()}
    assert len(told) == 1
    assert all("ada@example.org" not in span.to_json() for span in spans.get_finished_spans())


def test_a_near_hit_has_no_span_unless_it_is_asked_for(spans):
    async def use(**options):
        async with opened(traced(**options)) as cache:
            await cache.set("k", 1)
            spans.clear()
            assert (await cache.get("k"), cache.peek("k"), cache.peek("absent", 5)) == (1, 1, 5)
            return [span.name for span in spans.get_finished_spans()]

    assert asyncio.run(use()) == []
    assert asyncio.run(use(hits=True)) == ["tiercache.near"] * 3
    assert [span.attributes["tiercache.hit"] for span in spans.get_finished_spans()] == [True, True, False]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.3, 10, 120), (1.0, 200, 200)])
def test_far_calls_are_sampled_and_loads_are_not(spans, share, least, most):
    async def use():
        async with opened({**traced(sample=share), "route": {"all": {"tiers": ["shelf"]}}}) as cache:
            for i in range(200):
                await cache.get(f"k{i}")
            await cache.get_or_set("l", lambda: 1)

    asyncio.run(use())
    assert least <= len(named(spans, "tiercache.read")[:200]) <= most
    assert len(named(spans, "tiercache.load")) == 1


def test_without_a_provider_nothing_is_made_and_one_that_comes_later_is_found(monkeypatch):
    async def use():
        async with opened(traced()) as cache:
            tracing = cache._house.telemetry.tracing
            await cache.get("a")
            assert not tracing.live
            exporter = InMemorySpanExporter()
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
            await cache.get("b")
            assert named(exporter, "tiercache.read")
            provider.shutdown()

    asyncio.run(use())


def test_a_tier_whose_semantics_fail_is_read_all_the_same(spans, caplog):
    async def use():
        async with opened(traced()) as cache:
            shelf = gated.tier(cache, "shelf")
            type(shelf).semantics = lambda self, act: 1 / 0
            try:
                await cache.set("k", 1)
                for near in cache._house.nears.values():
                    near.clear()
                cache._bind()
                assert await cache.get("k") == 1
                assert cache.stats().tiers["shelf"].breaker == "closed"
            finally:
                del type(shelf).semantics

    asyncio.run(use())
    assert "a span could not be begun" in caplog.text


def test_redis_is_told_by_the_conventions_for_databases(spans):
    with Server("valkey") as server:
        tables = {
            "tier": {"far": {"type": "redis", "url": f"redis://{server.host}:{server.port}/2"}},
            "route": {"all": {"tiers": ["far"], "ttl": "1h"}},
            "telemetry": TOLD,
        }

        async def use():
            async with Cache.open(tables) as cache:
                await cache.set_many({f"user:{i}": i for i in range(3)})
                assert len(await cache.get_many([f"user:{i}" for i in range(3)])) == 3

        asyncio.run(use())
        read = next(s for s in named(spans, "MGET") if s.attributes["tiercache.batch"] == 3)
        assert read.kind is SpanKind.CLIENT
        wanted = {
            "db.system.name": "redis",
            "db.operation.name": "MGET",
            "db.operation.batch.size": 3,
            "db.namespace": "2",
            "server.address": server.host,
            "server.port": server.port,
            "tiercache.found": 3,
        }
        assert wanted.items() <= dict(read.attributes).items()
        assert {s.attributes["db.operation.name"] for s in named(spans, "EVALSHA")} == {"EVALSHA"}
