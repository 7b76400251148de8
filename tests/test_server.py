"""Server in a running loop, over real sockets."""

import asyncio
import contextlib
import gc
import socket
import struct
import sys
import threading
from pathlib import Path

import h11
import httpx
import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from wsproto.connection import Connection as WsprotoConnection

from miniasgi import Config, Server
from miniasgi.accept import ACCEPTS
from miniasgi.config import UsageError
from miniasgi.lifespan import StartupFailed
from miniasgi.listen import AddressError
from miniasgi.protocol.connection import Connection
from miniasgi.protocol.exchange import ApplicationCall
from tests.applications import echo, failing_startup, hello, respond, slow_startup, with_lifespan
from tests.clock import quickest


async def test_httpx_is_answered(bare_server):
    async with bare_server(echo) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.sockets[0].getsockname() == ("127.0.0.1", server.port)
        for body in (b"", b"x", bytes(1_000_000)):
            response = await client.post("/", content=body)
            assert response.status_code == 200
            assert response.content == body
            assert response.headers["server"] == "miniasgi"


async def test_httpx_streams_both_ways(bare_server):
    async def upload():
        for number in range(100):
            yield b"%03d" % number

    async with bare_server(echo) as server, httpx.AsyncClient(base_url=server.url) as client:
        response = await client.post("/", content=upload())
        assert response.content == b"".join(b"%03d" % number for number in range(100))


async def test_websockets_is_answered(bare_server):
    async with bare_server(echo) as server, connect(server.url.replace("http", "ws")) as client:
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for message in ("", "text", b"", b"bytes", "long " * 50_000, bytes(300_000)):
            await client.send(message)
            assert await client.recv() == message
        await client.send(iter(["fragments ", "of ", "a message"]))
        assert await client.recv() == "fragments of a message"
        await (await client.ping())


async def test_close_codes_and_reasons_go_both_ways(bare_server):
    told = asyncio.get_running_loop().create_future()

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/deny":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        if scope["path"] == "/close":
            await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        else:
            told.set_result(await receive())

    async with bare_server(app, lifespan="off") as server:
        url = server.url.replace("http", "ws")
        async with connect(url) as client:
            await client.close(4002, "bye")
        assert await told == {"type": "websocket.disconnect", "code": 4002, "reason": "bye"}
        async with connect(url + "/close") as client:
            with pytest.raises(ConnectionClosedError) as caught:
                await client.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
        with pytest.raises(InvalidStatus) as refused:
            await connect(url + "/deny")
        assert refused.value.response.status_code == 403


async def test_state_of_the_lifespan_reaches_requests(bare_server):
    async with bare_server(with_lifespan) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "hello from startup"


async def test_a_client_that_leaves_is_told_within_milliseconds(bare_server, raw):
    """Whether it closes, resets, or leaves in mid-upload."""
    told = asyncio.Queue()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        told.put_nowait(asyncio.get_running_loop().time())

    async with bare_server(app, lifespan="off") as server:
        for request in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
        ):
            for reset in (False, True):

                async def leave(request=request, reset=reset):
                    reader, writer = await raw(server)
                    writer.write(request)
                    while not server.runtime.calls:
                        await asyncio.sleep(0)
                    if reset:
                        linger = struct.pack("ii", 1, 0)
                        sock = writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    left = asyncio.get_running_loop().time()
                    writer.transport.abort() if reset else writer.close()
                    return await asyncio.wait_for(told.get(), 5) - left

                assert await quickest(leave) < 0.1


async def test_an_upload_to_an_application_that_does_not_receive_stops(bare_server, raw):
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    async with bare_server(app, lifespan="off", timeout_graceful_shutdown=0) as server:
        reader, writer = await raw(server)
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        block, taken = bytes(1_000_000), 0
        while taken < 100:
            writer.write(block)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
            taken += 1
        assert taken < 100
        [call] = server.runtime.calls
        [connection] = server.runtime.connections
        assert connection.reading_paused
        assert len(connection.exchange.body) < 1_000_000


async def test_a_download_to_a_client_that_does_not_read_stops(bare_server, raw):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
            sent += 1

    async with bare_server(app, lifespan="off", timeout_graceful_shutdown=0) as server:
        reader, writer = await raw(server)
        writer.transport.pause_reading()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 50  # what the kernel's buffers take
        [connection] = server.runtime.connections
        assert connection.transport.get_write_buffer_size() < 2_000_000


# ---- start ----


@pytest.mark.both_loops
async def test_of_many_clients_that_come_at_once_few_are_accepted_in_one_turn(bare_server):
    async with bare_server(hello) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(3 * ACCEPTS):
            stack.callback(socket.create_connection(("127.0.0.1", server.port)).close)
        connections, before, most = server.runtime.connections, 0, 0
        while len(connections) < 3 * ACCEPTS:
            await asyncio.sleep(0)
            before, most = len(connections), max(most, len(connections) - before)
        assert most <= ACCEPTS


@pytest.mark.both_loops
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell")
async def test_as_many_connections_as_ever_wait_to_be_accepted(bare_server):
    async with bare_server(hello) as server:
        # tcpi_sacked: of a socket that listens, what its backlog is. The system has a limit of its own.
        told = server.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        limit = int(Path("/proc/sys/net/core/somaxconn").read_text())
        assert struct.unpack_from("=I", told, 28)[0] == min(Config().backlog, limit)


async def test_the_address_is_taken_before_the_application_is_started(bare_server):
    async with bare_server(hello) as first:
        with pytest.raises(AddressError, match="in use"):
            async with Server(slow_startup, Config(port=first.port)):
                raise AssertionError


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_socket_that_cannot_listen_any_more_is_told_on_any_loop(bare_server, make_loop):
    """Two sockets with SO_REUSEADDR may be bound to one address; the second to listen is too late."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(bind_both_and_listen())


async def bind_both_and_listen():
    shut_down = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        shut_down.append(True)

    ours, theirs = socket.socket(), socket.socket()
    with ours, theirs:
        for each in (ours, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", 0))
        theirs.bind(ours.getsockname())
        theirs.listen()
        with pytest.raises(AddressError, match="in use"):
            async with Server(app, Config(), sockets=[ours]):
                raise AssertionError
    assert shut_down


async def test_a_startup_that_fails_is_an_exception_of_the_caller(bare_server):
    server = bare_server(failing_startup)
    with pytest.raises(StartupFailed) as caught:
        async with server:
            raise AssertionError
    assert type(caught.value.__cause__) is RuntimeError
    assert server.sockets[0].fileno() == -1


async def test_nobody_is_accepted_before_startup_is_complete(bare_server):
    server = bare_server(slow_startup)
    starting = asyncio.ensure_future(server.__aenter__())
    while not server.sockets:
        await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    server.stop()
    with pytest.raises(StartupFailed, match="asked to stop"):
        await starting


def test_usage_errors_are_of_one_kind():
    assert issubclass(AddressError, UsageError)
    assert issubclass(AddressError, OSError)


# ---- stop ----


async def test_stop_can_be_called_from_any_thread(bare_server):
    async with bare_server(hello) as server:
        thread = threading.Thread(target=server.stop)
        thread.start()
        await asyncio.wait_for(server.stopped(), 5)
        thread.join()
    server.stop()  # and after the end


async def test_a_server_that_is_stopped_before_it_starts_does_not_start(bare_server):
    server = bare_server(with_lifespan)
    server.stop()
    with pytest.raises(StartupFailed, match="asked to stop"):
        async with server:
            raise AssertionError


async def test_at_once_waits_for_nobody_and_leaves_nothing(bare_server, raw):
    ended = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(scope["type"])

    before = asyncio.all_tasks()
    async with bare_server(app, timeout_graceful_shutdown=60) as server:
        reader, writer = await raw(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.runtime.calls:
            await asyncio.sleep(0)
        server.stop(at_once=True)
        await server.stopped()
    assert ended == ["http", "lifespan"]
    assert asyncio.all_tasks() == before


async def test_a_stop_just_as_startup_completes_still_shuts_down(bare_server):
    order = []

    async def app(scope, receive, send):
        await receive()
        server.stop()
        await asyncio.sleep(0)
        await send({"type": "lifespan.startup.complete"})
        order.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    before = asyncio.all_tasks()
    for _ in range(5):
        server = bare_server(app)
        with pytest.raises(StartupFailed):
            async with server:
                raise AssertionError
        assert asyncio.all_tasks() == before
    assert set(order) <= {"lifespan.shutdown"}


async def test_at_once_ends_a_shutdown_behind_a_stop_during_startup(bare_server):
    async def app(scope, receive, send):
        await receive()
        server.stop()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        server.stop(at_once=True)
        await asyncio.Event().wait()

    server = bare_server(app)
    with pytest.raises(StartupFailed):
        async with asyncio.timeout(5), server:
            raise AssertionError


@pytest.mark.parametrize("half", ["startup", "shutdown"])
async def test_who_is_asked_to_stop_at_once_may_be_asked_again_and_again(bare_server, caplog, half):
    """Also while the application cleans up behind the first time."""
    ended = []

    async def app(scope, receive, send):
        try:
            if half == "shutdown":
                await receive()
                await send({"type": "lifespan.startup.complete"})
            await receive()
            for _ in range(3):
                server.stop(at_once=True)
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                server.stop(at_once=True)
                await asyncio.sleep(0)
            ended.append(half)

    server = bare_server(app)
    with pytest.raises(StartupFailed) if half == "startup" else contextlib.nullcontext():
        async with server:
            server.stop()
    assert ended == [half]
    assert [each for each in caplog.records if each.name == "asyncio"] == []  # no callback has raised


async def test_a_time_limit_of_another_s_is_not_taken_for_a_stop(bare_server):
    async def work():
        raise TimeoutError("of its own")

    server = bare_server(hello)
    with pytest.raises(TimeoutError, match="of its own"):
        await server.unless(server.at_once, work())


async def test_a_caller_that_is_cancelled_while_the_server_drains_leaves_nothing(bare_server, raw):
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await asyncio.Event().wait()

    async def serve():
        async with bare_server(app, timeout_graceful_shutdown=60) as server:
            servers.append(server)
            running.set()
            await leave.wait()

    servers, running, leave = [], asyncio.Event(), asyncio.Event()
    before = asyncio.all_tasks()
    serving_task = asyncio.ensure_future(serve())
    await running.wait()
    reader, writer = await raw(servers[0])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    while not servers[0].runtime.calls:
        await asyncio.sleep(0)
    leave.set()
    while not servers[0].runtime.stopping:
        await asyncio.sleep(0)
    serving_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving_task
    assert not servers[0].runtime.calls
    assert asyncio.all_tasks() == before
    assert servers[0].sockets[0].fileno() == -1


async def test_a_slow_client_gets_the_whole_of_an_answer_that_ends_in_stages(bare_server, raw):
    body = bytes(range(256)) * 40_000

    async def app(scope, receive, send):
        await respond(send, body)

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        got = bytearray()
        while piece := await reader.read(500_000):
            got += piece
            await asyncio.sleep(0.15)  # in all more than the server waits for its client to close
        assert got == body


async def test_a_running_request_finishes_before_the_server_does(bare_server, raw):
    go_on, running = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        running.set()
        await go_on.wait()
        await respond(send, b"finished")

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        idle, _ = await raw(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await running.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert (await reader.read()).endswith(b"finished")
    assert await idle.read() == b""


@pytest.mark.both_loops
async def test_a_request_that_has_arrived_as_a_stop_begins_is_answered(bare_server):
    """Its connection is accepted, and nothing of it read."""
    with contextlib.closing(socket.socket()) as sock:
        async with bare_server(hello) as server:
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not server.acceptor.arriving:
                await asyncio.sleep(0)
        assert sock.recv(1000).endswith(b"hello")


async def test_what_runs_on_is_cancelled_in_time_and_named(bare_server, raw, caplog):
    cancelled = asyncio.Event()

    async def app(scope, receive, send):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with bare_server(app, lifespan="off", timeout_graceful_shutdown=0.05) as server:
        reader, writer = await raw(server)
        writer.write(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.runtime.calls:
            await asyncio.sleep(0)
    assert cancelled.is_set()
    assert "GET /waits from 127.0.0.1:" in caplog.text
    assert "cancelled" in caplog.text
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")


async def test_of_one_left_behind_in_mid_answer_an_http_10_client_sees_that_it_was_not_whole(
    bare_server, raw, monkeypatch
):
    from miniasgi import server as module

    monkeypatch.setattr(module, "CLEAN_UP", 0.05)
    end = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()

    async with bare_server(app, lifespan="off", timeout_graceful_shutdown=0.05) as server:
        reader, writer = await raw(server)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"half")
        [call] = server.runtime.calls
    with pytest.raises(ConnectionResetError):
        await reader.read()
    end.set()
    await call.task


async def test_an_application_that_will_not_be_cancelled_is_left_behind_and_named(
    bare_server, raw, caplog, monkeypatch
):
    from miniasgi import server as module

    monkeypatch.setattr(module, "CLEAN_UP", 0.05)
    end = asyncio.Event()

    async def app(scope, receive, send):
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                pass

    async with bare_server(app, lifespan="off", timeout_graceful_shutdown=0.05) as server:
        reader, writer = await raw(server)
        writer.write(b"GET /stubborn HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.runtime.calls:
            await asyncio.sleep(0)
        [call] = server.runtime.calls
    assert "GET /stubborn" in caplog.text
    assert "left behind" in caplog.text
    end.set()
    await call.task


async def test_websockets_are_closed_with_1012(bare_server):
    async with bare_server(echo) as server:
        client = await connect(server.url.replace("http", "ws"))
    with pytest.raises((ConnectionClosedError, ConnectionClosedOK)) as caught:
        await client.recv()
    assert caught.value.rcvd.code == 1012


async def test_shutdown_of_the_lifespan_comes_last(bare_server, raw):
    order = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        else:
            try:
                await asyncio.Event().wait()
            finally:
                order.append("request ended")

    async with bare_server(app, timeout_graceful_shutdown=0.01) as server:
        reader, writer = await raw(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.runtime.calls:
            await asyncio.sleep(0)
    assert order == ["request ended", "shutdown"]


async def test_an_exception_in_the_block_stops_the_server_too(bare_server):
    class OfTheCaller(Exception):
        pass

    server = bare_server(with_lifespan)
    with pytest.raises(OfTheCaller):
        async with server:
            raise OfTheCaller
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.runtime.config.port or 1)
    assert server.sockets[0].fileno() == -1


async def test_nothing_is_left_after_a_server(bare_server, raw):
    before = asyncio.all_tasks()
    for _ in range(5):
        async with bare_server(echo) as server:
            reader, writer = await raw(server)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            assert (await reader.readuntil(b"\r\n\r\nhi")).startswith(b"HTTP/1.1 200")
        assert not server.runtime.connections
        assert not server.runtime.calls
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()  # what was not closed would warn now


async def test_many_servers_at_once(bare_server):
    async with bare_server(hello) as first, bare_server(echo) as second, httpx.AsyncClient() as client:
        assert first.port != second.port
        assert (await client.get(first.url)).text == "hello"
        assert (await client.post(second.url, content=b"x")).text == "x"


# ---- real faults ----


async def test_answers_to_a_mistake_arrive_though_the_client_goes_on_sending(bare_server, raw):
    """Closed at once, the unread rest would reset the connection and take the answer along."""
    async with bare_server(hello) as server:
        reader, writer = await raw(server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n" + bytes(2_000_000))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_half_closes_is_answered(bare_server, raw):
    async def app(scope, receive, send):
        await asyncio.sleep(0.05)
        await respond(send, b"still")

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write_eof()
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"still")


async def test_a_stream_that_only_sends_ends_soon_after_its_client_left(bare_server, raw):
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                await asyncio.sleep(0.01)
        except OSError:
            ended.set()
            raise

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"xxx")
        writer.close()
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"no request\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    ],
    ids=["a request", "a mistake", "a WebSocket"],
)
async def test_nothing_of_a_connection_that_is_over_waits_for_the_garbage_collector(bare_server, data):
    kinds = (Connection, ApplicationCall, h11.Connection, WsprotoConnection)

    def alive():  # by type(): isinstance asks each for its __class__, and Django's lazy objects wake up at that
        return sum(issubclass(type(each), kinds) for each in gc.get_objects())

    async with bare_server(echo) as server:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(data)
            assert (await reader.read(1000)).startswith(b"HTTP/1.1 ")
            assert alive() > before
            writer.close()
            async with asyncio.timeout(10):
                while alive() > before:
                    await asyncio.sleep(0.01)
        finally:
            gc.enable()
