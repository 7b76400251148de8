"""However the network cuts the bytes, the application sees the same, and so does the client."""

import asyncio
import sys

import pytest

from tests.memory import MemoryClient

CORPUS = {
    "get": b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    "http/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "absolute": b"GET http://y/z HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;e=1\r\nlo\r\n0\r\nT: x\r\n\r\n",
    "expect": b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "pipelined": b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo"
    b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "after the last": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad request": b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nA: b\r\n\r\n",
    "websocket": b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    b"\x81\x82\0\0\0\0hi" + b"\x01\x81\0\0\0\0a" + b"\x80\x81\0\0\0\0b"
    + b"\xc1\x84\0\0\0\0\xca\xc8\x04\x00",  # the text "hi" compressed
}  # fmt: skip


class Recorder:
    """An application that keeps the scopes and what it received, and answers with the body."""

    def __init__(self):
        self.scopes = []
        self.received = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(dict(scope))
        if scope["type"] == "websocket":
            return await self.websocket(receive, send)
        body, more_body = b"", True
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.received.append("disconnect")
                return None
            body, more_body = body + message["body"], message["more_body"]
        self.received.append(body)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def websocket(self, receive, send):
        while (message := await receive())["type"] != "websocket.disconnect":
            self.received.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send(dict(message, type="websocket.send"))
        self.received.append(message)


async def conversation(pieces, spawn):
    recorder = Recorder()
    client = MemoryClient(recorder, spawn=spawn)
    await client.send(*pieces)
    await client.end()
    # Whether the client is asked for its body depends on whether it waits, which is a matter of cuts.
    written = client.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert client.transport.closing
    assert not client.runtime.connections
    assert not client.runtime.calls
    return recorder.scopes, recorder.received, written


def lazily(coroutine, context):
    return asyncio.get_running_loop().create_task(coroutine, context=context)


def eagerly(coroutine, context):
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True, context=context)


SPAWNS = [lazily, eagerly] if sys.version_info >= (3, 12) else [lazily]


@pytest.mark.parametrize("name", CORPUS)
async def test_every_cut_gives_the_same_conversation(name):
    data = CORPUS[name]
    whole = await conversation([data], lazily)
    assert whole[2], "the server said something"
    for spawn in SPAWNS:
        assert await conversation([data], spawn) == whole
        assert await conversation([data[i : i + 1] for i in range(len(data))], spawn) == whole
        for cut in range(1, len(data)):
            assert await conversation([data[:cut], data[cut:]], spawn) == whole, (
                f"cut at {cut}, {spawn.__name__}"
            )


async def test_every_cut_of_a_broken_body_gets_the_same_answer():
    """Whether the application was called by then is a matter of cuts; what the client reads is not."""
    data = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
    whole = (await conversation([data], lazily))[2]
    assert whole.startswith(b"HTTP/1.1 400 ")
    for spawn in SPAWNS:
        for cut in range(1, len(data)):
            assert (await conversation([data[:cut], data[cut:]], spawn))[2] == whole, f"cut at {cut}"


async def test_the_corpus_reaches_the_application_as_it_should():
    """So that the test above does not compare errors with errors."""
    expected = {
        "get": [b""],
        "body": [b"hello"],
        "chunked": [b"hello"],
        "expect": [b"hi"],
        "pipelined": [b"", b"two", b""],
        "after the last": [b""],
        "bad request": [b""],
        "no host": [],
        "websocket": [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "hi"},
            {"type": "websocket.receive", "text": "ab"},
            {"type": "websocket.receive", "text": "hi"},
            {"type": "websocket.disconnect", "code": 1006, "reason": ""},
        ],
    }
    for name, received in expected.items():
        assert (await conversation([CORPUS[name]], lazily))[1] == received, name
