"""A server as a process of its own for the benchmarks and the soak: its command line, and what /proc says of it.

Any ASGI server can stand here that prints its address: what it costs to keep promises is seen beside others.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = "tests.benchmarks.applications:app"

# {python} is this interpreter, {peer} that of --peer-python, {loop} asyncio or uvloop, {app} the application.
SERVERS = {
    "miniasgi": "{python} -m miniasgi serve {app} --port 0 --loop {loop} --no-access-log",
    "uvicorn": "{peer} -m uvicorn {app} --port 0 --loop {loop} --http h11 --no-access-log",
    "hypercorn": "{peer} -m hypercorn {app} --bind 127.0.0.1:0 --worker-class {loop} --workers 0",
    "daphne": "{peer} -m daphne {app} -b 127.0.0.1 -p 0",
}
ADDRESS = re.compile(r"(?:https?://|address )127\.0\.0\.1:(\d+)")
START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
KEPT_LINES = 5000


def add_server_options(parser):
    """--server, --loop, --peer-python: as `served` takes them."""
    parser.add_argument(
        "--server", default="miniasgi", help=f"one of {', '.join(SERVERS)}, or a command line with {{app}}"
    )
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has other servers")


class Served:
    """The server's process, from `with` until its end.

        with Served("miniasgi", "uvloop") as server:
            server.port, server.rss, server.status()

    Options are added to the command line; `core` is the processor that it is pinned to.
    """

    def __init__(
        self,
        server="miniasgi",
        loop="asyncio",
        options=(),
        *,
        peer_python=sys.executable,
        core=None,
        tls=None,
    ):
        line = SERVERS.get(server, server)
        words = shlex.split(line)
        values = {"python": sys.executable, "peer": peer_python, "loop": loop, "app": APPLICATION}
        self.command = [word.format(**values) for word in words] + list(options)
        self.core = core
        self.patience = 30.0  # seconds for an answer to `get`
        self.tls = tls  # the context that its clients need, where it speaks TLS
        self.lines = deque(maxlen=KEPT_LINES)  # the last of its output
        self.tracebacks = 0  # in all of its output
        self.port = 0  # known once it is announced
        self.announced = threading.Event()

    @classmethod
    def of(cls, arguments, *options, **others):
        """As the options of `add_server_options` say."""
        return cls(arguments.server, arguments.loop, options, peer_python=arguments.peer_python, **others)

    def __enter__(self):
        self.popen = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.announced.wait(START_TIMEOUT) or not self.port:
            self.end(signal.SIGKILL)
            raise SystemExit(f"no address from {shlex.join(self.command)}:\n" + "\n".join(self.lines))
        if self.core is not None:
            os.sched_setaffinity(self.popen.pid, {self.core})
        return self

    def __exit__(self, *error):
        self.end(signal.SIGTERM)

    def end(self, number):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.reader.join()
        self.popen.stdout.close()

    def read(self):
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))
            self.tracebacks += line.startswith("Traceback ")
            if not self.port and (found := ADDRESS.search(line)):
                self.port = int(found[1])
                self.announced.set()
        self.announced.set()

    # ---- what /proc says ----

    def proc(self, name):
        return Path(f"/proc/{self.popen.pid}/{name}").read_text()

    @property
    def rss(self):
        """Bytes of memory, as the kernel counts them."""
        return int(self.proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self):
        return len(os.listdir(f"/proc/{self.popen.pid}/fd"))

    @property
    def cpu(self):
        """Seconds of processor time so far, of all its threads."""
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def busy(self):
        """Seconds in which its first thread ran so far, or would have, had there been a processor."""
        ran, waited, _ = self.proc("schedstat").split()
        return (int(ran) + int(waited)) / 1e9

    # ---- what the application says ----

    def get(self, path):
        """The body of a GET on a connection of its own."""
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=self.patience, context=self.tls
            )
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{path} was answered {answer.status}: {body[:200]!r}")
        return body

    def status(self, query=""):
        return json.loads(self.get(f"/status{query}"))


def tls_for(folder):
    """(options of a server that speaks TLS, the context of its clients), with a certificate made for this."""
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    path = Path(folder) / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return ["--ssl-certfile", str(path)], context


def table(head, rows):
    """Lines of text: the first column to the left, all others to the right."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    lines = []
    for row in cells:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


MB = 10**6
MIB = 2**20
