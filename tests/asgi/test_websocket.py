"""WebSocket of the HTTP & WebSocket specification 2.5, with the websockets library as the client."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.testing import connect as connect_memory
from miniasgi.testing import serve
from tests.applications import echo
from tests.protocol.test_websocket import BINARY, CONTINUATION, PING, PONG, TEXT, frame
from tests.protocol.test_websocket import CLOSE as CLOSE_FRAME

from .dialogue import ACCEPT, CLOSE, all_ended, handshake, raised_by, receive_all

SEND = {"type": "websocket.send", "text": "x"}


class Session:
    """An application that accepts, runs `act(receive, send)`, and receives until the WebSocket is over."""

    def __init__(self, act=None, accept=ACCEPT):
        self.act = act
        self.accept = accept

    async def __call__(self, scope, receive, send):
        await receive()
        await send(self.accept)
        if self.act is not None:
            await self.act(receive, send)
        await receive_all(receive, "websocket.disconnect")


# ---- the scope ----


async def scope_of(path="", **of_client):
    """The scope of a WebSocket that the websockets library has opened."""
    async with serve(Session(), lifespan="off") as server, connect(server.ws_url + path, **of_client):
        pass
    return server.exchanges[0].scope


async def test_a_websocket_has_the_type_websocket_and_the_scheme_ws():
    scope = await scope_of()
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")


async def test_path_and_query_string_are_those_of_the_handshake():
    scope = await scope_of("/a%20b/%C3%A9?c=%20d")
    assert scope["path"] == "/a b/é"
    assert scope["raw_path"] == b"/a%20b/%C3%A9"
    assert scope["query_string"] == b"c=%20d"
    assert scope["root_path"] == ""


async def test_headers_of_the_handshake_come_in_their_order_with_duplicates():
    async with serve(Session(), lifespan="off") as server:
        client = server.raw()
        await client.send(handshake(b"X-B: 1", b"Cookie: a", b"x-a: \xe9", b"X-B: 2", b"Cookie: b"))
        assert (await client.response()).status == 101
    headers = [tuple(pair) for pair in server.exchanges[0].scope["headers"]]
    assert headers[-5:] == [
        (b"x-b", b"1"),
        (b"cookie", b"a"),
        (b"x-a", b"\xe9"),
        (b"x-b", b"2"),
        (b"cookie", b"b"),
    ]
    names = {name for name, _ in headers}
    assert {b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"} <= names


async def test_client_and_server_of_a_websocket_are_the_two_ends_of_the_connection():
    async with serve(Session(), lifespan="off") as server, connect(server.ws_url) as client:
        ours, theirs = client.local_address, client.remote_address
    scope = server.exchanges[0].scope
    assert (tuple(scope["client"]), tuple(scope["server"])) == (ours, theirs)


async def test_the_subprotocols_are_those_that_the_client_offers():
    for offered in (["b", "a"], None):
        assert (await scope_of(subprotocols=offered))["subprotocols"] == (offered or [])


async def test_state_of_a_websocket_is_a_copy_of_the_lifespans():
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

    async with serve(app) as server:
        for _ in range(2):
            with pytest.raises(InvalidStatus):
                await connect(server.ws_url)
    assert seen == [{"pool": pool}] * 2


async def test_a_websocket_ends_with_its_application():
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        if scope["path"] == "/fails":
            raise ValueError

    async with serve(app, lifespan="off") as server:
        server.expect(ValueError)
        for path, code in (("/returns", 1000), ("/fails", 1011)):
            async with connect(server.ws_url + path) as client:
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
            assert closed.value.rcvd.code == code


async def test_an_application_lasts_as_long_as_its_websocket():
    async with serve(Session(), lifespan="off") as server:
        async with connect(server.ws_url) as client:
            for _ in range(3):
                await (await client.ping())
                assert [each.ended for each in server.exchanges] == [None]
        await all_ended(server)
    [exchange] = server.exchanges
    assert [event["type"] for event in exchange.received] == ["websocket.connect", "websocket.disconnect"]


# ---- frames ----


async def test_pings_of_the_client_are_answered_without_the_application():
    async with serve(Session(), lifespan="off") as server, connect(server.ws_url) as client:
        await asyncio.wait_for(await client.ping(b"there?"), 5)
    assert len(server.exchanges[0].received) == 2


async def test_pings_are_sent_to_see_that_the_client_is_there():
    """Every `ws_ping_interval`; a client that does not answer is closed."""
    async with connect_memory(Session(), lifespan="off", ws_ping_interval=20.0, ws_ping_timeout=20.0) as wire:
        await wire.send(handshake())
        assert (await wire.response()).status == 101
        await wire.server.pass_time(21)
        assert await wire.receive() == bytes([0x80 | PING, 0])
        await wire.send(frame(PONG))
        await wire.server.pass_time(21)
        assert await wire.receive() == bytes([0x80 | PING, 0])
        await wire.server.pass_time(21)
        [exchange] = wire.server.exchanges
        assert exchange.received[-1]["type"] == "websocket.disconnect"
        assert len(exchange.received) == 2


async def test_fragments_are_received_as_one_message():
    async with serve(echo) as server, connect(server.ws_url) as client:
        for fragments in (["one ", "", "message"], [b"in ", b"three ", b"frames"]):
            await client.send(iter(fragments))
            assert await client.recv() == fragments[0][:0].join(fragments)


async def test_a_ping_between_fragments_leaves_the_message_whole():
    async with connect_memory(Session(), lifespan="off") as wire:
        await wire.send(handshake())
        await wire.send(frame(TEXT, b"a", fin=0) + frame(PING) + frame(CONTINUATION, b"b"))
        assert wire.server.exchanges[0].received[1] == {"type": "websocket.receive", "text": "ab"}


# ---- connect and accept ----


async def test_the_handshake_waits_for_the_application():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await go_on.wait()
        await send(ACCEPT)

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(handshake())
        exchange = await server.wait_for("websocket.connect")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.receive(), 0.05)
        go_on.set()
        assert (await client.response()).status == 101
    assert exchange.received == [{"type": "websocket.connect"}]


async def test_no_message_is_received_before_the_application_has_accepted():
    accept = asyncio.Event()

    async def app(scope, receive, send):
        receiving = asyncio.create_task(receive_all(receive, "websocket.disconnect"))
        await accept.wait()
        await send(ACCEPT)
        await receiving

    async with connect_memory(app, lifespan="off") as wire:
        await wire.send(handshake() + frame(TEXT, b"early"), frame(BINARY, b"too"))
        [exchange] = wire.server.exchanges
        assert exchange.types == ["websocket.connect"]
        accept.set()
        await wire.server.wait_for(lambda: len(exchange.received) == 3)
        types = [event["type"] for event in exchange.received]
        assert types == ["websocket.connect", "websocket.receive", "websocket.receive"]


async def test_accept_has_its_defaults():
    async with serve(Session(), lifespan="off") as server, connect(server.ws_url) as client:
        assert client.subprotocol is None
        assert client.response.status_code == 101


async def test_accept_chooses_a_subprotocol():
    app = Session(accept={**ACCEPT, "subprotocol": "b"})
    async with (
        serve(app, lifespan="off") as server,
        connect(server.ws_url, subprotocols=["a", "b"]) as client,
    ):
        assert client.subprotocol == "b"


@pytest.mark.parametrize("make", [list, tuple, iter, lambda lines: [list(line) for line in lines]])
async def test_headers_of_the_accept_are_any_iterable_and_keep_their_order(make):
    lines = [(b"x-b", b"1"), (b"set-cookie", b"a"), (b"x-a", b"2"), (b"set-cookie", b"b"), (b"x-b", b"3")]
    app = Session(accept={**ACCEPT, "headers": make(lines)})
    async with serve(app, lifespan="off") as server, connect(server.ws_url) as client:
        got = [(name.encode(), value.encode()) for name, value in client.response.headers.raw_items()]
    assert [line for line in got if line in lines] == lines


async def test_a_subprotocol_among_the_headers_of_the_accept_is_an_error():
    errors = []

    async def app(scope, receive, send):
        await receive()
        for name in (b"sec-websocket-protocol", b"Sec-WebSocket-Protocol"):
            errors.append(await raised_by(send({**ACCEPT, "headers": [(name, b"a")]})))
        await send(ACCEPT)

    async with serve(app, lifespan="off") as server, connect(server.ws_url, subprotocols=["a"]) as client:
        assert client.subprotocol is None
    assert [type(error) for error in errors] == [ASGIError] * 2


# ---- messages ----


async def test_a_received_message_has_either_text_or_bytes():
    sent = ["text", "", "é🐍", b"bytes", b""]
    async with serve(Session(), lifespan="off") as server:
        async with connect(server.ws_url) as client:
            for message in sent:
                await client.send(message)
        await all_ended(server)
    for message, event in zip(sent, server.exchanges[0].received[1:-1], strict=True):
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
async def test_a_sent_message_has_either_text_or_bytes_and_the_other_may_be_none(message, sent):
    async def act(receive, send):
        await send({"type": "websocket.send", **message})

    async with serve(Session(act), lifespan="off") as server, connect(server.ws_url) as client:
        assert await client.recv() == sent


# ---- the end ----


async def test_a_close_of_the_client_is_told_with_its_code_and_reason():
    async with serve(Session(), lifespan="off") as server:
        async with connect(server.ws_url) as client:
            await client.close(4002, "bye")
        await all_ended(server)
    assert server.exchanges[0].received[-1] == {"type": "websocket.disconnect", "code": 4002, "reason": "bye"}


async def test_a_close_without_code_is_told_as_1005():
    async with serve(Session(), lifespan="off") as server:
        client = server.raw()
        await client.send(handshake(), frame(CLOSE_FRAME))
        exchange = await server.wait_for("websocket.disconnect")
    assert exchange.received[-1] == {"type": "websocket.disconnect", "code": 1005, "reason": ""}


async def test_a_lost_connection_is_told():
    async with serve(Session(), lifespan="off") as server:
        client = server.raw()
        await client.send(handshake())
        await client.response()
        client.reset()
        exchange = await server.wait_for("websocket.disconnect")
    assert exchange.received[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_a_close_of_the_server_is_told():
    async with serve(Session(), lifespan="off") as server:
        client = await connect(server.ws_url)
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert closed.value.rcvd.code == server.exchanges[0].received[-1]["code"] == 1012


async def test_a_close_of_the_application_is_told():
    async def act(receive, send):
        await send({**CLOSE, "code": 4001, "reason": "enough"})

    async with serve(Session(act), lifespan="off") as server:
        async with connect(server.ws_url) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
        await all_ended(server)
    assert server.exchanges[0].received[-1] == {
        "type": "websocket.disconnect",
        "code": 4001,
        "reason": "enough",
    }


@pytest.mark.parametrize("message", [SEND, CLOSE, {"type": "websocket.send", "bytes": b"x"}], ids=repr)
@pytest.mark.parametrize("how", ["client closed", "lost", "server stopped"])
async def test_send_raises_an_oserror_of_the_servers_own_once_the_websocket_is_over(caplog, how, message):
    errors = []

    async def act(receive, send):
        await receive_all(receive, "websocket.disconnect")
        errors.append(await raised_by(send(message)))
        await send(message)

    async with serve(Session(act), lifespan="off") as server:
        client = await connect(server.ws_url)
        if how == "client closed":
            await client.close()
        elif how == "lost":
            client.transport.abort()
        if how != "server stopped":
            await all_ended(server)
    await client.close()
    assert [type(error) for error in errors] == [ClientDisconnected]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("path", ["/closes", "/denies"])
async def test_send_raises_an_oserror_after_the_application_has_closed_too(caplog, path):
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

    async with serve(app, lifespan="off") as server:
        with pytest.raises((ConnectionClosedOK, InvalidStatus)):
            async with connect(server.ws_url + path) as client:
                await client.recv()
        await all_ended(server)
    assert len(errors) == 2
    assert all(isinstance(error, OSError) for error in errors), errors
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_close_before_the_accept_is_a_403():
    async def app(scope, receive, send):
        await receive()
        await send({**CLOSE, "code": 4000, "reason": "not told"})

    async with serve(app, lifespan="off") as server:
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.ws_url)
    assert denied.value.response.status_code == 403


async def test_a_close_before_the_accept_closes_the_connection():
    async def app(scope, receive, send):
        await receive()
        await send(CLOSE)

    async with serve(app, lifespan="off", timeout_keep_alive=60.0) as server:
        client = server.raw()
        await client.send(handshake())
        answer = await client.receive_all()
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
async def test_a_close_after_the_accept_has_the_code_and_the_reason_of_the_message(message, code, reason):
    """Of a reason that does not fit into a close frame (RFC 6455 section 5.5), what fits."""

    async def act(receive, send):
        await send({**CLOSE, **message})

    async with serve(Session(act), lifespan="off") as server, connect(server.ws_url) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
