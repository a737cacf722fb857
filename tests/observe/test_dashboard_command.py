"""`tiercache dashboard` as a process: where it listens, what it tells, and how it ends."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from tiercache.cli import dashboard, main

DOCUMENT = """
[tier.disk]
type = "sqlite"
path = "cache.db"
[route.all]
tiers = ["disk"]
ttl = "1h"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiercache.toml").write_text(DOCUMENT)


@contextlib.contextmanager
def running(*arguments):
    """Run the command; yield the process and what it told of itself."""
    command = [
        sys.executable,
        "-c",
        "from tiercache.cli import main; main()",
        "dashboard",
        *arguments,
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        text = b""
        ends = time.monotonic() + 60
        while not text.endswith(b"}\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(ends - time.monotonic(), 0))
            data = os.read(process.stdout.fileno(), 4096) if ready else b""
            assert data, process.stderr.read()
            text += data
        yield process, json.loads(text)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(here, ending):
    with running("--port", "0", "--every", "0.1") as (process, told):
        assert told["token"] is None
        with httpx.Client(base_url=told["url"], timeout=30) as client:
            assert "disk" in client.get("/").text
            assert client.get("/", headers={"host": "evil.example"}).status_code == 421
            with client.stream("GET", "/events") as response:
                lines = response.iter_lines()
                assert any(line.startswith("data: ") for line in lines)
                # Somebody who looks does not keep it from ending.
                process.send_signal(ending)
                # Its life would have been long enough for a hundred events.
                assert sum(line.startswith("data: ") for line in lines) < 50
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, b"")


def test_it_wants_the_token_that_it_was_given(here):
    with running("--port", "0", "--token", "a-token-of-some-length") as (_, told):
        assert told["token"] == "a-token-of-some-length"
        assert httpx.get(told["url"], timeout=30).status_code == 401
        held = {"authorization": f"Bearer {told['token']}"}
        assert httpx.get(told["url"], timeout=30, headers=held).is_success


def test_who_reads_the_address_may_ask_at_once():
    class Fake:
        def __init__(self, config):
            pass

        async def serve(self, sockets):
            pass

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        asked = []

        def told():
            with socket.create_connection(bound.getsockname(), 10) as asking:
                asked.append(asking.getpeername())

        fake = SimpleNamespace(Server=Fake, Config=lambda *_, **__: None)
        asyncio.run(dashboard._served(fake, None, bound, told))
        assert asked == [bound.getsockname()]


@pytest.fixture
def served(here, monkeypatch):
    """What would have been served, had it been."""
    found = []

    async def serve(uvicorn, shown, bound, listening):
        listening()
        found.append((shown, bound.getsockname()))

    monkeypatch.setattr(dashboard, "_served", serve)
    return found


def test_on_any_other_address_a_token_is_made_and_told_once(served):
    told = [CliRunner().invoke(main, ["dashboard", "--host", "0.0.0.0", "--port", "0"]) for _ in range(2)]
    assert [one.exit_code for one in told] == [0, 0]
    tokens = [one.stdout.strip().partition("/?token=")[2] for one in told]
    assert all(len(token) >= 32 for token in tokens)
    assert tokens[0] != tokens[1]
    for (shown, (host, _)), token in zip(served, tokens, strict=True):
        assert host == "0.0.0.0"
        assert shown._door._token == token.encode()
        assert shown._door._hosts is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2"])
def test_on_this_machines_own_address_its_names_alone_are_accepted(served, host):
    result = CliRunner().invoke(main, ["dashboard", "--host", host, "--port", "0"])
    assert result.exit_code == 0
    ((shown, address),) = served
    assert result.stdout == f"http://{host}:{address[1]}/\n"
    assert shown._door._hosts == {"localhost", "127.0.0.1", "[::1]", host}


def test_a_port_that_is_taken_is_told(here):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(main, ["dashboard", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "can't listen at 127.0.0.1 port" in result.stderr


def test_a_token_that_is_too_short_is_told(here):
    result = CliRunner().invoke(main, ["dashboard", "--port", "0", "--token", "short"])
    assert result.exit_code == 2
    assert "at least 16 printable ASCII characters" in result.stderr


def test_without_a_server_the_extra_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["dashboard"])
    assert result.exit_code == 2
    assert "tiercache-kernel[dashboard]" in result.stderr


def test_the_kernel_loads_no_server_by_itself(here):
    code = (
        "import sys, tiercache.dashboard; print(sorted({'uvicorn', 'starlette', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
