"""What differs between two plans, and what that means for what is stored and for a running cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import SecretStr

from tiercache.config.plan import Plan
from tiercache.contracts import StageConfig

LIVE: Final = frozenset(
    {"ttl", "stale", "soft_timeout", "hard_timeout", "refresh_ahead", "jitter", "negative_ttl",
     "negative_errors", "deadline", "max_ttl", "tombstone", "max_markers"}
)  # fmt: skip
"""Options that a running cache can take over."""
PLACES: Final = frozenset({"url", "path", "nodes", "service", "mode", "type"})
"""Options of a tier that say where its entries are."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    path: str
    """Dotted key path."""
    old: Any
    new: Any
    live: bool = False
    """Whether `Cache.reload` can take it over."""
    lost: bool = False
    """Whether it leaves something stored that can't be reached any more."""
    note: str = ""
    """What follows."""

    def __str__(self) -> str:
        told = f"{self.path}: {_shown(self.old)} → {_shown(self.new)}"
        return f"{told} ({self.note})" if self.note else told


def compare(old: Plan, new: Plan) -> list[Change]:
    """Return what differs, in the order of the document."""
    return [*_cache(old, new), *_stages(old, new), *_routes(old, new), *_telemetry(old, new)]


def _cache(old: Plan, new: Plan) -> Iterator[Change]:
    if old.namespace != new.namespace:
        note = f'all that is stored under "{old.namespace}" can\'t be reached any more'
        yield Change("cache.namespace", old.namespace, new.namespace, lost=True, note=note)
    heard = [{tier: name for tier, (name, _) in plan.buses.items()} for plan in (old, new)]
    if heard[0] != heard[1]:
        before, after = (", ".join(names.values()) or "none" for names in heard)
        yield Change("cache.bus", before, after)
    for name in ("max_value_bytes", "lease", "tombstone", "max_markers", "loop"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            note = ""
            if name == "max_value_bytes" and after < before:
                note = "larger values that are stored are misses"
            yield Change(f"cache.{name}", before, after, live=name in LIVE, note=note)
    if old.default != new.default:
        note = "keys that no pattern matches go to other tiers" if _moved(old, new) else ""
        yield Change("default route", old.default, new.default, lost=bool(note), note=note)


def _moved(old: Plan, new: Plan) -> bool:
    after = new.routes[new.default].tiers
    return any(_far(old, tier) and tier not in after for tier in old.routes[old.default].tiers)


def _far(plan: Plan, tier: str) -> bool:
    return hasattr(plan.tier(tier), "serializer")


def _stages(old: Plan, new: Plan) -> Iterator[Change]:
    for kind in old.stages:
        before, after = old.stages[kind], new.stages[kind]
        for name in [*before, *(name for name in after if name not in before)]:
            path = f"{kind}.{name}"
            if name not in after:
                gone = kind == "tier" and _far(old, name)
                note = "what it holds can't be reached any more" if gone else ""
                if kind == "serializer" and not getattr(before[name], "reads_undeclared", False):
                    gone, note = True, "what it wrote can't be read any more"
                yield Change(path, "declared", "absent", lost=gone, note=note)
            elif name not in before:
                yield Change(path, "absent", "declared")
            else:
                yield from _options(kind, path, before[name], after[name])


def _options(kind: str, path: str, before: StageConfig, after: StageConfig) -> Iterator[Change]:
    one, other = _fields(before), _fields(after)
    for name in dict.fromkeys((*one, *other)):
        old, new = one.get(name), other.get(name)
        if _plain(old) == _plain(new):
            continue
        lost = kind == "tier" and name in PLACES and hasattr(before, "serializer")
        note = "what is stored there can't be reached any more" if lost else ""
        if name == "key" and kind == "serializer":
            lost, note = True, "what was signed with the old key can't be read any more"
        if name in {"serializer", "compressor"} and not lost:
            note = "what is stored stays readable: frames name what made them"
        yield Change(f"{path}.{name}", old, new, live=kind == "tier" and name in LIVE, lost=lost, note=note)


def _fields(config: StageConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in type(config).model_fields}


def _routes(old: Plan, new: Plan) -> Iterator[Change]:
    for name in [*old.routes, *(name for name in new.routes if name not in old.routes)]:
        path = f"route.{name}"
        if name not in new.routes:
            yield Change(path, "declared", "absent", note="its keys take other routes")
        elif name not in old.routes:
            yield Change(path, "absent", "declared")
        else:
            before, after = asdict(old.routes[name]), asdict(new.routes[name])
            for option in before:
                if before[option] == after[option]:
                    continue
                if isinstance(before[option], Mapping):
                    for rule in before[option]:
                        if before[option][rule] != after[option][rule]:
                            yield Change(
                                f"{path}.{rule}", before[option][rule], after[option][rule], live=rule in LIVE
                            )
                    continue
                lost, note = _about(old, option, before[option], after[option])
                yield Change(
                    f"{path}.{option}",
                    before[option],
                    after[option],
                    live=option in LIVE,
                    lost=lost,
                    note=note,
                )


def _about(old: Plan, option: str, before: Any, after: Any) -> tuple[bool, str]:
    if option == "tiers":
        gone = [tier for tier in before if tier not in after and _far(old, tier)]
        if gone:
            names = ", ".join(f'"{tier}"' for tier in gone)
            return True, f"what this route stored in {names} can't be reached any more"
    if option == "keys":
        gone = [key for key in before if key not in after]
        if gone:
            return False, f"{', '.join(gone)} take another route"
    if option in {"ttl", "stale"}:
        return False, "of what is stored from now on"
    return False, ""


def _telemetry(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = asdict(old.telemetry), asdict(new.telemetry)
    for name in before:
        if before[name] != after[name]:
            yield Change(
                f"telemetry.{name}", before[name], after[name], live=name not in {"hits", "patterns"}
            )


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
