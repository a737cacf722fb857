"""Every row of the benchmark works; how fast anything is, no test says."""

from __future__ import annotations

import asyncio
import sys
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import pytest

from bench.__main__ import ROWS
from bench.caches import far, opened, text
from bench.plots import bars
from bench.report import line, page
from bench.row import Result, Scale
from bench.rows import UVLOOP, measured


@pytest.mark.parametrize("name", ROWS)
def test_our_side_of_every_row_is_measured(name: str) -> None:
    if name.endswith(UVLOOP):
        pytest.importorskip("uvloop")
    results = measured(name, Scale(short=True, peers=False))
    assert results
    for result in results:
        assert result.figures[result.ours] > 0
        assert result.ratios.get(result.ours, 1.0) > 0
        assert result.terms
        assert result.title in line(result)


@pytest.fixture(scope="module")
def apart() -> Iterator[ProcessPoolExecutor]:
    """A process for the peers: what they leave, threads and modules that warn, no other test meets."""
    with ProcessPoolExecutor(1, get_context("spawn"), warnings.simplefilter, ("ignore",)) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_peers_that_are_installed_take_part_in_every_row(name: str, apart: ProcessPoolExecutor) -> None:
    for result in apart.submit(measured, name, Scale(short=True)).result():
        assert result.figures[result.ours] > 0
        for name in result.ahead_of:
            assert result.figures[name] > 0


def test_without_uvloop_its_rows_are_left_out(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert measured(f"redis_hit{UVLOOP}", Scale(short=True, peers=False)) == []


def test_a_row_on_uvloop_says_so() -> None:
    pytest.importorskip("uvloop")
    (row,) = measured(f"two_tiers{UVLOOP}", Scale(short=True, peers=False))
    assert row.title.endswith(", on uvloop")
    assert "On uvloop's event loop" in row.terms
    assert row.goal == "≥ 7 ×"


@pytest.mark.parametrize("deadline", ["1ms", "1m"])
def test_what_a_far_tier_did_not_answer_is_not_taken_for_a_measurement(tmp_path: Path, deadline: str) -> None:
    async def filled() -> None:
        async with opened(far({"type": "sqlite", "path": f"{tmp_path}/far", "deadline": deadline})) as cache:
            await cache.set_many({f"k:{at}": text(at) for at in range(5_000)})

    hasty = deadline == "1ms"
    with pytest.raises(AssertionError, match="calls to a far tier failed") if hasty else nullcontext():
        asyncio.run(filled())


def result(**more) -> Result:
    figures = {"base": 1.0, "ours": 2.0, "peer": 3.0}
    return Result(title="a & b", base="base", ours="ours", unit="ns", figures=figures, ratios=figures,
                  terms="terms", **more)  # fmt: skip


def test_a_goal_is_reached_up_to_its_bound_and_ahead_of_its_peers() -> None:
    assert result().reached is None
    assert result(most=2.0).reached is True
    assert result(most=1.9).reached is False
    assert result(most=2.0, wrong=["loads"]).reached is False
    assert result(ahead_of=["peer"]).reached is True
    assert result(ahead_of=["base"]).reached is False
    assert result(ahead_of=["not installed"]).reached is True
    assert result(least=2.0).reached is True
    assert result(least=2.1).reached is False
    assert result(least=2.0, ahead_of=["peer"]).reached is False


def test_a_row_without_its_base_has_no_verdict() -> None:
    absent = Result(title="t", base="base", ours="ours", unit="ns", figures={"ours": 1.0}, ratios={},
                    terms="", most=2.0)  # fmt: skip
    assert absent.reached is None
    assert "no goal" in line(absent)


def test_the_page_says_what_was_missed_and_its_plots_are_well_formed(tmp_path: Path) -> None:
    text = page([result(most=1.0), result(least=1.0)], ["a machine"], tmp_path / "plots")
    assert "a machine" in text
    assert text.count("**no**") == 1
    assert len(list((tmp_path / "plots").glob("*.svg"))) == 2
    ET.fromstring(bars(result(most=1.0)))
