"""A healthy client while others misbehave: how long its requests take, and whose time that was.

    python -m tests.benchmarks.healthy PORT SERVER_PID [--interval 0.02] [--core 1] [--limit 50]

It is a process of its own, so that the load of other clients is not in its figures. Each interval it asks
`GET /` on a fresh connection (opening and closing included), then on one that it keeps, and then it does the
same work with itself, over a loopback connection without any server: the noise of the machine. It ends when
its input does, and prints one line of JSON:

    samples   milliseconds, sorted: `fresh`, `kept`, `itself`; and `fresh less waits`, `kept less waits`, which are
              without the time in which the server or this client were ready to run and had no processor
    late      requests over the limit: at which second, kind, milliseconds, and in the same time, in milliseconds:
              the server ran, the server waited for a processor, this client did
    errors    unexpected answers and broken connections, as text

`Healthy` starts one and reads that.
"""

import argparse
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: healthy\r\n\r\n"
LAST_REQUEST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
ANSWER = b"hello"
TIMEOUT = 10.0
MAX_TOLD = 100
LESS = " less waits"


class Healthy:
    """The client's process, from `with` until its end; the figures are there then.

    A keep-alive connection of its own is open in the meantime.
    """

    def __init__(self, server, interval, *, core=None, limit=50.0):
        self.command = [sys.executable, "-m", __name__, str(server.port), str(server.popen.pid)]
        self.command += ["--interval", str(interval), "--limit", str(limit)]
        self.command += [] if core is None else ["--core", str(core)]

    def __enter__(self):
        root = Path(__file__).resolve().parents[2]
        self.popen = subprocess.Popen(
            self.command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.popen.stdout.readline()  # it has begun
        return self

    def __exit__(self, *error):
        told, _ = self.popen.communicate(timeout=3 * TIMEOUT)
        figures = json.loads(told)
        self.samples = figures["samples"]
        self.late = figures["late"]
        self.errors = figures["errors"]


def at(sample, share):
    """The time within which this share of the requests were answered."""
    return sample[min(int(len(sample) * share), len(sample) - 1)] if sample else float("nan")


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(sock, request):
    sock.sendall(request)
    answer = b""
    while not answer.endswith(ANSWER):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError(f"the server closed after {answer[:100]!r}")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"the server answered {answer[:100]!r}")


def ask_once(port):
    """On a fresh connection, which is closed behind the answer."""
    with connect(port) as sock:
        ask(sock, LAST_REQUEST)


# ---- the client's process ----


def processor_times(pid):
    """(seconds that a process's first thread ran, seconds that it was ready and had no processor)."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


class Client:
    def __init__(self, port):
        self.port = port
        self.kept = None
        self.listener = socket.create_server(("127.0.0.1", 0))

    def fresh(self):
        ask_once(self.port)

    def keep(self):
        """On the connection that is kept; where the server has closed it in between, on a new one."""
        if self.kept is None or select.select([self.kept], [], [], 0)[0]:
            self.close()
            self.kept = connect(self.port)
        ask(self.kept, REQUEST)

    def itself(self):
        with connect(self.listener.getsockname()[1]) as near:
            far, _ = self.listener.accept()
            with far:
                near.sendall(REQUEST)
                far.recv(65536)
                far.sendall(REQUEST + ANSWER)
                near.recv(65536)

    def close(self):
        if self.kept is not None:
            self.kept.close()
            self.kept = None


def run(port, server_pid, interval, limit):
    client = Client(port)
    asks = {"fresh": client.fresh, "kept": client.keep, "itself": client.itself}
    samples = {kind: [] for kind in (*asks, "fresh" + LESS, "kept" + LESS)}
    late, errors = [], []
    print("begun", flush=True)
    start = time.monotonic()
    due = start
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for kind, ask in asks.items():
            pids = (server_pid, os.getpid())
            before = [processor_times(pid) for pid in pids]
            began = time.perf_counter()
            try:
                ask()
            except OSError as error:
                client.close()
                errors.append(f"{kind} after {time.perf_counter() - began:.3f} s: {error!r}")
                continue
            took = (time.perf_counter() - began) * 1000
            (ran, waited), (_, own) = (
                [(now - then) * 1000 for now, then in zip(processor_times(pid), old, strict=True)]
                for pid, old in zip(pids, before, strict=True)
            )
            samples[kind].append(took)
            if kind != "itself":
                samples[kind + LESS].append(max(took - waited - own, 0.0))
            if took > limit:
                late.append([time.monotonic() - start, kind, took, ran, waited, own])
        due = max(due + interval, time.monotonic())
    client.close()
    for sample in samples.values():
        sample.sort()
    print(json.dumps({"samples": samples, "late": late[:MAX_TOLD], "errors": errors[:MAX_TOLD]}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("server_pid", type=int)
    parser.add_argument("--interval", type=float, default=0.02)
    parser.add_argument("--core", type=int)
    parser.add_argument("--limit", type=float, default=50.0)
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    with contextlib.suppress(KeyboardInterrupt):
        run(arguments.port, arguments.server_pid, arguments.interval, arguments.limit)


if __name__ == "__main__":
    main()
