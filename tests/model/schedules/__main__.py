"""`python -m model.schedules SEED`: play one schedule again, and tell it."""

from __future__ import annotations

import sys

from model.schedules import run


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.stderr.write("usage: python -m model.schedules SEED\n")
        return 2
    trial = run(int(sys.argv[1]))
    sys.stdout.write(trial.told() + "\n")
    return 1 if trial.findings else 0


if __name__ == "__main__":
    sys.exit(main())
