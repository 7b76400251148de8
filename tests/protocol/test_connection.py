"""What holds whatever is spoken on a connection: a client takes what it is sent, or is given up."""

import asyncio

import pytest

from miniasgi.asgi import ClientDisconnected
from miniasgi.protocol.connection import SHARE
from tests.applications import hello, respond
from tests.memory import MemoryClient
from tests.protocol.test_websocket import handshake

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PART = bytes(100_000)
ALL = 10**9


class Streaming:
    """An application that sends part after part, and keeps how that ended."""

    def __init__(self, length=0):
        self.length = length
        self.error = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            part = {"type": "websocket.send", "bytes": PART}
        else:
            headers = [(b"content-length", b"%d" % self.length)] if self.length else []
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            part = {"type": "http.response.body", "body": PART, "more_body": True}
        try:
            while True:
                await send(part)
        except OSError as error:
            self.error = error
            raise


@pytest.mark.parametrize("opening", [GET, handshake()], ids=["http", "websocket"])
async def test_a_client_that_takes_nothing_is_given_up_in_time(opening):
    app = Streaming()
    client = MemoryClient(app, ws_ping_interval=1000)
    client.transport.hold_back()
    await client.send(opening)
    await client.pass_time(59)
    assert not client.transport.closing
    assert app.error is None
    await client.pass_time(2)
    assert client.transport.aborted
    assert type(app.error) is ClientDisconnected
    assert not client.runtime.connections
    assert not client.runtime.calls


@pytest.mark.parametrize("opening", [GET, handshake()], ids=["http", "websocket"])
async def test_a_client_that_takes_little_is_not_given_up(opening):
    app = Streaming()
    client = MemoryClient(app, ws_ping_interval=10_000)
    client.transport.hold_back()
    await client.send(opening)
    for _ in range(10):
        await client.pass_time(59)
        client.transport.take(100)
        await client.pass_time(2)
    assert not client.transport.closing
    client.transport.take(ALL)
    await client.turns()
    assert client.transport.get_write_buffer_size() > 0, "it goes on"
    client.transport.lose()
    await client.turns()


async def test_many_senders_do_not_make_a_client_look_as_if_it_took_something():
    """Each waits in its own send(), and what they write only makes the heap larger."""
    ended = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        tasks = []
        for _ in range(10):
            tasks.append(asyncio.create_task(send({"type": "websocket.send", "bytes": PART})))
            await go_on.wait()
            go_on.clear()
        ended.extend(await asyncio.gather(*tasks, return_exceptions=True))

    go_on = asyncio.Event()
    client = MemoryClient(app, ws_ping_interval=10_000)
    client.transport.hold_back()
    await client.send(handshake())
    for _ in range(10):
        go_on.set()
        await client.pass_time(13)
    assert client.transport.aborted
    assert type(ended[-1]) is ClientDisconnected


async def test_the_log_says_which_request_was_given_up(caplog):
    caplog.set_level("INFO")
    client = MemoryClient(Streaming(), timeout_send=5.0)
    client.transport.hold_back()
    await client.send(GET)
    await client.pass_time(6)
    assert caplog.messages == ["GET / from 127.0.0.1:50000: the client took nothing for 5 s, and is given up"]


async def test_the_next_request_waits_until_the_answers_before_it_are_taken():
    """Otherwise a client that asks and never reads would have every answer kept for it."""
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await respond(send, PART)

    client = MemoryClient(app, limit_pipelined=1000)
    client.transport.hold_back()
    requests = [GET.replace(b"/ ", b"/%d " % number) for number in range(100)]
    await client.send(b"".join(requests[:5]))
    assert asked == ["/0"]
    await client.send(b"".join(requests[5:]))
    assert asked == ["/0"]
    assert not client.transport.reading
    for number in range(1, 10):
        await client.pass_time(40)  # what waits for the client is no idle connection, and no slow head
        client.transport.take(ALL)
        await client.turns()
        assert asked == [f"/{each}" for each in range(number + 1)]
    client.transport.lose()
    await client.turns()
    assert not client.runtime.calls


async def test_a_client_that_ends_its_side_gets_the_answers_that_it_had_not_taken():
    async def app(scope, receive, send):
        await respond(send, PART)

    client = MemoryClient(app)
    client.transport.hold_back()
    await client.send(GET + GET)
    await client.end()
    assert not client.transport.closing
    client.transport.take(ALL)
    await client.turns()
    assert client.transport.get_write_buffer_size() > len(PART), "the second one"
    client.transport.take(ALL)
    await client.turns()
    assert client.transport.closing


async def test_the_last_answer_may_be_taken_slowly_while_the_connection_closes():
    async def app(scope, receive, send):
        await respond(send, PART, headers=[(b"connection", b"close")])

    client = MemoryClient(app)
    client.transport.hold_back()
    await client.send(GET + b"behind the last request")
    for _ in range(10):
        client.transport.take(1000)
        await client.pass_time(50)
    assert not client.transport.aborted
    await client.pass_time(61)
    assert client.transport.aborted


async def test_a_client_that_leaves_little_of_an_answer_untaken_is_let_go_when_it_is_idle():
    client = MemoryClient(hello)
    client.transport.hold_back()
    await client.send(GET)
    assert 0 < client.transport.get_write_buffer_size() < 1000
    for _ in range(3):
        await client.pass_time(6)
    assert not client.transport.closing  # it may be slow
    await client.pass_time(61)
    assert client.transport.aborted


@pytest.mark.parametrize("later", [0, 100])
async def test_a_client_that_was_slow_once_is_not_given_up_later(later):
    """It had an answer still to take when it was idle, took it, and asked again, now and `later`."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/late":
            await go_on.wait()
        await respond(send, bytes(1000))

    client = MemoryClient(app)
    client.transport.hold_back()
    await client.send(GET)
    await client.pass_time(6)
    assert not client.transport.closing
    client.transport.take(ALL)
    for _ in range(later):
        await client.pass_time(2)
        await client.send(GET)
        client.transport.take(ALL)
    await client.send(GET.replace(b"/ ", b"/late "))
    await client.pass_time(61)
    await client.pass_time(61)
    assert not client.transport.closing
    go_on.set()
    await client.turns()
    assert client.transport.get_write_buffer_size() > 1000
    client.transport.lose()


@pytest.mark.both_loops
async def test_a_file_that_the_client_does_not_take_is_given_up(bare_server, raw, tmp_path):
    """For real: the kernel copies it, and the transport knows of nothing that waits."""
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000_000))
    errors = []

    async def app(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]}
        )
        try:
            await send({"type": "http.response.pathsend", "path": str(path)})
        except OSError as error:
            errors.append(error)
            raise

    async with bare_server(app, timeout_send=0.2, lifespan="off") as server:
        reader, writer = await raw(server)
        reader._transport.pause_reading()
        writer.write(GET)
        while not errors:
            await asyncio.sleep(0.01)
        assert type(errors[0]) is ClientDisconnected
        assert not server.runtime.connections


@pytest.mark.parametrize("opening", [GET, handshake()], ids=["http", "websocket"])
async def test_who_sends_much_to_a_quick_client_gives_others_a_turn(opening):
    """The socket takes megabytes at once, so that backpressure alone would let it go on for long."""
    app = Streaming()
    client = MemoryClient(app)
    client.connection.data_received(opening)
    before, most = sum(map(len, client.transport.writes)), 0  # an eager task has begun by now
    for _ in range(50):
        await asyncio.sleep(0)
        written = sum(map(len, client.transport.writes))
        before, most = written, max(most, written - before)
    assert SHARE < most < SHARE + 2 * len(PART)
    client.transport.lose()
    await client.turns()
    assert not client.runtime.calls
