"""AsyncLiveServer: a server in the loop of the test. MemoryServer: one that has no socket either."""

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar, overload

from ..config import UsageError
from ..lifespan import StartupFailed
from ..observe.recording import RecordedExchange
from ..protocol.runtime import Waiters
from .faults import E, Expected, Kinds
from .memory import ADDRESSES, MemoryTransport
from .raw import TIMEOUT, AsyncRawClient, LoopLine, MemoryLine, Settled, turns
from .served import ASK_AGAIN, PATIENCE, Options, ServerInTest, running

T = TypeVar("T")

# What is told of an error beside which a client waits that the loop had no time to accept.
BLOCKED = (
    "a client waits to be accepted: does the test call one that blocks? It keeps the loop from turning, in "
    "which the server runs; `with serve(app)` gives the server a thread"
)


class AsyncLiveServer(ServerInTest):
    """A server in the loop of the test. Made by `async with serve(app)`; ends with the block."""

    def __init__(self, options: Options) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.waiters = Waiters()
        super().__init__(options)

    # ---- for the test ----

    @overload
    async def wait_for(self, what: str, timeout: float = PATIENCE) -> RecordedExchange: ...
    @overload
    async def wait_for(self, what: Callable[[], T], timeout: float = PATIENCE) -> T: ...
    async def wait_for(self, what: str | Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """As LiveServer.wait_for has it."""
        try:
            async with asyncio.timeout(timeout):
                while not (found := self.seen(what)):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(ASK_AGAIN):
                            await self.waiters.wait()
        except TimeoutError:
            raise self.late(what, timeout) from None
        return found

    def expect(self, kind: Kinds[E], match: str | None = None) -> "ExpectedInLoop[E]":
        """As LiveServer.expect has it; used in an `async with`."""
        expected = ExpectedInLoop(kind, match, self)
        self.faults.expect(expected)
        return expected

    def raw(self, *, receive_buffer: int | None = None) -> AsyncRawClient:
        """As LiveServer.raw has it."""
        sock, peer = self.open_line(receive_buffer)

        async def settled(sent: int) -> None:
            await self.wait_for(lambda: peer.has_read(sent), TIMEOUT)

        client = AsyncRawClient(self.secured(LoopLine(sock)), settled)
        self.clients.append(client)
        return client

    # ---- its life ----

    def on_change(self) -> None:
        if threading.get_ident() == self.thread:
            self.waiters.wake()
        else:
            self.loop.call_soon_threadsafe(self.waiters.wake)

    async def start(self) -> Self:
        __tracebackhide__ = True  # pytest leaves this frame out
        try:
            await self.server.__aenter__()
        except BaseException as error:
            self.clean_up()
            if isinstance(error, StartupFailed | UsageError):
                error.__traceback__ = None  # its text says all; how it came through us says nothing
            raise
        self.begin()
        return self

    async def stop(self, error: BaseException | None) -> None:
        __tracebackhide__ = True  # pytest leaves this frame out
        if error is not None and select.select(self.server.sockets, (), (), 0)[0]:
            error.add_note(BLOCKED)
        self.close_clients()
        try:
            await self.server.__aexit__(None, None, None)
        except BaseException as raised:  # a test that is cancelled here, too, ends by that
            error = raised
            raise
        finally:
            self.end(error)


class ExpectedInLoop(Expected[E]):
    """Errors that a test wants. Made by AsyncLiveServer.expect."""

    def __init__(self, kind: Kinds[E], match: str | None, server: AsyncLiveServer) -> None:
        super().__init__(kind, match)
        self.server = server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with suppress(TimeoutError):
                await self.server.wait_for(lambda: self.errors)
            self.error  # noqa: B018  # raises where none came


# ---- no socket --------------------------------------------------------------------------------------------


class MemoryServer(AsyncLiveServer):
    """A server that no socket leads to. Made by `connect`. Time stands still but for `pass_time`."""

    def sockets(self, options: Options) -> Sequence[socket.socket]:
        return ()

    def begin(self) -> None:
        running.add(self)
        self.hear_frameworks(True)
        self.url = "http://{}:{}".format(*ADDRESSES["sockname"])  # which the scope has, and nobody reaches

    async def start(self) -> Self:
        await super().start()
        self.now = self.server.runtime.time()
        self.server.runtime.time = lambda: self.now
        return self

    def raw(self, *, receive_buffer: int | None = None) -> "Wire":
        """One more client of this server. It has no buffer but for the 64 KiB that a system takes anyway."""
        transport = MemoryTransport(self.loop, self.on_change)
        self.server.arrival.connection_made(transport)
        wire = Wire(MemoryLine(transport, self.wait_for), turns, self)
        self.clients.append(wire)
        return wire

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, in seconds; what is due by then has been done when this returns."""
        self.now += seconds
        self.server.runtime.ticked = self.now  # else the tick would be late, and judge nobody
        self.server.runtime.tick()
        await turns()


class Wire(AsyncRawClient):
    """A client of a `server` without sockets. Made by `connect`."""

    def __init__(self, line: MemoryLine, settled: Settled, server: MemoryServer) -> None:
        super().__init__(line, settled)
        self.server = server
