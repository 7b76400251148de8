"""The main specification: how an application is called, what a message is, and what an error does."""

import asyncio

import h11
import httpx
import pytest
from asgiref.compatibility import guarantee_single_callable
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from miniasgi.asgi import ASGIError
from miniasgi.loading import LoadError, load_app
from miniasgi.testing import serve
from tests.applications import hello, read_body, respond
from tests.memory import MemoryClient

from .dialogue import (
    ACCEPT,
    BODY,
    CLOSE,
    START,
    all_ended,
    ask,
    handshake,
    parse,
    raised_by,
    receive_all,
    request,
)

# ---- how an application is called ----


async def test_the_application_is_called_once_for_each_request_and_each_websocket():
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send)
        else:
            await receive()
            await send(ACCEPT)
            await receive_all(receive, "websocket.disconnect")

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request(target=b"/1", last=False) + request(target=b"/2"))
        await client.receive_all()
        async with connect(server.ws_url + "/3") as client:
            await client.send("one")
            await client.send("two")
        await all_ended(server)
    called = [(each.scope["type"], each.scope["path"]) for each in server.exchanges]
    assert called == [("http", "/1"), ("http", "/2"), ("websocket", "/3")]


async def test_the_application_is_called_with_scope_receive_and_send_by_position(bare_server):
    called = []

    async def app(*arguments, **named):
        scope, receive, send = arguments
        called.append((type(scope), named))
        if scope["type"] == "http":
            await respond(send)
        else:
            await receive()
            await send(CLOSE if scope["type"] == "websocket" else {"type": "lifespan.startup.complete"})

    async with bare_server(app) as server:
        async with httpx.AsyncClient() as client:
            await client.get(server.url)
        with pytest.raises(InvalidStatus):
            await connect(server.url.replace("http", "ws"))
    assert called == [(dict, {})] * 3


async def test_receive_waits_until_there_is_an_event():
    received = []

    async def app(scope, receive, send):
        while not received or received[-1]["more_body"]:
            received.append(await receive())
        await respond(send)

    client = MemoryClient(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    assert received == []
    await client.send(b"a")
    assert len(received) == 1
    await client.send(b"b")
    assert [event["body"] for event in received] == [b"a", b"b"]


async def test_send_returns_once_the_client_takes_more_or_has_left():
    """Left in the middle of a send(), it may also be told at once."""
    ended = []

    async def app(scope, receive, send):
        await send(START)
        client.connection.pause_writing()
        ended.append(await raised_by(send({**BODY, "more_body": True})))

    for end in ("resume_writing", "connection_lost"):
        client = MemoryClient(app)
        await client.send(request())
        assert ended == []
        client.connection.resume_writing() if end == "resume_writing" else client.transport.lose()
        await client.turns()
        [error] = ended
        assert error is None or (isinstance(error, OSError) and end == "connection_lost")
        ended.clear()


# ---- legacy applications ----


class Legacy:
    """An application of ASGI 2.0: called with the scope, then awaited with receive and send."""

    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await respond(send, b"legacy")


legacy = Legacy


def test_a_legacy_application_is_refused_with_the_reason():
    with pytest.raises(LoadError, match=r"ASGI 2.*guarantee_single_callable"):
        load_app("tests.asgi.test_main:legacy")


async def test_a_legacy_application_is_served_once_asgiref_has_converted_it():
    answer = parse(await ask(guarantee_single_callable(Legacy)))
    assert (answer.status, answer.body) == (200, b"legacy")


# ---- events ----


async def every_event():
    """(type of the scope, event) of everything that applications receive, at least once each."""
    events = []

    async def app(scope, receive, send):
        async def noted():
            event = await receive()
            events.append((scope["type"], event))
            return event

        if scope["type"] == "http":
            await read_body(noted)
            await respond(send)
            await noted()
        elif scope["type"] == "websocket":
            await noted()
            await send(ACCEPT)
            await receive_all(noted, "websocket.disconnect")
        else:
            await noted()
            await send({"type": "lifespan.startup.complete"})
            await noted()
            await send({"type": "lifespan.shutdown.complete"})

    async with serve(app) as server:
        async with httpx.AsyncClient() as client:
            await client.post(server.url, content=b"body")
        async with connect(server.ws_url) as client:
            await client.send("text")
            await client.send(b"bytes")
            await client.close(4000, "why")
        client = server.raw()
        await client.send(handshake())
        await client.response()
        client.reset()
        await all_ended(server)
    return events


EVENTS = {
    "http.request": {"type": str, "body": bytes, "more_body": bool},
    "http.disconnect": {"type": str},
    "websocket.connect": {"type": str},
    "websocket.receive": {"type": str, "text": str, "bytes": bytes},
    "websocket.disconnect": {"type": str, "code": int, "reason": str},
    "lifespan.startup": {"type": str},
    "lifespan.shutdown": {"type": str},
}


async def test_every_event_is_a_dict_of_the_types_that_can_be_serialised():
    events = await every_event()
    assert {event["type"] for _, event in events} == set(EVENTS)
    for _, event in events:
        assert type(event) is dict
        for key, value in event.items():
            assert type(key) is str
            assert value is None or type(value) is EVENTS[event["type"]][key]


async def test_every_event_has_the_keys_of_the_specification():
    for _, event in await every_event():
        absent = EVENTS[event["type"]].keys() - event.keys()
        if event["type"] == "websocket.receive":  # one of the two may be missing
            assert len(absent) <= 1
        else:
            assert absent == set()


async def test_every_event_is_named_after_its_protocol():
    for protocol, event in await every_event():
        assert event["type"].startswith(f"{protocol}.")


# ---- wrong messages ----

WRONG_HEADERS = [
    None,
    5,
    "ab",
    b"ab",
    [b"ab"],
    ["ab"],
    [5],
    {b"a": b"b"},
    {b"ab": b"cd"},
    [(b"a",)],
    [(b"a", b"b", b"c")],
    [("a", "b")],
    [("a", b"b")],
    [(b"a", "b")],
    [(b"a", 1)],
    [(b"a", None)],
    [(b"bad name", b"b")],
    [(b"a", b"new\r\nline")],
]
WRONG_TYPES = [None, {}, "http.response.start", {"typ": "x"}, {"type": None}, {"type": 5}, {"type": []}]

WRONG_BEFORE_START = [
    *WRONG_TYPES,
    {"type": b"http.response.start", "status": 200},
    {"type": "http.response.strat", "status": 200},
    {"type": "http.response.push", "path": "/", "headers": []},
    ACCEPT,
    BODY,
    {"type": "http.response.start"},
    *({**START, "status": status} for status in ("200", b"200", 200.0, None, [200], 99, 100, 1000)),
    *({**START, "headers": headers} for headers in WRONG_HEADERS),
    *({**START, "trailers": trailers} for trailers in ("yes", 1, None)),
]
WRONG_AFTER_START = [
    *WRONG_TYPES,
    START,
    {"type": "http.response.bdoy"},
    {"type": "websocket.send", "text": "x"},
    *({**BODY, "body": body} for body in ("text", None, 5, [b"x"], {})),
    *({**BODY, "more_body": more_body} for more_body in ("no", "", 1, 0, None)),
]
WRONG_BEFORE_ACCEPT = [
    *WRONG_TYPES,
    START,
    {"type": "websocket.accpet"},
    {"type": "websocket.send", "text": "x"},
    {"type": "websocket.http.response.body"},
    {"type": "websocket.http.response.start"},
    {"type": "websocket.http.response.start", "status": "403"},
    *({"type": "websocket.http.response.start", "status": 403, "headers": each} for each in WRONG_HEADERS),
    *({**ACCEPT, "headers": headers} for headers in WRONG_HEADERS),
    *({**ACCEPT, "subprotocol": subprotocol} for subprotocol in (b"a", 5, ["a"], "not offered")),
]
WRONG_AFTER_ACCEPT = [
    *WRONG_TYPES,
    ACCEPT,
    {"type": "websocket.sned", "text": "x"},
    {"type": "websocket.http.response.start", "status": 403},
    {"type": "websocket.send"},
    {"type": "websocket.send", "text": None, "bytes": None},
    {"type": "websocket.send", "text": "x", "bytes": b"x"},
    {"type": "websocket.send", "text": "", "bytes": b""},
    *({"type": "websocket.send", "text": text} for text in (b"x", 5, ["x"])),
    *({"type": "websocket.send", "bytes": data} for data in ("x", 5, [b"x"])),
    *({**CLOSE, "code": code} for code in ("1000", 1000.0, None, [1000], 0, 999, 1005, 1006, 5000)),
    *({**CLOSE, "reason": reason} for reason in (5, b"why", ["why"])),
]
WRONG_DENIALS = [
    {"type": "websocket.http.response.start", "status": 403},
    ACCEPT,
    CLOSE,
    {"type": "websocket.send", "text": "x"},
    {"type": "websocket.http.response.body", "body": "text"},
    {"type": "websocket.http.response.body", "more_body": "no"},
]
COMPLETE = {"type": "lifespan.startup.complete"}
WRONG_STARTUPS = [
    *WRONG_TYPES,
    START,
    {"type": "lifespan.startup.compleet"},
    {"type": "lifespan.shutdown.complete"},
    *({"type": "lifespan.startup.failed", "message": message} for message in (5, b"why")),
]


@pytest.mark.parametrize("wrong", WRONG_BEFORE_START, ids=repr)
async def test_a_wrong_message_before_the_start_is_raised_from_send_and_nothing_of_it_leaves(wrong):
    errors = []

    async def app(scope, receive, send):
        errors.append(await raised_by(send(wrong)))
        await send(START)
        await send(BODY)

    client = MemoryClient(app)
    await client.send(request())
    assert [type(error) for error in errors] == [ASGIError]
    answer = parse(client.written)
    assert (answer.status, answer.body) == (200, b"whole")


@pytest.mark.parametrize("wrong", WRONG_AFTER_START, ids=repr)
async def test_a_wrong_message_after_the_start_is_raised_from_send_and_nothing_of_it_leaves(wrong):
    errors = []

    async def app(scope, receive, send):
        await send(START)
        errors.append(await raised_by(send(wrong)))
        await send(BODY)

    client = MemoryClient(app)
    await client.send(request())
    assert [type(error) for error in errors] == [ASGIError]
    answer = parse(client.written)
    assert (answer.status, answer.body) == (200, b"whole")


@pytest.mark.parametrize("wrong", WRONG_BEFORE_ACCEPT, ids=repr)
async def test_a_wrong_message_before_the_accept_is_raised_from_send_and_nothing_of_it_leaves(wrong):
    errors = []

    async def app(scope, receive, send):
        await receive()
        errors.append(await raised_by(send(wrong)))
        await send(ACCEPT)
        await receive()

    client = MemoryClient(app)
    await client.send(handshake())
    assert [type(error) for error in errors] == [ASGIError]
    assert client.written.startswith(b"HTTP/1.1 101 ")
    client.transport.lose()
    await client.turns()


@pytest.mark.parametrize("wrong", WRONG_AFTER_ACCEPT, ids=repr)
async def test_a_wrong_message_after_the_accept_is_raised_from_send_and_nothing_of_it_leaves(wrong):
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        errors.append(await raised_by(send(wrong)))
        await send({"type": "websocket.send", "text": "right"})
        await receive()

    client = MemoryClient(app)
    await client.send(handshake())
    assert [type(error) for error in errors] == [ASGIError]
    assert client.written.partition(b"\r\n\r\n")[2] == b"\x81\x05right"
    client.transport.lose()
    await client.turns()


@pytest.mark.parametrize("wrong", WRONG_DENIALS, ids=repr)
async def test_a_wrong_message_in_a_denial_is_raised_from_send_and_nothing_of_it_leaves(wrong):
    errors = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 402})
        errors.append(await raised_by(send(wrong)))
        await send({"type": "websocket.http.response.body", "body": b"denied"})

    client = MemoryClient(app)
    await client.send(handshake())
    assert [type(error) for error in errors] == [ASGIError]
    answer = parse(client.written)
    assert (answer.status, answer.body) == (402, b"denied")


@pytest.mark.parametrize("wrong", WRONG_STARTUPS, ids=repr)
async def test_a_wrong_message_of_the_lifespan_is_raised_from_send(wrong):
    errors = []

    async def app(scope, receive, send):
        await receive()
        errors.append(await raised_by(send(wrong)))
        await send(COMPLETE)

    async with serve(app):
        pass
    assert [type(error) for error in errors] == [ASGIError]


async def test_names_of_headers_in_upper_case_are_served():
    async def app(scope, receive, send):
        await send({**START, "headers": [(b"Content-Type", b"text/plain"), (b"X-Y", b"Z")]})
        await send(BODY)

    answer = parse(await ask(app))
    assert answer.all(b"content-type") == [b"text/plain"]
    assert answer.all(b"x-y") == [b"Z"]


async def test_additional_keys_are_no_error():
    more = {"added": object(), "later": None}

    async def app(scope, receive, send):
        async def extended(message):
            await send({**message, **more})

        if scope["type"] == "http":
            await respond(extended, b"served")
        elif scope["type"] == "lifespan":
            await receive()
            await extended({"type": "lifespan.startup.complete"})
            await receive()
            await extended({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == "/deny":
            await receive()
            await extended({"type": "websocket.http.response.start", "status": 401})
            await extended({"type": "websocket.http.response.body"})
        else:
            await receive()
            await extended(ACCEPT)
            await extended({"type": "websocket.send", "text": "served"})
            await extended(CLOSE)

    async with serve(app) as server:
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).text == "served"
        async with connect(server.ws_url) as client:
            assert await client.recv() == "served"
        with pytest.raises(InvalidStatus) as denied:
            await connect(server.ws_url + "/deny")
    assert denied.value.response.status_code == 401


# ---- errors that leave the application ----


async def test_an_error_before_the_answer_ends_call_and_connection(bare_server, raw, caplog):
    async def app(scope, receive, send):
        raise ValueError("secret")

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(request(last=False))
        answer = await asyncio.wait_for(reader.read(), 5)  # to the end of the connection
        assert not server.runtime.calls
    assert parse(answer).status == 500
    assert b"secret" not in answer
    assert "secret" in caplog.text


async def test_an_error_in_the_answer_ends_call_and_connection(bare_server, raw, caplog):
    """The client can tell that it has not all of it."""

    async def app(scope, receive, send):
        await send(START)
        await send({**BODY, "more_body": True})
        raise ValueError

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(request(last=False))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert not server.runtime.calls
    with pytest.raises(h11.RemoteProtocolError):
        parse(answer)
    assert "ValueError" in caplog.text


async def test_an_error_after_the_answer_ends_the_call_alone():
    """The connection of the specification is one request: the next on the same socket has not failed."""

    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        if scope["path"] == "/fails":
            raise ValueError

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        async with server.expect(ValueError):
            await client.send(request(target=b"/fails", last=False))
            await client.receive_until(b"/fails")
        await client.send(request(target=b"/goes-on"))
        assert parse(await client.receive_all()).body == b"/goes-on"


async def test_an_error_ends_call_and_websocket(bare_server, caplog):
    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/open":
            await send(ACCEPT)
        raise ValueError

    async with bare_server(app, lifespan="off") as server:
        url = server.url.replace("http", "ws")
        async with connect(url + "/open") as client:
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
        with pytest.raises(InvalidStatus) as denied:
            await connect(url)
        assert not server.runtime.calls
    assert closed.value.rcvd.code == 1011
    assert denied.value.response.status_code == 500
    assert caplog.text.count("the application raised") == 2


async def test_an_error_of_one_call_leaves_the_server_and_other_calls_alone():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/fails":
            raise SystemExit(3)
        await go_on.wait()
        await respond(send, b"served")

    async with serve(app, lifespan="off") as server, httpx.AsyncClient(base_url=server.url) as client:
        other = server.raw()
        await other.send(request())
        async with server.expect(SystemExit):
            assert (await client.get("/fails")).status_code == 500
        go_on.set()
        assert (await other.response()).body == b"served"
        assert (await client.get("/")).text == "served"


@pytest.mark.parametrize("first", [request(last=False), handshake()], ids=["http", "websocket"])
async def test_what_send_raises_after_the_client_left_is_no_error_of_the_server(caplog, first):
    """It leaves the application, and is neither logged as an error nor in the way of the next request."""
    errors = []

    async def app(scope, receive, send):
        if scope["path"] == "/next":
            await hello(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send(ACCEPT)
        await receive_all(receive, scope["type"] + ".disconnect")
        try:
            await send(START if scope["type"] == "http" else {"type": "websocket.send", "text": "x"})
        except OSError as error:
            errors.append(error)
            raise

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(first)
        await server.wait_for(lambda: server.exchanges)
        client.reset()
        await all_ended(server)
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url + "/next")).text == "hello"
    assert len(errors) == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
