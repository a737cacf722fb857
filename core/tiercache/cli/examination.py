"""What `tiercache doctor` looks at."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from tiercache import Diagnoses, Diagnosis
from tiercache.errors import TierRefused, Unserializable

if TYPE_CHECKING:
    from tiercache import Cache
    from tiercache.config.plan import Plan
    from tiercache.engine.coherence import Coherence
    from tiercache.engine.far import Far
    from tiercache.engine.house import House
    from tiercache.engine.pipeline import Route

Found = tuple[str, Diagnosis]
"""Where, and what."""

SAMPLES: Final[tuple[Any, ...]] = (
    None, True, 1, 1.5, "text", b"bytes", [1], {"a": 1}, (1, 2), {1, 2}, datetime(2000, 1, 1, tzinfo=UTC),
    Decimal("1.5"), UUID(int=0),
)  # fmt: skip
"""One value of each type that applications commonly cache."""


async def examine(plan: Plan) -> list[Found]:
    """Look at everything. The tiers are opened; but for one key of the doctor's own, nothing is changed."""
    # What a tier says while it is opened is told as a finding.
    log = logging.getLogger("tiercache")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return await _examined(plan)
    finally:
        log.setLevel(level)


async def _examined(plan: Plan) -> list[Found]:
    from tiercache.cache.variants import variant
    from tiercache.clock import Clock
    from tiercache.config.build import build

    found = [
        ("configuration", Diagnosis("warning", problem.path, problem.message)) for problem in plan.warnings
    ]
    house = build(plan, Clock())
    refused = [finding async for finding in _opened(house)]
    found += refused
    if any(diagnosis.level == "problem" for _, diagnosis in refused):
        await house.close()
        return found + list(_codecs(house))
    await house.close()
    house = build(plan, Clock())
    async with variant(house)(house) as cache:
        for far in house.fars.values():
            found += [(f"tier {far.name}", one) for one in await _of_tier(far)]
        for coherence in house.hearing.coherences:
            if coherence.bus is not None:
                found.append((f"bus of {coherence.far.name}", await _of_bus(plan, cache, house, coherence)))
    found += _codecs(house)
    return found


async def _opened(house: House) -> AsyncIterator[Found]:
    for far in house.fars.values():
        try:
            await far.guard.open()
        except TierRefused as error:
            yield f"tier {far.name}", Diagnosis("problem", "open", str(error))
            continue
        if not far.guard.available:
            why = far.guard.last_error or "it does not answer"
            yield f"tier {far.name}", Diagnosis("problem", "open", f"it can't be reached: {why}")


async def _of_tier(far: Far) -> list[Diagnosis]:
    tier = far.guard.tier
    if not isinstance(tier, Diagnoses):
        return [Diagnosis("ok", "open", "it answers")]
    try:
        async with asyncio.timeout(10):
            return list(await tier.diagnose())
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and that is a finding
        return [Diagnosis("problem", "look", f"{type(error).__name__}: {error}")]


async def _of_bus(plan: Plan, cache: Cache, house: House, coherence: Coherence) -> Diagnosis:
    """Change a key in one instance, and see whether another one lets go of its near copy."""
    patience = 2 * coherence.lease + 1
    route = next((r for r in house.routes.values() if r.coherence is coherence and r.near is not None), None)
    # The trust itself is replaced by another one when it has ended.
    if not await _until(lambda: coherence.trust.until > coherence.now(), patience):
        return Diagnosis(
            "problem", "lease", f"nothing was heard for {patience:g} s: near copies are not trusted"
        )
    if route is None:
        return Diagnosis("ok", "lease", "it is heard, and lives; no near tier stands in front")
    return await _round_trip(plan, cache, route, patience)


async def _round_trip(plan: Plan, cache: Cache, route: Route, patience: float) -> Diagnosis:
    from tiercache.cache.variants import variant
    from tiercache.clock import Clock
    from tiercache.config.build import build

    house = build(plan, Clock())
    key = f"tiercache:doctor:{uuid4()}"
    async with variant(house)(house) as other:
        try:
            await cache.set(key, 1, route=route.name, ttl=60)
            await _until_async(lambda: other.get(key, route=route.name), 1, patience)
            began = time.perf_counter()
            await cache.set(key, 2, route=route.name, ttl=60)
            if not await _until_async(lambda: other.get(key, route=route.name), 2, patience):
                return Diagnosis(
                    "problem", "round trip", "another instance went on with what had been changed"
                )
            took = (time.perf_counter() - began) * 1000
        finally:
            await cache.delete(key)
    return Diagnosis(
        "ok", "round trip", f"another instance saw a change after {took:.1f} ms; the lease lives"
    )


async def _until(done: Any, patience: float) -> bool:
    end = time.monotonic() + patience
    while not done():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def _until_async(ask: Any, wanted: Any, patience: float) -> bool:
    end = time.monotonic() + patience
    while await ask() != wanted:
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


def _codecs(house: House) -> Iterator[Found]:
    """Tell which of the common types each serializer can't carry."""
    for far in house.fars.values():
        lacking = []
        for value in SAMPLES:
            try:
                far.codec.encode(b"doctor", value, 1, 2, 2, ())
            except Unserializable:
                lacking.append(type(value).__name__)
        name = far.codec.name[0]
        if lacking:
            told = f'"{name}" can\'t carry {", ".join(lacking)}: storing one raises Unserializable'
            yield f"tier {far.name}", Diagnosis("ok", "serializer", told)
        else:
            yield f"tier {far.name}", Diagnosis("ok", "serializer", f'"{name}" carries all common types')
