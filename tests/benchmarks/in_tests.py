"""What a test waits for its server: from the start to the first answer, and for the stop.

    python -m tests.benchmarks.in_tests [--rounds 50] [--only TEXT]

Each case is a server with one client, which asks `GET /` on a fresh connection as soon as it may. All cases take
their turns in one process on asyncio's loop, so that whatever else the machine does meets all of them alike:

    bare asyncio   the floor: create_server in a thread, a protocol that answers the same bytes to anybody
    miniasgi       `with serve(app)`, in a thread, and `async with serve(app)`, in the client's own loop
    uvicorn        the usual recipe: its Server in a thread, `started` looked at each millisecond, `should_exit`
    daphne         DaphneProcess, as channels' ChannelsLiveServerTestCase has it; 5 rounds, since each takes long

A lifespan is one that answers at once; without it the application refuses it, and uvicorn is told not to ask. uvicorn
and daphne are left out where they are missing. The columns, in ms, are the median of all rounds and what a quarter
of them stayed under, and the medians as multiples of the floor's.

The promise is of miniasgi's medians: at most 5 ms from the start to the first answer and 2 ms for the stop, and, in a
thread, neither more than 3 times the floor. If it is broken the exit code is 1.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from miniasgi.testing import serve

from .applications import app
from .healthy import ANSWER, LAST_REQUEST, ask_once, at
from .served import table

PROMISED_START, PROMISED_STOP = 5.0, 2.0  # milliseconds
PROMISED_RATIO = 3.0
SLOW_ROUNDS = 5
POLL = 0.001  # seconds between two looks at what cannot be waited for


async def without_lifespan(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await app(scope, receive, send)


# ---- servers: each a block that begins when the server has told its port ----


class Canned(asyncio.Protocol):
    """The same answer to anybody."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(ANSWER)
        self.transport.write(head + ANSWER)
        self.transport.close()


@contextlib.contextmanager
def bare() -> Iterator[int]:
    """No server at all: what threads, loops and sockets cost by themselves."""
    loop = asyncio.new_event_loop()
    stopped, started = asyncio.Event(), threading.Event()
    ports = []

    async def serve_canned() -> None:
        async with await loop.create_server(Canned, "127.0.0.1", 0) as server:
            ports.append(server.sockets[0].getsockname()[1])
            started.set()
            await stopped.wait()

    def run() -> None:
        loop.run_until_complete(serve_canned())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    yield ports[0]
    loop.call_soon_threadsafe(stopped.set)
    thread.join()


@contextlib.contextmanager
def miniasgi(app) -> Iterator[int]:
    with serve(app) as server:
        yield server.port


@contextlib.contextmanager
def uvicorn(lifespan: str) -> Iterator[int]:
    from uvicorn import Config, Server

    config = Config(app, port=0, log_level="critical", loop="asyncio", http="h11", lifespan=lifespan)
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(POLL)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def daphne_application():
    return app


@contextlib.contextmanager
def daphne() -> Iterator[int]:
    import daphne.server  # noqa: F401  # Twisted: a Django project has it loaded long before its tests
    from daphne.testing import DaphneProcess

    process = DaphneProcess("localhost", daphne_application)
    process.start()
    while not process.ready.wait(timeout=1):
        if not process.is_alive():
            raise SystemExit("daphne's process has ended before it was ready")
    yield process.port.value
    process.terminate()
    process.join()


# ---- rounds ----

Figures = tuple[float, float]  # seconds from the start to the first answer, and for the stop


def ask_it(server: AbstractContextManager[int]) -> Figures:
    began = time.perf_counter()
    with server as port:
        ask_once(port)
        answered = time.perf_counter()
    return answered - began, time.perf_counter() - answered


def ask_in_loop(app) -> Figures:
    async def ask() -> Figures:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        async with serve(app) as server:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", server.port))
                await loop.sock_sendall(sock, LAST_REQUEST)
                answer = b""
                while data := await loop.sock_recv(sock, 65536):
                    answer += data
            assert answer.endswith(ANSWER), answer
            answered = time.perf_counter()
        return answered - began, time.perf_counter() - answered

    return asyncio.run(ask())


class Case(NamedTuple):
    name: str
    run: Callable[[], Figures]
    module: str = "miniasgi"  # what it needs
    most: int = sys.maxsize  # rounds


FLOOR = "bare asyncio"
THREAD = "miniasgi, thread"
CASES = [
    Case(FLOOR, lambda: ask_it(bare())),
    Case(THREAD, lambda: ask_it(miniasgi(without_lifespan))),
    Case(f"{THREAD}, lifespan", lambda: ask_it(miniasgi(app))),
    Case("miniasgi, loop", lambda: ask_in_loop(without_lifespan)),
    Case("miniasgi, loop, lifespan", lambda: ask_in_loop(app)),
    Case("uvicorn, thread", lambda: ask_it(uvicorn("off")), "uvicorn"),
    Case("uvicorn, thread, lifespan", lambda: ask_it(uvicorn("on")), "uvicorn"),
    Case("daphne, process", lambda: ask_it(daphne()), "daphne", SLOW_ROUNDS),
]


def measure(cases: list[Case], rounds: int) -> dict[str, list[list[float]]]:
    """[starts, stops] of each case, in milliseconds, sorted. A round before the first one is not counted."""
    figures: dict[str, list[Figures]] = {case.name: [] for case in cases}
    for at_round in range(-1, rounds):
        for case in cases:
            if at_round < case.most:
                figures[case.name].append(case.run())
    return {
        name: [sorted(1000 * each for each in kind) for kind in zip(*found[1:], strict=True)]
        for name, found in figures.items()
    }


HEAD = ("case", "rounds", "start", "quarter", "x floor", "stop", "quarter", "x floor")


def judge(name: str, what: str, took: float, promised: float, ratio: float) -> list[str]:
    """What of the promise is broken, in words."""
    wrong = []
    if name.startswith("miniasgi") and took > promised:
        wrong.append(f"{name}: the {what} took {took:.2f} ms; promised are {promised:g}")
    if name.startswith(THREAD) and ratio > PROMISED_RATIO:
        wrong.append(f"{name}: the {what} took {ratio:.1f} times the floor; promised are {PROMISED_RATIO:g}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", default="", help="the cases with this text in their name, and the floor")
    arguments = parser.parse_args()
    cases = [case for case in CASES if case.name == FLOOR or arguments.only in case.name]
    missing = {case.module for case in cases if importlib.util.find_spec(case.module) is None}
    figures = measure([case for case in cases if case.module not in missing], arguments.rounds)
    floor = [at(sample, 0.5) for sample in figures[FLOOR]]
    rows, wrong = [], []
    for name, found in figures.items():
        row = [name, f"{len(found[0])}"]
        for what, sample, least, promised in zip(
            ("start", "stop"), found, floor, (PROMISED_START, PROMISED_STOP), strict=True
        ):
            median = at(sample, 0.5)
            row += [f"{median:.2f}", f"{at(sample, 0.25):.2f}", f"{median / least:.1f}"]
            wrong += judge(name, what, median, promised, median / least)
        rows.append(row)
    print(table(HEAD, rows))
    print(*(f"{each} is missing: pip install {each}" for each in sorted(missing)), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")  # as daphne wants it: its own application cannot be pickled
    sys.exit(main())
