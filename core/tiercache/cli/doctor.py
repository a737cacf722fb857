"""`tiercache doctor`: whether everything that a configuration names stands well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Diagnosis


@click.command()
@session.config
@session.as_json
@click.pass_context
def doctor(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """Look at everything that commonly goes wrong: the configuration, each tier, the bus, the serializers.

    One line for each finding. Exits with 1 where there is a problem; warnings alone are fine.
    Example: tiercache doctor
    """
    from tiercache.cli import output
    from tiercache.cli.examination import examine
    from tiercache.config.plan import plan

    planned = plan(config)
    found = asyncio.run(examine(planned))
    problems = sum(diagnosis.level == "problem" for _, diagnosis in found)
    if as_json:
        told = [
            {"where": where, "level": one.level, "subject": one.subject, "message": one.message}
            for where, one in found
        ]
        output.print_json({"ok": not problems, "findings": told})
    else:
        for where, diagnosis in found:
            click.echo(_line(where, diagnosis))
        warnings = sum(diagnosis.level == "warning" for _, diagnosis in found)
        click.echo(
            f"{output.counted(problems, 'problem')}, {output.counted(warnings, 'warning')}",
            err=bool(problems),
        )
    ctx.exit(1 if problems else 0)


def _line(where: str, diagnosis: Diagnosis) -> str:
    mark = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}[diagnosis.level]
    return f"{mark}{where}: {diagnosis.subject}: {diagnosis.message}"
