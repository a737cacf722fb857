"""CacheIntegrationManager: one cache, and all integrations on it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from tiercache import Cache
from tiercache_plugins.advanced import AdvancedCachingSystem, CacheType
from tiercache_plugins.integrations.api import ApiCache
from tiercache_plugins.integrations.assets import AssetCache
from tiercache_plugins.integrations.config import SESSIONS, CacheIntegrationConfig
from tiercache_plugins.integrations.configuration import ConfigCache
from tiercache_plugins.integrations.database import DatabaseCache
from tiercache_plugins.integrations.http import HttpCache
from tiercache_plugins.integrations.sessions import SessionCache
from tiercache_plugins.integrations.templates import TemplateCache


class CacheIntegrationManager:
    """All integrations on one cache, as *config* describes it; without one, as the environment does.

    Call `initialize` on the event loop that is to use it, and `close` at the end, or use it as `async with`.
    `setup_fastapi_caching(app, manager)` puts the cache before an application. What the other integrations
    give may be kept from before `initialize` on, at module level.

    Raises ConfigError for settings that can't be.
    """

    def __init__(self, config: CacheIntegrationConfig | None = None) -> None:
        self.config = CacheIntegrationConfig() if config is None else config
        self.system = AdvancedCachingSystem(self.config.caching())
        self._https: list[HttpCache] = []
        self._database = DatabaseCache(
            self,
            route=CacheType.DYNAMIC,
            prefix=self.config.db_cache_prefix,
            ttl=self.config.db_cache_ttl,
            enabled=self.config.enable_database_caching,
        )
        self._sessions = SessionCache(
            self, route=SESSIONS, prefix=self.config.session_prefix, max_age=self.config.session_max_age
        )
        # The keys of what an application answers itself, and of what it is answered, never meet.
        self._api = ApiCache(self, prefix=f"{self.config.api_cache_prefix}out:")
        self._configs = ConfigCache(self, route=CacheType.STATIC)
        self._templates = TemplateCache(self, route=CacheType.STATIC)
        self._assets = AssetCache(self, route=CacheType.STATIC)

    @property
    def cache(self) -> Cache:
        """The cache that all integrations share."""
        return self.system.cache

    async def initialize(self) -> Self:
        """Open the cache. Safe to call twice. Raises as `AdvancedCachingSystem.initialize` does."""
        await self.system.initialize()
        return self

    async def close(self) -> None:
        """Wait for what is under way, then close the cache. Safe to call twice."""
        await self.system.close()

    async def __aenter__(self) -> Self:
        return await self.initialize()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def get_database_cache(self) -> DatabaseCache:
        """Return the results of queries."""
        return self._database

    def get_session_cache(self) -> SessionCache:
        """Return the sessions. Raises RuntimeError where the settings say that there are none."""
        if not self.config.enable_session_caching:
            raise RuntimeError("there are no sessions: enable_session_caching is off; True is accepted")
        return self._sessions

    def get_api_cache(self) -> ApiCache:
        """Return the responses to calls that the application makes itself.

        `api_cache_ttl` is not for them: what other services say of freshness counts, unless a transport is
        given a `default_ttl`.
        """
        return self._api

    def get_config_cache(self) -> ConfigCache:
        """Return the configurations."""
        return self._configs

    def get_template_cache(self) -> TemplateCache:
        """Return the rendered templates."""
        return self._templates

    def get_asset_cache(self) -> AssetCache:
        """Return the assets."""
        return self._assets

    def stands_before(self, http: HttpCache) -> None:
        """Count *http*, which was put before an application; `setup_fastapi_caching` calls it."""
        self._https.append(http)

    def get_comprehensive_stats(self) -> dict[str, Any]:
        """Return what was counted since `initialize`.

        "cache_system" is as `AdvancedCachingSystem.get_comprehensive_stats` has it. Each of "integrations"
        has `enabled` and what it counted itself; "fastapi_middleware" has `cacheable_routes`, the number of
        routes that may be cached, of all applications that the cache stands before.
        """
        return {"cache_system": self.system.get_comprehensive_stats(), "integrations": self._integrations()}

    def _integrations(self) -> dict[str, dict[str, Any]]:
        config = self.config
        return {
            "fastapi_middleware": {
                "enabled": config.enable_fastapi_middleware,
                "applications": len(self._https),
                **_summed([http.stats() for http in self._https]),
            },
            "api_cache": {
                "enabled": config.enable_api_caching,
                "api_cache_ttl": config.api_cache_ttl,
                "api_cache_prefix": config.api_cache_prefix,
                **self._api.stats(),
            },
            "database_cache": {
                "enabled": config.enable_database_caching,
                "db_cache_ttl": config.db_cache_ttl,
                **self._database.stats(),
            },
            "session_cache": {
                "enabled": config.enable_session_caching,
                "session_ttl": config.session_ttl,
                **self._sessions.stats(),
            },
            "config_cache": {"enabled": True, **self._configs.stats()},
            "template_cache": {"enabled": True, **self._templates.stats()},
            "asset_cache": {"enabled": True, **self._assets.stats()},
        }


def _summed(counts: list[dict[str, Any]]) -> dict[str, int]:
    names = ("cacheable_routes", "hits", "misses", "stored", "refused", "passed", "troubles")
    return {name: sum(each[name] for each in counts) for name in names}
