"""What a developer reads who misuses ASGI: each misuse of `tests/misuses.py`, through the command line."""

import inspect
import re
import subprocess
import sys

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests import misuses
from tests.conftest import ROOT

ROWS = ("the message", "sent by", "the state", "can be sent", "the rule")
RULE = "https://asgi.readthedocs.io/en/latest/"

# What the first line says of each misuse of an HTTP response.
HTTP = {
    "body_before_start": "http.response.body was sent before http.response.start",
    "misspelt_type": "there is no message of type 'http.respones.start' to send; did you mean 'http.response.start'",
    "misspelt_key": "http.response.start has no 'status'; it has 'stauts'; did you mean 'status'?",
    "no_type": "a message has the key 'type', and this one has not; it has 'tpye'; did you mean 'type'?",
    "no_dict": "send() takes a dict with the key 'type', not 'http.response.start' (str)",
    "str_header": "'headers' of http.response.start has the str 'content-type' as a name, but takes bytes, such as b'content-type'",
    "dict_headers": "'headers' of http.response.start is a dict, but takes a list of pairs: [(b'name', b'value')]",
    "header_with_newline": r"has a line break in the value of b'location': b'/a\r\nset-cookie: b' (RFC 9110 section 5.5)",
    "header_with_space": "has the name b'content type', which is no token",
    "str_body": "'body' of http.response.body is the str 'hello', but takes bytes: 'hello'.encode()",
    "no_status": "http.response.start has no 'status'",
    "str_status": "'status' of http.response.start is '200' (str), but takes an int, such as 200",
    "status_of_101": "'status' of http.response.start is 101: an informational response is not for an application",
    "two_starts": "http.response.start was sent a second time",
    "more_than_promised": "the body has 11 bytes so far, more than its content-length of 5",
    "less_than_promised": "the body ends with 5 bytes, fewer than its content-length of 50; if more is to come, is 'more_body': True missing?",
    "websocket_message": "websocket.accept was sent, but scope['type'] is 'http' here, not 'websocket'",
}
WEBSOCKET = {
    "accept_twice": "websocket.accept was sent a second time",
    "send_before_accept": "websocket.send was sent before websocket.accept",
    "both_text_and_bytes": "websocket.send has both 'text' and 'bytes'; exactly one of them is not None",
    "neither_text_nor_bytes": "websocket.send has none of 'text' and 'bytes'; exactly one of them is not None; it has 'txt'",
    "bytes_as_text": "'text' of websocket.send is the bytes b'hello', but takes a str",
    "http_response": "http.response.start was sent, but scope['type'] is 'websocket' here, not 'http'",
    "subprotocol_not_offered": "websocket.accept chose the subprotocol 'chat', but the client offered []",
    "subprotocol_as_header": "websocket.accept names a subprotocol by 'subprotocol', not in 'headers'",
    "close_code_of_1006": "'code' of websocket.close is 1006, which no close frame may have; an application's own are 3000 to 4999 (RFC 6455 section 7.4)",
    "str_close_code": "'code' of websocket.close is '1000' (str), but takes an int, such as 1000",
}
# Misuses that raise nothing in the application: what the log says.
TOLD = {
    "start_after_the_end": "ignored a message of the application: http.response.start was sent after the response was complete; is a `return` missing behind the answer?",
    "misspelt_body_key": "http.response.body has the key 'bdoy', which means nothing; did you mean 'body'?",
    "misspelt_headers_key": "http.response.start has the key 'header', which means nothing; did you mean 'headers'?",
    "misspelt_more_body_key": "http.response.body has the key 'more', which means nothing; did you mean 'more_body'?",
    "body_by_another_name": "http.response.body has the key 'content', which means nothing; its keys are 'body' and 'more_body'",
    "returned_answer": "the application returned without an answer: it sent no http.response.start; it returned {'status': 200}, which nobody reads",
    "send_not_awaited": "send() was called without `await`, so that nothing was sent",
    "wrapped_send_not_awaited": "send_wrapper() was called without `await`, so that it did not run",
    "send_of_one_s_own_not_awaited": "send() was called without `await`, so that it did not run",
    "receive_not_awaited": "receive() was called without `await`, so that nothing was received",
    "no_answer": "the application returned without an answer: it sent no http.response.start",
    "half_an_answer": "in the middle of its answer: its last message said 'more_body': True",
}


@pytest.fixture(scope="module")
def server():
    """One server process for all of these tests."""
    from tests.conftest import ServerProcess

    process = ServerProcess("tests.misuses:app", env={"PYTHONWARNINGS": "default"})
    yield process
    assert process.stop() == 0
    process.end()


def get(server, name):
    """Ask for it; the status, or what went wrong."""
    try:
        return httpx.get(f"{server.url}/{name}").status_code
    except httpx.RemoteProtocolError as error:
        return str(error)


def text_of(server, name):
    """What the log tells of this request, from its line to the rule that was broken."""

    def told():
        record = (
            rf"^\S+ \S+ (?:ERROR|WARNING) .*/{name} from [^\n]*\n(?:(?!\d{{4}}-)[^\n]*\n)*?  the rule [^\n]*"
        )
        return re.search(record, "\n".join(server.lines), re.M)

    with server.changed:
        assert server.changed.wait_for(told, 30), server.lines
        return told()[0]


def check_rows(text, name):
    """Every row is there, and the line of the application is the one in its source."""
    for row in ROWS:
        assert re.search(rf"^  {row} {{1,11}}\S", text, re.M), (row, text)
    lines, first = inspect.getsourcelines(getattr(misuses, name))
    number = int(re.search(rf"^  sent by +tests/misuses.py, line (\d+), in {name}$", text, re.M)[1])
    assert "await send(" in lines[number - first]
    assert f"  the rule     {RULE}" in text
    # The traceback holds no frame but the application's.
    assert set(re.findall(r'^  File ".*/(\w+)\.py"', text, re.M)) <= {"misuses"}


@pytest.mark.parametrize("name", HTTP)
def test_a_misuse_of_http_is_told(server, name):
    assert get(server, name) == (200 if name == "more_than_promised" else 500)
    text = text_of(server, name)
    assert f"miniasgi.asgi.ASGIError: {HTTP[name]}" in text or HTTP[name] in text
    check_rows(text, name)


@pytest.mark.parametrize("name", WEBSOCKET)
def test_a_misuse_of_websocket_is_told(server, name):
    url = server.url.replace("http", "ws") + f"/{name}"
    with pytest.raises((InvalidStatus, ConnectionClosed)) as closed, connect(url) as client:
        client.recv(timeout=10)
    if isinstance(closed.value, InvalidStatus):
        assert closed.value.response.status_code == 500
    else:
        assert closed.value.rcvd.code == 1011
    text = text_of(server, name)
    assert f"miniasgi.asgi.ASGIError: {WEBSOCKET[name]}" in text
    check_rows(text, name)


@pytest.mark.parametrize("name", TOLD)
def test_a_misuse_that_raises_nothing_is_told(server, name):
    get(server, name)
    server.wait_for(f'/{name} HTTP/1.1"')
    line = server.wait_for(TOLD[name])
    assert "ERROR" in line or "WARNING" in line
    if name == "send_not_awaited":
        number = int(re.search(r"tests/misuses.py, line (\d+): ", line)[1])
        source = inspect.getsource(misuses).splitlines()[number - 1].strip()
        assert server.wait_for("  the line     ") == f"  the line     {source}"
        assert server.wait_for("  in its place ") == f"  in its place await {source}"
        assert "async def" not in server.output
    if name == "send_of_one_s_own_not_awaited":
        server.wait_for('  in its place await Mail().send("hello")')


def test_an_upper_case_header_is_served_as_it_is(server):
    answer = httpx.get(f"{server.url}/upper_case_header")
    assert answer.headers["content-type"] == "text/html"
    server.wait_for("/upper_case_header HTTP")
    assert "lower case" not in server.output


def test_with_debug_an_upper_case_header_is_told(process):
    server = process("tests.misuses:app", "--debug")
    for _ in range(2):
        assert httpx.get(f"{server.url}/upper_case_header").status_code == 200
    text = "http.response.start has b'Content-Type' among its headers: ASGI has their names in lower case"
    server.wait_for(text)
    server.wait_for(f"  the rule     {RULE}specs/www.html#response-start-send-event")
    assert re.search(r"^  sent by +tests/misuses.py, line \d+, in upper_case_header$", server.output, re.M)
    assert server.stop() == 0
    assert server.output.count(text) == 1


def test_with_debug_a_coroutine_that_was_kept_is_told_with_its_line(process):
    server = process("tests.misuses:app", "--debug")
    assert get(server, "receive_not_awaited") == 500
    line = server.wait_for("receive() was called without `await`, so that nothing was received")
    number = int(re.search(r"tests/misuses.py, line (\d+): ", line)[1])
    assert inspect.getsource(misuses).splitlines()[number - 1].strip() == "message = receive()"
    server.wait_for("  in its place message = await receive()")


def test_every_misuse_has_its_test():
    there = {
        name
        for name, each in vars(misuses).items()
        if inspect.iscoroutinefunction(each)
        and list(inspect.signature(each).parameters) == ["receive", "send"]
    }
    tested = HTTP.keys() | WEBSOCKET.keys() | TOLD.keys() | {"upper_case_header"}
    assert there - {"no_answer_to_the_handshake", "send_after_close"} == tested


def test_a_handshake_without_an_answer_is_told(server):
    with pytest.raises(InvalidStatus):
        connect(server.url.replace("http", "ws") + "/no_answer_to_the_handshake")
    server.wait_for(
        "the application returned without an answer: it sent neither websocket.accept nor websocket.close"
    )


def test_a_message_after_one_s_own_close_is_told(server):
    url = server.url.replace("http", "ws") + "/send_after_close"
    with connect(url) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd.code == 1000
    line = server.wait_for("websocket.send was sent after the application had closed the WebSocket")
    assert "WARNING" in line
    assert "WebSocket /send_after_close from 127.0.0.1:" in line
    check_rows(text_of(server, "send_after_close"), "send_after_close")


# ---- lifespan, and what is no application -----------------------------------------------------------------


def test_a_lifespan_that_completes_twice_is_told_at_once(process):
    server = process("tests.misuses:complete_twice")
    server.wait_for("The application's lifespan raised; it is served on, and will have no shutdown")
    server.wait_for(
        "miniasgi.asgi.ASGIError: lifespan.startup.complete was sent between startup and shutdown"
    )
    check_rows(server.output, "complete_twice")
    assert server.stop() == 0
    assert server.output.count("The application's lifespan raised") == 1


def test_a_shutdown_before_the_startup_is_told(process):
    server = process("tests.misuses:shutdown_before_startup", announced=False)
    assert server.wait() == 3
    line = server.wait_for("the application raised during startup: ")
    assert line.endswith("ASGIError: lifespan.shutdown.complete was sent during startup")
    check_rows(server.output, "shutdown_before_startup")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("asgi_2", "takes (scope), not (scope, receive, send): an application of ASGI 2, which is called twice; wrap it with asgiref.compatibility.guarantee_single_callable(app)"),
        ("AsgiTwo", "asgiref.compatibility.guarantee_single_callable(app)"),
        ("wsgi", "takes (environ, start_response), not (scope, receive, send): a WSGI application; wrap it with a2wsgi.WSGIMiddleware(app) or asgiref.wsgi.WsgiToAsgi(app)"),
        ("instance", "is a NotCallable, which cannot be called as an ASGI application; its class has no __call__(self, scope, receive, send)"),
        ("coroutine", "is a coroutine already: it was called where it was named; name the function itself, without the parentheses behind main"),
        ("not_async", "is declared with `def`, and returns nothing that could be awaited: say `async def`"),
        ("Site", "is a class, and its instances are the applications: name one, as in app = Site(...)"),
    ],
)  # fmt: skip
def test_what_is_no_application_is_told_in_one_line(name, told):
    command = [sys.executable, "-m", "miniasgi", "serve", f"tests.misuses:{name}", "--port", "0"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert re.fullmatch(rf"miniasgi: tests\.misuses:{name} .*{re.escape(told)}\n", ended.stderr)


def test_a_function_that_proves_not_to_be_async_is_told(process):
    server = process("tests.misuses:not_async_as_a_call_shows")
    assert httpx.get(server.url).status_code == 500
    line = server.wait_for("ASGI calls `await app(scope, receive, send)`, which failed: ")
    server.wait_for('  in its place await send({"type": "http.response.start", "status": 200})')
    server.wait_for(" " * 15 + "(in an `async def`; a `def` cannot await)")
    assert "Is the application declared with `def` in place of `async def`" in line
    assert "Traceback" not in server.output
