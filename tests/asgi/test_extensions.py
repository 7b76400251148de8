"""The extensions that the scope offers, over real sockets.

Files are asked of a bare server: the kernel copies them, which no server does that knows what was said.
"""

import asyncio
import io
import os

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from miniasgi import Config, Server
from miniasgi.asgi import ASGIError
from miniasgi.testing import serve
from tests.applications import respond
from tests.memory import MemoryClient

from .dialogue import ACCEPT, BODY, CLOSE, START, ask, handshake, parse, raised_by, request

TE = request(b"GET", b"/", b"TE: trailers")


# ---- denial of a WebSocket ----

DENIAL = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"1"), (b"x-a", b"2")]}
DENIAL_BODY = {"type": "websocket.http.response.body", "body": b"who ", "more_body": True}


async def test_a_websocket_is_denied_with_the_response_of_the_application():
    """Start and body have the keys of an HTTP response, and its defaults."""

    async def app(scope, receive, send):
        assert scope["extensions"]["websocket.http.response"] == {}
        assert await receive() == {"type": "websocket.connect"}
        if scope["path"] == "/bare":
            await send({"type": "websocket.http.response.start", "status": 404})
            await send({"type": "websocket.http.response.body"})
        else:
            await send(DENIAL)
            await send(DENIAL_BODY)
            await send({"type": "websocket.http.response.body", "body": b"are you"})

    async with serve(app, lifespan="off") as server:
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.ws_url)
        with pytest.raises(InvalidStatus) as bare:
            await connect(server.ws_url + "/bare")
    response = denied.value.response
    assert (response.status_code, response.body) == (401, b"who are you")
    assert response.headers.get_all("x-a") == ["1", "2"]
    assert (bare.value.response.status_code, bare.value.response.body or b"") == (404, b"")


async def test_a_denial_closes_the_connection():
    async def app(scope, receive, send):
        await receive()
        await send(DENIAL)
        await send({"type": "websocket.http.response.body"})

    async with serve(app, lifespan="off", timeout_keep_alive=60.0) as server:
        client = server.raw()
        await client.send(handshake())
        answer = await client.receive_all()
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_denial_is_not_followed_by_messages_of_a_websocket():
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send(DENIAL)
        for message in (ACCEPT, CLOSE, {"type": "websocket.send", "text": "x"}):
            errors.append(await raised_by(send(message)))
        await send({"type": "websocket.http.response.body"})

    async with serve(app, lifespan="off") as server:
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.ws_url)
    assert [type(error) for error in errors] == [ASGIError] * 3
    assert denied.value.response.status_code == 401


# ---- what is not offered ----


async def test_server_push_is_offered_to_nobody_and_refused():
    """It is of HTTP/2, which is not spoken."""
    told = []

    async def app(scope, receive, send):
        told.append("http.response.push" in scope["extensions"])
        await send(START)
        told.append(await raised_by(send({"type": "http.response.push", "path": "/", "headers": []})))
        await send(BODY)

    assert parse(await ask(app)).body == b"whole"
    assert told[0] is False
    assert type(told[1]) is ASGIError


async def test_debug_is_not_offered_by_a_server_that_serves(ask_bare_server):
    told = []

    async def app(scope, receive, send):
        told.append("http.response.debug" in scope["extensions"])
        told.append(await raised_by(send({"type": "http.response.debug", "info": {}})))
        await respond(send)

    assert parse(await ask_bare_server(app)).status == 200
    assert told[0] is False
    assert type(told[1]) is ASGIError


async def test_debug_is_offered_where_a_program_asks_for_it(raw):
    """It is given to a function, with the scope that it belongs to; nothing of it reaches the client."""
    scopes, told = [], []

    async def app(scope, receive, send):
        assert scope["extensions"]["http.response.debug"] == {}
        scopes.append(scope)
        await send({"type": "http.response.debug", "info": {"template": "secret"}})
        await respond(send)

    config = Config(port=0, access_log=False, lifespan="off")
    async with Server(app, config, on_debug=lambda scope, info: told.append((scope, info))) as server:
        reader, writer = await raw(server)
        writer.write(request())
        answer = await reader.read()
    assert parse(answer).status == 200
    assert b"secret" not in answer
    [(scope, info)] = told
    assert scope is scopes[0]
    assert info == {"template": "secret"}


# ---- files ----


@pytest.fixture
def file(tmp_path):
    """A file of a million bytes that are not all the same."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 4000)
    return path


def zero_copy(file, **keys):
    return {"type": "http.response.zerocopysend", "file": file, **keys}


def path_send(path, **keys):
    return {"type": "http.response.pathsend", "path": str(path), **keys}


def sending(*messages, start=START):
    """An application that answers with these; what send() raised is in its `errors`."""

    async def app(scope, receive, send):
        await send(start)
        for message in messages:
            app.errors.append(await raised_by(send(message)))

    app.errors = []
    return app


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("framed", [True, False], ids=["content-length", "no length"])
async def test_zero_copy_sends_a_file_from_its_position_to_its_end(ask_bare_server, file, framed, version):
    with file.open("rb") as opened:
        opened.seek(1000)
        headers = [(b"content-length", b"999000")] if framed else []
        app = sending(zero_copy(opened), start={**START, "headers": headers})
        answer = parse(await ask_bare_server(app, request(version=version)))
    assert app.errors == [None]
    assert answer.body == file.read_bytes()[1000:]


async def test_zero_copy_sends_from_an_offset_and_so_many_bytes(ask_bare_server, file):
    whole = file.read_bytes()
    for keys, sent in (
        ({"offset": 7}, whole[7:]),
        ({"count": 5}, whole[:5]),
        ({"offset": 100_001, "count": 300_000}, whole[100_001:400_001]),
        ({"offset": 999_990, "count": 10}, whole[999_990:]),
    ):
        with file.open("rb") as opened:
            app = sending(zero_copy(opened, **keys))
            assert parse(await ask_bare_server(app)).body == sent
        assert app.errors == [None]


async def test_zero_copy_is_mixed_with_body_messages_and_comes_more_than_once(ask_bare_server, file):
    whole = file.read_bytes()
    with file.open("rb") as opened:
        app = sending(
            {**BODY, "body": b"<", "more_body": True},
            zero_copy(opened, offset=10, count=3, more_body=True),
            {**BODY, "body": b"|", "more_body": True},
            zero_copy(opened, offset=0, count=200_000, more_body=True),
            zero_copy(opened, offset=5, count=2, more_body=True),
            {**BODY, "body": b">"},
        )
        answer = parse(await ask_bare_server(app))
    assert app.errors == [None] * 6
    assert answer.body == b"<" + whole[10:13] + b"|" + whole[:200_000] + whole[5:7] + b">"


async def test_zero_copy_without_more_body_completes_the_response(ask_bare_server, file):
    """What comes after it is ignored."""
    with file.open("rb") as opened:
        app = sending(zero_copy(opened, count=3), BODY, zero_copy(opened, count=3))
        answer = parse(await ask_bare_server(app))
    assert app.errors == [None] * 3
    assert answer.body == file.read_bytes()[:3]


async def test_zero_copy_leaves_the_file_open(bare_server, raw, file):
    with file.open("rb") as opened:
        app = sending(zero_copy(opened))
        async with bare_server(app, lifespan="off") as server:
            reader, writer = await raw(server)
            writer.write(request())
            await reader.read()
        assert not opened.closed
        os.fstat(opened.fileno())  # raises where it is closed


async def test_zero_copy_and_path_send_have_no_body_where_http_has_none(ask_bare_server, file):
    with file.open("rb") as opened:
        for message in (zero_copy(opened), path_send(file)):
            start = {**START, "headers": [(b"content-length", b"1000000")]}
            app = sending(message, start=start)
            answer = parse(await ask_bare_server(app, request(b"HEAD")), "HEAD")
            assert app.errors == [None]
            assert answer.all(b"content-length") == [b"1000000"]
            assert answer.body == b""


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"file": None},
        {"file": io.BytesIO(b"x")},
        {"file": "name"},
        {"offset": "1"},
        {"count": "1"},
        {"offset": 1.0},
        {"more_body": "no"},
    ],
    ids=lambda keys: " ".join(f"{key}={type(value).__name__}" for key, value in keys.items()) or "no file",
)
async def test_a_wrong_zero_copy_is_an_error(ask_bare_server, file, wrong):
    with file.open("rb") as opened:
        keys = wrong if not wrong or "file" in wrong else {"file": opened, **wrong}
        app = sending({"type": "http.response.zerocopysend", **keys}, BODY)
        answer = parse(await ask_bare_server(app))
    assert [type(error) for error in app.errors] == [ASGIError, type(None)]
    assert answer.body == b"whole"


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("framed", [True, False], ids=["content-length", "no length"])
async def test_path_send_sends_the_whole_file_and_completes_the_response(
    ask_bare_server, file, framed, version
):
    """What comes after it is ignored."""
    headers = [(b"content-length", b"1000000"), (b"content-type", b"x/y")] if framed else []
    app = sending(path_send(file), BODY, start={**START, "headers": headers})
    answer = parse(await ask_bare_server(app, request(version=version)))
    assert app.errors == [None, None]
    assert answer.body == file.read_bytes()
    assert [line for line in answer.headers if line in headers] == headers


async def test_path_send_adds_no_headers_about_the_file(ask_bare_server, file):
    answer = parse(await ask_bare_server(sending(path_send(file))))
    assert {name for name, _ in answer.headers} <= {b"date", b"server", b"connection", b"transfer-encoding"}
    assert answer.body == file.read_bytes()


async def test_path_send_takes_a_relative_path_too(ask_bare_server, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    app = sending(path_send(file.name))
    assert parse(await ask_bare_server(app)).body == file.read_bytes()
    assert app.errors == [None]


async def test_path_send_is_not_mixed_with_body_messages(ask_bare_server, file):
    app = sending({**BODY, "more_body": True}, path_send(file), BODY)
    answer = parse(await ask_bare_server(app))
    assert [type(error) for error in app.errors] == [type(None), ASGIError, type(None)]
    assert answer.body == b"wholewhole"


async def test_path_send_comes_once(ask_bare_server, file):
    """Trailers keep the response open behind it, so that there is something to break."""
    start = {**START, "trailers": True}
    app = sending(
        path_send(file), path_send(file), {"type": "http.response.trailers", "headers": []}, start=start
    )
    answer = parse(await ask_bare_server(app, TE))
    assert [type(error) for error in app.errors] == [type(None), ASGIError, type(None)]
    assert answer.body == file.read_bytes()


@pytest.mark.parametrize("wrong", [{}, {"path": None}, {"path": b"/etc"}, {"path": 3}], ids=repr)
async def test_a_wrong_path_send_is_an_error(ask_bare_server, wrong):
    app = sending({"type": "http.response.pathsend", **wrong}, BODY)
    answer = parse(await ask_bare_server(app))
    assert [type(error) for error in app.errors] == [ASGIError, type(None)]
    assert answer.body == b"whole"


async def test_a_file_is_sent_to_a_client_that_reads_slowly(bare_server, raw, tmp_path):
    """More than the buffers of any socket hold."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 80_000)
    app = sending(path_send(path))
    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(request())
        got = bytearray()
        while piece := await reader.read(100_000):
            got += piece
        assert parse(bytes(got)).body == path.read_bytes()
    assert app.errors == [None]


# ---- early hints ----


def hint(*links):
    return {"type": "http.response.early_hint", "links": links}


async def test_an_early_hint_is_a_103_with_a_link_header_for_each_link():
    app = sending(hint(b"</a.css>; rel=preload", b"</b.js>; rel=preload"), BODY)
    answer = parse(await ask(app))
    assert app.errors == [None, None]
    [(status, headers)] = answer.hints
    assert status == 103
    links = [value for name, value in headers if name == b"link"]
    assert links == [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
    assert (answer.status, answer.body) == (200, b"whole")


async def test_early_hints_come_more_than_once_before_and_after_the_start():
    async def app(scope, receive, send):
        await send(hint(b"</1>"))
        await send(START)
        await send(hint(b"</2>"))
        await send(hint(b"</3>"))
        await send(BODY)

    answer = parse(await ask(app))
    links = [[value for name, value in headers if name == b"link"] for _, headers in answer.hints]
    assert links == [[b"</1>"], [b"</2>"], [b"</3>"]]
    assert answer.body == b"whole"


async def test_an_early_hint_leaves_at_once():
    """That is all its use: before the answer is there."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(hint(b"</1>"))
        await go_on.wait()
        await send(BODY)

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request())
        told = await client.receive_until(b"\r\n\r\n")
        go_on.set()
        assert told.startswith(b"HTTP/1.1 103 ")
        assert parse(await client.receive_all()).body == b"whole"


async def test_an_early_hint_behind_the_head_is_ignored():
    app = sending({**BODY, "more_body": True}, hint(b"</late>"), BODY)
    answer = await ask(app)
    assert app.errors == [None] * 3
    assert b"late" not in answer
    assert parse(answer).body == b"wholewhole"


@pytest.mark.parametrize(
    "wrong",
    [{}, {"links": None}, {"links": 5}, {"links": ["</a>"]}, {"links": [5]}, {"links": [b"a\r\nb: c"]}],
    ids=repr,
)
async def test_a_wrong_early_hint_is_an_error(wrong):
    app = sending({"type": "http.response.early_hint", **wrong}, BODY)
    answer = parse(await ask(app))
    assert [type(error) for error in app.errors] == [ASGIError, type(None)]
    assert (answer.hints, answer.body) == ([], b"whole")


# ---- trailers ----

WITH_TRAILERS = {**START, "headers": [(b"trailer", b"x-digest, x-more")], "trailers": True}


def trailers(*headers, **keys):
    return {"type": "http.response.trailers", "headers": headers, **keys}


async def test_trailers_are_sent_to_a_client_that_takes_them():
    app = sending(BODY, trailers((b"x-digest", b"abc"), (b"x-more", b"1")), start=WITH_TRAILERS)
    answer = parse(await ask(app, TE))
    assert app.errors == [None, None]
    assert (answer.body, answer.trailers) == (b"whole", [(b"x-digest", b"abc"), (b"x-more", b"1")])
    assert answer.all(b"trailer") == [b"x-digest, x-more"]


async def test_trailers_come_in_more_than_one_message():
    app = sending(
        BODY,
        trailers((b"x-digest", b"abc"), more_trailers=True),
        trailers(more_trailers=True),
        trailers((b"x-more", b"1")),
        start=WITH_TRAILERS,
    )
    answer = parse(await ask(app, TE))
    assert app.errors == [None] * 4
    assert answer.trailers == [(b"x-digest", b"abc"), (b"x-more", b"1")]


async def test_trailers_are_taken_for_any_header():
    """That the Trailer header names them is the application's to see to."""
    app = sending(BODY, trailers((b"x-other", b"1")), start={**START, "trailers": True})
    answer = parse(await ask(app, TE))
    assert answer.all(b"trailer") == []
    assert answer.trailers == [(b"x-other", b"1")]


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(b"GET", b"/", b"TE: deflate"),
        request(b"GET", b"/", b"TE: trailers", version=b"1.0"),
    ],
    ids=["no TE", "other TE", "1.0"],
)
async def test_trailers_are_not_sent_to_a_client_that_did_not_ask(asked):
    """Their messages are taken all the same, so that an application need not know."""
    app = sending(BODY, trailers((b"x-digest", b"abc")), start=WITH_TRAILERS)
    answer = await ask(app, asked)
    assert app.errors == [None, None]
    assert parse(answer).body == b"whole"
    assert b"abc" not in answer


async def test_a_response_with_trailers_is_complete_only_after_them():
    app = sending(BODY, trailers((b"x-digest", b"abc"), more_trailers=True), trailers(), start=WITH_TRAILERS)
    steps, go_on = [], asyncio.Semaphore(0)

    async def stepping(scope, receive, send):
        async def send_a_step(message):
            await go_on.acquire()
            await send(message)

        await app(scope, receive, send_a_step)

    client = MemoryClient(stepping)
    await client.send(request(b"GET", b"/", b"TE: trailers", last=False))
    for _ in range(4):
        go_on.release()
        await client.turns()
        steps.append(b"\r\n0\r\n" in client.written)
    assert steps == [False, False, False, True]
    assert app.errors == [None] * 3
    assert not client.transport.closing


async def test_a_message_in_place_of_the_trailers_is_an_error():
    app = sending(BODY, BODY, START, trailers(), start=WITH_TRAILERS)
    answer = parse(await ask(app, TE))
    assert [type(error) for error in app.errors] == [type(None), ASGIError, ASGIError, type(None)]
    assert answer.body == b"whole"


async def test_messages_after_the_trailers_are_ignored():
    app = sending(
        BODY, trailers((b"x-digest", b"abc")), trailers((b"x-late", b"1")), BODY, start=WITH_TRAILERS
    )
    answer = parse(await ask(app, TE))
    assert app.errors == [None] * 4
    assert (answer.body, answer.trailers) == (b"whole", [(b"x-digest", b"abc")])


@pytest.mark.parametrize(
    "wrong",
    [{"headers": 5}, {"headers": [("a", "b")]}, {"headers": [(b"a", b"b\r\nc")]}, {"more_trailers": "no"}],
    ids=repr,
)
async def test_wrong_trailers_are_an_error(wrong):
    app = sending(BODY, {**trailers(), **wrong}, trailers(), start=WITH_TRAILERS)
    answer = parse(await ask(app, TE))
    assert [type(error) for error in app.errors] == [type(None), ASGIError, type(None)]
    assert (answer.body, answer.trailers) == (b"whole", [])
