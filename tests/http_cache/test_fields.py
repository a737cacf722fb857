"""Header fields are read as their grammars have it, and whatever they hold, nothing is raised."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from tiercache_plugins.integrations.http.fields import (
    FAR_FUTURE,
    Directives,
    entity_tags,
    http_date,
    joined,
    members,
    weakly_equal,
)

NOW = 1_800_000_000.0
HOSTILE = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=80),
    st.text('max-age=0123456789," \\;*/W', max_size=60),
)


@given(HOSTILE)
def test_reading_hostile_fields_never_raises(text):
    directives = Directives(text)
    for name in ("max-age", "no-store", "", "private"):
        assert directives.delta(name) is None or 0 <= directives.delta(name) <= FAR_FUTURE
        assert directives.text(name) is None or isinstance(directives.text(name), str)
    assert isinstance(members(text), list)
    assert entity_tags(text) is None or all(isinstance(tag, str) for tag in entity_tags(text))
    found = http_date(text, NOW)
    assert found is None or math.isfinite(found)


@given(st.dictionaries(st.sampled_from(["max-age", "s-maxage", "min-fresh", "x"]), st.integers(0, 10**6)))
def test_directives_are_read_as_they_were_written(values):
    written = ", ".join(
        f'{name.upper()}="{value}"' if value % 2 else f"{name}={value}" for name, value in values.items()
    )
    directives = Directives(written)
    assert {name: directives.delta(name) for name in values} == values
    assert bool(directives) == bool(values)


def test_what_stands_in_quotes_is_no_directive():
    directives = Directives('ext="no-store, max-age=5", max-age=7')
    assert "no-store" not in directives
    assert directives.delta("max-age") == 7
    assert directives.text("ext") == "no-store, max-age=5"


@given(st.sampled_from(["", "-1", "'60'", "60s", "6 0", "1.5", "a"]))
def test_a_span_that_is_no_number_counts_as_none_at_all(value):
    assert Directives(f"max-age={value}").delta("max-age") == 0


def test_the_least_of_several_spans_counts():
    assert Directives("max-age=60, max-age=5").delta("max-age") == 5
    assert Directives("max-age=60, max-age=x").delta("max-age") == 0


def test_a_span_beyond_reason_is_for_ever():
    assert Directives(f"max-age={'9' * 40}").delta("max-age") == FAR_FUTURE


def test_what_cannot_be_read_forbids_storing():
    assert "no-store" in Directives('max-age=60, x="')
    assert "no-store" in Directives("max-age=60, " + "x" * 9000)


@given(st.integers(157_766_400, 3_155_760_000))
def test_a_date_is_read_in_all_three_forms(seconds):
    moment = datetime.fromtimestamp(seconds, UTC)
    assert http_date(format_datetime(moment, usegmt=True), NOW) == seconds
    assert (
        http_date(moment.strftime("%a %b ") + f"{moment.day:2}" + moment.strftime(" %H:%M:%S %Y"), NOW)
        == seconds
    )
    short = http_date(moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"), NOW)
    century = datetime.fromtimestamp(short, UTC)
    assert (century.year - moment.year) % 100 == 0
    assert (century.month, century.day, century.hour) == (moment.month, moment.day, moment.hour)


def test_two_digits_of_a_year_are_never_more_than_fifty_years_ahead():
    assert http_date("Sunday, 06-Nov-94 08:49:37 GMT", NOW) == 784111777
    assert http_date("Thursday, 18-Aug-50 02:01:18 GMT", NOW) > NOW


@given(st.sampled_from(["0", "-1", "", "Thu, 99 Aug 2050 02:01:18 GMT", "Thu, 18 Aug 2050 25:01:18 GMT",
                        "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 18 Abc 2050 02:01:18 GMT"]))  # fmt: skip
def test_other_dates_are_none(text):
    assert http_date(text, NOW) is None


def test_entity_tags_are_listed_and_compared_weakly():
    assert entity_tags(' "a", W/"b,c" , "" ') == ['"a"', 'W/"b,c"', '""']
    assert entity_tags("*") == ["*"]
    assert entity_tags('"a", *') is None
    assert entity_tags("a") is None
    assert weakly_equal('W/"a"', '"a"')
    assert not weakly_equal('"a"', '"A"')


def test_lines_of_a_field_are_one():
    assert joined([(b"Vary", b"a"), (b"x", b"1"), (b"vary", b"b")], b"vary") == "a, b"
    assert joined([], b"vary") is None
