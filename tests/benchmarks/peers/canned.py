"""The limit: a protocol of asyncio that parses nothing and sends bytes that were made before.

    python -m tests.benchmarks.peers.canned WORKLOAD PORT

It counts what comes as far as it must to know how many answers are due; whoever asks is taken at his word. A
workload that is not in CANNED has no such limit.
"""

import asyncio
import json
import re
import sys

from .applications import BODY, EVENT
from .load import ACCEPT, server_frame
from .workloads import ECHOED, EVENTS, LARGE, ROOM_MESSAGE

SIZE, BLOCK = re.compile(rb"[?&]size=(\d+)"), re.compile(rb"[?&]block=(\d+)")
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


def answer(body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Canned(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport


class Answering(Canned):
    """An answer for each end of a head."""

    canned = answer(BODY, "Content-Type: text/plain\r\n")

    def data_received(self, data: bytes) -> None:
        if count := data.count(HEAD_END):
            self.transport.write(self.canned * count)


class Closing(Canned):
    """An answer, and the end."""

    canned = answer(BODY, "Content-Type: text/plain\r\nConnection: close\r\n")

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.canned)
        self.transport.close()


class Posted(Canned):
    """What was posted comes back; it comes in one piece."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(answer(data[data.index(HEAD_END) + len(HEAD_END) :]))


class Streaming(Canned):
    """The events of a stream, one for each turn of the loop."""

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
    left = 0  # events

    def data_received(self, data: bytes) -> None:
        self.left = EVENTS
        self.transport.write(self.head)
        self.write()

    def write(self) -> None:
        if self.left:
            self.left -= 1
            self.transport.write(self.event)
            asyncio.get_running_loop().call_soon(self.write)
        else:
            self.transport.write(b"0\r\n\r\n")


class Modules(Answering):
    canned = answer(json.dumps({"modules": len(sys.modules)}).encode())


class Uploading(Canned):
    """Awaits the end of a chunked body, or as many bytes as the request says."""

    size = 0  # of the body that is under way; 0 between two requests
    left = 0  # bytes of it that have not come, if it is not chunked
    chunked = False
    last = b""  # the end of what has come of it

    def data_received(self, data: bytes) -> None:
        if not self.size:
            self.size = self.left = int(SIZE.search(data)[1])
            head, _, data = data.partition(HEAD_END)
            self.chunked, self.last = b"chunked" in head, b""
        self.left -= len(data)
        self.last = (self.last + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
        if self.last == LAST_CHUNK if self.chunked else not self.left:
            self.transport.write(answer(b"%d" % self.size))
            self.size = 0


class Downloading(Canned):
    """As many bytes as the request says, in blocks of the size that it says, while the transport takes them."""

    left = 0
    paused = False
    block = b""

    def data_received(self, data: bytes) -> None:
        self.left, self.block = int(SIZE.search(data)[1]), bytes(int(BLOCK.search(data)[1]))
        self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {self.left}\r\n\r\n".encode())
        self.write()

    def write(self) -> None:
        while self.left and not self.paused:
            self.left -= len(self.block)
            self.transport.write(self.block)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.write()


class Switching(Canned):
    """A handshake, and from then on another protocol."""

    def data_received(self, data: bytes) -> None:
        then = self.then(data)
        then.connection_made(self.transport)
        self.transport.set_protocol(then)
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + ACCEPT + HEAD_END
        )

    def then(self, data: bytes) -> Canned:
        raise NotImplementedError


def echoing(message: "str | bytes") -> type[Switching]:
    """Answers a frame for as many bytes as a client's frame of this message has."""
    frame = server_frame(message)
    due = len(frame) + 4  # the client's has a mask

    class Echo(Canned):
        got = 0

        def data_received(self, data: bytes) -> None:
            self.got += len(data)
            while self.got >= due:
                self.got -= due
                self.transport.write(frame)

    class Echoing(Switching):
        def then(self, data: bytes) -> Canned:
            return Echo()

    return Echoing


class Broadcasting(Switching):
    """A frame to all who have joined, whatever a sender sends."""

    def then(self, data: bytes) -> Canned:
        return Joined() if data.startswith(b"GET /join") else Sender()


class Joined(Canned):
    room: "set[asyncio.Transport]" = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.room.add(transport)

    def data_received(self, data: bytes) -> None:
        """A receiver says nothing."""


class Sender(Canned):
    frame = server_frame(ROOM_MESSAGE)

    def data_received(self, data: bytes) -> None:
        for transport in Joined.room:
            transport.write(self.frame)


CANNED: dict[str, type[Canned]] = {
    **dict.fromkeys(("hello", "browser", "api", "unique", "proxy", "pipelined", "idle_http"), Answering),
    "connect": Closing,
    "post": Posted,
    "sse": Streaming,
    "startup": Modules,
    **dict.fromkeys(("upload_4k", "upload_64k", "upload_1m", "upload_length"), Uploading),
    **dict.fromkeys(("download_4k", "download_64k", "download_1m"), Downloading),
    **dict.fromkeys(("ws_echo", "idle_ws"), echoing(ECHOED)),
    "ws_large": echoing(LARGE),
    "ws_broadcast": Broadcasting,
}


async def serve(workload: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(CANNED[workload], "127.0.0.1", port, backlog=2048) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
