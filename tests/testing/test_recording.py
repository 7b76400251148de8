"""The conversation that a test asserts on: messages, bytes, times; and that nobody notices being recorded."""

import asyncio

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.sync.client import connect as connect_websocket_blocking

from miniasgi import Config, Server
from miniasgi.observe import recording
from miniasgi.observe.trace import Trace
from miniasgi.testing import connect, serve
from tests.applications import echo, respond
from tests.protocol.test_cuts import CORPUS
from tests.protocol.test_websocket import handshake

from .applications import failing, hello, stuck


def test_an_exchange_has_all_that_was_said():
    with serve(hello) as server:
        client = server.raw()
        client.send(b"GET /path?q HTTP/1.1\r\nHost: x\r\n\r\n")
        told = client.response()
        (exchange,) = server.exchanges
        server.wait_for(lambda: exchange.ended)
    assert exchange.scope["path"] == "/path"
    assert exchange.scope["query_string"] == b"q"
    assert exchange.received == []
    assert exchange.sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
        {"type": "http.response.body", "body": b"ok"},
    ]
    assert exchange.types == ["http.response.start", "http.response.body"]
    assert (exchange.status, exchange.body, exchange.answered) == (200, b"ok", True)
    assert exchange.bytes_received == b"GET /path?q HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange.bytes_sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert exchange.bytes_sent.endswith(b"\r\n\r\nok")
    assert told.body == b"ok"
    assert 0 <= exchange.messages[0].seconds <= exchange.messages[1].seconds <= exchange.seconds < 5
    assert exchange.error is None
    assert repr(exchange).startswith("<RecordedExchange GET /path from 127.0.0.1:")


async def test_an_exchange_has_ended_when_what_went_wrong_has_been_told():
    async with serve(failing, errors="collect") as server:
        seen = []
        on_change = server.recording.on_change
        server.recording.on_change = lambda: (seen.append([e.ended for e in server.exchanges]), on_change())
        server.faults.on_change = lambda: seen.append("told")
        client = server.raw()
        await client.send(b"GET /KeyError HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response()).status == 500
        (exchange,) = server.exchanges
        await server.wait_for(lambda: exchange.ended)
    assert seen.index("told") < seen.index([exchange.ended])


async def test_of_large_bodies_the_first_and_the_last_ones_are_kept(monkeypatch):
    monkeypatch.setattr(recording, "KEPT_BODY", 40)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        for number in range(10):
            await send({"type": "http.response.body", "body": b"%d" % number * 10, "more_body": number < 9})

    async with connect(app) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert len((await wire.response()).body) == 100
        (exchange,) = wire.server.exchanges
        assert exchange.sent[0]["type"] == "http.response.start"
        assert [each["body"][:1] for each in exchange.sent[1:]] == [b"0", b"1", b"2", b"9"]
        assert exchange.left_out == 6


def test_each_exchange_of_a_connection_has_its_own_bytes():
    first = b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    second = b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        await respond(send, scope["path"].encode())

    with serve(app) as server:
        client = server.raw()
        client.send(first + second + first)
        assert [client.response().body for _ in range(3)] == [b"/1", b"/2", b"/1"]
        assert [each.bytes_received for each in server.exchanges] == [first, second, first]
        assert [each.bytes_sent.rpartition(b"\r\n")[2] for each in server.exchanges] == [b"/1", b"/2", b"/1"]


def test_a_websocket_has_all_of_its_bytes():
    with serve(echo) as server:
        with connect_websocket_blocking(server.ws_url, compression=None) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"
        exchange = server.wait_for("websocket.disconnect")
    assert exchange.types[:3] == ["websocket.connect", "websocket.accept", "websocket.receive"]
    assert exchange.bytes_received.startswith(b"GET / HTTP/1.1\r\n")
    assert b"\x81\x85" in exchange.bytes_received  # a masked frame of text
    assert exchange.bytes_sent.startswith(b"HTTP/1.1 101 ")
    assert b"\x81\x05hello" in exchange.bytes_sent


async def test_what_comes_in_one_piece_with_the_handshake_is_the_websockets():
    frame = b"\x81\x85\x00\x00\x00\x00hello"
    async with connect(echo) as wire:
        await wire.send(handshake() + frame)
        assert (await wire.response()).status == 101
        await wire.send(frame)
        (exchange,) = wire.server.exchanges
    assert exchange.bytes_received == handshake() + frame + frame


def test_tls_is_recorded_as_what_it_hides():
    with serve(hello, tls=True) as server:
        httpx.get(server.url, verify=server.ssl_context)
    assert server.exchanges[0].bytes_received.startswith(b"GET / HTTP/1.1\r\n")
    assert server.exchanges[0].bytes_sent.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_file_is_recorded_too(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]}
        )
        await send({"type": "http.response.pathsend", "path": str(path)})

    with serve(app) as server:
        assert len(httpx.get(server.url).content) == 100_000
    assert server.exchanges[0].bytes_sent.endswith(b"\r\n\r\n" + path.read_bytes())


def test_what_is_changed_afterwards_is_not_changed_in_the_recording():
    message = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        scope["path"] = "changed"
        await send(message)
        message["status"] = 500
        await send({"type": "http.response.body"})

    with serve(app) as server:
        httpx.get(server.url + "/path")
    assert server.exchanges[0].status == 200
    assert server.exchanges[0].scope["path"] == "/path"


def test_what_send_refused_is_there_with_its_error():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": "200"})

    with serve(app, errors="collect") as server:
        httpx.get(server.url)
    (entry,) = server.exchanges[0].messages
    assert entry.message == {"type": "http.response.start", "status": "200"}
    assert type(entry.error).__name__ == "ASGIError"
    assert server.exchanges[0].sent == []
    assert server.exchanges[0].error is entry.error


def test_with_debug_the_client_is_shown_the_failure_and_the_test_as_well(caplog):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await receive()
        await send({"type": "http.response.start", "status": 200, "headres": []})
        raise LookupError("no such thing")

    with serve(app, debug=True) as server:
        server.expect(LookupError)
        response = httpx.get(server.url)
    assert response.status_code == 500
    assert "LookupError: no such thing" in response.text
    assert "send     {'type': 'http.response.start', 'status': 200, 'headres': []}" in response.text
    assert server.exchanges[0].types == ["http.request", "http.response.start"]
    assert "did you mean 'headers'?" in caplog.text


def test_starlettes_templates_tell_their_context():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        assert "http.response.debug" in scope["extensions"]
        await send({"type": "http.response.debug", "info": {"template": "t", "context": {"x": 1}}})
        await respond(send, b"ok")

    with serve(app) as server:
        httpx.get(server.url)
    assert server.exchanges[0].sent[0]["info"]["context"] == {"x": 1}


# ---- waiting ----------------------------------------------------------------------------------------------


def test_waiting_for_a_message():
    with serve(stuck, errors="collect", timeout_graceful_shutdown=0) as server:
        client = server.raw()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert server.wait_for("http.request") is server.exchanges[0]
        client.close()
        assert server.wait_for("http.disconnect", timeout=5) is server.exchanges[0]


async def test_waiting_in_the_loop():
    async with serve(stuck, errors="collect", timeout_graceful_shutdown=0) as server:
        client = server.raw()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.reset()
        exchange = await server.wait_for("http.disconnect", timeout=5)
        assert await server.wait_for(lambda: exchange.types[:2]) == ["http.request", "http.disconnect"]


@pytest.mark.parametrize("what", ["http.disconnect", lambda: False])
def test_waiting_in_vain_tells_what_was_said(what):
    with serve(hello) as server:
        with pytest.raises(TimeoutError, match="within 0 s; what was said:\nnobody has asked for anything"):
            server.wait_for(what, timeout=0)
        httpx.get(server.url + "/path")
        with pytest.raises(TimeoutError, match="GET /path from .*: 200") as raised:
            server.wait_for(what, timeout=0)
        assert ("no http.disconnect within" in str(raised.value)) == (what == "http.disconnect")


async def test_waiting_in_vain_in_the_loop():
    async with serve(hello) as server:
        with pytest.raises(TimeoutError, match="no http.disconnect within 0.01 s; what was said:"):
            await server.wait_for("http.disconnect", timeout=0.01)


# ---- limits -----------------------------------------------------------------------------------------------


def test_what_is_kept_has_limits(monkeypatch):
    monkeypatch.setattr(recording, "KEPT_BYTES", 1000)
    monkeypatch.setattr(recording, "KEPT_EXCHANGES", 4)
    monkeypatch.setattr(recording.RecordedExchange, "kept", 3)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        await send({"type": "http.response.body"})

    with serve(app) as server, httpx.Client() as client:
        for number in range(5):
            assert client.get(f"{server.url}/{number}").text == "x" * 10_000
    assert [each.scope["path"] for each in server.exchanges] == ["/2", "/3", "/4"]
    exchange = server.exchanges[-1]
    assert len(exchange.messages) == 6
    assert exchange.left_out == 102 - 6
    assert exchange.messages[-1].message == {"type": "http.response.body"}
    assert len(exchange.bytes_sent) == 1000
    assert exchange.left.count > 10_000
    assert "… 96 more …" in exchange.report


# ---- nobody notices ---------------------------------------------------------------------------------------


async def told(server, port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("name", CORPUS)
async def test_a_recorded_client_reads_the_same_bytes_and_the_application_the_same_messages(name):
    async def app(scope, receive, send):
        kept = {key: value for key, value in scope.items() if key not in ("client", "server", "extensions")}
        heard.append(kept)
        assert scope["type"] in ("http", "websocket")
        message = {}
        while message.get("more_body", True) and message.get("type") != "http.disconnect":
            message = await receive()
            heard.append(message)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
                return
        await respond(send, repr(message).encode())

    config = Config(port=0, access_log=False, lifespan="off")
    records = []
    trace = Trace(records.append)
    ways = []
    for served in (
        Server(app, config),
        Server(trace.of_application(app), config, first=trace.first),
        serve(app, lifespan="off", errors="ignore"),
    ):
        heard = []
        async with served as server:
            data = await told(server, server.port, CORPUS[name])
        lines = [line for line in data.split(b"\r\n") if not line.startswith(b"date: ")]
        ways.append((lines, heard))
    assert ways[0] == ways[1] == ways[2]
    assert ways[0][0] != [b""]
    assert "".join(each.content["bytes"] for each in records if each.name == "write").encode("latin-1") != b""


async def test_many_clients_at_once_have_an_exchange_each():
    async with serve(echo) as server:

        async def one(number):
            async with connect_websocket(server.ws_url) as websocket:
                await websocket.send(str(number))
                return await websocket.recv()

        assert await asyncio.gather(*map(one, range(20))) == [str(number) for number in range(20)]
    assert len(server.exchanges) == 20
    texts = {each.received[1]["text"] for each in server.exchanges}
    assert texts == {str(number) for number in range(20)}


@pytest.mark.parametrize("wrapped", [False, True])
async def test_what_streams_is_closed_when_its_client_leaves_though_it_is_recorded(wrapped):
    closed = []

    async def events():
        try:
            while True:
                yield b"data: x\n\n"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        try:
            stream = events()  # held by this frame, as a response of Starlette holds it
            async for each in stream:
                await send({"type": "http.response.body", "body": each, "more_body": True})
        except OSError:
            if wrapped:
                raise ClientDisconnect from None
            raise

    async with connect(app) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await wire.receive_until(b"data: x")
        wire.close()
        await wire.server.wait_for(lambda: closed)


class ClientDisconnect(Exception):
    """By this name frameworks say that the client has left."""
