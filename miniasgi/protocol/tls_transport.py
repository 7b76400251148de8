"""TLSTransport: a transport over a transport; and the handshake before it.

It owns the TLS of one connection: what a protocol writes leaves encrypted, what comes is decrypted. OpenSSL
is the sans-I/O core, between two memory buffers. It must not know what a connection is about, nor HTTP, but
for `not_plain`; and the connections above it need not know that it is there. Reading the road for the first
time, skip it.

Why not the loop's own TLS (`create_server(ssl=…)`)? Measured with asyncio of Python 3.11 and uvloop 0.23:
* closing has one time limit, for what is still to be sent and for the client's goodbye together: with LINGER
  a slow client's answer was cut off, with more an idle client that does not answer held up a stop;
* a connection in its handshake is not to be ended from outside: it outlived the server;
* a refused handshake was closed without its alert, so that the client could not say what was wrong.
What lies in the transport below is not counted as unsent there either, and there is no close in stages.
"""

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Any

from .connection import Connection, First
from .runtime import Runtime, client_of, guarded

log = logging.getLogger("miniasgi")

# The most that is decrypted in one call; a record has at most 16 KiB (RFC 8446 section 5.1).
RECORD = 16 * 1024
# How much OpenSSL is given at a time: a little more than the largest record. Where that is full of data, it
# is given more in the same turn of the loop; else in the next. A read of 256 KiB may hold ten thousand key
# updates (RFC 8446 section 4.6.3), which give nothing and take up to 37 µs each: 350 ms in one turn.
STEP = 17 * 1024


class Handshake(Connection):
    """A client that has yet to agree on TLS. Made by Arrival; ends with a TLSTransport, or is refused."""

    __slots__ = (
        "first",  # makes the connection that speaks through TLS
        "incoming",  # bytes for OpenSSL
        "outgoing",  # bytes from it
        "tls",  # the authority on TLS
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        first: First,
        runtime: Runtime,
        transport: asyncio.Transport,
    ) -> None:
        super().__init__(runtime, transport)
        self.first = first
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.expect_within(runtime.config.timeout_head)

    def data_received(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.transport.write(self.outgoing.read())
        except ssl.SSLError as error:
            log_failure(self.transport, error)
            self.transport.write(self.outgoing.read())  # the alert, which says why
            if error.reason == HTTP_REQUEST:
                self.transport.write(not_plain(self.runtime.date))
            self.close(linger=True)
        else:
            self.succeed()

    def succeed(self) -> None:
        secure = TLSTransport(self.runtime.loop, self.transport, self.tls, self.incoming, self.outgoing)
        connection = self.first(self.runtime, secure)
        self.become(connection)
        connection.transport.set_protocol(connection)
        self.transport.set_protocol(secure)
        secure.flush()
        secure.decrypt()  # what came in one piece with the end of the handshake

    def eof_received(self) -> bool:
        return False

    def on_deadline(self) -> None:
        self.abort()

    def stop(self) -> None:
        self.close()


class TLSTransport(asyncio.Transport, asyncio.Protocol):
    """TLS for the protocol above, on the transport below. Made by Handshake; ends with that transport.

    It keeps nothing back of what is written: the transport below has the one buffer, whose limits and size
    are this one's. What it has not decrypted yet is at most one read of that transport, which reads on when
    all of it was handed on.
    """

    __slots__ = (
        "below",  # the loop's transport
        "below_reads",  # it was not told to pause
        "closing",  # close() or abort() was called, or the connection is lost
        "encrypted",  # what came and OpenSSL was not given yet
        "ended",  # the client has ended its side, and the protocol was told
        "finished",  # we have said goodbye (close_notify): nothing is written any more, nothing read
        "incoming",  # bytes for OpenSSL
        "loop",  # the event loop
        "outgoing",  # bytes from it, until they are flushed
        "protocol",  # the protocol above
        "reading",  # it has not told us to pause
        "tls",  # the authority on TLS
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        below: asyncio.Transport,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        super().__init__({"ssl_object": tls})
        self.loop = loop
        self.below = below
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        self.protocol = asyncio.Protocol()  # until there is one
        self.encrypted = bytearray(incoming.read())
        self.reading = self.below_reads = True
        self.ended = False
        self.finished = False
        self.closing = False

    # ---- from below ----

    def data_received(self, data: bytes) -> None:
        if not (self.ended or self.finished):
            self.encrypted += data
            self.decrypt()

    def eof_received(self) -> bool:
        """The client ended its side, with a goodbye (which was read before) or without."""
        if self.finished:
            self.end_received()
        elif not self.ended:
            self.feed(len(self.encrypted))
            self.incoming.write_eof()
            self.decrypt()
        return True  # whether to close is decided here

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        protocol, self.protocol = self.protocol, asyncio.Protocol()  # no cycle is left behind
        protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()

    def feed(self, count: int) -> None:
        if self.encrypted:  # behind an end OpenSSL is given nothing, not even that
            self.incoming.write(self.encrypted[:count])
            del self.encrypted[:count]

    def decrypt(self) -> None:
        """Hand on what can be decrypted, and then the client's end, while the protocol wants it."""
        if not self.reading or self.ended or self.finished or self.closing:
            return
        pieces: list[bytes] = []
        ended = broken = False
        gained = RECORD
        while gained >= RECORD and not (ended or broken):
            gained = 0
            self.feed(STEP)
            try:
                while piece := self.tls.read(RECORD):
                    pieces.append(piece)
                    gained += len(piece)
                ended = True  # by close_notify
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLEOFError:
                ended = True
            except ssl.SSLError as error:
                log_failure(self, error)
                broken = True
        self.flush()  # an answer to a key update; the alert, where it is broken
        if pieces:
            self.protocol.data_received(b"".join(pieces))
        if self.reading and not (self.finished or self.closing):  # asked later, OpenSSL tells it again
            if ended:
                self.end_received()
            elif broken:
                self.abort()
            elif self.encrypted:
                self.decrypt_soon()
        self.balance()

    def decrypt_soon(self) -> None:
        """As a transport does: never from within a call of it."""
        self.loop.call_soon(guarded, self, self.decrypt)

    def balance(self) -> None:
        """Read on below when all was handed on, and more is wanted."""
        reads = self.reading and not self.encrypted
        if reads is not self.below_reads and not self.is_closing():
            self.below_reads = reads
            if reads:
                self.below.resume_reading()
            else:
                self.below.pause_reading()

    def end_received(self) -> None:
        self.ended = True
        self.encrypted.clear()  # behind a goodbye nothing is read
        stays_open = self.protocol.eof_received()
        # "the other party MUST respond with a close_notify alert of its own and close down the connection
        # immediately" (RFC 5246 section 7.2.1). In TLS 1.3 each side ends by itself (RFC 8446 section 6.1).
        if not stays_open or self.tls.version() == "TLSv1.2":
            self.close()

    def flush(self) -> None:
        if self.outgoing.pending:
            self.below.write(self.outgoing.read())

    # ---- from above ----

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.finished or self.is_closing():
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.tls.write(rest) :]
        except ssl.SSLError as error:  # TLS is broken, and reading has not told yet
            log_failure(self, error)
            self.abort()
        else:
            self.flush()

    def write_eof(self) -> None:
        self.say_goodbye()
        self.below.write_eof()

    def say_goodbye(self) -> None:
        """Write close_notify. The client's own is not waited for: it may be gone (RFC 8446 section 6.1)."""
        if not self.finished:
            self.finished = True
            self.encrypted.clear()
            self.balance()
            # SSLWantRead: there is no answer yet. Any other: the client goes on sending, or TLS is broken.
            with suppress(ssl.SSLError):
                self.tls.unwrap()
            self.flush()

    def close(self) -> None:
        if not self.closing:
            self.say_goodbye()
            self.closing = True
            self.below.close()

    def abort(self) -> None:
        self.closing = True
        self.below.abort()

    def is_closing(self) -> bool:
        return self.closing or self.below.is_closing()

    def pause_reading(self) -> None:
        self.reading = False
        self.balance()

    def resume_reading(self) -> None:
        self.reading = True
        self.balance()
        self.decrypt_soon()

    def get_write_buffer_size(self) -> int:
        return self.below.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)  # Connections are
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return super().get_extra_info(name) or self.below.get_extra_info(name, default)


def log_failure(transport: asyncio.BaseTransport, error: ssl.SSLError) -> None:
    """One line for the operator, whose certificates it may be about; what a stranger did is no error."""
    reason = getattr(error, "reason", None) or str(error)  # OpenSSL's word, where it comes from there
    log.info(
        "No TLS with %s: %s%s",
        client_of(transport),
        reason.replace("_", " ").lower(),
        FAILURES.get(reason, ""),
    )


def not_plain(date: bytes) -> bytes:
    """The answer to who speaks HTTP without TLS, in the one language that this client understands.

    nginx and Go's net/http give it, too, with the same status. Of HTTP no more is known here than this.
    """
    body = b"This port serves https: the URL begins with https:// here, or wss:// for a WebSocket.\n"
    lines = (
        b"HTTP/1.1 400 Bad Request",
        b"date: " + date,
        b"server: miniasgi",
        b"content-type: text/plain; charset=utf-8",
        b"content-length: %d" % len(body),
        b"connection: close",
    )
    return b"\r\n".join((*lines, b"", body))


# How OpenSSL calls what begins as a request of HTTP does.
HTTP_REQUEST = "HTTP_REQUEST"
# What its reasons are about.
FAILURES = {
    HTTP_REQUEST: " (this port serves https)",
    "WRONG_VERSION_NUMBER": " (what came is no TLS, and this port serves https)",
    "CERTIFICATE_VERIFY_FAILED": " (none of the authorities given has signed the client's)",
    "SSLV3_ALERT_BAD_CERTIFICATE": " (the client does not take the server's)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": " (the client does not take the server's)",
    "TLSV1_ALERT_UNKNOWN_CA": " (the client does not know who signed the server's certificate)",
}
