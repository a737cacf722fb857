"""What ties caches to frameworks: applications of the kernel that import a framework only when it is used."""

from tiercache_plugins.integrations.http import HttpCache, setup_fastapi_caching

__all__ = ["HttpCache", "setup_fastapi_caching"]
