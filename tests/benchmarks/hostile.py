"""Hostile clients, and how long a healthy one waits beside them.

    python -m tests.benchmarks.hostile [--loop asyncio|uvloop] [--seconds 20] [--silent 2000] [--slowloris 200]
        [--slow-body 50] [--slow-reader 50] [--resets 200] [--pin] [--server NAME|COMMAND]

The hostile ones, in numbers that the options give; each comes back as soon as the server has closed on it:

    silent        connect and send nothing
    slowloris     send a byte of a head each second
    slow body     send a byte of a body each second, of which the application awaits the whole
    slow reader   ask for 100 MB and take a few KB each second
    resets        so many a second connect, send half a head, and reset the connection

A healthy client asks every 20 ms, on a fresh connection (with its opening) and on one that it keeps. The
promise is that it is always answered within 50 ms. `--pin` gives the server one processor and all clients
another. The columns are milliseconds. The lines `less waits` are without the time in which the server or this
client were ready to run and others had the processor (by /proc/PID/schedstat): over 50 ms there, or an
unexpected answer, is exit code 1. The line `itself` is what the same client waits for itself, without a server:
the machine's noise. Requests over the limit are listed with whose time it was.
"""

import argparse
import asyncio
import os
import socket
import struct
import sys
import time
from collections import Counter
from statistics import median

import uvloop

from .healthy import Healthy, at
from .served import MIB, Served, add_server_options, table

LIMIT = 50.0  # milliseconds
INTERVAL = 0.02  # seconds between two requests of the healthy client
BEAT = 1.0  # seconds between two bytes of a slow client
ADDRESSES = 16  # hostile clients come from 127.0.0.2 and its neighbours: an address has 28,000 ports only
AT_ONCE = 200  # so many connections are being opened at a time
CROWDED = 30.0  # the most that it takes until all are there
RESET = struct.pack("ii", 1, 0)
SMALL = 4096  # the receive buffer of who reads slowly
NICE = 5  # hostile clients leave the healthy one the processor that they share


class Hostile(asyncio.Protocol):
    """One client: connected, then lost, then it comes back as a new one."""

    opening = b""  # what it sends first
    drop = b""  # what it sends each second then
    reads = True  # at once, all that comes
    transport: asyncio.Transport

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.crowd.open.add(self)
        self.crowd.counts[f"{self.name} opened"] += 1
        if self.opening:
            transport.write(self.opening)
        if not self.reads:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            transport.pause_reading()
        if self.drop or not self.reads:
            asyncio.get_running_loop().call_later(BEAT, self.beat)

    @property
    def name(self) -> str:
        return type(self).__name__

    def beat(self) -> None:
        if self.transport.is_closing():
            return
        if self.drop:
            self.transport.write(self.drop)
        if not self.reads:
            self.transport.resume_reading()
        asyncio.get_running_loop().call_later(BEAT, self.beat)

    def data_received(self, data: bytes) -> None:
        if not self.reads:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.open.discard(self)
        self.crowd.counts[f"{self.name} {'closed on' if exc is None else 'reset'}"] += 1
        self.crowd.invite(type(self))


class Silent(Hostile):
    pass


class Slowloris(Hostile):
    opening = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "
    drop = b"x"


class SlowBody(Hostile):
    opening = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    drop = b"x"


class SlowReader(Hostile):
    opening = b"GET /download?total=100000000 HTTP/1.1\r\nHost: x\r\n\r\n"
    reads = False


class Resetting(Hostile):
    opening = b"GET / HTTP/1.1\r\nHost: x\r\n"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.open.discard(self)  # the next one comes by the clock


class Crowd:
    """All hostile clients. As many as were invited are there, or on their way back."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: set[Hostile] = set()
        self.counts: Counter[str] = Counter()
        self.opening = asyncio.Semaphore(AT_ONCE)
        self.tasks: set[asyncio.Task[None]] = set()
        self.invited = 0
        self.over = False

    def invite(self, kind: type[Hostile]) -> None:
        if not self.over:
            task = asyncio.get_running_loop().create_task(self.connect(kind))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self, kind: type[Hostile]) -> None:
        loop = asyncio.get_running_loop()
        async with self.opening:
            self.invited += 1
            source = (f"127.0.0.{2 + self.invited % ADDRESSES}", 0)
            try:
                await loop.create_connection(lambda: kind(self), "127.0.0.1", self.port, local_addr=source)
                return
            except OSError as error:
                self.counts[f"{kind.__name__} not opened: {error.strerror}"] += 1
        await asyncio.sleep(BEAT)
        self.invite(kind)

    async def until_open(self, count: int) -> None:
        end = time.monotonic() + CROWDED
        while len(self.open) < count and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def reset(self, rate: float) -> None:
        """So many a second connect and reset, as evenly as the clock has it; until cancelled."""
        due = time.monotonic()
        while rate > 0:
            self.invite(Resetting)
            due = max(due + 1 / rate, time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())

    async def leave(self) -> None:
        self.over = True
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for client in list(self.open):
            client.transport.abort()
        await asyncio.sleep(0)


async def besiege(server: Served, arguments: argparse.Namespace) -> "Siege":
    crowd = Crowd(server.port)
    siege = Siege()
    for _ in range(20):  # whatever a first request makes once
        server.get("/")
    empty = server.rss
    for _ in range(arguments.silent):
        crowd.invite(Silent)
    await crowd.until_open(arguments.silent)
    await asyncio.sleep(0.1)  # the server accepts the last ones
    siege.silent = len(crowd.open)
    siege.each_silent = (server.rss - empty) / max(len(crowd.open), 1)
    numbers = {
        Slowloris: arguments.slowloris,
        SlowBody: arguments.slow_body,
        SlowReader: arguments.slow_reader,
    }
    for kind, number in numbers.items():
        for _ in range(number):
            crowd.invite(kind)
    await crowd.until_open(arguments.silent + sum(numbers.values()))
    await asyncio.sleep(BEAT)  # what it takes to let them all in at once is not the question
    resetting = asyncio.create_task(crowd.reset(arguments.resets))
    core = 1 if arguments.pin else None
    cpu, began = server.cpu, time.monotonic()
    with Healthy(server, INTERVAL, core=core, limit=LIMIT) as siege.healthy:
        await asyncio.sleep(arguments.seconds)
        siege.load = (server.cpu - cpu) / (time.monotonic() - began)
        siege.memory = server.rss
        siege.descriptors = server.descriptors
    resetting.cancel()
    await crowd.leave()
    siege.counts = crowd.counts
    return siege


class Siege:
    """What was found."""

    healthy: Healthy
    silent: int  # connections that were open when `each_silent` was measured
    each_silent: float  # bytes
    load: float  # of one processor that the server used
    memory: int  # bytes, at the end
    descriptors: int
    counts: "Counter[str]"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_server_options(parser)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--silent", type=int, default=2000)
    parser.add_argument("--slowloris", type=int, default=200)
    parser.add_argument("--slow-body", type=int, default=50)
    parser.add_argument("--slow-reader", type=int, default=50)
    parser.add_argument("--resets", type=float, default=200.0, help="a second")
    parser.add_argument("--pin", action="store_true", help="server and clients on a processor each")
    arguments = parser.parse_args()
    os.nice(NICE)
    if arguments.pin:
        os.sched_setaffinity(0, {1})
    with Served.of(arguments, core=0 if arguments.pin else None) as server:
        siege = uvloop.run(besiege(server, arguments))
    return report(siege, arguments, server)


def report(siege: Siege, arguments: argparse.Namespace, server: Served) -> int:
    healthy = siege.healthy
    print(f"{arguments.server}, {arguments.loop}, {arguments.seconds:g} s")
    print("; ".join(f"{name}: {count}" for name, count in sorted(siege.counts.items())))
    print(
        f"{siege.silent} silent connections: {siege.each_silent / 1024:.1f} KiB each; at the end "
        f"{siege.memory / MIB:.0f} MiB, {siege.descriptors} descriptors; "
        f"the server used {100 * siege.load:.0f} % of a processor"
    )
    rows = [
        [
            kind,
            len(sample),
            *(f"{each:.1f}" for each in (median(sample), at(sample, 0.99), at(sample, 1))),
        ]
        for kind, sample in healthy.samples.items()
        if sample
    ]
    print(table(("healthy client", "requests", "median", "99 %", "worst"), rows))
    late = [each for each in healthy.late if each[1] != "itself"]
    if late:
        head = ("late", "at second", "took", "server ran", "server waited", "client waited")
        print(table(head, [[each[1], f"{each[0]:.2f}", *(f"{ms:.0f}" for ms in each[2:])] for each in late]))
    wrong = list(healthy.errors)
    for kind in ("fresh less waits", "kept less waits"):
        if (worst := at(healthy.samples[kind], 1)) > LIMIT:
            wrong.append(f"{kind}: a healthy client waited for {worst:.0f} ms")
    if server.tracebacks:
        wrong.append(f"{server.tracebacks} tracebacks in the log:\n" + "\n".join(server.lines))
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
