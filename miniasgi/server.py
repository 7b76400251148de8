"""Server: open → lifespan → accept → drain → close; and `run`, which serves until a signal comes.

Server is the one primitive that everything else uses: the command line, a program's own loop, a test. It
owns the clock and the order of start and stop. It never touches signals, logging configuration or the loop
policy: `run` does.
"""

import asyncio
import importlib.util
import linecache
import logging
import os
import platform
import re
import signal
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from .asgi import Application
from .config import Config, ConfigError, make_config
from .frames import is_ours, short
from .lifespan import Lifespan, StartupFailed
from .listen import AddressError, bind_advice, close_all, open_sockets, reuse_address, url_of
from .loading import check_application, load_app
from .observe import debug
from .observe.access import log_request
from .observe.conversation import Recorded
from .protocol.connection import Arrival
from .protocol.http1 import Http1Connection
from .protocol.runtime import TICK, OnDebug, Runtime
from .protocol.tls_transport import Handshake
from .tls import server_certificate, tls_context
from .version import __version__

log = logging.getLogger("miniasgi")

# Connections that wait to be accepted: as many as Node and uvicorn let wait, within the kernel's own limit.
BACKLOG = 2048
# How long a cancelled request may take to clean up.
CLEAN_UP = 1.0


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
    application's shutdown is always run. `sockets` are bound ones to use in place of host and port; they are
    closed at the end. `on_debug`, for tests, is called with (scope, info) of each http.response.debug; that
    extension is in the scope only where it is given.
    """

    def __init__(
        self,
        app: Application,
        config: Config | None = None,
        *,
        sockets: Sequence[socket.socket] = (),
        on_debug: OnDebug | None = None,
    ) -> None:
        check_application(app, "the application")
        self.app = app
        self.config = config or Config()
        self.sockets = list(sockets)
        self.on_debug = on_debug
        self.loop: asyncio.AbstractEventLoop | None = None  # the loop that it runs in, once it does
        self.asked = asyncio.Event()  # stop() was called
        self.at_once = asyncio.Event()  # stop(at_once=True) was called

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

    # ---- start ----

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        state: dict[Any, Any] = {}
        self.lifespan = Lifespan(self.app, self.config.lifespan, self.config.timeout_lifespan, state)
        try:
            tls, server_cert = tls_context(self.config), server_certificate(self.config)
            self.sockets = self.sockets or open_sockets(self.config.host, self.config.port)
            await self.unless(self.asked, self.lifespan.startup())
            try:
                if self.asked.is_set():
                    raise Stopped("asked to stop during the application's startup")
                self.runtime = self.make_runtime(self.loop, state, server_cert)
                await self.listen(tls)
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
        config = self.config
        return Runtime(
            Recorded(self.app, debug.warn) if config.debug else self.app,
            config,
            loop,
            state,
            access=log_request if config.access_log else None,
            show_failure=debug.show_failure if config.debug else None,
            on_debug=self.on_debug,
            server_cert=server_cert,
        )

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        """From here on clients are accepted."""
        for sock in self.sockets:
            try:
                reuse_address(sock)
                sock.listen(BACKLOG)  # here, because uvloop does not tell when it fails
            except OSError as error:  # another server bound the address as we did, and listened first
                raise AddressError(bind_advice(error, *sock.getsockname()[:2])) from error
        first = Http1Connection if tls is None else partial(Handshake, tls, Http1Connection)
        loop, arrival = self.runtime.loop, partial(Arrival, self.runtime, first)
        self.listeners = [
            await loop.create_server(arrival, sock=sock, backlog=BACKLOG) for sock in self.sockets
        ]

    def tick(self) -> None:
        self.clock = self.runtime.loop.call_later(until_next_tick(), self.tick)
        self.runtime.tick()

    # ---- stop ----

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self.listeners:
            listener.close()
        try:
            self.runtime.stop_accepting()
            await self.unless(self.at_once, self.quiet())
        finally:  # also where the caller's own task is cancelled while it waits
            try:
                await self.cancel_calls()
                self.clock.cancel()
                await self.unless(self.at_once, self.lifespan.shutdown())
            finally:
                close_all(self.sockets)

    async def quiet(self) -> None:
        """Return when every connection is closed and every call of the application has ended; or in time."""
        await asyncio.wait((self.runtime.quiet,), timeout=self.config.timeout_graceful_shutdown)

    async def cancel_calls(self) -> None:
        """End what is still running after its time, and say what it was."""
        calls = list(self.runtime.calls)
        for call in calls:
            log.warning("%s: still running when the server stopped; cancelled", call.name)
            call.task.cancel()
        if calls:
            await asyncio.wait([call.task for call in calls], timeout=CLEAN_UP)
        for call in self.runtime.calls:
            log.error("%s: goes on in spite of being cancelled; left behind", call.name)
        for connection in list(self.runtime.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the loop tells the connections that they are lost

    async def unless(self, event: asyncio.Event, work: Awaitable[None]) -> None:
        """Wait for the work, or cancel it as soon as the event is set. Raises what the work raises."""
        working, signalled = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((working, signalled), return_when=asyncio.FIRST_COMPLETED)
        finally:
            signalled.cancel()
            cancelled = working.cancel()  # False where it is done
            await asyncio.wait((working,))
        if not (cancelled and working.cancelled()):
            working.result()


def until_next_tick() -> float:
    """Ticks fall on whole seconds, so that the Date header is never a second behind."""
    return TICK - time.time() % TICK


# ---- run: a server of its own process ---------------------------------------------------------------------


def run(app: Application | str, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM: the first one asks for a graceful stop, the second one ends at once.

    `app` is an application or its name, `module:attribute`; the options are Config's. Raises UsageError
    (LoadError, AddressError, TLSError, ConfigError), and StartupFailed. Outside the main thread, where
    signals cannot be had, it serves until the process ends.
    """
    config = make_config(options)
    configure_logging(config.log_level)
    new_loop = choose_loop(config.loop)
    with Signals() as signals, suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.enter_context(awaits_explained())
        tls_context(config)  # what is wrong with its files is told before the application is loaded
        sockets = [stack.enter_context(sock) for sock in open_sockets(config.host, config.port)]
        name = app if isinstance(app, str) else getattr(app, "__qualname__", type(app).__qualname__)
        if isinstance(app, str):
            app = load_app(app, app_dir=config.app_dir, factory=config.factory)
        loop = new_loop()
        asyncio.set_event_loop(loop)
        stack.callback(leave, loop)
        loop.run_until_complete(serve_until_stopped(Server(app, config, sockets=sockets), name, signals))


async def serve_until_stopped(server: Server, name: str, signals: "Signals") -> None:
    signals.server = server
    try:
        async with server:
            announce(server, name)
            await server.stopped()
            log.info("Stopping: running requests have %g s", server.config.timeout_graceful_shutdown)
    except Stopped:
        pass
    log.info("Stopped")


class Signals:
    """What SIGINT and SIGTERM do while the block runs; afterwards they do what they did before."""

    def __init__(self) -> None:
        self.server: Server | None = None  # set once there is one
        self.count = 0

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()  # nobody else may set a handler
        numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self.before = {number: signal.signal(number, self.on_signal) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.server is None:  # the application is being imported, which only an exception can stop
            log.info("Stopped before the application was loaded")
            raise KeyboardInterrupt
        self.server.stop(at_once=self.count > 1)
        # An application that keeps the loop from turning can only be ended by force.
        if self.count > 2 or (self.count == 2 and not self.server.asked.is_set()):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def announce(server: Server, name: str) -> None:
    places = " and ".join(dict.fromkeys(url_of(sock, server.scheme) for sock in server.sockets))
    if server.config.host in ("0.0.0.0", "::"):
        places += f" (and every other IPv{6 if server.config.host == '::' else 4} address of this machine)"
    if server.config.debug:
        log.warning("With --debug, every client is shown what fails inside the application")
    loop = type(server.loop).__module__.partition(".")[0]
    log.info("miniasgi %s serves %s on %s", __version__, name, places)
    log.info(
        "Process %d, Python %s, %s; Ctrl+C or SIGTERM stops it", os.getpid(), platform.python_version(), loop
    )


def choose_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that the option names."""
    if name == "uvloop" or (name == "auto" and importlib.util.find_spec("uvloop")):
        try:
            import uvloop
        except ImportError as error:
            raise ConfigError("--loop uvloop needs uvloop: pip install uvloop") from error
        return uvloop.new_event_loop
    return asyncio.new_event_loop


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop. Unlike asyncio.run it does not wait for ever for a task that will not be cancelled."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=CLEAN_UP))
        with suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(loop.shutdown_asyncgens(), CLEAN_UP))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the terminal, a file or a pipe; falls silent, after one line, when that takes no more."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.addFilter(lambda _: False)
        log.error("The log to %s ends here: %s", self.stream.name, error.strerror)


@contextmanager
def awaits_explained() -> Iterator[None]:
    """While the block runs, Python's warning of a `send()` without `await` is an error in the log.

    It is no exception: the call made a coroutine, which nobody ran. Python notices, and only warns.
    """
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        found = NEVER_AWAITED.match(str(message))
        if found is None:
            before(message, category, filename, lineno, file, line)
            return
        name, text = found[1], linecache.getline(filename, lineno).strip()
        what = f"{name}() was called without `await`, so that nothing was {PARTICIPLES[name]}"
        if is_ours(filename):  # the coroutine was dropped late: whoever made it is not known any more
            log.error("%s", what)
        else:
            where = f"{short(filename)}, line {lineno}"
            log.error("%s: %s\n  the line     %s\n  in its place await %s", where, what, text, text)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


PARTICIPLES = {"send": "sent", "receive": "received"}
NEVER_AWAITED = re.compile(r"coroutine '[\w.<>]*?\.(?:recorded_)?(send|receive)' was never awaited")


def configure_logging(level: str) -> None:
    """Log to the terminal, by the loggers `miniasgi` (stderr) and `miniasgi.access` (stdout) alone.

    A program that has given them handlers of its own keeps those.
    """
    log.setLevel(level.upper())
    if log.handlers:
        return
    log.propagate = False
    errors = TerminalHandler(sys.stderr)
    errors.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(errors)
    access = logging.getLogger("miniasgi.access")
    if not access.handlers:
        lines = TerminalHandler(sys.stdout)
        lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        access.addHandler(lines)
        access.propagate = False
