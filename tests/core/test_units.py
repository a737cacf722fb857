from __future__ import annotations

import json
import math
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tiercache.units import (
    BYTES,
    DURATION_PATTERN,
    SECONDS,
    SIZE_PATTERN,
    Duration,
    Size,
    format_seconds,
    format_size,
    seconds,
    size,
)

UNITS = st.sampled_from(sorted(SECONDS))


@given(st.lists(st.tuples(st.integers(1, 999), UNITS, st.sampled_from(["", " "])), min_size=1, max_size=4))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str, str]]) -> None:
    text = "".join(f"{number}{gap}{unit}{gap}" for number, unit, gap in parts)
    assert seconds(text) == pytest.approx(sum(number * SECONDS[unit] for number, unit, _ in parts))
    assert re.fullmatch(DURATION_PATTERN, text)


@given(st.floats(1e-5, 1e8))
def test_numbers_are_seconds(value: float) -> None:
    assert seconds(value) == value
    assert seconds(timedelta(seconds=value)) == pytest.approx(value, abs=1e-6)


@given(st.integers(1, 10**5), UNITS.filter(lambda unit: unit != "us"))
def test_a_formatted_duration_reads_as_itself(number: int, unit: str) -> None:
    value = number * SECONDS[unit]
    assert seconds(format_seconds(value)) == pytest.approx(value, rel=1e-5)


def test_never_is_infinite_both_ways() -> None:
    assert seconds("never") == math.inf
    assert format_seconds(math.inf) == "never"


@pytest.mark.parametrize(
    "value", ["", "5x", "s", "1h 5", "-5s", "0s", 0, -1, math.nan, True, "1,5s", None, [], "NEVER"]
)
def test_what_is_no_duration_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match='"250ms", "30s", "1h30m" or "never" is accepted'):
        seconds(value)  # type: ignore[arg-type]


@given(st.integers(1, 2**40), st.sampled_from([*BYTES, "", "k", "M", "GiB", "KIB"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    factor = BYTES.get(unit.lower() or "b") or BYTES[f"{unit.lower()}b"]
    assert size(f"{number}{unit}") == pytest.approx(number * factor)
    assert re.fullmatch(SIZE_PATTERN, f"{number}{unit}")


@given(st.integers(1, 2**50))
def test_a_formatted_size_is_nearly_itself(value: int) -> None:
    assert size(value) == value
    assert size(format_size(value)) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("value", ["", "GiB", "5 parsecs", "-1", 0, -5, 1.5, True, None, "1.2.3KB", "0"])
def test_what_is_no_size_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match='65536, "64KiB" or "1GiB" is accepted'):
        size(value)  # type: ignore[arg-type]


def test_options_take_both_forms_and_name_them_in_the_schema() -> None:
    class Options(BaseModel):
        ttl: Duration
        room: Size

    found = Options.model_validate({"ttl": "1h30m", "room": "64KiB"})
    assert (found.ttl, found.room) == (5400.0, 65536)
    with pytest.raises(ValidationError, match="2 validation errors"):
        Options.model_validate({"ttl": "soon", "room": "much"})
    text = json.dumps(Options.model_json_schema())
    assert json.dumps(DURATION_PATTERN) in text
    assert json.dumps(SIZE_PATTERN) in text
