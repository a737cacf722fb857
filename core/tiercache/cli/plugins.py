"""`tiercache plugins`: what is installed, with its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tiercache.config.registry import Offer, Registry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def plugins(as_json: bool) -> None:
    """List every type that can stand in tiercache.toml, the plugin it comes from, and its options.

    Plugins that can't be loaded follow, and types that two plugins claim.
    """
    from tiercache.cli import output
    from tiercache.config.registry import Registry

    registry = Registry.load()
    broken = {name: f"{type(error).__name__}: {error}" for name, error in registry.broken.items()}
    conflicts = [
        {"kind": offers[0].kind, "type": offers[0].type, "plugins": [offer.plugin for offer in offers]}
        for offers in registry.conflicts()
    ]
    if as_json:
        types = [_offer(registry, offer) for offer in registry.offers]
        output.print_json({"types": types, "broken": broken, "conflicts": conflicts})
        return
    rows = [
        (
            offer.kind,
            offer.type,
            offer.plugin,
            registry.distributions.get(offer.plugin, ""),
            ", ".join(option["name"] for option in _options(offer)),
        )
        for offer in registry.offers
    ]
    output.print_table(("kind", "type", "plugin", "distribution", "options"), rows)
    for name, reason in broken.items():
        click.echo(f'the plugin "{name}" can\'t be loaded: {reason}')
    for conflict in conflicts:
        names = " and ".join(f'"{name}"' for name in conflict["plugins"])
        click.echo(f'{conflict["kind"]} type "{conflict["type"]}" is provided by the plugins {names}')


def _offer(registry: Registry, offer: Offer) -> dict[str, Any]:
    return {
        "kind": offer.kind,
        "type": offer.type,
        "plugin": offer.plugin,
        "distribution": registry.distributions.get(offer.plugin),
        "description": (offer.config.__doc__ or "").strip().partition("\n\n")[0],
        "options": _options(offer),
    }


def _options(offer: Offer) -> list[dict[str, Any]]:
    from tiercache.config.tables import options

    return [
        {
            "name": name,
            "required": field.is_required(),
            "default": None if field.is_required() else field.get_default(call_default_factory=True),
            "description": field.description or "",
        }
        for name, field in options(offer.config).items()
        if name != "type"
    ]
