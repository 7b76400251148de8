"""`miniasgi show`: a recorded trace told again; the commands and the tests that it makes are run."""

import os
import re
import shlex
import subprocess
import sys

import httpx
import pytest
from websockets.sync.client import connect

from miniasgi.observe.lanes import Lanes
from miniasgi.show import FORMATS, NoSuchExchange, read_trace, show
from miniasgi.testing import serve
from tests.conftest import ROOT

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send({"type": "websocket.send", "text": message["text"].upper()})
        return
    assert scope["type"] == "http"
    if scope["path"] == "/fail":
        raise LookupError("as asked")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-method", scope["method"].encode())]})
    if scope["path"] == "/events":
        while True:
            await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
            await asyncio.sleep(0)
    headers = dict(scope["headers"])
    await send({"type": "http.response.body", "body": headers.get(b"x-kind", b"") + b"|" + body})
"""
BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(folder, trace file): a GET, POSTs with text and binary, a HEAD, a WebSocket, a failure, a client that leaves."""
    folder = tmp_path_factory.mktemp("show")
    (folder / "shown_app.py").write_text(APP)
    path = folder / "trace.jsonl"
    command = [
        sys.executable,
        "-m",
        "miniasgi",
        "serve",
        "shown_app:app",
        "--port",
        "0",
        "--trace-file",
        str(path),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    )
    try:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        with httpx.Client(base_url=url) as client:
            assert client.get("/hello?a=b&c='d'").text == "|"
            client.post("/text", content="héllo\n'there'", headers={"x-kind": "a 'kind'"})
            client.post("/binary", content=BINARY)
            client.head("/head")
            client.put("/chunked", content=iter([b"one", b"two"]))
            assert client.get("/fail").status_code == 500
            with client.stream("GET", "/events") as response:
                next(response.iter_lines())
            client.get("/secret", headers={"cookie": "a=b"})
        with connect(url.replace("http", "ws") + "/chat") as websocket:
            websocket.send("hi")
            assert websocket.recv() == "HI"
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()
    return folder, path


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def told(path, form, number=None):
    with open(path, encoding="utf-8") as lines:
        return list(show(read_trace(lines), form, number, Lanes()))


def test_text_is_what_the_terminal_showed(recorded):
    lines = told(recorded[1], "text")
    assert lines[0].split() == ["ms", "exchange"]
    assert any("┊▶┊┊ h11    Request GET /hello?a=b&c='d'" in line for line in lines)
    assert any("┊◀┊┊ ws     TextMessage 2 characters: HI" in line for line in lines)


def test_one_exchange_is_shown_alone(recorded):
    lines = told(recorded[1], "text", 2)
    assert all(" #2 " in line for line in lines[1:])
    with pytest.raises(NoSuchExchange, match="there is no exchange 99 in this trace; it has 1, 2, 3"):
        told(recorded[1], "text", 99)


def test_the_commands_of_curl_ask_the_same_again(recorded, need):
    need("curl", install="curl")
    with serve(f"{recorded[0]}/shown_app.py:app", errors="ignore") as server:
        for number, path in (
            (1, "/hello?a=b&c='d'"),
            (2, "/text"),
            (3, "/binary"),
            (4, "/head"),
            (5, "/chunked"),
        ):
            command = told(recorded[1], "curl", number)[-1]
            command = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{server.port}", command)
            done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=30)
            exchange = server.exchanges[-1]
            target = exchange.scope["path"] + ("?" + exchange.scope["query_string"].decode()).rstrip("?")
            assert target.replace("%27", "'") == path
            assert done.stdout.startswith(b"HTTP/1.1 200")
        assert server.exchanges[1].body == b"a 'kind'|" + "héllo\n'there'".encode()
        assert server.exchanges[2].body == b"|" + BINARY
        assert [each.scope["method"] for each in server.exchanges] == ["GET", "POST", "POST", "HEAD", "PUT"]


def test_curl_says_what_it_cannot_ask(recorded):
    lines = told(recorded[1], "curl")
    assert "# a WebSocket, which the client of the package websockets speaks:" in lines
    assert any(line.startswith("python -m websockets ws://127.0.0.1:") for line in lines)
    assert any(line.startswith("# (masked) stands for what was not recorded") for line in lines)
    assert "a=b'" not in "".join(shlex.split(line)[-1] for line in told(recorded[1], "curl", 8)[-1:])


def test_the_tests_that_it_makes_pass(recorded):
    folder, path = recorded
    (folder / "test_shown.py").write_text("\n".join(told(path, "pytest")) + "\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
    source = (folder / "test_shown.py").read_text()
    assert "client.reset()  # the client left" in source
    (folder / "shown_app.py").write_text(APP.replace('b"|"', 'b"!"'))
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment()
        )
    finally:
        (folder / "shown_app.py").write_text(APP)
    assert done.returncode == 1  # so it can fail
    assert "assert b'!" in done.stdout


def test_a_diagram_has_an_arrow_for_each_record_that_goes_somewhere(recorded):
    lines = told(recorded[1], "mermaid", 1)
    assert lines[0] == "sequenceDiagram"
    arrows = [line for line in lines if re.match(r"    \w+->>\w+: \S", line)]
    assert len(arrows) >= 10
    assert any("transport->>protocol: Request GET /hello?a=b#amp;c='d'" in line for line in arrows)
    assert all(";" not in re.sub(r"#\w+;", "", line) for line in lines)


def test_a_page_has_all_within_it(recorded):
    [page] = told(recorded[1], "html")
    assert '<script type="application/jsonl" id="records">' in page
    assert 'href="page.css"' not in page
    assert 'src="page.js"' not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def shown(*arguments, **options):
    command = [sys.executable, "-m", "miniasgi", "show", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_shows_each_format(recorded, form):
    done = shown(recorded[1], "--format", form, "--exchange", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "/hello" in done.stdout


def test_the_command_reads_what_is_piped_in(recorded):
    done = shown("-", "--lanes", "asgi", input=recorded[1].read_text())
    assert done.returncode == 0
    assert "asgi" in done.stdout
    assert "h11" not in done.stdout


def test_a_file_that_was_cut_off_is_shown_up_to_there(recorded, tmp_path):
    (tmp_path / "cut.jsonl").write_text(recorded[1].read_text()[:2000].rstrip("\n"))
    assert shown(tmp_path / "cut.jsonl").returncode == 0


@pytest.mark.parametrize(
    ("content", "arguments", "text"),
    [
        (None, (), "cannot be read: No such file or directory"),
        ("", (), "line 1 is no JSON"),
        ("{}\n", (), "line 1 is not that of a trace"),
        ('{"trace":1}\nnonsense\n', (), "line 2 is no JSON"),
        ('{"trace":1}\n', ("--exchange", "3"), "there is no exchange 3 in this trace; it has none"),
        ('{"trace":1}\n', ("--lanes", "sea"), "--lanes is all, or some of bytes,events,asgi,app, not 'sea'"),
        ('{"trace":1}\n', ("--format", "png"), "invalid choice: 'png'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, content, arguments, text):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_text(content)
    done = shown(path, *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
