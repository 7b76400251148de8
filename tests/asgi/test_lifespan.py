"""The lifespan specification 2.0, with servers that really start and stop."""

import asyncio

import httpx
import pytest
from websockets.asyncio.client import connect

from miniasgi.lifespan import StartupFailed
from miniasgi.testing import ApplicationFault, serve
from tests.applications import respond

from .dialogue import CLOSE, ask, parse, request

STARTED = {"type": "lifespan.startup.complete"}
DOWN = {"type": "lifespan.shutdown.complete"}


class Living:
    """An application with a lifespan: keeps its events and their loops, and answers requests.

    Its startup and shutdown wait for `start` and `end`, where these are given.
    """

    def __init__(self, start=None, end=None):
        self.start = start
        self.end = end
        self.events = []
        self.loops = []

    async def __call__(self, scope, receive, send):
        self.loops.append(asyncio.get_running_loop())
        if scope["type"] == "lifespan":
            self.found = dict(scope["state"])
            self.events.append((await receive())["type"])
            if self.start is not None:
                await self.start.wait()
            scope["state"]["shared"] = []
            await send(STARTED)
            self.events.append((await receive())["type"])
            if self.end is not None:
                await self.end.wait()
            await send(DOWN)
        elif scope["type"] == "http":
            await respond(send, b"served")
        else:
            await receive()
            await send(CLOSE)


async def begin(server):
    """Start the server in a task; return it when the application is being started."""
    starting = asyncio.ensure_future(server.__aenter__())
    while not server.app.events:
        await asyncio.sleep(0)
    return starting


async def test_the_lifespan_is_run_once_and_in_the_loop_of_the_requests():
    app = Living()
    async with serve(app) as server, httpx.AsyncClient() as client:
        for _ in range(3):
            await client.get(server.url)
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]
    assert app.loops == [asyncio.get_running_loop()] * 4


async def test_the_call_of_the_lifespan_lasts_until_the_server_ends(bare_server):
    app = Living()
    async with bare_server(app) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        assert app.events == ["lifespan.startup"]
        assert not server.lifespan.task.done()
    assert server.lifespan.task.done()


async def test_the_lifespan_has_its_type():
    async with serve(Living()) as server:
        pass
    assert server.lifespan.scope["type"] == "lifespan"


async def test_an_application_that_raises_on_the_lifespan_is_served_without_one():
    received = []

    async def app(scope, receive, send):
        if scope["type"] != "http":
            received.append(scope["type"])
            raise NotImplementedError(scope["type"])
        await respond(send, b"served")

    async with serve(app) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "served"
    assert received == ["lifespan"]


async def test_an_application_that_raises_during_its_startup_does_not_start():
    """It has a lifespan, since it received of it: to serve it half-started would hide the fault."""

    async def app(scope, receive, send):
        await receive()
        raise ValueError("no database")

    with pytest.raises(StartupFailed, match="no database"):
        async with serve(app):
            raise AssertionError


async def test_the_state_is_empty_before_the_application_fills_it():
    app = Living()
    async with serve(app) as server:
        pass
    assert app.found == {}
    assert server.lifespan.scope["state"] == {"shared": []}


async def test_every_request_has_a_shallow_copy_of_the_state():
    async with serve(Living()) as server:
        async with httpx.AsyncClient() as client:
            await client.get(server.url)
            await client.get(server.url)
        with pytest.raises(Exception, match="403"):
            await connect(server.ws_url)
    original = server.lifespan.scope["state"]
    states = [each.scope["state"] for each in server.exchanges]
    assert len(states) == 3
    for number, state in enumerate(states):
        assert state == original
        assert state is not original
        assert state["shared"] is original["shared"]
        assert all(state is not other for other in states[:number])


async def test_the_server_keeps_to_itself_what_it_has_to_remember():
    """Nothing in the state is its own, neither at the start nor after requests."""
    app = Living()
    async with serve(app) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
    [exchange] = server.exchanges
    states = (app.found, exchange.scope["state"], server.lifespan.scope["state"])
    assert [set(state) for state in states] == [set(), {"shared"}, {"shared"}]


async def test_nobody_is_served_before_the_startup_is_complete(bare_server):
    start = asyncio.Event()
    server = bare_server(Living(start=start))
    starting = await begin(server)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    assert not starting.done()
    start.set()
    await starting
    async with httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "served"
    await server.__aexit__(None, None, None)


@pytest.mark.parametrize("message", [{"message": "no database"}, {"message": ""}, {}])
async def test_a_failed_startup_ends_the_server(bare_server, message):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", **message})

    server = bare_server(app)
    with pytest.raises(StartupFailed) as failed:
        async with server:
            raise AssertionError
    assert message.get("message", "") in str(failed.value)
    assert server.sockets[0].fileno() == -1


def test_a_failed_startup_is_printed_and_the_process_exits(process):
    server = process("tests.asgi.applications:failing_startup", announced=False)
    assert server.wait() == 3
    assert "no database" in server.output


async def test_the_shutdown_comes_when_nobody_is_accepted_or_connected_any_more(bare_server, raw):
    seen = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"served")
            return
        await receive()
        await send(STARTED)
        assert await receive() == {"type": "lifespan.shutdown"}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        seen.append((set(server.runtime.connections), set(server.runtime.calls), await reader.read()))
        await send(DOWN)

    async with bare_server(app) as server:
        port = server.port
        reader, writer = await raw(server)
        writer.write(request(last=False))
        await reader.readuntil(b"served")
    assert seen == [(set(), set(), b"")]  # the kept-alive connection is at its end


async def test_the_server_waits_for_the_shutdown(bare_server):
    app = Living(end=asyncio.Event())
    server = bare_server(app)
    await server.__aenter__()
    ending = asyncio.ensure_future(server.__aexit__(None, None, None))
    while len(app.events) < 2:
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not ending.done()
    app.end.set()
    await ending


async def test_a_shutdown_has_its_time():
    """No application keeps a server from stopping for ever: `timeout_lifespan`."""
    app = Living(end=asyncio.Event())
    async with serve(app, timeout_lifespan=0.1) as server:
        server.expect(ApplicationFault, match="shutdown was cancelled after 0.1 s")
    assert app.events == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("message", [{"message": "disk full"}, {"message": ""}, {}])
async def test_a_failed_shutdown_is_logged_and_the_server_ends(bare_server, caplog, message):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.failed", **message})

    async with bare_server(app) as server:
        pass
    assert "shutdown failed" in caplog.text
    assert message.get("message", "") in caplog.text
    assert server.sockets[0].fileno() == -1


def test_a_failed_shutdown_is_printed_and_the_process_exits(process):
    server = process("tests.asgi.applications:failing_shutdown")
    server.stop()
    assert "disk full" in server.output


async def test_an_application_without_an_answer_is_served_when_it_has_returned():
    """It cannot complete its startup any more, so nothing is left to wait for."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"served")

    assert parse(await ask(app, lifespan="auto")).body == b"served"
