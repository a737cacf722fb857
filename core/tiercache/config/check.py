"""A document against what the installed plugins provide: every problem at once. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from tiercache.config.buses import misfits
from tiercache.config.layers import PLAIN_TABLES, TABLES, dotted
from tiercache.config.locate import KeyPath
from tiercache.config.references import Reference, references
from tiercache.config.registry import Registry
from tiercache.config.report import Finding
from tiercache.config.secrecy import Secrecy
from tiercache.config.settings import Settings
from tiercache.config.tables import NAME, CacheTable, PluginsTable, RouteTable, TelemetryTable, options
from tiercache.config.validation import Model, Validated, validate
from tiercache.config.wording import accepted, closest, guess
from tiercache.contracts import KINDS, Kind, NearTierConfig, PolicyConfig, StageConfig
from tiercache.errors import PluginError

NO_ROUTE: Final = (
    "no route is declared, so that no key has a place to go; for example:\n"
    "    [route.dynamic]\n"
    '    tiers = ["memory"]\n'
    '    ttl = "1h"'
)


class Checker:
    """Checks one document. `run` fills the attributes."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.secrecy = Secrecy(settings, registry)
        self.cache = CacheTable.model_validate({})
        self.telemetry = TelemetryTable.model_validate({})
        self.stages: dict[Kind, dict[str, StageConfig]] = {kind: {} for kind in KINDS}
        self.routes: dict[str, RouteTable] = {}
        self.default = ""
        self.declared: dict[tuple[Kind, str], StageConfig] = {}
        """Stages that have a table, those with mistakes in it among them."""
        self._document = settings.document.values()
        self._registry = registry
        self._failed: set[tuple[Kind, str]] = set()
        self._dangling: set[tuple[Kind, str]] = set()
        self.found: list[Finding] = []
        """What is wrong."""

    def run(self) -> None:
        """Check everything."""
        self._tables()
        for kind in KINDS:
            for name, table in self._named(kind):
                self._stage(kind, name, table)
        for name, table in self._named("route"):
            route = self._validate(RouteTable, table, ("route", name)).model
            if route is not None:
                self.routes[name] = route
        self._references()
        for name, route in self.routes.items():
            self._order(name, route)
            self._slide(name, route)
        self._choose_default()
        self.found += misfits(self.cache.bus, self.stages, self.routes.values())
        self._ask_stages()

    def _add(self, path: KeyPath, message: str) -> None:
        self.found.append((path, message))

    # Tables and their options

    def _tables(self) -> None:
        for name in self._document:
            if name not in TABLES:
                inside = name in options(CacheTable)
                hint = "; did you mean the option under [cache]?" if inside else guess(name, TABLES)
                self._add((name,), f"unknown table{hint}")
        models: tuple[type[BaseModel], ...] = (CacheTable, PluginsTable, TelemetryTable)
        for name, model in zip(PLAIN_TABLES, models, strict=True):
            if name in self._document:
                found = self._validate(model, self._document[name], (name,))
                if found.model is not None and found.whole:
                    self._plain(found.model)

    def _validate(self, model: type[Model], table: object, path: KeyPath) -> Validated[Model]:
        validated = validate(model, table, path, self.settings, self.secrecy)
        self.found += validated.findings
        return validated

    def _plain(self, table: BaseModel) -> None:
        if isinstance(table, CacheTable):
            self.cache = table
        elif isinstance(table, TelemetryTable):
            self.telemetry = table
            if table.exporter != "none" and find_spec("opentelemetry.sdk") is None:
                message = 'needs the OpenTelemetry SDK: `pip install "tiercache-kernel[otel]"` brings it'
                self._add(("telemetry", "exporter"), message)
        elif isinstance(table, PluginsTable):
            for index, plugin in enumerate(table.disabled):
                if plugin not in self._registry.plugins:
                    message = f'no plugin "{plugin}" is installed{guess(plugin, self._registry.plugins)}'
                    self._add(("plugins", "disabled", index), message)

    def _named(self, table: str) -> Iterator[tuple[str, Any]]:
        tables = self._document.get(table, {})
        if not isinstance(tables, Mapping):
            self._add((table,), f"is no table; [{table}.NAME] is accepted")
            return
        for name, value in tables.items():
            if re.fullmatch(NAME, name):
                yield name, value
                continue
            if table in KINDS:
                self._failed.add((table, name))
            likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
            hint = f', such as "{likely}"' if re.fullmatch(NAME, likely) else ""
            self._add(
                (table, name),
                f'"{name}" can\'t be a name; lower case letters and digits in words parted by one '
                f"underscore are accepted{hint}",
            )

    def _stage(self, kind: Kind, name: str, table: Any) -> None:
        self._failed.add((kind, name))
        if not isinstance(table, Mapping):
            self._add((kind, name), f"is no table; [{kind}.{name}] with a type is accepted")
            return
        if kind == "compressor" and name == "none":
            self._add((kind, name), 'the name "none" means no compressor; any other is accepted')
            return
        if "type" not in table:
            self._add((kind, name), self._typeless(kind, name))
            return
        type_name = table["type"]
        path: KeyPath = (kind, name, "type")
        if not isinstance(type_name, str):
            self._add(path, f"is no string; {accepted(self._registry.types(kind))}")
            return
        model = self._registry.get(kind, type_name)
        if model is None:
            self._add(path, self._nobody(kind, type_name))
            return
        try:
            validated = self._validate(model, table, (kind, name))
        except Exception as error:  # noqa: BLE001  a stranger's validators; told with their plugin's name
            raise self._faulty(error, "read", kind, name, type_name) from None
        if validated.model is not None:
            self.declared[kind, name] = validated.model
            if validated.whole:
                self.stages[kind][name] = validated.model
                self._failed.discard((kind, name))

    def _typeless(self, kind: Kind, name: str) -> str:
        layer, _ = self.settings.layer((kind, name))
        if layer is self.settings.layers[-1]:
            types_ = self._registry.types(kind)
            likely = f'; type = "{name}"' if name in types_ else ""
            return f"has no type{likely}; {accepted(types_)}"
        base = self.settings.layers[-1].values.get(kind)
        names = base if isinstance(base, Mapping) else ()
        return f"no [{kind}.{name}] is declared, and no type is set here{closest(name, names)}"

    def _nobody(self, kind: Kind, type_name: str) -> str:
        message = f'no installed plugin provides {kind} type "{type_name}"'
        if type_name in self._registry.disabled:
            return f'{message}; the plugin "{type_name}" is switched off by [plugins] disabled'
        message += guess(type_name, self._registry.types(kind))
        broken = self._registry.broken
        names = [name for name in broken if name in {type_name, f"{type_name}_{kind}"}] or list(broken)
        reasons = [f'the plugin "{name}" can\'t be loaded: {_reason(broken[name])}' for name in names]
        return "; ".join([message, *reasons])

    # References between stages

    def _references(self) -> None:
        pending: list[Reference] = []
        for (kind, name), declared in self.declared.items():
            pending += references(declared, (kind, name))
        for name, route in self.routes.items():
            at: KeyPath = ("route", name)
            pending += [Reference("tier", tier, (*at, "tiers", i)) for i, tier in enumerate(_tiers(route))]
            pending += [
                Reference("pattern", one, (*at, "patterns", i)) for i, one in enumerate(route.patterns)
            ]
        if self.cache.bus not in {"auto", "none"}:
            pending.append(Reference("bus", self.cache.bus, ("cache", "bus")))
        for kind, name, path in pending:
            if (kind, name) == ("compressor", "none") or name in self.stages[kind]:
                continue
            if (kind, name) in self._failed:
                continue
            config = self._bare(kind, name, path)
            if config is None:
                self._dangling.add((kind, name))
            else:
                self.stages[kind][name] = config
                # What a bare type refers to by its own defaults is told where the type is named.
                pending += [below._replace(path=path) for below in references(config, ())]

    def used(self) -> set[tuple[Kind, str]]:
        """Return the stages that a route or the bus leads to."""
        pending: list[Reference] = []
        for route in self.routes.values():
            pending += [Reference("tier", name, ()) for name in route.tiers]
            pending += [Reference("pattern", name, ()) for name in route.patterns]
        if self.cache.bus not in {"auto", "none"}:
            pending.append(Reference("bus", self.cache.bus, ()))
        found: set[tuple[Kind, str]] = set()
        for kind, name, _ in pending:
            if (kind, name) not in found and name in self.stages[kind]:
                found.add((kind, name))
                pending += references(self.stages[kind][name], ())
        return found

    def _bare(self, kind: Kind, reference: str, path: KeyPath) -> StageConfig | None:
        model = self._registry.get(kind, reference)
        if model is None:
            declared = [*self.stages[kind], *(name for at, name in self._failed if at == kind)]
            extra = {"compressor": ["none"], "bus": ["auto", "none"]}.get(kind, [])
            names = sorted({*declared, *self._registry.types(kind), *extra})
            message = f"no [{kind}.{reference}] is declared, and no plugin provides the type"
            if not re.fullmatch(NAME, reference):
                message = f'"{reference}" names no {kind}'
            broken = self._registry.broken.get(reference)
            if broken is not None:
                message += f' (the plugin "{reference}" can\'t be loaded: {_reason(broken)})'
            elif reference in self._registry.disabled:
                message += f' (the plugin "{reference}" is switched off by [plugins] disabled)'
            self._add(path, message + guess(reference, names))
            return None
        missing: list[str] = []
        try:
            return model.model_validate({})
        except ValidationError as error:
            missing = [
                dotted(tuple(item["loc"])) for item in error.errors(include_url=False, include_input=False)
            ]
        self._add(
            path,
            f'{kind} type "{reference}" can\'t be used by its name alone: it needs {", ".join(missing)}; '
            f"declare [{kind}.{reference}]",
        )
        return None

    # Routes

    def _order(self, name: str, route: RouteTable) -> None:
        tiers = _tiers(route)
        for index, tier in enumerate(tiers):
            path: KeyPath = ("route", name, "tiers", index)
            config = self.declared.get(("tier", tier)) or self.stages["tier"].get(tier)
            if tier in tiers[:index]:
                self._add(path, f'"{tier}" stands here twice; once is accepted')
            elif index and isinstance(config, NearTierConfig):
                self._add(
                    path,
                    f'"{tier}" keeps entries in this process; at most one such tier is accepted, '
                    "and it must come first",
                )
        configs = [self.stages["tier"].get(tier) for tier in tiers]
        if configs and all(isinstance(config, NearTierConfig) for config in configs):
            for option, wrong in (("near", route.near is False), ("coherent", route.coherent is True)):
                if wrong:
                    self._add(
                        ("route", name, option),
                        "means nothing where no tier outside this process is on the route; "
                        "a Redis or SQLite tier in `tiers` is accepted",
                    )
        for index, pattern in enumerate(route.patterns):
            if pattern in route.patterns[:index]:
                self._add(
                    ("route", name, "patterns", index), f'"{pattern}" stands here twice; once is accepted'
                )

    def _slide(self, name: str, route: RouteTable) -> None:
        if route.sliding is None:
            return
        for option in ("stale", "refresh_ahead"):
            if getattr(route, option):
                self._add(
                    ("route", name, option),
                    "can't stand beside sliding: a value that slides ends when nobody has read it for a "
                    "while; one of the two is accepted",
                )

    def _choose_default(self) -> None:
        declared = self._document.get("route", {})
        if not isinstance(declared, Mapping):
            return
        if not declared:
            self._add(("route",), NO_ROUTE)
            return
        marked = [name for name, route in self.routes.items() if route.default is True]
        if len(declared) == 1:
            self.default = next(iter(declared))
        elif marked:
            self.default = marked[0]
            for name in marked[1:]:
                message = f'is the second default route, after "{marked[0]}"; one is accepted'
                self._add(("route", name, "default"), message)
        elif "dynamic" in declared:
            self.default = "dynamic"
        elif len(self.routes) == len(declared):
            names = ", ".join(f'"{name}"' for name in declared)
            message = f"no route is the default; `default = true` in one of {names} is accepted"
            self._add(("route",), message)

    # What stages say themselves

    def policy(self, reference: str) -> PolicyConfig:
        """Return the policy that *reference* names. Raises KeyError where there is none."""
        config = self.stages["policy"][reference]
        assert isinstance(config, PolicyConfig)
        return config

    def _ask_stages(self) -> None:
        lost = self._failed | self._dangling
        for kind in KINDS:
            for name, config in self.stages[kind].items():
                if any((to, reference) in lost for to, reference, _ in references(config, ())):
                    continue
                try:
                    said = list(config.check(self))
                except Exception as error:  # noqa: BLE001  a stranger's code; told with its plugin's name
                    raise self._faulty(error, "check", kind, name, config.type_name()) from None
                for option, message in said:
                    self._add((kind, name, *(option.split(".") if option else ())), message)

    def _faulty(self, error: Exception, act: str, kind: Kind, name: str, type_name: str) -> PluginError:
        plugin = self._registry.provider(kind, type_name)
        reason = self.secrecy.scrub(_reason(error))
        return PluginError(f'the plugin "{plugin}" failed to {act} [{kind}.{name}]: {reason}')


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tiers(route: RouteTable) -> tuple[str, ...]:
    # A route that is not right may have none, or a list as it was read.
    return tuple(getattr(route, "tiers", ()))
