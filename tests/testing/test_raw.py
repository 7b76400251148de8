"""Clients by hand: bytes at chosen cuts, half-closes, resets, readers that do not read; in all three worlds."""

import asyncio
import contextlib
import time

import h11
import pytest

from miniasgi.testing import connect, serve
from miniasgi.testing.raw import at_once
from tests.applications import respond

from .applications import hello

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


class Blocking:
    """A server in a thread and its clients, as the worlds of the loop have them."""

    def __init__(self, app, **options):
        self.serving = serve(app, **options)

    async def __aenter__(self):
        self.server = self.serving.__enter__()
        return self

    async def __aexit__(self, *error):
        self.serving.__exit__(*error)

    def raw(self, **options):
        return Awaited(self.server.raw(**options))

    async def wait_for(self, *arguments):
        return self.server.wait_for(*arguments)

    @property
    def exchanges(self):
        return self.server.exchanges


class Awaited:
    """What a RawClient does, to be awaited."""

    def __init__(self, client):
        self.client = client
        self.reset, self.close = client.reset, client.close

    def __getattr__(self, name):
        async def call(*arguments):
            return getattr(self.client, name)(*arguments)

        return call


@contextlib.asynccontextmanager
async def in_memory(app, **options):
    async with connect(app, **options) as wire:
        yield wire.server


WORLDS = {
    "thread": Blocking,
    "thread, TLS": lambda app, **options: Blocking(app, tls=True, **options),
    "thread, unix": lambda app, **options: Blocking(app, uds=True, **options),
    "thread, uvloop": lambda app, **options: Blocking(app, loop="uvloop", **options),
    "loop": serve,
    "loop, TLS": lambda app, **options: serve(app, tls=True, **options),
    "loop, unix": lambda app, **options: serve(app, uds=True, **options),
    "memory": in_memory,
}
worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


def uploads(pieces, ends):
    """An application that keeps what it receives."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                ends.append("disconnect")
                return
            pieces.append(message["body"])
            if not message["more_body"]:
                break
        ends.append("answer")
        await respond(send, b"".join(pieces))

    return app


@worlds
async def test_pieces_arrive_as_they_were_cut(world):
    pieces, ends = [], []
    async with world(uploads(pieces, ends)) as server:
        client = server.raw()
        await client.send(UPLOAD[:7], UPLOAD[7:], b"01", b"2", b"3456789")
        response = await client.response()
    assert response.status == 200
    assert response.body == b"0123456789"
    assert response.header(b"Content-Length") == b"10"
    assert response.header(b"x-none") is None
    assert [piece for piece in pieces if piece] == [b"01", b"2", b"3456789"]
    assert ends == ["answer"]


@worlds
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_in_mid_upload(world, how):
    pieces, ends = [], []
    async with world(uploads(pieces, ends)) as server:
        client = server.raw()
        await client.send(UPLOAD, b"half")
        getattr(client, how)()
        exchange = await server.wait_for("http.disconnect")
        await server.wait_for(lambda: exchange.ended)
    assert ends == ["disconnect"]
    assert b"".join(pieces) == b"half"


@worlds
async def test_a_client_that_ends_its_side_is_answered(world, request):
    async with world(hello) as server:
        client = server.raw()
        await client.send(GET)
        await client.end()
        assert (await client.receive_all()).endswith(b"\r\n\r\nok")
        assert await client.receive() == b""


@worlds
async def test_reading_by_hand(world):
    async with world(hello) as server:
        client = server.raw()
        await client.send(GET + GET)
        assert await client.receive_until(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        assert await client.receive(3) == b"con"
        assert (await client.receive_until(b"\r\n\r\n")).startswith(b"tent-length: 2\r\n")
        assert await client.receive(2) == b"ok"
        assert (await client.response()).body == b"ok"  # the second
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with pytest.raises(EOFError, match="the server has closed the connection before b'never'"):
            await client.receive_until(b"never")


@worlds
async def test_a_client_that_does_not_read_stops_the_application(world):
    sent = []

    async def endless(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
                sent.append(100_000)

    async with world(endless) as server:
        client = server.raw(receive_buffer=4096)
        await client.send(GET)
        before = await stands_still(server, sent)
        assert sum(before) < 20_000_000
        read = 0
        while len(sent) == len(before):  # it reads on, and so the application goes on
            read += len(await client.receive(100_000))
            assert read < 20_000_000
        client.close()
        await server.wait_for(lambda: server.exchanges[0].ended)


async def stands_still(server, sent):
    """What was sent when nothing more was for a while; such a while is all that a test can wait for."""
    before = None
    while before != sent:
        before = sent[:]
        with contextlib.suppress(TimeoutError):
            await server.wait_for(lambda: False, 0.1)
    return before


@worlds
async def test_what_the_server_has_not_read_waits_with_it(world):
    """An application that takes nothing: the server stops reading, and sending does not wait for it."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        while not go:
            await asyncio.sleep(0)
        while (await receive()).get("more_body"):
            pass
        await respond(send, b"ok")

    go = []
    async with world(app) as server:
        client = server.raw()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 180000\r\n\r\n")
        for _ in range(3):
            await client.send(bytes(60_000))
        go.append("now")
        assert (await client.response()).status == 200


@worlds
async def test_an_answer_without_a_body_to_head(world):
    async with world(hello) as server:
        client = server.raw()
        await client.send(GET.replace(b"GET", b"HEAD"))
        response = await client.response(b"HEAD")
        assert (response.status, response.body) == (200, b"")
        await client.send(GET)
        assert (await client.response()).body == b"ok"


@worlds
async def test_what_is_no_answer(world):
    async with world(hello) as server:
        client = server.raw()
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.response()).status == 400
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()


@worlds
async def test_clients_are_closed_with_the_server(world):
    async with world(hello) as server:
        client = server.raw()
        other = server.raw()
        await client.send(GET)
    with pytest.raises(OSError):  # noqa: PT011  # what a closed socket says
        await other.receive()


@pytest.mark.parametrize("world", [serve, Blocking])
async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(world, monkeypatch):
    monkeypatch.setattr("miniasgi.testing.raw.TIMEOUT", 0.05)
    async with world(hello) as server:
        client = server.raw()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await client.receive()
        assert time.monotonic() - began < 4


def test_a_client_is_a_block_too():
    with serve(hello) as server:
        with server.raw() as client:
            client.send(GET)
            assert client.response().body == b"ok"
        with pytest.raises(OSError):  # noqa: PT011  # what a closed socket says
            client.receive()


def test_a_line_that_blocks_is_never_awaited():
    with pytest.raises(AssertionError, match="a line that blocks does not wait"):
        at_once(asyncio.sleep(0))


# ---- no socket --------------------------------------------------------------------------------------------


async def test_time_passes_when_the_test_says_so():
    async with connect(hello, timeout_head=10) as wire:
        await wire.send(b"GET / HTTP/1.1\r\n")
        await wire.server.pass_time(9.9)
        assert not wire.line.transport.untaken
        await wire.server.pass_time(0.2)
        assert (await wire.response()).status == 408
        assert await wire.receive() == b""
        assert wire.server.exchanges == []


async def test_more_clients_of_one_server():
    async with connect(hello) as wire:
        other = wire.server.raw()
        await other.send(GET[:5])
        await wire.send(GET)
        assert (await wire.response()).status == 200
        await other.send(GET[5:])
        assert (await other.response()).status == 200
        assert len(wire.server.exchanges) == 2
        assert wire.server.url == "http://127.0.0.1:8000"


async def test_a_reset_without_a_socket():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError

    async with connect(app) as wire:
        wire.server.expect(ValueError)
        await wire.send(b"GET / HTTP/1.0\r\n\r\n")  # where the end of the connection is that of the body
        with pytest.raises(ConnectionResetError):
            await wire.receive_all()
        with pytest.raises(BrokenPipeError):
            await wire.send(b"more")


async def test_the_lifespan_runs_without_a_socket_too():
    from .applications import with_lifespan

    seen = []
    async with connect(with_lifespan(lambda: seen.append("up"), lambda: seen.append("down"))) as wire:
        assert seen == ["up"]
        assert wire.server.state == {"started": True}
    assert seen == ["up", "down"]


async def test_much_is_read_in_time_that_grows_with_it_and_no_faster():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"the end"})

    for method in ("response", "receive_all", "receive_until"):
        async with connect(app) as wire, asyncio.timeout(5):
            await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if method == "response":
                assert len((await wire.response()).body) == 65536 * 1000 + 7
            elif method == "receive_all":
                assert len(await wire.receive_all()) > 65536 * 1000
            else:
                assert (await wire.receive_until(b"the end")).endswith(b"the end")
