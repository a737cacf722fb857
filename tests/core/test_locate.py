from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercache.config.locate import Position, positions, scan

BARE = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
NAMES = st.one_of(BARE, st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
SCALARS = st.sampled_from(
    [
        "1", "0x1F", "+1_000", "1.5e3", "-inf", "nan", "true", "1979-05-27 07:32:00Z", "07:32:00",
        '""', "''", '"a # [b] {c} = \\" é"', "'it\\'", '"""a\n"two""three\\"""" """', "'''\n'q''q '''''",
        '"""x""""', "'''x''''", '""""""', "''''''", '"""\\\n  [not] = 1 """', '"\\u00e9\\\\"',
    ]
)  # fmt: skip
GAPS = st.sampled_from(["", " ", "\n", " # a ] } , = comment\n", "\t\n \n"])
BLANKS = st.sampled_from(["", " ", "\t"])


def written_name(draw: Any, name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", name) and draw(st.booleans()):
        return name
    if "'" not in name and not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", name) and draw(st.booleans()):
        return f"'{name}'"
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def written_key(draw: Any, names: list[str]) -> str:
    dot = draw(BLANKS) + "." + draw(BLANKS)
    return dot.join(written_name(draw, name) for name in names)


def written_value(draw: Any, depth: int) -> str:
    form = draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
    if form == "scalar":
        return draw(SCALARS)
    if form == "array":
        items = [
            draw(GAPS) + written_value(draw, depth - 1) + draw(GAPS) for _ in range(draw(st.integers(0, 3)))
        ]
        comma = "," if items and draw(st.booleans()) else ""
        return "[" + ",".join(items) + comma + draw(GAPS) + "]"
    pairs = [written_pair(draw, names, depth - 1) for names in draw(paths())]
    return "{" + draw(BLANKS) + (draw(BLANKS) + "," + draw(BLANKS)).join(pairs) + draw(BLANKS) + "}"


def written_pair(draw: Any, names: list[str], depth: int) -> str:
    return written_key(draw, names) + draw(BLANKS) + "=" + draw(BLANKS) + written_value(draw, depth)


def paths() -> st.SearchStrategy[list[list[str]]]:
    """Paths of which none begins another, so that no key is defined twice."""
    return st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=3, unique_by=lambda names: names[0])


@st.composite
def documents(draw: Any) -> str:
    """TOML in all its forms; now and then a header repeats what stands above, and tomllib refuses it."""
    lines = [written_pair(draw, names, 2) for names in draw(paths())]
    for names in draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=4)):
        opening, closing = draw(st.sampled_from([("[", "]"), ("[", "]"), ("[[", "]]")]))
        lines.append(opening + draw(BLANKS) + written_key(draw, names) + draw(BLANKS) + closing)
        lines += [written_pair(draw, below, 2) for below in draw(paths())]
    indented = (draw(BLANKS) + line + draw(st.sampled_from(["", "  # c = [1"])) for line in lines)
    text = "\n".join(indented) + draw(GAPS)
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def parsed(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def all_paths(node: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    out = {path} if path else set()
    for key, child in children:
        out |= all_paths(child, (*path, key))
    return out


def check_against_tomllib(text: str, document: Any) -> None:
    places = scan(text)
    assert set(places.keys) == all_paths(document)
    lines = text.replace("\r\n", "\n").split("\n")
    for path, position in positions(text).items():
        span = places.keys[path]
        token = places.text[span.start : span.end]
        assert lines[position.line - 1][position.column - 1 :].startswith(token.split("\n")[0])
        if isinstance(path[-1], str):
            assert tomllib.loads(f"{token} = 1") == {path[-1]: 1}
    for path, span in places.values.items():
        value: Any = document
        for key in path:
            value = value[key]
        written = tomllib.loads(f"v = {places.text[span.start : span.end]}")["v"]
        assert repr(written) == repr(value)


@given(documents())
@example("[[a]]\n[a.b]\nc=1\n[[a]]\n[a.b]\nc=2\n[[a.d]]\n[[a.d]]\n")
@example("[a.b.c]\n[a]\nx.y = {z = [[], [{q.'' = 1}]]}\n")
def test_every_key_and_no_other_is_located(text: str) -> None:
    document = parsed(text)
    if document is not None:
        check_against_tomllib(text, document)


@given(st.text(st.sampled_from(list("ab.=[]{},\"'\\\n\r\t #1é-_:")), max_size=40))
def test_whatever_tomllib_accepts_is_located_and_nothing_else_crashes(text: str) -> None:
    document = parsed(text)
    if document is not None:
        check_against_tomllib(text, document)
        return
    try:
        positions(text)
    except ValueError:
        return


@given(documents(), st.data())
def test_damaged_documents_end_in_an_answer_or_a_value_error(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    text = (
        text[:at]
        + data.draw(st.sampled_from(["", "]", "}", '"', "'", "=", "\n", "[", '"""']))
        + text[at + 1 :]
    )
    document = parsed(text)
    if document is not None:
        check_against_tomllib(text, document)
        return
    try:
        positions(text)
    except ValueError:
        return


def test_a_key_stands_where_its_own_name_stands() -> None:
    text = 'a = 1\n[tier.memory]\n  "max entries" = 5\nx.y = [\n  1, {z = 2},\n]\n'
    found = positions(text)
    assert found["a",] == Position(1, 1)
    assert found["tier",] == Position(2, 2)
    assert found["tier", "memory"] == Position(2, 7)
    assert found["tier", "memory", "max entries"] == Position(3, 3)
    assert found["tier", "memory", "x", "y"] == Position(4, 3)
    assert found["tier", "memory", "x", "y", 0] == Position(5, 3)
    assert found["tier", "memory", "x", "y", 1] == Position(5, 6)
    assert found["tier", "memory", "x", "y", 1, "z"] == Position(5, 7)


def test_columns_count_characters() -> None:
    assert positions('"é" = {"日本" = 1, b = 2}')["é", "b"] == Position(1, 18)


def test_a_table_stands_at_its_own_header_not_at_one_below_it() -> None:
    assert positions("[a.b]\n[a]\n")["a",] == Position(2, 2)


def test_deep_nesting_needs_no_stack() -> None:
    text = "a = " + "[" * 2_000 + "]" * 2_000
    assert len(positions(text)) == 2_000


@pytest.mark.parametrize("text", ["a", "a =", "[a", "a = {b", 'a = "', "= 1"])
def test_what_is_no_toml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not TOML from character"):
        positions(text)
