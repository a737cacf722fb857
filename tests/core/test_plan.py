from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, field_validator

from fake_stages import Disk, Hybrid, Memory, Msgpack, Server, Stages, Zstd, registry
from tiercache import ConfigError, NearTierConfig, PluginError, Problem, hookimpl
from tiercache.config.plan import Plan, RoutePlan
from tiercache.config.plan import plan as unbound_plan
from tiercache.config.registry import Registry
from tiercache.engine.telemetry import Options

MEMORY = {"type": "memory"}
DISK = {"type": "sqlite", "path": "x"}
REDIS = {"type": "redis"}


def plan(
    source: Any,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    plugins: Registry | None = None,
) -> Plan:
    return unbound_plan(source, overrides, environ=environ or {}, registry=plugins or registry())


def problems(source: Any, *arguments: Any, **named: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        plan(source, *arguments, **named)
    return list(caught.value.problems)


def only(source: Any, *arguments: Any, **named: Any) -> Problem:
    (problem,) = problems(source, *arguments, **named)
    return problem


def with_route(tiers: list[str] | None = None, **tables: Any) -> dict[str, Any]:
    return {"tier": {"memory": MEMORY}, **tables, "route": {"dynamic": {"tiers": tiers or ["memory"]}}}


def write(folder: Path, text: str) -> Path:
    file = folder / "tiercache.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_whole_document_becomes_a_plan(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [cache]
        namespace = "shop"
        max_value_bytes = "1KiB"
        bus = "radio"
        lease = "500ms"
        [telemetry]
        metrics = true
        [plugins]
        disabled = []
        [tier.memory]
        type = "memory"
        max_entries = 10_000
        [tier.disk]
        type = "sqlite"
        path = "x.db"
        max_ttl = "1d"
        compressor = "small"
        [compressor.small]
        type = "zstd"
        level = 5
        [route.static]
        tiers = ["memory", "disk"]
        keys = ["a:*", "b?"]
        ttl = "1h30m"
        stale = "5m"
        patterns = ["warm"]
        copy = true
        [route.dynamic]
        tiers = ["disk"]
        ttl = "never"
        """,
    )
    found = plan(file)
    assert found.namespace == "shop"
    assert found.max_value_bytes == 1024
    assert (found.lease, found.directory) == (0.5, tmp_path)
    assert {tier: name for tier, (name, _) in found.buses.items()} == {"disk": "radio"}
    assert found.telemetry == Options(metrics=True)
    assert list(found.routes) == ["static", "dynamic"]
    assert found.routes["static"] == RoutePlan(
        "static", ("memory", "disk"), ("a:*", "b?"), 5400.0, 300.0, ("warm",), True
    )
    assert found.routes["dynamic"] == RoutePlan("dynamic", ("disk",), (), math.inf, 0.0, (), False)
    assert found.default == "dynamic"
    assert found.tier("memory") == Memory(max_entries=10_000)
    assert found.tier("disk") == Disk(path=Path("x.db"), max_ttl="1d", compressor="small")
    assert found.policy("hybrid") == Hybrid()
    assert found.serializer("msgpack") == Msgpack()
    assert found.compressor("small") == Zstd(level=5)
    assert found.compressor("none") is None
    assert found.pattern("warm").type_name() == "warm"
    assert set(found.stages["bus"]) == {"radio"}
    assert not found.warnings
    with pytest.raises(KeyError):
        found.tier("nosuch")


def test_defaults_of_the_cache() -> None:
    found = plan(with_route())
    assert (found.namespace, found.max_value_bytes, found.buses, found.lease) == ("tiercache", 2**26, {}, 2.0)
    assert found.directory == Path.cwd()
    assert found.telemetry == Options(metrics=False)


def test_a_bare_type_gets_its_defaults() -> None:
    found = plan({"route": {"only": {"tiers": ["memory", "redis"]}}})
    assert found.tier("memory") == Memory()
    assert found.tier("redis") == Server()
    assert set(found.stages["policy"]) == {"hybrid"}
    assert set(found.stages["serializer"]) == {"msgpack"}
    assert found.default == "only"


def test_durations_in_python_are_seconds_timedeltas_or_text() -> None:
    for ttl in (90, 90.0, timedelta(seconds=90), "1m30s"):
        source = {"route": {"a": {"tiers": ["memory"], "ttl": ttl}}}
        assert plan(source).routes["a"].ttl == 90.0
    assert plan({"route": {"a": {"tiers": ["memory"], "ttl": math.inf}}}).routes["a"].ttl == math.inf


def test_arguments_and_the_environment_win_over_the_document() -> None:
    environ = {
        "TIERCACHE_TIER__MEMORY__MAX_ENTRIES": "7",
        "TIERCACHE_TIER__MEMORY__POLICY": "lru",
        "TIERCACHE_CACHE__NAMESPACE": "123",
        "TIERCACHE_TELEMETRY__METRICS": "true",
    }
    found = plan(with_route(), {"tier": {"memory": {"policy": "hybrid"}}}, environ)
    assert found.tier("memory") == Memory(max_entries=7, policy="hybrid")
    assert found.namespace == "123"
    assert found.telemetry.metrics


def test_a_stage_may_be_declared_by_the_environment_whole() -> None:
    environ = {
        "TIERCACHE_TIER__REDIS__TYPE": "redis",
        "TIERCACHE_TIER__REDIS__URL": "redis://h",
        "TIERCACHE_TIER__REDIS__PASSWORD": "12345",
        "TIERCACHE_TIER__REDIS__RETRY": "yes",
        "TIERCACHE_TIER__REDIS__NODES": "a:1, b:2,",
        "TIERCACHE_TIER__REDIS__LABELS": '{"a": "b"}',
        "TIERCACHE_TIER__REDIS__LOGIN__USER": "you",
        "TIERCACHE_ROUTE__DYNAMIC__TIERS": "memory,redis",
        "TIERCACHE_ROUTE__DYNAMIC__KEYS": '["a,b", "[xy]*"]',
    }
    found = plan(with_route(), environ=environ)
    server = found.tier("redis")
    assert isinstance(server, Server)
    assert server.password is not None
    assert server.password.get_secret_value() == "12345"
    assert (server.retry, server.nodes, server.labels) == (True, ("a:1", "b:2"), {"a": "b"})
    assert server.login is not None
    assert server.login.user == "you"
    assert found.routes["dynamic"].tiers == ("memory", "redis")
    assert found.routes["dynamic"].keys == ("a,b", "[xy]*")
    environ["TIERCACHE_ROUTE__DYNAMIC__KEYS"] = "[ab]*, c*"
    assert plan(with_route(), environ=environ).routes["dynamic"].keys == ("[ab]*", "c*")


BROKEN = """\
[cache]
namespace = "my shop"
lease = "never"

[tier.memory]
type = "memory"
max_entrys = 10_000
max_bytes = "lots"
policy = "hybird"

[tier.disk]
type = "sqlit"
path = "x"

[tier.redis]
type = "redis"
retry = "maybe"
mode = "clustr"
url = "redis://:hunter2@h"  # hunter3
login = { usr = "a", secret = 5 }

[tier.L2]
type = "memory"

[tier.far]
path = "x"

[policy]
hybrid = "hybrid"

[rout.static]
tiers = []

[route.static]
tiers = [
  "memory",
  "disc", "memory"
]
keys = ["a[", "b*"]
ttl = "0s"

[route."a.b"]
tiers = ["memory"]

[route.empty]
tiers = []
default = true

[route.none]
default = true

[route.late]
tiers = ["redis", "near"]
patterns = "warm"

[tier.near]
type = "memory"
max_entries = 0
"""

PLACES = """\
2:1 cache.namespace "my shop" is no namespace
3:1 cache.lease "never" is not accepted here
7:1 tier.memory.max_entrys unknown option; did you mean "max_entries"?
8:1 tier.memory.max_bytes "lots" is no size
9:1 tier.memory.policy did you mean "hybrid"?
12:1 tier.disk.type no installed plugin provides tier type "sqlit"; did you mean "sqlite"?
17:1 tier.redis.retry "maybe" is not accepted; true or false is
18:1 tier.redis.mode did you mean "cluster"?
20:11 tier.redis.login.usr unknown option
20:22 tier.redis.login.secret the value is not accepted; a string is
22:7 tier.L2 can't be a name
25:7 tier.far has no type; memory, redis and sqlite are accepted
29:1 policy.hybrid is no table; [policy.hybrid] with a type is accepted
31:2 rout unknown table; did you mean "route"?
37:3 route.static.tiers.1 no [tier.disc] is declared, and no plugin provides the type; did you mean "disk"?
37:11 route.static.tiers.2 "memory" stands here twice
39:9 route.static.keys.0 opens a class
40:1 route.static.ttl a duration must be more than zero
42:8 route."a.b" can't be a name
46:1 route.empty.tiers is too short; at least 1 is accepted
49:8 route.none.tiers is missing
50:1 route.none.default is the second default route, after "empty"
53:19 route.late.tiers.1 "near" keeps entries in this process
54:1 route.late.patterns "warm" is not accepted; a list
58:1 tier.near.max_entries 0 is not accepted; at least 1 is
"""


def test_everything_that_is_wrong_is_told_at_once_and_located(tmp_path: Path) -> None:
    file = write(tmp_path, BROKEN)
    found = problems(file)
    expected = [line.split(" ", 2) for line in PLACES.splitlines()]
    assert [(problem.where, problem.path) for problem in found] == [
        (f"{file}:{place}", path) for place, path, _ in expected
    ]
    for problem, (place, _, message) in zip(found, expected, strict=True):
        assert message in problem.message
        line, column = map(int, place.split(":"))
        shown, marker = problem.excerpt.split("\n")
        assert shown.startswith(f" {line} | ")
        assert marker.index("^") == shown.index("|") + 1 + max(column, 1) or line == 20
    assert "hunter" not in str(found)


def test_problems_read_as_one_message(tmp_path: Path) -> None:
    file = write(tmp_path, '[tier.memory]\ntype = "memory"\nmax_entrys = 5\n[route.a]\ntiers = ["memory"]\n')
    with pytest.raises(ConfigError) as caught:
        plan(file)
    assert str(caught.value) == (
        f'{file}:3:1: tier.memory.max_entrys: unknown option; did you mean "max_entries"?\n'
        " 3 | max_entrys = 5\n"
        "   | ^^^^^^^^^^"
    )


def test_an_excerpt_fits_a_terminal_and_keeps_its_marker(tmp_path: Path) -> None:
    keys = ", ".join(f'"key{i}:*"' for i in range(40))
    file = write(tmp_path, f'[route.a]\ntiers = ["memory"]\n\tkeys = [{keys}, "a["] # {"x" * 200}\n')
    problem = only(file)
    line, marker = problem.excerpt.split("\n")
    assert max(len(line), len(marker)) < 120
    assert line[marker.index("^") :].startswith('"a["')
    short = only(write(tmp_path, '[route.a]\ntiers = ["memory"]\n\tkey = 5\n'))
    assert short.excerpt == " 3 | \tkey = …\n   | \t^^^".replace("…", '"…"')


def test_problems_in_a_project_file_are_located_and_show_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool]\nother = {token = "hunter2"}\ntiercache = {route = {a = {tiers = ["memry"], ttl = "1h"}}}\n'
    )
    problem = only(file)
    assert (problem.where, problem.path) == (f"{file}:3:37", "route.a.tiers.0")
    assert problem.excerpt.split("\n")[1].index("^") == 41
    file.write_text('tool = {other = {token = "hunter2"}, tiercache = {route = {a = {tiers = ["memry"]}}}}\n')
    assert "hunter2" not in str(problems(file))


def test_an_option_of_the_cache_at_the_top_is_pointed_to_its_table() -> None:
    assert only({**with_route(), "namespace": "x"}).message.endswith("did you mean the option under [cache]?")


def test_problems_name_the_layer_that_set_the_value(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "tiercache_tier__memory__max_ttl").write_text("soonish")
    environ = {
        "TIERCACHE_SECRETS_DIR": str(secrets),
        "TIERCACHE_TIER__MEMORY__MAX_ENTRIES": "many",
        "TIERCACHE_TIER__MEMRY__MAX_ENTRIES": "5",
        "TIERCACHE_TYPO": "5",
    }
    found = problems(with_route(), {"tier": {"memory": {"max_bytes": "lots"}}}, environ)
    told = {problem.where: (problem.path, problem.message) for problem in found}
    assert set(told) == {
        "environment TIERCACHE_TIER__MEMORY__MAX_ENTRIES",
        "environment TIERCACHE_TIER__MEMRY__MAX_ENTRIES",
        "environment TIERCACHE_TYPO",
        "secret file tiercache_tier__memory__max_ttl",
        "argument tier.memory.max_bytes",
    }
    path, message = told["environment TIERCACHE_TIER__MEMRY__MAX_ENTRIES"]
    assert path == "tier.memry"
    assert message == 'no [tier.memry] is declared, and no type is set here; did you mean "memory"?'
    path, message = told["secret file tiercache_tier__memory__max_ttl"]
    assert path == "tier.memory.max_ttl"
    assert "soonish" not in message


def test_no_route_shows_what_would_be_accepted() -> None:
    problem = only({"tier": {"memory": MEMORY}})
    assert "no route is declared" in problem.message
    source = problem.message.partition("for example:\n")[2]
    assert len(source.splitlines()) == 3


@pytest.mark.parametrize(
    ("routes", "default"),
    [
        ({"a": {}}, "a"),
        ({"a": {}, "b": {"default": True}}, "b"),
        ({"a": {}, "dynamic": {}}, "dynamic"),
        ({"a": {"default": True}, "dynamic": {}}, "a"),
    ],
)
def test_the_default_route(routes: dict[str, Any], default: str) -> None:
    source = {"route": {name: {"tiers": ["memory"], **table} for name, table in routes.items()}}
    assert plan(source).default == default


def test_several_routes_without_a_default_are_a_problem() -> None:
    problem = only({"route": {"a": {"tiers": ["memory"]}, "b": {"tiers": ["memory"]}}})
    assert problem.path == "route"
    assert 'no route is the default; `default = true` in one of "a", "b" is accepted' in problem.message


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        (with_route(tier=5), "tier", "is no table; [tier.NAME] is accepted"),
        (with_route(cache=[]), "cache", "is no table; [cache] is accepted"),
        ({"route": 5}, "route", "is no table; [route.NAME] is accepted"),
        (with_route(plugins={"disabled": ["stagse"]}), "plugins.disabled.0", 'did you mean "stages"?'),
        (with_route(cache={"bus": "rado"}), "cache.bus", "no [bus.rado] is declared"),
        (with_route(cache={"namespace": "x" * 65}), "cache.namespace", "1 to 64 of the characters"),
        (with_route(compressor={"none": {"type": "zstd"}}), "compressor.none", 'the name "none" means'),
        (with_route(tier={"memory": {"type": 5}}), "tier.memory.type", "is no string; memory, redis"),
        (with_route(["memory", "sqlite"]), "route.dynamic.tiers.1", "it needs path; declare [tier.sqlite]"),
        (with_route(["memory", "Re dis"]), "route.dynamic.tiers.1", 'names no tier; did you mean "redis"?'),
        (with_route(bus={"b": {"type": "radio", "tier": "rdis"}}), "bus.b.tier", 'did you mean "redis"?'),
        (
            with_route(["disk"], tier={"disk": {**DISK, "policy": "lru"}}),
            "tier.disk.policy",
            '"lru" has no order for rows; "hybrid" is accepted',
        ),
    ],
)  # fmt: skip
def test_each_of_these_is_a_problem(source: Any, path: str, message: str) -> None:
    problem = only(source)
    assert problem.path == path
    assert message in problem.message


def test_what_refers_to_a_broken_stage_is_not_told_besides() -> None:
    problem = only(with_route(tier={"memory": {**MEMORY, "max_entries": 0}}))
    assert problem.path == "tier.memory.max_entries"


def test_a_default_that_leads_nowhere_is_told_where_the_stage_is() -> None:
    class Alone:
        @hookimpl
        def tiercache_tiers(self):
            return [Memory]

    problem = only(with_route(), plugins=Registry.of({"alone": Alone()}))
    assert problem.path == "tier.memory.policy"
    assert "no [policy.hybrid] is declared" in problem.message


def test_a_broken_plugin_is_told_of_only_where_it_is_missed() -> None:
    working = registry()
    broken = Registry(working.offers, {"shelf": ImportError("no module named shelves")})
    assert plan(with_route(), plugins=broken).default == "dynamic"
    problem = only(with_route(["shelf"], tier={"shelf": {"type": "shelf"}}), plugins=broken)
    assert 'the plugin "shelf" can\'t be loaded: ImportError: no module named shelves' in problem.message
    found = problems(with_route(["shelf"]), plugins=broken)
    assert "no module named shelves" in found[0].message


def test_a_disabled_plugin_provides_nothing() -> None:
    class Other:
        @hookimpl
        def tiercache_tiers(self):
            return [Memory]

    twice = Registry.of({"stages": Stages(), "memory": Other()})
    with pytest.raises(
        PluginError, match='tier type "memory" is provided by the plugins "memory" and "stages"'
    ):
        plan(with_route(), plugins=twice)
    assert plan(with_route(plugins={"disabled": ["memory"]}), plugins=twice).registry.disabled == {"memory"}
    alone = Registry.of({"memory": Other()})
    problem = problems(with_route(), None, {"TIERCACHE_PLUGINS__DISABLED": "memory"}, plugins=alone)[0]
    assert 'the plugin "memory" is switched off by [plugins] disabled' in problem.message


def test_a_plugin_whose_check_fails_is_named() -> None:
    class Odd(NearTierConfig):
        type: Literal["odd"] = "odd"

        def check(self, context):
            raise ZeroDivisionError("oh")

    plugin = SimpleNamespace(tiercache_tiers=hookimpl(lambda: [Odd]))
    with pytest.raises(
        PluginError, match=r'the plugin "x" failed to check \[tier.odd\]: ZeroDivisionError: oh'
    ):
        plan({"route": {"a": {"tiers": ["odd"]}}}, plugins=Registry.of({"x": plugin}))


def lint(source: Any) -> list[tuple[str, str]]:
    return [(warning.path, warning.message) for warning in plan(source).warnings]


def test_a_life_in_memory_that_is_longer_than_behind_it_is_suspicious() -> None:
    tiers = {"memory": {**MEMORY, "max_ttl": "2h"}, "redis": {**REDIS, "max_ttl": "1h"}}
    ((path, message),) = lint(with_route(["memory", "redis"], tier=tiers))
    assert path == "tier.redis.max_ttl"
    assert 'copies stay in "redis" for 1h, but in "memory", which is nearer, for 2h' in message
    tiers["memory"]["max_ttl"] = "1h"
    assert not lint(with_route(["memory", "redis"], tier=tiers))
    source = with_route(["memory", "redis"], tier={"memory": MEMORY, "redis": tiers["redis"]})
    source["route"]["dynamic"]["ttl"] = "30m"
    assert not lint(source)


def test_tiers_that_nobody_tells_of_changes_are_suspicious() -> None:
    tiers = {"memory": MEMORY, "redis": REDIS, "disk": DISK}
    assert not lint(with_route(["memory", "redis", "disk"], tier=tiers))
    found = lint(with_route(["memory", "redis", "disk"], tier=tiers, cache={"bus": "none"}))
    assert [path for path, _ in found] == ["route.dynamic.tiers.0", "route.dynamic.tiers.2"]
    assert 'which other processes change, while [cache] bus = "none"' in found[0][1]
    assert '"disk" keeps what "redis" held once' in found[1][1]
    alone = {"memory": MEMORY, "disk": DISK}
    assert not lint(with_route(["memory", "disk"], tier=alone, cache={"bus": "none"}))


def test_a_disk_in_front_of_a_shared_tier_is_suspicious() -> None:
    tiers = {"memory": MEMORY, "disk": DISK, "redis": REDIS}
    ((path, message),) = lint(with_route(["memory", "disk", "redis"], tier=tiers))
    assert path == "route.dynamic.tiers.1"
    assert '"disk" is of this host alone and stands in front of "redis"' in message
    assert 'a place behind "redis" is usual' in message


def test_what_is_declared_and_never_used_is_suspicious() -> None:
    source = with_route(
        tier={"memory": MEMORY, "disk": DISK},
        policy={"mine": {"type": "lru"}},
        serializer={"old": {"type": "pickle", "key": "k" * 32}, "new": {"type": "msgpack"}},
        bus={"b": {"type": "radio"}},
    )
    assert lint(source) == [
        ("tier.disk", "is declared and never used"),
        ("serializer.new", "is declared and never used"),
        ("policy.mine", "is declared and never used"),
    ]


def test_keys_that_an_earlier_route_takes_are_suspicious() -> None:
    source = {
        "route": {
            "a": {"tiers": ["memory"], "keys": ["x:*", "x:*"], "default": True},
            "b": {"tiers": ["memory"], "keys": ["x:*", "y:*"]},
        }
    }
    assert lint(source) == [
        ("route.a.keys.1", '"x:*" stands here twice; once is enough'),
        ("route.b.keys.0", '"x:*" never gets here: route "a" takes the same keys before'),
    ]


SECRETS = st.text("abcdefgh0123456789", min_size=12, max_size=20)
ODD_SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4).filter(str.strip)


@settings(max_examples=5)
@given(secret=SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        'url = "{}"',
        'url = "no scheme, {}"',
        'pasword = "{}"',
        'url = "rediss://u:{}@h:x/0"\nurll = 5',
        "url = 'redis://h?password={}'\nretry = 'no way'",
        'password = ["{}"]',
        "password = 5 # {}",
        'login = {{ usr = 1, secret = "{}" }}',
        'login = {{ secret = "{}", usr = 1 }}',
        'login = {{ secret = """\n{}""", usr = 1 }}',
        'nodes = ["redis://:{}@h", 5]',
        'mode = "redis://:{}@h"',
        'timeout = "redis://:{}@h"',
        'nodes = "redis://x:{}@h"',
        'unknown = "{}"',
        'nested.token = "{}"',
        'api_key = {{ x = "{}" }}',
        'password = "{}" unquoted',
        'password = "{}',
    ],
)
def test_no_secret_is_ever_shown(tmp_path_factory: pytest.TempPathFactory, text: str, secret: str) -> None:
    folder = tmp_path_factory.mktemp("document")
    written = text.format(secret)
    file = write(
        folder,
        f'[tier.redis]\ntype = "redis"\nserializer = "nosuch"\n{written}\n[route.a]\ntiers = ["redis"]\n',
    )
    with pytest.raises(ConfigError) as caught:
        plan(file)
    shown = f"{caught.value}{caught.value!r}{caught.value.problems!r}"
    assert secret not in shown
    assert caught.value.__context__ is None


@settings(max_examples=25)
@given(secret=SECRETS, option=st.sampled_from(["URL", "PASSWORD", "TIMEOUT", "LOGIN", "NODES", "PASWORD"]))
def test_no_secret_from_the_environment_is_ever_shown(secret: str, option: str) -> None:
    value = secret if option not in {"TIMEOUT", "NODES"} else f"redis://:{secret}@h"
    environ = {"TIERCACHE_TIER__REDIS__TYPE": "redis", f"TIERCACHE_TIER__REDIS__{option}": value}
    source = with_route(["redis", "nosuch"])
    with pytest.raises(ConfigError) as caught:
        plan(source, {"tier": {"redis": {"labels": {"a": secret, "b": 5}, "password": secret}}}, environ)
    assert secret not in f"{caught.value}{caught.value.problems!r}"


@settings(max_examples=50)
@given(secret=ODD_SECRETS)
def test_a_secret_is_covered_however_it_is_quoted(secret: str) -> None:
    class Loud(NearTierConfig):
        type: Literal["loud"] = "loud"
        password: SecretStr

        @field_validator("password")
        @classmethod
        def _shout(cls, value: SecretStr) -> SecretStr:
            raise ValueError(f"<{value.get_secret_value()}><{value.get_secret_value()!r}>")

    plugin = SimpleNamespace(tiercache_tiers=hookimpl(lambda: [Loud]))
    source = {"tier": {"x": {"type": "loud", "password": secret}}, "route": {"a": {"tiers": ["x"]}}}
    message = only(source, plugins=Registry.of({"loud": plugin})).message
    assert message.replace("'", "").replace('"', "") == "<…><…>"


def test_a_plan_shows_no_secret() -> None:
    found = plan(
        with_route(["redis"], tier={"redis": {**REDIS, "password": "hunter2", "url": "redis://:pw77@h"}})
    )
    assert "hunter2" not in repr(found)
    assert "pw77" not in repr(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KNOWN = ["cache", "plugins", "telemetry", "tier", "policy", "bus", "route", "compressor"]
# What would mean something else, were tables kept under their own names without care.
AWKWARD = ["values", "self", "layers", "model_config", "_secrets_dir", "__class__", ""]
TABLES = st.sampled_from([*KNOWN, *AWKWARD])
NAMES = st.sampled_from(["memory", "a", "none", "A b", "dynamic", "disabled", "namespace"])
OPTIONS = st.sampled_from(
    ["type", "tiers", "keys", "policy", "max_entries", "path", "default", "ttl", "patterns"]
)
VALUES = (
    st.sampled_from(["memory", "redis", "sqlite", ["memory"], ["a", "a"], "hybrid", True, 5, "1h"]) | JSON
)
DOCUMENTS = st.dictionaries(
    TABLES, st.dictionaries(NAMES, st.dictionaries(OPTIONS, VALUES, max_size=4) | VALUES, max_size=3) | VALUES
)


@given(DOCUMENTS)
def test_any_document_gives_a_plan_or_problems(source: dict[str, Any]) -> None:
    try:
        found = plan(source)
    except ConfigError as error:
        assert error.problems
        assert all(problem.where and problem.message for problem in error.problems)
    else:
        assert found.default in found.routes
        for route in found.routes.values():
            for tier in route.tiers:
                assert found.tier(tier)


def test_an_option_without_default_is_missed_by_name() -> None:
    problem = only(with_route(["disk"], tier={"disk": {"type": "sqlite"}}))
    assert (problem.path, problem.message) == ("tier.disk.path", "is missing: which")


def test_a_validator_that_fails_otherwise_is_the_plugins_fault() -> None:
    class Odd(NearTierConfig):
        type: Literal["odd"] = "odd"

        def model_post_init(self, context: Any) -> None:
            raise ZeroDivisionError("oh")

    plugin = SimpleNamespace(tiercache_tiers=hookimpl(lambda: [Odd]))
    with pytest.raises(PluginError, match='the plugin "x" failed to read'):
        plan(with_route(["odd"], tier={"odd": {"type": "odd"}}), plugins=Registry.of({"x": plugin}))
