"""The page: HTML that says everything by itself, and the events that keep it up to date."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Final

from tiercache.dashboard.figures import BAD, POOR, Figures, Table
from tiercache.dashboard.history import Change, History, Look
from tiercache.dashboard.wording import lasting
from tiercache.engine.stats import Stats

WELL: Final = "Nothing is amiss."
"""What is said where there is nothing to say."""


@dataclass(slots=True)
class Told:
    """What one browser knows already."""

    number: int = 0
    """Its newest look."""
    cells: dict[str, str] = field(default_factory=dict)
    changes: int = -1
    """How many changes of state it was told of; -1: not even whether there are any."""


class Page:
    """The page of one dashboard. *instance* tells it from those of other processes and other times."""

    __slots__ = ("_figures", "_instance", "_template", "policy")

    def __init__(self, figures: Figures, instance: str) -> None:
        self._figures = figures
        self._instance = instance
        self._template = (files("tiercache.dashboard") / "page.html").read_text(encoding="utf-8")
        inline = {
            name: " ".join(f"'sha256-{_digest(text)}'" for text in _inline(self._template, name))
            for name in ("style", "script")
        }
        self.policy = (
            f"default-src 'none'; style-src {inline['style']}; script-src {inline['script']}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        """The content security policy: what is on the page itself, and events from where it came from."""

    def render(self, look: Look, history: History, *, open: bool) -> str:  # noqa: A002 - reads best
        """Return the page as of *look*."""
        stats = look.stats
        cells = self._cells(look, history)
        parts = {
            "charts": escape(json.dumps(self._charts(stats))),
            "shape": self._shape(stats),
            "process": f"process {os.getpid()} on {escape(socket.gethostname())}",
            "covers": escape(cells["covers"]),
            "scope": _ALONE if self._figures.alone else _MOUNTED,
            "status": escape(self._status(stats) if open else "The cache is not open."),
            "state": _state(self._status(stats) if open else ""),
            "headline": "".join(
                f'<div><dt>{escape(what)}</dt><dd data-cell="headline.{i}">{escape(text)}</dd></div>'
                for i, (what, text) in enumerate(self._figures.headline(stats, look.recent))
            ),
            "tables": "".join(_table(table, stats, cells) for table in self._figures.tables(stats)),
            "changes": "".join(_change(change) for change in reversed(history.changes)),
        }
        return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], self._template)

    def resume(self, last: str) -> Told:
        """Return what a browser knows whose last event was *last*."""
        instance, _, number = last.partition(":")
        known = instance == self._instance and number.isascii() and number.isdigit() and len(number) < 16
        return Told(int(number) if known else 0)

    def event(self, told: Told, look: Look, history: History) -> str:
        """Return the event that brings a browser from *told* to *look*, and note that it is there now."""
        cells = self._cells(look, history)
        status = self._status(look.stats)
        content = {
            "first": told.number == 0,
            "shape": self._shape(look.stats),
            "cells": {name: text for name, text in cells.items() if told.cells.get(name) != text},
            "points": [
                (round(one.stats.seconds, 3), one.recent is None, [_rounded(row) for row in one.values])
                for one in history.after(told.number)
            ],
            "every": history.every,
            "status": status,
            "state": _state(status),
        }
        if told.changes != history.seen:
            content["changes"] = [(round(one.at * 1000), one.told) for one in reversed(history.changes)]
        told.number, told.cells, told.changes = look.number, cells, history.seen
        # JSON has no line breaks of its own, so the event is one line.
        return f"id: {self._instance}:{look.number}\ndata: {json.dumps(content)}\n\n"

    def _cells(self, look: Look, history: History) -> dict[str, str]:
        covers = f"Counted for {lasting(look.stats.seconds)}, looked at every {lasting(history.every)}"
        return {"covers": covers, **self._figures.cells(look.stats, look.recent)}

    def _charts(self, stats: Stats) -> list[dict[str, object]]:
        return [
            {
                "name": chart.name, "title": chart.title, "unit": chart.unit, "stacked": chart.stacked,
                "series": list(chart.series(stats)), "tones": self._figures.tones(chart, stats),
            }
            for chart in self._figures.charts(stats)
        ]  # fmt: skip

    def _shape(self, stats: Stats) -> str:
        """Return what changes where the page must be made anew: other rows, other series."""
        rows = [(table.name, list(table.rows(stats))) for table in self._figures.tables(stats)]
        return hashlib.sha256(json.dumps([rows, self._charts(stats)]).encode()).hexdigest()[:16]

    def _status(self, stats: Stats) -> str:
        troubles = [f"{text[0].upper()}{text[1:]}." for text in self._figures.troubles(stats)]
        return " ".join(troubles) or WELL


_MOUNTED: Final = (
    "This page shows what one process counted since its cache was opened: the process that is named above. "
    "Where an application has several workers, each counts by itself, and a visit reaches any of them."
)
_ALONE: Final = (
    "This page is served by a process of its own. It shows the tiers that processes share: whether they are "
    "there, what they hold, how long a call takes from here. Hits, loads and near tiers are counted in the "
    "applications, and can't be seen from here; mount the dashboard in an application to see them."
)


def _table(table: Table, stats: Stats, cells: dict[str, str]) -> str:
    return "".join(_lines(table, stats, cells))


def _lines(table: Table, stats: Stats, cells: dict[str, str]) -> Iterator[str]:
    title = f"{table.name}-title"
    yield f'<section aria-labelledby="{title}"><h2 id="{title}">{escape(table.title)}</h2>'
    yield f'<p class="note">{escape(table.note)}</p>'
    yield f'<div class="scroll" role="region" aria-labelledby="{title}" tabindex="0"><table><thead><tr>'
    yield '<th scope="col">name</th>'
    for column in table.columns:
        yield f'<th scope="col" title="{escape(column.meaning)}">{escape(column.title)}</th>'
    yield "</tr></thead><tbody>"
    for i, name in enumerate(table.rows(stats)):
        yield f'<tr><th scope="row">{escape(name)}</th>'
        for j in range(len(table.columns)):
            text = cells[f"{table.name}.{i}.{j}"]
            yield f'<td data-cell="{table.name}.{i}.{j}" data-state="{_state_of(text)}">{escape(text)}</td>'
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _change(change: Change) -> str:
    at = datetime.fromtimestamp(change.at, UTC)
    return f'<li><time datetime="{at.isoformat()}">{at:%H:%M:%S} UTC</time> {escape(change.told)}</li>'


def _state(status: str) -> str:
    return "good" if status == WELL else "bad"


def _state_of(text: str) -> str:
    return "bad" if text in BAD else "poor" if text in POOR else ""


def _rounded(row: tuple[float | None, ...]) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in row]


def _inline(text: str, element: str) -> list[str]:
    return re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
