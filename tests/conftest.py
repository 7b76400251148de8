"""Fixtures for all tests: servers in process and as processes, and tools that a machine may lack."""

import asyncio
import contextlib
import itertools
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trustme
import uvloop
from cryptography import x509

from miniasgi import Config, Server

ROOT = Path(__file__).resolve().parent.parent


def pytest_asyncio_loop_factories(config, item):
    """An async test runs on asyncio's loop; one that is marked `both_loops` on uvloop's too."""
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.get_closest_marker("both_loops") else {"asyncio": both["asyncio"]}


@pytest.fixture
def need():
    """`need("redis-server", install=…)`: the path of a tool; skips where there is none, and says how to get it.

    With MINIASGI_TESTS_NEED_ALL set, as in CI, a missing tool fails the test.
    """

    def find(*names, install):
        for name in names:
            if path := shutil.which(name):
                return path
        text = f"{names[0]} is missing: install {install}"
        if os.environ.get("MINIASGI_TESTS_NEED_ALL"):
            pytest.fail(text)
        pytest.skip(text)

    return find


@pytest.fixture(autouse=True)
def loggers():
    """The loggers as they were: `run` and the command line configure them."""
    yield
    for name in ("miniasgi", "miniasgi.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates of a CA of the tests' own, as files: `.ca`, `.server`, `.client` and so on."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Certificates:
    """Paths of PEM files. `server` and `client` hold key and chain, signed by an authority below `ca`'s."""

    def __init__(self, folder):
        self.folder = folder
        root = trustme.CA()
        between = root.create_child_ca()
        server = between.issue_cert("localhost", "127.0.0.1")
        client = between.issue_cert("client@example.org", common_name="A, client")
        # trustme gives O and OU of its own, and then the common name.
        subject = x509.load_pem_x509_certificate(client.cert_chain_pems[0].bytes()).subject
        units = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        organization = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        client_name = rf"CN=A\, client,OU={units[0].value},O={organization[0].value}"
        stranger = trustme.CA().issue_cert("stranger@example.org")
        self.server_chain = [each.bytes().decode() for each in server.cert_chain_pems]
        self.client_chain = [each.bytes().decode() for each in client.cert_chain_pems]
        self.client_name = client_name
        self.ca = self.write("ca", root.cert_pem)
        self.server = self.write("server", server.private_key_and_cert_chain_pem)
        self.server_key = self.write("server-key", server.private_key_pem)
        self.server_certs = self.write("server-certs", *server.cert_chain_pems)
        self.client = self.write("client", client.private_key_and_cert_chain_pem)
        self.stranger = self.write("stranger", stranger.private_key_and_cert_chain_pem)
        rsa = trustme.CA(key_type=trustme.KeyType.RSA)
        self.rsa_key = self.write("rsa-key", rsa.private_key_pem)
        self.stranger_key = self.write("stranger-key", stranger.private_key_pem)

    def write(self, name, *blobs):
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(each.bytes() for each in blobs))
        return str(path)


def descriptors():
    """How many are open, but for the one of /dev/null that uvloop keeps from the first client on."""
    links = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that this list was read with
            links.append(os.readlink(f"/proc/self/fd/{each}"))
    return len(links) - links.count("/dev/null")


@pytest.fixture
def bare_server():
    """`async with bare_server(app, **options) as server`: a Server as programs run it, in the test's own loop.

    For tests of the server itself. `miniasgi.testing.serve` raises errors of the application in the test, and
    knows what was said; but it stands between the road and the transport, lets no file be copied by the kernel
    and offers http.response.debug.
    """

    def make(app, **options):
        return Server(app, Config(**{"port": 0, "access_log": False, **options}))

    return make


@pytest.fixture
async def raw():
    """`reader, writer = await raw(server)`: a TCP connection, closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
            return reader, writer

        yield connect


class ServerProcess:
    """`python -m miniasgi serve …` on a free port. Made by the fixture `process`, which ends it."""

    def __init__(self, app, *options, cwd=ROOT, env=None, announced=True, before="", shell="", group=None):
        command = [sys.executable, "-m", "miniasgi", "serve", app, "--port", "0", *options]
        if before or shell:  # limits; redirections
            command = ["sh", "-c", f"{before} exec {shlex.join(command)} {shell}"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})}
        self.popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=group,  # 0: one of its own, as a shell gives each command
        )
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if announced:
            self.url = re.search(r"https?://\S+", self.wait_for(" serves "))[0]
            self.port = int(self.url.rpartition(":")[2])
            self.wait_for("Process")

    def read(self):
        for line in self.popen.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append("")  # the end
            self.changed.notify_all()

    def wait_for(self, text, timeout=30, nth=1):
        """The first line of output with this text in it, or the nth one."""

        def found():
            return next(itertools.islice((line for line in self.lines if text in line), nth - 1, None), None)

        with self.changed:
            self.changed.wait_for(
                lambda: found() is not None or (self.lines and self.lines[-1] == ""), timeout
            )
            line = found()
        assert line is not None, f"no {text!r} in the server's output:\n" + "\n".join(self.lines)
        return line

    def send_signal(self, number=signal.SIGTERM):
        self.popen.send_signal(number)

    def wait(self, timeout=30):
        """Wait for the end, also of each process that has its output; the exit code."""
        code = self.popen.wait(timeout)
        self.reader.join(timeout)
        assert not self.reader.is_alive(), "a process of the server's has not ended"
        return code

    def stop(self, number=signal.SIGTERM, timeout=30):
        self.send_signal(number)
        return self.wait(timeout)

    @property
    def output(self):
        return "\n".join(self.lines)

    def end(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait()
        self.popen.stdout.close()


@pytest.fixture
def process():
    """`process("module:app", "--option", …)`: a server as a process of its own, ended after the test."""
    started = []

    def start(app, *options, **arguments):
        server = ServerProcess.__new__(ServerProcess)
        started.append(server)
        server.__init__(app, *options, **arguments)
        return server

    yield start
    for server in started:
        server.end()
