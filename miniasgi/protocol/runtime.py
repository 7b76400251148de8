"""Runtime: what all connections of one server share.

It is complete before the first connection exists, and owns: the application and its options, the time (the
server's clock calls `tick`), the `Date` header, the way tasks are started, and the lists of what is open.
It knows nothing of HTTP or WebSocket. Next in reading order: `file`.
"""

import asyncio
import contextvars
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from ..asgi import Application, Scope
from ..config import Config
from ..explain.faults import Tell, log_fault
from .recall import Recall

log = logging.getLogger("miniasgi")

# How often the clock ticks, in seconds: the Date header has whole ones, and no time limit needs to be exact.
TICK = 1.0
# How many overdue connections are ended in one turn of the loop. Thousands that came together are overdue
# together, and to close one takes 50 µs: at once, they kept everybody else waiting.
ENDED_AT_ONCE = 8


@dataclass(slots=True)
class Visit:
    """Who asked what, and when: what the access log knows of a request before its end."""

    client: str  # 127.0.0.1:50000, or - on a unix socket
    line: bytes  # the request line; - where none could be read
    began: float  # in the runtime's time


class Waiters(list["asyncio.Future[None]"]):
    """Who waits for the same news: a future each, so that one who gives up does not take the others along."""

    __slots__ = ()

    def wait(self) -> "asyncio.Future[None]":
        """To be awaited: it is done when `wake` is called. No coroutine: that would take 200 bytes more."""
        waiter = asyncio.get_running_loop().create_future()
        if self:  # forget who has given up
            self[:] = [each for each in self if not each.done()]
        self.append(waiter)
        return waiter

    def wake(self) -> None:
        for waiter in self:
            if not waiter.done():
                waiter.set_result(None)
        self.clear()


def guarded(transport: asyncio.Transport, callback: Callable[[], None]) -> None:
    """Call back for this transport. What is raised is a fault of ours: it ends this connection, and no other.

    The loops do the same for data_received and eof_received. Of what they call besides, they only log that it
    has failed, and the connection would hang; and what is called for each connection in turn would not be
    called for the rest. `connection_lost` then tells the application.
    """
    try:
        callback()
    except Exception as error:
        transport.abort()
        text = "A fault of the server's own ends the connection with %s: %r"
        log.error(text, client_of(transport), transport.get_protocol(), exc_info=error)


def client_of(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end, as the log names it."""
    client = transport.get_extra_info("peername")
    return f"{client[0]}:{client[1]}" if isinstance(client, tuple) else "a client"


class OpenConnection(Protocol):
    """What a Runtime, and the server above it, ask of a connection."""

    deadline: float
    take_deadline: float
    transport: asyncio.Transport

    def on_overdue(self, now: float) -> None:
        """One of the deadlines has passed."""

    def flush(self) -> None:
        """Give the transport what is held."""

    def stop(self) -> None:
        """The server stops: close as soon as nothing is owed."""

    def give_up(self) -> None:
        """It cannot wait any more: end now, so that a client can tell that something was owed."""


class RunningCall(Protocol):
    """What they ask of a call of the application."""

    task: "asyncio.Task[None]"

    @property
    def name(self) -> str:
        """The request, as a log line names it."""


# What a client is shown of a failure: (content type, body).
Page = tuple[bytes, bytes]
# (scope, what the application raised, or None where it returned too early)
ShowFailure = Callable[[Scope, BaseException | None], Page]
# (scope, info) of a message http.response.debug
OnDebug = Callable[[Scope, dict[str, Any]], None]
# (visit, status or 0 where none was sent, bytes of the body sent, seconds)
AccessLog = Callable[[Visit, int, int, float], None]


class Runtime:
    """Made by Server when the application has started; every connection holds it until the end."""

    __slots__ = (
        "access",  # writes one line a request; None where that is not wanted
        "app",  # the application
        "calls",  # the calls of the application under way; the only strong references to their tasks
        "config",  # the options
        "connections",  # the open connections
        "context",  # the context variables as they were when the server started
        "date",  # the value of the Date header, renewed with each tick
        "holding",  # who has something to send at the end of this turn of the loop
        "loop",  # the event loop
        "on_debug",  # is given what http.response.debug says; None but in tests
        "quiet",  # done once, after stop_accepting, nothing is open or running any more
        "recall",  # knows what h11 would say of plain requests and answers; None where it is always asked
        "server_cert",  # the certificate that TLS clients are shown, in PEM; None without TLS
        "show_failure",  # makes the page of a failure; None where clients are shown no word of it
        "start_task",  # starts a coroutine in a given context, as soon as this Python can
        "state",  # what the application put into lifespan's state
        "stopping",  # no new request is begun; answers say `Connection: close`
        "tell",  # is told what goes wrong in the application
        "ticked",  # when `tick` was called last
        "time",  # seconds on a clock that never goes back; tests put their own here
    )

    def __init__(
        self,
        app: Application,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        state: dict[Any, Any] | None = None,
        access: AccessLog | None = None,
        show_failure: ShowFailure | None = None,
        on_debug: OnDebug | None = None,
        server_cert: str | None = None,
        tell: Tell = log_fault,
    ) -> None:
        self.app = app
        self.config = config
        self.loop = loop
        self.state = {} if state is None else state
        self.access = access
        self.recall = Recall(config) if config.recall else None
        self.show_failure = show_failure
        self.on_debug = on_debug
        self.server_cert = server_cert
        self.tell = tell
        # Not loop.time: uvloop's stands still within a turn of the loop, and has whole milliseconds.
        self.time: Callable[[], float] = time.monotonic
        self.ticked = self.time()
        self.start_task = choose_start_task(loop)
        self.context = contextvars.copy_context()
        self.connections: set[OpenConnection] = set()
        self.holding: list[OpenConnection] = []
        self.calls: set[RunningCall] = set()
        self.stopping = False
        self.quiet: asyncio.Future[None] = loop.create_future()
        self.date = http_date()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start a call of the application, in a context of its own.

        The context is the server's, not the current one: an application that resumes reading, or whose
        end lets the next request begin, would hand its own on to that request.
        """
        return self.start_task(coroutine, context=self.context.copy())

    def flush_soon(self, connection: OpenConnection) -> None:
        """Flush the connection at the end of this turn of the loop, with the others that hold something."""
        if not self.holding:
            self.loop.call_soon(self.flush)
        self.holding.append(connection)

    def flush(self) -> None:
        holding, self.holding = self.holding, []
        for connection in holding:
            guarded(connection.transport, connection.flush)

    def tick(self) -> None:
        """The server's clock calls this every TICK seconds: renew the date, end what is overdue.

        After a late tick nothing is judged: the application kept the loop from turning, and what clients
        sent in the meantime was not read yet (uvloop runs its timers before it reads).
        """
        self.date = http_date()
        now = self.time()
        late, self.ticked = now - self.ticked > 1.5 * TICK, now
        if late:
            return
        overdue = [each for each in self.connections if min(each.deadline, each.take_deadline) <= now]
        self.end_overdue(now, iter(overdue))

    def end_overdue(self, now: float, overdue: Iterator[OpenConnection]) -> None:
        """Tell some of them, and the rest in the next turns, unless they are gone by then."""
        some = list(islice(overdue, ENDED_AT_ONCE))
        for connection in some:
            if connection in self.connections:
                guarded(connection.transport, partial(connection.on_overdue, now))
        if len(some) == ENDED_AT_ONCE:
            self.loop.call_soon(self.end_overdue, now, overdue)

    def stop_accepting(self) -> None:
        """Begin the end: connections close as soon as they owe nothing; `quiet` is done after the last."""
        self.stopping = True
        for connection in list(self.connections):
            guarded(connection.transport, connection.stop)
        self.check_quiet()

    def give_up(self) -> None:
        """End what is still open."""
        for connection in list(self.connections):
            guarded(connection.transport, connection.give_up)

    def log_access(self, visit: Visit, status: int, sent: int) -> None:
        if self.access is not None:
            try:
                self.access(visit, status, sent, self.time() - visit.began)
            except Exception:  # by a handler of the operator's own, which is not the client's affair
                log.exception("The access log has failed")

    def forget_connection(self, connection: OpenConnection) -> None:
        self.connections.discard(connection)
        if self.stopping:
            self.check_quiet()

    def forget_call(self, call: RunningCall) -> None:
        self.calls.discard(call)
        if self.stopping:
            self.check_quiet()

    def check_quiet(self) -> None:
        if not (self.connections or self.calls or self.quiet.done()):
            self.quiet.set_result(None)


def choose_start_task(loop: asyncio.AbstractEventLoop) -> Callable[..., "asyncio.Task[None]"]:
    """How this Python starts a task soonest: at once from 3.12 on, else in the loop's next turn.

    3.13.0's `loop.create_task` refuses `eager_start`, so the Task is made directly.
    """
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return loop.create_task


# time.strftime would name them in the language of the machine; email.utils takes 5 ms to import.
DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTHS = (
    *(b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun"),
    *(b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"),
)


def http_date(now: float | None = None) -> bytes:
    """The time, or what time.time() has said, as the value of a Date header (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(now)
    names = (DAYS[weekday], day, MONTHS[month - 1], year, hour, minute, second)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % names
