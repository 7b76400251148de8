"""Recording: what was said with one server, as bytes and as ASGI messages, each exchange for itself.

It listens to the stand-ins of each connection (`stand_ins`) and to that of the application. It is for tests,
and keeps what they may ask for: no server in the open has one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ..asgi import Application, ClientDisconnected, Message, Receive, Scope
from ..explain.frames import summary
from ..protocol.connection import Connection
from ..protocol.exchange import name_of, told_by
from ..protocol.runtime import Runtime
from .conversation import Conversation, OnAdvice, Recorded, Way, type_of
from .stand_ins import Observer, observed, observer_of

# How many messages of an exchange are kept, of the first and of the last ones each.
KEPT_MESSAGES = 1000
# How many bytes of bodies are kept in its messages: half of them in the first ones, and the rest in the last.
KEPT_BODY = 32 * 1024 * 1024
# How many bytes of each direction of an exchange are kept: the first ones.
KEPT_BYTES = 1024 * 1024
# How many exchanges are kept of one server; beyond that, the older half is dropped.
KEPT_EXCHANGES = 10_000


class Traffic:
    """The bytes of one direction of one exchange. `count` tells how many there were in all."""

    __slots__ = ("count", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self.count = 0

    def add(self, data: bytes) -> None:
        self.data += data[: KEPT_BYTES - len(self.data)]
        self.count += len(data)


class RecordedExchange(Conversation):
    """One call of the application: its messages, the bytes both ways, and how it ended.

    `scope` is what the application was given, as a copy. Times are in seconds of `time.monotonic()`.
    """

    kept = KEPT_MESSAGES

    def __init__(self, scope: Scope, on_change: Callable[[], None], tap: "Tapped | None") -> None:
        super().__init__(scope)
        self.on_change = on_change
        self.came = Traffic() if tap is None else tap.came
        self.left = Traffic() if tap is None else tap.left
        self.ended: float | None = None  # when the application returned or raised; None while it runs
        self.error: BaseException | None = None  # what it raised
        self.size = 0  # of the bodies in the messages that are kept, in bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {', '.join(self.types) or 'nothing said'}>"

    # ---- to assert on ----

    @property
    def name(self) -> str:
        """The request in a few words, as the log has it: GET /path from 127.0.0.1:50000."""
        return self.scope["type"] if self.scope["type"] == "lifespan" else name_of(self.scope)

    @property
    def received(self) -> list[Message]:
        """The messages that receive() returned, in their order."""
        return [each.message for each in self.messages if each.way == "receive"]

    @property
    def sent(self) -> list[Message]:
        """The messages that send() took, in their order. Those that it refused are in `messages` only."""
        return [each.message for each in self.messages if each.way == "send" and each.error is None]

    @property
    def messages(self) -> list[Any]:
        """All of them, each an Entry: seconds since the start, way, message, error of send()."""
        return [*self.first, *self.last]

    @property
    def types(self) -> list[str]:
        """The types of all messages, in their order."""
        return [type_of(each.message) for each in self.messages]

    @property
    def status(self) -> int | None:
        """The status that the application answered with; None where it has not."""
        for message in self.sent:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                return message["status"]  # type: ignore[no-any-return]
        return None

    @property
    def answered(self) -> bool:
        """Whether the client has a whole answer, or the WebSocket is over."""
        last = self.sent[-1] if self.sent else {"type": ""}
        return last["type"] in LAST and not (last.get("more_body") or last.get("more_trailers"))

    @property
    def body(self) -> bytes:
        """The body that the application sent, without the framing that it has on the wire."""
        bodies = ("http.response.body", "websocket.http.response.body")
        return b"".join(bytes(each.get("body", b"")) for each in self.sent if each["type"] in bodies)

    @property
    def bytes_received(self) -> bytes:
        """What the client sent: the head and the body of the request, and a WebSocket's frames."""
        return bytes(self.came.data)

    @property
    def bytes_sent(self) -> bytes:
        """What the client was sent; decrypted, where it spoke TLS."""
        return bytes(self.left.data)

    @property
    def seconds(self) -> float | None:
        """How long the application took; None while it runs."""
        return None if self.ended is None else self.ended - self.began

    @property
    def report(self) -> str:
        """All of it as lines of text, shortened, and with what may be a secret masked."""
        status = "" if self.status is None else f": {self.status}"
        took = "still running" if self.seconds is None else f"{self.seconds * 1000:.1f} ms"
        error = [] if self.error is None else [f"  raised {summary(self.error)}"]
        return "\n".join([f"{self.name}{status} ({took})", *self.lines, *error])

    # ---- for Recorded ----

    def add(self, way: Way, message: Any, error: BaseException | None = None) -> None:
        if len(self.last) == self.last.maxlen:
            self.drop_oldest()
        super().add(way, message, error)
        self.size += size_of(message)
        if self.size > KEPT_BODY // 2:
            self.kept = len(self.first)  # no more of the first ones
        while self.size > KEPT_BODY and len(self.last) > 1:
            self.drop_oldest()
        self.on_change()

    def drop_oldest(self) -> None:
        self.size -= size_of(self.last.popleft().message)

    def end(self, error: BaseException | None) -> None:
        """When the call is out of its frames, and what went wrong in it has been told, it has ended."""
        asyncio.get_running_loop().call_soon(self.finish, error, time.monotonic())

    def finish(self, error: BaseException | None, ended: float) -> None:
        self.error = error
        self.ended = ended  # behind the error: a test in another thread waits for this one
        if error is None or stems_from_disconnect(error):
            self.let_go(error)
        self.on_change()

    def let_go(self, error: BaseException | None) -> None:
        """Of what is no fault of the application's, keep no frames: what it has open in them would stay so.

        An async generator that streamed to a client who has left is closed when nobody knows its frame any
        more, and it is that which a test waits for.
        """
        for each in (error, *(entry.error for entry in self.messages)):
            if each is error or isinstance(each, ClientDisconnected):
                without_frames(each)


def stems_from_disconnect(error: BaseException) -> bool:
    try:
        return told_by(error) is not None
    except RecursionError:  # groups within groups without an end
        return False


def without_frames(error: BaseException | None) -> None:
    """Take the traceback of this error and of those behind it. A group's errors are left as they are."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


# With which messages an application has said all.
LAST = (
    "http.response.body",
    "http.response.pathsend",
    "http.response.trailers",
    "http.response.zerocopysend",
    "websocket.close",
    "websocket.http.response.body",
)


def size_of(message: Any) -> int:
    """How much a message carries, in bytes or characters; 0 of what is no message."""
    if not isinstance(message, dict):
        return 0
    carried = [message.get(key) for key in ("body", "bytes", "text")]
    return sum(len(each) for each in carried if isinstance(each, bytes | bytearray | memoryview | str))


class Recording:
    """What was said with one server. Made by whoever makes the Server, and given to it in two parts:

        recording = Recording(on_change)
        Server(recording.of_application(app), …, first=recording.first)

    `on_change` is called in the loop whenever something has been added; `on_advice` hears what could be
    better in the application's messages.
    """

    def __init__(self, on_change: Callable[[], None], on_advice: OnAdvice | None = None) -> None:
        self.on_change = on_change
        self.on_advice = on_advice
        self.exchanges: list[RecordedExchange] = []  # of HTTP and WebSocket, in the order of their start
        self.lifespan: RecordedExchange | None = None
        # Who wants to know the connection of the client with this address, and is called once with it.
        self.awaited: dict[Any, Callable[[Tapped], None]] = {}

    def of_application(self, app: Application) -> Application:
        """The stand-in for the application."""
        return Recorded(app, self.on_advice, self.begin)

    def begin(self, scope: Scope, receive: Receive) -> RecordedExchange:
        if scope["type"] == "lifespan":
            self.lifespan = RecordedExchange(scope, self.on_change, None)
            return self.lifespan
        tap = observer_of(receive)
        assert isinstance(tap, Tapped)
        exchange = RecordedExchange(scope, self.on_change, tap)
        if len(self.exchanges) == KEPT_EXCHANGES:
            del self.exchanges[: KEPT_EXCHANGES // 2]
        self.exchanges.append(exchange)
        self.on_change()
        return exchange

    def first(self, runtime: Runtime, transport: asyncio.Transport) -> Connection:
        """The connection of a client, which is observed."""
        tap = Tapped(self, transport)
        if on_connected := self.awaited.pop(transport.get_extra_info("peername"), None):
            on_connected(tap)
        return observed(runtime, transport, tap)


class Tapped(Observer):
    """One connection as the recording knows it: whose bytes pass, and how much was read."""

    def __init__(self, recording: Recording, transport: asyncio.Transport) -> None:
        self.recording = recording
        self.transport = transport
        self.came = Traffic()  # of the exchange under way
        self.left = Traffic()
        self.coming = 0  # bytes that were read and not taken yet
        self.read = 0  # bytes that were read of this client in all
        self.reading = True  # it was not told to pause

    def on_read(self, data: bytes) -> None:
        self.coming = len(data)

    def on_given(self, data: bytes) -> None:
        self.came.add(data)

    def on_written(self, data: bytes) -> None:
        self.left.add(data)

    def on_next_request(self) -> None:
        self.came, self.left = Traffic(), Traffic()

    def on_transport(self, what: str) -> None:
        if what == "data_received":
            self.read += self.coming
        elif what in ("pause_reading", "resume_reading"):
            self.reading = what == "resume_reading"
        self.recording.on_change()
