"""The trace: what passes is told in its order, by lanes, with states and with what the application waits for."""

import asyncio
import itertools
import json

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket

from miniasgi import Config, Server
from miniasgi.observe.trace import Trace
from tests.applications import respond


class Traced:
    """A server whose records are kept."""

    def __init__(self, app, secrets=False, **options):
        self.records = []
        trace = Trace(self.records.append, secrets=secrets)
        config = Config(**{"port": 0, "access_log": False, "lifespan": "off", **options})
        self.server = Server(trace.of_application(app), config, first=trace.first)

    async def __aenter__(self):
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.server.__aexit__(*error)
        for each in self.records:
            json.loads(each.text)

    async def until(self, name, exchange=None):
        """The first record of that name, once there is one."""
        for _ in range(100_000):
            for each in self.records:
                if each.name == name and exchange in (None, each.exchange):
                    return each
            await asyncio.sleep(0)
        raise AssertionError(f"no {name}: {self.said()}")

    def said(self, exchange=None, lanes=("bytes", "events", "asgi", "app")):
        return [
            (each.lane, each.way, each.name)
            for each in self.records
            if exchange in (None, each.exchange) and each.lane in lanes
        ]

    def one(self, name, **of):
        found = [each for each in self.records if each.name == name and of.items() <= each._asdict().items()]
        assert len(found) == 1, found
        return found[0]


async def echo(scope, receive, send):
    if scope["type"] == "websocket":
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send({"type": "websocket.send", "text": message["text"].upper()})
        return
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    await respond(send, body + message["body"], headers=[(b"set-cookie", b"secret")])


async def test_a_request_is_told_from_its_bytes_to_those_of_its_answer(raw):
    async with Traced(echo) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"POST /a?b HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\nContent-Length: 2\r\n\r\nhi")
        await reader.readuntil(b"hi")
        await traced.until("returned")
    assert traced.said(1)[:13] == [
        ("bytes", "in", "data_received"),
        ("events", "in", "Request"),
        ("events", "in", "Data"),
        ("events", "in", "EndOfMessage"),
        ("app", "in", "called"),
        ("asgi", "in", "http.request"),
        ("asgi", "out", "http.response.start"),
        ("asgi", "out", "http.response.body"),
        ("events", "out", "Response"),
        ("events", "out", "Data"),
        ("events", "out", "EndOfMessage"),
        ("bytes", "out", "write"),
        ("app", "out", "returned"),
    ]
    assert [each.at for each in traced.records] == sorted(each.at for each in traced.records)
    assert traced.one("connection_made").exchange == 0
    assert traced.one("Request").states == {"client": "SEND_BODY", "server": "SEND_RESPONSE"}
    assert traced.one("EndOfMessage", way="out").states == {"client": "DONE", "server": "DONE"}
    assert traced.one("called").content["path"] == "/a"
    assert traced.one("http.request").content["body"] == {"bytes": "hi"}
    assert "await receive()" in traced.one("http.request").app
    text = "".join(each.text for each in traced.records)
    assert "a=b" not in text
    assert "secret" not in text
    assert "Cookie: ***" in traced.one("data_received").content["bytes"]


async def test_secrets_are_told_where_they_are_asked_for(raw):
    async with Traced(echo, secrets=True) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    assert "Cookie: a=b" in traced.one("data_received").content["bytes"]
    assert [{"bytes": "cookie"}, {"bytes": "a=b"}] in traced.one("Request").content["headers"]


async def test_an_upload_that_waits_for_its_100_is_told_with_what_the_application_waits_for(raw):
    async with Traced(echo) as traced:
        reader, writer = await raw(traced.server)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        await traced.until("waits in receive()")
        writer.write(b"2\r\nab\r\n")
        await traced.until("Data")
        writer.write(b"0\r\n\r\n")
        await reader.readuntil(b"ab")
        await traced.until("returned")
    said = traced.said(1)
    assert said.index(("events", "out", "InformationalResponse")) < said.index(
        ("app", "", "waits in receive()")
    )
    assert said.index(("app", "", "waits in receive()")) < said.index(("events", "in", "Data"))
    assert "await receive()" in traced.one("Data", way="in").app  # where it waited when that came


async def test_what_a_call_took_is_until_the_moment_at_which_it_is_told(raw, monkeypatch):
    ticks = itertools.count(step=1_000_000)  # each look, 1 ms later
    monkeypatch.setattr("miniasgi.observe.trace.time.perf_counter_ns", ticks.__next__)
    async with Traced(echo) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await traced.until("waits in receive()")
        writer.write(b"hi")
        await reader.readuntil(b"hi")
        await traced.until("returned")
    called, received = traced.one("called").at, traced.one("http.request")
    assert received.at - received.took == called + 1000  # the next look: when receive() was called


async def test_a_websocket_is_told_with_its_frames_its_messages_and_its_state():
    async with Traced(echo) as traced:
        async with connect_websocket(traced.server.url.replace("http", "ws")) as websocket:
            await websocket.send("héllo")
            assert await websocket.recv() == "HÉLLO"
        await traced.until("returned")
    assert traced.said(1, ("events",)) == [
        ("events", "in", "Request"),
        ("events", "in", "EndOfMessage"),
        ("events", "out", "InformationalResponse"),
        ("events", "in", "TextMessage"),
        ("events", "out", "TextMessage"),
        ("events", "in", "CloseConnection"),
        ("events", "out", "CloseConnection"),
    ]
    assert traced.said(1, ("asgi",)) == [
        ("asgi", "in", "websocket.connect"),
        ("asgi", "out", "websocket.accept"),
        ("asgi", "in", "websocket.receive"),
        ("asgi", "out", "websocket.send"),
        ("asgi", "in", "websocket.disconnect"),
    ]
    assert traced.one("InformationalResponse").states["client"] == "SWITCHED_PROTOCOL"
    assert traced.one("TextMessage", way="in").content["data"] == "héllo"
    assert traced.one("CloseConnection", way="in").states == {"websocket": "REMOTE_CLOSING"}
    assert traced.one("CloseConnection", way="out").states == {"websocket": "CLOSED"}


async def test_a_client_that_leaves_in_mid_stream_is_told_with_what_send_raises(raw):
    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0)

    async with Traced(stream) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"x\r\n")
        writer.transport.abort()
        await traced.until("raised")
    assert ("bytes", "in", "connection_lost") in traced.said(1)
    assert "ClientDisconnected" in traced.one("send() raised").content["error"]
    assert traced.said(1)[-1] == ("app", "out", "raised")
    assert "await send(" in traced.one("raised").content["at"][0]


async def test_a_client_that_takes_nothing_is_told_as_what_the_application_waits_for(raw):
    async def fast(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(200):
            await send({"type": "http.response.body", "body": bytes(256 * 1024), "more_body": True})
        await send({"type": "http.response.body"})

    async with Traced(fast) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await traced.until("pause_writing")
        await traced.until("waits in send()")
        while await reader.read(1024 * 1024):
            if any(each.name == "resume_writing" for each in traced.records):
                break
        assert (await traced.until("send() returned")).took > 0
        writer.transport.abort()


async def test_a_request_against_the_rules_is_told_as_refused(raw):
    async with Traced(echo) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        await reader.read()
    refused = traced.one("refused")
    assert refused.content["status_code"] == 400
    assert "Content-Length" in refused.content["rule"]
    assert refused.exchange == 1
    assert traced.said(1, ("asgi", "app")) == []


async def test_an_application_that_fails_is_told_with_its_lines(raw, caplog):
    async def failing(scope, receive, send):
        raise LookupError("no such thing")

    async with Traced(failing) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read()
    raised = traced.one("raised").content
    assert raised["error"] == "LookupError: no such thing"
    assert "test_trace.py" in raised["at"][0]
    assert traced.one("refused").content["status_code"] == 500


async def test_requests_are_numbered_though_they_come_in_one_piece(raw):
    async with Traced(echo) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
        _, other = await raw(traced.server)
        other.write(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        await traced.until("returned", exchange=4)
    requests = [each for each in traced.records if each.name == "Request"]
    assert [(each.connection, each.exchange) for each in requests] == [(1, 1), (1, 2), (1, 3), (2, 4)]
    pieces = [each for each in traced.records if each.name == "data_received"]
    assert [each.exchange for each in pieces] == [1, 4]


async def test_the_lifespan_is_told_as_of_no_connection():
    async def with_lifespan(scope, receive, send):
        for half in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{half}.complete"})

    async with Traced(with_lifespan, lifespan="on") as traced:
        await traced.until("waits in receive()")
    assert {(each.connection, each.exchange) for each in traced.records} == {(0, 0)}
    assert traced.said()[:3] == [
        ("app", "in", "called"),
        ("asgi", "in", "lifespan.startup"),
        ("asgi", "out", "lifespan.startup.complete"),
    ]
    assert traced.said()[-1] == ("app", "out", "returned")


async def test_a_receive_that_is_given_up_leaves_no_call_under_way(raw):
    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        await respond(send, b"ok")

    async with Traced(app) as traced:
        reader, writer = await raw(traced.server)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        await traced.until("returned")
        await asyncio.sleep(0)
    assert traced.said(1).count(("app", "", "waits in receive()")) == 1
    assert ("app", "", "waits in send()") not in traced.said(1)


@pytest.mark.parametrize("message", [None, 7, {}, {"type": "http.response.begin"}, {"type": 3}])
async def test_what_is_no_message_is_told_as_what_it_is(message, caplog):
    async def app(scope, receive, send):
        await send(message)

    async with Traced(app) as traced, httpx.AsyncClient() as client:
        assert (await client.get(traced.server.url)).status_code == 500
    assert traced.one("send() raised").content["error"].startswith("miniasgi.asgi.ASGIError: ")
