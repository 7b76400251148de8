"""WebSocket of the HTTP & WebSocket specification 2.5, with the websockets library as the client."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from miniasgi.asgi import ASGIError, ClientDisconnected
from tests.applications import echo
from tests.memory import MemoryClient
from tests.protocol.test_websocket import BINARY, CONTINUATION, PING, PONG, TEXT, frame
from tests.protocol.test_websocket import CLOSE as CLOSE_FRAME

from .dialogue import ACCEPT, CLOSE, handshake, no_calls, raised_by, receive_all, ws

SEND = {"type": "websocket.send", "text": "x"}


class Session:
    """An application that accepts, runs `act(receive, send)`, and keeps its scope and what it received."""

    def __init__(self, act=None, accept=ACCEPT):
        self.act = act
        self.accept = accept
        self.events = []

    async def __call__(self, scope, receive, send):
        self.scope = scope

        async def noted():
            self.events.append(await receive())
            return self.events[-1]

        await noted()
        await send(self.accept)
        if self.act is not None:
            await self.act(noted, send)
        if self.events[-1]["type"] != "websocket.disconnect":
            await receive_all(noted, "websocket.disconnect")


# ---- the scope ----


async def test_a_websocket_has_the_type_websocket_and_the_scheme_ws(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server, connect(ws(server)):
        pass
    assert (app.scope["type"], app.scope["scheme"], app.scope["http_version"]) == ("websocket", "ws", "1.1")


async def test_path_and_query_string_are_those_of_the_handshake(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server, connect(ws(server, "/a%20b/%C3%A9?c=%20d")):
        pass
    assert app.scope["path"] == "/a b/é"
    assert app.scope["raw_path"] == b"/a%20b/%C3%A9"
    assert app.scope["query_string"] == b"c=%20d"
    assert app.scope["root_path"] == ""


async def test_headers_of_the_handshake_come_in_their_order_with_duplicates(bare_server, raw):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(handshake(b"X-B: 1", b"Cookie: a", b"x-a: \xe9", b"X-B: 2", b"Cookie: b"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert [tuple(pair) for pair in app.scope["headers"]][-5:] == [
        (b"x-b", b"1"),
        (b"cookie", b"a"),
        (b"x-a", b"\xe9"),
        (b"x-b", b"2"),
        (b"cookie", b"b"),
    ]
    names = {name for name, _ in app.scope["headers"]}
    assert {b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"} <= names


async def test_client_and_server_of_a_websocket_are_the_two_ends_of_the_connection(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server, connect(ws(server)) as client:
        ours, theirs = client.local_address, client.remote_address
    assert (tuple(app.scope["client"]), tuple(app.scope["server"])) == (ours, theirs)


async def test_the_subprotocols_are_those_that_the_client_offers(bare_server):
    for offered in (["b", "a"], None):
        app = Session()
        async with bare_server(app, lifespan="off") as server, connect(ws(server), subprotocols=offered):
            pass
        assert app.scope["subprotocols"] == (offered or [])


async def test_state_of_a_websocket_is_a_copy_of_the_lifespans(bare_server):
    pool, seen = object(), []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = pool
            await send({"type": "lifespan.startup.complete"})
        else:
            seen.append(scope["state"].copy())
            scope["state"]["mine"] = True
            await receive()
            await send(CLOSE)

    async with bare_server(app) as server:
        for _ in range(2):
            with pytest.raises(InvalidStatus):
                await connect(ws(server))
    assert seen == [{"pool": pool}] * 2


async def test_a_websocket_ends_with_its_application(bare_server):
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        if scope["path"] == "/fails":
            raise ValueError

    async with bare_server(app, lifespan="off") as server:
        for path, code in (("/returns", 1000), ("/fails", 1011)):
            async with connect(ws(server, path)) as client:
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
            assert closed.value.rcvd.code == code


async def test_an_application_lasts_as_long_as_its_websocket(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        async with connect(ws(server)) as client:
            for _ in range(3):
                await (await client.ping())
                assert len(server.runtime.calls) == 1
        await no_calls(server)
    assert [event["type"] for event in app.events] == ["websocket.connect", "websocket.disconnect"]


# ---- frames ----


async def test_pings_of_the_client_are_answered_without_the_application(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server, connect(ws(server)) as client:
        await asyncio.wait_for(await client.ping(b"there?"), 5)
    assert len(app.events) == 2


async def test_pings_are_sent_to_see_that_the_client_is_there():
    """Every `ws_ping_interval`; a client that does not answer is closed."""
    app = Session()
    client = MemoryClient(app, ws_ping_interval=20.0, ws_ping_timeout=20.0)
    await client.send(handshake())
    client.transport.writes.clear()
    await client.pass_time(21)
    assert client.written == bytes([0x80 | PING, 0])
    await client.send(frame(PONG))
    await client.pass_time(21)
    assert client.written == bytes([0x80 | PING, 0]) * 2
    await client.pass_time(21)
    assert app.events[-1]["type"] == "websocket.disconnect"
    assert len(app.events) == 2


async def test_fragments_are_received_as_one_message(bare_server):
    async with bare_server(echo) as server, connect(ws(server)) as client:
        for fragments in (["one ", "", "message"], [b"in ", b"three ", b"frames"]):
            await client.send(iter(fragments))
            assert await client.recv() == fragments[0][:0].join(fragments)


async def test_a_ping_between_fragments_leaves_the_message_whole():
    app = Session()
    client = MemoryClient(app)
    await client.send(handshake())
    await client.send(frame(TEXT, b"a", fin=0) + frame(PING) + frame(CONTINUATION, b"b"))
    assert app.events[1] == {"type": "websocket.receive", "text": "ab"}
    client.transport.lose()
    await client.turns()


# ---- connect and accept ----


async def test_the_handshake_waits_for_the_application(bare_server, raw):
    go_on, received = asyncio.Event(), []

    async def app(scope, receive, send):
        received.append(await receive())
        await go_on.wait()
        await send(ACCEPT)

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(handshake())
        while not received:
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        go_on.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert received == [{"type": "websocket.connect"}]


async def test_no_message_is_received_before_the_application_has_accepted():
    events, accept = [], asyncio.Event()

    async def app(scope, receive, send):
        async def keep():
            while True:
                events.append((await receive())["type"])

        keeping = asyncio.create_task(keep())
        await accept.wait()
        await send(ACCEPT)
        try:
            await keeping
        finally:
            keeping.cancel()

    client = MemoryClient(app)
    await client.send(handshake() + frame(TEXT, b"early"), frame(BINARY, b"too"))
    assert events == ["websocket.connect"]
    accept.set()
    await client.turns()
    assert events == ["websocket.connect", "websocket.receive", "websocket.receive"]
    client.transport.lose()
    [call] = client.runtime.calls
    call.task.cancel()
    await client.turns()


async def test_accept_has_its_defaults(bare_server):
    async with bare_server(Session(), lifespan="off") as server, connect(ws(server)) as client:
        assert client.subprotocol is None
        assert client.response.status_code == 101


async def test_accept_chooses_a_subprotocol(bare_server):
    app = Session(accept={**ACCEPT, "subprotocol": "b"})
    async with (
        bare_server(app, lifespan="off") as server,
        connect(ws(server), subprotocols=["a", "b"]) as client,
    ):
        assert client.subprotocol == "b"


@pytest.mark.parametrize("make", [list, tuple, iter, lambda lines: [list(line) for line in lines]])
async def test_headers_of_the_accept_are_any_iterable_and_keep_their_order(bare_server, make):
    lines = [(b"x-b", b"1"), (b"set-cookie", b"a"), (b"x-a", b"2"), (b"set-cookie", b"b"), (b"x-b", b"3")]
    app = Session(accept={**ACCEPT, "headers": make(lines)})
    async with bare_server(app, lifespan="off") as server, connect(ws(server)) as client:
        got = [(name.encode(), value.encode()) for name, value in client.response.headers.raw_items()]
    assert [line for line in got if line in lines] == lines


async def test_a_subprotocol_among_the_headers_of_the_accept_is_an_error(bare_server):
    errors = []

    async def app(scope, receive, send):
        await receive()
        for name in (b"sec-websocket-protocol", b"Sec-WebSocket-Protocol"):
            errors.append(await raised_by(send({**ACCEPT, "headers": [(name, b"a")]})))
        await send(ACCEPT)

    async with bare_server(app, lifespan="off") as server, connect(ws(server), subprotocols=["a"]) as client:
        assert client.subprotocol is None
    assert [type(error) for error in errors] == [ASGIError] * 2


# ---- messages ----


async def test_a_received_message_has_either_text_or_bytes(bare_server):
    app = Session()
    sent = ["text", "", "é🐍", b"bytes", b""]
    async with bare_server(app, lifespan="off") as server:
        async with connect(ws(server)) as client:
            for message in sent:
                await client.send(message)
        await no_calls(server)
    for message, event in zip(sent, app.events[1:-1], strict=True):
        assert event["type"] == "websocket.receive"
        assert event.get("text") == (message if isinstance(message, str) else None)
        assert event.get("bytes") == (message if isinstance(message, bytes) else None)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"text": "é"}, "é"),
        ({"text": ""}, ""),
        ({"text": "x", "bytes": None}, "x"),
        ({"bytes": b"x"}, b"x"),
        ({"bytes": b""}, b""),
        ({"bytes": b"x", "text": None}, b"x"),
    ],
)
async def test_a_sent_message_has_either_text_or_bytes_and_the_other_may_be_none(bare_server, message, sent):
    async def act(receive, send):
        await send({"type": "websocket.send", **message})

    async with bare_server(Session(act), lifespan="off") as server, connect(ws(server)) as client:
        assert await client.recv() == sent


# ---- the end ----


async def test_a_close_of_the_client_is_told_with_its_code_and_reason(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        async with connect(ws(server)) as client:
            await client.close(4002, "bye")
        await no_calls(server)
    assert app.events[-1] == {"type": "websocket.disconnect", "code": 4002, "reason": "bye"}


async def test_a_close_without_code_is_told_as_1005(bare_server, raw):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(CLOSE_FRAME))
        await no_calls(server)
    assert app.events[-1] == {"type": "websocket.disconnect", "code": 1005, "reason": ""}


async def test_a_lost_connection_is_told(bare_server, raw):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await no_calls(server)
    assert app.events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_a_close_of_the_server_is_told(bare_server):
    app = Session()
    async with bare_server(app, lifespan="off") as server:
        client = await connect(ws(server))
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd.code == app.events[-1]["code"] == 1012


async def test_a_close_of_the_application_is_told(bare_server):
    async def act(receive, send):
        await send({**CLOSE, "code": 4001, "reason": "enough"})

    app = Session(act)
    async with bare_server(app, lifespan="off") as server:
        async with connect(ws(server)) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
        await no_calls(server)
    assert app.events[-1] == {"type": "websocket.disconnect", "code": 4001, "reason": "enough"}


@pytest.mark.parametrize("message", [SEND, CLOSE, {"type": "websocket.send", "bytes": b"x"}], ids=repr)
@pytest.mark.parametrize("how", ["client closed", "lost", "server stopped"])
async def test_send_raises_an_oserror_of_the_servers_own_once_the_websocket_is_over(
    bare_server, raw, caplog, how, message
):
    errors = []

    async def act(receive, send):
        await receive_all(receive, "websocket.disconnect")
        errors.append(await raised_by(send(message)))
        await send(message)

    async with bare_server(Session(act), lifespan="off") as server:
        client = await connect(ws(server))
        if how == "client closed":
            await client.close()
        elif how == "lost":
            client.transport.abort()
        if how != "server stopped":
            await no_calls(server)
    await client.close()
    assert [type(error) for error in errors] == [ClientDisconnected]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("path", ["/closes", "/denies"])
async def test_send_raises_an_oserror_after_the_application_has_closed_too(bare_server, caplog, path):
    """A closed connection is closed, whoever closed it."""
    errors = []

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/closes":
            await send(ACCEPT)
        await send(CLOSE)
        for message in (SEND, CLOSE):
            errors.append(await raised_by(send(message)))
        await send(SEND)

    async with bare_server(app, lifespan="off") as server:
        with pytest.raises((ConnectionClosedOK, InvalidStatus)):
            async with connect(ws(server, path)) as client:
                await client.recv()
        await no_calls(server)
    assert len(errors) == 2
    assert all(isinstance(error, OSError) for error in errors), errors
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_close_before_the_accept_is_a_403(bare_server):
    async def app(scope, receive, send):
        await receive()
        await send({**CLOSE, "code": 4000, "reason": "not told"})

    async with bare_server(app, lifespan="off") as server:
        with pytest.raises(InvalidStatus) as denied:
            await connect(ws(server))
    assert denied.value.response.status_code == 403


async def test_a_close_before_the_accept_closes_the_connection(bare_server, raw):
    async def app(scope, receive, send):
        await receive()
        await send(CLOSE)

    async with bare_server(app, lifespan="off", timeout_keep_alive=60.0) as server:
        reader, writer = await raw(server)
        writer.write(handshake())
        answer = await asyncio.wait_for(reader.read(), 5)  # to the end of the connection
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": 4001}, 4001, ""),
        ({"code": 3000, "reason": None}, 3000, ""),
        ({"reason": "done"}, 1000, "done"),
        ({"reason": "é 🐍 \n\0"}, 1000, "é 🐍 \n\0"),
        ({"code": 1001, "reason": "é" * 100}, 1001, "é" * 61),
    ],
)
async def test_a_close_after_the_accept_has_the_code_and_the_reason_of_the_message(
    bare_server, message, code, reason
):
    """Of a reason that does not fit into a close frame (RFC 6455 section 5.5), what fits."""

    async def act(receive, send):
        await send({**CLOSE, **message})

    async with bare_server(Session(act), lifespan="off") as server, connect(ws(server)) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
