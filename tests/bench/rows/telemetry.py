"""A near hit with telemetry off, with the API alone, and with an SDK that takes metrics and spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from bench.caches import near, opened, shuffled
from bench.row import Cases, Result, Scale, awaited
from bench.rows.near_get import reader

BASE = "telemetry off"
TERMS = (
    "1,024 keys in shuffled order, loop included, processor time. API: metrics and traces asked for, and no "
    "SDK set up. SDK: tracer and meter providers that export to a collector on loopback by OTLP."
)


@contextmanager
def collector() -> Iterator[str]:
    """Take what is posted, and throw it away."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(1024, 32))
    cases = Cases(scale)
    told = {"metrics": True, "traces": True}
    with collector() as url:
        async with (
            opened(near("hybrid")) as off,
            opened({**near("hybrid"), "telemetry": told}) as api,
            opened({**near("hybrid"), "telemetry": {**told, "exporter": "otlp", "endpoint": url}}) as sdk,
        ):
            for name, cache in ((BASE, off), ("API only", api), ("SDK", sdk)):
                await cache.set_many(dict.fromkeys(keys, "value"))
                cases.add(name, awaited(reader(cache.get, keys), len(keys), scale=scale))
            await cases.run(scale(25, 1))
            assert sdk.stats().misses == 0
            return [
                cases.result("near hit, API beside off", BASE, "API only", TERMS, most=1.1),
                cases.result("near hit, SDK beside off", BASE, "SDK", TERMS, most=1.1),
            ]
