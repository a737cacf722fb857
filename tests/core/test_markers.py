"""What was invalidated, judged without looking at anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiercache.engine.markers import EVERYTHING, Markers, of_prefix, of_tag

KEYS = st.sampled_from(["a", "ab", "abc", "b", "user:1", "user:2", "naïve", "🦊"])
TAGS = st.sampled_from(["x", "y", "z"])
PREFIXES = st.sampled_from(["", "a", "ab", "user:", "na", "🦊", "nobody"])
NAMES = st.one_of(TAGS.map(of_tag), PREFIXES.map(of_prefix))
STAMPS = st.integers(1, 40)
MARKS = st.lists(st.dictionaries(NAMES, STAMPS, min_size=1, max_size=3), max_size=12)


def dead(marks: list[dict[str, int]], key: str, tags: list[str], created_at: int) -> bool:
    covering = {EVERYTHING, *map(of_tag, tags), *(of_prefix(key[:n]) for n in range(len(key) + 1))}
    return any(name in covering and stamp >= created_at for mark in marks for name, stamp in mark.items())


@given(MARKS, KEYS, st.lists(TAGS, max_size=3), STAMPS)
def test_an_entry_is_dead_where_a_marker_that_covers_it_is_not_older(
    marks: list[dict[str, int]], key: str, tags: list[str], created_at: int
) -> None:
    markers = Markers()
    for mark in marks:
        markers.mark(mark)
    assert bool(markers.killed(key, tags, created_at)) == dead(marks, key, tags, created_at)


@given(MARKS, KEYS, st.lists(TAGS, max_size=3), STAMPS, st.integers(1, 6))
def test_folding_bounds_the_markers_and_lets_nothing_dead_survive(
    marks: list[dict[str, int]], key: str, tags: list[str], created_at: int, most: int
) -> None:
    markers = Markers(most)
    for mark in marks:
        markers.mark(mark)
        assert len(markers) <= most
    if dead(marks, key, tags, created_at):
        assert markers.killed(key, tags, created_at)


@given(MARKS, st.integers(1, 6))
def test_what_rose_tells_another_all_that_it_must_know(marks: list[dict[str, int]], most: int) -> None:
    markers, told = Markers(most), Markers()
    for mark in marks:
        told.mark(markers.mark(mark))
    assert told.whole == markers.whole
    assert told.all() == markers.all()
    again = Markers()
    again.mark(markers.all())
    assert again.all() == markers.all()


@given(MARKS)
def test_the_order_of_markers_does_not_matter(marks: list[dict[str, int]]) -> None:
    forth, back = Markers(), Markers()
    for mark in marks:
        forth.mark(mark)
    for mark in reversed(marks):
        back.mark(mark)
    assert forth.all() == back.all()


def test_an_equal_stamp_is_dead_and_a_later_one_alive() -> None:
    markers = Markers()
    markers.mark({of_tag("x"): 7, of_prefix("user:"): 7})
    for key, tags in (("a", ["x"]), ("user:1", [])):
        assert markers.killed(key, tags, 7) == 7
        assert not markers.killed(key, tags, 8)


def test_an_older_marker_after_a_newer_one_does_nothing() -> None:
    markers = Markers()
    assert markers.mark({of_tag("x"): 7, EVERYTHING: 5}) == {of_tag("x"): 7, EVERYTHING: 5}
    before = markers.all()
    assert markers.mark({of_tag("x"): 6, of_prefix("a"): 5, EVERYTHING: 4}) == {}
    assert markers.all() == before


def test_folding_takes_the_oldest_and_leaves_the_newest() -> None:
    markers = Markers(10)
    for n in range(1, 12):
        markers.mark({of_tag(f"tag{n}"): n})
    assert 0 < markers.whole < 11
    assert of_tag("tag11") in markers.all()
    assert not markers.killed("a", ["tag1"], markers.whole + 1)
    assert not markers.killed("a", [], 11)


def test_a_name_of_a_later_release_counts_for_everything() -> None:
    markers = Markers()
    assert markers.mark({"route:x": 9}) == {EVERYTHING: 9}
    assert markers.killed("a", [], 9) == 9
