"""Single calls become the far tiers' batch calls.

A tier with nothing in flight gets a call at once; what arrives while one is in flight goes out together in
the next. No timer, so nothing waits that need not, and a busy tier gets large batches by itself.
"""

from tiercache.engine.batching.prompt import PromptReads
from tiercache.engine.batching.reads import Arrival, Landing, Reads
from tiercache.engine.batching.writes import Writes

__all__ = ["Arrival", "Landing", "PromptReads", "Reads", "Writes"]
