"""MemoryTransport: both ends of a connection without a socket; what the road writes, a client takes by hand.

It stands for the loop's transport together with the kernel behind it, which takes the first of what is
written whether the client reads or not.
"""

import asyncio
from collections.abc import Callable
from typing import Any

# What the kernel takes of what is written, and what may wait in the transport behind that before it says so:
# the second as in asyncio.
KERNEL = 64 * 1024
HIGH_WATER = 64 * 1024
LOW_WATER = HIGH_WATER // 4

ADDRESSES = {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 50000)}


class MemorySocket:
    """What a connection asks its socket for."""

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, *_: object) -> None:
        """Connections set one option: that closing resets."""
        self.resets = True


class MemoryTransport(asyncio.Transport):
    """The server's end is a transport; the client's end are `deliver`, `take` and what follows them.

    `on_change` is called when there is something new for the client.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_change: Callable[[], None] = lambda: None, **extra: Any
    ) -> None:
        super().__init__({**ADDRESSES, "socket": MemorySocket(), **extra})
        self.loop = loop
        self.on_change = on_change
        self.protocol = asyncio.Protocol()  # until there is one
        self.untaken = bytearray()  # what was written, and the client has not taken yet
        self.undelivered = bytearray()  # what the client has sent while we were not to read
        self.eof_undelivered = False
        self.high, self.low = HIGH_WATER, LOW_WATER
        self.reading = True
        self.writing_paused = False  # and the protocol was told
        self.closing = False
        self.eof_written = False  # the server has ended its side
        self.lost = False  # the protocol was told

    # ---- the server's end ----

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof_written, "a write after write_eof"
        if not self.closing:
            self.untaken += data
            self.on_change()
            if not self.writing_paused and self.get_write_buffer_size() > self.high:
                self.writing_paused = True
                self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return max(len(self.untaken) - KERNEL, 0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = HIGH_WATER if high is None else high
        self.low = self.high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = True
        self.on_change()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self.go_on)

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.lose_when_written()

    def abort(self) -> None:
        self.closing = True
        self.lose(None)

    def lose_when_written(self) -> None:
        if self.closing and not self.get_write_buffer_size():
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is over: tell the protocol, in the next turn of the loop."""
        self.closing = True
        if not self.lost:
            self.lost = True
            self.loop.call_soon(self.tell_lost, error)

    def tell_lost(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        self.on_change()

    # ---- the client's end ----

    @property
    def ended(self) -> bool:
        """Whether nothing more comes behind what was not taken yet."""
        return self.eof_written or self.lost

    def deliver(self, data: bytes) -> None:
        """The client sends. Raises BrokenPipeError where nobody reads any more."""
        if self.lost:
            raise BrokenPipeError("the server has closed the connection")
        self.undelivered += data
        self.go_on()

    def deliver_eof(self) -> None:
        """The client ends its side."""
        self.eof_undelivered = True
        self.go_on()

    def go_on(self) -> None:
        """Hand on what waits, where we are to read."""
        if self.undelivered and self.reading and not self.closing:
            data = bytes(self.undelivered)
            self.undelivered.clear()
            self.protocol.data_received(data)
        if self.eof_undelivered and not self.undelivered and self.reading and not self.closing:
            self.eof_undelivered = False
            if not self.protocol.eof_received():
                self.close()

    def take(self, most: int) -> bytes:
        """The client reads so much at the most. Raises ConnectionResetError where the server has reset."""
        if self.lost and self.get_extra_info("socket").resets:
            raise ConnectionResetError("the server has reset the connection")
        data = bytes(self.untaken[:most])
        del self.untaken[:most]
        if self.writing_paused and self.get_write_buffer_size() <= self.low:
            self.writing_paused = False
            self.protocol.resume_writing()
        self.lose_when_written()
        return data
