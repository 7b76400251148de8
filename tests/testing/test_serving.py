"""serve: start, stop and what a test has of its server, in a thread and in the test's loop."""

import asyncio
import contextvars
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
import urllib.request
import warnings
from pathlib import Path

import httpx
import pytest

from miniasgi.config import ConfigError
from miniasgi.explain.application import LoadError
from miniasgi.lifespan import StartupFailed
from miniasgi.listen import AddressError
from miniasgi.testing import ApplicationFault, AsyncLiveServer, LiveServer, serve
from tests.conftest import descriptors
from tests.protocol.test_websocket import handshake

from .applications import failing, hello, stuck, with_lifespan

REQUEST = b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n"


def get(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.status, response.read()


# ---- both worlds ------------------------------------------------------------------------------------------


def test_in_a_thread():
    with serve(hello) as server:
        assert isinstance(server, LiveServer)
        assert get(server.url + "/path") == (200, b"ok")
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.ws_url == f"ws://127.0.0.1:{server.port}"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


async def test_in_the_loop_of_the_test():
    before = threading.active_count()
    async with serve(hello) as server, httpx.AsyncClient() as client:
        assert isinstance(server, AsyncLiveServer)
        assert (await client.get(server.url)).text == "ok"
        assert threading.active_count() == before


async def test_a_thread_serves_an_async_test_too():
    with serve(hello) as server:
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).text == "ok"


def test_the_application_may_be_named():
    with serve("tests.testing.applications:hello") as server:
        assert get(server.url) == (200, b"ok")


def test_a_serving_can_be_used_again():
    serving = serve(hello)
    for _ in range(2):
        with serving as server:
            assert get(server.url) == (200, b"ok")


def test_a_serving_has_one_block_at_a_time():
    serving = serve(hello)
    with serving as server:
        with pytest.raises(RuntimeError, match="has its block already"), serving:
            pass
        assert get(server.url) == (200, b"ok")


def test_a_start_that_fails_leaves_nothing_open(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    before = descriptors()
    serving = serve(hello, uds=True, loop="uvloop")
    for _ in range(2):
        with pytest.raises(ConfigError, match="needs uvloop: pip install uvloop"), serving:
            pass
    assert descriptors() == before


def test_many_at_once_and_off_the_main_thread():
    found = []

    def one():
        with serve(hello) as first, serve(hello) as second:
            found.append((first.port, get(first.url), get(second.url)))

    threads = [threading.Thread(target=one) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert [each[1:] for each in found] == [((200, b"ok"), (200, b"ok"))] * 5
    assert len({port for port, *_ in found}) == 5


def test_any_option_of_config():
    with serve(hello, root_path="/api", limit_headers=1) as server, httpx.Client() as client:
        assert client.get(server.url).status_code == 431
    with serve(hello, root_path="/api") as server:
        get(server.url)
    assert server.exchanges[0].scope["root_path"] == "/api"


def test_uvloop_in_the_thread():
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        loops.append(type(asyncio.get_running_loop()).__module__)

    loops = []
    for loop in ("asyncio", "uvloop"):
        with serve(app, loop=loop, lifespan="off") as server:
            assert get(server.url) == (200, b"ok")
            server.wait_for(lambda: server.exchanges[-1].ended)
    assert loops == ["asyncio.unix_events", "uvloop"]


# ---- addresses --------------------------------------------------------------------------------------------


def test_a_unix_socket_to_throw_away():
    with serve(hello, uds=True) as server:
        with httpx.Client(transport=httpx.HTTPTransport(uds=server.uds)) as client:
            assert client.get(server.url).text == "ok"
        with pytest.raises(AttributeError, match="a unix socket has no port"):
            server.port  # noqa: B018
        assert server.exchanges[0].scope["server"] == (server.uds, None)
        folder = os.path.dirname(server.uds)
        assert os.path.isdir(folder)
    assert not os.path.exists(folder)


async def test_a_unix_socket_with_a_path(tmp_path):
    path = str(tmp_path / "socket")
    async with serve(hello, uds=path) as server:
        assert server.uds == path
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client:
            assert (await client.get(server.url)).text == "ok"
    assert not os.path.exists(path)


def test_a_unix_socket_that_cannot_be_had(tmp_path):
    with pytest.raises(AddressError, match="the unix socket .*missing/socket cannot be had: No such file"):
        with_thread(hello, uds=str(tmp_path / "missing" / "socket"))
    with pytest.raises(AddressError, match="AF_UNIX path too long"):
        with_thread(hello, uds=str(tmp_path / ("long" * 50)))


def test_a_certificate_to_throw_away():
    with serve(hello, tls=True) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert server.ws_url.startswith("wss://127.0.0.1:")
        with httpx.Client(verify=server.ssl_context) as client:
            assert client.get(server.url).text == "ok"
            assert client.get(server.url.replace("127.0.0.1", "localhost")).text == "ok"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url)
        assert Path(server.ca_file).read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_what_is_for_tls_is_told_where_there_is_none():
    with serve(hello) as server:
        for name in ("ssl_context", "ca_file"):
            with pytest.raises(AttributeError, match=f"{name} is for a server with tls=True"):
                getattr(server, name)


def test_an_address_that_is_taken():
    with serve(hello) as server:
        for world in (with_thread, in_loop):
            with pytest.raises(AddressError, match=f"port {server.port} of 127.0.0.1 is in use"):
                world(hello, port=server.port)


# ---- start ------------------------------------------------------------------------------------------------


def with_thread(app, **options):
    with serve(app, **options):
        pass


def in_loop(app, **options):
    async def main():
        async with serve(app, **options):
            pass

    asyncio.run(main())


WORLDS = pytest.mark.parametrize("world", [with_thread, in_loop])


@WORLDS
def test_startup_is_complete_and_shutdown_comes(world):
    seen = []
    with_thread(with_lifespan(lambda: seen.append("up"), lambda: seen.append("down")))
    assert seen == ["up", "down"]


def test_the_state_of_the_lifespan():
    with serve(with_lifespan()) as server:
        assert server.state == {"started": True}
        assert server.lifespan.types == ["lifespan.startup", "lifespan.startup.complete"]
    assert server.lifespan.types[2:] == ["lifespan.shutdown", "lifespan.shutdown.complete"]


def fail(kind=RuntimeError):
    raise kind("as asked")


@WORLDS
@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_startup_that_fails(world, kind):
    with pytest.raises(
        StartupFailed, match="RuntimeError: .*as asked" if kind is RuntimeError else "sys.exit"
    ):
        world(with_lifespan(lambda: fail(kind)))


@WORLDS
def test_a_startup_that_takes_too_long(world):
    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(60)

    with pytest.raises(StartupFailed, match="did not start within 0.1 s .*applications|test_serving.py"):
        world(app, timeout_lifespan=0.1)


def test_a_startup_that_blocks(monkeypatch):
    monkeypatch.setattr("miniasgi.testing.thread.GRACE", 0.1)
    monkeypatch.setattr("miniasgi.testing.thread.CLEAN_UP", 0.1)
    free = threading.Event()
    with pytest.raises(StartupFailed, match=r"keeps the loop from turning; it is in .*: free.wait\(30\)"):
        with_thread(with_lifespan(lambda: free.wait(30)), timeout_lifespan=0.1)
    free.set()
    join_servers()


def join_servers():
    for each in threading.enumerate():
        if each.name.startswith("miniasgi server"):
            each.join(10)
            assert not each.is_alive()


@WORLDS
def test_what_is_no_application(world):
    for wrong, text in (
        (42, "an int, which cannot be called"),
        (lambda scope: None, "takes .scope., not"),
        ("tests.testing.applications:helo", "did you mean 'hello'"),
    ):
        with pytest.raises(LoadError, match=text):
            world(wrong)


def test_what_is_no_option():
    with pytest.raises(ConfigError, match="there is no option 'timeout_graceful'"):
        serve(hello, timeout_graceful=1)
    with pytest.raises(ConfigError, match="errors is one of raise, collect, ignore, not 'log'"):
        with_thread(hello, errors="log")
    with pytest.raises(ConfigError, match="ssl_certfile names another one"):
        serve(hello, tls=True, ssl_certfile="x")
    with pytest.raises(ConfigError, match="neither host nor port"):
        serve(hello, uds=True, port=0)


def test_without_trustme_a_certificate_says_what_it_needs(monkeypatch):
    from miniasgi.testing import certificate

    certificate.throw_away.cache_clear()
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigError, match="pip install trustme"):
        serve(hello, tls=True)


# ---- what is never touched --------------------------------------------------------------------------------


def test_signals_logging_and_the_policy_are_as_they_were():
    def state():
        loggers = [logging.getLogger(name) for name in (None, "miniasgi", "miniasgi.access", "asyncio")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            policy = asyncio.get_event_loop_policy()
        return (
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            [(each.level, each.handlers[:], each.propagate) for each in loggers],
            policy,
        )

    before = state()
    with serve(hello) as server:
        get(server.url)
        assert state() == before
    assert state() == before


variable = contextvars.ContextVar("variable", default="unset")


async def tell_variable(scope, receive, send):
    await hello_with(scope, send, variable.get().encode())


async def hello_with(scope, send, body):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


async def test_the_context_variables_of_the_test_are_the_applications():
    variable.set("of the test")
    async with serve(tell_variable) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "of the test"
    with serve(tell_variable) as server:
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).text == "of the test"


def test_outside_of_asyncio_the_loop_of_the_test_is_told_to_be_asyncios():
    async def main():
        async with serve(hello):
            pass

    with pytest.raises(RuntimeError, match="no running event loop"):
        main().send(None)


# ---- stop -------------------------------------------------------------------------------------------------

HALF = b"POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
OPEN = {
    "GET /stream": b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /half": HALF,
    "WebSocket /ws": handshake(),
    "GET /": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stop_beside_what_does_not_end_takes_its_time_and_names_it(name, loop):
    with pytest.raises(ExceptionGroup) as raised, serve(stuck, lifespan="off", loop=loop) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(OPEN[name])
        server.wait_for(lambda: server.exchanges)
        began = time.monotonic()
    took = time.monotonic() - began
    client.close()
    assert 0.9 < took < 5  # of a second, and no more than a slow machine's share; a server's default is ten
    (error,) = raised.value.exceptions
    assert isinstance(error, ApplicationFault)
    assert f"{name} from 127.0.0.1:" in str(error)
    assert "still running when the server stopped; cancelled; it waits in " in str(error)
    assert "applications.py, line " in str(error)
    assert threading.active_count() < 20


async def test_in_the_loop_a_stop_names_it_too():
    with pytest.raises(ExceptionGroup, match="errors in the application") as raised:
        async with serve(stuck, timeout_graceful_shutdown=0.1) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(HALF)
            await server.wait_for("http.request")
    writer.close()
    assert "POST /half from" in str(raised.value.exceptions[0])
    assert "await receive()" in str(raised.value.exceptions[0])


def test_an_application_that_blocks_the_loop_is_left_behind_and_named(monkeypatch):
    monkeypatch.setattr("miniasgi.testing.thread.GRACE", 0.1)
    monkeypatch.setattr("miniasgi.testing.thread.CLEAN_UP", 0.1)
    free = threading.Event()

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        free.wait(30)

    began = time.monotonic()
    with pytest.raises(ExceptionGroup) as raised, serve(app, timeout_graceful_shutdown=0.1) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(REQUEST)
        server.wait_for(lambda: server.exchanges)
    assert time.monotonic() - began < 5
    text = str(raised.value.exceptions[0])
    assert "the server does not stop, and is left behind; it is in " in text
    assert "free.wait(30)" in text
    free.set()
    client.close()
    join_servers()


def test_a_shutdown_that_fails_is_raised():
    with pytest.raises(ExceptionGroup) as raised, serve(with_lifespan(None, fail)):
        pass
    (error,) = raised.value.exceptions
    assert isinstance(error, RuntimeError)
    assert error.__notes__ == ["The application's lifespan raised"]


async def test_a_client_that_blocks_in_the_loop_of_the_server_is_told_why_it_waits_in_vain():
    with pytest.raises(httpx.ReadTimeout) as raised:
        async with serve(hello) as server:
            httpx.get(server.url, timeout=0.1)  # noqa: ASYNC210  # which is the slip
    assert "`with serve(app)` gives the server a thread" in raised.value.__notes__[0]
    with pytest.raises(ZeroDivisionError) as raised:
        async with serve(hello):
            1 / 0  # noqa: B018
    assert not hasattr(raised.value, "__notes__")


def test_many_starts_and_stops_leave_nothing():
    with serve(hello) as server:  # what is made once
        get(server.url)
    gc.collect()  # what tests before this one have left open would be closed in the midst of it
    threads, files = threading.active_count(), descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a ResourceWarning is raised where it is noticed, and told by pytest
        for _ in range(200):
            with serve(with_lifespan()) as server:
                client = server.raw()
                client.send(REQUEST)
                assert client.response().body == b"ok"
    assert threading.active_count() == threads
    assert descriptors() == files


async def test_many_starts_and_stops_in_one_loop_leave_nothing():
    async with serve(hello):
        pass
    tasks, files = len(asyncio.all_tasks()), descriptors()
    for _ in range(200):
        async with serve(with_lifespan()) as server:
            client = server.raw()
            await client.send(REQUEST)
            assert (await client.response()).body == b"ok"
    assert len(asyncio.all_tasks()) == tasks
    assert descriptors() == files


def test_the_threads_of_the_application_end_with_the_server():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await asyncio.to_thread(time.sleep, 0)
        await hello(scope, receive, send)

    threads = threading.active_count()
    with serve(app) as server:
        get(server.url)
    assert threading.active_count() == threads


def test_a_server_does_not_wait_for_the_threads_of_another():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await asyncio.to_thread(time.sleep, 0)
        await hello(scope, receive, send)

    with serve(app) as other:
        get(other.url)  # which has a thread from then on
        with serve(app) as server:
            get(server.url)
            began = time.monotonic()
        assert time.monotonic() - began < 0.9  # of the second that it has for its own


def test_a_loop_that_cannot_be_had_is_an_error_at_once(monkeypatch):
    def fails():
        raise OSError("too many open files")

    monkeypatch.setattr("miniasgi.testing.thread.choose_loop", lambda _: fails)
    with pytest.raises(OSError, match="too many open files"):
        with_thread(hello)


def test_an_error_of_the_block_stands_and_the_applications_stands_above_it():
    with pytest.raises(AssertionError, match="500") as raised, serve(failing) as server:
        status = httpx.get(server.url + "/ValueError").status_code
        assert status == 200
    text = "".join(traceback.format_exception(raised.value))
    assert text.index("ValueError: as asked") < text.index("AssertionError")


@pytest.mark.parametrize("hides", [None, KeyError("hidden")])
def test_an_error_that_hides_what_came_before_it_has_the_applications_above_it_too(hides):
    with pytest.raises(AssertionError) as raised, serve(failing) as server:
        httpx.get(server.url + "/ValueError")
        try:
            raise hides or KeyError("hidden")
        except KeyError:
            raise AssertionError from hides
    text = "".join(traceback.format_exception(raised.value))
    assert text.index("ValueError: as asked") < text.index("AssertionError")
    assert text.count("\nKeyError: 'hidden'") == (hides is not None)


def test_a_ring_of_errors_ends_the_block_like_any_other():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(ValueError, match="first") as raised, serve(failing) as server:
        httpx.get(server.url + "/KeyError")
        raise first
    assert "KeyError: 'as asked'" in "".join(traceback.format_exception(raised.value))


def test_what_a_test_waits_for_may_be_a_request():
    with serve(hello) as server:
        assert server.wait_for(lambda: httpx.get(server.url).status_code == 200)


async def test_what_a_test_waits_for_may_be_what_is_not_recorded():
    cleaned_up = []

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        asyncio.get_running_loop().call_later(0.05, cleaned_up.append, True)
        await hello(scope, receive, send)

    with serve(app) as server:
        await asyncio.to_thread(httpx.get, server.url)
        began = time.monotonic()
        assert server.wait_for(lambda: cleaned_up, timeout=5)
    cleaned_up.clear()
    async with serve(app) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        assert await server.wait_for(lambda: cleaned_up, timeout=5)
    assert time.monotonic() - began < 5  # of which neither has waited to the end


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_of_the_thread_does_not_end_the_run_of_all_tests(kind):
    def ends():
        raise kind("as asked")

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        asyncio.get_running_loop().call_soon(ends)
        await hello(scope, receive, send)

    with pytest.raises(ApplicationFault, match=f"{kind.__name__}.*as asked"), serve(app) as server:
        httpx.get(server.url)


def test_nor_does_a_startup_that_is_interrupted():
    def startup():
        raise KeyboardInterrupt

    with pytest.raises(ApplicationFault, match="KeyboardInterrupt"):
        with_thread(with_lifespan(startup=startup))


def test_a_stop_that_is_interrupted_is_interrupted():
    with pytest.raises(KeyboardInterrupt) as raised, serve(failing) as server:
        httpx.get(server.url + "/ValueError")
        wait = server.ended.wait

        def interrupted(timeout):
            wait(timeout)
            raise KeyboardInterrupt

        server.ended.wait = interrupted
    assert isinstance(raised.value.__context__, ExceptionGroup)


async def test_a_stop_that_is_cancelled_is_cancelled():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, serve(stuck) as server:
            await server.raw().send(REQUEST)
            limit.reschedule(asyncio.get_running_loop().time() + 0.05)
