"""The process around one Server: `run` serves in it until a signal comes.

It owns what a process has once, and a Server never touches: signals, the event loop, the configuration of
logging, and Python's warnings. The order: address and certificate, then the application, then the Server.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from .asgi import Application
from .config import Config, ConfigError, Tracing, make_configs, named
from .explain.awaits import DEPTH, unawaited_heard
from .listen import open_sockets, url_of
from .loading import load_app
from .loops import choose_loop, close_loop
from .observe import debug
from .observe.access import TIME, AccessLines, TerminalHandler
from .observe.stalls import stalls_told
from .server import Server, Stopped
from .tls_context import tls_context
from .tracing import traced
from .version import __version__

if TYPE_CHECKING:
    from .observe.trace import Trace

log = logging.getLogger("miniasgi")
NO_TRACING = Tracing()
LOGGERS = (log, logging.getLogger("miniasgi.access"))


def run(app: Application | str, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM: the first one asks for a graceful stop, the second one ends at once.

    `app` is an application or its name, `module:attribute`; the options are Config's and Tracing's. Raises
    UsageError (LoadError, AddressError, TLSError, ConfigError), and StartupFailed. Outside the main thread,
    where signals cannot be had, it serves until the process ends.
    """
    if "reload" in options:
        raise ConfigError(why_no_reload(app))
    config, tracing = make_configs(options)
    serve(app, config, Signals(), tracing=tracing)


def why_no_reload(app: Application | str) -> str:
    """What who asks a program to reload is told: to load the code anew, all before `run` would run again."""
    name = app if isinstance(app, str) else "module:attribute"
    reason = "" if isinstance(app, str) else "an application object cannot be loaded anew, and "
    return f"{reason}reload is an option of the command line alone: miniasgi serve {name} --reload"


def serve(
    app: Application | str,
    config: Config,
    signals: "Signals",
    sockets: Sequence[socket.socket] = (),
    tracing: Tracing = NO_TRACING,
) -> None:
    """Serve until a signal ends it: on these sockets, or, without any, on the address of the config."""
    configure_logging(config.log_level)
    new_loop = choose_loop(config.loop)
    with signals, suppress(KeyboardInterrupt), ExitStack() as stack:
        stack.enter_context(unawaited_heard(log_unawaited, depth=DEPTH if config.debug else 0))
        tls_context(config)  # what is wrong with its files is told before the application is loaded
        sockets = sockets or open_sockets(config.host, config.port)
        sockets = [stack.enter_context(sock) for sock in sockets]
        name = app if isinstance(app, str) else getattr(app, "__qualname__", type(app).__qualname__)
        if isinstance(app, str):
            app = load_app(app, app_dir=config.app_dir, factory=config.factory)
            enable_loggers()
        trace = stack.enter_context(traced(tracing, name))
        loop = new_loop()
        asyncio.set_event_loop(loop)
        stack.callback(leave, loop)
        server = make_server(app, config, sockets, trace)
        loop.run_until_complete(serve_until_stopped(server, name, signals))


def make_server(
    app: Application, config: Config, sockets: Sequence[socket.socket], trace: "Trace | None"
) -> Server:
    if trace is None:
        return Server(app, config, sockets=sockets)
    on_advice = debug.warn if config.debug else None
    return Server(trace.of_application(app, on_advice), config, sockets=sockets, first=trace.first)


async def serve_until_stopped(server: Server, name: str, signals: "Signals") -> None:
    signals.server = server
    try:
        async with server:
            enable_loggers()
            announce(server, name, signals.told)
            spare_collections()
            keep_freed_memory()
            with stalls_told(server.runtime):
                await server.stopped()
            log.info("Stopping: running requests have %g s", server.config.timeout_graceful_shutdown)
    except Stopped:
        pass
    log.info("Stopped")


def spare_collections() -> None:
    """Let full garbage collections be short and rare: nobody is served while one lasts.

    What there is by now, the modules and the application, stays: it is not looked at again (72 ms each time,
    with Django and FastAPI). And of what comes later the young is looked at as ever, the old less often: with
    2,000 connections that came and went, a full collection every 10 s made a client wait for 100 ms. An
    application that has set its own thresholds keeps them.
    """
    gc.collect()
    gc.freeze()
    young, middle, old = gc.get_threshold()
    if old == PYTHONS_OWN:
        gc.set_threshold(young, middle, 10 * PYTHONS_OWN)


PYTHONS_OWN = 10  # up to Python 3.13; later ones collect in steps


def keep_freed_memory() -> None:
    """Have what was read, and is freed, lie ready for the next read, instead of going back to the system.

    glibc maps a block of more than 128 KiB for itself, gives it back when it is freed, and gives back the end
    of the heap as well: asyncio reads into blocks of 256 KiB. Each read then costs two system calls, and new
    pages: 17 µs instead of 4 where 100 bytes have come; an upload went at a third of its speed, in some
    processes and not in others. Where a mapped block was freed, blocks of up to its size are taken from the
    heap, and twice as much of that is kept (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    bytes(LARGEST_READY)


# A large message, or a few reads.
LARGEST_READY = 4 * 1024 * 1024


class Signals:
    """What SIGINT and SIGTERM do while the block runs; afterwards they do what they did before."""

    told = "Ctrl+C or SIGTERM stops it"  # for the line at the start

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


def announce(server: Server, name: str, how_to_stop: str) -> None:
    places = " and ".join(dict.fromkeys(url_of(sock, server.scheme) for sock in server.sockets))
    if server.config.host in ("0.0.0.0", "::"):
        places += f" (and every other IPv{6 if server.config.host == '::' else 4} address of this machine)"
    if server.config.debug:
        log.warning("With %s, every client is shown what fails inside the application", named("debug", True))
    loop = type(server.loop).__module__.partition(".")[0]
    log.info("miniasgi %s serves %s on %s", __version__, name, places)
    log.info("Process %d, Python %s, %s; %s", os.getpid(), sys.version.split()[0], loop, how_to_stop)


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop, which was this thread's."""
    try:
        close_loop(loop)
    finally:
        asyncio.set_event_loop(None)


def log_unawaited(text: str, _own: bool) -> None:
    log.error("%s", text)


def enable_loggers() -> None:
    """dictConfig disables all loggers that there are, unless it is told not to: the application called it."""
    for each in LOGGERS:
        each.disabled = False


def configure_logging(level: str) -> None:
    """Log to the terminal, by the loggers `miniasgi` (stderr) and `miniasgi.access` (stdout) alone.

    A program that has given them handlers of its own keeps those.
    """
    log.setLevel(level.upper())
    if log.handlers:
        return
    log.propagate = False
    errors = TerminalHandler(sys.stderr)
    errors.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", TIME))
    log.addHandler(errors)
    access = LOGGERS[1]
    if not access.handlers:
        access.addHandler(AccessLines(sys.stdout))
        access.propagate = False
