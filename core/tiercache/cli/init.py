"""`tiercache init`: a configuration to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click


@click.command()
@click.argument("file", default="tiercache.toml")
@click.option("--force", is_flag=True, help="Overwrite FILE where it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def init(ctx: click.Context, file: str, force: bool, as_json: bool) -> None:
    """Write a commented configuration to FILE: memory and SQLite, so that it runs anywhere."""
    from tiercache.cli import output

    problem = ""
    try:
        # Exclusive creation leaves no moment in which somebody else's file could be lost.
        with Path(file).open("w" if force else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(template())
    except FileExistsError:
        problem = f"{file} exists; --force overwrites it"
    except OSError as error:
        problem = f"{file} can't be written: {error.strerror}"
    if as_json:
        output.print_json({"ok": not problem, "file": file, "problem": problem or None})
    else:
        click.echo(problem or f"wrote {file}; `tiercache check {file}` checks it", err=bool(problem))
    ctx.exit(1 if problem else 0)


def template() -> str:
    """Return the text of the configuration."""
    return (files("tiercache.cli") / "template.toml").read_text(encoding="utf-8")
