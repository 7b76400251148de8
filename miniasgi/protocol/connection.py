"""Connection: one transport, whatever protocol is spoken on it.

It owns backpressure both ways (whether we read, whether the client takes what we write), the one deadline,
and the close in stages. It must not know HTTP, WebSocket or the application.

A loop wants a protocol before there is a transport. So that no half-built connection exists, what it is given
is the Arrival, which makes the Connection when the transport is there. From then on, changing protocol is
changing the object: `become`. Next in reading order: `http1`.
"""

import asyncio
import errno
import math
import os
import socket
import struct
from collections.abc import Callable
from functools import partial

from ..asgi import ClientDisconnected
from .file import FilePart
from .runtime import Runtime, Waiters, guarded

# How many events of one connection are taken in one turn of the loop. A read of 256 KiB may hold ten thousand
# requests or frames; all in one turn, they kept everybody else waiting for seconds. Measured beside ten
# clients that send pings without an end: another waits for 44 ms at the most, with 64 of them a turn for 139.
TURN = 16
# How many bytes one connection is sent before others have their turn. A socket takes megabytes at once: 50
# downloads that began together took one turn of 150 ms.
SHARE = 256 * 1024
# Below this, joining the parts of what is written costs less than a second write.
LARGE_WRITE = 64 * 1024
# How much of a file is handed over at a time. The kernel takes less where the socket is full.
FILE_STEP = 256 * 1024
# How the system says that the other side of a socket is no more; any other error of a copy is the file's.
CLIENT_LEFT = {
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
}
# How long a client may take to close, once it has all our last words. nginx's lingering_timeout is 5 s; two
# are enough for a round trip, and a stop of the server waits for them.
LINGER = 2.0


class Arrival(asyncio.Protocol):
    """To whom each new transport is given first. Made by Server, one for all clients."""

    def __init__(self, runtime: Runtime, first: "First") -> None:
        self.runtime = runtime
        self.first = first

    # Narrower than the base class's: an accepted socket is given a stream transport.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        guarded(transport, partial(self.begin, transport))

    def begin(self, transport: asyncio.Transport) -> None:
        connection = self.first(self.runtime, transport)
        connection.transport.set_protocol(connection)  # its own: something may stand in between
        self.runtime.connections.add(connection)
        if self.runtime.stopping:  # accepted in the turn of the loop in which listening ended
            connection.stop()


# Makes what an accepted transport is given to.
First = Callable[[Runtime, asyncio.Transport], "Connection"]


class Connection(asyncio.Protocol):
    """One open transport. Made by Arrival or by the connection before it; ends with `on_released`."""

    __slots__ = (
        "deadline",  # when `on_deadline` is due, in the runtime's time; infinite where nothing is awaited
        "held",  # bytes in `outbox`
        "outbox",  # what the transport is given at the end of this turn of the loop
        "owed",  # the client had still to take something when `is_taking` was asked last
        "pump_due",  # `pump` goes on in the next turn of the loop
        "reading_paused",  # we have told the transport not to read
        "runtime",  # what all connections share
        "sent",  # bytes of the body, or of messages, that were handed over
        "share",  # when `sent` is so much, it is the turn of others
        "take_deadline",  # when the client must have taken some of what waits for it; else infinite
        "taken",  # how much it had taken when that was looked at last
        "transport",  # the loop's transport
        "write_waiters",  # who waits in `drained`
        "writing_paused",  # the transport holds more than it likes: the client does not read
    )

    def __init__(self, runtime: Runtime, transport: asyncio.Transport) -> None:
        self.runtime = runtime
        self.transport = transport
        self.deadline = math.inf
        self.outbox: list[bytes] | tuple[()] = ()  # an empty list takes 64 bytes
        self.held = 0
        self.owed = False
        self.pump_due = False
        self.reading_paused = False
        self.writing_paused = False
        self.sent = 0
        self.share = SHARE
        self.taken = 0
        self.take_deadline = math.inf
        self.write_waiters = Waiters()

    # ---- turns ----

    def pump(self) -> None:
        """Take what the protocol library has read, TURN events at the most. Nothing, while `pump_due`."""
        raise NotImplementedError

    def pump_soon(self) -> None:
        """Go on with `pump` in the next turn of the loop."""
        if not self.pump_due:
            self.pump_due = True
            self.runtime.loop.call_soon(self.pump_now)

    def pump_now(self) -> None:
        self.pump_due = False
        guarded(self.transport, self.pump)

    # ---- time ----

    def expect_within(self, seconds: float) -> None:
        """`on_deadline` is due in so many seconds, in place of what was due before."""
        self.deadline = self.runtime.time() + seconds

    def on_overdue(self, now: float) -> None:
        """A deadline has passed; something may have come since that was seen."""
        if self.deadline <= now:
            self.on_deadline()
        if self.take_deadline <= now:
            self.on_take_deadline()

    def on_deadline(self) -> None:
        """The deadline has passed. What that means is for each protocol to say."""
        raise NotImplementedError

    def stop(self) -> None:
        """The server stops: close now if nothing is owed, else as soon as nothing is."""
        raise NotImplementedError

    # ---- writing ----

    def write(self, data: bytes) -> None:
        """Send the client this, at the end of this turn of the loop.

        Answers to pipelined requests leave as one, and so do the parts of a stream that nobody waited
        between: a download in blocks of 4 KiB is 2.5 times as fast. Those to many clients leave one behind
        the other, since each wakes a client: 5 of 27 µs are saved.
        """
        size = len(data)
        if size >= LARGE_WRITE:
            self.flush()
            self.transport.write(data)
            return
        if self.outbox:
            self.outbox.append(data)
        else:
            self.outbox = [data]
            self.runtime.flush_soon(self)
        self.held += size
        if self.held >= LARGE_WRITE:
            self.flush()

    def write_parts(self, parts: list[bytes]) -> None:
        """Write these, as one where they are small: that takes less than to hold each."""
        size = sum(map(len, parts))
        if size >= LARGE_WRITE:
            for part in parts:
                self.write(part)
        elif size:
            self.write(b"".join(parts))

    def flush(self) -> None:
        """Give the transport what is held, as one.

        Not by `writelines`, though a download in chunks of 64 KiB took a quarter less by it when each was
        three writes: that of asyncio does not tell a protocol to pause, before Python 3.12.9 and 3.13.2
        (CVE-2024-12254).
        """
        if self.outbox:
            parts, self.outbox, self.held = self.outbox, (), 0
            self.transport.write(b"".join(parts))

    def eof_received(self) -> bool:
        """The client ends its side. True keeps ours open."""
        stays_open = self.on_client_ended()
        self.flush()  # the transport closes behind a False
        return stays_open

    def on_client_ended(self) -> bool:
        """The same, for each protocol to say."""
        raise NotImplementedError

    # ---- backpressure ----

    def pause_reading(self) -> None:
        """Let the client wait: what came is more than the application has taken."""
        if not self.reading_paused and not self.transport.is_closing():
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.reading_paused and not self.transport.is_closing():
            self.reading_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.writing_paused = True
        self.expect_taking()

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.take_deadline = math.inf
        self.write_waiters.wake()

    def expect_taking(self) -> None:
        """The client has to take something of what was written, within `timeout_send`."""
        self.flush()
        self.taken = self.sent - self.transport.get_write_buffer_size()
        self.take_deadline = self.runtime.time() + self.runtime.config.timeout_send

    def on_take_deadline(self) -> None:
        """A client may be slow; one that takes nothing keeps memory, and the application, for nothing."""
        before = self.taken
        self.expect_taking()
        if self.taken <= before:
            self.on_stuck()

    def on_stuck(self) -> None:
        """The client has taken nothing for too long: end the connection."""
        self.abort()

    @property
    def congested(self) -> bool:
        """Whether who writes should wait on `drained` first."""
        return self.sent >= self.share or self.writing_paused

    @property
    def blocked(self) -> bool:
        """Whether the client does not take what is written.

        A transport that is closing counts too: an application that sends without ever waiting has to give
        the loop a turn, or it would never learn that its client has left.
        """
        return self.writing_paused or self.transport.is_closing()

    async def drained(self) -> None:
        """Return when others had a turn and the client has taken enough of what was written, or has left."""
        self.share = self.sent + SHARE
        if not self.blocked:
            await asyncio.sleep(0)
        while self.blocked and self in self.runtime.connections:
            await self.write_waiters.wait()

    def is_taking(self) -> bool:
        """Whether the client has something to take, or had when this was asked last; and see that it does."""
        self.flush()
        before, self.owed = self.owed, self.transport.get_write_buffer_size() > 0
        if self.owed and self.take_deadline == math.inf:
            self.expect_taking()
        return before or self.owed

    # ---- files ----

    async def send_file(self, part: FilePart) -> None:
        """Send the part behind all that was written; return when the client may take more.

        Raises ClientDisconnected when the client leaves, EOFError when the file has become shorter than it
        was, OSError where it cannot be read. Nothing else may be written in the meantime: that is for the
        exchange to see to.
        """
        self.flush()
        if self.has_kernel_copy:
            await self.send_by_kernel(part)
        while part.done < part.count:
            data = await self.runtime.loop.run_in_executor(None, part.read, FILE_STEP)
            if not data:
                raise EOFError("the file has become shorter while it was sent")
            self.check_client()
            self.write(data)
            self.file_sent(part, len(data))
            await self.drained()
            self.check_client()

    def file_sent(self, part: FilePart, count: int) -> None:
        part.done += count
        self.sent += count

    def check_client(self) -> None:
        if not self.current:
            raise ClientDisconnected("the client has left")

    @property
    def has_kernel_copy(self) -> bool:
        """Whether the kernel can copy a file to this client: not through TLS."""
        info = self.transport.get_extra_info
        return hasattr(os, "sendfile") and info("ssl_object") is None and info("socket") is not None

    async def send_by_kernel(self, part: FilePart) -> None:
        """Have the kernel copy the file into the socket, or as much of it as it can.

        Not by loop.sendfile: uvloop has none, and asyncio's stops reading, so that a client that leaves is
        not noticed, and never returns where the connection is aborted under it. A second descriptor of the
        socket can be waited on without touching the transport.
        """
        self.check_client()
        self.transport.set_write_buffer_limits(0)  # `drained` returns when nothing at all is left
        try:
            await self.drained()
        finally:
            if self.current:  # uvloop refuses it of a transport that is closed
                self.transport.set_write_buffer_limits()
        self.check_client()
        sock = os.dup(self.transport.get_extra_info("socket").fileno())
        try:
            self.runtime.loop.add_writer(sock, self.write_waiters.wake)
            self.expect_taking()  # the transport holds nothing, and so will not tell
            while part.done < part.count and (sent := await self.copy_step(sock, part)) > 0:
                self.file_sent(part, sent)
        finally:
            self.take_deadline = math.inf
            self.runtime.loop.remove_writer(sock)
            os.close(sock)

    async def copy_step(self, sock: int, part: FilePart) -> int:
        """How many bytes the kernel copied; 0 where it cannot, which reading the file does, or tells."""
        while True:
            await self.write_waiters.wait()
            self.check_client()
            size = min(part.count - part.done, FILE_STEP)
            try:
                return os.sendfile(sock, part.descriptor, part.offset + part.done, size)
            except BlockingIOError:  # woken by something else than the socket
                continue
            except OSError as error:
                if error.errno in CLIENT_LEFT:
                    raise ClientDisconnected("the client has left") from error
                return 0

    # ---- the end ----

    @property
    def current(self) -> bool:
        """Whether the transport is open and ours: neither lost nor handed to another object."""
        return self in self.runtime.connections and not self.transport.is_closing()

    def become(self, successor: "Connection") -> None:
        """Hand the transport, as it stands, to another protocol's object."""
        self.flush()
        successor.reading_paused = self.reading_paused
        successor.writing_paused = self.writing_paused
        self.runtime.connections.discard(self)
        self.runtime.connections.add(successor)
        self.transport.set_protocol(successor)
        if successor.writing_paused:
            successor.expect_taking()
        self.write_waiters.wake()
        self.on_released()

    def close(self, *, linger: bool = False) -> None:
        """Close once the client has taken what was written.

        `linger` where the client may still be sending. To close a socket with unread bytes in it resets the
        connection, and a reset may overtake the answer. So: end our side, read and drop what comes, close
        when the client does (RFC 9112 section 9.6).
        """
        if self in self.runtime.connections:
            closing = Closing(self.runtime, self.transport)
            self.become(closing)
            closing.begin(linger)

    def abort(self, *, reset: bool = False) -> None:
        """Close now, whatever the client has still to take; `reset` tells it that this is no good end."""
        if self not in self.runtime.connections:
            return
        self.become(Closing(self.runtime, self.transport))
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def give_up(self) -> None:
        """The server ends, and cannot wait any more."""
        self.flush()
        self.transport.abort()

    def on_released(self) -> None:
        """The transport is no longer ours: lost, or handed to another object."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.outbox = ()
        self.held = 0
        self.runtime.forget_connection(self)
        self.write_waiters.wake()
        self.on_released()


class Closing(Connection):
    """The last stage of a connection: nothing more is written, and what still comes is dropped."""

    __slots__ = ()

    def begin(self, half_close: bool) -> None:
        self.is_taking()
        self.expect_within(LINGER)
        self.resume_reading()
        if not half_close:
            self.transport.close()
        elif not self.transport.is_closing():
            try:
                self.transport.write_eof()  # takes effect after all that was written
            except OSError:  # the client has left already, which the transport did not notice yet
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Dropped."""

    def on_client_ended(self) -> bool:
        return False  # both sides are done: the transport closes

    def on_deadline(self) -> None:
        if self.is_taking():
            self.expect_within(LINGER)
        else:
            self.transport.abort()

    def on_stuck(self) -> None:
        self.transport.abort()

    def stop(self) -> None:
        """Nothing is owed, and the end is near."""
