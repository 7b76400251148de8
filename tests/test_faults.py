"""Clients that reset or half-close their connection at every point, on both event loops.

After each of them: nobody was warned, no callback has failed, another client is answered; and at the end of each
test no connection, no call, no task and no descriptor is left. The clients are bare sockets, so that each byte
is theirs to send or not.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct

import pytest

from tests.applications import echo, respond
from tests.conftest import descriptors

pytestmark = pytest.mark.both_loops

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: x\r\n\r\n"
)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
SIZE = 3_000_000  # more than any buffer on the way takes


def frame(opcode, data, *, last=True):
    """A client's frame, masked (RFC 6455 section 5.2)."""
    mask = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    return bytes([opcode | last << 7, 0x80 | len(data)]) + mask + masked


FRAMES = {
    "text": frame(1, b"hello"),
    "fragments": frame(1, b"hel", last=False) + frame(9, b"ping") + frame(0, b"lo"),
    "close": frame(8, b"\x03\xe8bye"),
}


async def app(scope, receive, send):
    if scope["path"] == "/big":
        await respond(send, bytes(SIZE))
    else:
        await echo(scope, receive, send)


# ---- the scene ----


class Client:
    """A socket of a client. Made by Scene.client, which closes it."""

    def __init__(self, sock):
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        sock.setblocking(False)

    async def send(self, data):
        """Send, and let the server read it, as far as it does so at once."""
        await self.loop.sock_sendall(self.sock, data)
        for _ in range(5):
            await asyncio.sleep(0)

    async def read(self, size):
        return await asyncio.wait_for(self.loop.sock_recv(self.sock, size), 5)

    async def read_until(self, end):
        got = b""
        while not got.endswith(end):
            piece = await self.read(1 << 16)
            assert piece, f"the connection has ended behind {got!r}"
            got += piece
        return got

    async def read_all(self):
        """All that comes until the server ends its side, or the connection."""
        got = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := await self.read(1 << 20):
                got += piece
        return bytes(got)

    async def shake_hands(self, context):
        """Agree on TLS; what encrypts from then on."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.send(outgoing.read())
                incoming.write(await self.read(1 << 16))
        await self.send(outgoing.read())
        return tls, outgoing

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)


class Scene:
    """A server in this loop, and a healthy client, which is answered again and again."""

    def __init__(self, server, healthy):
        self.server = server
        self.healthy = healthy

    @contextlib.asynccontextmanager
    async def client(self):
        """A client, and that nothing of it is left in the server at the end of the block."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as sock:
            yield Client(sock)
        async with asyncio.timeout(5):
            runtime = self.server.runtime
            while len(runtime.connections) != 1 or runtime.calls or self.server.acceptor.arriving:
                await asyncio.sleep(0)
        await self.healthy()


@pytest.fixture
def scene(bare_server, certificates, caplog):
    """`async with scene(tls=False) as it`: a Scene, and the invariants at the end of the block."""

    @contextlib.asynccontextmanager
    async def make(*, tls=False):
        options = {"ssl_certfile": certificates.server} if tls else {}
        context = ssl.create_default_context(cafile=certificates.ca) if tls else None
        loop, failures = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: failures.append(context))
        async with (
            bare_server(app, lifespan="off", timeout_keep_alive=60, **options) as server,
            healthy_client(server, context) as healthy,
        ):
            before = descriptors(), asyncio.all_tasks()
            yield Scene(server, healthy)
            async with asyncio.timeout(5):  # the last client may not be accepted yet
                while (descriptors(), asyncio.all_tasks()) != before:
                    await asyncio.sleep(0.001)
        assert not server.runtime.connections
        assert not server.runtime.calls
        assert failures == []
        assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []

    return make


@contextlib.asynccontextmanager
async def healthy_client(server, context):
    secure = {} if context is None else {"ssl": context, "server_hostname": "localhost"}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **secure)

    async def is_answered():
        writer.write(POST)
        await asyncio.wait_for(reader.readuntil(b"hello world"), 5)

    try:
        await is_answered()
        yield is_answered
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# ---- HTTP ----


# What is sent, and how often it is answered in whole when all of it came before the end.
REQUESTS = {
    "get": (GET, 1),
    "post": (POST, 1),
    "chunked": (CHUNKED, 1),
    "pipelined": (GET + POST, 2),
    "handshake": (UPGRADE, 0),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_client_may_reset_at_each_byte_of_a_request(scene, name):
    request, _ = REQUESTS[name]
    async with scene() as it:
        for cut in range(len(request) + 1):
            async with it.client() as client:
                await client.send(request[:cut])
                client.reset()


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_client_may_half_close_at_each_byte_of_a_request(scene, name):
    request, answers = REQUESTS[name]
    async with scene() as it:
        for cut in range(len(request) + 1):
            async with it.client() as client:
                await client.send(request[:cut])
                client.half_close()
                got = await client.read_all()
        assert got.count(b"HTTP/1.1 200 OK") == answers  # of the whole request


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_client_may_reset_in_one_turn_with_a_request(scene, name):
    """The server reads it and is told of the reset together, or of that alone."""
    request, _ = REQUESTS[name]
    async with scene() as it:
        for cut in range(0, len(request) + 1, 5):
            async with it.client() as client:
                await client.loop.sock_sendall(client.sock, request[:cut])
                client.reset()


@pytest.mark.parametrize("taken", [0, 1, 1000, 1_000_000])
async def test_a_client_may_reset_in_mid_response(scene, taken):
    async with scene() as it, it.client() as client:
        await client.send(BIG)
        while taken > 0:
            taken -= len(await client.read(taken))
        client.reset()


@pytest.mark.parametrize("taken", [0, 1, 1000, 1_000_000])
async def test_a_client_that_half_closes_in_mid_response_gets_all_of_it(scene, taken):
    async with scene() as it, it.client() as client:
        await client.send(BIG)
        got = b""
        while len(got) < taken:
            got += await client.read(taken - len(got))
        client.half_close()
        got += await client.read_all()
        assert len(got.partition(b"\r\n\r\n")[2]) == SIZE


# ---- WebSocket ----


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("end", [Client.reset, Client.half_close])
async def test_a_client_may_leave_at_each_byte_of_its_frames(scene, name, end):
    async with scene() as it:
        for cut in range(len(FRAMES[name]) + 1):
            async with it.client() as client:
                await client.send(UPGRADE)
                await client.read_until(b"\r\n\r\n")
                await client.send(FRAMES[name][:cut])
                end(client)
                if end is Client.half_close:
                    await client.read_all()


# ---- TLS ----


@pytest.fixture
def context(certificates):
    return ssl.create_default_context(cafile=certificates.ca)


@pytest.mark.parametrize("end", [Client.reset, Client.half_close])
async def test_a_client_may_leave_at_any_byte_of_its_hello(scene, context, end):
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    async with scene(tls=True) as it:
        for cut in [*range(12), *range(12, len(hello), 50), len(hello) - 1, len(hello)]:
            async with it.client() as client:
                await client.send(hello[:cut])
                end(client)
                if end is Client.half_close:
                    await client.read_all()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("end", [Client.reset, Client.half_close])
@pytest.mark.parametrize("request_", [GET, CHUNKED, BIG, UPGRADE], ids=["get", "chunked", "big", "handshake"])
async def test_a_client_may_leave_behind_its_handshake_and_in_any_record(
    scene, context, version, end, request_
):
    context.minimum_version = context.maximum_version = version
    async with scene(tls=True) as it:
        for cut in (0, 1, 5, 20, 10_000):
            async with it.client() as client:
                tls, outgoing = await client.shake_hands(context)
                tls.write(request_)
                await client.send(outgoing.read()[:cut])
                end(client)
                if end is Client.half_close:
                    await client.read_all()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_client_without_tls_may_reset_before_it_is_answered(scene, method):
    request = method + b" / HTTP/1.1\r\nHost: x\r\n\r\n"
    async with scene(tls=True) as it:
        for cut in range(len(request)):
            async with it.client() as client:
                await client.send(request[:cut])
                client.reset()
