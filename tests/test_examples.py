"""The examples, as a person runs them: with curl, httpx, websockets; the Channels rooms through a real Redis."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import ROOT

DJANGO = ROOT / "examples" / "django_channels"


def websocket_url(server, path):
    return server.url.replace("http", "ws") + path


def manage(environment, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    result = subprocess.run(
        command, cwd=DJANGO, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout


@pytest.fixture
def database(tmp_path):
    """Environment of a Django with a fresh database."""
    environment = {"DATABASE": str(tmp_path / "db.sqlite3"), "PYTHONWARNINGS": "default"}
    manage({**os.environ, **environment}, "migrate", "--verbosity", "0")
    return environment


@pytest.fixture
def redis(need, tmp_path):
    """The URL of a real Redis, on a unix socket of its own."""
    from redis import Redis
    from redis.exceptions import ConnectionError as NotYet

    path = tmp_path / "redis.sock"
    command = [need("redis-server", install="redis-server (Debian)"), "--port", "0", "--save", ""]
    popen = subprocess.Popen(
        [*command, "--unixsocket", str(path), "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    try:
        with Redis(unix_socket_path=str(path)) as client:
            for _ in range(500):
                try:
                    client.ping()
                    break
                except NotYet:
                    time.sleep(0.01)
            client.ping()
        yield f"unix://{path}"
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.wait(10)


def curl(need, *arguments):
    command = [
        need("curl", install="curl (Debian)"),
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_hello(process, need):
    server = process("examples/hello.py:app")
    assert curl(need, server.url) == "Hello from miniasgi\n"
    assert curl(need, "--http1.0", "--include", server.url).startswith("HTTP/1.1 200 OK\n".replace("\n", ""))
    assert curl(need, "--head", server.url).splitlines()[0] == "HTTP/1.1 200 OK"
    assert server.stop() == 0


def test_streaming_echoes_an_upload_as_it_comes(process, need, tmp_path):
    server = process("examples/streaming.py:app")
    file = tmp_path / "upload"
    file.write_text("line of text\n" * 100_000)
    # curl asks for 100-continue before a large upload.
    assert curl(need, "--upload-file", str(file), server.url + "/echo") == file.read_text()
    chunked = ("--header", "Transfer-Encoding: chunked")
    assert curl(need, "--upload-file", str(file), *chunked, server.url + "/echo") == file.read_text()
    assert server.stop() == 0


def test_streaming_sends_events_until_the_client_leaves(process):
    server = process("examples/streaming.py:app")
    with httpx.stream("GET", server.url + "/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        events = []
        for line in response.iter_lines():
            events.append(line)
            if len(events) == 5:
                break
    assert events == ["id: 0", "data: event number 0", "", "id: 1", "data: event number 1"]
    server.wait_for("GET /events HTTP/1.1", timeout=5)  # the access log's line comes at its end
    assert server.stop() == 0
    assert "Traceback" not in server.output


def test_streaming_tells_who_polls(process):
    server = process("examples/streaming.py:app")
    answers = []
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(server.url + "/poll", timeout=0.2)  # leaves before there is news

    poller = threading.Thread(target=lambda: answers.append(httpx.get(server.url + "/poll", timeout=20).text))
    poller.start()
    told = "told 0\n"
    while told == "told 0\n":  # until the poll has arrived
        told = httpx.post(server.url + "/tell", content=b"news").text
    poller.join()
    assert (told, answers) == ("told 1\n", ["news"])
    assert httpx.get(server.url + "/other").status_code == 404
    assert server.stop() == 0
    assert "Traceback" not in server.output


def test_chat(process, need):
    server = process("examples/chat.py:app")
    assert "<title>Chat</title>" in curl(need, server.url)
    assert "<title>Chat</title>" in httpx.get(server.url).text
    with connect(websocket_url(server, "/")) as one, connect(websocket_url(server, "/")) as two:
        one.send("hello")
        assert (one.recv(10), two.recv(10)) == ("hello", "hello")
        two.close()
        one.send("still here?")
        assert one.recv(10) == "still here?"
    assert server.stop() == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_django_channels(process, need, database, loop):
    server = process("project.asgi:application", "--loop", loop, cwd=DJANGO, env=database)
    assert (
        "INFO     The application has no lifespan: it raised ValueError" in server.output
    )  # Channels' router has no lifespan
    page = curl(need, "--location", server.url)
    assert "Room “lobby”" in page
    assert httpx.get(server.url + "/room/other/").status_code == 200
    assert httpx.get(server.url + "/nothing").status_code == 404
    assert httpx.post(server.url + "/room/other/", data={"a": "b" * 100_000}).status_code == 200
    with connect(websocket_url(server, "/ws/echo/")) as websocket:
        websocket.send("hello")
        assert json.loads(websocket.recv(10)) == {"message": "Received: hello"}
    with (
        connect(websocket_url(server, "/ws/room/a/")) as one,
        connect(websocket_url(server, "/ws/room/a/")) as two,
    ):
        one.send("hello")
        expected = {"who": "anonymous", "message": "hello"}
        assert [json.loads(each.recv(10)) for each in (one, two)] == [expected, expected]
    with pytest.raises(InvalidStatus) as refused:
        connect(websocket_url(server, "/ws/nothing/")).__enter__()
    assert refused.value.response.status_code == 403
    assert server.stop() == 0
    assert "Traceback" not in server.output


def test_django_channels_knows_who_is_logged_in(process, database):
    environment = {**os.environ, **database}
    program = (
        "from django.contrib.auth import BACKEND_SESSION_KEY as B, HASH_SESSION_KEY as H, SESSION_KEY as K\n"
        "from django.contrib.auth.models import User\n"
        "from django.contrib.sessions.backends.db import SessionStore\n"
        "user = User.objects.create_user('ada', password='x')\n"
        "session = SessionStore()\n"
        "session.update({K: str(user.pk), B: 'django.contrib.auth.backends.ModelBackend',\n"
        "                H: user.get_session_auth_hash()})\n"
        "session.save()\n"
        "print('session', session.session_key)\n"
    )
    key = re.search(r"session (\w+)", manage(environment, "shell", "--command", program))[1]
    server = process("project.asgi:application", cwd=DJANGO, env=database)
    cookie = {"Cookie": f"sessionid={key}"}
    with connect(websocket_url(server, "/ws/room/a/"), additional_headers=cookie) as websocket:
        websocket.send("hello")
        assert json.loads(websocket.recv(10)) == {"who": "ada", "message": "hello"}
    assert server.stop() == 0


def test_a_channels_room_reaches_across_two_processes_through_redis(process, database, redis):
    environment = {**database, "REDIS_URL": redis}
    servers = [process("project.asgi:application", cwd=DJANGO, env=environment) for _ in range(2)]
    with (
        connect(websocket_url(servers[0], "/ws/room/a/")) as one,
        connect(websocket_url(servers[1], "/ws/room/a/")) as two,
        connect(websocket_url(servers[1], "/ws/room/b/")) as other,
    ):
        for number in range(20):
            sender = (one, two)[number % 2]
            sender.send(f"message {number}")
            for each in (one, two):
                assert json.loads(each.recv(10)) == {"who": "anonymous", "message": f"message {number}"}
        # Idle for longer than channels_redis blocks in one read: nobody is dropped.
        with pytest.raises(TimeoutError):
            other.recv(6)
        one.send("still here?")
        assert json.loads(two.recv(10))["message"] == "still here?"
    for server in servers:
        assert server.stop() == 0
        assert "Traceback" not in server.output


def test_extensions(process, need):
    server = process("examples/extensions.py:app")

    def curl(path, *options):
        command = [need("curl", install="curl"), "-s", *options, server.url + path]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode()

    page = curl("/", "-i")
    assert page.startswith(
        "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\nHTTP/1.1 200"
    )
    assert "<h1>Extensions</h1>" in page
    source = (ROOT / "examples" / "extensions.py").read_text()
    assert curl("/source") == source
    assert curl("/part") == source[:20]
    body = "".join(f"line {number}\n" for number in range(5))
    with_trailers = curl("/sum", "-D-", "-HTE: trailers").replace("\r\n", "\n")
    assert f"\n\n{body}" in with_trailers
    assert f"x-sha256: {hashlib.sha256(body.encode()).hexdigest()}\n" in with_trailers
    assert "x-sha256" not in curl("/sum", "-D-")
    assert server.stop() == 0
    assert "ERROR" not in server.output
