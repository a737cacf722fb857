from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fake_stages import registry as fake_registry
from tiercache import ConfigError
from tiercache.config.plan import plan
from tiercache.config.registry import Registry
from tiercache.config.schema import builtin, render, schema

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "tiercache.toml"


@pytest.fixture(scope="module")
def validator() -> Any:
    made = json.loads(render(builtin(Registry.load())))
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def test_the_committed_schema_is_current() -> None:
    committed = (ROOT / "schemas" / "tiercache.schema.json").read_text(encoding="utf-8")
    assert committed == render(builtin(Registry.load())), (
        "run: tiercache schema --builtin > schemas/tiercache.schema.json"
    )


def test_the_shipped_pipeline_is_valid_by_schema_and_by_plan(validator: Any) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    validator.validate(tomllib.loads(text))
    assert text.startswith("#:schema ./schemas/tiercache.schema.json\n")
    found = plan(SHIPPED, environ={})
    assert list(found.routes) == ["static", "dynamic", "computed", "temporary"]
    assert found.default == "dynamic"
    assert found.routes["temporary"].tiers == ("memory",)
    assert not found.warnings


def test_the_commented_lines_of_the_shipped_pipeline_are_valid_too(validator: Any) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    text = re.sub(r"^# (?=\[tier\.redis\]|\w+ = )", "", text, flags=re.MULTILINE)
    text = text.replace('["memory", "disk"]', '["memory", "redis", "disk"]')
    document = tomllib.loads(text)
    assert document["tier"]["redis"]["type"] == "redis"
    validator.validate(document)
    assert not plan(document, environ={}).warnings


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[tier.memory]\nmax_entrys = 5", ["tier", "memory"], "'max_entrys' was unexpected"),
        ('[tier.memory]\ntype = "memry"', ["tier", "memory", "type"], "'memry' is not one of"),
        ("[tier.memory]\nmax_entries = 'x'", ["tier", "memory", "max_entries"], "'x' is not"),
        ("[compressor.zstd]\nlevel = 99", ["compressor", "zstd", "level"], "99 is greater than the maximum"),
        ("[tier.x]\nmax_entries = 5", ["tier", "x"], "'type' is a required property"),
        ('[tier.L2]\ntype = "memory"', ["tier"], "'L2' does not match"),
        ("[route.dynamic]\nttl = 'soon'", ["route", "dynamic", "ttl"], "'soon' is not"),
        ("[route.dynamic]\ntiers = []", ["route", "dynamic", "tiers"], "[] should be non-empty"),
        ("[rout.dynamic]", [], "'rout' was unexpected"),
        ("[cache]\nnamespace = 'my shop'", ["cache", "namespace"], "'my shop' does not match"),
        ("[telemetry]\nmetrics = 5", ["telemetry", "metrics"], "5 is not of type 'boolean'"),
    ],
)
def test_one_mistake_gives_one_complaint_where_it_is(
    validator: Any, text: str, path: list[str], message: str
) -> None:
    document = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    for table, names in tomllib.loads(text).items():
        for name, value in names.items():
            below = document.setdefault(table, {})
            below[name] = {**below.get(name, {}), **value} if isinstance(value, dict) else value
    (error,) = validator.iter_errors(document)
    assert list(error.absolute_path) == path
    assert message in error.message
    with pytest.raises(ConfigError):
        plan(document, environ={})


def test_every_option_of_every_builtin_is_described() -> None:
    definitions = schema(builtin(Registry.load()))["definitions"]
    for name, definition in definitions.items():
        assert definition.get("description"), name
        for option, described in definition.get("properties", {}).items():
            assert option == "type" or described.get("description"), f"{name}: {option}"


def test_nested_tables_of_plugins_do_not_collide_and_resolve() -> None:
    made = schema(fake_registry())
    jsonschema.Draft7Validator.check_schema(made)
    assert "tier.redis.Login" in made["definitions"]
    document = {
        "tier": {"r": {"type": "redis", "login": {"usr": "x"}}},
        "route": {"a": {"tiers": ["r"]}},
    }
    (error,) = jsonschema.Draft7Validator(made).iter_errors(document)
    found = [error, *error.context]
    assert any("'usr' was unexpected" in one.message for one in found)


def test_plugins_of_others_are_not_in_the_builtin_schema() -> None:
    others = Registry(fake_registry().offers, distributions={"stages": "shop 1.0"})
    assert builtin(others).offers == ()
    assert json.loads(render(others))["properties"]["tier"]["additionalProperties"]["properties"]["type"][
        "enum"
    ]


def test_the_schema_is_the_same_text_each_time() -> None:
    assert render(Registry.load()) == render(Registry.load())
