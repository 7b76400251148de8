"""Exchange: one ASGI call for one HTTP request; its receive() and send() as a table.

It owns the order of ASGI messages: one enum an exchange, changed only after the bytes were made. What lies
below it is a Wire: it must not know h11, sockets or keep-alive. `ApplicationCall` is the part that a
WebSocket's exchange has too: running the application, and waiting for news.

Next in reading order: `websocket`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar, Protocol

from ..asgi import ASGIError, ClientDisconnected, Message, Scope, unexpected
from .runtime import Runtime, Waiters

log = logging.getLogger("miniasgi")

Headers = Iterable[tuple[bytes, bytes]]
SendTable = Mapping[Enum, Mapping[str, Callable[[Any, Message], None]]]


class Wire(Protocol):
    """What any exchange may ask of the protocol below it."""

    runtime: Runtime

    @property
    def congested(self) -> bool:
        """Whether to wait on `drained` before writing more."""

    async def drained(self) -> None:
        """Return when more may be written, or when the client has left."""

    def want_body(self) -> None:
        """The application waits for more of what the client sends."""

    def app_failed(self, status: int) -> None:
        """The application ended and owes an answer: give this one if nothing has left yet, else break off."""


class ResponseWire(Wire, Protocol):
    """A wire that takes a response; an HTTP/2 stream can be one as well as an HTTP/1.1 connection."""

    def write_response(self, status: int, headers: Headers) -> None:
        """Take the head of the response; it leaves with the first of the body. Raises ASGIError."""

    def write_body(self, body: bytes, more_body: bool) -> None:
        """Write a part of the body, framed as the head promised. Raises ASGIError."""

    def client_left(self) -> None:
        """The application is told that its client has left: nothing is owed any more."""


class State(Enum):
    """Where the application stands in its answer; each value completes "… was sent"."""

    START = "before http.response.start"
    BODY = "after http.response.start"
    DONE = "after the response was complete"
    GONE = "after the client had left"


class ApplicationCall:
    """One call of the application. Made and started by a connection; ends when the application does."""

    SEND: ClassVar[SendTable]  # what the application may send in which state, and what we do then
    GONE: ClassVar[Enum]  # the state in which every send() is a ClientDisconnected

    __slots__ = (
        "scope",
        "state",  # where the application stands
        "task",  # runs the application; set by `start`
        "waiters",  # who waits in receive() for news from the wire
        "wire",  # the protocol below
    )

    def __init__(self, scope: Scope, wire: Wire, state: Enum) -> None:
        self.scope = scope
        self.wire = wire
        self.state = state
        self.waiters = Waiters()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state.name}>"

    @property
    def name(self) -> str:
        """The request, as a log line names it: GET /path from 127.0.0.1:50000."""
        client = self.scope.get("client")
        origin = f" from {client[0]}:{client[1]}" if client else ""
        # Not the decoded path: that may have line breaks in it.
        path = self.scope.get("raw_path", b"").decode("ascii")
        return f"{self.scope.get('method', 'WebSocket')} {path}{origin}"

    # ---- the application ----

    def start(self) -> None:
        runtime = self.wire.runtime
        runtime.calls.add(self)
        self.task = runtime.spawn(self.run())

    async def run(self) -> None:
        """Call the application, and see that its client is not left waiting when it ends."""
        runtime = self.wire.runtime
        try:
            await runtime.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # not by us, but by something that it waited for
                self.log_error(error)
            self.ended(error)
            raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: one request does not end the server
            self.log_error(error)
            self.ended(error)
        else:
            self.ended(None)
        finally:
            runtime.forget_call(self)

    def log_error(self, error: BaseException) -> None:
        if self.state is not self.GONE or (told := told_by(error)) is None:
            log.error("%s: the application raised", self.name, exc_info=error)
        elif told is error:
            log.debug("%s: ended when the client left", self.name)
        else:
            log.info("%s: after the client had left, the application raised %r", self.name, error)

    def ended(self, error: BaseException | None) -> None:
        """The application has returned, or raised `error`."""
        raise NotImplementedError

    # ---- its two callables ----

    async def receive(self) -> Message:
        """ASGI's receive()."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """ASGI's send(). Returns when the client has taken enough. Raises ASGIError, ClientDisconnected."""
        try:
            act = self.SEND[self.state][message["type"]]
        except (KeyError, TypeError):
            raise self.refusal(message) from None
        act(self, message)
        if self.wire.congested:
            await self.wire.drained()

    def refusal(self, message: Message) -> Exception:
        if self.state is self.GONE:
            return ClientDisconnected(f"the client has left ({self.name})")
        return unexpected(message, str(self.state.value), self.SEND[self.state])


class Exchange(ApplicationCall):
    """One HTTP request and its response."""

    GONE = State.GONE

    __slots__ = (
        "buffered",  # how many bytes of it
        "chunks",  # what came of the body and was not received yet
        "client_closed",  # the client will send no more; it may still read
        "complete",  # the whole body has come
        "unreceived",  # the application has not been given the last of the body
    )

    wire: ResponseWire

    def __init__(self, scope: Scope, wire: ResponseWire) -> None:
        super().__init__(scope, wire, State.START)
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.client_closed = False
        self.complete = False
        self.unreceived = True

    # ---- from the wire: the request ----

    def on_body(self, data: bytes) -> None:
        """A part of the request's body has come."""
        self.chunks.append(data)
        self.buffered += len(data)
        self.waiters.wake()

    def on_body_end(self) -> None:
        """The request is whole."""
        self.complete = True
        self.waiters.wake()

    def on_client_closed(self) -> None:
        """The client has ended its side. receive() says that it left; until then it may have an answer."""
        self.client_closed = True
        self.waiters.wake()

    def on_disconnect(self) -> None:
        """The client has left, or is not listened to any more."""
        if self.state is not State.DONE:
            self.state = State.GONE
        self.waiters.wake()

    # ---- to the application ----

    async def receive(self) -> Message:
        """The next of the request's body; when there is none left, wait for the end and tell it."""
        while True:
            if self.state is not State.DONE and (self.chunks or (self.complete and self.unreceived)):
                body = b"".join(self.chunks)
                self.chunks.clear()
                self.buffered = 0
                self.unreceived = not self.complete
                return {"type": "http.request", "body": body, "more_body": self.unreceived}
            if self.client_closed and self.state in (State.START, State.BODY):
                self.wire.client_left()  # who is told so is not expected to answer
            if self.state in (State.DONE, State.GONE):
                return {"type": "http.disconnect"}
            self.wire.want_body()
            await self.waiters.wait()

    # ---- from the application ----

    def on_start(self, message: Message) -> None:
        if "status" not in message:
            raise ASGIError("http.response.start has no 'status'; it is the response's status code, an int")
        self.wire.write_response(message["status"], message.get("headers", ()))
        self.state = State.BODY

    def on_response_body(self, message: Message) -> None:
        more_body = bool(message.get("more_body", False))
        self.wire.write_body(body_of(message), more_body)
        if not more_body:
            self.state = State.DONE
            self.waiters.wake()

    def on_late_body(self, message: Message) -> None:
        """ASGI: once a body message without more_body was sent, "any further messages … will be ignored"."""

    SEND = {
        State.START: {"http.response.start": on_start},
        State.BODY: {"http.response.body": on_response_body},
        State.DONE: {"http.response.body": on_late_body},
        State.GONE: {},  # ClientDisconnected
    }

    def ended(self, error: BaseException | None) -> None:
        if self.state in (State.START, State.BODY):
            if error is None:
                log.error("%s: the application returned %s", self.name, UNFINISHED[self.state])
            self.wire.app_failed(failure_status(error))
            self.state = State.GONE


UNFINISHED = {
    State.START: "without an answer: it sent no http.response.start",
    State.BODY: "in the middle of its answer: it sent no http.response.body without more_body",
}


def failure_status(error: BaseException | None) -> int:
    """What a client is answered when the application ended so: 503 where the server has cancelled it."""
    return 503 if isinstance(error, asyncio.CancelledError) else 500


def body_of(message: Message) -> bytes:
    """The body of a response message. Raises ASGIError where it is no bytes."""
    body = message.get("body", b"")
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise ASGIError(f"{message['type']} has a 'body' of type {type(body).__name__}; it is bytes")


def told_by(error: BaseException) -> BaseException | None:
    """The ClientDisconnected that this error stems from: frameworks wrap it in their own, or in a group.

    An error that was raised on purpose in its place (`raise … from`) is as good as the disconnect itself;
    one that was raised on the way out may be a fault in the application's clean-up.
    """
    if isinstance(error, BaseExceptionGroup):
        return error if all(told_by(each) for each in error.exceptions) else None
    if isinstance(error, ClientDisconnected) or (error.__cause__ is not None and told_by(error.__cause__)):
        return error
    return error.__context__ and told_by(error.__context__)
