"""What a load has to do with the trace of the caller who came first."""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Link


def detached(context: contextvars.Context) -> tuple[Link, ...]:
    """Take the active span out of *context*, a copy of the one that is running; return it as a link.

    A load is not a part of its first caller's span: it serves others as well, and may go on when that span
    has long ended. So spans that begin in *context* have no parent, and the one that stands for the load
    should carry the link. A span that is not sampled is left where it is, so that what begins in it is not
    sampled either; baggage stays. Where nobody has imported OpenTelemetry there is no span, and no cost.
    """
    api = sys.modules.get("opentelemetry.trace")
    # Half-way through its import, by another thread, it has no span to give either.
    current = getattr(api, "get_current_span", None)
    if api is None or current is None:
        return ()
    active = current().get_span_context()
    if not (active.is_valid and active.trace_flags.sampled):
        return ()
    from opentelemetry.context import attach

    context.run(lambda: attach(api.set_span_in_context(api.INVALID_SPAN)))
    return (api.Link(active),)
