"""The thread in which the inspector is served, beside the application's."""

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager

from ..config import Config, named
from ..listen import AddressError, open_sockets
from ..observe.record import Record
from ..server import Server
from .application import Inspector
from .kept import Kept

log = logging.getLogger("miniasgi")

HOST = "127.0.0.1"
# Where a parent passes port and token on to its children: so one page sees all of them, one after the other.
VARIABLE = "MINIASGI_INSPECTOR"
# How long the page's requests may take at the end, in seconds, and its thread.
GRACE = 0.2
PATIENCE = 2.0


@contextmanager
def inspector(port: str, head: str) -> Iterator[Callable[[Record], None]]:
    """Serve the page while the block runs; what it shows are the records that the result is called with.

    `port` is a number, or auto for a free one; `head` the line before all records. Raises AddressError.
    """
    number, token = at(os.environ.get(VARIABLE, ""), port)
    with listening(number) as sock:
        kept = Kept()
        config = Config(access_log=False, lifespan="off", loop="asyncio", timeout_graceful_shutdown=GRACE)
        server = Server(Inspector(kept, head, token), config, sockets=[sock])
        ready = threading.Event()
        thread = threading.Thread(target=run, args=(server, ready), name="miniasgi inspector", daemon=True)
        thread.start()
        ready.wait(PATIENCE)
        log.info("What passes is shown on http://%s:%d/?token=%s", HOST, sock.getsockname()[1], token)
        try:
            yield kept.hear
        finally:
            server.stop()
            thread.join(PATIENCE)


def at(passed_on: str, port: str) -> tuple[int, str]:
    """(port, token): those that a parent has passed on, or new ones."""
    if passed_on:
        number, token = passed_on.split()
        return int(number), token
    return 0 if port == "auto" else int(port), secrets.token_urlsafe(16)


def pass_on(port: str, environment: MutableMapping[str, str]) -> None:
    """Choose port and token for all children of this process. Raises AddressError."""
    number, token = at("", port)
    with listening(number) as sock:
        environment[VARIABLE] = f"{sock.getsockname()[1]} {token}"


def listening(port: int) -> socket.socket:
    try:
        [sock] = open_sockets(HOST, port)
    except AddressError as error:
        reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
        raise AddressError(f"{named('inspect', str(port))} cannot be had: {reason}") from error
    return sock


def run(server: Server, ready: threading.Event) -> None:
    asyncio.run(serve(server, ready))


async def serve(server: Server, ready: threading.Event) -> None:
    async with server:
        ready.set()
        await server.stopped()
