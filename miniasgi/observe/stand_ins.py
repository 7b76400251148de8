"""Stand-ins: what a connection talks to, in its place, so that somebody sees what passes.

A connection talks to a transport, to h11 or wsproto, and to the application. There is a stand-in for each of
the first two here, made with the connection; the application's is `conversation.Recorded`. So the road has no
`if` for who looks on, and says the same to a client that is observed as to any other.

Each tells an Observer what has happened, when it has happened.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import h11
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionType
from wsproto.events import Event as WsprotoEvent
from wsproto.extensions import Extension

from ..asgi import Receive
from ..protocol.connection import Connection
from ..protocol.exchange import Headers
from ..protocol.http1 import Http1Connection
from ..protocol.runtime import Page, Runtime
from ..protocol.websocket import WebSocketConnection

# Of a protocol library, after what is told: {"client": "DONE", "server": "SEND_RESPONSE"} of h11's two state
# machines, {"websocket": "OPEN"} of wsproto's one.
States = dict[str, str]


class Observer:
    """Is told what happens on one connection. Made with it; whatever is of no interest is not overridden.

    All of it is called in the loop, must return at once, and must raise nothing.
    """

    def on_read(self, data: bytes) -> None:
        """The transport has read this, and the connection is about to be given it."""

    def on_given(self, data: bytes) -> None:
        """h11 or wsproto is given this: never bytes of two requests at a time."""

    def on_event(self, event: Any, states: States) -> None:
        """h11 or wsproto says this of what it was given: an event, or an error that it raises."""

    def on_send(self, event: Any, states: States) -> None:
        """h11 or wsproto has made bytes of this event."""

    def on_refused(self, status: int, rule: str) -> None:
        """The server answers in its own name, past the h11 of this connection; `rule` is what was broken."""

    def on_next_request(self) -> None:
        """h11 is ready for the next request of this connection."""

    def on_websocket(self) -> None:
        """The handshake has been answered, and the connection is a WebSocket's from here on."""

    def on_written(self, data: bytes) -> None:
        """The transport has been given this to send."""

    def on_transport(self, what: str) -> None:
        """The transport, or the connection to it, has done this.

        By the names of asyncio's methods: eof_received, connection_lost, write_eof, close, abort,
        pause_writing and resume_writing (the client takes too little), pause_reading and resume_reading (the
        application does); and data_received, when what was read has been taken.
        """


def observed(runtime: Runtime, transport: asyncio.Transport, observer: Observer) -> Connection:
    """A connection with stand-ins for transport and h11, and for wsproto when it becomes a WebSocket's."""
    return ObservedHttp1Connection(runtime, Tap(transport, observer))


def observer_of(receive: Receive) -> Observer:
    """The observer of the connection over which a call of the application came; not for lifespan.

    receive() is a method of the call, whose wire is the connection, whose transport is ours.
    """
    return cast(Observer, receive.__self__.wire.transport.observer)  # type: ignore[attr-defined]


class PromptConnection(Connection):
    """A connection that keeps nothing for later: so each write stands behind what it was made of."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        super().write(data)
        self.flush()


class ObservedWebSocketConnection(PromptConnection, WebSocketConnection):
    """A connection whose wsproto tells what it says. Made by an ObservedHttp1Connection."""

    __slots__ = ()
    transport: "Tap"

    def make_wsproto(self) -> WsprotoConnection:
        return ObservedWsproto(self.extensions, self.transport.observer)


class ObservedHttp1Connection(PromptConnection, Http1Connection):
    """A connection whose h11 tells what it says. Made by `observed`."""

    __slots__ = ()
    transport: "Tap"

    def __init__(self, runtime: Runtime, tap: "Tap") -> None:
        super().__init__(runtime, tap)
        self.recall = None  # all is asked, so that all is seen; of a WebSocket that it becomes, too

    def make_h11(self) -> h11.Connection:
        return ObservedH11(self.transport.observer)

    @property
    def successor(self) -> type[WebSocketConnection]:
        return ObservedWebSocketConnection

    @property
    def has_kernel_copy(self) -> bool:
        """No: what the kernel copies passes by unseen."""
        return False

    def refuse(self, status: int, text: str = "", headers: Headers = (), page: Page | None = None) -> None:
        if self.response is None:  # otherwise no word of it leaves
            self.transport.observer.on_refused(status, text)
        super().refuse(status, text, headers, page)


class ObservedH11(h11.Connection):
    """h11, which is given the bytes of one request at a time."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(h11.SERVER)
        self.observer = observer

    @property
    def both_states(self) -> States:
        return {"client": str(self.their_state), "server": str(self.our_state)}

    def receive_data(self, data: bytes) -> None:
        self.observer.on_given(data)
        super().receive_data(data)

    def next_event(self) -> "h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]":
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.observer.on_event(error, self.both_states)
            raise
        if event is not h11.NEED_DATA and event is not h11.PAUSED:
            self.observer.on_event(event, self.both_states)
        return event

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        parts = super().send_with_data_passthrough(event)
        self.observer.on_send(event, self.both_states)
        return parts

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self.observer.on_next_request()


class ObservedWsproto(WsprotoConnection):
    """wsproto, in the place of the one that a connection makes."""

    def __init__(self, extensions: Iterable[Extension], observer: Observer) -> None:
        self.observer = observer  # before the other, which gives itself nothing to read
        super().__init__(ConnectionType.SERVER, [*extensions])

    @property
    def its_state(self) -> States:
        return {"websocket": self.state.name}

    def receive_data(self, data: bytes | None) -> None:
        if data:
            self.observer.on_given(data)
        super().receive_data(data)

    def events(self) -> Iterator[WsprotoEvent]:  # type: ignore[override]  # a generator there
        for event in super().events():
            self.observer.on_event(event, self.its_state)
            yield event

    def send(self, event: WsprotoEvent) -> bytes:
        data = super().send(event)
        self.observer.on_send(event, self.its_state)
        return data


class Tap(asyncio.Transport, asyncio.Protocol):
    """A transport that tells what passes, between the connection and the transport below."""

    def __init__(self, below: asyncio.Transport, observer: Observer) -> None:
        super().__init__()
        self.below = below
        self.observer = observer
        self.protocol = asyncio.Protocol()  # until there is one

    # ---- from below: told, then done ----

    def data_received(self, data: bytes) -> None:
        self.observer.on_read(data)
        self.protocol.data_received(data)
        self.observer.on_transport("data_received")

    def eof_received(self) -> bool | None:
        self.observer.on_transport("eof_received")
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.observer.on_transport("connection_lost")
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.told("pause_writing", self.protocol.pause_writing)

    def resume_writing(self) -> None:
        self.told("resume_writing", self.protocol.resume_writing)

    # ---- from the connection ----

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)  # every connection is one
        if isinstance(protocol, WebSocketConnection):
            self.observer.on_websocket()
        self.protocol = protocol
        self.below.set_protocol(self)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.observer.on_written(bytes(data))
        self.below.write(data)

    def write_eof(self) -> None:
        self.told("write_eof", self.below.write_eof)

    def can_write_eof(self) -> bool:
        return self.below.can_write_eof()

    def pause_reading(self) -> None:
        self.told("pause_reading", self.below.pause_reading)

    def resume_reading(self) -> None:
        self.told("resume_reading", self.below.resume_reading)

    def is_reading(self) -> bool:
        return self.below.is_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.below.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self.below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.below.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        return self.below.is_closing()

    def close(self) -> None:
        self.told("close", self.below.close)

    def abort(self) -> None:
        self.told("abort", self.below.abort)

    def told(self, what: str, act: Callable[[], None]) -> None:
        self.observer.on_transport(what)
        act()
