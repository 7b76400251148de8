"""The WebSocket side of the road: handshake, messages, close codes, pings; by hand, over a memory transport."""

import asyncio
import struct
import tracemalloc
import zlib

import pytest

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.explain.messages import is_sendable
from miniasgi.protocol.connection import TURN
from miniasgi.protocol.websocket import INFLATE_STEP, ON_EVENT, State, WebSocketExchange
from tests.applications import echo, respond
from tests.memory import MemoryClient

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3


def handshake(*lines, method=b"GET", version=b"13", key=KEY, connection=b"keep-alive, Upgrade"):
    return b"\r\n".join(
        [
            method + b" /ws HTTP/1.1",
            b"Host: x",
            b"Upgrade: WebSocket",
            b"Connection: " + connection,
            b"Sec-WebSocket-Version: " + version,
            b"Sec-WebSocket-Key: " + key,
            *lines,
            b"\r\n",
        ]
    )


def frame(opcode, payload=b"", fin=1, rsv1=0, mask=b"\x01\x02\x03\x04"):
    """A client's frame."""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + struct.pack("!H", size) if size < 2**16 else b"\xff" + struct.pack("!Q", size)
    return bytes([fin << 7 | rsv1 << 6 | opcode]) + length + mask + masked


TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Script:
    """An application that accepts, keeps what it receives, and does what each test puts into `act`."""

    def __init__(self, act=None, accept=None):
        self.act = act
        self.accept = accept or {}
        self.received = []

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.received.append(await receive())
        await send({"type": "websocket.accept", **self.accept})
        if self.act is not None:
            await self.act(receive, send)
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message)
        self.received.append(message)


async def opened(app, *lines, **options):
    """A client whose handshake was answered; what was written so far is set aside."""
    client = MemoryClient(app, **options)
    await client.send(handshake(*lines))
    assert client.written.startswith(b"HTTP/1.1 101 "), client.written
    client.head = client.written
    client.transport.writes.clear()
    return client


# ---- the handshake ----


async def test_the_accept_token_is_the_one_of_the_rfc():
    client = await opened(Script())
    assert b"\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in client.head


async def test_the_scope_keeps_every_header_and_names_the_subprotocols():
    app = Script(accept={"subprotocol": "b", "headers": [(b"x-extra", b"1")]})
    client = await opened(app, b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Protocol: c", b"Cookie: d")
    assert app.scope["type"] == "websocket"
    assert app.scope["scheme"] == "ws"
    assert app.scope["subprotocols"] == ["a", "b", "c"]
    assert "method" not in app.scope
    assert app.scope["headers"] == [
        (b"host", b"x"),
        (b"upgrade", b"WebSocket"),
        (b"connection", b"keep-alive, Upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-protocol", b"a, b"),
        (b"sec-websocket-protocol", b"c"),
        (b"cookie", b"d"),
    ]
    assert b"\r\nsec-websocket-protocol: b\r\n" in client.head
    assert b"\r\nx-extra: 1\r\n" in client.head


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (handshake(method=b"POST"), b"405", b"GET"),
        (handshake(connection=b"keep-alive"), b"400", b"proxy"),
        (handshake(version=b"8"), b"426", b"sec-websocket-version: 13"),
        (handshake(key=b"short"), b"400", b"16 bytes"),
        (handshake(key=b"####"), b"400", b"16 bytes"),
        (handshake(b"Sec-WebSocket-Key: " + KEY), b"400", b"16 bytes"),
        (handshake(b"Content-Length: 3") + b"abc", b"400", b"no body"),
        (handshake(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", b"400", b"no body"),
    ],
)
async def test_a_bad_handshake_is_answered_by_the_rule_it_breaks_and_reaches_no_application(
    request_, status, text
):
    app = Script()
    client = MemoryClient(app)
    await client.send(request_)
    assert client.written.startswith(b"HTTP/1.1 " + status)
    assert text in client.written
    assert app.received == []
    assert client.transport.eof_written


async def test_an_upgrade_on_http_1_0_is_a_plain_request():
    client = MemoryClient(echo)
    await client.send(handshake().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert client.written.startswith(b"HTTP/1.1 200 ")


async def test_an_upgrade_to_something_else_is_a_plain_request():
    client = MemoryClient(echo)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" * 2)
    assert client.written.count(b"HTTP/1.1 200 ") == 2


async def test_close_before_accept_is_a_403_and_ends_the_connection():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})
        assert await receive() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nconnection: close\r\n" in client.written.lower()
    assert client.transport.closing


async def test_a_denial_is_an_ordinary_response():
    async def app(scope, receive, send):
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
        await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you"})

    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.startswith(b"HTTP/1.1 401 Unauthorized\r\na: b\r\n")
    assert client.written.endswith(b"4\r\nwho \r\n7\r\nare you\r\n0\r\n\r\n")


async def test_an_application_that_fails_before_accept_is_a_500(caplog):
    async def app(scope, receive, send):
        raise ValueError("secret")

    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in client.written
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    "accept",
    [
        {"subprotocol": "not offered"},
        {"headers": [(b"sec-websocket-protocol", b"a")]},
        {"headers": [(b"bad name", b"a")]},
        {"headers": [(b"a", b"new\r\nline")]},
    ],
)
async def test_a_bad_accept_is_raised_from_send_and_answered_with_500(accept, caplog):
    app = Script(accept=accept)
    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert "miniasgi.asgi.ASGIError: " in caplog.text
    assert "of websocket.accept" in caplog.text or "ASGIError: websocket.accept" in caplog.text


async def test_headers_at_accept_cannot_take_the_place_of_the_servers():
    accept = {
        "headers": [(b"date", b"d"), (b"Server", b"s"), (b"content-length", b"5"), (b"connection", b"close")]
    }
    client = await opened(Script(accept=accept))
    head = client.head.lower()
    assert head.count(b"\r\ndate: ") == head.count(b"\r\nserver: ") == head.count(b"\r\nconnection: ") == 1
    assert b"content-length" not in head


async def test_middleware_may_replace_the_headers_of_the_scope():
    async def app(scope, receive, send):
        scope["headers"] = []
        await echo(scope, receive, send)

    await opened(app)


async def test_a_client_that_leaves_during_the_handshake_is_told_as_1006():
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})

    client = MemoryClient(app)
    await client.send(handshake())
    await client.end()
    assert received[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert client.written == b""
    assert not client.runtime.calls


async def test_a_handshake_behind_the_end_of_its_client_is_let_go():
    app = Script()
    client = MemoryClient(app)
    client.connection.authority.receive_data(handshake())
    await client.end()
    assert app.received == []
    assert client.transport.closing


async def test_what_comes_behind_the_handshake_waits_for_accept():
    client = MemoryClient(echo)
    await client.send(handshake() + frame(TEXT, b"early"))
    assert client.written.endswith(b"\x81\x05early")


async def test_much_that_comes_behind_the_handshake_is_lost_to_nobody():
    app = Script()
    client = MemoryClient(app)
    frames = b"".join(frame(TEXT, b"%d" % number * 300) for number in range(150))
    client.connection.data_received(handshake() + frames + close(1000))
    await client.turns(200)
    assert [message.get("text") for message in app.received[1:-1]] == [f"{n}" * 300 for n in range(150)]
    assert app.received[-1]["code"] == 1000


async def test_the_time_of_a_handshake_is_the_applications():
    """The time limits of HTTP are for clients; an application may take its time to accept."""

    async def app(scope, receive, send):
        await receive()
        await receive()

    client = MemoryClient(app)
    await client.send(handshake())
    await client.pass_time(3600)
    assert not client.transport.closing


# ---- messages ----


@pytest.mark.parametrize(
    ("opcode", "payload", "message"),
    [
        (TEXT, "grüß".encode(), {"text": "grüß"}),
        (TEXT, b"", {"text": ""}),
        (BINARY, b"\0\xff", {"bytes": b"\0\xff"}),
        (BINARY, b"", {"bytes": b""}),
        (BINARY, bytes(1000), {"bytes": bytes(1000)}),
        (TEXT, b"a" * 70000, {"text": "a" * 70000}),
    ],
)
async def test_messages_of_both_kinds_arrive_and_return(opcode, payload, message):
    app = Script()
    client = await opened(app)
    await client.send(frame(opcode, payload))
    assert app.received[1:] == [{"type": "websocket.receive", **message}]

    client = await opened(echo)
    await client.send(frame(opcode, payload))
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + struct.pack("!H", size) if size < 2**16 else b"\x7f" + struct.pack("!Q", size)
    assert client.written == bytes([0x80 | opcode]) + length + payload


async def test_fragments_are_put_together_with_a_ping_between_them():
    app = Script()
    client = await opened(app)
    euro = "€".encode()
    await client.send(frame(TEXT, b"a" + euro[:1], fin=0) + frame(PING, b"p") + frame(CONTINUATION, euro[1:]))
    assert app.received[1:] == [{"type": "websocket.receive", "text": "a€"}]
    assert client.written == b"\x8a\x01p"


@pytest.mark.parametrize("pinged", [False, True])
async def test_fragments_of_a_compressed_message_are_put_together(pinged):
    app = Script()
    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    assert b"\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits=15\r\n" in client.head
    compressor = zlib.compressobj(wbits=-15)
    for text in (b"hello world, hello world", b"hello again"):  # the second one needs the first one's context
        data = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        between = frame(PING) if pinged else b""
        await client.send(
            frame(TEXT, data[:5], fin=0, rsv1=1) + between + frame(CONTINUATION, data[5:]) + between
        )
    assert [message["text"] for message in app.received[1:]] == ["hello world, hello world", "hello again"]


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (b"x-unknown, permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; server_max_window_bits=8, permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; server_max_window_bits=abc", None),
        (
            b"permessage-deflate; server_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover",
        ),
        (b"x-unknown", None),
        (b"permessage-deflate; foo=bar", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; client_no_context_takeover=5", None),
        (b"permessage-deflate; client_max_window_bits; client_max_window_bits=9", None),
    ],
)
async def test_compression_is_agreed_on_as_offered(offer, answer):
    client = await opened(Script(), b"Sec-WebSocket-Extensions: " + offer)
    assert answer is None or b"\r\nsec-websocket-extensions: " + answer + b"\r\n" in client.head
    assert (b"sec-websocket-extensions" in client.head) == (answer is not None)


async def test_compression_can_be_turned_off():
    client = await opened(
        Script(), b"Sec-WebSocket-Extensions: permessage-deflate", ws_per_message_deflate=False
    )
    assert b"sec-websocket-extensions" not in client.head


@pytest.mark.parametrize("message", [{"text": b"bytes"}, {"bytes": "text"}, {"text": 1}])
async def test_send_takes_text_as_text_and_bytes_as_bytes(message):
    async def act(receive, send):
        with pytest.raises(ASGIError, match="but takes (a str|bytes)"):
            await send({"type": "websocket.send", **message})
        await send({"type": "websocket.send", "bytes": bytearray(b"x")})

    client = await opened(Script(act))
    assert client.head.endswith(b"\x82\x01x")


@pytest.mark.parametrize("message", [{}, {"text": "a", "bytes": b"b"}, {"text": None, "bytes": None}])
async def test_send_takes_exactly_one_of_text_and_bytes(message, caplog):
    async def act(receive, send):
        with pytest.raises(ASGIError, match="exactly one"):
            await send({"type": "websocket.send", **message})
        await send({"type": "websocket.send", "text": "", "bytes": None})

    client = await opened(Script(act))
    await client.turns()
    assert client.written == b"" or client.written == b"\x81\x00"
    assert not caplog.records


async def test_a_message_over_the_limit_is_1009_and_is_not_received():
    app = Script()
    client = await opened(app, ws_max_size=10)
    await client.send(frame(TEXT, b"a" * 10))
    await client.send(frame(TEXT, "€".encode() * 3, fin=0) + frame(CONTINUATION, "€".encode()))
    assert app.received[1] == {"type": "websocket.receive", "text": "a" * 10}
    assert app.received[2]["type"] == "websocket.disconnect"
    assert app.received[2]["code"] == 1009
    assert client.written[:4] == b"\x88" + bytes([client.written[1]]) + struct.pack("!H", 1009)
    assert client.transport.eof_written


async def test_a_client_is_let_wait_while_the_application_does_not_receive():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await wanted.wait()
        while (message := await receive())["type"] == "websocket.receive":
            got.append(len(message["bytes"]))

    wanted, got = asyncio.Event(), []
    client = await opened(app)
    await client.send(frame(BINARY, bytes(60000)))
    assert client.transport.reading
    await client.send(frame(BINARY, bytes(60000)))
    assert not client.transport.reading
    wanted.set()
    await client.turns()
    assert client.transport.reading
    assert got == [60000, 60000]


async def test_many_small_messages_let_the_client_wait_too():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    client = await opened(app, ws_max_queue=5)
    await client.send(frame(TEXT) * 5)
    assert client.transport.reading
    await client.send(frame(TEXT))
    assert not client.transport.reading
    for call in client.runtime.calls:
        call.task.cancel()
    await client.turns()


async def test_a_bomb_stops_at_the_limit():
    """A message of 256 MiB in 250 KB: no more than the limit and one step's worth is ever inflated."""
    compressor = zlib.compressobj(9, wbits=-15)
    data = compressor.compress(bytes(256 * 2**20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    app = Script()
    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate", ws_max_size=2**20)
    tracemalloc.start()
    await client.send(frame(BINARY, data[:-4], rsv1=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert app.received[1]["code"] == 1009
    assert peak < 20 * 2**20


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_in_many_fragments_takes_little_more_than_its_bytes(opcode):
    got = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        got.append(await receive())

    client = await opened(app)
    tracemalloc.start()
    try:
        await client.send(frame(opcode, b"ab", fin=0))
        for _ in range(20):
            await client.send(frame(CONTINUATION, b"ab", fin=0) * 1000)
            await client.turns(2000 // TURN)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 500_000  # 40,002 of them are the message's; 20,000 fragments by themselves take a million
    await client.send(frame(CONTINUATION, b"!"))
    [message] = got
    assert (message.get("text") or message["bytes"].decode()) == "ab" * 20_001 + "!"


@pytest.mark.parametrize("end", ["closed", "lost"])
async def test_the_memory_of_compression_does_not_wait_for_the_garbage_collector(end):
    client = await opened(echo, b"Sec-WebSocket-Extensions: permessage-deflate")
    compressor = zlib.compressobj(wbits=-15)
    await client.send(
        frame(TEXT, compressor.compress(b"hello") + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4], rsv1=1)
    )
    [extension] = client.connection.extensions
    assert extension._compressor is not None
    assert extension._decompressor is not None
    if end == "closed":
        await client.send(close(1000))
    else:
        client.transport.lose()
    await client.turns()
    assert extension._compressor is None
    assert extension._decompressor is None


async def test_what_comes_behind_our_close_is_not_inflated():
    async def act(receive, send):
        await send({"type": "websocket.close"})

    client = await opened(Script(act), b"Sec-WebSocket-Extensions: permessage-deflate")
    nothing_to_inflate = frame(BINARY, b"\xff" * 10, rsv1=1) + frame(TEXT, b"\xff", fin=0, rsv1=1)
    await client.send(nothing_to_inflate + frame(CONTINUATION, b"\xff") + close(1000))
    assert client.transport.closing
    assert not client.transport.eof_written  # it was the client's close that ended it, not a fault


async def test_compressed_messages_do_not_fill_the_inbox_from_one_read():
    compressor = zlib.compressobj(9, wbits=-15)
    data = (compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frames = frame(BINARY, data, rsv1=1) + frame(BINARY, b"")
    got, wanted = [], asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await wanted.wait()
        while (message := await receive())["type"] == "websocket.receive":
            got.append(len(message["bytes"]))

    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate")
    await client.send(frames * 20 + close(1000))
    [call] = client.runtime.calls
    assert call.buffered <= 2 * 2**20
    assert not client.transport.reading
    wanted.set()
    await client.turns(100)
    assert len(got) == 40
    assert client.transport.closing


async def test_each_compressed_message_may_end_the_stream_of_its_sender():
    """RFC 7692 section 7.2.3.4, whose message it is: a final block, and a byte behind it."""
    app = Script()
    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate")
    hello = bytes.fromhex("f348cdc9c9070000")
    await client.send(frame(TEXT, hello, rsv1=1), frame(TEXT, hello[:3], fin=0, rsv1=1))
    await client.send(frame(CONTINUATION, hello[3:]), frame(TEXT, b"plain"), frame(TEXT, hello, rsv1=1))
    texts = [message.get("text") for message in app.received[1:]]
    assert texts == ["Hello", "Hello", "plain", "Hello"]
    client.transport.lose()


@pytest.mark.parametrize("data", [frame(TEXT, b"plain"), frame(TEXT, b"no block", rsv1=1)])
async def test_a_message_within_a_compressed_one_is_against_the_rules_whatever_it_holds(data):
    client = await opened(Script(), b"Sec-WebSocket-Extensions: permessage-deflate")
    await client.send(frame(TEXT, bytes.fromhex("f348cd"), fin=0, rsv1=1), data)
    assert client.written[0] == 0x88
    assert struct.unpack("!H", client.written[2:4]) == (1002,)


async def test_a_client_that_does_not_take_the_101_has_a_deadline():
    client = MemoryClient(Script())
    client.transport.hold_back()
    client.transport.set_write_buffer_limits(0)
    await client.send(handshake())
    assert client.connection.writing_paused
    assert client.connection.take_deadline == client.now + client.runtime.config.timeout_send
    client.transport.lose()
    await client.turns()


async def test_what_was_sent_reaches_a_client_that_ends_its_side():
    app = Script()
    client = await opened(app)
    client.transport.deliver(frame(TEXT, b"hi"))
    while len(app.received) < 2:
        await asyncio.sleep(0)
    client.connection.send_message("there")
    client.transport.deliver_eof()
    assert client.written.endswith(b"\x81\x05there")
    await client.turns()


async def test_an_answer_to_what_a_client_said_last_is_refused_when_it_has_ended_its_side():
    """It would be dropped: the transport is closing, though it has not yet said that it is lost."""
    outcomes = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        outcomes.append((await receive())["text"])
        try:
            await send({"type": "websocket.send", "text": "there"})
        except ClientDisconnected as error:
            outcomes.append(str(error))
        outcomes.append((await receive())["code"])

    client = await opened(app)
    client.transport.deliver(frame(TEXT, b"hi"))
    client.transport.deliver_eof()
    await client.turns()
    assert outcomes == ["hi", "nothing can be sent after the WebSocket was closed", 1006]


async def test_nothing_is_kept_of_what_comes_behind_the_final_block_of_a_message():
    """zlib keeps it, and copies all of it for each new piece; this frame would be one of 2**60 bytes."""
    app = Script()
    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate")
    head = b"\xc2\xff" + struct.pack("!Q", 2**60) + bytes(4)
    await client.send(head + b"\x03\x00")  # a final block that holds nothing
    tracemalloc.start()
    await client.send(*[bytes(100_000)] * 20)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert client.transport.reading
    assert held < 500_000
    client.transport.lose()


async def test_a_client_that_pings_and_does_not_read_gets_one_pong():
    client = await opened(Script())
    client.connection.pause_writing()
    for number in range(10):
        await client.send(frame(PING, b"%d" % number))
    assert client.written == b""
    client.connection.resume_writing()
    await client.turns()
    assert client.written == b"\x8a\x019"


async def test_pings_do_not_take_the_whole_turn_of_the_loop():
    client = await opened(Script())
    client.connection.data_received(frame(PING) * 5000)
    most = before = 0
    for _ in range(5000):
        await asyncio.sleep(0)
        pongs = client.written.count(b"\x8a\x00")
        most, before = max(most, pongs - before), pongs
    assert before == 5000
    assert most <= 2 * TURN
    await client.turns()
    assert client.transport.reading


async def test_a_message_that_grows_does_not_take_the_whole_turn_of_the_loop():
    compressor = zlib.compressobj(9, wbits=-15)
    data = compressor.compress(bytes(2**24)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    app = Script()
    client = await opened(app, b"Sec-WebSocket-Extensions: permessage-deflate")
    client.connection.data_received(frame(BINARY, data[:-4], rsv1=1))
    most = before = client.connection.size
    while client.connection.size:
        await asyncio.sleep(0)
        most, before = max(most, client.connection.size - before), client.connection.size
    assert 0 < most <= 1032 * INFLATE_STEP
    await client.turns()
    assert len(app.received[1]["bytes"]) == 2**24
    client.transport.lose()


async def test_empty_fragments_cost_nothing():
    client = await opened(Script())
    await client.send(frame(TEXT, b"a", fin=0) + frame(CONTINUATION, b"", fin=0) * 1000)
    await client.turns(100)
    assert client.connection.parts == ["a"]


async def test_a_large_message_that_takes_long_is_a_sign_of_life():
    client = await opened(Script())
    data = frame(BINARY, bytes(1000))
    for i in range(0, 1000, 100):
        await client.send(data[i : i + 100])
        await client.pass_time(15)
    assert not client.transport.closing


# ---- closing ----


@pytest.mark.parametrize(
    ("sent", "message", "answer"),
    [
        (close(1000), {"code": 1000, "reason": ""}, b"\x88\x02\x03\xe8"),
        (close(4321, b"bye"), {"code": 4321, "reason": "bye"}, b"\x88\x05\x10\xe1bye"),
        (close(), {"code": 1005, "reason": ""}, b"\x88\x00"),
    ],
)
async def test_the_clients_close_is_answered_and_told(sent, message, answer):
    app = Script()
    client = await opened(app)
    await client.send(frame(TEXT, b"last") + sent)
    assert app.received[1:] == [
        {"type": "websocket.receive", "text": "last"},
        {"type": "websocket.disconnect", **message},
    ]
    assert client.written == answer
    assert client.transport.closing
    assert not client.transport.aborted


async def test_the_applications_close_waits_for_the_clients():
    async def act(receive, send):
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})

    app = Script(act)
    client = await opened(app)
    assert client.head.endswith(b"\r\n\r\n\x88\x08\x0f\xa0enough")
    assert app.received[1:] == [{"type": "websocket.disconnect", "code": 4000, "reason": "enough"}]
    await client.send(frame(TEXT, b"crossing"))
    assert not client.transport.closing
    await client.send(close(4000))
    assert client.transport.closing
    assert not client.transport.aborted


async def test_a_close_that_the_client_does_not_answer_ends_in_time():
    async def act(receive, send):
        await send({"type": "websocket.close"})

    client = await opened(Script(act))
    await client.pass_time(4)
    assert not client.transport.closing
    await client.pass_time(2)
    assert client.transport.aborted


async def test_a_close_reaches_an_application_that_does_not_receive():
    """Unread messages do not keep the client's close frame from being read."""

    async def act(receive, send):
        await go_on.wait()
        await send({"type": "websocket.close"})

    go_on = asyncio.Event()
    client = await opened(Script(act))
    await client.send(frame(TEXT, b"x") * 70 + close(1000))
    assert not client.transport.reading
    go_on.set()
    await client.turns()
    assert client.written == b"\x88\x02\x03\xe8"
    assert client.transport.closing
    assert not client.transport.aborted


async def test_a_close_behind_much_that_is_still_being_taken_waits():
    async def act(receive, send):
        await send({"type": "websocket.close"})

    client = await opened(Script(act))
    for left in (300, 200, 100, 0):
        client.transport.buffered = left
        await client.pass_time(6)
        assert not client.transport.aborted
    await client.pass_time(6)
    assert client.transport.aborted


async def test_a_lost_connection_is_1006():
    app = Script()
    client = await opened(app)
    client.transport.lose(ConnectionResetError())
    await client.turns()
    assert app.received[1:] == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def test_an_application_that_returns_closes_with_1000():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.endswith(b"\x88\x02\x03\xe8")


async def test_an_application_that_raises_closes_with_1011_and_says_nothing_of_why(caplog):
    async def act(receive, send):
        raise ValueError("secret")

    client = await opened(Script(act))
    assert client.head.endswith(b"\x88\x02\x03\xf3")
    assert "secret" in caplog.text


async def test_a_stop_of_the_server_is_1012():
    app = Script()
    client = await opened(app)
    client.runtime.stop_accepting()
    await client.turns()
    assert client.written == b"\x88\x02\x03\xf4"
    assert app.received[1:] == [{"type": "websocket.disconnect", "code": 1012, "reason": ""}]
    await client.send(close(1012))
    assert client.runtime.quiet.done()


async def test_a_websocket_accepted_while_the_server_stops_is_closed_at_once():
    accept = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await accept.wait()
        await send({"type": "websocket.accept"})
        assert (await receive())["code"] == 1012

    client = MemoryClient(app)
    await client.send(handshake())
    client.runtime.stop_accepting()
    accept.set()
    await client.turns()
    assert client.written.endswith(b"\x88\x02\x03\xf4")
    await client.send(close())
    assert client.runtime.quiet.done()


async def test_send_after_the_client_left_is_an_oserror_and_is_not_logged(caplog):
    async def act(receive, send):
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.send", "text": "too late"})

    client = await opened(Script(act))
    await client.send(close())
    assert not client.runtime.calls
    assert not caplog.records


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked (RFC 6455 section 5.1)
        (frame(3), 1002),  # an unknown opcode (5.2)
        (frame(TEXT, rsv1=1), 1002),  # a reserved bit, with no extension agreed on (5.2)
        (frame(CONTINUATION), 1002),  # nothing to continue (5.4)
        (frame(PING, fin=0), 1002),  # a fragmented control frame (5.5)
        (frame(PING, bytes(126)), 1002),  # a long control frame (5.5)
        (frame(CLOSE, b"\x03"), 1002),  # half a code (5.5.1)
        (close(1005), 1002),  # a code that is never sent (7.4.1)
        (frame(TEXT, b"\xff"), 1007),  # not UTF-8 (8.1)
    ],
)
async def test_what_breaks_the_rules_of_frames_is_closed_by_its_code(data, code):
    app = Script()
    client = await opened(app)
    await client.send(data)
    assert client.written[0] == 0x88
    assert struct.unpack("!H", client.written[2:4]) == (code,)
    assert app.received[1]["code"] == code
    assert client.transport.eof_written


# ---- pings ----


async def test_pings_are_sent_and_a_missing_pong_is_1011():
    app = Script()
    client = await opened(app)
    for _ in range(3):
        await client.pass_time(21)
        assert client.written == b"\x89\x00"
        client.transport.writes.clear()
        await client.send(frame(PONG))
    await client.pass_time(21)
    client.transport.writes.clear()
    await client.pass_time(21)
    assert client.written[2:4] == struct.pack("!H", 1011)
    assert app.received[1]["code"] == 1011
    assert client.transport.eof_written
    await client.pass_time(3)
    assert client.transport.aborted


# ---- the tables ----


def test_every_state_has_its_row_and_every_row_its_action():
    assert set(WebSocketExchange.SEND) == set(State)
    for row in WebSocketExchange.SEND.values():
        for name, act in row.items():
            assert name.startswith("websocket.")
            assert getattr(WebSocketExchange, act.__name__) is act


def test_every_event_of_wsproto_that_a_server_can_get_is_listed():
    from wsproto import events

    of_handshakes = {events.Request, events.AcceptConnection, events.RejectConnection, events.RejectData}
    abstract = {events.Event, events.Message}
    every = {
        each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Event)
    }
    past_wsproto = {str, bytes}
    assert set(ON_EVENT) == every - of_handshakes - abstract | past_wsproto


@pytest.mark.parametrize("state", list(State))
async def test_what_a_state_does_not_list_is_an_error_that_names_state_and_message(state):
    every = {name for row in WebSocketExchange.SEND.values() for name in row} | {"http.response.start"}
    for name in every - set(WebSocketExchange.SEND[state]):
        exchange = WebSocketExchange({"type": "websocket", "path": "/"}, wire=None)
        exchange.state = state
        with pytest.raises((ASGIError, ClientDisconnected)) as caught:
            await exchange.send({"type": name})
        assert state.value in str(caught.value)
        closed = state in (State.CLOSED, State.GONE)
        assert isinstance(caught.value, ClientDisconnected if closed else ASGIError)
        assert closed or name in str(caught.value)


def test_the_codes_that_may_be_sent_are_the_rfcs():
    assert not any(map(is_sendable, (999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)))
    assert all(map(is_sendable, (1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999)))


async def test_the_access_log_has_one_line_at_the_end():
    lines = []
    client = await opened(echo, access=lambda *line: lines.append(line))
    await client.send(frame(TEXT, b"hi"))
    assert lines == []
    client.now += 2
    await client.send(close())
    [(visit, status, sent, seconds)] = lines
    assert (visit.client, visit.line) == ("127.0.0.1:50000", b"GET /ws HTTP/1.1")
    assert (status, sent, seconds) == (101, 4, 2)


async def test_the_access_log_has_a_line_for_a_websocket_that_broke_the_rules():
    lines = []
    client = await opened(echo, access=lambda *line: lines.append(line))
    await client.send(frame(TEXT, b"\xff"))
    await client.end()
    assert len(lines) == 1


async def test_respond_is_not_for_websockets():
    """An application that answers a WebSocket with an HTTP response is told what it should have sent."""

    async def app(scope, receive, send):
        with pytest.raises(
            ASGIError, match="can be sent  websocket.accept, websocket.close or websocket.http"
        ):
            await respond(send)
        await send({"type": "websocket.close"})

    client = MemoryClient(app)
    await client.send(handshake())
    assert client.written.startswith(b"HTTP/1.1 403 ")
