"""`tiercache dashboard`: the tiers of a configuration in the browser."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache
    from tiercache.dashboard import Dashboard

NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine calls it."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True,
              help="The port; 0 for any that is free.")  # fmt: skip
@click.option("--token", metavar="TEXT", help="What who looks must know, of 16 characters or more.")
@click.option("--every", type=click.FloatRange(min=0.1), default=1.0, show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@session.config
@session.as_json
def dashboard(
    host: str, port: int, token: str | None, every: float, config: str | None, as_json: bool
) -> None:
    """Show the tiers in the browser, until interrupted: whether they are there, what they hold, how they do.

    What a running application counted it tells itself: mount `tiercache.dashboard.Dashboard` in it. On
    another address than this machine's own a token is wanted; one is made and told where none is given. With
    --json the address is told as JSON. Needs the extra `dashboard`. Example: tiercache dashboard --port 8642
    """
    from tiercache.dashboard import Dashboard
    from tiercache.errors import PluginError

    try:
        import uvicorn
    except ImportError:
        raise PluginError(
            'tiercache dashboard needs a server: pip install "tiercache-kernel[dashboard]"'
        ) from None
    own = _own(host)
    if token is None and not own:
        import secrets

        token = secrets.token_urlsafe(32)

    async def serve(cache: Cache) -> None:
        shown = Dashboard(cache, token=token, hosts=(*NAMES, host) if own else None, every=every, alone=True)
        with contextlib.closing(listening) as bound:
            await _served(uvicorn, shown, bound, lambda: _tell(bound, host, token, as_json=as_json))

    listening = _listen(host, port)
    try:
        session.use(config, serve)
    finally:
        listening.close()


def _own(host: str) -> bool:
    """Whether *host* is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise click.ClickException(f"can't listen at {host} port {port}: {error.strerror}") from error
    return listening


def _tell(bound: socket.socket, host: str, token: str | None, *, as_json: bool) -> None:
    from tiercache.cli import output

    port = bound.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    if as_json:
        output.print_json({"url": url, "token": token})
    else:
        click.echo(url if token is None else f"{url}?token={token}")
        if token is not None:
            click.echo("the token is part of the address; whoever has it may look", err=True)


async def _served(
    uvicorn: Any, shown: Dashboard, bound: socket.socket, listening: Callable[[], None]
) -> None:
    class Server(uvicorn.Server):  # type: ignore[misc]
        """Ends the streams before it waits for open responses."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            with _interrupted(self.handle_exit):
                yield

        def handle_exit(self, sig: int, frame: Any) -> None:
            shown.close()
            super().handle_exit(sig, frame)

    # Its access log would hold the token.
    options = uvicorn.Config(
        shown,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        interface="asgi3",
    )
    # Who reads the address may ask at once.
    bound.listen()
    listening()
    await Server(options).serve(sockets=[bound])


@contextlib.contextmanager
def _interrupted(act: Any) -> Iterator[None]:
    """Do *act* at an interrupt or a termination, meanwhile. Both are the usual end, and no error."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)
    try:
        for one in caught:
            loop.add_signal_handler(one, act, one, None)
    except (NotImplementedError, RuntimeError):
        # Windows, or a thread that gets no signals: the interrupt goes its usual way.
        yield
        return
    try:
        yield
    finally:
        for one in caught:
            loop.remove_signal_handler(one)
