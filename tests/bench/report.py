"""The table, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.plots import bars
from bench.row import Result

_HEAD = """# Benchmarks

What `scripts/bench` wrote last. Ratios are the point, and all those of a row come from one run in which its
cases took turns; the absolute figures are of one machine, in one hour. Medians throughout. The last column
says whether the goal that was set before any of it was written is reached: where it is not, the table says
so, and where a peer is ahead, its figure stands beside ours.

"""
NOTES = Path(__file__).with_name("notes.md")
"""Where the time goes: written by hand, part of the page."""
_VERDICTS = {True: "yes", False: "**no**", None: "–"}


def line(result: Result) -> str:
    """Return one row for the terminal."""
    verdict = {True: "reached", False: "MISSED", None: "no goal"}[result.reached]
    ours = _ratio(result, result.ours)
    others = ", ".join(
        f"{name} {_ratio(result, name)}" for name in _others(result)
    )  # fmt: skip
    text = f"{result.title}\n    ours {ours} of {result.base} ({_figure(result, result.ours)})"
    text += f"; goal {result.goal or 'none'}: {verdict}"
    if result.rounds > 1:
        text += f", {result.rounds} rounds"
    if result.wrong:
        text += f" ({', '.join(result.wrong)})"
    if others:
        text += f"\n    {others}"
    for name, fact in result.facts.items():
        text += f"\n    {name}: {fact}"
    if result.absent:
        text += f"\n    not installed: {', '.join(result.absent)}"
    return text


def page(results: Sequence[Result], about: Iterable[str], plots: Path) -> str:
    """Return the page, and write its plots into the directory *plots*."""
    plots.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD, *[f"- {text}\n" for text in about], "\n"]
    parts.append("| what | ours | of | others | goal | reached |\n|---|---|---|---|---|---|\n")
    for result in results:
        others = ", ".join(f"{name} {_ratio(result, name)}" for name in _others(result)) or "–"
        wrong = f" ({', '.join(result.wrong)})" if result.wrong else ""
        parts.append(
            f"| {result.title} | **{_ratio(result, result.ours)}** ({_figure(result, result.ours)}) | "
            f"{result.base} ({_figure(result, result.base)}) | {others} | {_goal(result)} | "
            f"{_VERDICTS[result.reached]}{wrong} |\n"
        )
    parts.append(
        "\nWhere the goal is a least one (≥), the ratio is of throughput, and more is better; otherwise it is"
        " of time, bytes or whatever the title says, and less is better.\n"
    )
    seen: dict[str, list[Result]] = {}
    for result in results:
        seen.setdefault(result.terms, []).append(result)
    parts.append("\n## What was measured, and what each promises\n")
    for terms, those in seen.items():
        titles = "; ".join(result.title for result in those)
        rounds = sorted({result.rounds for result in those})
        parts.append(f"\n**{titles}.** {terms} Rounds: {', '.join(map(str, rounds))}.\n")
        facts = {(name, fact): None for result in those for name, fact in result.facts.items()}
        for name, fact in facts:
            parts.append(f"- {name}: {fact}\n")
    parts += ["\n", NOTES.read_text(), "\n## Plots\n"]
    for number, result in enumerate(results):
        name = f"{number:02}.svg"
        (plots / name).write_text(bars(result))
        parts.append(f"\n![{result.title}]({plots.name}/{name})\n")
    for old in plots.glob("*.svg"):
        if int(old.stem) >= len(results):
            old.unlink()
    return "".join(parts)


def _others(result: Result) -> list[str]:
    return [name for name in result.figures if name not in {result.ours, result.base}]


def _goal(result: Result) -> str:
    bound = f"≤ {result.most:g} ×" if result.most is not None else ""
    bound = f"≥ {result.least:g} ×" if result.least is not None else bound
    return bound + (" and ahead of the peers" if bound and result.ahead_of else "") or (
        "ahead of the peers" if result.ahead_of else "–"
    )


def _ratio(result: Result, name: str) -> str:
    ratio = result.ratios.get(name)
    return "?" if ratio is None else f"{ratio:.0f} ×" if ratio >= 100 else f"{ratio:.3g} ×"


def _figure(result: Result, name: str) -> str:
    figure = result.figures.get(name)
    if figure is None:
        return "not installed"
    return f"{figure:,.0f} {result.unit}" if figure >= 100 else f"{figure:.3g} {result.unit}"
