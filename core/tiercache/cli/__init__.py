"""The command line. Exit codes: 0 done, 1 the operation failed, 2 usage or configuration.

Nothing but click is imported before a command is known, and only what that command needs after.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import click


class _Command(NamedTuple):
    module: str
    """Holds the command under its own last name."""
    help: str
    """Stands here, so that the list of commands needs no module."""


_COMMANDS: Final = {
    "check": _Command("tiercache.cli.check", "Check a configuration and show every problem."),
    "dashboard": _Command("tiercache.cli.dashboard", "Show the tiers in the browser."),
    "delete": _Command("tiercache.cli.delete", "Drop keys from every tier."),
    "diff": _Command("tiercache.cli.diff", "Tell what another configuration would change."),
    "doctor": _Command("tiercache.cli.doctor", "Look at all that commonly goes wrong."),
    "explain": _Command("tiercache.cli.explain", "Tell why a key is answered as it is."),
    "get": _Command("tiercache.cli.get", "Print the value of a key."),
    "init": _Command("tiercache.cli.init", "Write a commented tiercache.toml."),
    "invalidate": _Command("tiercache.cli.invalidate", "Drop by tag, prefix or glob."),
    "keys": _Command("tiercache.cli.keys", "List what is cached."),
    "plugins": _Command("tiercache.cli.plugins", "List what the installed plugins provide."),
    "schema": _Command("tiercache.cli.schema", "Print the JSON Schema of tiercache.toml, for editors."),
    "set": _Command("tiercache.cli.set", "Store a value."),
    "stats": _Command("tiercache.cli.stats", "Show what the tiers hold."),
    "warm": _Command("tiercache.cli.warm", "Store what is in a file of JSON Lines."),
}


class Commands(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; None where there is none."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = _COMMANDS[cmd_name].module
        command: click.Command = getattr(import_module(module), module.rpartition(".")[2])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that *args* begin with; say what was probably meant where there is none."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"{', '.join(_COMMANDS)} are accepted"
            raise click.UsageError(f'there is no command "{args[0]}"; {hint}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of tiercache into a message and an exit code."""
        from tiercache.errors import ConfigError, PluginError, TiercacheError

        try:
            return super().invoke(ctx)
        except (ConfigError, PluginError) as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except TiercacheError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tiercache-kernel", prog_name="tiercache")
def main() -> None:
    """A configuration-driven, multi-level cache: memory, Redis or Valkey, SQLite."""
