"""A headless Chromium, asked through a pipe by its own protocol: no driver, no port, no other package.

with Browser() as browser:
    page = browser.open("http://127.0.0.1:8000/", width=360)
    page.until("document.title === 'done'")
    page.run("document.body.innerText")
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 60.0
"""Seconds that anything may take before it counts as never: machines are busy."""


def found() -> str | None:
    """Return the browser that is installed, that of `BROWSER_FOR_TESTS` first; None where there is none."""
    return os.environ.get("BROWSER_FOR_TESTS") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser process with a profile of its own."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or found()

    def __enter__(self) -> Self:
        assert self.path is not None, "no browser is installed"
        self.profile = tempfile.mkdtemp(prefix="tiercache-browser-")
        out_read, self.out = (_high(end) for end in os.pipe())
        self.back, back_write = (_high(end) for end in os.pipe())
        # The browser reads commands at 3 and answers at 4.
        command = [
            self.path, "--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe",
            "--disable-extensions", "--disable-background-networking", "--disable-component-update",
            "--disable-dev-shm-usage", "--no-default-browser-check", "--hide-scrollbars",
            f"--user-data-dir={self.profile}", *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]  # fmt: skip
        shell = f'exec 3<&{out_read} 4>&{back_write} {out_read}<&- {back_write}>&-; exec "$@"'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "browser", *command],
            pass_fds=(out_read, back_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(out_read)
        os.close(back_write)
        self.number = 0
        self.buffer = b""
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.out)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return what it answers."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data) :]
        ends = time.monotonic() + PATIENCE
        while True:
            answer = self._next(ends)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.back], [], [], max(ends - time.monotonic(), 0))
            data = os.read(self.back, 1 << 16) if ready else b""
            if not data:
                raise TimeoutError("the browser does not answer" if not ready else "the browser has ended")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(line))

    def open(
        self, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light", scripts: bool = True
    ) -> Page:
        """Open *url* in a tab of its own, with cookies of its own."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        page.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 500,
        )  # fmt: skip
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.ask("Page.navigate", url=url)
        page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page


def _high(descriptor: int) -> int:
    """Move *descriptor* out of the way of those that the browser wants."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser = browser
        self.session = session
        self.target = target

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self.browser.ask(method, self.session, **params)

    def run(self, code: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, code: str) -> Any:
        """Ask until the expression is true; return its value."""
        ends = time.monotonic() + PATIENCE
        while not (value := self.run(code)):
            if time.monotonic() > ends:
                raise TimeoutError(f"never: {code}\n{self.run('document.body.innerText')}")
            time.sleep(0.05)
        return value

    def seen(self, method: str) -> list[dict[str, Any]]:
        """Return what came of the events *method* in this tab."""
        return [
            event["params"] for event in self.browser.events
            if event.get("sessionId") == self.session and event.get("method") == method
        ]  # fmt: skip

    def complaints(self) -> list[str]:
        """Return what the page, or the browser about the page, has put on the console."""
        thrown = [event["exceptionDetails"]["text"] for event in self.seen("Runtime.exceptionThrown")]
        said = [str(event["args"]) for event in self.seen("Runtime.consoleAPICalled")]
        return thrown + said + [event["entry"]["text"] for event in self.seen("Log.entryAdded")]

    def requested(self) -> list[str]:
        """Return the addresses that the page asked for."""
        return [event["request"]["url"] for event in self.seen("Network.requestWillBeSent")]

    def picture(self, path: Path | str, *, whole: bool = True) -> None:
        """Write a picture of the page to *path*; *whole*: also of what is below the window."""
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close the tab."""
        self.browser.ask("Target.closeTarget", targetId=self.target)
