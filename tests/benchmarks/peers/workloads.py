"""What is measured: each workload starts its server, verifies its answer, and then has the load ask.

A new workload is a line in WORKLOADS, and one in canned.py if there is a limit to it. Its figure is more or less of
a unit; the ratio to the baseline says in both cases how many times as good a server is.
"""

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from . import traffic
from .applications import BODY, FILE, FRAMEWORK
from .load import (
    AS_BROWSER,
    BY_ITSELF,
    Download,
    Group,
    Load,
    Messages,
    Transfer,
    Unsupported,
    Upload,
    Wrong,
    answers,
    client_frame,
    connected,
    counted,
    deflated_frame,
    first_answer,
    receive_deflated,
    receive_message,
    server_frame,
    still_open,
    transfers,
    websocket,
    wrk,
)
from .servers import Running
from .traffic import HELLO, Request

EVENTS = 100  # of a stream
ECHOED = "0123456789abcdef" * 2  # 32 bytes of text
LARGE = bytes(range(256)) * 4096  # 1 MiB
ROOM_MESSAGE = "a message to all who are there.."
ORDER = traffic.order()
MIB = 2**20
SETTLED = 0.3  # seconds after which memory is looked at
TRIED = 20  # requests of a list that are verified


class Sizes(NamedTuple):
    """What a test makes smaller."""

    transfer: int = 100 * MIB  # bytes of an upload or download; a multiple of 1 MiB
    idle: int = 2000  # connections


class Sample(NamedTuple):
    """One turn of one server."""

    value: float  # in the workload's unit
    cpu: float | None = None  # µs of the server's processor time for a unit: request, message, MB
    server: float | None = None  # share of a processor that the server used
    load: float | None = None  # and the load
    errors: int = 0
    more: dict[str, float] = {}  # further columns


Launch = Callable[..., Running]  # (app, access_log=…, environment=…)


class Workload:
    """One line of the benchmark. `app` is module:attribute of what is served."""

    unit = "req/s"
    each = "request"  # what µs of CPU are told for
    scale = 1.0  # units of the load in one of that
    less_is_better = False
    canned = True  # canned.py has a limit for it
    tells_memory = False  # the most that the server had is a column
    needs: tuple[str, ...] = ()  # distributions of the application
    environment: dict[str, str] = {}  # for the application

    def __init__(self, name: str, about: str, app: str) -> None:
        self.name = name
        self.about = about
        self.app = app if ":" in app else f"tests.benchmarks.peers.applications:{app}"

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        """A turn. Wrong if the server answers anything else than it should."""
        with launch(self.app, environment=self.environment) as running:
            self.verify(running, sizes)
            return self.timed(running, lambda: self.run(running, seconds, sizes))

    def timed(self, running: Running, run: Callable[[], Load]) -> Sample:
        cpu, began = running.cpu, time.perf_counter()
        load = run()
        used, took = running.cpu - cpu, time.perf_counter() - began
        units = load.units / self.scale
        if not units:
            raise Wrong("no answer in all the time")
        more = {"peak MB": running.peak / 1e6} if self.tells_memory else {}
        return Sample(units / load.seconds, used / units * 1e6, used / took, load.share, load.errors, more)

    def verify(self, running: Running, sizes: Sizes) -> None:
        """Wrong if an answer is not what it should be."""
        raise NotImplementedError

    def run(self, running: Running, seconds: float, sizes: Sizes) -> Load:
        raise NotImplementedError


class Replay(Workload):
    """A list of requests over and over, by wrk."""

    def __init__(
        self,
        name: str,
        about: str,
        app: str,
        requests: list[Request],
        *,
        connections: int = 32,
        pipelined: int = 1,
    ) -> None:
        super().__init__(name, about, app)
        self.requests = requests
        self.connections = connections
        self.pipelined = pipelined

    def verify(self, running: Running, sizes: Sizes) -> None:
        for at in range(TRIED):
            each = self.requests[at % len(self.requests)]
            found = answers(running.port, counted(each.data) * self.pipelined, self.pipelined)
            if found != [(200, each.answer)] * self.pipelined:
                raise Wrong(f"{counted(each.data)[:60]!r} was answered {str(found)[:200]}")

    def run(self, running: Running, seconds: float, sizes: Sizes) -> Load:
        return wrk(running.port, self.requests, self.connections, self.pipelined, seconds)


class Framework(Replay):
    """Hello by the framework of that name."""

    canned = False

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name, about, "tests.benchmarks.peers.frameworks:app", [HELLO])
        self.environment = {FRAMEWORK: name}
        self.needs = (name,)


class Logged(Replay):
    """With the access log on: it must have a line for each request."""

    canned = False

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        with launch(self.app, access_log=True) as running:
            self.verify(running, sizes)
            sample = self.timed(running, lambda: self.run(running, seconds, sizes))
            running.end()  # what it has not written yet
            lines, requests = running.output().count("\n"), sample.value * round(max(1, seconds))
        if lines < 0.9 * requests:
            raise Wrong(f"{lines} lines in the log for {requests:.0f} requests")
        return sample


class Streams(Replay):
    """Answers that are streams of EVENTS events."""

    unit, each, scale = "events/s", "event", 1 / EVENTS


class Echo(Workload):
    """Each of the clients sends a message when the one before has come back."""

    unit, each = "msg/s", "message"

    def __init__(self, name: str, about: str, message: str | bytes, connections: int) -> None:
        super().__init__(name, about, "ws_echo")
        self.tells_memory = len(message) >= MIB
        self.message = message
        self.connections = connections
        self.due = 0  # bytes that come back, by what was verified last: servers compress differently

    def verify(self, running: Running, sizes: Sizes) -> None:
        with self.open(running.port) as sock:
            for _ in range(TRIED):
                sock.sendall(self.frame())
                self.due = self.receive(sock)

    def run(self, running: Running, seconds: float, sizes: Sizes) -> Load:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self.open(running.port)) for _ in range(self.connections)]
            return Messages([Group(each, [each]) for each in socks], self.frame(), self.due).run(seconds)

    def open(self, port: int) -> socket.socket:
        return websocket(port)

    def frame(self) -> bytes:
        return client_frame(self.message)

    def receive(self, sock: socket.socket) -> int:
        return receive_message(sock, self.message)


class DeflatedEcho(Echo):
    """The same by permessage-deflate, each message by itself, since a load cannot have their common window."""

    canned = False

    def open(self, port: int) -> socket.socket:
        return websocket(port, deflate=BY_ITSELF)

    def frame(self) -> bytes:
        return deflated_frame(self.message)

    def receive(self, sock: socket.socket) -> int:
        return receive_deflated(sock, self.message)


class Broadcast(Workload):
    """One sender; the receivers all get what it sends, and then it sends again."""

    unit, each = "msg/s", "message"

    def __init__(self, name: str, about: str, receivers: int) -> None:
        super().__init__(name, about, "ws_broadcast")
        self.receivers = receivers

    @contextlib.contextmanager
    def group(self, port: int) -> Iterator[Group]:
        with contextlib.ExitStack() as stack:
            receivers = [stack.enter_context(websocket(port, "/join")) for _ in range(self.receivers)]
            yield Group(stack.enter_context(websocket(port, "/send")), receivers)

    def verify(self, running: Running, sizes: Sizes) -> None:
        with self.group(running.port) as group:
            group.sender.sendall(client_frame(ROOM_MESSAGE))
            for each in group.receivers:
                receive_message(each, ROOM_MESSAGE)

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        """A server of its own for the verified room: who has left it must not be waited for."""
        with launch(self.app) as running:
            self.verify(running, sizes)
        with launch(self.app) as running:
            return self.timed(running, lambda: self.run(running, seconds, sizes))

    def run(self, running: Running, seconds: float, sizes: Sizes) -> Load:
        with self.group(running.port) as group:
            frame, size = client_frame(ROOM_MESSAGE), len(server_frame(ROOM_MESSAGE))
            return Messages([group], frame, size).run(seconds)


class Bodies(Workload):
    """Large bodies on one connection, one after another."""

    unit, each, scale = "MB/s", "MB", 1e6
    tells_memory = True

    def __init__(self, name: str, about: str, app: str, transfer: Callable[[int], Transfer]) -> None:
        super().__init__(name, about, app)
        self.transfer = transfer

    def verify(self, running: Running, sizes: Sizes) -> None:
        self.transfer(MIB).verify(running.port)

    def run(self, running: Running, seconds: float, sizes: Sizes) -> Load:
        return transfers(running.port, self.transfer(sizes.transfer), seconds)


class File(Bodies):
    """A file by the extension http.response.pathsend, where the server has it."""

    canned = False

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        with tempfile.NamedTemporaryFile() as file:
            content = os.urandom(MIB) * (sizes.transfer // MIB)
            file.write(content)
            file.flush()
            with launch(self.app, environment={FILE: file.name}) as running:
                self.verify_content(running, content)
                return self.timed(running, lambda: self.run(running, seconds, sizes))

    def verify_content(self, running: Running, content: bytes) -> None:
        status, body = answers(running.port, HELLO.data)[0]
        if status == 501:
            raise Unsupported("no pathsend")
        if (status, body) != (200, content):
            raise Wrong(f"the answer is {status} with {len(body)} bytes, and not the file's")


class Idle(Workload):
    """What the server's memory grows by for each connection that was used once and then does nothing."""

    unit, less_is_better = "bytes", True

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        with launch(self.app) as running, contextlib.ExitStack() as stack:
            for _ in range(TRIED):
                self.open(running.port).close()
            time.sleep(SETTLED)
            before = running.rss
            socks = [stack.enter_context(self.open(running.port)) for _ in range(sizes.idle)]
            time.sleep(SETTLED)
            grown = running.rss - before
            if not still_open(socks):
                raise Wrong("the server has closed connections")
        return Sample(grown / sizes.idle)

    def open(self, port: int) -> socket.socket:
        raise NotImplementedError


class IdleHTTP(Idle):
    def open(self, port: int) -> socket.socket:
        sock = connected(port)
        sock.sendall(HELLO.data)
        answer = first_answer(sock)
        if answer != (200, BODY):
            raise Wrong(f"the answer is {answer}")
        return sock


class IdleWebSocket(Idle):
    def open(self, port: int) -> socket.socket:
        sock = websocket(port)
        sock.sendall(client_frame(ECHOED))
        receive_message(sock, ECHOED)
        return sock


class IdleDeflate(Idle):
    """As a browser has it: both sides may keep the window of what was compressed before."""

    canned = False

    def open(self, port: int) -> socket.socket:
        sock = websocket(port, deflate=AS_BROWSER)
        sock.sendall(deflated_frame(ORDER))
        receive_deflated(sock, ORDER)
        return sock


class Startup(Workload):
    """From the start of the process to its first answer: the median of some starts."""

    unit, less_is_better = "ms", True
    starts = 5

    def measure(self, launch: Launch, seconds: float, sizes: Sizes) -> Sample:
        samples = sorted((self.start(launch) for _ in range(self.starts)), key=lambda each: each.value)
        return samples[len(samples) // 2]

    def start(self, launch: Launch) -> Sample:
        with launch(self.app) as running:
            status, body = answers(running.port, HELLO.data)[0]
            took = time.perf_counter() - running.began
            if status != 200:
                raise Wrong(f"the first answer was {status}")
            more = {"modules": json.loads(body)["modules"], "RSS MB": running.rss / 1e6}
        return Sample(took * 1000, more=more)


WORKLOADS = {
    each.name: each
    for each in (
        Replay("hello", "keep-alive, 32 connections, the same small GET", "hello", [HELLO]),
        Replay("browser", "15 headers of a browser, a cookie of 600 bytes", "hello", traffic.browser()),
        Replay("api", "1,000 paths and queries, the same 5 headers", "hello", traffic.api()),
        Replay("unique", "one header value is new in every request", "hello", traffic.unique()),
        Replay(
            "proxy",
            "300 browsers' requests, mixed, on 8 connections of a proxy",
            "hello",
            traffic.proxy(),
            connections=8,
        ),
        Replay("connect", "a connection for each request", "hello", traffic.connect()),
        Replay(
            "pipelined",
            "16 requests at a time on 8 connections",
            "hello",
            [HELLO],
            connections=8,
            pipelined=16,
        ),
        Replay("post", "1 KB of JSON, which comes back", "post", traffic.post()),
        Bodies("upload_4k", "100 MiB in chunks of 4 KiB", "upload", lambda size: Upload(size, 4096)),
        Bodies("upload_64k", "100 MiB in chunks of 64 KiB", "upload", lambda size: Upload(size, 65536)),
        Bodies("upload_1m", "100 MiB in chunks of 1 MiB", "upload", lambda size: Upload(size, MIB)),
        Bodies("upload_length", "100 MiB with a content-length", "upload", lambda size: Upload(size, None)),
        Bodies("download_4k", "100 MiB in blocks of 4 KiB", "download", lambda size: Download(size, 4096)),
        Bodies("download_64k", "100 MiB in blocks of 64 KiB", "download", lambda size: Download(size, 65536)),
        Bodies("download_1m", "100 MiB in blocks of 1 MiB", "download", lambda size: Download(size, MIB)),
        File("download_file", "a file of 100 MiB by pathsend", "file", lambda size: Download(size, MIB)),
        Streams("sse", "32 clients, streams of 100 events of 60 bytes", "sse", traffic.events(EVENTS)),
        Echo("ws_echo", "32 bytes of text there and back, 32 connections", ECHOED, 32),
        Echo("ws_large", "messages of 1 MiB there and back, 4 connections", LARGE, 4),
        DeflatedEcho("ws_deflate", "1 KB of JSON there and back, compressed, 32 connections", ORDER, 32),
        Broadcast("ws_broadcast", "one sender, 100 receivers, 32 bytes of text", 100),
        IdleHTTP("idle_http", "memory for each of 2,000 connections after one request", "hello"),
        IdleWebSocket("idle_ws", "memory for each of 2,000 WebSockets after one message", "ws_echo"),
        IdleDeflate(
            "idle_deflate", "memory for each of 2,000 WebSockets that compress, after one message", "ws_echo"
        ),
        Startup("startup", "from the start of the process to the first answer", "modules"),
        Logged("access_log", "hello with the access log on, into a file", "hello", [HELLO]),
        Framework("starlette", "hello by Starlette"),
        Framework("fastapi", "hello by FastAPI"),
        Framework("django", "hello by Django, an async view"),
    )
}
