"""A document against what the installed plugins provide: every problem at once. Pure: no I/O."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tiercache.config.layers import PLAIN_TABLES, TABLES, TomlFile, dotted
from tiercache.config.locate import KeyPath
from tiercache.config.registry import Registry
from tiercache.config.secrecy import Secrecy
from tiercache.config.settings import Settings
from tiercache.config.tables import NAME, CacheTable, PluginsTable, RouteTable, TelemetryTable, options
from tiercache.config.wording import accepted, closest, explain, guess
from tiercache.contracts import (
    KINDS,
    Kind,
    NearTierConfig,
    PolicyConfig,
    StageConfig,
    StageRef,
)
from tiercache.errors import PluginError, Problem

_Model = TypeVar("_Model", bound=BaseModel)
NO_ROUTE = (
    "no route is declared, so that no key has a place to go; for example:\n"
    "    [route.dynamic]\n"
    '    tiers = ["memory"]\n'
    '    ttl = "1h"'
)


class Checker:
    """Checks one document. `run` fills the attributes; `problems` tells what is wrong."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.secrecy = Secrecy(settings, registry)
        self.cache = CacheTable()
        self.telemetry = TelemetryTable()
        self.stages: dict[Kind, dict[str, StageConfig]] = {kind: {} for kind in KINDS}
        self.routes: dict[str, RouteTable] = {}
        self.default = ""
        self._document = settings.document.values()
        self._registry = registry
        self._failed: set[tuple[Kind, str]] = set()
        self._dangling: set[tuple[Kind, str]] = set()
        self._declared: dict[tuple[Kind, str], StageConfig] = {}
        self._found: list[tuple[KeyPath, str]] = []

    def run(self) -> None:
        """Check everything."""
        self._tables()
        for kind in KINDS:
            for name, table in self._named(kind):
                self._stage(kind, name, table)
        for name, table in self._named("route"):
            route = self._validate(RouteTable, table, ("route", name))
            if route is not None:
                self.routes[name] = route[0]
        self._references()
        for name, route in self.routes.items():
            self._tiers(name, route)
        self._choose_default()
        self._ask_stages()

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems in the order of the document."""
        return self.told(self._found)

    def told(self, found: Sequence[tuple[KeyPath, str]]) -> tuple[Problem, ...]:
        """Return *found* as problems in the order of the document, each of them once."""
        ranked = [(self._rank(path), path, message) for path, message in dict.fromkeys(found)]
        ranked.sort(key=lambda item: item[0])
        return tuple(self._problem(path, message) for _, path, message in ranked)

    def _rank(self, path: KeyPath) -> tuple[int, int, int]:
        layer, _ = self.settings.layer(path)
        if isinstance(layer, TomlFile):
            return (0, *layer.position(path))
        return (1 + self.settings.layers.index(layer), 0, 0)

    def _problem(self, path: KeyPath, message: str) -> Problem:
        layer, _ = self.settings.layer(path)
        return Problem(
            layer.where(path), dotted(path), self.secrecy.scrub(message), self.secrecy.excerpt(path)
        )

    def _add(self, path: KeyPath, message: str) -> None:
        self._found.append((path, message))

    # Tables and their options

    def _tables(self) -> None:
        for name in self._document:
            if name not in TABLES:
                self._add((name,), f"unknown table{guess(name, TABLES)}")
        models: tuple[type[BaseModel], ...] = (CacheTable, PluginsTable, TelemetryTable)
        for name, model in zip(PLAIN_TABLES, models, strict=True):
            if name in self._document:
                found = self._validate(model, self._document[name], (name,))
                if found is not None:
                    self._plain(found[0])

    def _plain(self, table: BaseModel) -> None:
        if isinstance(table, CacheTable):
            self.cache = table
        elif isinstance(table, TelemetryTable):
            self.telemetry = table
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
        validated = self._validate(model, table, (kind, name))
        if validated is not None:
            config, whole = validated
            self._declared[kind, name] = config
            if whole:
                self.stages[kind][name] = config
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

    def _validate(self, model: type[_Model], table: Any, path: KeyPath) -> tuple[_Model, bool] | None:
        """Return *table* as *model*, and whether it is right: what is wrong is left out otherwise, so that
        what refers to other stages can still be looked at.
        """
        if not isinstance(table, Mapping):
            self._add(path, f"is no table; [{dotted(path)}] is accepted")
            return None
        values = {
            name: self._from_text(value, options(model).get(name), (*path, name))
            for name, value in table.items()
        }
        errors: list[Any] = []
        try:
            return model.model_validate(values), True
        except ValidationError as error:
            # Told outside, so that no problem carries the values of the whole table along as its context.
            errors = error.errors(include_url=False)
        messages: dict[KeyPath, list[str]] = {}
        for error in errors:
            place = _place(error["loc"], values)
            show = self.secrecy.may_show((*path, *place), error["input"])
            messages.setdefault(place, []).append(explain(error, tuple(options(model)), show=show))
        for place, texts in messages.items():
            self._add((*path, *place), "; or ".join(dict.fromkeys(texts)))
        wrong = {place[0] for place in messages if place}
        return model.model_construct(
            **{name: value for name, value in values.items() if name not in wrong}
        ), False

    def _from_text(self, value: Any, field: Any, path: KeyPath) -> Any:
        """Return *value*, taken apart where the environment has text for an option that is a list or a table."""
        if not isinstance(value, str) or field is None or not self.settings.textual(path):
            return value
        shape = _shape(field.annotation)
        if shape is None:
            return value
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        if isinstance(parsed, shape):
            return parsed
        return [part for item in value.split(",") if (part := item.strip())] if shape is list else value

    # References between stages

    def _references(self) -> None:
        pending: list[tuple[Kind, str, KeyPath]] = []
        for (kind, name), config in self._declared.items():
            pending += _references(config, (kind, name))
        for name, route in self.routes.items():
            pending += [("tier", tier, ("route", name, "tiers", i)) for i, tier in enumerate(_tiers(route))]
            pending += [
                ("pattern", one, ("route", name, "patterns", i)) for i, one in enumerate(route.patterns)
            ]
        if self.cache.bus not in {"auto", "none"}:
            pending.append(("bus", self.cache.bus, ("cache", "bus")))
        for kind, reference, path in pending:
            if (kind, reference) == ("compressor", "none") or reference in self.stages[kind]:
                continue
            if (kind, reference) in self._failed:
                continue
            config = self._bare(kind, reference, path)
            if config is None:
                self._dangling.add((kind, reference))
            else:
                self.stages[kind][reference] = config
                # What a bare type refers to by its own defaults is told where the type is named.
                pending += [(below, name, path) for below, name, _ in _references(config, ())]

    def used(self) -> set[tuple[Kind, str]]:
        """Return the stages that a route or the bus leads to."""
        pending: list[tuple[Kind, str]] = []
        for route in self.routes.values():
            pending += [("tier", name) for name in route.tiers]
            pending += [("pattern", name) for name in route.patterns]
        if self.cache.bus not in {"auto", "none"}:
            pending.append(("bus", self.cache.bus))
        found: set[tuple[Kind, str]] = set()
        for stage in pending:
            if stage not in found and stage[1] in self.stages[stage[0]]:
                found.add(stage)
                config = self.stages[stage[0]][stage[1]]
                pending += [(kind, name) for kind, name, _ in _references(config, ())]
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

    def _tiers(self, name: str, route: RouteTable) -> None:
        tiers = _tiers(route)
        for index, tier in enumerate(tiers):
            path: KeyPath = ("route", name, "tiers", index)
            config = self._declared.get(("tier", tier)) or self.stages["tier"].get(tier)
            if tier in tiers[:index]:
                self._add(path, f'"{tier}" stands here twice; once is accepted')
            elif index and isinstance(config, NearTierConfig):
                self._add(
                    path,
                    f'"{tier}" keeps entries in this process; at most one such tier is accepted, '
                    "and it must come first",
                )
        for index, pattern in enumerate(route.patterns):
            if pattern in route.patterns[:index]:
                self._add(
                    ("route", name, "patterns", index), f'"{pattern}" stands here twice; once is accepted'
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
                if any((to, reference) in lost for to, reference, _ in _references(config, ())):
                    continue
                try:
                    said = list(config.check(self))
                except Exception as error:
                    plugin = self._registry.provider(kind, config.type_name())
                    raise PluginError(
                        f'the plugin "{plugin}" failed to check [{kind}.{name}]: {self.secrecy.scrub(_reason(error))}'
                    ) from None
                for option, message in said:
                    self._add((kind, name, *(option.split(".") if option else ())), message)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tiers(route: RouteTable) -> tuple[str, ...]:
    # A route that is not right may have none, or a list as it was read.
    return tuple(getattr(route, "tiers", ()))


def _place(loc: Sequence[str | int], values: Any) -> KeyPath:
    """Return *loc* less the names of union members that validation puts in between."""
    path: list[str | int] = []
    node = values
    for depth, part in enumerate(loc):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            # The missing or unknown option itself.
            if depth == len(loc) - 1 and isinstance(node, Mapping):
                path.append(part)
            continue
        path.append(part)
    return tuple(path)


def _shape(annotation: Any) -> type[list[Any]] | type[dict[str, Any]] | None:
    """Return what an option of this annotation is in JSON, where it is a list or a table."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _shape(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        shapes = [_shape(part) for part in parts]
        return None if None in shapes else shapes[0]
    base = origin or annotation
    if not isinstance(base, type):
        return None
    if issubclass(base, (list, tuple, set, frozenset)) or base is Sequence:
        return list
    return dict if issubclass(base, (dict, BaseModel, Mapping)) else None


def _references(config: BaseModel, path: KeyPath) -> list[tuple[Kind, str, KeyPath]]:
    """Return what *config* refers to, with the option that does."""
    out: list[tuple[Kind, str, KeyPath]] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name, None)
        at = (*path, field.alias or name)
        marks = [mark for mark in field.metadata if isinstance(mark, StageRef)]
        if marks and isinstance(value, str):
            out.append((marks[0].kind, value, at))
        else:
            out += _within(field.annotation, value, at)
    return out


def _within(annotation: Any, value: Any, path: KeyPath) -> list[tuple[Kind, str, KeyPath]]:
    if isinstance(value, BaseModel):
        return _references(value, path)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated and isinstance(value, str):
        return [(mark.kind, value, path) for mark in arguments[1:] if isinstance(mark, StageRef)]
    out: list[tuple[Kind, str, KeyPath]] = []
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            for part in dict.fromkeys(arguments):
                out += _within(part, item, (*path, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            out += _within(arguments[-1] if arguments else None, item, (*path, str(key)))
    elif isinstance(value, str):
        for part in arguments:
            out += _within(part, value, path)
    return out
