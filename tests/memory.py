"""The road without a socket: a transport that remembers, and a client that feeds bytes to it by hand."""

import asyncio
import math

from miniasgi.config import Config
from miniasgi.protocol.connection import Arrival
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.runtime import Runtime
from miniasgi.testing import memory
from miniasgi.testing.raw import TURNS

DATE = b"Mon, 01 Jan 2024 00:00:00 GMT"


class MemoryTransport(memory.MemoryTransport):
    """What a connection writes is `written`, and each write is in `writes`; the client takes it at once.

    It has no kernel behind it: all that a client does not take is what get_write_buffer_size says.
    """

    def __init__(self, loop, **extra):
        super().__init__(loop, **extra)
        self.writes = []
        self.aborted = False
        self.taking = True  # see `hold_back`
        self.buffered = 0  # what get_write_buffer_size says besides
        self.high = math.inf

    @property
    def written(self):
        return b"".join(self.writes)

    def write(self, data):
        if not self.closing:
            self.writes.append(bytes(data))
        super().write(data)
        if self.taking:
            self.untaken.clear()

    def hold_back(self):
        """The client takes nothing from now on, unless it is told to by `take`."""
        self.taking = False
        self.set_write_buffer_limits()

    def get_write_buffer_size(self):
        return len(self.untaken) + self.buffered

    def abort(self):
        self.aborted = True
        super().abort()

    def lose(self, error=None):
        super().lose(error)

    def pause_reading(self):
        assert self.reading, "paused twice"
        super().pause_reading()

    def resume_reading(self):
        assert not self.reading, "resumed without a pause"
        super().resume_reading()


class MemoryClient:
    """A client of one connection to `app`. Made inside a running loop; the clock is `now`.

    With the `runtime` of another client, it is one more of the same server.
    """

    transport_class = MemoryTransport

    def __init__(self, app, *, spawn=None, state=None, access=None, runtime=None, **options):
        self.loop = asyncio.get_running_loop()
        self.now = 1000.0
        self.runtime = runtime or Runtime(app, Config(**options), self.loop, state, access)
        if runtime is None:
            self.runtime.time = lambda: self.now
        self.runtime.ticked = self.now
        self.runtime.date = DATE
        if spawn is not None:
            self.runtime.start_task = spawn
        self.transport = self.connect()

    def connect(self):
        """The transport of one more connection to the same server."""
        transport = self.transport_class(self.loop)
        transport.protocol = Arrival(self.runtime, Http1Connection)
        transport.protocol.connection_made(transport)
        return transport

    @property
    def connection(self):
        return self.transport.protocol

    @property
    def written(self):
        return self.transport.written

    async def send(self, *pieces):
        """Deliver the pieces one by one, as the loop does, and give the loop its turns after each."""
        for piece in pieces:
            if self.transport.is_closing():
                return
            self.transport.deliver(piece)
            await self.turns()

    async def end(self):
        """The client ends its side."""
        self.transport.deliver_eof()
        await self.turns()

    async def pass_time(self, seconds):
        self.now += seconds
        self.runtime.tick()  # late, so it judges nobody
        self.runtime.tick()
        self.runtime.date = DATE
        await self.turns()

    async def turns(self, count=TURNS):
        """Let everything that is ready run."""
        for _ in range(count):
            await asyncio.sleep(0)
