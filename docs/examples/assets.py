"""Serve a file as browsers like it: by a name that says what it holds, or by a 304 where they have it.

python docs/examples/assets.py
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tiercache import Cache
from tiercache_plugins.integrations import AssetCache, files_in


async def main() -> None:
    """Ask for a file, again with its entity tag, and for one that is nobody's business."""
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory) / "site"
        site.mkdir()
        style = site / "style.css"
        style.write_bytes(b"p { color: green }")
        (Path(directory) / "secret").write_bytes(b"none of yours")
        async with Cache.open({"route": {"assets": {"tiers": ["memory"], "ttl": "1d"}}}) as cache:
            assets, loader = AssetCache(cache), files_in(site)
            asset = await assets.get_asset("/style.css", loader)
            print("served as", asset.immutable_path)
            print("304 for a client that has it:", asset.matches(asset.etag))
            style.write_bytes(b"p { color: blue }")
            print("before a release:", await assets.get_asset_cached("/style.css", loader))
            await assets.invalidate_asset("/style.css")
            changed = await assets.get_asset("/style.css", loader)
            print("after it:", changed.content)
            print("304 now:", changed.matches(asset.etag))
            try:
                await assets.get_asset("/../secret", loader)
            except ValueError as error:
                print("refused:", str(error).partition(";")[0])


if __name__ == "__main__":
    asyncio.run(main())
