"""A fault of the server's own in one connection ends that connection, and nothing else, on both event loops.

Each test makes one callback of one connection raise. What the loops call themselves they guard in part: that
is a promise of theirs on which the road relies, and is seen here.
"""

import asyncio
import contextlib
import ssl

import pytest

from miniasgi import Config, Server
from miniasgi.protocol.connection import Connection
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.tls_transport import Handshake, TLSTransport
from tests.applications import respond

pytestmark = pytest.mark.both_loops

HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WAITS = b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST /waits HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
UPGRADE = (
    b"GET /waits HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


class Fault(Exception):
    """What the callbacks raise."""


class Scene:
    """A server with two clients: the victim, whose application waits for what it sends, and another one."""

    def __init__(self, context, config):
        self.context = context
        self.server = Server(self.app, config)
        self.opened = []  # what the clients have opened
        self.received = []  # the types of what the victim's application was given
        self.ended = asyncio.Event()  # the victim's application has returned

    async def app(self, scope, receive, send):
        if scope["path"] != "/waits":
            await respond(send, b"hello")
            return
        kind = ""
        while not kind.endswith(".disconnect"):
            kind = (await receive())["type"]
            self.received.append(kind)
            if kind == "websocket.connect":
                await send({"type": "websocket.accept"})
        self.ended.set()

    async def open(self):
        secure = {} if self.context is None else {"ssl": self.context, "server_hostname": "localhost"}
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, **secure)
        self.opened.append(writer)
        return reader, writer

    async def begin(self, request):
        """The victim sends its request, and its application waits."""
        before = set(self.server.runtime.connections)
        self.reader, self.writer = await self.open()
        self.writer.write(request)
        while not (self.received or (request is UPLOAD and self.server.runtime.calls)):
            await asyncio.sleep(0)
        if request is UPGRADE:
            await self.reader.readuntil(b"\r\n\r\n")
        [self.connection] = set(self.server.runtime.connections) - before

    async def ends(self):
        """The victim sees the end of its connection, and its application too."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await asyncio.wait_for(self.reader.read(), 5)
        await asyncio.wait_for(self.ended.wait(), 5)
        assert self.received[-1].endswith(".disconnect")

    async def close(self):
        for writer in self.opened:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
def scene(certificates):
    """`async with scene(tls=True, …) as it`: a Scene; at the end of the block all of it is over."""

    @contextlib.asynccontextmanager
    async def make(*, tls=False, **options):
        options = {"port": 0, "lifespan": "off", "timeout_graceful_shutdown": 1, **options}
        if tls:
            options["ssl_certfile"] = certificates.server
        it = Scene(ssl.create_default_context(cafile=certificates.ca) if tls else None, Config(**options))
        try:
            async with it.server:
                other = await it.open()
                await ask(*other)
                yield it
                await ask(*other)
        finally:
            await it.close()
        assert not it.server.runtime.connections
        assert not it.server.runtime.calls

    return make


async def ask(reader, writer):
    writer.write(HELLO)
    await asyncio.wait_for(reader.readuntil(b"hello"), 5)


def faults(caplog):
    """The records of the log that have the fault's traceback."""
    return [each for each in caplog.records if each.exc_info and isinstance(each.exc_info[1], Fault)]


def break_(monkeypatch, owner, name):
    """The next call of this raises."""

    def method(*_, **__):
        monkeypatch.undo()
        raise Fault

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize("request_", [WAITS, UPLOAD, UPGRADE], ids=["get", "upload", "websocket"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ["data_received", "eof_received", "pump_now", "on_deadline"])
async def test_a_callback_that_raises_ends_its_connection_alone(
    scene, monkeypatch, caplog, name, tls, request_
):
    async with scene(tls=tls) as it:
        await it.begin(request_)
        break_(monkeypatch, type(it.connection), "pump" if name == "pump_now" else name)
        match name:
            case "data_received":
                it.connection.transport.set_protocol(it.connection)  # uvloop remembers the method
                it.writer.write(b"12345")
            case "eof_received" if tls:
                it.writer.close()
            case "eof_received":
                it.writer.write_eof()
            case "pump_now":
                it.connection.pump_soon()
            case "on_deadline":
                it.connection.deadline = 0
                it.server.runtime.tick()
        await it.ends()
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("request_", [WAITS, UPLOAD, UPGRADE], ids=["get", "upload", "websocket"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_stop_that_fails_for_one_connection_reaches_the_others(
    scene, monkeypatch, caplog, tls, request_
):
    stopped = []
    async with scene(tls=tls) as it:
        await it.begin(request_)
        for owner in {Http1Connection, type(it.connection)}:
            stop = owner.stop

            def stop_or_fail(connection, stop=stop):
                stopped.append(connection)
                if connection is it.connection:
                    raise Fault
                stop(connection)

            monkeypatch.setattr(owner, "stop", stop_or_fail)
        connections = set(it.server.runtime.connections)
    assert set(stopped) == connections
    await it.ends()
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_connection_that_cannot_be_given_up_keeps_the_server_from_nothing(
    scene, monkeypatch, caplog, tls
):
    async with scene(tls=tls, timeout_graceful_shutdown=0) as it:
        await it.begin(WAITS)
        break_(monkeypatch, Connection, "give_up")
    assert it.server.clock.cancelled()
    assert it.server.sockets[0].fileno() == -1
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_one_that_fails_at_its_deadline_keeps_no_other_from_being_judged(
    scene, monkeypatch, caplog, tls
):
    async with scene(tls=tls) as it:
        await it.begin(WAITS)
        idle = [each for each in it.server.runtime.connections if each is not it.connection]
        judged = []
        original = Http1Connection.on_deadline

        def on_deadline(connection):
            judged.append(connection)
            if connection is it.connection:
                raise Fault

        for each in (it.connection, *idle):
            each.deadline = 0
        monkeypatch.setattr(Http1Connection, "on_deadline", on_deadline)
        it.server.runtime.tick()
        monkeypatch.setattr(Http1Connection, "on_deadline", original)
        assert set(judged) == {it.connection, *idle}
        idle[0].expect_within(5)
        await it.ends()
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("name", ["connection_made", "handshake", "secured"])
async def test_a_client_for_whom_no_connection_can_be_made_is_let_go(scene, monkeypatch, caplog, name):
    async with scene(tls=name != "connection_made") as it:
        match name:
            case "connection_made" | "secured":
                break_(monkeypatch, Http1Connection, "__init__")
            case "handshake":
                break_(monkeypatch, Handshake, "__init__")
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
            await ask(*await it.open())
    assert len(faults(caplog)) == 1


async def test_a_handshake_that_fails_in_the_server_is_let_go(scene, monkeypatch, caplog):
    async with scene(tls=True) as it:
        break_(monkeypatch, Handshake, "succeed")
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
            await ask(*await it.open())
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("request_", [UPLOAD, UPGRADE], ids=["upload", "websocket"])
async def test_what_fails_as_reading_goes_on_ends_a_tls_connection(scene, monkeypatch, caplog, request_):
    async with scene(tls=True) as it:
        await it.begin(request_)
        it.connection.pause_reading()
        break_(monkeypatch, TLSTransport, "decrypt")
        it.connection.resume_reading()
        await it.ends()
    assert len(faults(caplog)) == 1


async def test_what_fails_as_writing_goes_on_ends_a_websocket(scene, monkeypatch, caplog):
    """Pausing sets a flag, and resuming wakes who waits, before anything that can fail."""
    async with scene() as it:
        await it.begin(UPGRADE)
        break_(monkeypatch, type(it.connection), "send_owed_pong")
        it.connection.resume_writing()
        await it.ends()
    assert len(faults(caplog)) == 1


@pytest.mark.parametrize("request_", [WAITS, UPLOAD, UPGRADE], ids=["get", "upload", "websocket"])
async def test_an_access_log_that_fails_is_not_the_clients_affair(scene, monkeypatch, caplog, request_):
    def access(*_):
        raise Fault

    async with scene() as it:
        await it.begin(request_)
        monkeypatch.setattr(it.server.runtime, "access", access)
        it.writer.close()
        await it.ends()
        other = await it.open()
        await ask(*other)
        await ask(*other)
    assert len(faults(caplog)) == 1 + 2 + 1  # the one at the end of the scene


async def test_a_task_that_cannot_be_made_ends_the_connection(scene, monkeypatch, caplog):
    def start_task(coroutine, **_):
        raise Fault

    async with scene() as it:
        other = await it.open()
        with monkeypatch.context() as patch:
            patch.setattr(it.server.runtime, "start_task", start_task)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await ask(*other)
        assert not it.server.runtime.calls
    assert len(faults(caplog)) == 1
