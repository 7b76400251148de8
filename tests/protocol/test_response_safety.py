"""Nothing leaves that the application did not mean, and nothing of the framing is the application's to say."""

import re

import pytest

from miniasgi.asgi import ASGIError
from tests.memory import MemoryClient
from tests.protocol.test_websocket import handshake

GET = b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n"
OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}
HEADERLESS = {"type": "http.response.start", "status": 200}

# ---- what would begin a line or end a text ----

SPLITTERS = [b"\r\nInjected: 1", b"\nInjected: 1", b"\rInjected: 1", b"\0", b"\r\n\r\ninjected"]


def in_headers(line):
    return [{**OK, "headers": [*OK["headers"], line]}]


# Where the application's bytes stand in what is sent: (messages before, the message with them).
PLACES = {
    "a value": lambda split: ([], {**HEADERLESS, "headers": [(b"a", b"b" + split)]}),
    "a name": lambda split: ([], {**HEADERLESS, "headers": [(b"a" + split, b"b")]}),
    "a length": lambda split: ([], {**HEADERLESS, "headers": [(b"content-length", b"2" + split)]}),
    "a link": lambda split: (
        [],
        {"type": "http.response.early_hint", "links": [b"</a>; rel=preload" + split]},
    ),
    "a trailer's value": lambda split: (
        [{**HEADERLESS, "trailers": True}, BODY],
        {"type": "http.response.trailers", "headers": [(b"a", b"b" + split)]},
    ),
    "a trailer's name": lambda split: (
        [{**HEADERLESS, "trailers": True}, BODY],
        {"type": "http.response.trailers", "headers": [(b"a" + split, b"b")]},
    ),
}
WEBSOCKET_PLACES = {
    "a value of the acceptance": lambda split: {
        "type": "websocket.accept",
        "headers": [(b"a", b"b" + split)],
    },
    "a name of the acceptance": lambda split: {"type": "websocket.accept", "headers": [(b"a" + split, b"b")]},
    "a subprotocol": lambda split: {"type": "websocket.accept", "subprotocol": "chat" + split.decode()},
    "a value of the denial": lambda split: {
        "type": "websocket.http.response.start",
        "status": 403,
        "headers": [(b"a", b"b" + split)],
    },
}


async def refused(client, request, before, message):
    """What the client was sent, and whether the message was refused; the application gives up then."""
    errors = []

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
        for each in before:
            await send(each)
        try:
            await send(message)
        except ASGIError as error:
            errors.append(error)
            raise

    client.runtime.app = app
    await client.send(request)
    return client.written, errors


@pytest.mark.parametrize("split", SPLITTERS, ids=repr)
@pytest.mark.parametrize("place", [*PLACES, *WEBSOCKET_PLACES])
async def test_bytes_that_would_split_a_response_are_raised_from_send(place, split):
    client = MemoryClient(None)
    if place in PLACES:
        written, errors = await refused(client, GET, *PLACES[place](split))
    else:
        request = handshake(b"Sec-WebSocket-Protocol: chat")
        written, errors = await refused(client, request, [], WEBSOCKET_PLACES[place](split))
    assert errors, "it was sent"
    assert b"njected" not in written
    assert b"\0" not in written
    assert len(re.findall(rb"HTTP/1\.1 \d", written)) == 1


# ---- what is the server's to say ----


async def answer(headers, status=200, body=b"ok", request=GET, stopping=False):
    """(the lines of the head that the client was sent, or None where they were refused; the rest)."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    client = MemoryClient(app)
    client.runtime.stopping = stopping
    await client.send(request)
    head, _, rest = client.written.partition(b"\r\n\r\n")
    return head.lower().split(b"\r\n"), rest


def values(lines, name):
    return [line.partition(b": ")[2] for line in lines if line.startswith(name + b": ")]


async def test_a_length_is_said_once_however_often_the_application_says_it():
    lines, body = await answer([(b"Content-Length", b"2"), (b"content-length", b"2")])
    assert (values(lines, b"content-length"), body) == ([b"2"], b"ok")


async def test_two_lengths_of_an_application_are_a_500(caplog):
    lines, _ = await answer([(b"content-length", b"2"), (b"content-length", b"3")])
    assert lines[0].startswith(b"http/1.1 500 ")
    assert "conflicting Content-Length" in caplog.text


async def test_framing_is_not_the_applications():
    lines, body = await answer([(b"Transfer-Encoding", b"gzip"), (b"transfer-encoding", b"chunked")])
    assert (values(lines, b"transfer-encoding"), body) == ([b"chunked"], b"2\r\nok\r\n0\r\n\r\n")
    lines, body = await answer([(b"transfer-encoding", b"chunked"), (b"content-length", b"2")])
    assert (values(lines, b"transfer-encoding"), values(lines, b"content-length")) == ([], [b"2"])
    assert body == b"ok"


@pytest.mark.parametrize("said", [b"keep-alive", b"Keep-Alive, X", b"upgrade", b"close"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_connection_that_closes_says_so_and_nothing_else(said, version):
    request = GET.replace(b"1.1", version)
    lines, _ = await answer(
        [(b"Connection", said), (b"content-length", b"2")], request=request, stopping=True
    )
    options = b",".join(values(lines, b"connection"))
    assert options.count(b"close") == 1
    assert b"keep-alive" not in options


@pytest.mark.parametrize(
    ("name", "value"), [(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"server", b"miniasgi")]
)
async def test_date_and_server_are_the_applications_or_ours_and_never_both(name, value):
    lines, _ = await answer([(b"content-length", b"2")])
    assert values(lines, name) == [value.lower()]
    lines, _ = await answer([(b"content-length", b"2"), (name.title(), b"its own")])
    assert values(lines, name) == [b"its own"]
    lines, _ = await answer([(b"content-length", b"2"), (name, b"first"), (name.title(), b"second")])
    assert values(lines, name) == [b"first"]


@pytest.mark.parametrize("status", [100, 101, 103, 199])
async def test_a_status_that_is_no_end_of_a_request_is_a_500(status, caplog):
    lines, _ = await answer([], status=status)
    assert lines[0].startswith(b"http/1.1 500 ")
    assert "'status'" in caplog.text


async def test_trailers_cannot_say_what_belongs_into_a_head():
    async def app(scope, receive, send):
        await send({**HEADERLESS, "trailers": True})
        await send(BODY)
        headers = [(b"Content-Length", b"5"), (b"transfer-encoding", b"gzip"), (b"x-sum", b"1")]
        await send({"type": "http.response.trailers", "headers": headers})

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.endswith(b"\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n")
