"""Exchange: one ASGI call for one HTTP request; its receive() and send() as a table.

It owns the order of ASGI messages: one enum an exchange, changed only after the bytes were made. What lies
below it is a Wire: it must not know h11, sockets or keep-alive. `ApplicationCall` is the part that a
WebSocket's exchange has too: running the application, waiting for news, and saying what is wrong with a
message. That is looked into only once it could not be sent: what a message may hold is in `explain`.

Next in reading order: `websocket`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, ClassVar, Protocol

from ..asgi import ClientDisconnected, Message, Scope
from ..explain.frames import is_call_itself, not_called
from ..explain.messages import Unsendable, advice, are_headers, fault, refusal
from ..explain.shown import CONTROLS, shown
from .file import FilePart
from .runtime import Page, Runtime, Waiters

log = logging.getLogger("miniasgi")

Headers = Iterable[tuple[bytes, bytes]]
SendTable = Mapping[Enum, Mapping[str, Callable[[Any, Message], Awaitable[None] | None]]]


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

    def app_failed(self, status: int, page: Page | None) -> None:
        """The application ended and owes an answer: give this one if nothing has left yet, else break off."""


class ResponseWire(Wire, Protocol):
    """A wire that takes a response; an HTTP/2 stream can be one as well as an HTTP/1.1 connection."""

    def write_response(self, status: int, headers: Headers, trailers: bool) -> None:
        """Take the head of the response; it leaves with the first of the body. Raises Unsendable."""

    def write_early_hint(self, links: Iterable[bytes]) -> None:
        """Write a 103 response, where that can still be of use."""

    def write_body(self, body: bytes, more_body: bool) -> None:
        """Write a part of the body, framed as the head promised. Raises Unsendable."""

    async def write_file(self, part: FilePart) -> None:
        """Write a part of the body from a file. Raises Unsendable before the first byte.

        After that ClientDisconnected, or what the file raises, and the connection is ended.
        """

    def write_trailers(self, headers: Headers) -> None:
        """End the body with trailers, or without where the client takes none. Raises Unsendable."""

    def client_left(self) -> None:
        """The application is told that its client has left: nothing is owed any more."""


class State(Enum):
    """Where the application stands in its answer; each value completes "… was sent"."""

    __hash__ = object.__hash__  # Enum's own is in Python, and costs 60 ns at each look into a table

    START = "before http.response.start"
    STARTED = "after http.response.start"
    BODY = "after the first of the body"
    FILE = "while another send() was sending a file, which is to be awaited first"
    TRAILERS = "after the last of the body, behind which trailers were announced"
    DONE = "after the response was complete"
    GONE = "after the request was over"
    ENDED = "after the application had returned"


class ApplicationCall:
    """One call of the application. Made and started by a connection; ends when the application does."""

    SEND: ClassVar[SendTable]  # what the application may send in which state, and what we do then
    # The states in which every send() is a ClientDisconnected, and the level at which it is told that one
    # has ended the application.
    CLOSED: ClassVar[Mapping[Enum, int]]
    # In which states an application may not return, and what it has left undone then.
    UNFINISHED: ClassVar[Mapping[Enum, str]]

    __slots__ = (
        "scope",
        "state",  # where the application stands
        "task",  # runs the application
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
        """The request, as a log line names it: GET /path from 127.0.0.1:50000.

        By the scope, which is the application's to change: whatever it holds now, this is one line of text.
        """
        try:
            return name_of(self.scope)
        except Exception:  # it holds what has no text
            return "a request"

    @property
    def is_asked(self) -> bool:
        """Whether the application waits in receive()."""
        return not all(waiter.done() for waiter in self.waiters)  # else nobody, or who has given up

    # ---- the application ----

    def start(self) -> None:
        runtime, run = self.wire.runtime, self.run()
        runtime.calls.add(self)
        try:
            self.task = runtime.spawn(run)
        except BaseException:  # a task factory of the application's own, which Python 3.11 asks
            run.close()
            runtime.forget_call(self)
            raise

    async def run(self) -> None:
        """Call the application, and see that its client is not left waiting when it ends.

        The client is answered before anything is told: what goes wrong in the telling is not its affair.
        """
        runtime, task = self.wire.runtime, asyncio.current_task()
        if task is not None:
            self.task = task  # an eager one runs before `start` has it
        try:
            returned = await runtime.app(self.scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except asyncio.CancelledError as error:
            state = self.end(error)
            if task is None or not task.cancelling():  # not by us, but by something that it waited for
                self.log_error(error, state)
            raise
        except KeyboardInterrupt:
            raise
        except GeneratorExit as error:  # because the loop is no more, or raised in the application
            with suppress(RuntimeError):
                state = self.end(error)
                if asyncio.current_task() is task:  # otherwise it has no task any more
                    self.log_error(error, state)
            raise
        except BaseException as error:  # SystemExit too: one request does not end the server
            self.log_error(error, self.end(error))
        else:
            self.log_return(returned, self.end(None))
        finally:
            runtime.forget_call(self)

    def end(self, error: BaseException | None) -> Enum:
        """The application has returned, or raised `error`; the state in which it did."""
        state = self.state
        self.ended(error)
        return state

    def ended(self, error: BaseException | None) -> None:
        """The same: give the client what it is still owed."""
        raise NotImplementedError

    def failed(self, error: BaseException | None) -> None:
        """The application has ended so and owes its client an answer."""
        page, show = None, self.wire.runtime.show_failure
        if show is not None:
            try:
                page = show(self.scope, error)
            except Exception:  # made of what the application left behind; its client is answered all the same
                log.exception("%s: the failure cannot be shown", self.name)
        self.wire.app_failed(failure_status(error), page)

    def log_error(self, error: BaseException, state: Enum) -> None:
        told = None
        if state in self.CLOSED:
            with suppress(RecursionError):  # groups within groups without an end
                told = told_by(error)
        tell = self.wire.runtime.tell
        if told is None:
            if is_call_itself(error):
                tell(logging.ERROR, f"{self.name}: {not_called(error)}", None)
            else:
                tell(logging.ERROR, f"{self.name}: the application raised", error)
        elif told is error:
            text = str(error) if isinstance(error, ClientDisconnected) else f"ended by {shown(error)}"
            tell(self.CLOSED[state], f"{self.name}: {text}", None)
        else:
            text = f"{self.name}: {state.value}, the application raised {shown(error)}"
            tell(logging.INFO, text, None)

    def log_return(self, returned: object, state: Enum) -> None:
        if unfinished := self.UNFINISHED.get(state):
            what = "" if returned is None else f"; it returned {shown(returned)}, which nobody reads"
            text = f"{self.name}: the application returned {unfinished}{what}"
            self.wire.runtime.tell(logging.ERROR, text, None)

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
        try:
            under_way = act(self, message)
            if under_way is not None:
                await under_way
        except Exception as error:
            if self.state in self.CLOSED:  # by this very act
                raise
            if isinstance(error, Unsendable) or fault(message):
                raise self.refusal(message, str(error)) from None
            raise
        if self.wire.congested:
            await self.wire.drained()

    def refusal(self, message: object, reason: str = "") -> Exception:
        if self.state in self.CLOSED:
            return self.disconnected()
        return refusal(message, str(self.state.value), self.SEND[self.state], reason)

    def disconnected(self) -> ClientDisconnected:
        return ClientDisconnected(f"nothing can be sent {self.state.value}")


def name_of(scope: Scope) -> str:
    method, client = scope.get("method", "WebSocket"), scope.get("client")
    path = scope.get("raw_path")  # not the decoded one: that may have line breaks in it
    target = path.decode("ascii", "backslashreplace") if isinstance(path, bytes) else shown(path)
    target = target if len(target) <= MAX_TARGET else target[:MAX_TARGET] + "..."
    origin = f" from {':'.join(map(str, client))}" if isinstance(client, tuple | list) else ""
    return f"{method} {target}{origin}".translate(CONTROLS)


MAX_TARGET = 500  # longer than nearly all are


# How many parts of a body are kept as they came.
MOST_PARTS = 100


class Exchange(ApplicationCall):
    """One HTTP request and its response."""

    CLOSED: ClassVar[Mapping[Enum, int]] = {State.GONE: logging.DEBUG}
    UNFINISHED: ClassVar[Mapping[Enum, str]] = {
        State.START: "without an answer: it sent no http.response.start",
        State.STARTED: "without an answer: it sent http.response.start, but no http.response.body",
        State.BODY: "in the middle of its answer: its last message said 'more_body': True",
        State.FILE: "in the middle of its answer: while another task of its own was sending a file",
        State.TRAILERS: "in the middle of its answer: it did not send the last of http.response.trailers",
    }

    __slots__ = (
        "advised",  # a message looked odd, and that was told
        "body",  # what came and was not received yet, in few parts: those of one byte take 60 times as much
        "client_closed",  # the client will send no more; it may still read
        "complete",  # the whole body has come
        "size",  # bytes in `body`
        "trailers",  # None where none were announced; else those that have come
        "unreceived",  # the application has not been given the last of the body
    )

    wire: ResponseWire

    def __init__(self, scope: Scope, wire: ResponseWire) -> None:
        super().__init__(scope, wire, State.START)
        self.advised = False
        self.body: list[bytes | bytearray] = []
        self.client_closed = False
        self.complete = False
        self.size = 0
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.unreceived = True

    # ---- from the wire: the request ----

    def on_body(self, data: bytes | bytearray) -> None:
        """A part of the request's body has come."""
        self.body.append(data)
        self.size += len(data)
        if len(self.body) == MOST_PARTS:
            self.body = [b"".join(self.body)]
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
        self.state = State.GONE
        self.waiters.wake()

    # ---- to the application ----

    async def receive(self) -> Message:
        """The next of the request's body; when there is none left, wait for the end and tell it.

        Who was told of the end is not listened to any more: from then on send() raises (ASGI, "Disconnect").
        """
        while True:
            if self.state is not State.DONE and (self.size or (self.complete and self.unreceived)):
                body = self.take_body()
                self.unreceived = not self.complete
                return {"type": "http.request", "body": body, "more_body": self.unreceived}
            if self.client_closed and self.state not in OVER:
                self.wire.client_left()  # who is told so is not expected to answer
            if self.state in OVER:
                if self.state is State.DONE:
                    self.forget_request()
                self.state = State.GONE
                return {"type": "http.disconnect"}
            self.wire.want_body()
            await self.waiters.wait()

    def take_body(self) -> bytes:
        parts, self.body, self.size = self.body, [], 0
        return b"".join(parts)

    def forget_request(self) -> None:
        """Nothing of it is given to the application behind http.disconnect."""
        self.take_body()
        self.unreceived = False

    # ---- from the application ----

    def on_start(self, message: Message) -> None:
        trailers = flag(message, "trailers")
        self.wire.write_response(message["status"], message.get("headers", ()), trailers)
        self.state = State.STARTED
        if trailers:
            self.trailers = []
        if len(message) > 2 + ("headers" in message) + ("trailers" in message):
            self.advise(message)

    def on_early_hint(self, message: Message) -> None:
        """Before http.response.start too, though ASGI does not say so: a hint is best when it is early."""
        self.wire.write_early_hint(message["links"])

    def on_debug(self, message: Message) -> None:
        listener = self.wire.runtime.on_debug
        if listener is None:
            raise Unsendable("http.response.debug is for tests: no such extension is in this scope")
        if not isinstance(message["info"], dict):
            raise TypeError
        listener(self.scope, message["info"])

    def on_body_message(self, message: Message) -> None:
        self.write_body(body_of(message), flag(message, "more_body"))
        if len(message) > 1 + ("body" in message) + ("more_body" in message):
            self.advise(message)

    def advise(self, message: Message) -> None:
        """Tell of a key that means nothing: where one is missing, it may be that one, misspelt."""
        if self.wire.runtime.show_failure is None and not self.advised:  # --debug tells it of every message
            for text in advice(message):
                self.advised = True  # once a call is enough
                self.wire.runtime.tell(logging.WARNING, f"{self.name}: {text}", None)

    def write_body(self, body: bytes, more_body: bool) -> None:
        if self.trailers is None:
            self.wire.write_body(body, more_body)
            if more_body:
                self.state = State.BODY
            else:
                self.done()
        else:
            self.wire.write_body(body, True)
            self.state = State.BODY if more_body else State.TRAILERS

    async def on_zerocopysend(self, message: Message) -> None:
        more_body = flag(message, "more_body")
        with FilePart.of(message["file"], message.get("offset"), message.get("count")) as part:
            await self.send_file(part)
        self.write_body(b"", more_body)

    async def on_pathsend(self, message: Message) -> None:
        with FilePart.at(message["path"]) as part:
            await self.send_file(part)
        self.write_body(b"", False)

    async def send_file(self, part: FilePart) -> None:
        """Nothing else can be sent while this goes on: an error names the state."""
        before, self.state = self.state, State.FILE
        try:
            await self.wire.write_file(part)
        finally:
            if self.state is State.FILE:  # neither has the client left, nor was the connection broken off
                self.state = before
        if self.state is not before:  # the application has returned in the meantime, or the client left
            raise self.disconnected()

    def on_trailers(self, message: Message) -> None:
        assert self.trailers is not None  # TRAILERS
        headers = list(message.get("headers", ()))
        if wrong := are_headers(headers):
            raise Unsendable(f"'headers' {wrong}")
        trailers = [*self.trailers, *headers]
        if flag(message, "more_trailers"):
            self.trailers = trailers
        else:
            self.wire.write_trailers(trailers)
            self.done()

    def done(self) -> None:
        self.state = State.DONE
        self.waiters.wake()

    def on_late(self, message: Message) -> None:
        """After a complete response ASGI has all messages ignored. Often it is a slip, and is told."""
        is_start = message["type"] == "http.response.start"
        if not self.advised and (is_start or message.get("body")):
            self.advised = True  # once a call is enough: a second answer has a body, too
            slip = "is a `return` missing behind the answer?" if is_start else MORE_BODY_MISSING
            told = refusal(message, str(self.state.value), (), slip)
            text = f"{self.name}: ignored a message of the application: {told}"
            self.wire.runtime.tell(logging.WARNING, text, None)

    SEND = {
        State.START: {
            "http.response.start": on_start,
            "http.response.early_hint": on_early_hint,
            "http.response.debug": on_debug,
        },
        State.STARTED: {
            "http.response.body": on_body_message,
            "http.response.pathsend": on_pathsend,
            "http.response.zerocopysend": on_zerocopysend,
            "http.response.early_hint": on_early_hint,
        },
        State.BODY: {
            "http.response.body": on_body_message,
            "http.response.zerocopysend": on_zerocopysend,
            "http.response.early_hint": on_early_hint,
        },
        State.FILE: {},
        State.TRAILERS: {"http.response.trailers": on_trailers},
        State.DONE: {
            "http.response.start": on_late,
            "http.response.body": on_late,
            "http.response.pathsend": on_late,
            "http.response.zerocopysend": on_late,
            "http.response.early_hint": on_late,
            "http.response.trailers": on_late,
            "http.response.debug": on_late,
        },
        State.GONE: {},  # ClientDisconnected
        State.ENDED: {},
    }

    def refusal(self, message: object, reason: str = "") -> Exception:
        if self.state in self.CLOSED:
            return super().refusal(message, reason)
        # What is listed in DONE is ignored, and nobody outside a test has http.response.debug.
        row = () if self.state is State.DONE else self.SEND[self.state]
        allowed = [name for name in row if name != "http.response.debug" or self.wire.runtime.on_debug]
        return refusal(message, str(self.state.value), allowed, reason)

    def ended(self, error: BaseException | None) -> None:
        if self.state not in (State.DONE, State.GONE):
            self.failed(error)
            self.state = State.ENDED


MORE_BODY_MISSING = "was 'more_body': True missing in the one before?"

# The states in which receive() gives http.disconnect.
OVER = (State.DONE, State.GONE, State.ENDED)


def failure_status(error: BaseException | None) -> int:
    """What a client is answered when the application ended so: 503 where the server has cancelled it."""
    return 503 if isinstance(error, asyncio.CancelledError) else 500


def body_of(message: Message) -> bytes:
    """The body of a response message. Raises TypeError where it is no bytes."""
    body = message.get("body", b"")
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError


def flag(message: Message, key: str) -> bool:
    """The value of a key that is a bool, False where it is missing. Raises TypeError where it is none."""
    value = message.get(key, False)
    if isinstance(value, bool):
        return value
    raise TypeError


# What frameworks raise in an application that asks for more after a disconnect, and what it says is no more
# than that: Starlette's, FastAPI's and Litestar's, and Django's.
DISCONNECTS = ("WebSocketDisconnect", "ClientDisconnect", "RequestAborted")


def told_by(error: BaseException, known: dict[int, bool] | None = None) -> BaseException | None:
    """The disconnect that this error stems from: frameworks wrap it in an error of their own, or in a group.

    `raise HTTPError from disconnect` is as good as the disconnect itself: the HTTPError is returned. In
    `except OSError: clean_up()`, an error of clean_up() may be a fault of its own: the disconnect is. `known`
    is what was found out on the way: contexts may form rings, and groups share what is in them.
    """
    known = {} if known is None else known
    passed: list[int] = []
    stands_for: BaseException = error
    found: BaseException | None = error
    stems = False
    while found is not None:
        if id(found) in known:
            stems = known[id(found)]
            break
        known[id(found)] = False
        passed.append(id(found))
        if isinstance(found, ClientDisconnected) or type(found).__name__ in DISCONNECTS:
            stems = True
            break
        if isinstance(found, BaseExceptionGroup):
            within = [(each, told_by(each, known)) for each in found.exceptions]
            stems = all(told is not None for _, told in within)
            for each, told in within:
                if stems and told is not None and told is not each:  # it was on the way out
                    stands_for = told
            break
        if found.__cause__ is None and found.__context__ is not None:
            stands_for = found.__context__
        found = found.__cause__ or found.__context__
    known.update(dict.fromkeys(passed, stems))
    return stands_for if stems else None
