"""`tiercache schema`: what editors need to check tiercache.toml while it is written."""

from __future__ import annotations

import click


@click.command()
@click.option("--builtin", is_flag=True, help="Leave out the plugins of other distributions.")
@click.option("--json", "as_json", is_flag=True, help="Changes nothing: the schema is JSON.")
def schema(builtin: bool, as_json: bool) -> None:
    """Print the JSON Schema of tiercache.toml for the plugins that are installed here.

    `tiercache schema > tiercache.schema.json`, and `#:schema ./tiercache.schema.json` in the first line of
    tiercache.toml, make editors with a TOML language server complete and check it.
    """
    from tiercache.config.registry import Registry
    from tiercache.config.schema import builtin as only_builtin
    from tiercache.config.schema import render

    del as_json
    registry = Registry.load()
    click.echo(render(only_builtin(registry) if builtin else registry), nl=False)
