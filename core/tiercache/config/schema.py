"""JSON Schema of a document, for editors: what the installed plugins accept, and nothing else.

One `if type is … then` a plugin, instead of a choice between all: editors then complain about the one
option that is wrong, not about a table that fits none. Draft 7, which all of them read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from tiercache.config.registry import Registry
from tiercache.config.tables import NAME, CacheTable, PluginsTable, RouteTable, TelemetryTable
from tiercache.contracts import KINDS, Kind, StageConfig

DISTRIBUTION: Final = "tiercache-kernel"
"""The distribution whose plugins are the built-in ones."""

_KINDS: Final[Mapping[Kind, str]] = {
    "tier": "Places where entries are kept. Routes list them by name.",
    "serializer": "How values become bytes. Tiers outside this process name one.",
    "compressor": "How bytes are made smaller. Tiers outside this process name one.",
    "policy": "Which entries are given up where room is needed. Tiers name one.",
    "pattern": "What happens around loading and storing. Routes list them by name.",
    "bus": "How other processes are told what changed. [cache] names one.",
}


def builtin(registry: Registry) -> Registry:
    """Return *registry* less the plugins of other distributions."""
    return registry.without(
        [
            plugin
            for plugin in registry.plugins
            if registry.distributions.get(plugin, "").split(" ")[0] != DISTRIBUTION
        ]
    )


def schema(registry: Registry) -> dict[str, Any]:
    """Return the schema of documents for the plugins of *registry*.

    Raises PluginError where two plugins claim one type.
    """
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {
        "cache": _model(CacheTable, "cache", definitions),
        "plugins": _model(PluginsTable, "plugins", definitions),
        "telemetry": _model(TelemetryTable, "telemetry", definitions),
    }
    for kind in KINDS:
        properties[kind] = _named(_KINDS[kind], _stage(registry, kind, definitions))
    route = _model(RouteTable, "route", definitions)
    properties["route"] = _named("Where the values of some keys go, and for how long.", route)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "tiercache.toml",
        "description": "The pipeline of a tiercache cache.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "definitions": dict(sorted(definitions.items())),
    }


def render(registry: Registry) -> str:
    """Return the schema as text: the same text for the same plugins."""
    return json.dumps(schema(registry), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _named(description: str, table: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": {"pattern": NAME},
        "additionalProperties": table,
    }


def _stage(registry: Registry, kind: Kind, definitions: dict[str, Any]) -> dict[str, Any]:
    branches: list[dict[str, Any]] = []
    types = registry.types(kind)
    for type_name in types:
        config = registry.get(kind, type_name)
        if config is not None:
            reference = f"{kind}.{type_name}"
            definitions[reference] = _stage_model(config, reference, definitions)
            branches.append(
                {
                    "if": {"properties": {"type": {"const": type_name}}, "required": ["type"]},
                    "then": {"$ref": f"#/definitions/{reference}"},
                }
            )
    table: dict[str, Any] = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"description": f"Which {kind} this is.", "enum": [*types]}},
        # What else may stand here is the business of the branch.
        "additionalProperties": True,
    }
    if branches:
        table["allOf"] = branches
    return table


def _stage_model(config: type[StageConfig], reference: str, definitions: dict[str, Any]) -> dict[str, Any]:
    model = _model(config, reference, definitions)
    options = model["properties"]
    return {**model, "properties": {"type": {"const": config.type_name()}, **_without(options, "type")}}


def _model(model: type[BaseModel], reference: str, definitions: dict[str, Any]) -> dict[str, Any]:
    made = model.model_json_schema(ref_template=f"#/definitions/{reference}.{{model}}")
    for name, definition in made.pop("$defs", {}).items():
        definitions[f"{reference}.{name}"] = _tidy(definition)
    tidy: dict[str, Any] = _tidy(made)
    return tidy


def _tidy(node: Any) -> Any:
    """Return *node* without titles, which only repeat names, and with numbers that JSON has."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if isinstance(node, float) and math.isinf(node):
        return "never"
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _tidy(option) for name, option in value.items()}
        elif key == "description":
            # A docstring's lines are broken where the source's are.
            out[key] = "\n\n".join(" ".join(part.split()) for part in str(value).split("\n\n"))
        elif key != "title":
            out[key] = _tidy(value)
    return out


def _without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}
