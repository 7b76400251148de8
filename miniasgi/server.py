"""Server: open → lifespan → accept → drain → close.

Server is the one primitive that everything else uses: the command line, a program's own loop, a test. It
owns the clock and the order of start and stop. It never touches signals, logging configuration or the loop
policy: `process.run` does.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from .accept import Acceptor
from .asgi import Application
from .config import Config
from .explain.application import check_application
from .explain.faults import Tell, log_fault
from .explain.frames import awaiting, own_place
from .lifespan import Lifespan, StartupFailed
from .listen import close_all, open_sockets, start_listening, url_of
from .loops import CLEAN_UP
from .observe import debug
from .observe.access import log_request
from .observe.conversation import Recorded
from .protocol.connection import Arrival, First
from .protocol.http1 import Http1Connection
from .protocol.runtime import TICK, OnDebug, Runtime
from .protocol.tls_transport import Handshake
from .tls_context import server_certificate, tls_context

log = logging.getLogger("miniasgi")


class Stopped(StartupFailed):
    """The server was asked to stop before the application had started."""


class Server:
    """Serves one application while its `async with` block runs.

        async with Server(app, Config(port=0)) as server:
            print(server.url)
            await server.stopped()

    Made of what is no application, it raises LoadError. Entering reads the certificate, takes the address,
    starts the application, then accepts; it raises TLSError, AddressError, StartupFailed.
    Leaving stops as the promise is: running requests finish within `timeout_graceful_shutdown`, and the
    application's shutdown is always run.

    `sockets` are bound ones to use in place of host and port, perhaps none; they are closed at the end.
    `on_debug`, for tests, is called with (scope, info) of each http.response.debug; that extension is in the
    scope only where it is given. `tell` hears what goes wrong in the application, in place of the log.
    `first` makes the connection of each client.
    """

    def __init__(
        self,
        app: Application,
        config: Config | None = None,
        *,
        sockets: Sequence[socket.socket] | None = None,
        on_debug: OnDebug | None = None,
        tell: Tell = log_fault,
        first: First = Http1Connection,
    ) -> None:
        check_application(app, "the application")
        self.app = app
        self.config = config or Config()
        self.binds = sockets is None  # takes the address of the config
        self.sockets = list(sockets or ())
        self.on_debug = on_debug
        self.tell = tell
        self.first = first
        self.loop: asyncio.AbstractEventLoop | None = None  # the loop that it runs in, once it does
        self.asked = asyncio.Event()  # stop() was called
        self.at_once = asyncio.Event()  # stop(at_once=True) was called
        # What is waited for at present, unless this event is set.
        self.waiting: tuple[asyncio.Event, asyncio.Timeout] | None = None

    # ---- for the caller ----

    @property
    def url(self) -> str:
        """Where this machine reaches the server: http://127.0.0.1:8000, or https://…"""
        return url_of(self.sockets[0], self.scheme)

    @property
    def scheme(self) -> str:
        """https where there is a certificate, else http."""
        return "https" if self.config.ssl_certfile else "http"

    @property
    def port(self) -> int:
        """The port that the server has, also where it asked for port 0."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the server to stop; from any thread, at any time, as often as you like. Returns immediately.

        With `at_once` the running requests and the application's shutdown are cancelled, not waited for.
        """
        if self.loop is None:
            self.on_stop(at_once)  # so that it stops as soon as it starts
            return
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            self.loop.call_soon_threadsafe(self.on_stop, at_once)

    async def stopped(self) -> None:
        """Return when `stop` was called."""
        await self.asked.wait()

    def on_stop(self, at_once: bool) -> None:
        self.asked.set()
        if at_once:
            self.at_once.set()
        if self.waiting is not None:
            event, limit = self.waiting
            if event.is_set() and not limit.expired():
                limit.reschedule(0)

    # ---- start ----

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        state: dict[Any, Any] = {}
        config = self.config
        self.lifespan = Lifespan(self.app, config.lifespan, config.timeout_lifespan, state, self.tell)
        try:
            tls, server_cert = tls_context(config), server_certificate(config)
            if self.binds:
                self.sockets = open_sockets(config.host, config.port)
            await self.unless(self.asked, self.lifespan.startup())
            try:
                if self.asked.is_set():
                    raise Stopped("asked to stop during the application's startup")
                self.runtime = self.make_runtime(self.loop, state, server_cert)
                self.listen(tls)
            except BaseException:
                await self.unless(self.at_once, self.lifespan.shutdown())
                raise
        except BaseException:
            close_all(self.sockets)
            raise
        self.clock = self.runtime.loop.call_later(until_next_tick(), self.tick)
        return self

    def make_runtime(
        self, loop: asyncio.AbstractEventLoop, state: dict[Any, Any], server_cert: str | None
    ) -> Runtime:
        app, config = self.app, self.config
        if config.debug and not isinstance(app, Recorded):  # it is in a test, and what was said is kept there
            app = Recorded(app, debug.warn)
        return Runtime(
            app,
            config,
            loop,
            state,
            access=log_request if config.access_log else None,
            show_failure=debug.show_failure if config.debug else None,
            on_debug=self.on_debug,
            server_cert=server_cert,
            tell=self.tell,
        )

    def listen(self, tls: ssl.SSLContext | None) -> None:
        """From here on clients are accepted."""
        for sock in self.sockets:
            start_listening(sock, self.config.backlog)
        first = self.first if tls is None else partial(Handshake, tls, self.first)
        self.arrival = arrival = Arrival(self.runtime, first)
        self.acceptor = Acceptor(self.runtime.loop, self.sockets, lambda: arrival, self.runtime.start_task)

    def tick(self) -> None:
        self.clock = self.runtime.loop.call_later(until_next_tick(), self.tick)
        self.runtime.tick()

    # ---- stop ----

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.acceptor.close()
        close_all(self.sockets)  # so that clients go elsewhere, rather than wait
        try:
            await self.stop_accepting()
            await self.unless(self.at_once, self.quiet())
        finally:  # also where the caller's own task is cancelled while it waits
            await self.cancel_calls()
            self.clock.cancel()
            await self.unless(self.at_once, self.lifespan.shutdown())

    async def stop_accepting(self) -> None:
        """Let go who is idle, once the requests have been read that had reached this machine.

        Nearly every client with a connection for each request would else meet a reset when a server stops.
        """
        try:
            await self.acceptor.settled()
            await asyncio.sleep(0)  # a turn of the loop, in which it reads
        finally:
            self.runtime.stop_accepting()

    async def quiet(self) -> None:
        """Return when every connection is closed and every call of the application has ended; or in time."""
        if not self.runtime.quiet.done():
            await asyncio.wait((self.runtime.quiet,), timeout=self.config.timeout_graceful_shutdown)

    async def cancel_calls(self) -> None:
        """End what is still running after its time, and say what it was."""
        calls = list(self.runtime.calls)
        for call in calls:
            text = f"{call.name}: still running when the server stopped; cancelled"
            waits = own_place("; it waits in ", awaiting(call.task.get_coro()))
            self.tell(logging.ERROR, text + waits, None)
            call.task.cancel()
        if calls:
            await asyncio.wait([call.task for call in calls], timeout=CLEAN_UP)
        for call in self.runtime.calls:
            text = f"{call.name}: goes on in spite of being cancelled; left behind"
            self.tell(logging.ERROR, text, None)
            # asyncio would tell it once more, by the number of the task.
            call.task._log_destroy_pending = False  # type: ignore[attr-defined]
        await self.acceptor.settled()  # so that those who came last are told, too
        self.runtime.give_up()
        await asyncio.sleep(0)  # the loop tells the connections that they are lost

    async def unless(self, event: asyncio.Event, work: Awaitable[None]) -> None:
        """Wait for the work, or cancel it as soon as the event is set. Raises what the work raises.

        A limit of time that is none until then: it needs neither a task for the work nor one for the event.
        """
        limit = asyncio.timeout(0 if event.is_set() else None)
        self.waiting = event, limit
        try:
            async with limit:
                await work
        except TimeoutError:
            if not limit.expired():  # it is the work's own
                raise
        finally:
            self.waiting = None


def until_next_tick() -> float:
    """Ticks fall on whole seconds, so that the Date header is never a second behind."""
    return TICK - time.time() % TICK
