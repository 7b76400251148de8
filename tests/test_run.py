"""run(): a server of its own process, and how signals stop it."""

import asyncio
import contextlib
import platform
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import miniasgi
from miniasgi.config import ConfigError
from miniasgi.lifespan import StartupFailed
from miniasgi.listen import AddressError
from tests.applications import failing_startup, hello
from tests.conftest import ROOT

LOOPS = ["asyncio", "uvloop"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def opened():
    """`opened(server, data)`: a socket that has sent the data; closed after the test."""
    with contextlib.ExitStack() as stack:

        def connected(server, data):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            sock.sendall(data)
            return sock

        yield connected


@pytest.mark.parametrize("loop", LOOPS)
def test_a_command_serves_tls_and_stops_with_an_idle_client(process, certificates, loop):
    options = ["--ssl-certfile", certificates.server_certs, "--ssl-keyfile", certificates.server_key]
    server = process("tests.applications:with_lifespan", "--loop", loop, *options)
    assert server.url == f"https://127.0.0.1:{server.port}"
    context = ssl.create_default_context(cafile=certificates.ca)
    with httpx.Client(verify=context) as client:
        assert client.get(server.url).text == "hello from startup"
        begun = time.monotonic()
        assert server.stop() == 0  # this client does not read the goodbye
        assert time.monotonic() - begun < 1.5
    assert "shut down" in server.output


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_with_exit_code_0_and_the_lifespan_shuts_down(process, loop, number):
    server = process("tests.applications:with_lifespan", "--loop", loop)
    assert httpx.get(server.url).text == "hello from startup"
    assert server.stop(number) == 0
    assert "shut down" in server.output
    assert "Stopped" in server.output


@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_during_startup_stops_with_exit_code_0(process, loop):
    server = process("tests.applications:slow_startup", "--loop", loop, announced=False)
    server.wait_for("starting")
    assert server.stop() == 0
    assert "cleaned up" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_application_is_imported_stops_with_exit_code_0(process, tmp_path, number):
    (tmp_path / "slow_import.py").write_text(
        "import time\nprint('importing', flush=True)\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass\n"
    )
    server = process(f"{tmp_path}/slow_import.py:app", announced=False)
    server.wait_for("importing")
    assert server.stop(number) == 0
    assert "Traceback" not in server.output


def test_run_outside_the_main_thread_goes_without_signals():
    failures = []

    def serve():
        try:
            miniasgi.run(failing_startup, port=0)
        except StartupFailed as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(20)
    assert len(failures) == 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("app", ["endless", "stuck"])
def test_what_is_open_ends_within_the_graceful_timeout(process, loop, opened, app):
    """An event stream, a WebSocket, half a request line, an application that waits in receive()."""
    with contextlib.ExitStack() as stack:
        server = process(f"tests.applications:{app}", "--loop", loop, "--timeout-graceful-shutdown", "1")
        half = opened(server, b"GET / HT")
        running = opened(server, b"GET /running HTTP/1.1\r\nHost: x\r\n\r\n")
        if app == "stuck":
            server.wait_for("is stuck")
        else:
            assert running.recv(100)
            websocket = stack.enter_context(connect(server.url.replace("http", "ws")))
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 5
        assert half.recv(100) == b""
        assert "GET /running" in server.output
        if app == "endless":
            with pytest.raises(ConnectionClosed) as caught:
                websocket.recv()
            assert caught.value.rcvd.code == 1012


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_finishes_in_time_whatever_will_not_end_and_names_it(process, loop, opened):
    """The time of a stop, and one second to clean up in; what goes on even then is left behind."""
    server = process("tests.applications:stubborn", "--loop", loop, "--timeout-graceful-shutdown", "1")
    with connect(server.url.replace("http", "ws")) as websocket:
        stream = opened(server, b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.recv(100)
        opened(server, b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("is stuck")
        opened(server, b"GET /swallowing HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("will not end")
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 6
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv()
        assert caught.value.rcvd.code == 1012
    for path in ("/stream", "/stuck", "/swallowing"):
        cancelled = f"GET {path} from 127.0.0.1:[0-9]+: still running when the server stopped; cancelled"
        assert re.search(cancelled, server.output)
    assert re.findall(r"GET (\S+) .* goes on in spite of being cancelled; left behind", server.output) == [
        "/swallowing"
    ]
    assert "Traceback" not in server.output
    assert "destroyed" not in server.output


@pytest.mark.parametrize("loop", LOOPS)
def test_a_running_request_is_finished(process, loop, opened):
    server = process("tests.applications:slow", "--loop", loop)
    client = opened(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for("has begun")
    server.send_signal()
    answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.endswith(b"slow")
    assert b"connection: close" in answer.lower()
    assert server.wait() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_at_once(process, loop, opened):
    server = process("tests.applications:stuck", "--loop", loop, "--timeout-graceful-shutdown", "60")
    opened(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for("is stuck")
    server.send_signal()
    server.wait_for("Stopping")
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_an_application_that_blocks_the_loop(process, loop, opened):
    server = process("tests.applications:blocking", "--loop", loop)
    opened(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for("asleep")
    server.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals at once would be one; and a server that does not turn cannot tell
    assert server.stop(signal.SIGINT) == -signal.SIGINT


@pytest.mark.parametrize("loop", LOOPS)
def test_under_load_no_request_that_reached_the_application_is_left_without_its_answer(process, loop, opened):
    """Sixteen clients ask as fast as they can while the server is stopped."""
    server = process("tests.applications:counting", "--loop", loop, "--no-access-log")
    answers, broken = [], []

    def client():
        mine = 0
        with opened(server, b"") as sock:
            while True:
                try:
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer = sock.recv(1000)
                except OSError:
                    break
                if not answer:
                    break
                if not answer.endswith(b"counted"):
                    broken.append(answer)
                mine += 1
        answers.append(mine)

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    server.wait_for("busy")
    server.send_signal()
    for thread in threads:
        thread.join(30)
    assert server.wait() == 0
    assert broken == []
    reached, answered = (int(word) for word in server.wait_for("reached").split()[1::2])
    assert reached == answered == sum(answers)


def test_run_raises_to_its_caller_and_leaves_the_program_as_it_was():
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(StartupFailed, match="no database"):
        miniasgi.run(failing_startup, port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AddressError):
        miniasgi.run(hello, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="no option 'prot'"):
        miniasgi.run(hello, prot=1)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_run_serves_an_application_of_the_program(monkeypatch):
    answers = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
            await receive()
            answers.append("shut down")
            await send({"type": "lifespan.shutdown.complete"})

    miniasgi.run(app, port=0, loop="asyncio", log_level="critical")
    assert answers == ["shut down"]


def test_the_root_logger_is_never_touched():
    import subprocess
    import sys

    program = (
        "import logging, signal, asyncio, miniasgi\n"
        "async def app(scope, receive, send):\n"
        "    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)\n"
        "miniasgi.run(app, port=0)\n"
        "assert not logging.getLogger().handlers\n"
        "assert logging.getLogger().level == logging.WARNING\n"
        "assert not logging.getLogger('uvicorn').handlers\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=30)


def test_a_program_that_configured_the_loggers_keeps_its_handlers():
    import logging

    logger = logging.getLogger("miniasgi")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    handlers = list(logger.handlers)
    try:
        with pytest.raises(StartupFailed):
            miniasgi.run(failing_startup, port=0)
        assert logger.handlers == handlers
        assert logger.propagate
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reset_at_any_point_leaves_the_server_well(process, loop, opened):
    server = process("tests.applications:echo", "--loop", loop)
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    for cut in range(0, len(request) + 1, 4):
        sock = opened(server, request[:cut])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert httpx.post(server.url, content=b"well").text == "well"
    assert server.stop() == 0
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output


@pytest.mark.parametrize("when", ["at import", "at startup"])
def test_an_application_that_configures_logging_does_not_silence_the_server(process, tmp_path, when):
    """dictConfig disables the loggers that there are already, unless it is told otherwise."""
    (tmp_path / "configures.py").write_text(f"""
import logging.config
from tests.applications import hello, with_lifespan

def configure():
    logging.config.dictConfig({{"version": 1}})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        if {when == "at startup"}:
            configure()
        await with_lifespan(scope, receive, send)
    else:
        await hello(scope, receive, send)

if {when == "at import"}:
    configure()
""")
    server = process(f"{tmp_path}/configures.py:app")
    assert httpx.get(server.url).text == "hello"
    server.wait_for('"GET / HTTP/1.1" 200')


def test_the_garbage_collector_is_kept_from_what_stays():
    """In an interpreter of its own: freezing is for ever."""
    code = """
import gc, sys, threading
import miniasgi
from tests.applications import with_lifespan

async def app(scope, receive, send):
    async def told(message):
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            threading.Timer(0.3, miniasgi.process.signal.raise_signal, (15,)).start()
    await with_lifespan(scope, receive, told)

if len(sys.argv) > 1:
    gc.set_threshold(500, 5, 5)
before = gc.get_threshold()
miniasgi.run(app, port=0)
print(gc.get_freeze_count() > 10_000, before[:2] == gc.get_threshold()[:2], gc.get_threshold()[2])
"""
    for arguments, told in (((), "True True 100"), (("own",), "True True 5")):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout.splitlines()[-1] == told


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have rules of their own")
def test_what_was_freed_lies_ready_for_the_next_read():
    """In an interpreter of its own: what its memory is like, an earlier test would have changed."""
    code = """
import os, resource
from miniasgi.process import keep_freed_memory

reads, writes = os.pipe()

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        os.write(writes, b"x")
        os.read(reads, 1_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = new_pages()
keep_freed_memory()
print(without, new_pages())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    without, with_it = map(int, done.stdout.split())
    assert without >= 100
    assert with_it < 20
