from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercache.errors import InvalidKey
from tiercache.keys import LONGEST, check_key, escape, glob, literal_prefix

TEXTS = st.text(st.sampled_from(list("ab*?[]!^-\\:é.\n")), max_size=8)


def valid(pattern: str) -> bool:
    try:
        glob(pattern)
    except ValueError:
        return False
    return True


def matches(pattern: str, text: str) -> bool:
    """The meaning of a pattern, told without regular expressions."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        return any(matches(rest, text[i:]) for i in range(len(text) + 1))
    if not text:
        return False
    if head == "?":
        return matches(rest, text[1:])
    if head == "\\":
        return rest[0] == text[0] and matches(rest[1:], text[1:])
    if head == "[":
        negated = rest[0] in "!^"
        body = rest[negated:]
        end = body.index("]", 1)
        members, rest = body[:end], body[end + 1 :]
        found = False
        while members:
            if len(members) > 2 and members[1] == "-":
                found |= members[0] <= text[0] <= members[2]
                members = members[3:]
            else:
                found |= members[0] == text[0]
                members = members[1:]
        return found != negated and matches(rest, text[1:])
    return head == text[0] and matches(rest, text[1:])


@given(TEXTS.filter(valid), TEXTS)
@example("[]]", "]")
@example("[!a-b]*", "\n")
@example("a\\*", "a*")
def test_a_glob_matches_what_its_definition_says(pattern: str, text: str) -> None:
    assert (glob(pattern).fullmatch(text) is not None) == matches(pattern, text)


@given(TEXTS, TEXTS)
def test_an_escaped_text_matches_itself_alone(text: str, other: str) -> None:
    assert glob(escape(text)).fullmatch(text)
    assert (glob(escape(text)).fullmatch(other) is None) == (text != other)
    assert literal_prefix(escape(text) + "*") == text


@given(TEXTS.filter(valid), TEXTS)
def test_every_match_begins_with_the_literal_prefix(pattern: str, text: str) -> None:
    if glob(pattern).fullmatch(text):
        assert text.startswith(literal_prefix(pattern))


@pytest.mark.parametrize("pattern", ["a[", "[!", "[]", "a\\", "[z-a]"])
def test_a_pattern_that_means_nothing_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="the pattern"):
        glob(pattern)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=LONGEST // 4))
def test_a_text_of_ordinary_characters_is_a_key(key: str) -> None:
    check_key(key)


@given(st.integers(1, LONGEST + 5), st.sampled_from(["a", "é", "日", "😀"]))
def test_a_key_is_measured_in_bytes_of_utf8(count: int, char: str) -> None:
    key = char * count
    if len(key.encode()) <= LONGEST:
        check_key(key)
    else:
        with pytest.raises(InvalidKey, match=f"{LONGEST} bytes"):
            check_key(key)


@pytest.mark.parametrize("key", ["", None, 5, b"a", "a\nb", "\x00", "a\x7f", "\x85", "\ud800"])
def test_what_is_no_key_is_refused(key: object) -> None:
    with pytest.raises(InvalidKey, match="a key must"):
        check_key(key)
