"""Encounters: a client that follows a script, an application that follows a program, and the road in between.

Everything that can happen to a connection is an action of the script: bytes, backpressure, the end of either
side, time, a stop of the server. When it is over nothing may be left, and nobody may have complained. It must
not know what is fuzzed with it: what comes of an encounter is for `test_fuzz` to judge.
"""

import asyncio
import gc
import logging
from contextlib import contextmanager, suppress

from miniasgi.asgi import ASGIError
from tests.memory import MemoryClient, MemoryTransport

# ---- the application --------------------------------------------------------------------------------------


class Boom(Exception):
    """The application's own."""


class Left(Exception):
    """The application was told that its client has left, and ends."""


class Call:
    """What one call of the application saw and did."""

    def __init__(self, scope):
        self.websocket = scope["type"] == "websocket"
        self.method = b"GET" if self.websocket else scope["method"].encode()
        query = scope["query_string"]
        self.target = scope["raw_path"] + (b"?" + query if query or scope["raw_path"] == b"" else b"")
        self.headers = list(scope["headers"])
        self.body = b""
        self.whole = False
        self.received = []  # of a WebSocket: messages as str and bytes, and the code of the end as an int
        self.disconnects = 0
        self.status = 0
        self.sent = b""
        self.complete = False
        self.pending = None  # the message that send() did not return from
        self.messages = []  # sent to a WebSocket
        self.dropped = []  # the same, when the network had lost the connection already
        self.accepted = False

    def __repr__(self):
        return f"<{self.method} {self.target} {self.body or self.received} → {self.status} {self.sent}>"


class Application:
    """Goes through a program for each call: a list of steps, which are its methods and their arguments."""

    def __init__(self, *programs):
        self.programs = programs
        self.calls = []
        self.gate = asyncio.Event()
        self.network = None  # the transport of the client that it is called for, unless that is a real one
        self.running = []
        self.overlaps = False

    async def __call__(self, scope, receive, send):
        call = Call(scope)
        if scope["path"].endswith("/healthy"):  # behind a root_path, too
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body"})
        program = self.programs[len(self.calls) % len(self.programs)]
        self.calls.append(call)
        self.overlaps |= any(not (each.complete or each.disconnects) for each in self.running)
        self.running.append(call)
        try:
            await self.follow(call, receive, self.sender(call, send), program)
        except Left:
            pass
        finally:
            self.running.remove(call)

    def sender(self, call, send):
        async def recorded(message):
            call.pending = message
            try:
                await send(message)
            except Exception:  # nothing of it has been written
                call.pending = None
                raise
            assert not (self.network and self.network.holds), (
                "send() did not wait for a client that takes nothing"
            )
            call.pending = None
            kind = message["type"]
            if call.complete:
                return
            if kind.endswith("response.start"):
                call.status = message["status"]
            elif kind.endswith("response.body"):
                call.sent += message.get("body", b"")
                call.complete = not message.get("more_body", False)
            elif kind == "websocket.accept":
                call.accepted = True
            elif kind == "websocket.send":
                lost = self.network and self.network.broken_off  # which the server is told in the next turn
                (call.dropped if lost else call.messages).append(message.get("text", message.get("bytes")))

        return recorded

    # ---- the steps ----

    async def follow(self, call, receive, send, program):
        for name, *arguments in program:
            await getattr(self, name)(call, receive, send, *arguments)

    async def unless_websocket(self, call, receive, send, program):
        """The program for HTTP; a WebSocket is denied."""
        if call.websocket:
            await self.receive(call, receive, send)
            await self.close(call, receive, send)
        else:
            await self.follow(call, receive, send, program)

    async def receive(self, call, receive, send, count=1):
        for _ in range(count):
            message = await receive()
            assert call.disconnects == 0 or message["type"].endswith(".disconnect"), "alive again"
            match message:
                case {"type": "http.request", "body": body, "more_body": more_body}:
                    assert not call.whole, "the end of the body came twice"
                    call.body += body
                    call.whole = not more_body
                case {"type": "websocket.receive", "text": data} | {
                    "type": "websocket.receive",
                    "bytes": data,
                }:
                    call.received.append(data)
                case {"type": "websocket.disconnect", "code": code}:
                    if not call.disconnects:
                        call.received.append(code)
                    call.disconnects += 1
                case {"type": "http.disconnect"}:
                    call.disconnects += 1
                case {"type": "websocket.connect"}:
                    assert not call.received
                case _:
                    raise AssertionError(f"what is {message}?")

    async def read(self, call, receive, send):
        while not call.whole:
            await self.receive(call, receive, send)
            if call.disconnects:
                raise Left

    async def wait_for_end(self, call, receive, send):
        while not call.disconnects:
            await self.receive(call, receive, send)

    async def echo(self, call, receive, send):
        await self.read(call, receive, send)
        await self.answer(call, receive, send, 200, (call.body,), True)

    async def answer(self, call, receive, send, status, parts, with_length):
        headers = [(b"content-length", b"%d" % len(b"".join(parts)))] if with_length else []
        await self.start(call, receive, send, status, headers)
        for part in parts:
            await self.part(call, receive, send, part, True)
        await self.part(call, receive, send, b"", False)

    async def start(self, call, receive, send, status, headers):
        kind = "websocket.http.response.start" if call.websocket else "http.response.start"
        await send({"type": kind, "status": status, "headers": list(headers)})

    async def part(self, call, receive, send, body, more_body):
        kind = "websocket.http.response.body" if call.websocket else "http.response.body"
        await send({"type": kind, "body": body, "more_body": more_body})

    async def hint(self, call, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})

    async def wait(self, call, receive, send):
        await self.gate.wait()

    async def turns(self, call, receive, send, count):
        for _ in range(count):
            await asyncio.sleep(0)

    async def fail(self, call, receive, send, error, *arguments):
        raise error(*arguments)

    async def leave(self, call, receive, send):
        raise Left

    async def say(self, call, receive, send, message):
        await send(dict(message))

    async def careless(self, call, receive, send, step):
        """Whatever comes of it, go on."""
        with suppress(Exception):
            await self.follow(call, receive, send, [step])

    # ---- of a WebSocket ----

    async def accept(self, call, receive, send):
        await self.receive(call, receive, send)
        await send({"type": "websocket.accept"})

    async def mirror(self, call, receive, send, count=10**9):
        for _ in range(count):
            await self.receive(call, receive, send)
            if call.disconnects:
                raise Left
            data = call.received[-1] if call.received else ""
            with suppress(OSError):  # what has come before the end is still received
                await send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})

    async def close(self, call, receive, send, code=1000):
        await send({"type": "websocket.close", "code": code})


# ---- the network ------------------------------------------------------------------------------------------


class Network(MemoryTransport):
    """A transport that behaves as a socket's: bytes wait while nobody reads, and closing waits for the client."""

    def __init__(self, loop):
        super().__init__(loop)
        self.inbound = []  # pieces that the client has sent; None is the end of its side
        self.heard_out = False  # the client has ended its side, and the protocol was told
        self.cut_off = (
            False  # not by the server's close(), but by its abort(), the network, or after eof_received
        )
        self.broken_off = False  # by the network
        self.faults = []

    def arrive(self, piece):
        self.inbound.append(piece)
        self.go_on()

    def go_on(self):
        while self.inbound and self.reading and not (self.closing or self.heard_out):
            piece = self.inbound.pop(0)
            if piece is None:
                self.heard_out = True
                if not self.protocol.eof_received():
                    self.close()
                    self.cut_off = True
            else:
                self.protocol.data_received(piece)

    def write(self, data):
        if self.cut_off:
            return
        if self.closing or self.eof_written:
            self.faults.append(f"a write after the end: {bytes(data)!r}")
            return
        super().write(data)
        if self.buffered:
            self.buffered += len(data)

    def abort(self):
        self.cut_off = True
        super().abort()

    def break_off(self, error=None):
        """The network loses the connection."""
        self.cut_off = self.broken_off = True
        self.lose(error)

    @property
    def holds(self):
        """The client takes nothing, of a connection that is not at its end."""
        return self.buffered > 0 and not (self.closing or self.eof_written)

    def hold(self):
        """The client takes nothing any more."""
        if not (self.buffered or self.closing):
            self.buffered = 100_000
            self.protocol.pause_writing()

    def take_all(self):
        if self.buffered:
            self.buffered = 0
            if not self.lost:
                self.protocol.resume_writing()
                self.lose_when_written()


class NetworkClient(MemoryClient):
    transport_class = Network


class Encounter:
    """A client, whose script this is, and a server. Ends with nothing left of either."""

    def __init__(self, application, **options):
        self.application = application
        self.client = NetworkClient(application, **options)
        self.runtime = self.client.runtime
        self.gave_up = False
        self.transport = application.network = self.client.transport

    @property
    def impatient(self):
        """Whether time was passing: then a connection may end without a reason that shows."""
        return self.client.now > 1000 or self.gave_up

    async def play(self, script, data):
        """Each step of the script is an action and a number of the loop's turns behind it; it feeds the data."""
        for (name, *arguments), turns in script:
            if name == "feed":
                size = arguments[0]
                if data:
                    self.feed(data[:size])
                data = data[size:]
            elif name == "give_up":
                await self.give_up()
            else:
                getattr(self, name)(*arguments)
            await self.client.turns(turns)

    def feed(self, piece):
        self.transport.arrive(piece)

    def eof(self):
        self.transport.arrive(None)

    def lose(self):
        self.runtime.flush()  # what was sent in this turn has left before
        self.transport.break_off(ConnectionResetError("lost"))

    def hold(self):
        self.transport.hold()

    def take(self):
        self.transport.take_all()

    def gate(self):
        self.application.gate.set()
        self.application.gate = asyncio.Event()

    def stop(self):
        self.runtime.stop_accepting()

    async def give_up(self):
        """The end of a stop that took too long; Server has waited a turn of the loop at the least."""
        self.gave_up = True
        self.runtime.stop_accepting()
        await asyncio.sleep(0)
        for call in list(self.runtime.calls):
            call.task.cancel()
        await self.client.turns(3)
        for connection in list(self.runtime.connections):
            connection.give_up()

    def time(self, seconds):
        self.client.now += seconds
        self.runtime.tick()
        self.runtime.tick()
        self.runtime.date = b"Mon, 01 Jan 2024 00:00:00 GMT"

    async def end(self):
        """The client leaves for good. Whoever still waits for it does so in vain."""
        turns = self.client.turns
        self.take()
        self.application.gate.set()
        await turns()
        stuck = [call for call in self.application.running if call.pending]
        assert not stuck, f"send() does not return, and the client has taken everything: {stuck}"
        self.open = self.transport.reading and not (self.transport.inbound or self.transport.closing)
        self.eof()
        await turns()
        for _ in range(10):  # requests behind one another, each of whose applications may take its time
            if self.transport.heard_out and self.runtime.calls:
                await turns()
        if self.transport.heard_out:
            assert not self.runtime.calls, f"not told that the client has left: {self.runtime.calls}"
        self.ended = self.transport.closing or self.transport.eof_written
        self.lose()
        await turns(40)
        if not self.runtime.stopping:
            other = self.client.connect()
            other.arrive(b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            await turns()
            assert other.written.startswith(b"HTTP/1.1 200 OK\r\n"), "the server is not healthy afterwards"
            other.break_off()
            await turns()
        self.check_nothing_is_left()

    def check_nothing_is_left(self):
        assert not self.transport.faults, self.transport.faults
        assert not self.runtime.connections, f"connections that are left: {self.runtime.connections}"
        assert not self.runtime.calls, f"calls that are left: {self.runtime.calls}"
        if self.runtime.stopping:
            assert self.runtime.quiet.done(), "the server does not learn that all is over"
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert not tasks, f"tasks that are left: {tasks}"
        assert not getattr(self.runtime.loop, "_scheduled", ()), "timers that are left"
        assert not self.application.overlaps, "two requests of one connection were answered at once"


# What a rude application raises by itself.
OWN = (Boom, ASGIError, asyncio.CancelledError, SystemExit, ExceptionGroup)


class Listener(logging.Handler):
    """Hears what the server and the loop complain of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.complaints = []
        self.rude = False

    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        own = error is None or isinstance(error, OWN)
        if not (self.rude and own and record.funcName == "log_fault"):  # a fault of the application's
            self.complaints.append((record.getMessage(), error))

    def on_loop_error(self, loop, context):
        self.complaints.append((context["message"], context.get("exception")))


async def cancel_all():
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@contextmanager
def arena(new_event_loop=asyncio.new_event_loop):
    """`run(coroutine, rude)`: runs one example, and sees that nobody complains."""
    listener, logger = Listener(), logging.getLogger("miniasgi")
    logger.addHandler(listener)
    logger.propagate = False

    def run(coroutine, rude=False):
        listener.complaints.clear()
        listener.rude = rude
        gc.freeze()  # so that the collection has little to look at
        try:
            runner.run(coroutine)
        except BaseException:
            runner.run(cancel_all())  # the next example is not to blame for what this one has left
            raise
        gc.collect()  # a task whose error nobody has looked at says so when it goes
        assert not listener.complaints, f"complaints: {listener.complaints}"

    gc.collect()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.get_loop().set_exception_handler(listener.on_loop_error)
            yield run
    finally:
        gc.unfreeze()
        logger.removeHandler(listener)
