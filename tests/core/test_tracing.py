"""What becomes of the trace of a load's first caller."""

import asyncio
import contextvars
import sys

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from gated import document, opened
from tiercache.engine.tracing import detached
from tiercache.testing import FakeClock


def traced(scenario, sampler=ALWAYS_ON, **options):
    """Run *scenario*; return the spans that ended, by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def main():
        clock = FakeClock()
        routes = {"all": {"tiers": ["memory"], "ttl": "100s", **options}}
        async with opened(document(**routes), clock=clock) as cache:
            await scenario(cache, clock, provider.get_tracer("test"))

    asyncio.run(main())
    return {span.name: span for span in exporter.get_finished_spans()}


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("many", [False, True])
def test_spans_of_a_loader_are_no_part_of_its_first_callers_span(many):
    async def scenario(cache, clock, tracer):
        async def loader(*keys):
            assert not trace.get_current_span().get_span_context().is_valid
            with tracer.start_as_current_span("query"):
                return dict.fromkeys(keys[0], 1) if keys else 1

        with tracer.start_as_current_span("request") as request:
            if many:
                assert await cache.get_or_set_many(["k"], lambda keys: loader(keys)) == {"k": 1}
            else:
                assert await cache.get_or_set("k", loader) == 1
            assert trace.get_current_span() is request

    spans = traced(scenario)
    assert spans["query"].parent is None
    assert spans["query"].context.trace_id != spans["request"].context.trace_id


def test_a_load_is_linked_to_the_span_of_the_caller_who_came_first():
    async def scenario(cache, clock, tracer):
        gate = asyncio.Event()
        with tracer.start_as_current_span("first") as first:
            callers = [asyncio.create_task(cache.get_or_set("k", gate.wait))]
            await settle()
        with tracer.start_as_current_span("second"):
            callers.append(asyncio.create_task(cache.get_or_set("k", gate.wait)))
            await settle()
        (load,) = cache._house.routes["all"].flights.loads.values()
        assert [link.context for link in load.links] == [first.get_span_context()]
        gate.set()
        await asyncio.gather(*callers)

    traced(scenario)


def test_a_refresh_in_the_background_is_no_child_of_a_span_that_has_ended():
    async def scenario(cache, clock, tracer):
        async def loader():
            with tracer.start_as_current_span("query"):
                return "new"

        await cache.set("k", "old")
        clock.advance(60)
        with tracer.start_as_current_span("request"):
            assert await cache.get_or_set("k", loader) == "old"
        await settle()
        assert await cache.get("k") == "new"

    assert traced(scenario, refresh_ahead=0.5)["query"].parent is None


def test_what_else_is_in_the_context_stays():
    async def scenario(cache, clock, tracer):
        with tracer.start_as_current_span("request"):
            token = context.attach(baggage.set_baggage("tenant", "blue"))
            try:
                assert await cache.get_or_set("k", lambda: baggage.get_baggage("tenant")) == "blue"
            finally:
                context.detach(token)

    traced(scenario)


def test_a_load_for_a_request_that_is_not_sampled_is_not_sampled_either():
    async def scenario(cache, clock, tracer):
        with tracer.start_as_current_span("request") as request:
            assert await cache.get_or_set("k", trace.get_current_span) is request
            assert detached(contextvars.copy_context()) == ()

    assert traced(scenario, ALWAYS_OFF) == {}


def test_without_opentelemetry_nothing_is_imported_for_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert detached(contextvars.copy_context()) == ()
    assert "opentelemetry.trace" not in sys.modules


def test_a_half_imported_opentelemetry_has_no_span(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", type(sys)("opentelemetry.trace"))
    assert detached(contextvars.copy_context()) == ()
