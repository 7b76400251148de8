"""WebSocket: the handshake's rules, the ASGI side (WebSocketExchange), and wsproto's (WebSocketConnection).

It owns the order of a WebSocket's ASGI messages, close codes, and the pings. The request was parsed by h11,
whose connection writes the 101 too; wsproto is the authority on frames and extensions from then on. An
exchange's wire is the HTTP connection until the application accepts, so a denial is an ordinary response,
and a WebSocketConnection afterwards. This is the end of the road.
"""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import filterfalse
from typing import Any, ClassVar, Protocol

import h11
from wsproto import events
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import generate_accept_token

from ..asgi import ClientDisconnected, Message, Scope
from ..explain.messages import Unsendable, is_sendable, refusal
from ..explain.shown import shown
from .connection import TURN, Connection
from .exchange import ApplicationCall, Headers, ResponseWire, body_of, flag
from .frames import Walk, frame_of, whole_message
from .runtime import Page, Visit, guarded
from .scope import offered_subprotocols, tokens
from .strict import BadRequest

log = logging.getLogger("miniasgi")

# How many bytes of messages may wait for the application before the client has to. Their number has a limit
# of its own, since an empty one costs memory too.
HIGH_WATER = 64 * 1024

# ---- the opening handshake (RFC 6455 section 4.2.1) -------------------------------------------------------


def check_handshake(request: h11.Request) -> None:
    """Raise BadRequest for the first rule of the opening handshake that the request breaks."""
    if request.method != b"GET":
        raise BadRequest("a WebSocket begins with GET (RFC 6455 section 4.1)", 405, [(b"allow", b"GET")])
    if "upgrade" not in tokens(request, b"connection"):
        raise BadRequest(
            "Upgrade: websocket came without Connection: Upgrade (RFC 6455 section 4.1); "
            "a proxy in between has to pass both on"
        )
    if tokens(request, b"sec-websocket-version") != ["13"]:
        ours = [(b"sec-websocket-version", b"13")]
        raise BadRequest("Sec-WebSocket-Version is 13 (RFC 6455 section 4.2.2)", 426, ours)
    keys = [value for name, value in request.headers if name == b"sec-websocket-key"]
    if len(keys) != 1 or not is_nonce(keys[0]):
        raise BadRequest("Sec-WebSocket-Key is 16 bytes in base64 (RFC 6455 section 4.1)")
    framing = {name: value for name, value in request.headers if name in BODY_FRAMING}
    if framing not in ({}, {b"content-length": b"0"}):
        raise BadRequest("a WebSocket handshake has no body (RFC 6455 section 4.1)")


BODY_FRAMING = (b"content-length", b"transfer-encoding")


def is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def acceptance(
    request: h11.Request, subprotocol: str | None, deflate: bool
) -> tuple[list[tuple[bytes, bytes]], "Sequence[Deflate]"]:
    """(headers of the 101, extensions agreed on). Raises Unsendable for a subprotocol not offered."""
    key = next(value for name, value in request.headers if name == b"sec-websocket-key")
    lines = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", generate_accept_token(key)),
    ]
    if subprotocol is not None:
        offered = offered_subprotocols(request)
        if subprotocol not in offered:
            shown_ones = [each if len(each) <= 40 else "..." for each in offered]  # some are tokens to log in
            raise Unsendable(
                f"websocket.accept chose the subprotocol {shown(subprotocol)}, "
                f"but the client offered {shown(shown_ones)} (RFC 6455 section 4.2.2)"
            )
        lines.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    agreed = negotiate_deflate(request) if deflate else None
    if agreed is not None:
        extension, answer = agreed
        lines.append((b"sec-websocket-extensions", answer))
        return lines, (extension,)
    return lines, ()


class Deflate(PerMessageDeflate):
    """wsproto's permessage-deflate, made to leave control frames alone, and to go on behind a final block.

    wsproto 1.3 forgets that a message is compressed at a ping between two of its fragments. Control frames
    may stand there (RFC 6455 section 5.4), and are never compressed (RFC 7692 section 6.1). And it inflates
    all messages as one stream, which a client may end with each of them (RFC 7692 section 7.2.3.4).

    Behind our close frame it drops what messages hold: nobody is given them, and to inflate them takes a
    thousand times the client's effort. And behind the final block of a message: zlib would keep it, as one
    piece that is copied whenever it grows, and a frame need not end.
    """

    control = False  # the frame under way is a control frame
    fragmented = False  # a message has had a frame, and not its last one
    closed = False  # we have sent our close frame

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self.control = opcode.iscontrol()
        if self.control:
            return RsvBits(False, False, False)  # none of the reserved bits is ours
        if self.fragmented is not (opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR  # wsproto would inflate it before it looks
        return super().frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if self.control:
            return data
        if self.closed or self.stream_ended:
            return b""
        return super().frame_inbound_payload_data(proto, data)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self.control:
            return None
        self.fragmented = not fin
        if self.closed:
            return None
        end = super().frame_inbound_complete(proto, fin)
        if fin and self.stream_ended:
            self._decompressor = None  # the next message begins a stream of its own
        return end

    def release(self) -> None:
        """Give back zlib's 300 KB. wsproto's parser is a ring, and waits for the garbage collector."""
        self._compressor = self._decompressor = None

    @property
    def stream_ended(self) -> bool:
        """Whether the message under way has had its final block."""
        return self._decompressor is not None and self._decompressor.eof


def negotiate_deflate(request: h11.Request) -> tuple[Deflate, bytes] | None:
    """The first offer of permessage-deflate that wsproto can keep, and our answer (RFC 7692 section 5)."""
    for name, value in request.headers:
        if name == b"sec-websocket-extensions":
            for offer in value.decode("latin-1").split(","):
                if not is_deflate_offer(offer):
                    continue
                extension = Deflate()
                try:
                    accepted = extension.accept(offer)
                except ValueError:  # a window size that is no number
                    continue
                if isinstance(accepted, str):
                    answer = f"{extension.name}; {accepted}" if accepted else extension.name
                    return extension, answer.encode("ascii")
    return None


def is_deflate_offer(offer: str) -> bool:
    """Whether this is an offer of permessage-deflate, and keeps to the rules (RFC 7692 section 7.1)."""
    name, *parameters = (part.strip() for part in offer.split(";"))
    return (
        name == PerMessageDeflate.name
        and all(DEFLATE_PARAMETER.fullmatch(parameter) for parameter in parameters)
        and len({parameter.partition("=")[0] for parameter in parameters}) == len(parameters)
    )


DEFLATE_PARAMETER = re.compile(
    r"(client|server)_no_context_takeover|client_max_window_bits(=([89]|1[0-5]))?|server_max_window_bits=([89]|1[0-5])"
)


# "the server should send a HTTP response and then close the connection" (ASGI, "Websocket Denial Response")
CLOSE = (b"connection", b"close")


def is_connection(line: object) -> bool:
    """Whether a header, as the application has it, is the one that is ours to say here."""
    match line:
        case [bytes() as name, _]:
            return name.lower() == CLOSE[0]
    return False


# ---- the ASGI side ----------------------------------------------------------------------------------------


class HandshakeWire(ResponseWire, Protocol):
    """The wire before acceptance: an HTTP connection that can become a WebSocketConnection."""

    def upgrade(
        self, exchange: "WebSocketExchange", headers: Headers, subprotocol: str | None
    ) -> "WebSocketConnection":
        """Answer 101. Raises Unsendable."""


class State(Enum):
    """Where the application stands; each value completes "… was sent"."""

    CONNECTING = "before websocket.accept"
    DENYING = "after websocket.http.response.start"
    OPEN = "after websocket.accept"
    CLOSED = "after the application had closed the WebSocket"
    GONE = "after the WebSocket was closed"


class WebSocketExchange(ApplicationCall):
    """One WebSocket as the application has it. Made by Http1Connection; ends when the application does."""

    CLOSED: ClassVar[Mapping[Enum, int]] = {State.CLOSED: logging.WARNING, State.GONE: logging.DEBUG}
    UNFINISHED: ClassVar[Mapping[Enum, str]] = {
        State.CONNECTING: "without an answer: it sent neither websocket.accept nor websocket.close",
        State.DENYING: "in the middle of its denial: it sent no last websocket.http.response.body",
    }

    __slots__ = (
        "buffered",  # bytes of messages that wait for receive()
        "disconnect",  # the last message for receive(), once the WebSocket is closed
        "inbox",  # the messages that wait for receive()
    )
    wire: "HandshakeWire | WebSocketConnection"

    def __init__(self, scope: Scope, wire: HandshakeWire) -> None:
        super().__init__(scope, wire, State.CONNECTING)
        self.inbox: list[Message] = [{"type": "websocket.connect"}]  # a deque takes 600 bytes more
        self.buffered = 0
        self.disconnect: Message | None = None

    # ---- from the wire ----

    def on_message(self, data: str | bytes) -> None:
        """A whole message has come."""
        key = "text" if isinstance(data, str) else "bytes"
        self.inbox.append({"type": "websocket.receive", key: data})
        self.buffered += len(data)
        self.waiters.wake()

    def on_disconnect(self, code: int = CloseReason.ABNORMAL_CLOSURE, reason: str = "") -> None:
        """The WebSocket is over: by the client, by the server, or lost (1006, RFC 6455 section 7.1.5)."""
        if self.disconnect is None:
            self.state = State.GONE
            self.disconnect = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
            self.waiters.wake()

    @property
    def crowded(self) -> bool:
        """Whether so much waits for receive() that the client should wait."""
        return self.buffered > HIGH_WATER or len(self.inbox) > self.wire.runtime.config.ws_max_queue

    # ---- to the application ----

    async def receive(self) -> Message:
        """The next message, in the order in which they came; the last one is websocket.disconnect."""
        while not self.inbox:
            if self.disconnect is not None:
                return self.disconnect
            await self.waiters.wait()
        message = self.inbox.pop(0)
        self.buffered -= len(message.get("text") or message.get("bytes") or b"")
        self.wire.want_body()
        return message

    # ---- from the application ----

    def on_accept(self, message: Message) -> None:
        assert not isinstance(self.wire, WebSocketConnection)  # CONNECTING
        self.wire = self.wire.upgrade(self, message.get("headers", ()), message.get("subprotocol"))
        self.state = State.OPEN
        self.wire.begin()

    def on_deny(self, message: Message) -> None:
        """Closed before it was accepted: "the server must close the connection with … 403" (ASGI)."""
        assert not isinstance(self.wire, WebSocketConnection)  # CONNECTING
        # Code and reason are of no use here, and not looked at: FastAPI has a list for a reason.
        self.wire.write_response(403, [(b"content-length", b"0"), CLOSE], False)
        self.wire.write_body(b"", False)
        self.denied()

    def on_denial_start(self, message: Message) -> None:
        assert not isinstance(self.wire, WebSocketConnection)  # CONNECTING
        self.wire.write_response(
            message["status"], [*filterfalse(is_connection, message.get("headers", ())), CLOSE], False
        )
        self.state = State.DENYING

    def on_denial_body(self, message: Message) -> None:
        assert not isinstance(self.wire, WebSocketConnection)  # DENYING
        more_body = flag(message, "more_body")
        self.wire.write_body(body_of(message), more_body)
        if not more_body:
            self.denied()

    def on_send(self, message: Message) -> None:
        assert isinstance(self.wire, WebSocketConnection)  # OPEN
        text, data = message.get("text"), message.get("bytes")
        if isinstance(text, str) and data is None:
            self.wire.send_message(text)
        elif isinstance(data, bytes | bytearray | memoryview) and text is None:
            self.wire.send_message(bytes(data))
        else:
            raise TypeError

    def on_close(self, message: Message) -> None:
        assert isinstance(self.wire, WebSocketConnection)  # OPEN
        code, reason = message.get("code", CloseReason.NORMAL_CLOSURE), message.get("reason") or ""
        if not isinstance(code, int) or not is_sendable(code) or not isinstance(reason, str):
            raise TypeError
        reason.encode()  # raises UnicodeError here, where the close frame is not begun yet
        self.wire.say_close(code, reason)
        self.state = State.CLOSED

    def denied(self) -> None:
        self.on_disconnect()  # there never was a close frame: 1006
        self.state = State.CLOSED

    SEND = {
        State.CONNECTING: {
            "websocket.accept": on_accept,
            "websocket.close": on_deny,
            "websocket.http.response.start": on_denial_start,
        },
        State.DENYING: {"websocket.http.response.body": on_denial_body},
        State.OPEN: {"websocket.send": on_send, "websocket.close": on_close},
        State.CLOSED: {},  # ClientDisconnected here, too
        State.GONE: {},  # ClientDisconnected
    }

    def refusal(self, message: object, reason: str = "") -> Exception:
        if self.state is State.CLOSED:  # an OSError as ASGI has it, though it was not the client that left
            return ClientDisconnected(str(refusal(message, str(self.state.value), ())))
        return super().refusal(message, reason)

    def ended(self, error: BaseException | None) -> None:
        if self.state is State.OPEN and error is None:
            self.on_close({"type": "websocket.close"})
        elif self.state in (State.CONNECTING, State.DENYING, State.OPEN):
            self.failed(error)


# ---- wsproto's side ---------------------------------------------------------------------------------------

# How long the client may take to answer our close frame, once it has taken what stands before it.
CLOSE_TIMEOUT = 5.0
# What a client is told that breaks a rule of frames; wsproto's own words have Python's in them.
FAILURES: dict[int, str] = {
    CloseReason.PROTOCOL_ERROR: "a frame against the rules (RFC 6455 section 5)",
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: "a message that cannot be decoded (RFC 6455 section 8.1)",
}
# How many bytes wsproto is given at a time. It inflates at once what it is given, and deflate makes up to
# 1,032 bytes of one: so no more than 4 MiB come out before the size of the message is looked at.
INFLATE_STEP = 4 * 1024
MAX_STEP = 256 * 1024
# How much of a message counts as one more event of a turn: 16 MiB that were inflated in one took 70 ms.
LARGE = 256 * 1024
# How many fragments of a message are kept as they came. One of two bytes takes 50, so that 16 MiB took 400.
JOINED = 1000


class WebSocketConnection(Connection):
    """One WebSocket on its transport. Made by Http1Connection.upgrade; ends by close frames, or is lost."""

    __slots__ = (
        "asked",  # wsproto was given bytes, and has not told of all that is in them
        "at",  # up to where `backlog` was taken
        "awaiting_pong",  # a ping was sent and not answered yet
        "backlog",  # what came last, and what was left before it
        "exchange",  # the ASGI side; until the transport is released
        "extensions",  # what was agreed on in the handshake
        "loose",  # how many of `parts`, the last ones, are as they came
        "owed_pong",  # the answer to the client's last ping, while it does not take what we write
        "parts",  # what has come of the message under way
        "short",  # whole messages go the short way, past wsproto
        "size",  # bytes in `parts`
        "step",  # how many bytes wsproto is given at a time
        "taken",  # events of this turn
        "visit",  # for the access log, at the end; None where there is none
        "walk",  # where wsproto is in the client's frames
        "wsproto",  # the authority on frames
    )

    def __init__(
        self,
        previous: Connection,
        exchange: WebSocketExchange,
        extensions: Sequence[Deflate],
        visit: Visit | None,
        early: bytes,
        short: bool,
    ) -> None:
        super().__init__(previous.runtime, previous.transport)
        self.exchange = exchange
        self.visit = visit
        self.extensions = extensions
        self.wsproto = self.make_wsproto()
        self.short = short
        self.walk = Walk()
        self.asked = False
        self.backlog = early
        self.at = 0
        self.taken = 0
        self.step = INFLATE_STEP if extensions else MAX_STEP
        self.owed_pong: events.Pong | None = None
        self.parts: list[Any] = []  # all str or all bytes
        self.loose = 0
        self.size = 0
        self.awaiting_pong = False

    def make_wsproto(self) -> WsprotoConnection:
        return WsprotoConnection(ConnectionType.SERVER, [*self.extensions])

    def __repr__(self) -> str:
        return f"<WebSocketConnection {self.wsproto.state.name} {getattr(self, 'exchange', None)}>"

    def begin(self) -> None:
        """The application has accepted: take what came behind the handshake, and begin to ping."""
        self.expect_within(self.runtime.config.ws_ping_interval)
        self.pump()
        if self.runtime.stopping:
            self.stop()

    # ---- bytes in ----

    def data_received(self, data: bytes) -> None:
        if self.awaiting_pong:  # whatever comes shows that the client is there
            self.on_sign_of_life()
        self.backlog = self.backlog[self.at :] + data if self.backlog else data
        self.at = 0
        self.pump()

    def on_client_ended(self) -> bool:
        """Lost, without a close frame. Told now: until `connection_lost`, send() took what is dropped."""
        self.exchange.on_disconnect()
        return False

    def pump(self) -> None:
        """Take wsproto's events, until all is read, the application has enough, or it is others' turn."""
        self.taken = 0
        while self.current and not self.pump_due:
            for event in self.next_events():
                ON_EVENT[type(event)](self, event)
                if not self.current:
                    return
                if self.exchange.crowded and self.wsproto.state is ConnectionState.OPEN:
                    self.pause_reading()
                    return
                self.taken += 1
                if self.taken >= TURN:
                    self.pause_reading()
                    self.pump_soon()
                    return
            if self.at == len(self.backlog):
                self.backlog, self.at = b"", 0
                self.resume_reading()
                return
            size = self.walk.advance(self.backlog, self.at, self.step) if self.short else self.step
            self.wsproto.receive_data(self.backlog[self.at : self.at + size])
            self.at = min(self.at + size, len(self.backlog))
            self.asked = True

    def next_events(self) -> Iterator[events.Event | str | bytes]:
        """What wsproto says of what it was given, and then, while it is at rest, the messages behind that."""
        if self.asked:
            yield from self.wsproto.events()
            self.asked = False
        if self.short and self.walk.at_rest:
            while (found := whole_message(self.backlog, self.at)) is not None:
                message, self.at = found
                yield message

    # ---- messages, and wsproto's events ----

    def on_whole_message(self, data: str | bytes) -> None:
        """A message that wsproto need not see."""
        if self.admits(data):
            self.size = 0
            self.exchange.on_message(data)

    def admits(self, data: str | bytes | bytearray) -> bool:
        """Count this message, or part of one; whether the application is given it. One too large ends all."""
        if self.wsproto.state is not ConnectionState.OPEN:
            return False  # we have said our close; the application is not told of what comes later
        self.size += size_of(data)
        if self.size > self.runtime.config.ws_max_size:
            reason = f"a message has at most {self.runtime.config.ws_max_size} bytes"
            self.fail(CloseReason.MESSAGE_TOO_BIG, reason)
            return False
        return True

    def on_message(self, event: events.TextMessage | events.BytesMessage) -> None:
        self.taken += len(event.data) // LARGE
        if not self.admits(event.data):
            return
        empty = "" if isinstance(event, events.TextMessage) else b""
        if event.data:  # a message may have any number of empty fragments
            self.parts.append(event.data)
            self.loose += 1
            if self.loose == JOINED:
                self.parts[-JOINED:] = [empty.join(self.parts[-JOINED:])]
                self.loose = 0
        if event.message_finished:
            self.exchange.on_message(empty.join(self.parts))
            self.parts.clear()
            self.size = self.loose = 0

    def on_ping(self, event: events.Ping) -> None:
        """Answer; a client that does not take answers gets one to its last ping (RFC 6455 section 5.5.3)."""
        if self.wsproto.state is not ConnectionState.OPEN:
            return
        if self.writing_paused:
            self.owed_pong = event.response()
        else:
            self.write(self.wsproto.send(event.response()))

    def resume_writing(self) -> None:
        super().resume_writing()
        guarded(self.transport, self.send_owed_pong)

    def send_owed_pong(self) -> None:
        if self.owed_pong is not None and self.wsproto.state is ConnectionState.OPEN:
            self.write(self.wsproto.send(self.owed_pong))
        self.owed_pong = None

    def on_pong(self, event: events.Pong) -> None:
        """Seen as a sign of life already, as everything else is."""

    def on_sign_of_life(self) -> None:
        if self.wsproto.state is ConnectionState.OPEN:
            self.awaiting_pong = False
            self.expect_within(self.runtime.config.ws_ping_interval)

    def on_close(self, event: events.CloseConnection) -> None:
        if self.wsproto.state is ConnectionState.REMOTE_CLOSING:  # the client's, which we answer
            self.write(self.wsproto.send(event.response()))
            self.exchange.on_disconnect(event.code, event.reason or "")
            self.close()
        elif self.wsproto.state is ConnectionState.CLOSED:  # the client's answer to ours
            self.close()
        else:  # wsproto could not read on, and says with which code that is told
            self.fail(event.code, FAILURES.get(event.code, ""))

    # ---- what the exchange asks ----

    def send_message(self, data: str | bytes) -> None:
        """Write one unfragmented message."""
        if self.short:
            frame = frame_of(data)
        else:
            frame = self.wsproto.send(
                events.TextMessage(data) if isinstance(data, str) else events.BytesMessage(data)
            )
        self.sent += len(frame)
        self.write(frame)

    def want_body(self) -> None:
        """The application has taken a message: read on if that made room."""
        if self.reading_paused and self.current and not self.exchange.crowded:
            self.pump()

    def app_failed(self, status: int, page: Page | None) -> None:
        self.say_close(CloseReason.INTERNAL_ERROR, "")

    # ---- the end ----

    def say_close(self, code: int, reason: str) -> None:
        """Send our close frame, and wait for the client's (RFC 6455 section 7.1.2)."""
        if self.wsproto.state is ConnectionState.OPEN:
            self.write(self.wsproto.send(events.CloseConnection(code, reason)))
            for extension in self.extensions:
                extension.closed = True
            self.exchange.on_disconnect(code, reason)
            self.expect_within(CLOSE_TIMEOUT)
            self.resume_reading()
            self.pump_soon()  # what had to wait may hold the client's close frame

    def fail(self, code: int, reason: str) -> None:
        """Close without waiting for an answer from a client that breaks the rules (section 7.1.7)."""
        self.say_close(code, reason)
        self.close(linger=True)

    def on_deadline(self) -> None:
        if self.wsproto.state is not ConnectionState.OPEN:
            self.on_unanswered_close()
        elif self.awaiting_pong and not self.reading_paused:
            self.fail(CloseReason.INTERNAL_ERROR, "no pong came")
        else:
            # While we do not read, a pong may lie unread: that is not the client's fault.
            if not self.awaiting_pong:
                self.write(self.wsproto.send(events.Ping()))
                self.awaiting_pong = True
            self.expect_within(self.runtime.config.ws_ping_timeout)

    def on_unanswered_close(self) -> None:
        """Our close frame has no answer: wait on while the client is still taking what stands before it."""
        if self.is_taking():
            self.expect_within(CLOSE_TIMEOUT)
        else:
            self.abort()

    def stop(self) -> None:
        self.say_close(CloseReason.SERVICE_RESTART, "")

    def on_released(self) -> None:
        self.exchange.on_disconnect()
        del self.exchange  # it has us for its wire: a ring, which would wait for the garbage collector
        for extension in self.extensions:
            extension.release()
        if self.visit is not None:
            self.runtime.log_access(self.visit, 101, self.sent)


ON_EVENT: dict[type, Callable[[WebSocketConnection, Any], None]] = {
    str: WebSocketConnection.on_whole_message,
    bytes: WebSocketConnection.on_whole_message,
    events.TextMessage: WebSocketConnection.on_message,
    events.BytesMessage: WebSocketConnection.on_message,
    events.Ping: WebSocketConnection.on_ping,
    events.Pong: WebSocketConnection.on_pong,
    events.CloseConnection: WebSocketConnection.on_close,
}


def size_of(data: str | bytes | bytearray) -> int:
    """How many bytes the data is on the wire."""
    return len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)
