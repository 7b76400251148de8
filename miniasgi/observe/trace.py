"""Trace: what happens between clients and the application, as a stream of records on one time line.

It listens to the stand-ins of each connection and to that of the application, numbers connections and
exchanges, and says what the application waits for. It keeps nothing: each record is handed on.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from ..asgi import Application, Receive, Scope
from ..explain.frames import awaiting, calling, own_place, places, raising, summary
from ..protocol.connection import Connection
from ..protocol.runtime import Runtime
from .conversation import Conversation, OnAdvice, Recorded, Way, type_of
from .record import Lane, Mask, Record, as_json, fields_of
from .stand_ins import Observer, States, observed, observer_of


class Trace:
    """The records of one server. Given to it in two parts:

        trace = Trace(hear)
        Server(trace.of_application(app), …, first=trace.first)

    `hear` is called in the loop with each record, and must raise nothing. What may be a secret is masked,
    unless `secrets` are asked for.
    """

    def __init__(self, hear: Callable[[Record], None], *, secrets: bool = False) -> None:
        self.hear = hear
        self.secrets = secrets
        self.began = time.perf_counter_ns()
        self.date = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.connections = 0  # so far
        self.exchanges = 0

    def of_application(self, app: Application, on_advice: OnAdvice | None = None) -> Application:
        """The stand-in for the application."""
        return Recorded(app, on_advice, self.begin)

    def begin(self, scope: Scope, receive: Receive) -> "TracedCall":
        connection = TracedConnection(self, 0) if scope["type"] == "lifespan" else observer_of(receive)
        assert isinstance(connection, TracedConnection)
        return TracedCall(scope, connection)

    def first(self, runtime: Runtime, transport: asyncio.Transport) -> Connection:
        """The connection of a client, which is observed."""
        self.connections += 1
        observer = TracedConnection(self, self.connections)
        info = {name: transport.get_extra_info(name) for name in ("peername", "sockname")}
        observer.record("bytes", "in", "connection_made", info)
        return observed(runtime, transport, observer)

    @property
    def now(self) -> int:
        """µs since the trace began."""
        return (time.perf_counter_ns() - self.began) // 1000


class TracedConnection(Observer):
    """One connection, or the lifespan, which has none."""

    def __init__(self, trace: Trace, number: int) -> None:
        self.trace = trace
        self.number = number
        self.exchange = 0  # the number of the one under way, or of the last one
        self.between = number > 0  # two exchanges: the next byte is of a new one
        self.call: TracedCall | None = None  # of the application, the last one
        self.came, self.left = (plain, plain) if trace.secrets else (Mask(), Mask())  # what is shown of bytes

    def record(
        self,
        lane: Lane,
        way: Literal["in", "out", ""],
        name: str,
        content: Any = None,
        states: States | None = None,
        app: str | None = None,
        since: int | None = None,
    ) -> None:
        """Told as of now; `since` is when the application's call began, which has taken until now."""
        trace = self.trace
        at = trace.now
        if app is None:
            app = "" if self.call is None else self.call.place
        ids = self.number, self.exchange
        content = as_json(content, trace.secrets)
        took = 0 if since is None else at - since
        trace.hear(Record(at, *ids, lane, way, name, content, states or {}, app, took))

    # ---- from the stand-ins ----

    def on_read(self, data: bytes) -> None:
        self.begin_exchange()
        self.record("bytes", "in", "data_received", self.came(data))

    def on_given(self, data: bytes) -> None:
        self.begin_exchange()  # of what was read with the one before it

    def begin_exchange(self) -> None:
        if self.between:
            self.trace.exchanges += 1
            self.exchange = self.trace.exchanges
            self.between = False
            self.call = None

    def on_event(self, event: Any, states: States) -> None:
        self.record("events", "in", type(event).__name__, fields_of(event), states)

    def on_send(self, event: Any, states: States) -> None:
        self.record("events", "out", type(event).__name__, fields_of(event), states)

    def on_refused(self, status: int, rule: str) -> None:
        self.record("events", "out", "refused", {"status_code": status, "rule": rule})

    def on_next_request(self) -> None:
        self.between = True

    def on_websocket(self) -> None:
        self.came = self.left = plain  # no headers any more

    def on_written(self, data: bytes) -> None:
        self.record("bytes", "out", "write", self.left(data))

    def on_transport(self, what: str) -> None:
        if what != "data_received":
            self.record("bytes", WAYS.get(what, ""), what)


def plain(data: bytes) -> bytes:
    return data


WAYS: dict[str, Literal["in", "out", ""]] = {
    "eof_received": "in",
    "connection_lost": "in",
    "write_eof": "out",
    "close": "out",
    "abort": "out",
}


class TracedCall(Conversation):
    """One call of the application."""

    def __init__(self, scope: Scope, connection: TracedConnection) -> None:
        super().__init__(scope)
        self.connection = connection
        self.task = asyncio.current_task()
        self.over = False
        self.under_way: dict[Way, Call] = {}
        connection.call = self
        connection.record("app", "in", "called", scope, app="")

    @property
    def place(self) -> str:
        """The application's line in which it waits; "" while it runs, and at its end."""
        if self.over or self.task is None or self.task is asyncio.current_task():
            return ""
        return own_place("", awaiting(self.task.get_coro()))

    # ---- for Recorded ----

    def calls(self, way: Way, message: Any = None) -> None:
        call = self.under_way[way] = Call(own_place("", calling(sys._getframe())), self.connection.trace.now)
        if way == "send":
            self.connection.record("asgi", "out", type_of(message), message, app=call.line)
        asyncio.get_running_loop().call_soon(self.look, way, call)

    def look(self, way: Way, call: "Call") -> None:
        """The loop has turned since that call: if it is not answered, the application waits in it."""
        if self.under_way.get(way) is call and not self.over:
            call.waits = True
            self.connection.record("app", "", f"waits in {way}()", app=call.line)

    def add(self, way: Way, message: Any, error: BaseException | None = None) -> None:
        super().add(way, message, error)
        call = self.under_way.pop(way)
        told = partial(self.connection.record, app=call.line, since=call.at)
        if error is not None:
            told("asgi", "in", f"{way}() raised", {"error": summary(error)})
        elif way == "receive":
            told("asgi", "in", type_of(message), message)
        elif call.waits:
            told("app", "", "send() returned")

    def end(self, error: BaseException | None) -> None:
        self.over = True
        if error is None:
            self.connection.record("app", "out", "returned")
            return
        content = {"error": summary(error), "at": places(raising(error))}
        self.connection.record("app", "out", "raised", content)


class Call:
    """A call of receive() or send() that is not answered yet."""

    __slots__ = ("at", "line", "waits")

    def __init__(self, line: str, at: int) -> None:
        self.line = line  # the application's, in which it stands
        self.at = at  # when it began, in µs
        self.waits = False
