"""Every metric that the dashboard and the alert rules name is in a real scrape, with its labels."""

import asyncio
import json
import re
import urllib.request
from pathlib import Path

import pytest

from servers import Server, free_port
from tiercache import Cache

MONITORING = Path(__file__).parents[2] / "docs/monitoring"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """What Prometheus is given by a cache of all tiers that has done a bit of everything."""
    port = free_port()

    async def use(server):
        tables = {
            "tier": {
                "memory": {"type": "memory", "max_entries": 10},
                "redis": {"type": "redis", "url": f"redis://{server.host}:{server.port}/0"},
                "disk": {"type": "sqlite", "path": str(tmp_path_factory.mktemp("scraped") / "cache.db")},
            },
            "route": {"all": {"tiers": ["memory", "redis", "disk"], "ttl": "1h", "keys": ["k*"]}},
            "telemetry": {"metrics": True, "exporter": "prometheus", "port": port},
        }
        async with Cache.open(tables) as cache:
            for i in range(30):
                await cache.get_or_set(f"k{i}", lambda: 1)
            await cache.get("k29")
            url = f"http://127.0.0.1:{port}/metrics"
            return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())

    with Server("valkey") as server:
        return asyncio.run(use(server))


def expressions():
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    yield "variable cache", dashboard["templating"]["list"][1]["query"]
    rules = (MONITORING / "alerts.yaml").read_text()
    found = re.findall(r"- alert: (\w+)\n +expr: >-\n +(.+)\n", rules)
    assert len(found) == rules.count("- alert:")
    yield from found


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_what_is_asked_for_is_in_a_scrape(scraped, where, expression):
    series = [line for line in scraped.splitlines() if line.startswith("tiercache_")]
    metrics = set(re.findall(r"\btiercache_[a-z_]+(?=\{|\[|\)|,| ==| >)", expression))
    labels = set(
        re.findall(
            r"\btiercache_(?:cache|tier|route|result|reason|state|act|pattern|direction)\b", expression
        )
    )
    metrics = {name for name in metrics if name not in labels}
    assert metrics, expression
    asked: list[str] = []
    for name in metrics:
        there = [line for line in series if re.match(rf"{name}[{{ ]", line)]
        assert there, f"{where}: {name} is not in the scrape"
        asked += there
    for label in labels:
        assert any(f"{label}=" in line for line in asked), f"{where}: nothing has {label}"


def test_panels_and_rules_are_well_formed():
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) > 10
    for where, expression in expressions():
        assert expression.count("(") == expression.count(")"), where
        assert expression.count("{") == expression.count("}"), where
