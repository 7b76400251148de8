"""Who asks: wrk, and lean clients of the benchmark's own where wrk cannot.

All of them run on the processor of the benchmark. What a client receives is counted, not read: it was verified
before, by `answers` and `receive_message`. Each load says how much of a processor it used: far from 1, it was not
what limited the server.
"""

import contextlib
import os
import re
import resource
import select
import shutil
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h11
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage

from .traffic import COUNTER, Request

PATIENCE = 20.0  # seconds for one answer
REPLAY = Path(__file__).with_name("replay.lua")
CHUNK = 65536  # bytes that a client writes, or takes, at a time


class Wrong(Exception):
    """A server's answer is not the one that is expected."""


class Unsupported(Exception):
    """The server says that it does not have what is measured."""


class Load(NamedTuple):
    """What was answered."""

    units: float  # requests, messages, bytes
    seconds: float
    errors: int
    share: float  # of a processor that the client used


# ---- one answer after another, looked at ----


def connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def answers(port: int, data: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    """(status, body) of each answer to `count` requests that are sent at once. Wrong if there are fewer."""
    connection = h11.Connection(h11.CLIENT)
    with connected(port) as sock:
        sock.sendall(data)
        return [one_answer(connection, sock) for _ in range(count)]


def one_answer(connection: h11.Connection, sock: socket.socket) -> tuple[int, bytes]:
    """(status, body) of the answer to a request that was sent. Wrong if it breaks HTTP's rules, or ends too early."""
    try:
        if connection.our_state is not h11.IDLE:
            connection.start_next_cycle()
        connection.send(ANY_REQUEST)
        connection.send(h11.EndOfMessage())
        return read_answer(connection, sock)
    except h11.ProtocolError as error:
        raise Wrong(f"this is no answer: {error}") from error


def first_answer(sock: socket.socket) -> tuple[int, bytes]:
    """The same, of a connection on which nothing was asked before."""
    return one_answer(h11.Connection(h11.CLIENT), sock)


ANY_REQUEST = h11.Request(
    method="GET", target="/", headers=[("Host", "x")]
)  # h11 reads answers to what it wrote


def read_answer(connection: h11.Connection, sock: socket.socket) -> tuple[int, bytes]:
    status, body = 0, []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(sock.recv(CHUNK))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return status, b"".join(body)
        else:
            raise Wrong(f"the connection ended within an answer of {status}: {event!r}")


# ---- wrk ----

REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m),")
NON_2XX = re.compile(r"Non-2xx or 3xx responses: (\d+)")
SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def wrk(port: int, requests: Iterable[Request], connections: int, pipelined: int, seconds: float) -> Load:
    """The requests over and over on so many connections; wrk counts whole seconds, and at least one."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: install it from your system's packages")
    with tempfile.NamedTemporaryFile() as file:
        for each in requests:
            file.write(b"%d\n" % len(each.data) + each.data)
        file.flush()
        words = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(REPLAY)]
        words += [f"http://127.0.0.1:{port}/", "--", file.name, str(pipelined)]
        before = children_cpu()
        told = subprocess.run(["wrk", *words], check=True, capture_output=True, text=True).stdout
        used = children_cpu() - before
    return parse_wrk(told, used)


def parse_wrk(told: str, used: float) -> Load:
    """What wrk tells, and how many seconds of a processor it used for it."""
    count, took, unit = REQUESTS.search(told).groups()
    seconds = float(took) * SECONDS[unit]
    refused = sum(int(each[1]) for each in NON_2XX.finditer(told))
    failed = sum(int(number) for each in SOCKET_ERRORS.finditer(told) for number in each.groups())
    return Load(int(count), seconds, refused + failed, used / seconds)


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def counted(data: bytes) -> bytes:
    """The request with a number where the load puts one."""
    return data.replace(COUNTER, b"0123456789abcdef")


# ---- WebSocket ----

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3


def event_of(message: str | bytes) -> TextMessage | BytesMessage:
    return TextMessage(message) if isinstance(message, str) else BytesMessage(message)


def server_frame(message: str | bytes) -> bytes:
    return Connection(ConnectionType.SERVER).send(event_of(message))


def client_frame(message: str | bytes) -> bytes:
    return Connection(ConnectionType.CLIENT).send(event_of(message))


# What a browser offers, and what makes each message compressed by itself, and so always the same.
AS_BROWSER, BY_ITSELF = "client_max_window_bits", "client_no_context_takeover; server_no_context_takeover"


def websocket(port: int, path: str = "/", deflate: str = "") -> socket.socket:
    """A connection after its handshake. Wrong if it is refused, Unsupported if the compression is."""
    offer = f"Sec-WebSocket-Extensions: permessage-deflate; {deflate}\r\n" if deflate else ""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: www.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n{offer}\r\n"
    )
    sock = connected(port)
    sock.sendall(head.encode())
    told = b""
    while not told.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)  # not a byte of what comes after it
        if not piece:
            break
        told += piece
    if not told.startswith(b"HTTP/1.1 101 ") or ACCEPT not in told:
        sock.close()
        raise Wrong(f"no WebSocket, but {told[:100]!r}")
    if deflate and b"permessage-deflate" not in told:
        sock.close()
        raise Unsupported("no permessage-deflate")
    return sock


def deflated_frame(message: str) -> bytes:
    """The frame of a client's message, compressed by itself (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    payload = compressor.compress(message.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)
    frame = bytearray(client_frame(payload.removesuffix(b"\x00\x00\xff\xff")))
    frame[0] = 0xC1  # FIN and RSV1, of text
    return bytes(frame)


def receive_deflated(sock: socket.socket, message: str) -> int:
    """How long the server's frame is. Wrong if what comes is not this message, compressed, in one frame."""
    header = receive(sock, 2)
    size = header[1]
    if size == 126:
        header += receive(sock, 2)
        size = int.from_bytes(header[2:])
    payload = receive(sock, size)
    inflated = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
    if header[0] != 0xC1 or inflated != message.encode():
        raise Wrong(f"not {message[:40]!r}… compressed, but {header!r} with {inflated[:40]!r}…")
    return len(header) + size


def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer at the end."""
    data = bytearray()
    while len(data) < size and (piece := sock.recv(min(CHUNK, size - len(data)))):
        data += piece
    return bytes(data)


def receive_message(sock: socket.socket, message: str | bytes) -> int:
    """How long the server's frame is. Wrong if what comes is not this message in one frame."""
    expected = server_frame(message)
    got = receive(sock, len(expected))
    if got != expected:
        raise Wrong(f"not {expected[:40]!r}…, but {got[:40]!r}…")
    return len(expected)


class Group:
    """A sender and its receivers: the next message is sent when all of them have the one before."""

    def __init__(self, sender: socket.socket, receivers: list[socket.socket]) -> None:
        self.sender = sender
        self.receivers = receivers
        self.due = 0  # receivers that do not have the message yet
        self.unsent = memoryview(b"")  # of the message
        self.blocked = False  # the kernel takes no more at the moment


class Messages:
    """The load of WebSocket: groups in one loop of epoll. `frame` goes out, `size` bytes come to each receiver."""

    def __init__(self, groups: list[Group], frame: bytes, size: int) -> None:
        self.groups = groups
        self.frame = memoryview(frame)
        self.size = size
        self.group = {each.fileno(): group for group in groups for each in (group.sender, *group.receivers)}
        self.socks = {each.fileno(): each for group in groups for each in (group.sender, *group.receivers)}
        self.left = dict.fromkeys(self.socks, size)  # bytes of its message that have not come, by descriptor
        self.done = 0  # messages that were received
        self.errors = 0
        self.poll = select.epoll()
        self.buffer = bytearray(4 * CHUNK)

    def run(self, seconds: float) -> Load:
        with self.poll:
            for descriptor, sock in self.socks.items():
                sock.setblocking(False)
                self.poll.register(descriptor, select.EPOLLIN)
            began, used = time.perf_counter(), time.process_time()
            for group in self.groups:
                self.begin(group)
            while (now := time.perf_counter()) < began + seconds:
                for descriptor, event in self.poll.poll(0.1):
                    if event & select.EPOLLOUT:
                        self.send(self.group[descriptor])
                    else:
                        self.receive(descriptor)
        return Load(self.done, now - began, self.errors, (time.process_time() - used) / (now - began))

    def begin(self, group: Group) -> None:
        group.due, group.unsent = len(group.receivers), self.frame
        self.send(group)

    def send(self, group: Group) -> None:
        """As much as the kernel takes; the rest when it says that it takes more."""
        with contextlib.suppress(BlockingIOError):
            group.unsent = group.unsent[group.sender.send(group.unsent) :]
        if group.blocked != bool(group.unsent):
            group.blocked = bool(group.unsent)
            writable = select.EPOLLOUT if group.blocked else 0
            self.poll.modify(group.sender, select.EPOLLIN | writable)

    def receive(self, descriptor: int) -> None:
        try:
            got = self.socks[descriptor].recv_into(self.buffer)
        except OSError:
            got = 0
        left = self.left[descriptor] - got
        if not got or left < 0:  # the connection was lost, or this is not what was verified
            self.errors += 1
            self.poll.unregister(descriptor)
        elif left:
            self.left[descriptor] = left
        else:
            self.left[descriptor] = self.size
            self.done += 1
            group = self.group[descriptor]
            group.due -= 1
            if not group.due:
                self.begin(group)


# ---- large bodies, one connection ----


def blocks_of(piece: bytes, total: int) -> Iterator[bytes]:
    """`total` bytes of the piece over and over, in writes that are worth a system call."""
    many = piece * max(1, CHUNK // len(piece))
    for _ in range(total // len(many)):
        yield many
    if rest := total % len(many):
        yield many[:rest]


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + bytes(size) + b"\r\n"


def transfers(port: int, one: "Transfer", seconds: float) -> Load:
    """One after another on one connection until the time is over; the last one to its end.

    Where the server ends the connection within one, that is an error, and the next has another connection.
    """
    began, used, moved, errors = time.perf_counter(), time.process_time(), 0, 0
    while time.perf_counter() < began + seconds:
        try:
            with connected(port) as sock:
                while time.perf_counter() < began + seconds:
                    one.run(sock)
                    moved += one.size
        except OSError:
            errors += 1
    took = time.perf_counter() - began
    return Load(moved, took, errors, (time.process_time() - used) / took)


class Transfer:
    """A body of `size` bytes, one way. `run` raises Wrong unless all of it has gone."""

    def __init__(self, size: int) -> None:
        self.size = size

    def verify(self, port: int) -> None:
        """Wrong unless what comes is what was asked for."""
        with connected(port) as sock:
            self.run(sock)

    def run(self, sock: socket.socket) -> None:
        raise NotImplementedError


class Upload(Transfer):
    """In chunks of `block` bytes, or with a length if that is None; the answer is the size."""

    def __init__(self, size: int, block: int | None) -> None:
        super().__init__(size)
        self.block = block

    def run(self, sock: socket.socket) -> None:
        framing = "Transfer-Encoding: chunked" if self.block else f"Content-Length: {self.size}"
        head = f"POST /?size={self.size} HTTP/1.1\r\nHost: www.example.com\r\n{framing}\r\n\r\n"
        sock.sendall(head.encode())
        for data in self.body():
            sock.sendall(data)
        answer = first_answer(sock)
        if answer != (200, b"%d" % self.size):
            raise Wrong(f"an upload of {self.size} bytes was answered {answer}")

    def body(self) -> Iterator[bytes]:
        if self.block is None:
            yield from blocks_of(bytes(CHUNK), self.size)
        else:
            piece = chunk(self.block)
            yield from blocks_of(piece, self.size // self.block * len(piece))
            yield b"0\r\n\r\n"


class Download(Transfer):
    """What the application sends in messages of `block` bytes, with a length."""

    def __init__(self, size: int, block: int) -> None:
        super().__init__(size)
        self.request = f"GET /?size={size}&block={block} HTTP/1.1\r\nHost: www.example.com\r\n\r\n".encode()
        self.buffer = bytearray(16 * CHUNK)

    def verify(self, port: int) -> None:
        status, body = answers(port, self.request)[0]
        if (status, body) != (200, bytes(self.size)):
            raise Wrong(f"the answer is {status} with {len(body)} bytes, and not {self.size} that are zero")

    def run(self, sock: socket.socket) -> None:
        sock.sendall(self.request)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(CHUNK)
            if not piece:
                raise Wrong(f"the connection ended within a head: {head[:100]!r}")
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or b"content-length: %d" % self.size not in head.lower():
            raise Wrong(f"a download of {self.size} bytes was answered {head!r}")
        left = self.size - len(body)
        while left > 0:
            got = sock.recv_into(self.buffer)
            if not got:
                raise Wrong(f"a download of {self.size} bytes ended {left} bytes before")
            left -= got
        if left:
            raise Wrong(f"a download of {self.size} bytes had {-left} more")


# ---- connections that do nothing ----


def still_open(socks: list[socket.socket]) -> bool:
    """None of them has anything to say, which could only be its end."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def allow_descriptors(count: int) -> None:
    """As many as the system lets this process have, up to so many; its children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def cores() -> tuple[int, int]:
    """(the server's processor, the load's): two of those that this process may use, or one that they share."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[-1]
