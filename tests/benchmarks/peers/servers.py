"""The servers: their command lines, one's process from its start to its end, and what /proc says of it.

Each has one worker, its access log off, and keeps idle connections for a minute: none closes one that is measured.
What a server does beyond the others by default is left as it is, but for X-Forwarded-For, which uvicorn is told to
leave alone. granian is told to have 4,096 connections at a time: it answers no more than 1,024 by default.
"""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 3.0
PAUSE = 0.001  # seconds between two looks at what cannot be waited for
BASELINE = "uvicorn-h11"  # the ratios are to it
LIMIT = "canned"


class Server(NamedTuple):
    """{python} is the interpreter, {app} module:attribute, {port} a free port, {workload} what is measured."""

    command: str
    quiet: str = ""  # what is added for no access log
    loud: str = ""  # what is added for one, to the standard output or error
    needs: tuple[str, ...] = ()  # distributions beyond the standard library


MINIASGI = "{python} -m miniasgi serve {app} --port {port} --timeout-keep-alive 60"
UVICORN = "{python} -m uvicorn {app} --port {port} --timeout-keep-alive 60 --no-proxy-headers"
GUNICORN = (
    "{python} -m gunicorn {app} -k asgi --http-parser fast --workers 1 --bind 127.0.0.1:{port}"
    " --keep-alive 60 --no-control-socket"
)

SERVERS = {
    "miniasgi": Server(f"{MINIASGI} --loop asyncio", "--no-access-log", needs=("h11", "wsproto")),
    "miniasgi-uvloop": Server(
        f"{MINIASGI} --loop uvloop", "--no-access-log", needs=("h11", "wsproto", "uvloop")
    ),
    BASELINE: Server(
        f"{UVICORN} --loop asyncio --http h11 --ws wsproto",
        "--no-access-log",
        needs=("uvicorn", "h11", "wsproto"),
    ),
    "uvicorn-httptools": Server(
        f"{UVICORN} --loop asyncio --http httptools --ws websockets",
        "--no-access-log",
        needs=("uvicorn", "httptools", "websockets"),
    ),
    "uvicorn-httptools-uvloop": Server(
        f"{UVICORN} --loop uvloop --http httptools --ws websockets",
        "--no-access-log",
        needs=("uvicorn", "httptools", "websockets", "uvloop"),
    ),
    "uvicorn-zttp": Server(
        f"{UVICORN} --loop asyncio --http zttp --ws websockets",
        "--no-access-log",
        needs=("uvicorn", "zttp", "websockets"),
    ),
    "gunicorn": Server(
        f"{GUNICORN} --asgi-loop asyncio",
        loud="--access-logfile -",
        needs=("gunicorn", "gunicorn_h1c"),
    ),
    "gunicorn-uvloop": Server(
        f"{GUNICORN} --asgi-loop uvloop",
        loud="--access-logfile -",
        needs=("gunicorn", "gunicorn_h1c", "uvloop"),
    ),
    "hypercorn": Server(
        "{python} -m hypercorn {app} --bind 127.0.0.1:{port} --worker-class asyncio --workers 0 --keep-alive 60",
        loud="--access-logfile -",
        needs=("hypercorn",),
    ),
    "daphne": Server(
        "{python} -m daphne {app} -b 127.0.0.1 -p {port}",
        quiet="--verbosity 0",
        loud="--access-log -",
        needs=("daphne",),
    ),
    "granian": Server(
        "{python} -m granian {app} --interface asgi --port {port} --loop uvloop --workers 1 --backpressure 4096",
        quiet="--no-access-log",
        loud="--access-log",
        needs=("granian", "uvloop"),
    ),
    LIMIT: Server("{python} -m tests.benchmarks.peers.canned {workload} {port}", needs=("h11", "wsproto")),
}

DISTRIBUTIONS = (
    *("h11", "wsproto", "uvloop", "uvicorn", "httptools", "websockets", "gunicorn"),
    *("gunicorn_h1c", "hypercorn", "daphne", "granian", "zttp", "starlette", "fastapi", "django"),
)


def versions(python: str) -> dict[str, str]:
    """Those of the distributions that an interpreter has, and its own."""
    script = (
        "import sys, platform; from importlib import metadata\n"
        "print('Python', platform.python_version())\n"
        "for each in sys.argv[1:]:\n"
        "    try: print(each, metadata.version(each))\n"
        "    except metadata.PackageNotFoundError: pass\n"
    )
    told = subprocess.run([python, "-c", script, *DISTRIBUTIONS], check=True, capture_output=True, text=True)
    return dict(line.split() for line in told.stdout.splitlines())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Running:
    """A server's process and its children, from `with` until their end.

        with Running(SERVERS["miniasgi"], app, python, workload="hello", core=0) as running:
            running.port, running.cpu, running.rss

    `core` is the processor that it is pinned to from its first instruction on. Its output goes to a file.
    """

    def __init__(
        self,
        server: Server,
        app: str,
        python: str,
        *,
        workload: str,
        core: int,
        access_log: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        line = f"{server.command} {server.loud if access_log else server.quiet}"
        values = {"python": python, "app": app, "port": self.port, "workload": workload}
        self.command = [word.format(**values) for word in shlex.split(line)]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # what is installed is compiled, too
            self.environment.pop(name, None)
        self.core = core
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by __exit__
        self.began = 0.0  # time.perf_counter() at the start of the process

    def __enter__(self) -> "Running":
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.core})  # the child inherits it, and all of its threads do
        self.began = time.perf_counter()
        try:
            self.popen = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)
        try:
            self.wait_for_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_port(self) -> None:
        """Returns when the port accepts; RuntimeError with the server's output if it never does."""
        end = self.began + START_TIMEOUT
        while self.popen.poll() is None and time.perf_counter() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(PAUSE)
        raise RuntimeError(f"{shlex.join(self.command)} does not listen{self.last_words()}")

    def last_words(self) -> str:
        """The last line of its output, as the end of a sentence."""
        lines = self.output().split("\n")
        return "".join(f"; its output ends: {line[:200]}" for line in lines[-2:-1])

    def __exit__(self, *error: object) -> None:
        self.end()
        self.log.close()

    def end(self) -> None:
        """Asks the process to stop, and stops it and whatever it has started if it does not."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)  # its own session: whoever is still there
        self.popen.wait()

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    # ---- what /proc says ----

    def processes(self) -> list[int]:
        """The process and its descendants."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = [self.popen.pid]
        for each in found:  # grows as it goes
            found += [pid for pid, parent in parents.items() if parent == each]
        return found

    @property
    def cpu(self) -> float:
        """Seconds in which any of their threads ran so far."""
        ran = 0
        for pid in self.processes():
            for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    ran += int(schedstat.read_text().split()[0])
        return ran / 1e9

    @property
    def rss(self) -> int:
        """Bytes of memory that are resident, summed over the processes."""
        pages = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak(self) -> int:
        """The most bytes of memory that each of the processes had at a time, summed."""
        kilobytes = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                kilobytes += int(re.search(r"VmHWM:\s*(\d+)", status)[1])
        return kilobytes * 1024
