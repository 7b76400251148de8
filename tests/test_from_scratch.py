"""The course in `examples/from_scratch`: each step as a process, and each claim of its docstring by a real client."""

import ast
import contextlib
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "from_scratch"
FILES = sorted(FOLDER.glob("*.py"))
STEPS = {int(file.name[4]): file for file in FILES}
HTTP = (2, 3, 4, 5, 6)
ASGI = (3, 4, 5, 6)
KEEP_ALIVE = (4, 5, 6)
WEBSOCKET = (5, 6)
# More than the buffers of two sockets and of the transport hold together.
MUCH = 64 * 1024 * 1024
TIMEOUT = 20.0  # for each step of a conversation, in seconds


class Step:
    """A step as a process on a free port. Made by the fixture `step`, which ends it."""

    def __init__(self, number, folder, app="step3_asgi:hello", cwd=ROOT):
        self.errors = folder / "stderr"
        command = [sys.executable, "-W", "error", str(STEPS[number]), *([app] if number in ASGI else ()), "0"]
        with self.errors.open("wb") as errors:
            self.popen = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=errors)
        self.printed = b""  # and not given by `line` yet
        self.url = self.line()
        self.port = int(self.url.rpartition(":")[2] or 0)

    def line(self, timeout=TIMEOUT):
        """The next line that it prints; empty when it has ended, or printed none in that time."""
        while b"\n" not in self.printed and select.select((self.popen.stdout,), (), (), timeout)[0]:
            piece = os.read(self.popen.stdout.fileno(), 65536)
            if not piece:
                break
            self.printed += piece
        line, _, self.printed = self.printed.partition(b"\n")
        return line.decode()

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)

    def say(self, *pieces):
        """All that comes back for these bytes, until the server closes; our side stays open."""
        with self.socket() as sock:
            for piece in pieces:
                sock.sendall(piece)
            return read_all(sock)

    def stop(self, number=signal.SIGTERM):
        """(exit code, what stands in stderr)"""
        self.popen.send_signal(number)
        return self.popen.wait(TIMEOUT), self.errors.read_text()


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_until(sock, end):
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def fill(sock, data):
    """How much the other side takes before it lets us wait: nothing for as long as a slow machine may need."""
    sock.setblocking(False)
    sent = 0
    while sent < len(data) and select.select((), (sock,), (), 0.5)[1]:
        sent += sock.send(data[sent : sent + 65536])
    sock.settimeout(TIMEOUT)
    return sent


@pytest.fixture
def step(tmp_path):
    """`step(3, "module:app")` starts one."""
    with contextlib.ExitStack() as stack:

        def start(number, *arguments, **options):
            made = Step(number, tmp_path, *arguments, **options)
            stack.callback(made.popen.stdout.close)
            stack.callback(made.popen.wait)
            stack.callback(made.popen.kill)
            return made

        yield start


@pytest.fixture
def own(tmp_path):
    """`own(source)`: the folder of a module `own` with an application `app`."""

    def write(source):
        (tmp_path / "own.py").write_text("import asyncio, os, sys\n" + source)
        return tmp_path

    return write


# ---- the files -----------------------------------------------------------------------------------------------


def test_there_are_six_steps():
    assert list(STEPS) == [1, 2, 3, 4, 5, 6]
    assert len(FILES) == 6


@pytest.mark.parametrize("number", STEPS)
def test_a_step_has_at_most_150_lines(number):
    assert len(STEPS[number].read_text().splitlines()) <= 150


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_step_needs_the_standard_library_h11_and_wsproto_alone(file):
    steps = {each.stem for each in FILES if each < file}
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level
            names = [node.module]
        for name in names:
            assert name.partition(".")[0] in {"h11", "wsproto"} | sys.stdlib_module_names | steps


@pytest.mark.parametrize("number", STEPS)
def test_a_docstring_says_what_is_new_and_missing_and_where_it_lives(number):
    text = ast.get_docstring(ast.parse(STEPS[number].read_text()))
    assert text.startswith(f"Step {number}: ")
    assert ("\nNew: " in text) is (number > 1)
    assert "\nMissing: " in text
    places = text.partition("\nIn miniasgi: ")[2].partition(". ")[0]
    found = 0
    for part in places.split(";"):
        path = ROOT / "miniasgi" / re.search(r"`([\w/]+\.py)`", part)[1]
        for dotted in re.findall(r"(?<![`\w])([A-Z]\w*(?:\.\w+)?|[a-z]\w*_scope)", part.partition("`,")[2]):
            assert_defined(path, dotted)
            found += 1
    assert found


def assert_defined(path, dotted):
    """`Class.method` or `NAME` is in the file."""
    body = ast.parse(path.read_text()).body
    for name in dotted.split("."):
        for node in body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if getattr(node, "name", None) == name or name in [getattr(each, "id", None) for each in targets]:
                body = getattr(node, "body", [])
                break
        else:
            raise AssertionError(f"no {dotted} in {path.name}")


# ---- what the docstrings say to try --------------------------------------------------------------------------


@pytest.mark.parametrize("number", STEPS)
def test_the_commands_of_a_docstring_do_what_it_says(number, step, need):
    need("curl", install="curl (Debian)")
    text = ast.get_docstring(ast.parse(STEPS[number].read_text()))
    start, *client = map(shlex.split, re.findall(r"^    (.*)$", text, re.MULTILINE))
    assert start[:2] == ["python", str(STEPS[number].relative_to(ROOT))]
    made = step(number, *start[2:])
    if number > 4:
        assert not client
        assert "<title>" in httpx.get(made.url).text  # of the chat: `examples.chat` is tested elsewhere
        return
    [client] = client
    client = [word.replace("127.0.0.1:8000", f"127.0.0.1:{made.port}") for word in client]
    client[1:1] = ["--no-buffer", "--max-time", f"{TIMEOUT}"]  # as at a terminal, but not for ever
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(client, text=True, **pipes) as curl:
        if number == 1:
            curl.stdin.write("hi\n")
            curl.stdin.flush()
            assert curl.stdout.readline() == "hi\n"
            curl.terminate()
        told, verbose = curl.communicate(timeout=TIMEOUT)
    answers = {1: "", 2: "GET /hi\n", 3: "POST /hi: 5 bytes\n", 4: "GET /one: 0 bytes\nGET /two: 0 bytes\n"}
    assert told == answers[number]
    assert number < 4 or re.search("Re-us(ing|ed).* connection", verbose)


def test_a_step_from_3_on_is_started_from_any_folder_for_any_application(step, own):
    folder = own("from step3_asgi import hello as app")
    assert httpx.get(f"{step(6, 'own:app', cwd=folder).url}/hi").text == "GET /hi: 0 bytes\n"


# ---- step 1 --------------------------------------------------------------------------------------------------


def test_step_1_sends_back_what_it_is_sent(step):
    with step(1).socket() as sock:
        for piece in (b"half a wo", b"rd"):
            sock.sendall(piece)
            assert read_until(sock, piece) == piece
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""


def test_step_1_takes_no_more_than_it_can_be_rid_of(step):
    data = bytes(MUCH)
    with step(1).socket() as sock:
        sent = fill(sock, data)
        assert sent < MUCH
        for _ in range(sent // 65536):
            assert sock.recv(65536, socket.MSG_WAITALL)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_ctrl_c_ends_a_step_with_a_traceback(number, step):
    code, errors = step(number).stop(signal.SIGINT)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


# ---- HTTP ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ASGI)
def test_how_the_network_cuts_a_request_does_not_matter(number, step):
    made = step(number)
    request = b"POST /hi HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    whole = made.say(request)
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert made.say(*(request[at : at + 1] for at in range(len(request)))) == whole


@pytest.mark.parametrize("number", HTTP)
def test_what_breaks_the_rules_is_400_and_nothing_behind_it_is_answered(number, step):
    made = step(number)
    good = b"GET /hi HTTP/1.1\r\nHost: a\r\n\r\n"
    assert made.say(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")  # no Host
    if number in KEEP_ALIVE:
        answers = made.say(good + b"nonsense\r\n\r\n")
        assert [line[:12] for line in answers.splitlines() if line.startswith(b"HTTP")] == [
            b"HTTP/1.1 200",
            b"HTTP/1.1 400",
        ]


@pytest.mark.parametrize("number", HTTP)
def test_an_answer_to_head_has_no_body_and_one_to_http_1_0_closes(number, step):
    made = step(number)
    head = made.say(b"HEAD /hi HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    length = {2: len("HEAD /hi\n")}.get(number, len("HEAD /hi: 0 bytes\n"))
    assert b"content-length: %d\r\n" % length in head
    assert head.endswith(b"\r\n\r\n")
    assert made.say(b"GET /hi HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("number", ASGI)
def test_a_client_that_waits_for_100_continue_is_told_to_go_on(number, step):
    with step(number).socket() as sock:
        sock.sendall(b"POST /hi HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        assert read_until(sock, b"\n").startswith(b"HTTP/1.1 200 ")


# ---- ASGI ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ASGI)
def test_an_application_is_served_by_its_name(number, step):
    assert httpx.get(step(number, "examples.hello:app").url).text == "Hello from miniasgi\n"


@pytest.mark.parametrize("number", ASGI)
def test_a_path_is_decoded_and_a_body_whole(number, step):
    made = step(number)
    response = httpx.post(f"{made.url}/h%C3%A9?a=b", content=b"x" * 1_000_000)
    assert response.text == "POST /hé: 1000000 bytes\n"


@pytest.mark.parametrize("number", ASGI)
def test_an_application_that_raises_is_500_or_an_answer_that_does_not_end(number, step, own):
    folder = own(
        "async def app(scope, receive, send):\n"
        "    if scope['path'] == '/late':\n"
        "        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'9')]})\n"
        "        await send({'type': 'http.response.body', 'body': b'x', 'more_body': True})\n"
        "    raise LookupError('of the application')\n"
    )
    made = step(number, "own:app", cwd=folder)
    assert httpx.get(made.url).status_code == 500
    if number == 3:  # nothing of the answer has left
        assert httpx.get(f"{made.url}/late").status_code == 500
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{made.url}/late")
    assert made.errors.read_text().count("LookupError: of the application") >= 2


@pytest.mark.parametrize("number", ASGI)
def test_messages_out_of_order_are_refused_and_so_are_those_behind_the_answer(number, step, own):
    folder = own(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        return\n"
        "    body = {'type': 'http.response.body', 'body': b'x'}\n"
        "    try:\n"
        "        await send(body)\n"
        "    except RuntimeError as error:\n"
        "        body['body'] = str(error).encode()\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send(body)\n"
        "    try:\n"
        "        await send(body)\n"
        "    except Exception as error:\n"
        "        print('refused', flush=True)\n"
    )
    made = step(number, "own:app", cwd=folder)
    assert httpx.get(made.url).text == "http.response.body cannot be sent now"
    assert made.line() == "refused"


@pytest.mark.parametrize("number", ASGI)
def test_an_application_hears_that_its_client_has_left(number, step, own):
    folder = own(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        while (await receive())['type'] != 'http.disconnect':\n"
        "            print('there', flush=True)\n"
        "        print('left', flush=True)\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        try:\n"
        "            for number in range(64):\n"
        "                await send({'type': 'http.response.body', 'body': bytes(2**20), 'more_body': True})\n"
        "            await send({'type': 'http.response.body'})\n"
        "        except OSError:\n"
        "            print('not sent', flush=True)\n"
        "            raise\n"
    )
    made = step(number, "own:app", cwd=folder)
    with made.socket() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert made.line() == "there"
    assert (made.line(), made.line()) == ("left", "not sent")
    assert made.say(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")  # and it has gone on
    assert "Traceback" not in made.errors.read_text()


# ---- keep-alive and backpressure -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", KEEP_ALIVE)
def test_requests_sent_at_once_are_answered_in_their_order(number, step):
    requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % each for each in range(500)]
    requests.append(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answers = step(number).say(b"".join(requests))
    assert re.findall(rb"GET /(\w+):", answers) == [b"%d" % each for each in range(500)] + [b"last"]


@pytest.mark.parametrize("number", KEEP_ALIVE)
def test_an_echo_streams_both_ways_on_one_connection(number, step):
    def body():
        for each in range(50):
            yield b"%d" % each * 10_000

    with httpx.Client(base_url=step(number, "examples.streaming:app").url) as client:
        for _ in range(2):
            assert client.post("/echo", content=body()).content == b"".join(body())


SINK = (
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'http':\n"
    "        print('called', flush=True)\n"
    "        await asyncio.Event().wait()\n"
)
SOURCE = (
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'http':\n"
    "        await send({'type': 'http.response.start', 'status': 200})\n"
    "        for number in range(64):\n"
    "            await send({'type': 'http.response.body', 'body': bytes(2**20), 'more_body': True})\n"
    "        print('sent', flush=True)\n"
    "        await send({'type': 'http.response.body'})\n"
)


@pytest.mark.parametrize("number", ASGI)
def test_a_body_that_is_not_received_stays_with_the_client(number, step, own):
    made = step(number, "own:app", cwd=own(SINK))
    with made.socket() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MUCH)
        assert made.line() == "called"
        assert fill(sock, bytes(MUCH)) < MUCH


@pytest.mark.parametrize("number", ASGI)
def test_send_waits_for_a_client_that_does_not_read_from_step_4_on(number, step, own):
    made = step(number, "own:app", cwd=own(SOURCE))
    with made.socket() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        sent = select.select((made.popen.stdout,), (), (), 20 if number == 3 else 1)[0]
        assert bool(sent) is (number == 3)
        assert len(read_all(sock)) > MUCH


@pytest.mark.parametrize("number", KEEP_ALIVE)
def test_a_body_that_nobody_wants_is_read_to_its_end(number, step):
    with httpx.Client(base_url=step(number, "examples.hello:app").url) as client:
        for _ in range(2):
            assert client.post("/", content=bytes(5_000_000)).text == "Hello from miniasgi\n"


# ---- WebSocket -----------------------------------------------------------------------------------------------


ECHO = (
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'websocket':\n"
    "        await receive()\n"
    "        await send({'type': 'websocket.accept'})\n"
    "        while (message := await receive())['type'] == 'websocket.receive':\n"
    "            await send({**message, 'type': 'websocket.send'})\n"
    "    elif scope['type'] == 'http':\n"
    "        from step3_asgi import hello\n"
    "        await hello(scope, receive, send)\n"
)


@pytest.mark.parametrize("number", WEBSOCKET)
def test_a_websocket_carries_messages_pings_and_its_close(number, step, own):
    made = step(number, "own:app", cwd=own(ECHO))
    with connect(made.url.replace("http", "ws"), compression=None) as websocket:
        for data in ("hello", "x" * 1_000_000, b"bytes", ""):
            websocket.send(data)
            assert websocket.recv(TIMEOUT) == data
        websocket.send(["he", "ll", "o"])  # in three fragments
        assert websocket.recv(TIMEOUT) == "hello"
        assert websocket.ping().wait(TIMEOUT)
    assert websocket.close_code == 1000


CHAPTERS = (
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'websocket':\n"
    "        await receive()\n"
    "        if scope['path'] == '/deny':\n"
    "            return await send({'type': 'websocket.close'})\n"
    "        if scope['path'] == '/fail':\n"
    "            raise LookupError\n"
    "        await send({'type': 'websocket.accept', 'subprotocol': scope['subprotocols'][0], 'headers': [(b'a', b'b')]})\n"
    "        if scope['path'] == '/raise':\n"
    "            raise LookupError\n"
    "        if scope['path'] == '/return':\n"
    "            return\n"
    "        if scope['path'] == '/close':\n"
    "            return await send({'type': 'websocket.close', 'code': 4000, 'reason': 'why'})\n"
    "        if scope['path'] == '/wait':\n"
    "            print('open', flush=True)\n"
    "        print(await receive(), flush=True)\n"
)


@pytest.mark.parametrize("number", WEBSOCKET)
def test_a_websocket_is_accepted_denied_and_closed_as_the_application_says(number, step, own):
    made = step(number, "own:app", cwd=own(CHAPTERS))
    url = made.url.replace("http", "ws")
    for path, status in (("/deny", 403), ("/fail", 500)):
        with pytest.raises(InvalidStatus) as refused:
            connect(url + path).__enter__()
        assert refused.value.response.status_code == status
    for path, code, reason in (("/raise", 1011, ""), ("/return", 1000, ""), ("/close", 4000, "why")):
        with connect(url + path, subprotocols=["one", "two"]) as websocket:
            assert (websocket.subprotocol, websocket.response.headers["a"]) == ("one", "b")
            with pytest.raises(ConnectionClosed):
                websocket.recv(10)
            assert (websocket.close_code, websocket.close_reason) == (code, reason)
    with connect(url, subprotocols=["one"]) as websocket:
        websocket.close(4001, "client's")
    assert ast.literal_eval(made.line()) == {
        "type": "websocket.disconnect",
        "code": 4001,
        "reason": "client's",
    }


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize("number", WEBSOCKET)
def test_a_handshake_against_the_rules_is_refused(number, step, own):
    made = step(number, "own:app", cwd=own(ECHO))
    early = HANDSHAKE + b"\r\n\x81\x80abcd"  # a frame before there is an answer
    for wrong in (HANDSHAKE.replace(b"Host: a", b"Host: \xff") + b"\r\n", early):
        assert made.say(wrong).startswith(b"HTTP/1.1 400 ")
    old = made.say(HANDSHAKE.replace(b"13", b"8") + b"\r\n")
    assert old.startswith(b"HTTP/1.1 426 ")
    assert b"sec-websocket-version: 13\r\n" in old.lower()
    assert "Traceback" not in made.errors.read_text()


@pytest.mark.parametrize("number", WEBSOCKET)
def test_a_frame_against_the_rules_is_answered_with_its_close_code(number, step, own):
    with step(number, "own:app", cwd=own(ECHO)).socket() as sock:
        sock.sendall(HANDSHAKE + b"\r\n")
        read_until(sock, b"\r\n\r\n")
        sock.sendall(b"\x83\x80abcd")  # an opcode that does not exist
        assert read_all(sock)[:4][2:] == (1002).to_bytes(2, "big")


@pytest.mark.parametrize("number", WEBSOCKET)
def test_a_websocket_that_is_not_read_keeps_its_client_waiting(number, step, own):
    source = CHAPTERS.replace("print(await receive(), flush=True)", "await asyncio.Event().wait()")
    made = step(number, "own:app", cwd=own(source.replace("scope['subprotocols'][0]", "None")))
    with made.socket() as sock:
        sock.sendall(HANDSHAKE + b"\r\n")
        read_until(sock, b"\r\n\r\n")
        frame = b"\x82\xff" + (65536).to_bytes(8, "big") + bytes(4 + 65536)
        assert fill(sock, frame * (MUCH // 65536)) < MUCH


# ---- step 6 --------------------------------------------------------------------------------------------------

LIFESPAN = (
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'lifespan':\n"
    "        await receive()\n"
    "        if os.path.exists('fail'):\n"
    "            return await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    "        scope['state']['who'] = b'from the startup'\n"
    "        await send({'type': 'lifespan.startup.complete'})\n"
    "        await receive()\n"
    "        print('shutdown', flush=True)\n"
    "        return await send({'type': 'lifespan.shutdown.complete'})\n"
    "    if scope['path'] == '/wait':\n"
    "        print('called', flush=True)\n"
    "        await receive()\n"
    "        await receive()\n"
    "    await send({'type': 'http.response.start', 'status': 200})\n"
    "    await send({'type': 'http.response.body', 'body': scope['state']['who']})\n"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_step_6_starts_the_application_before_and_stops_it_after_its_clients(number, step, own):
    made = step(6, "own:app", cwd=own(LIFESPAN))
    assert httpx.get(made.url).text == "from the startup"
    assert made.stop(number) == (0, "")
    assert made.line() == "shutdown"


def test_step_6_answers_who_was_called_and_closes_who_is_idle(step, own):
    made = step(6, "own:app", cwd=own(LIFESPAN))
    with made.socket() as idle, made.socket() as busy:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"from the startup" in read_until(idle, b"0\r\n\r\n")
        busy.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        assert made.line() == "called"
        made.popen.send_signal(signal.SIGTERM)
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            made.socket()
        busy.sendall(b"hi")
        answer = read_all(busy)
        assert b"connection: close\r\n" in answer.lower()
        assert b"from the startup" in answer
    assert made.popen.wait(TIMEOUT) == 0
    assert made.line() == "shutdown"


def test_step_6_closes_websockets_with_1012(step, own):
    made = step(6, "own:app", cwd=own(CHAPTERS))
    with connect(made.url.replace("http", "ws") + "/wait", subprotocols=["one"]) as websocket:
        assert made.line() == "open"
        made.popen.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            websocket.recv(10)
        assert websocket.close_code == 1012
    assert made.popen.wait(TIMEOUT) == 0


def test_step_6_cancels_what_does_not_end_in_its_time(step, own):
    made = step(6, "own:app", cwd=own(SINK))
    with made.socket() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert made.line() == "called"
        before = time.monotonic()
        assert made.stop()[0] == 0
        assert 9 < time.monotonic() - before < 15


def test_step_6_does_not_serve_what_has_not_started(step, own):
    folder = own(LIFESPAN)
    Path(folder, "fail").touch()
    made = step(6, "own:app", cwd=folder)
    assert made.url == ""
    assert made.popen.wait(TIMEOUT) == 1
    assert made.errors.read_text() == "The startup failed: no database\n"


def test_step_6_serves_who_has_no_lifespan(step):
    made = step(6, "examples.hello:app")
    assert httpx.get(made.url).status_code == 200
    code, errors = made.stop()
    assert code == 0
    assert "the application's lifespan ended with " in errors


# ---- the README that leads through them ----------------------------------------------------------------------


def test_the_readme_names_every_example_and_each_file_that_it_names_is_there():
    folder = ROOT / "examples"
    text = (folder / "README.md").read_text()
    there = {file.name for file in folder.glob("*.py")} | {f"from_scratch/{file.name}" for file in FILES}
    there |= {f"{each.name}/" for each in folder.iterdir() if each.is_dir() and each.name != "__pycache__"}
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    assert {name for name in named if not name.startswith("miniasgi/")} == there
    for name in named - there:
        assert (ROOT / name).is_file()
    steps = re.findall(r"^### \d\. `([\w/.]+)`$", text, re.MULTILINE)
    assert steps == [f"from_scratch/{file.name}" for file in FILES]
    assert text.count("*Exercise*:") == text.count("*Hint*:") == len(FILES)


def test_the_names_in_the_readme_are_in_the_steps():
    text = (ROOT / "examples" / "README.md").read_text()
    for number, section in enumerate(re.split(r"^### \d", text, flags=re.MULTILINE)[1:], 1):
        section = section.partition("\n## ")[0].partition("\nFrom here on")[0].partition("\n")[2]
        for dotted, file in re.findall(r"`(\w+\.\w+)` in\s+`([\w/.]+)`", section):
            assert_defined(ROOT / file, dotted)
            section = section.replace(f"`{dotted}`", "").replace(f"`{file}`", "")
        # The hints name what is in the next step.
        source = "".join(STEPS[each].read_text() for each in (number, number + 1) if each in STEPS)
        written = source.replace('(b"connection", b"close")', "connection: close")
        for name in re.findall(r"`([^`]+)`", section):
            assert all(word in written for word in name.split(".")), (number, name)
