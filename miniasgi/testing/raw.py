"""Raw clients: they send the bytes that they are told, cut where they are told, read when they are told.

`AsyncRawClient` is the client, written once. What it awaits is a Line to the server, of which there are
three: a socket in the test's loop, one that blocks, and none. `RawClient` is the same without `await`, on a
line that blocks: there its coroutines never have to wait.
"""

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import h11

from ..observe.recording import Recording, Tapped
from .memory import MemoryTransport

T = TypeVar("T")

# How much is read at a time where the test does not say.
READ = 64 * 1024
# How long the server may take, in seconds, before a client gives up.
TIMEOUT = 5.0
# How many turns the loop is given where there is no socket to wait for.
TURNS = 20


class Response(NamedTuple):
    """An answer, as h11 reads it."""

    status: int
    headers: list[tuple[bytes, bytes]]  # names in lower case
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; None where there is none."""
        return next((value for each, value in self.headers if each == name.lower()), None)


class Line(Protocol):
    """What a client's bytes go through. All that may take time is awaited, for TIMEOUT at the most."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""

    async def receive(self, most: int) -> bytes:
        """Some bytes, `most` at the most; b"" where the server has ended its side."""

    async def end(self) -> None:
        """End the client's side."""

    def reset(self) -> None:
        """Break the connection, so that the server meets a reset."""

    def close(self) -> None:
        """Leave."""


# Returns when the server has read so many bytes of a client, or reads no more for now. Raises TimeoutError.
Settled = Callable[[int], Awaitable[None]]


class AsyncRawClient:
    """A client by hand. Made by `server.raw()` in an `async with serve(app)` block, or by `connect(app)`."""

    def __init__(self, line: Line, settled: Settled) -> None:
        self.line = line
        self.settled = settled
        self.sent = 0  # bytes
        self.buffer = b""  # what was read and not asked for yet

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces; the server has read each one before it is sent the next.

        Where the server does not read for now, since its application takes nothing, a piece waits with it.
        Raises OSError where the server has closed the connection.
        """
        for piece in pieces:
            await self.line.send(piece)
            self.sent += len(piece)
            await self.settled(self.sent)

    async def receive(self, most: int = READ) -> bytes:
        """Some bytes, `most` at the most: what was not asked for stays unread. b"" is the end.

        Raises TimeoutError, and ConnectionResetError.
        """
        if not self.buffer:
            return await self.line.receive(most)
        data, self.buffer = self.buffer[:most], self.buffer[most:]
        return data

    async def receive_until(self, mark: bytes) -> bytes:
        """All up to the mark, and the mark. Raises EOFError where it does not come."""
        data = bytearray()  # to which adding is cheap, however much it is
        searched = 0  # up to here the mark does not begin
        while (at := data.find(mark, searched)) < 0:
            searched = max(len(data) - len(mark) + 1, 0)
            if not (more := await self.receive()):
                raise EOFError(f"the server has closed the connection before {mark!r}, after {bytes(data)!r}")
            data += more
        at += len(mark)
        self.buffer = bytes(data[at:]) + self.buffer
        return bytes(data[:at])

    async def receive_all(self) -> bytes:
        """All that comes until the server ends its side."""
        data = bytearray()
        while more := await self.receive():
            data += more
        return bytes(data)

    async def response(self, method: bytes = b"GET") -> Response:
        """The next answer, to a request of this method. Raises h11.RemoteProtocolError for what is none."""
        reader = h11.Connection(h11.CLIENT)
        asked = [("host", "x"), ("connection", "upgrade"), ("upgrade", "websocket")]  # so that 101 may come
        reader.send(h11.Request(method=method, target="/", headers=asked))
        reader.send(h11.EndOfMessage())
        head: h11.Response | h11.InformationalResponse | None = None
        body = bytearray()
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                reader.receive_data(await self.receive())
            elif isinstance(event, h11.Response) or is_switch(event):
                head = event  # type: ignore[assignment]  # one of the two
            elif isinstance(event, h11.Data):
                body += event.data
            if head is not None and (isinstance(event, h11.EndOfMessage) or is_switch(event)):
                self.buffer = bytes(reader.trailing_data[0]) + self.buffer
                return Response(head.status_code, list(head.headers), bytes(body))

    async def end(self) -> None:
        """End this side, as `shutdown(SHUT_WR)` does: the server may still answer."""
        await self.line.end()

    def reset(self) -> None:
        """Break the connection: the server meets ECONNRESET."""
        self.line.reset()

    def close(self) -> None:
        """Leave. Done by itself at the end of the server's block."""
        self.line.close()


def is_switch(event: object) -> bool:
    return isinstance(event, h11.InformationalResponse) and event.status_code == 101


class RawClient:
    """A client by hand, for tests that do not await. Made by `server.raw()`; see AsyncRawClient."""

    def __init__(self, line: Line, settled: Settled) -> None:
        self.client = AsyncRawClient(line, settled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *pieces: bytes) -> None:
        at_once(self.client.send(*pieces))

    def receive(self, most: int = READ) -> bytes:
        return at_once(self.client.receive(most))

    def receive_until(self, mark: bytes) -> bytes:
        return at_once(self.client.receive_until(mark))

    def receive_all(self) -> bytes:
        return at_once(self.client.receive_all())

    def response(self, method: bytes = b"GET") -> Response:
        return at_once(self.client.response(method))

    def end(self) -> None:
        at_once(self.client.end())

    def reset(self) -> None:
        self.client.reset()

    def close(self) -> None:
        self.client.close()


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the coroutine's own
    coroutine.close()
    raise AssertionError("a line that blocks does not wait")


# ---- lines ------------------------------------------------------------------------------------------------


class Peer:
    """The server's end of a client's socket, as far as a recording knows it."""

    def __init__(self, recording: Recording, sock: socket.socket) -> None:
        self.tap: Tapped | None = None
        recording.awaited[sock.getsockname()] = self.on_connected

    def on_connected(self, tap: Tapped) -> None:
        self.tap = tap

    def has_read(self, sent: int) -> bool:
        """Whether the server has read all that was sent, or reads no more."""
        tap = self.tap
        return tap is not None and (tap.read >= sent or not tap.reading or tap.transport.is_closing())


class BlockingLine:
    """A socket that blocks, for a test that does. Its coroutines never wait."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(TIMEOUT)

    async def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    async def receive(self, most: int) -> bytes:
        return self.sock.recv(most)

    async def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.sock.close()


class LoopLine(BlockingLine):
    """A socket in the loop of a test, which is the server's too."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.loop = asyncio.get_running_loop()
        sock.setblocking(False)

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(TIMEOUT):
            await self.loop.sock_sendall(self.sock, data)

    async def receive(self, most: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.loop.sock_recv(self.sock, most)


# Returns when the predicate holds. Raises TimeoutError.
Until = Callable[[Callable[[], object], float], Awaitable[object]]


class MemoryLine:
    """No socket: what is sent is handed to the server's connection, and what it writes lies ready."""

    def __init__(self, transport: MemoryTransport, until: Until) -> None:
        self.transport = transport
        self.until = until
        self.closed = False

    async def send(self, data: bytes) -> None:
        self.check_open()
        self.transport.deliver(data)

    async def receive(self, most: int) -> bytes:
        self.check_open()
        await self.until(lambda: self.transport.untaken or self.transport.ended, TIMEOUT)
        return self.transport.take(most)

    async def end(self) -> None:
        self.transport.deliver_eof()
        await turns()

    def reset(self) -> None:
        self.closed = True
        self.transport.lose(ConnectionResetError("the client has reset the connection"))

    def close(self) -> None:
        self.closed = True
        self.transport.lose(None)

    def check_open(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, "the client is closed")


async def turns(_sent: int = 0) -> None:
    """Let everything that is ready run: what was sent without a socket has been read, then."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class TLSLine:
    """TLS on another line. The handshake comes with the first that is sent or awaited."""

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        self.line = line
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def step(self, act: Callable[..., T], *arguments: object) -> T:
        """Act, and carry what that asks for to the server and back."""
        while True:
            try:
                return act(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                if data := await self.line.receive(READ):
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    async def flush(self) -> None:
        if data := self.outgoing.read():
            await self.line.send(data)

    async def send(self, data: bytes) -> None:
        await self.step(self.tls.do_handshake)
        self.tls.write(data)
        await self.flush()

    async def receive(self, most: int) -> bytes:
        try:
            return await self.step(self.tls.read, most)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def end(self) -> None:
        await self.step(self.tls.do_handshake)
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()
        await self.line.end()

    def reset(self) -> None:
        self.line.reset()

    def close(self) -> None:
        self.line.close()
