"""Makes the pictures of the dashboard and of the command line: scripts/screenshots.

The dashboard is shown twice over an application that asks for pages and users: while all is well, and while
its Redis is away. The commands are run as they are, at a terminal of 100 columns.
"""

from __future__ import annotations

import asyncio
import os
import pty
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from browser import Browser, found
from servers import Server, free_port
from serving import Serving
from tiercache.dashboard import Dashboard

HERE = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 200_000
"""Bytes that a picture may have."""
COLUMNS = 110

DOCUMENT = """\
[cache]
namespace = "shop"

[tier.memory]
type = "memory"
max_entries = 400

[tier.redis]
type = "redis"
url = "redis://127.0.0.1:{port}/0"

[tier.disk]
type = "sqlite"
path = "cache.sqlite3"

[route.pages]
tiers = ["memory", "redis", "disk"]
keys = ["page:*"]
ttl = "10s"
stale = "1m"

[route.users]
tiers = ["memory", "redis"]
keys = ["user:*"]
ttl = "1h"

[route.everything]
tiers = ["memory", "redis"]
default = true
ttl = "5m"

[telemetry]
patterns = ["page:home:*"]
"""


def tables(port: int, directory: Path) -> dict[str, object]:
    """Return the document for a server at *port*, with its file in *directory*."""
    import tomllib

    document = tomllib.loads(DOCUMENT.format(port=port))
    document["tier"]["disk"]["path"] = str(directory / "cache.sqlite3")
    return document


async def traffic(cache, ends):
    """Ask for pages and users as visitors do: a few often, most seldom."""
    chance = random.Random(7)

    async def load():
        await asyncio.sleep(chance.uniform(0.002, 0.02))
        return "x" * chance.randint(200, 2000)

    async def visitor():
        while time.monotonic() < ends:
            kind = chance.choice(("page:home", "page:shop", "user", "user", "basket"))
            await cache.get_or_set(f"{kind}:{int(chance.paretovariate(0.7)) % 1500}", load)
            if chance.random() < 0.002:
                await cache.invalidate(prefix="page:home:")
            await asyncio.sleep(chance.expovariate(40))

    await asyncio.gather(*(visitor() for _ in range(12)))


def dashboards(directory: Path) -> None:
    """Take the pictures of the dashboard."""
    with Server("valkey") as server, Browser() as browser:
        document = tables(server.port, directory)
        with Serving(document, lambda cache: Dashboard(cache, every=0.5)) as served:
            visits = asyncio.run_coroutine_threadsafe(
                traffic(served.cache, time.monotonic() + 75), served.loop
            )
            address = served.url + "/"
            light = browser.open(address, width=1100, height=1000)
            time.sleep(35)
            shoot(light, "dashboard-light", 1100, 1300)
            shoot(browser.open(address, width=1100, height=1000, scheme="dark"), "dashboard-dark", 1100, 1300)
            shoot(browser.open(address, width=360, height=740, scheme="dark"), "dashboard-phone", 360, 1480)
            server.kill()
            light.until("document.getElementById('status').textContent.includes('its breaker is open')")
            time.sleep(8)
            shoot(light, "dashboard-outage", 1100, 900)
            server.start()
            light.until("document.getElementById('status').textContent === 'Nothing is amiss.'")
            visits.result(120)


def shoot(page, name, width, height=None):
    """Take a picture of the whole page, or of its upper part."""
    page.until("document.querySelectorAll('.plot path').length")
    time.sleep(1.5)
    whole = page.run("document.documentElement.scrollHeight")
    page.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=height or whole, deviceScaleFactor=1,
        mobile=False,
    )  # fmt: skip
    time.sleep(1.5)
    page.picture(HERE / f"{name}.png", whole=False)


def terminals(directory: Path) -> None:
    """Take the pictures of the command line."""
    with Server("valkey") as server:
        (directory / "tiercache.toml").write_text(DOCUMENT.format(port=server.port))
        newer = DOCUMENT.format(port=server.port).replace('"10s"', '"30s"').replace('"shop"', '"store"')
        (directory / "newer.toml").write_text(newer)
        for i in range(40):
            told(directory, "set", f"page:home:{i}", "x" * 500, "--tag", "home")
        drawn("stats", told(directory, "stats", "--watch", "--count", "1"))
        told(directory, "set", "user:7", "Ada", "--tag", "people")
        drawn("explain", told(directory, "explain", "user:7"))
        drawn("doctor", told(directory, "doctor"))
        drawn("diff", told(directory, "diff", "tiercache.toml", "newer.toml"))
        away = DOCUMENT.format(port=free_port())
        (directory / "tiercache.toml").write_text(away)
        drawn("doctor-outage", told(directory, "doctor"))


def told(directory: Path, *arguments: str) -> str:
    """Return a command and what a terminal would show of it."""
    ours, theirs = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIERCACHE_")},
        "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "LINES": "50",
    }  # fmt: skip
    code = "from tiercache.cli import main; main(prog_name='tiercache')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=directory, env=environment,
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(ours)
    process.wait()
    return f"\x1b[1m$ tiercache {' '.join(arguments)}\x1b[0m\n{settled(text.decode())}"


def settled(text: str) -> str:
    """Return what stays of *text* on a terminal where lines are taken back."""
    lines = [""]
    for part in re.split(r"(\x1b\[\?25[hl]|\x1b\[1A|\x1b\[2K|\r?\n|\r)", text):
        if part.endswith("\n"):
            lines.append("")
        elif part == "\x1b[1A":
            lines.pop()
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif not part.startswith(("\x1b[?25", "\r")):
            lines[-1] += part
    return "\n".join(lines)


def drawn(name: str, text: str) -> None:
    """Draw what a terminal shows."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123
    console.print(Text.from_ansi(text.rstrip()), soft_wrap=False)
    picture = console.export_svg(title="tiercache", unique_id=f"tiercache-{name}")
    # The font is looked for on the reader's machine, and not asked of anybody.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    picture = picture.replace("font-family: Fira Code, monospace", "font-family: ui-monospace, monospace")
    # Its lines are clipped so closely that tables would have gaps.
    picture = re.sub(r' clip-path="url\(#[^)]*-line-\d+\)"', "", picture)
    picture = re.sub(r"<clipPath id=\"[^\"]*-line-\d+\">.*?</clipPath>\s*", "", picture, flags=re.DOTALL)
    picture = re.sub(r"<!--.*?-->\s*", "", picture, flags=re.DOTALL)
    (HERE / f"{name}.svg").write_text(re.sub(r"[ \t]+$", "", picture, flags=re.MULTILINE))


def main() -> int:
    """Make the pictures; complain about those that are too large."""
    if found() is None:
        sys.stderr.write("no Chromium is installed here; on Debian and Ubuntu: apt install chromium\n")
        return 1
    with tempfile.TemporaryDirectory() as directory:
        if "--terminals" not in sys.argv:
            dashboards(Path(directory))
        if "--dashboards" not in sys.argv:
            terminals(Path(directory))
    sizes = {path.name: path.stat().st_size for path in HERE.iterdir() if path.suffix in {".png", ".svg"}}
    for name, size in sorted(sizes.items()):
        sys.stdout.write(f"{size:>9,}  {name}\n")
    return int(max(sizes.values()) > LARGEST)


if __name__ == "__main__":
    raise SystemExit(main())
