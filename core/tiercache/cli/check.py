"""`tiercache check`: everything that is wrong with a configuration."""

from __future__ import annotations

from dataclasses import replace

import click


@click.command()
@click.argument("file", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def check(ctx: click.Context, file: str | None, as_json: bool) -> None:
    """Check FILE, or the configuration that would be found from here, as an application would read it.

    Environment variables and secret files count too. Exits with 2 where there are problems; warnings alone
    are fine.
    """
    from tiercache.cli import output
    from tiercache.config.plan import plan
    from tiercache.errors import ConfigError, PluginError, Problem

    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    summary = ""
    try:
        found = plan(file)
    except ConfigError as error:
        problems = error.problems
        summary = output.counted(len(problems), "problem")
    except PluginError as error:
        problems = (Problem("plugins", "", str(error)),)
        summary = "1 problem"
    else:
        warnings = found.warnings
        tiers = len({tier for route in found.routes.values() for tier in route.tiers})
        parts = (len(found.routes), "route"), (tiers, "tier"), (len(warnings), "warning")
        routes, over, beside = (output.counted(*part) for part in parts)
        summary = f"ok: {routes} over {over}, {beside}"
    if as_json:
        output.print_json(
            {
                "ok": not problems,
                "problems": [output.as_json(problem) for problem in problems],
                "warnings": [output.as_json(warning) for warning in warnings],
            }
        )
    else:
        for problem in problems:
            click.echo(str(problem))
        for warning in warnings:
            click.echo(str(replace(warning, where=f"{warning.where}: warning")))
        click.echo(summary, err=bool(problems))
    ctx.exit(2 if problems else 0)
