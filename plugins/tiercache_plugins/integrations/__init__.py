"""What ties caches to frameworks: applications of the kernel that import a framework only when it is used."""

from tiercache_plugins.integrations.config import CacheIntegrationConfig
from tiercache_plugins.integrations.http import HttpCache, setup_fastapi_caching
from tiercache_plugins.integrations.manager import CacheIntegrationManager

__all__ = ["CacheIntegrationConfig", "CacheIntegrationManager", "HttpCache", "setup_fastapi_caching"]
