"""What ties caches to frameworks: applications of the kernel that import a framework only when it is used."""

from tiercache_plugins.integrations.api import ApiCache
from tiercache_plugins.integrations.assets import Asset, AssetCache, files_in
from tiercache_plugins.integrations.config import CacheIntegrationConfig
from tiercache_plugins.integrations.configuration import ConfigCache
from tiercache_plugins.integrations.database import DatabaseCache
from tiercache_plugins.integrations.http import HttpCache, setup_fastapi_caching
from tiercache_plugins.integrations.manager import CacheIntegrationManager
from tiercache_plugins.integrations.sessions import SessionCache, SessionMiddleware
from tiercache_plugins.integrations.templates import TemplateCache

__all__ = [
    "ApiCache",
    "Asset",
    "AssetCache",
    "CacheIntegrationConfig",
    "CacheIntegrationManager",
    "ConfigCache",
    "DatabaseCache",
    "HttpCache",
    "SessionCache",
    "SessionMiddleware",
    "TemplateCache",
    "files_in",
    "setup_fastapi_caching",
]
