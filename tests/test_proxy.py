"""Behind a real nginx, configured as README says: what it takes for one request is one here, and no other."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import websockets.sync.client

from miniasgi import Config, Server
from tests.applications import read_body, respond
from tests.protocol.test_strict import REFUSED, SMUGGLED, TAKEN

ROOT = Path(__file__).resolve().parent.parent
README_SAYS = re.search(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]

AROUND_IT = """
master_process off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{}}
http {{
    log_format asked '$request_method $request_uri $status $upstream_status';
    access_log {folder}/access.log asked;
    proxy_ignore_client_abort on; # a client that only ends its side is answered
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


class Asked:
    """An application that keeps what it was asked, and answers with the body."""

    def __init__(self):
        self.requests = []
        self.clients = set()

    async def __call__(self, scope, receive, send):
        self.clients.add(scope["client"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            return
        body = await read_body(receive)
        if body == b"the client has left":  # nginx has refused the rest
            return
        self.requests.append(f"{scope['method']} {scope['raw_path'].decode()}")
        await respond(send, body)


class Behind:
    """nginx on a unix socket, and behind it a server in a thread of its own. Made by the fixture `behind`."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = str(folder / "nginx")
        self.application = Asked()

    def start(self, nginx):
        self.server = Server(self.application, Config(port=0, lifespan="off", access_log=False))
        ready = threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self.serve(ready),))
        self.thread.start()
        assert ready.wait(10)
        server = README_SAYS.replace("listen 80", f"listen unix:{self.socket}")
        assert "127.0.0.1:8000" in server
        server = server.replace("127.0.0.1:8000", f"127.0.0.1:{self.server.port}")
        config = self.folder / "nginx.conf"
        config.write_text(AROUND_IT.format(folder=self.folder, server=server))
        # It is a daemon, so that the command returns when it listens.
        command = [nginx, "-c", str(config), "-e", str(self.folder / "error.log")]
        subprocess.run(command, check=True, timeout=10)

    async def serve(self, ready):
        async with self.server:
            ready.set()
            await self.server.stopped()

    @contextmanager
    def connected(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(self.socket)
            yield client

    def said(self):
        """(request, status, status that nginx was given) of each request that nginx has seen."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [tuple(line.rsplit(" ", 2)) for line in lines]

    def end(self):
        pid = self.folder / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
        self.server.stop(at_once=True)
        self.thread.join(10)


@pytest.fixture
def behind(need, tmp_path_factory):
    nginx = need("nginx", "/usr/sbin/nginx", install="nginx")
    behind = Behind(tmp_path_factory.mktemp("n"))
    try:
        behind.start(nginx)
        yield behind
    finally:
        behind.end()


def test_requests_and_uploads_go_through_on_kept_connections(behind):
    with httpx.Client(transport=httpx.HTTPTransport(uds=behind.socket), timeout=10) as client:
        for body in (b"", b"hello", bytes(1_000_000)):
            answer = client.post("http://site/path?query", content=body)
            assert (answer.status_code, answer.content) == (200, body)
        parts = (b"part" for _ in range(100))
        assert client.post("http://site/", content=parts).content == b"part" * 100
    assert len(behind.application.clients) == 1, "nginx keeps its connection"


def test_websockets_go_through(behind):
    with websockets.sync.client.unix_connect(behind.socket, "ws://site/chat") as client:
        for text in ("hello", "x" * 100_000):
            client.send(text)
            assert client.recv(timeout=10) == text


def test_nginx_and_we_read_the_same_requests_out_of_the_same_bytes(behind):
    """Each attack of the tests of strict reading, and what is odd but right, through a reader of another kind.

    nginx is laxer in some things, as in lines that end with LF. What it takes for a request it writes anew;
    what matters is that we never see one that it has not seen.
    """
    for request, *_ in (*REFUSED.values(), *TAKEN.values()):
        with behind.connected() as client, suppress(ConnectionResetError):  # nginx does not close in stages
            client.sendall(request + SMUGGLED)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    served = [request for request, _, given in behind.said() if given == "200"]
    assert served == behind.application.requests
    assert len(served) > len(TAKEN)
