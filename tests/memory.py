"""The road without a socket: a transport that remembers, and a client that feeds bytes to it by hand."""

import asyncio

from miniasgi.config import Config
from miniasgi.protocol.connection import Arrival
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.runtime import Runtime

DATE = b"Mon, 01 Jan 2024 00:00:00 GMT"


class MemoryTransport(asyncio.Transport):
    """What a connection writes is `written`, and each write is in `writes`."""

    def __init__(self, loop, **extra):
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000), **extra})
        self.loop = loop
        self.writes = []
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof_written = False
        self.buffered = 0  # what get_write_buffer_size says

    @property
    def written(self):
        return b"".join(self.writes)

    def write(self, data):
        assert not self.eof_written, "a write after write_eof"
        if not self.closing:
            self.writes.append(bytes(data))

    def get_write_buffer_size(self):
        return self.buffered

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.eof_written = True

    def is_closing(self):
        return self.closing

    def close(self):
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self):
        self.aborted = True
        self.close()

    def lose(self, error=None):
        """The network loses the connection."""
        self.closing = True
        self.protocol.connection_lost(error)

    def pause_reading(self):
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self):
        assert not self.reading, "resumed without a pause"
        self.reading = True

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol


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
            self.connection.data_received(piece)
            await self.turns()

    async def end(self):
        """The client ends its side."""
        if not self.connection.eof_received():
            self.transport.close()
        await self.turns()

    async def pass_time(self, seconds):
        self.now += seconds
        self.runtime.tick()  # late, so it judges nobody
        self.runtime.tick()
        self.runtime.date = DATE
        await self.turns()

    async def turns(self, count=20):
        """Let everything that is ready run."""
        for _ in range(count):
            await asyncio.sleep(0)
