"""`scripts/bench`: a table of suites, each a module with a `main(arguments)`."""

from __future__ import annotations

import importlib
import sys

SUITES = {
    "policies": ("bench.policies", "hit ratios of the eviction policies, and what they cost"),
}


def main(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in SUITES:
        return importlib.import_module(SUITES[name][0]).main(rest)
    for suite, (_, meaning) in SUITES.items():
        print(f"scripts/bench {suite:12} {meaning}; --help tells its options")
    return 0 if name in {"-h", "--help"} else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
