"""The public suite `http-cache-tests`, where Node is; the page on HTTP caching has the figures."""

from __future__ import annotations

from collections import Counter

import pytest

from http_cache.conformance import suite

CONTRARY = {"age-parse-prefix"}
"""What the suite requires, and this cache does not do on purpose; the page says why."""


@pytest.mark.slow
def test_the_public_suite_finds_a_shared_cache():
    try:
        verdicts = suite.measured()
    except suite.Missing as missing:
        pytest.skip(str(missing))
    counts = Counter((verdict.kind, verdict.outcome) for verdict in verdicts)
    assert {v.id for v in verdicts if (v.kind, v.outcome) == ("required", "fail")} <= CONTRARY
    assert counts["required", "pass"] >= 156
    assert counts["optimal", "pass"] >= 84
