"""The wrapper that is called instead of the function: written for its signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tiercache.decorators.function import EXACT, Function
from tiercache.entry import MISSING

_MOST = 4
"""Parameters up to which looking at each one's type is cheaper than making the key anew."""

# Written out, so that a hit costs one call and two look-ups. Measured beside the same as a closure that takes
# *args and **kwargs and asks the cache by `get`: a third of its time.
_INLINE = """
{kind}def wrapper({parameters}):
    if {guard}:
        try:
            entry = {home}._entries[{memo}[{told}]]
        except KeyError:
            pass
        else:
            if {home}.now < entry.fresh_until{fits}:
                entry.hits += 1
                return entry.value
    return {wait}{missed}({slots})
"""
_PEEKING = """
{kind}def wrapper({parameters}):
    if {guard}:
        try:
            value = {home}.peek({memo}[{told}], {missing})
        except (KeyError, RuntimeError):
            pass
        else:
            if value is not {missing}{fits}:
                return value
    return {wait}{missed}({slots})
"""
_CAREFUL = """
{kind}def wrapper({parameters}):
    return {wait}{missed}({slots})
"""
_SLOTS = """
def slots({parameters}):
    return ({slots}{comma})
"""


def written(function: Function, told: tuple[str, ...] | None, *, reads: str) -> Callable[..., Any]:
    """Return the wrapper of *function*, and give *function* its `slots`.

    *told* are the parameters that decide the key, None where they alone do not. *reads* is how
    the wrapper may read the cache by itself: its "entries", by "peek", or not at all.
    """
    parameters = function.signature.parameters
    # No parameter may hide a name of ours.
    mark = "_"
    while any(name.startswith(f"{mark}tc_") for name in parameters):
        mark += "_"
    space: dict[str, Any] = {
        f"{mark}tc_face": function.face,
        f"{mark}tc_memo": function.memo,
        f"{mark}tc_exact": EXACT,
        f"{mark}tc_missing": MISSING,
        f"{mark}tc_classes": function.returned.classes,
    }
    text = {
        "parameters": _rendered(function.signature, f"{mark}tc_default", space),
        "slots": ", ".join(parameters),
        "comma": "," if len(parameters) == 1 else "",
        "home": f"{mark}tc_face._cache",
        "memo": f"{mark}tc_memo",
        "missing": f"{mark}tc_missing",
        "missed": f"{mark}tc_missed",
        "kind": "",
        "wait": "",
        "fits": "",
    }
    if inspect.iscoroutinefunction(function.original):
        text |= {"kind": "async ", "wait": "await "}
        space[f"{mark}tc_missed"] = function.missed
    else:
        space[f"{mark}tc_missed"] = function.missed_sync
    form = _CAREFUL
    if reads and told is not None and len(told) <= _MOST and _simple(function, told):
        inline = reads == "entries"
        form = _INLINE if inline else _PEEKING
        text["guard"] = " and ".join([f"type({name}) in {mark}tc_exact" for name in told]) or "True"
        text["told"] = told[0] if len(told) == 1 else f"({', '.join(told)})"
        if function.returned.classes:
            held = "entry.value" if inline else "value"
            text["fits"] = f" and type({held}) in {mark}tc_classes"
    # The text is made of the names of parameters, which Python itself has taken for such, and of ours.
    exec(_SLOTS.format_map(text) + form.format_map(text), space)  # noqa: S102
    function.slots = space["slots"]
    wrapper: Callable[..., Any] = functools.wraps(function.original)(space["wrapper"])
    return wrapper


def _simple(function: Function, told: tuple[str, ...]) -> bool:
    parameters = function.signature.parameters
    various = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return function.returned.maybe_plain and not any(parameters[name].kind in various for name in told)


def _rendered(signature: inspect.Signature, default: str, space: dict[str, Any]) -> str:
    """Return the parameters as they stand in a definition; the defaults go to *space*."""
    out: list[str] = []
    last = None
    starred = False
    for at, parameter in enumerate(signature.parameters.values()):
        kind = parameter.kind
        if last is parameter.POSITIONAL_ONLY and kind is not last:
            out.append("/")
        if kind is parameter.KEYWORD_ONLY and not starred:
            out.append("*")
            starred = True
        name = parameter.name
        if kind is parameter.VAR_POSITIONAL:
            name = f"*{name}"
            starred = True
        elif kind is parameter.VAR_KEYWORD:
            name = f"**{name}"
        elif parameter.default is not parameter.empty:
            space[f"{default}_{at}"] = parameter.default
            name = f"{name}={default}_{at}"
        out.append(name)
        last = kind
    if last is inspect.Parameter.POSITIONAL_ONLY:
        out.append("/")
    return ", ".join(out)
