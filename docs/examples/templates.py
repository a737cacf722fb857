"""Render a page twice: its expensive part is rendered once for each basket, and the user's name each time.

python docs/examples/templates.py
"""

from __future__ import annotations

import asyncio

from jinja2 import DictLoader, Environment

from tiercache import Cache
from tiercache_plugins.integrations import TemplateCache
from tiercache_plugins.integrations.fragments import cache_fragments

PAGE = """Hello {{ name }}.
{% cache "basket", basket.id, ttl="5m", tags=["baskets"] %}{{ priced(basket) }}{% endcache %}"""


class Basket:
    """What somebody wants to buy."""

    def __init__(self, number: int, things: list[str]) -> None:
        self.id = number
        self.things = things


def priced(basket: Basket) -> str:
    """Stand for what takes long."""
    print("priced", basket.id)
    return f"<{len(basket.things)} things>"


async def main() -> None:
    """Render parts of a page, then a whole one."""
    async with Cache.open({"route": {"pages": {"tiers": ["memory"], "ttl": "1h"}}}) as cache:
        environment = Environment(loader=DictLoader({"page": PAGE}), autoescape=True, enable_async=True)
        environment.globals["priced"] = priced
        fragments = cache_fragments(environment, cache)
        page = environment.get_template("page")
        basket = Basket(1, ["tea", "jam"])
        for name in ("Ada", "Bob"):
            print(await page.render_async(name=name, basket=basket))
        basket.things.append("salt")
        await fragments.invalidate_fragment("basket")
        print(await page.render_async(name="Ada", basket=basket))

        mails = TemplateCache(cache)

        def mail(template: str, data: dict[str, str]) -> str:
            print("rendered", template)
            return f"Dear {data['name']}"

        for _ in range(2):
            print(await mails.render_template_cached("welcome", {"name": "Ada"}, mail))


if __name__ == "__main__":
    asyncio.run(main())
