"""Results of SQLAlchemy queries, which end when a transaction that wrote their tables has committed."""

from tiercache_plugins.integrations.sqlalchemy.options import cached, writes
from tiercache_plugins.integrations.sqlalchemy.queries import QueryCache

__all__ = ["QueryCache", "cached", "writes"]
