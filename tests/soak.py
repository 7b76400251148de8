"""A soak: mixed traffic, good and bad, for as long as one likes, and what of it stays behind in the server.

    python -m tests.soak [--seconds 60] [--loop asyncio|uvloop] [--seed 1] [--clients 50] [--tls] [--only KIND]
        [--growth 8] [--keep-free]

The server is a process of its own. A number of clients do one thing after another, each chosen by chance (the
same for the same seed): see KINDS. First comes a warm-up, in which the server makes what it makes once, and
all clients leave. Then they come back for the time that was asked for, and leave again. The table has:

    at rest, before    after the warm-up, without clients
    highest            of the samples, one a second, while there were clients
    trend              the median of the last fifth of the samples less that of the first
    at rest, after     when the clients had left

of: memory (RSS in MiB), descriptors, tasks of the event loop, calls of the application, objects that the
garbage collector knows (at rest only), and blocks of memory that Python has given out. Memory is what is in
use: with each sample malloc gives back to the system what is free, unless --keep-free is given. How much it
keeps by itself is a matter of chance, and grows for minutes though nothing stays behind: by 10 MiB in five.

Then comes what was done how often, and what was wrong. The exit code is 1 when there was an answer that was
not to be expected, a traceback in the server's log, a descriptor, task or call at rest that was not there
before, or more than --growth MiB of memory: at rest, or as a trend. Where memory grows, PYTHONTRACEMALLOC=10
in the environment shows at the end what has.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from statistics import median

import websockets
from websockets.asyncio.client import connect

from .benchmarks.served import MIB, Served, add_server_options, table, tls_for

SAMPLE = 1.0  # seconds between two samples
REST = 15.0  # the most that it takes until the server has seen that all have left
PATIENCE = 60.0  # the most that one thing takes
PAUSE = 0.02  # seconds between two things of one client, on average
WARM_UP = 10.0  # seconds at the most, and a fifth of the soak
MAX_MESSAGE = 2**20
# Short time limits are reached, too. A busy machine needs some time itself.
OPTIONS = (
    *("--timeout-head", "3", "--timeout-body", "3", "--timeout-keep-alive", "3"),
    *("--ws-ping-interval", "1", "--ws-ping-timeout", "10", "--ws-max-size", str(MAX_MESSAGE)),
)
RESET = struct.pack("ii", 1, 0)


class Unexpected(Exception):
    """The server did what it should not have done."""


def expect(condition, what):
    if not condition:
        raise Unexpected(what)


# ---- a client's connection, by hand ----


class Wire:
    """A TCP or TLS connection to the server; closed at the end of its `async with`."""

    def __init__(self, port, tls):
        self.port = port
        self.tls = tls

    async def __aenter__(self):
        name = None if self.tls is None else "localhost"
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname=name, limit=2**20
        )
        return self

    async def __aexit__(self, *error):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, *pieces):
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def head(self):
        """(status, headers) of the next answer, whatever its status."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        expect(re.match(r"HTTP/1\.1 \d\d\d ", line), f"a status line {line!r}")
        return int(line[9:12]), dict(each.lower().split(": ", 1) for each in lines)

    async def body(self, headers):
        """The body behind such a head."""
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append(await self.reader.readexactly(size))
                expect(await self.reader.readexactly(2) == b"\r\n", "a chunk without its end")
            expect(await self.reader.readuntil(b"\r\n") == b"\r\n", "trailers")
            return b"".join(parts)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def answer(self, status=200):
        """The body of the next answer, which is to have this status."""
        found, headers = await self.head()
        body = await self.body(headers)
        expect(found == status, f"{found} in place of {status}: {body[:80]!r}")
        return body

    async def end(self):
        """The server closes, and sends nothing before."""
        rest = await self.reader.read()
        expect(rest == b"", f"{len(rest)} bytes before the end: {rest[:80]!r}")

    async def upgrade(self, path, *lines):
        """Become a WebSocket."""
        key = base64.b64encode(os.urandom(16))
        await self.send(handshake(path, key, *lines))
        status, headers = await self.head()
        expect(status == 101, f"{status} in place of 101")
        accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        expect(headers["sec-websocket-accept"] == base64.b64encode(accept).decode().lower(), "another key")

    async def frame(self):
        """(opcode, payload) of the server's next frame."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)

    async def close_frame(self):
        """The code of the close frame, which comes some time."""
        opcode = None
        while opcode != CLOSE:
            opcode, payload = await self.frame()
        return struct.unpack("!H", payload[:2])[0] if payload else 1005


def get(path="/", *lines):
    return request("GET", path, *lines)


def request(method, path, *lines, version="1.1"):
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def handshake(path, key=b"AAAAAAAAAAAAAAAAAAAAAA==", *lines):
    return get(
        path,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
        *lines,
    )


def chunks(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(opcode, payload=b"", first=0x80, masked=0x80):
    """A client's frame; its mask is 0, so that the payload stands in it as it is."""
    size = len(payload)
    if size < 126:
        length = bytes([masked | size])
    elif size < 2**16:
        length = bytes([masked | 126]) + struct.pack("!H", size)
    else:
        length = bytes([masked | 127]) + struct.pack("!Q", size)
    return bytes([first | opcode]) + length + (bytes(4) if masked else b"") + payload


def some_bytes(chance, most):
    """From none to so many bytes, small ones more often; half of them are easy to compress."""
    size = int(most ** chance.random())
    return chance.randbytes(size) if chance.random() < 0.5 else bytes([chance.randrange(256)]) * size


def cut(chance, data):
    """The data in up to five pieces."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(5)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


# ---- what clients do: (wire, chance), on a connection of its own ----


async def fresh(wire, chance):
    await wire.send(get("/", "Connection: close"))
    expect(await wire.answer() == b"hello", "another body")
    await wire.end()


async def keep_alive(wire, chance):
    for _ in range(chance.randrange(1, 20)):
        await wire.send(*cut(chance, get()))
        expect(await wire.answer() == b"hello", "another body")


async def kept_idle(wire, chance):
    """Longer than the server keeps it."""
    await wire.send(get())
    await wire.answer()
    await wire.end()


async def silent(wire, chance):
    await wire.end()


async def pipelined(wire, chance):
    # Each takes two turns of the server's loop at least, and those are long on a busy machine.
    count = chance.randrange(2, 50)
    await wire.send(get() * (count - 1) + get("/", "Connection: close"))
    for _ in range(count):
        expect(await wire.answer() == b"hello", "another body")
    await wire.end()


async def upload(wire, chance):
    data = some_bytes(chance, 2**20)
    await wire.send(request("POST", "/length", f"Content-Length: {len(data)}") + data)
    expect(await wire.answer() == b"%d" % len(data), "another length")
    await wire.send(get())
    await wire.answer()


async def echo(wire, chance):
    """Chunked both ways, at the same time."""
    parts = [some_bytes(chance, 100_000) or b"x" for _ in range(chance.randrange(1, 10))]
    sending = asyncio.create_task(
        wire.send(request("POST", "/echo", "Transfer-Encoding: chunked"), *cut(chance, chunks(*parts)))
    )
    try:
        expect(await wire.answer() == b"".join(parts), "another body")
    finally:
        await sending


async def upload_unread(wire, chance):
    """To an application that answers without the body."""
    data = some_bytes(chance, 100_000)
    await wire.send(request("POST", "/", f"Content-Length: {len(data)}") + data)
    expect(await wire.answer() == b"hello", "another body")


async def upload_stalled(wire, chance):
    await wire.send(request("POST", "/length", "Content-Length: 100") + bytes(50))
    await wire.answer(408)
    await wire.end()


async def head_stalled(wire, chance):
    await wire.send(get()[: chance.randrange(1, 20)])
    await wire.answer(408)
    await wire.end()


async def download(wire, chance):
    total, piece = len(some_bytes(chance, 2**22)), chance.choice((100, 65536, 2**20))
    total = min(total, piece * 500)
    await wire.send(get(f"/download?total={total}&piece={piece}&length={chance.randrange(2)}"))
    if total == 0:
        return  # the application has a body of nothing to send, and ends without
    expect(len(await wire.answer()) == total, "another length")


async def download_slowly(wire, chance):
    await wire.send(get("/download?total=10000000"))
    status, _ = await wire.head()
    expect(status == 200, f"{status} in place of 200")
    for _ in range(20):
        await wire.reader.read(1000)
        await asyncio.sleep(0.05)


async def events(wire, chance):
    """Left in the middle."""
    await wire.send(get("/events"))
    await wire.head()
    for _ in range(chance.randrange(10)):
        await wire.reader.readuntil(b"data: x\n\n")
    if chance.random() < 0.5:
        wire.reset()


async def abort(wire, chance):
    """A reset in the middle of a request."""
    whole = chance.choice(
        (get("/echo"), request("POST", "/echo", "Content-Length: 1000") + bytes(1000), handshake("/echo"))
    )
    await wire.send(whole[: chance.randrange(1, len(whole))])
    await asyncio.sleep(chance.random() * 0.01)
    wire.reset()


async def abort_answer(wire, chance):
    """A reset in the middle of an answer."""
    await wire.send(get("/download?total=10000000"))
    await wire.reader.readexactly(chance.randrange(1, 100_000))
    wire.reset()


async def half_close(wire, chance):
    await wire.send(get() * chance.randrange(1, 5) + get("/", "Connection: close"))
    wire.writer.write_eof()
    expect((await wire.answer()) == b"hello", "another body")
    await wire.reader.read()


async def half_close_within(wire, chance):
    whole = request("POST", "/echo", "Content-Length: 1000") + bytes(1000)
    await wire.send(whole[: chance.randrange(1, len(whole) - 1)])
    wire.writer.write_eof()
    await wire.reader.read()


async def slow(wire, chance):
    """A few bytes after the others."""
    for piece in cut(chance, get()):
        await wire.send(piece)
        await asyncio.sleep(0.1)
    expect(await wire.answer() == b"hello", "another body")


async def asking_first(wire, chance):
    """Expect: 100-continue."""
    data = some_bytes(chance, 10_000) + b"x"
    await wire.send(request("POST", "/length", f"Content-Length: {len(data)}", "Expect: 100-continue"))
    status, _ = await wire.head()
    expect(status == 100, f"{status} in place of 100")
    await wire.send(data)
    expect(await wire.answer() == b"%d" % len(data), "another length")


async def old(wire, chance):
    """HTTP/1.0: the end of the connection is that of the body."""
    await wire.send(request("GET", "/download?total=1000", version="1.0"))
    expect(await wire.answer() == bytes(1000), "another body")
    await wire.end()


async def missing(wire, chance):
    await wire.send(request(chance.choice(("GET", "DELETE", "PATCH")), "/missing"))
    expect(await wire.answer(404) == b"no such path", "another body")


async def malformed(wire, chance):
    await wire.send(chance.choice(MALFORMED))
    status, headers = await wire.head()
    expect(400 <= status < 600 and status != 500, f"{status} for a request against the rules")
    await wire.body(headers)
    await wire.end()


MALFORMED = (
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + bytes(10) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    handshake("/echo").replace(b"Version: 13", b"Version: 8"),
    handshake("/echo", b"short"),
    handshake("/echo").replace(b"GET", b"POST"),
)


async def garbage(wire, chance):
    """Bytes by chance: the server may make of them what it likes."""
    with contextlib.suppress(OSError):
        await wire.send(*cut(chance, chance.randbytes(chance.randrange(1, 5000))))
        await asyncio.sleep(chance.random() * 0.05)


async def ws_frames(wire, chance):
    """Echoes by hand, in pieces, with pings between them; then a close with a code, or without, or none."""
    await wire.upgrade("/echo")
    for _ in range(chance.randrange(20)):
        data = some_bytes(chance, 10_000)
        await wire.send(*cut(chance, frame(PING, b"ping") + frame(BINARY, data)))
        expected = [(10, b"ping"), (BINARY, data)]
        while expected:
            found = await wire.frame()
            if found[0] != PING:  # the server's own
                expect(found == expected.pop(0), f"a frame {found[0]} of {len(found[1])} bytes")
    end = chance.randrange(4)
    if end == 0:
        await wire.send(frame(CLOSE, struct.pack("!H", 4321) + b"enough"))
        expect(await wire.close_frame() == 4321, "another code")
        await wire.end()
    elif end == 1:
        await wire.send(frame(CLOSE))
        expect(await wire.close_frame() == 1005, "another code")
        await wire.end()
    elif end == 2:
        wire.reset()


async def ws_malformed(wire, chance):
    await wire.upgrade("/echo")
    bad, code = chance.choice(BAD_FRAMES)
    await wire.send(bad)
    found = await wire.close_frame()
    expect(found == code, f"closed with {found} in place of {code}")
    await wire.end()


BAD_FRAMES = (
    (frame(TEXT, b"hello", masked=0), 1002),
    (frame(3), 1002),
    (frame(0, b"x"), 1002),
    (frame(TEXT, b"x", first=0xC0), 1002),
    (frame(PING, first=0), 1002),
    (frame(PING, bytes(126)), 1002),
    (frame(CLOSE, b"\0"), 1002),
    (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    (frame(TEXT, b"\xff"), 1007),
    (frame(BINARY, bytes(MAX_MESSAGE + 1)), 1009),
)


async def ws_abort(wire, chance):
    """A reset in the middle of a message."""
    await wire.upgrade("/echo")
    whole = frame(BINARY, some_bytes(chance, 100_000))
    await wire.send(whole[: chance.randrange(1, len(whole))])
    wire.reset()


async def ws_half_close(wire, chance):
    await wire.upgrade("/echo")
    wire.writer.write_eof()
    while not wire.reader.at_eof():
        await wire.reader.read(1000)


async def ws_left_in_download(wire, chance):
    await wire.upgrade("/download?total=10000000")
    await wire.reader.readexactly(chance.randrange(1, 100_000))
    if chance.random() < 0.5:
        wire.reset()


async def ws_not_answering_close(wire, chance):
    await wire.upgrade("/close?code=4000")
    await wire.send(frame(TEXT, b"close"))
    expect(await wire.close_frame() == 4000, "another code")


async def ws_denied(wire, chance):
    await wire.send(handshake("/nowhere"))
    await wire.answer(403)
    await wire.end()


def url_of(wire, path):
    return f"{'ws' if wire.tls is None else 'wss'}://localhost:{wire.port}{path}"


def client_of(wire, path, **options):
    """A client by the websockets library."""
    return connect(url_of(wire, path), host="127.0.0.1", ssl=wire.tls, proxy=None, **options)


async def ws_echo(wire, chance):
    """Text and binary messages, compressed or not; the library answers pings, and closes."""
    compression = chance.choice((None, "deflate"))
    async with client_of(wire, "/echo", compression=compression, max_size=MAX_MESSAGE) as websocket:
        for _ in range(chance.randrange(10)):
            data = some_bytes(chance, MAX_MESSAGE // 2)
            message = chance.choice((data, data.decode("latin-1")))
            await websocket.send(message)
            expect(await websocket.recv() == message, "another message")


async def ws_idle(wire, chance):
    """Open for longer than the time between two pings."""
    async with client_of(wire, "/echo") as websocket:
        await asyncio.sleep(1.5)
        await websocket.send("still here")
        expect(await websocket.recv() == "still here", "another message")


async def ws_download(wire, chance):
    count, got = chance.randrange(1, 50), 0
    async with client_of(wire, f"/download?total={count * 65536}") as websocket:
        async for message in websocket:
            got += len(message)
        expect(got == count * 65536, "another length")
        expect(websocket.close_code == 1000, f"closed with {websocket.close_code}")


async def ws_closed(wire, chance):
    code = chance.choice((1000, 1001, 3000, 4999))
    async with client_of(wire, f"/close?code={code}") as websocket:
        await websocket.send("close")
        with contextlib.suppress(websockets.ConnectionClosed):
            await websocket.recv()
        expect(websocket.close_code == code, f"closed with {websocket.close_code} in place of {code}")


# How often each is chosen, beside the others.
KINDS = {
    fresh: 10,
    keep_alive: 10,
    kept_idle: 1,
    silent: 1,
    pipelined: 3,
    upload: 5,
    echo: 5,
    upload_unread: 3,
    upload_stalled: 1,
    head_stalled: 1,
    download: 5,
    download_slowly: 1,
    events: 3,
    abort: 5,
    abort_answer: 3,
    half_close: 2,
    half_close_within: 2,
    slow: 1,
    asking_first: 3,
    old: 2,
    missing: 2,
    malformed: 5,
    garbage: 3,
    ws_frames: 5,
    ws_malformed: 3,
    ws_abort: 3,
    ws_half_close: 2,
    ws_left_in_download: 2,
    ws_not_answering_close: 1,
    ws_denied: 2,
    ws_echo: 5,
    ws_idle: 1,
    ws_download: 2,
    ws_closed: 3,
}
BY_LIBRARY = {ws_echo, ws_idle, ws_download, ws_closed}  # on a connection that the library opens
NOT_WITH_TLS = {half_close, half_close_within, ws_half_close}  # which has no half-closed connections


# ---- the soak ----


class Soak:
    """All clients, and what they have seen."""

    def __init__(self, server, arguments):
        self.server = server
        self.arguments = arguments
        self.kinds = {
            kind: weight
            for kind, weight in KINDS.items()
            if arguments.only in kind.__name__ and not (server.tls and kind in NOT_WITH_TLS)
        }
        self.done = Counter()  # by the name of what was done
        self.unexpected = Counter()  # by a line of text
        self.samples = []

    async def traffic(self, seconds, seed):
        """Have all clients at work for so long; return when the last one has left."""
        end = time.monotonic() + seconds
        sampling = asyncio.create_task(self.sample())
        clients = range(self.arguments.clients)
        await asyncio.gather(*(self.client(random.Random(f"{seed} {each}"), end) for each in clients))
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling

    async def client(self, chance, end):
        kinds, weights = list(self.kinds), list(self.kinds.values())
        while time.monotonic() < end:
            (kind,) = chance.choices(kinds, weights)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.act(kind, chance)
            except Exception as error:
                self.unexpected[f"{kind.__name__}: {type(error).__name__}: {error}"[:300]] += 1
            self.done[kind.__name__] += 1
            await asyncio.sleep(chance.expovariate(1 / PAUSE))

    async def act(self, kind, chance):
        wire = Wire(self.server.port, self.server.tls)
        if kind in BY_LIBRARY:
            await kind(wire, chance)
        else:
            async with wire:
                await kind(wire, chance)

    async def sample(self):
        while True:
            self.samples.append(await asyncio.to_thread(self.look))
            await asyncio.sleep(SAMPLE)

    def look(self, query="?"):
        """The figures of the table."""
        status = self.server.status(query if self.arguments.keep_free else f"{query}&trim=1")
        return {
            "memory": self.server.rss / MIB,
            "descriptors": self.server.descriptors,
            **{name: status[name] for name in ("tasks", "calls", "objects", "blocks")},
        }

    def rest(self, before=None):
        """The figures without clients: as soon as they are those of before, or do not change any more."""
        end = time.monotonic() + REST
        last = None
        while True:
            found = self.look("?collect=1")
            open_now = [found[name] for name in COUNTED]
            aim = last if before is None else [before[name] for name in COUNTED]
            if aim is not None and open_now == aim and (before is not None or found["calls"] == 0):
                return found
            if time.monotonic() > end:
                return found
            last = open_now
            time.sleep(SAMPLE / 4)


COUNTED = ("descriptors", "tasks", "calls")


def trend(samples, name):
    """The median of the last fifth of the samples less that of the first."""
    size = max(1, len(samples) // 5)
    first, last = samples[:size], samples[-size:]
    return median(each[name] for each in last) - median(each[name] for each in first)


def report(soak, before, after):
    """Print what was found; what of it is wrong."""
    samples = soak.samples
    rows = []
    for name in before:
        digits = 1 if name == "memory" else 0
        highest, tended = max(each[name] for each in samples), trend(samples, name)
        row = [f"{before[name]:.{digits}f}", f"{highest:.{digits}f}", f"{tended:+.{digits}f}"]
        if name == "objects":  # counted at rest only
            row[1:] = ["", ""]
        rows.append([name, *row, f"{after[name]:.{digits}f}"])
    print(table(("", "at rest, before", "highest", "trend", "at rest, after"), rows))
    print("; ".join(f"{name}: {count}" for name, count in sorted(soak.done.items())))
    growth = soak.arguments.growth
    wrong = [f"{count} x {text}" for text, count in soak.unexpected.most_common(30)]
    wrong += [
        f"{after[name] - before[name]:+.0f} {name} at rest" for name in COUNTED if after[name] > before[name]
    ]
    if after["memory"] - before["memory"] > growth:
        wrong.append(f"{after['memory'] - before['memory']:+.1f} MiB of memory at rest")
    if trend(samples, "memory") > growth:
        wrong.append(f"{trend(samples, 'memory'):+.1f} MiB of memory as a trend")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_server_options(parser)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--growth", type=float, default=8.0, help="MiB that memory may grow by")
    parser.add_argument("--keep-free", action="store_true", help="leave it to malloc what it gives back")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--only", default="", help="what has this text in its name")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tls_options, tls = tls_for(folder) if arguments.tls else ((), None)
        with Served.of(arguments, *OPTIONS, *tls_options, tls=tls) as server:
            soak = Soak(server, arguments)
            asyncio.run(soak.traffic(min(WARM_UP, arguments.seconds / 5), f"{arguments.seed} warm-up"))
            before = soak.rest()
            soak.samples.clear()
            tracing = os.environ.get("PYTHONTRACEMALLOC")
            if tracing:
                server.get("/allocations")
            asyncio.run(soak.traffic(arguments.seconds, arguments.seed))
            after = soak.rest(before)
            wrong = report(soak, before, after)
            if tracing:
                print(server.get("/allocations").decode())
    print(json.dumps({"seed": arguments.seed, "loop": arguments.loop, "seconds": arguments.seconds}))
    told = Counter(re.sub(r"\d+", "N", line) for line in server.lines if " ERROR " in line)
    wrong += [f"{count} x in the server's log: {line}" for line, count in told.most_common(10)]
    if server.tracebacks:
        wrong.append(f"{server.tracebacks} tracebacks in the server's log; its last lines:")
        wrong += list(server.lines)[-50:]
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
