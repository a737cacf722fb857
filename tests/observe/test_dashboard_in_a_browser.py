"""The dashboard in a headless Chromium: live numbers, both colour schemes, a phone, a keyboard, no script."""

import asyncio
import contextlib

import pytest

from browser import Browser, found
from servers import Server
from serving import Serving
from tiercache.dashboard import Dashboard

pytestmark = pytest.mark.skipif(
    found() is None, reason="no Chromium is installed here; on Debian and Ubuntu: apt install chromium"
)

WICKED = "<img src=x onerror=alert(1)>*"
TIERS = {"memory": {"type": "memory", "max_entries": 50}}
ROUTES = {
    "pages": {"tiers": ["memory"], "keys": ["page:*"], "ttl": "1h"},
    "rest": {"tiers": ["memory"], "ttl": "1h", "default": True},
}
TABLES = {"tier": TIERS, "route": ROUTES, "telemetry": {"patterns": [WICKED]}}

CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const parts = [.2126, .7152, .0722];
  const light = (colour) => parts.reduce((sum, part, i) => sum + part * linear(colour[i]), 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + .05) / (y + .05);
  };
  const poor = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  for (let text; text = words.nextNode();) {
    const node = text.parentElement;
    if (!text.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "title"].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const seen = node.closest("svg") ? style.fill : style.color;
    looked += 1;
    if (ratio(parse(seen), ground(node)) < 4.5) poor.push([text.data.trim(), seen, ground(node)]);
  }
  for (const line of document.querySelectorAll(".legend line, .legend rect")) {
    const style = getComputedStyle(line), seen = line.tagName === "rect" ? style.fill : style.stroke;
    looked += 1;
    if (ratio(parse(seen), ground(line.closest("figure"))) < 3) poor.push([line.outerHTML, seen]);
  }
  return {looked, poor};
})()"""

LABELS = """(() => {
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const wrong = ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => "twice: " + id);
  for (const node of document.querySelectorAll("[aria-labelledby]")) {
    const label = document.getElementById(node.getAttribute("aria-labelledby"));
    if (!label?.textContent) wrong.push(node.outerHTML);
  }
  for (const node of document.querySelectorAll("button, summary, th"))
    if (!node.textContent.trim()) wrong.push(node.outerHTML);
  for (const node of document.querySelectorAll("[tabindex], svg[role=img]"))
    if (!node.getAttribute("aria-label") && !node.getAttribute("aria-labelledby")) wrong.push(node.outerHTML);
  for (const node of document.querySelectorAll("th")) if (!node.scope) wrong.push(node.outerHTML);
  for (const node of document.querySelectorAll("svg:not([role=img])"))
    if (node.getAttribute("aria-hidden") !== "true") wrong.push(node.outerHTML);
  if (document.documentElement.lang !== "en" || !document.title) wrong.push("language or title");
  for (const name of ["h1", "main"]) if (document.querySelectorAll(name).length !== 1) wrong.push(name);
  return wrong;
})()"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def served():
    with Serving(TABLES, lambda cache: Dashboard(cache, every=0.1)) as running:
        running.run(running.cache.set("page:1", 1))
        yield running


@contextlib.contextmanager
def opened(browser, served, **options):
    page = browser.open(served.url + "/", **options)
    yield page
    assert page.complaints() == []
    assert page.requested(), "nothing was asked for"
    assert {url.removeprefix(served.url) for url in page.requested()} <= {"/", "/events", "data:,"}
    page.close()


def cell(title, row, column):
    """Return an expression for the text of a cell."""
    return (
        f"(() => {{ const table = document.querySelector('section[aria-labelledby={title}-title] table');"
        f"const heads = [...table.querySelectorAll('thead th')].map((th) => th.textContent);"
        f"const rows = [...table.querySelectorAll('tbody tr')], at = heads.indexOf('{column}');"
        f"const tr = rows.find((tr) => tr.cells[0].textContent === '{row}');"
        "return tr.cells[at].textContent; })()"
    )


def test_numbers_follow_the_traffic_and_charts_are_drawn(browser, served):
    with opened(browser, served) as page:
        before = int(page.run(cell("patterns", "page:*", "hits")).replace(",", ""))

        async def traffic():
            for _ in range(1234):
                await served.cache.get("page:1")

        served.run(traffic())
        page.until(f"{cell('patterns', 'page:*', 'hits')} === '{before + 1234:,}'")
        page.until(
            "document.querySelector('#chart-reads').parentElement.querySelector('.line').getAttribute('d')"
        )
        page.until("document.querySelectorAll('.plot path').length >= 6")
        assert not page.run("document.getElementById('charts').hidden")


def test_what_the_pointer_rests_on_says_its_numbers(browser, served):
    with opened(browser, served) as page:
        page.until("document.querySelectorAll('.plot rect title').length >= 4")
        found = page.run("""(() => {
          const plot = document.querySelector('.plot'), legend = plot.nextElementSibling;
          const names = [...legend.querySelectorAll('span')].map((one) => one.textContent);
          plot.scrollIntoView({block: 'center', behavior: 'instant'});
          const box = [...plot.querySelectorAll('rect')].at(-1).getBoundingClientRect();
          const under = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return {names, lines: under.querySelector('title').textContent.split("\\n")};
        })()""")
        assert found["lines"][0] == "0 s ago"
        assert [line.partition(": ")[0] for line in found["lines"][1:]] == found["names"]


def test_what_the_configuration_says_is_text_in_the_page_too(browser, served):
    with opened(browser, served) as page:
        page.until("document.querySelectorAll('.plot path').length")
        assert page.run("document.images.length") == 0
        assert WICKED in page.run("document.body.innerText")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(browser, served, scheme):
    with opened(browser, served, scheme=scheme) as page:
        page.until("document.querySelectorAll('.plot path').length")
        page.run("document.querySelector('details').open = true")
        page.until("document.querySelectorAll('details tbody td').length")
        measured = page.run(CONTRAST)
        assert measured["poor"] == []
        assert measured["looked"] > 100
        ground = page.run("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
        assert (sum(map(int, ground)) < 200) == (scheme == "dark")
        assert page.run(LABELS) == []


def test_a_phone_shows_it_without_moving_sideways(browser, served):
    with opened(browser, served, width=360, height=740) as page:
        page.until("document.querySelectorAll('.plot path').length")
        page.run("document.querySelectorAll('details').forEach((one) => one.open = true)")
        page.until("document.querySelectorAll('details tbody td').length")
        assert page.run("innerWidth") == 360
        assert page.run("document.documentElement.scrollWidth") <= 360
        # What is wider scrolls by itself, and can be reached by the keyboard.
        assert page.run("[...document.querySelectorAll('.scroll')].every((one) => one.tabIndex === 0)")


def test_it_can_be_paused_by_the_keyboard(browser, served):
    with opened(browser, served) as page:
        page.until("document.querySelectorAll('.plot path').length")
        page.run("document.getElementById('pause').focus()")
        for kind in ("keyDown", "keyUp"):
            page.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                     windowsVirtualKeyCode=13)  # fmt: skip
        page.until("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

        async def nobody_looks():
            # Nor does it come back, as a stream does that only ended. One that was being asked for when it
            # was given up may begin yet, and ends at once.
            looks = -1
            async with asyncio.timeout(30):
                while looks != served.app._history.looks[-1].number or served.app.looking:
                    looks = served.app._history.looks[-1].number
                    await asyncio.sleep(1)

        served.run(nobody_looks())
        page.run("document.getElementById('pause').click()")
        page.until("document.getElementById('pause').getAttribute('aria-pressed') === 'false'")
        page.until("document.getElementById('link').textContent === ''")


def test_without_scripts_it_is_a_page_of_numbers(browser, served):
    with opened(browser, served, scripts=False) as page:
        text = page.run("document.body.innerText")
        assert "Scripts are off" in text
        assert "page:*" in text
        assert page.run("getComputedStyle(document.getElementById('charts')).display") == "none"
        assert page.run("getComputedStyle(document.getElementById('pause')).display") == "none"
        assert page.requested() == [served.url + "/"]


def test_it_says_so_when_nothing_is_heard_and_goes_on_by_itself(browser):
    with Serving(TABLES, lambda cache: Dashboard(cache, every=0.1)) as served:
        page = browser.open(served.url + "/")
        page.until("document.querySelectorAll('.plot path').length")
        served.run(served.cache.close())
        page.until("document.getElementById('link').textContent.includes('Nothing is heard')")
        served.run(served.cache.start())
        page.until("document.getElementById('link').textContent === ''")
        page.close()


def test_an_outage_is_told_in_words_and_marked(browser):
    with Server("valkey") as server:
        tables = {
            "tier": {"redis": {"type": "redis", "url": server.url}},
            "route": {"all": {"tiers": ["redis"], "ttl": "1h"}},
        }
        with Serving(tables, lambda cache: Dashboard(cache, every=0.1, alone=True)) as served:
            page = browser.open(served.url + "/")
            page.until("document.querySelectorAll('.plot path').length")
            assert page.run("document.querySelectorAll('td[data-state=bad]').length") == 0
            server.kill()
            page.until("document.getElementById('status').textContent.includes('Tier redis is away')")
            page.until("document.querySelector('td[data-state=bad]')?.textContent === 'away'")
            assert page.run("document.getElementById('status').dataset.state") == "bad"
            assert page.run(CONTRAST)["poor"] == []
            server.start()
            page.until("document.getElementById('status').textContent === 'Nothing is amiss.'")
            page.until("document.querySelectorAll('td[data-state=bad]').length === 0")
            page.until("document.getElementById('changes').textContent.includes('tier redis is back')")
            assert page.complaints() == []
            page.close()
