"""One cache for all integrations: settings, what they switch, what is counted."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from tiercache_plugins.advanced import CacheConfig
from tiercache_plugins.integrations import (
    CacheIntegrationConfig,
    CacheIntegrationManager,
    setup_fastapi_caching,
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def answers(manager, *targets, **response):
    """Return what an application behind *manager* answers, which counts its calls."""
    app = FastAPI(openapi_url=None)
    calls = iter(range(1, 100))

    @app.get("/n")
    async def number():
        return next(calls)

    async def main():
        http = setup_fastapi_caching(app, manager, **response)
        async with (
            manager,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://shop.example"
            ) as client,
        ):
            told = [(await client.get(target)).json() for target in targets]
            return told, http, manager.get_comprehensive_stats(), [key async for key in manager.cache.keys()]

    return asyncio.run(main())


def test_settings_come_from_arguments_then_the_environment_then_defaults(monkeypatch):
    monkeypatch.setenv("CACHE_SESSION_TTL", "5m")
    monkeypatch.setenv("CACHE_DB_CACHE_PREFIX", "query:")
    monkeypatch.setenv("CACHE_NAMESPACE", "shop")
    config = CacheIntegrationConfig(db_cache_prefix="rows:")
    assert (config.session_ttl, config.db_cache_prefix, config.api_cache_ttl) == (300.0, "rows:", 300.0)
    assert config.cache_config.namespace == "shop"


@pytest.mark.parametrize(
    "wrong",
    [{"session_ttl": "soon"}, {"session_prefx": "s:"}, {"api_cache_prefix": ""}, {"db_cache_prefix": "d{b}"}],
    ids=str,
)
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        CacheIntegrationConfig(**wrong)


def test_sessions_ask_what_all_processes_share():
    def route(**settings):
        config = CacheIntegrationConfig(session_ttl=60, cache_config=CacheConfig(**settings))
        return config.caching().document()["route"]["session"]

    assert route(redis_url="redis://127.0.0.1:1")["tiers"] == ["memory", "redis"]
    assert route()["tiers"] == ["memory", "disk"]
    assert route()["coherent"] is True
    assert route()["sliding"] == 60
    alone = route(disk_cache_dir=None)
    assert alone["tiers"] == ["memory"]
    assert "coherent" not in alone
    assert route(tables={"route": {"session": {"ttl": 9}}})["ttl"] == 9
    off = CacheIntegrationConfig(enable_session_caching=False)
    assert "session" not in off.caching().document()["route"]


def test_an_application_is_cached_as_the_settings_say():
    manager = CacheIntegrationManager(CacheIntegrationConfig(api_cache_prefix="page:", api_cache_ttl=77))
    told, http, stats, keys = answers(manager, "/n", "/n", "/n?other")
    assert told == [1, 1, 2]
    assert http.settings.ttl == 77
    assert len(keys) == 2
    assert all(key.startswith("page:/n") for key in keys)
    counted = stats["integrations"]["fastapi_middleware"]
    assert counted["enabled"] is True
    assert (counted["applications"], counted["cacheable_routes"]) == (1, 1)
    assert (counted["hits"], counted["misses"], counted["stored"]) == (1, 2, 2)
    assert stats["cache_system"]["overall"]["hits"] >= 1


def test_what_is_given_by_hand_wins_over_the_settings():
    _, http, _, _ = answers(CacheIntegrationManager(), api_cache_ttl="9s", api_cache_prefix="mine:")
    assert (http.settings.ttl, http.settings.prefix) == (9.0, "mine:")


def test_without_the_middleware_an_application_stays_as_it_is():
    manager = CacheIntegrationManager(CacheIntegrationConfig(enable_fastapi_middleware=False))
    told, _, stats, keys = answers(manager, "/n", "/n")
    assert told == [1, 2]
    assert keys == []
    counted = stats["integrations"]["fastapi_middleware"]
    assert (counted["enabled"], counted["applications"], counted["cacheable_routes"]) == (False, 0, 0)


def test_without_api_caching_what_says_nothing_is_not_cached():
    manager = CacheIntegrationManager(CacheIntegrationConfig(enable_api_caching=False))
    told, http, stats, _ = answers(manager, "/n", "/n")
    assert told == [1, 2]
    assert http.settings.ttl is None
    assert stats["integrations"]["api_cache"]["enabled"] is False


def test_a_manager_opens_and_closes_twice_without_harm():
    async def main():
        manager = CacheIntegrationManager()
        await manager.initialize()
        await manager.initialize()
        await manager.cache.set("k", 1)
        await manager.close()
        await manager.close()
        await manager.initialize()
        assert await manager.cache.get("k") == 1
        await manager.close()

    asyncio.run(main())


def test_calls_of_the_application_are_cached_beside_what_it_answers():
    async def main():
        calls = iter(range(1, 100))
        app = FastAPI(openapi_url=None)

        @app.get("/n")
        async def number():
            return next(calls)

        def answer(request):
            control = {} if request.url.path == "/none" else {"Cache-Control": "private, max-age=60"}
            return httpx.Response(200, headers=control, text=f"remote {next(calls)}")

        async with CacheIntegrationManager() as manager:
            setup_fastapi_caching(app, manager)
            api = manager.get_api_cache()
            remote = api.transport(httpx.MockTransport(answer))
            async with (
                httpx.AsyncClient(transport=remote, base_url="http://shop.example") as out,
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=app), base_url="http://shop.example"
                ) as client,
            ):
                assert [(await out.get("/n")).text for _ in range(2)] == ["remote 1", "remote 1"]
                assert [(await client.get("/n")).json() for _ in range(2)] == [2, 2]
                assert [(await out.get("/none")).text for _ in range(2)] == ["remote 3", "remote 4"]
                assert (await out.get("/n")).text == "remote 1"
            told = manager.get_comprehensive_stats()["integrations"]["api_cache"]
            assert (told["transports"], told["hits"], told["stored"]) == (1, 2, 1)
            threads = api.sync_transport(httpx.MockTransport(answer))

            def asked():
                with httpx.Client(transport=threads, base_url="http://shop.example") as client:
                    return client.get("/n").text

            # Clients share what they were answered, by whichever way they ask.
            assert await asyncio.to_thread(asked) == "remote 1"

    asyncio.run(main())
