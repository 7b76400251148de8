"""Backpressure: what a process grows by when one side sends without end and the other takes nothing.

    python -m tests.benchmarks.backpressure [--loop asyncio|uvloop] [--connections 10] [--megabytes 500]
        [--seconds 10] [--only TEXT] [--server miniasgi|uvicorn|hypercorn|daphne|COMMAND]

Each case has a server of its own. A number of connections do the same thing at once, until nothing moves any
more for a second, or the time is over. Meanwhile a healthy client asks every 50 ms. Then all of them leave.
The promise is that a process grows by less than 2 MiB a connection, and that nothing is left open behind them:
if it is broken the exit code is 1. The columns, all of MB, MiB and counts:

    client sent   a connection: what the client's socket has taken; a few MB lie in the kernel's own buffers
    app sent      a connection: what the application's send() has taken
    app got       a connection: what the application was given by receive()
    growth        a connection: the most that the process had grown by
    kept          a connection: what of that growth was still there when the clients had left
    left          descriptors and calls of the application that were there too many then
    median, worst what the healthy client waited for an answer, in ms: on a fresh connection or a kept one;
                  both without the time in which other processes had the processor
    noise         the worst of what it waited in the same time for itself, without a server
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .healthy import LESS, Healthy, at
from .served import MB, MIB, Served, add_server_options, table

PROMISED_GROWTH = 2 * MIB  # a connection
STILL = 1.0  # nothing moves any more: for so many seconds
REST = 10.0  # the server may take so long to see that all clients have left
PATIENCE = 10.0  # the most that an answer may take meanwhile
SAMPLE = 0.1  # seconds between two looks at the process
INTERVAL = 0.05  # seconds between two requests of the healthy client
PIECE = 64 * 1024


class Case(NamedTuple):
    """What each of the connections does."""

    name: str
    opening: bytes  # what the client begins with
    pieces: Callable[[], Iterator[bytes]] = lambda: iter(())  # what it sends then, without an end
    upgrade: bool = False  # it waits for the 101 in between


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, header: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode()


def websocket(path: str, extensions: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extensions}\r\n"
    ).encode()


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
BINARY, PING = 0x82, 0x89
COMPRESSED = 0x40


def frame(first: int, data: bytes) -> bytes:
    """A whole frame of a client, masked with zeros: so the data stands in it as it is."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 2**16:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([first]) + length + bytes(4) + data


def deflated(data: bytes) -> bytes:
    """A compressed message that needs nothing of the messages before it (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def over_and_over(piece: bytes) -> Callable[[], Iterator[bytes]]:
    """The same bytes without an end, in pieces that are worth a system call."""
    many = piece * max(1, PIECE // len(piece))
    return lambda: itertools.repeat(many)


def cases(total: int) -> list[Case]:
    letters = bytes(random.Random(1).choices(b"abcdefghijklmnop", k=PIECE))  # compressed: half of it
    chunk = b"%x\r\n" % PIECE + bytes(PIECE) + b"\r\n"
    download = f"/download?total={total}&piece={PIECE}"
    large = f"/download?total={total}&piece={MIB}"
    small = "/download?total=1000&length=1"
    return [
        Case("download, chunked, 64 KiB", get(download)),
        Case("download, chunked, 1 MiB", get(large)),
        Case("download, length, 64 KiB", get(f"{download}&length=1")),
        Case("download, length, 1 MiB", get(f"{large}&length=1")),
        Case("upload, length", post("/wait", f"Content-Length: {total}"), over_and_over(bytes(PIECE))),
        Case("upload, chunked", post("/wait", "Transfer-Encoding: chunked"), over_and_over(chunk)),
        Case("WebSocket, to the client", websocket(download), upgrade=True),
        Case(
            "WebSocket, to the application",
            websocket("/wait"),
            over_and_over(frame(BINARY, bytes(PIECE))),
            upgrade=True,
        ),
        Case(
            "WebSocket, compressed 1:2",
            websocket("/wait", DEFLATE),
            over_and_over(frame(BINARY | COMPRESSED, deflated(letters))),
            upgrade=True,
        ),
        Case(
            "WebSocket, compressed 1:900",
            websocket("/wait", DEFLATE),
            over_and_over(frame(BINARY | COMPRESSED, deflated(bytes(PIECE)))),
            upgrade=True,
        ),
        Case(
            "WebSocket, messages of 1 byte",
            websocket("/wait"),
            over_and_over(frame(BINARY, b"x")),
            upgrade=True,
        ),
        Case("WebSocket, pings", websocket("/echo"), over_and_over(frame(PING, bytes(125))), upgrade=True),
        Case("pipelined, no answers", get("/wait"), over_and_over(get("/wait"))),
        Case("pipelined, answers not taken", get(small), over_and_over(get(small))),
    ]


class Sender:
    """One connection: it sends what its case says, up to a total, and takes nothing that comes."""

    def __init__(self, case: Case, port: int, total: int) -> None:
        self.case = case
        self.port = port
        self.total = total
        self.sent = 0
        self.sock = socket.socket()
        self.sock.setblocking(False)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):  # a server may close on such a client
            await loop.sock_connect(self.sock, ("127.0.0.1", self.port))
            await self.write(self.case.opening)
            if self.case.upgrade:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    data = await loop.sock_recv(self.sock, 1)
                    if not data:
                        raise SystemExit(f"{self.case.name}: no WebSocket, but {head!r}")
                    head += data
                if not head.startswith(b"HTTP/1.1 101 "):
                    raise SystemExit(f"{self.case.name}: no WebSocket, but {head!r}")
            for piece in self.case.pieces():
                if self.sent >= self.total:
                    break
                await self.write(piece)
                await asyncio.sleep(0)  # a fast server would leave the others no turn
            await asyncio.Event().wait()

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                done = self.sock.send(view)
            except BlockingIOError:
                await self.writable()
            else:
                self.sent += done
                view = view[done:]

    async def writable(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.add_writer(self.sock, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            loop.remove_writer(self.sock)


class Pressure:
    """What a case does to a server. Bytes are those of all connections together, and since before they came."""

    def __init__(self, server: Served, case: Case) -> None:
        self.server = server
        self.case = case
        server.patience = PATIENCE
        self.before = server.status("?collect=1")
        self.memory = server.rss  # at the start
        self.descriptors = server.descriptors
        self.client_sent = self.app_sent = self.app_got = 0
        self.growth = 0  # the most that there was
        self.kept = 0  # of the growth, when the clients had left
        self.unanswered = False  # it did not even say how it is, within PATIENCE
        self.left = (0, 0)  # descriptors and calls that are there too many then

    async def press(self, connections: int, total: int, seconds: float) -> None:
        """Have all connections at work until nothing moves, then away."""
        senders = [Sender(self.case, self.server.port, total) for _ in range(connections)]
        tasks = [asyncio.create_task(sender.run()) for sender in senders]
        try:
            end = time.monotonic() + seconds
            moved, seen = time.monotonic(), -1
            while time.monotonic() < min(end, moved + STILL):
                began, busy = time.monotonic(), self.server.busy
                await asyncio.sleep(SAMPLE)
                self.growth = max(self.growth, self.server.rss - self.memory)
                status = await asyncio.to_thread(self.server.status)
                self.client_sent = sum(sender.sent for sender in senders)
                self.app_sent = status["sent"] - self.before["sent"]
                self.app_got = status["received"] - self.before["received"]
                moving = self.client_sent + self.app_sent + self.app_got
                # A server at work moves something: TCP tells the sender late that there is room again.
                at_work = (self.server.busy - busy) / (time.monotonic() - began)
                if moving != seen or at_work > 0.5:
                    moved, seen = time.monotonic(), moving
                for task in tasks:
                    if task.done():
                        task.result()
        except TimeoutError:
            self.unanswered = True
        finally:
            for sender, task in zip(senders, tasks, strict=True):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                sender.sock.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.to_thread(self.server.get, "/release")
        await asyncio.sleep(STILL)  # what the healthy client sees of this is in its figures

    def rest(self) -> None:
        """Wait until the server has seen that the clients have left, and look at what is left of them."""
        end = time.monotonic() + REST
        while True:
            with contextlib.suppress(TimeoutError):
                calls = self.server.status("?collect=1")["calls"] - self.before["calls"]
                self.left = (self.server.descriptors - self.descriptors, calls)
                if max(self.left) <= 0:
                    break
                self.server.get("/release")
            if time.monotonic() > end:
                break
            time.sleep(SAMPLE)
        self.kept = self.server.rss - self.memory


HEAD = (
    "case",
    "client sent",
    "app sent",
    "app got",
    "growth",
    "kept",
    "left",
    "median",
    "worst",
    "noise",
)


def measure(case: Case, arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """(the row of the table, what is wrong)."""
    count = arguments.connections
    with Served.of(arguments) as server:
        for _ in range(20):  # whatever a first request makes once
            server.status("?collect=1")
        pressure = Pressure(server, case)
        with Healthy(server, INTERVAL) as healthy:
            asyncio.run(pressure.press(count, int(arguments.megabytes * MB), arguments.seconds))
        pressure.rest()
    growth, left = pressure.growth / count / MIB, pressure.left
    bytes_moved = (pressure.client_sent, pressure.app_sent, pressure.app_got)
    row = [
        case.name,
        *(f"{each / count / MB:.2f}" for each in bytes_moved),
        f"{growth:.2f}",
        f"{max(pressure.kept, 0) / count / MIB:.2f}",
        f"{left[0]} {left[1]}",
        "/".join(f"{at(healthy.samples[kind + LESS], 0.5):.1f}" for kind in ("fresh", "kept")),
        "/".join(f"{at(healthy.samples[kind + LESS], 1):.0f}" for kind in ("fresh", "kept")),
        f"{at(healthy.samples['itself'], 1):.0f}",
    ]
    wrong = [f"a healthy client: {error}" for error in healthy.errors[:3]]
    if pressure.unanswered:
        wrong.append(f"no answer to anybody within {PATIENCE:g} s")
    if growth * MIB >= PROMISED_GROWTH:
        wrong.append(f"the process grew by {growth:.2f} MiB a connection")
    if max(left) > 0:
        wrong.append(f"{left[0]} descriptors and {left[1]} calls of the application were left")
    if server.tracebacks:
        wrong.append(f"{server.tracebacks} tracebacks in the log:\n" + "\n".join(server.lines))
    return row, [f"{case.name}: {each}" for each in wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_server_options(parser)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--megabytes", type=float, default=500.0, help="what each side would send")
    parser.add_argument("--seconds", type=float, default=10.0, help="the most that a case takes")
    parser.add_argument("--only", default="", help="the cases with this text in their name")
    arguments = parser.parse_args()
    rows, wrong = [], []
    for case in cases(int(arguments.megabytes * MB)):
        if arguments.only in case.name:
            row, found = measure(case, arguments)
            rows.append(row)
            wrong += found
    print(f"{arguments.server}, {arguments.loop}, {arguments.connections} connections")
    print(table(HEAD, rows))
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
