"""Real clients in tests: httpx, requests, aiohttp, websockets, and Chromium."""

import asyncio
import socket

import aiohttp
import httpx
import pytest
import requests
from playwright.sync_api import expect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_blocking

from miniasgi.testing import serve
from tests.applications import echo, read_body, respond
from tests.test_browser import browser  # noqa: F401  # a fixture

PAGE = b"""<!doctype html><title>page</title><p id=said>nothing yet</p>
<script>
  const socket = new WebSocket(location.href.replace("http", "ws"));
  socket.onopen = () => socket.send("hello");
  socket.onmessage = event => { document.getElementById("said").textContent = event.data; };
</script>"""


async def site(scope, receive, send):
    """A page whose script speaks to a WebSocket; an echo of bodies; an event stream."""
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
        return
    assert scope["type"] == "http"
    if scope["method"] == "POST":
        await respond(send, await read_body(receive))
    elif scope["path"] == "/events":
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.create_task(receive_all(receive))
        number = 0
        while not gone.done():
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            number += 1
            await asyncio.wait((gone,), timeout=0.01)
    else:
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE})


async def receive_all(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


tls = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])


@tls
def test_httpx(tls):
    with serve(site, tls=tls) as server:
        verify = server.ssl_context if tls else False
        with httpx.Client(base_url=server.url, verify=verify) as client:
            assert client.post("/", content=b"body").content == b"body"
            with client.stream("GET", "/events") as response:
                lines = response.iter_lines()
                assert [next(lines) for _ in range(3)] == ["data: 0", "", "data: 1"]
            server.wait_for("http.disconnect")


@tls
def test_requests(tls):
    with serve(site, tls=tls) as server, requests.Session() as client:
        client.trust_env = False  # which has a word in that, too
        client.verify = server.ca_file if tls else True
        assert client.post(server.url, data=b"body").content == b"body"
        assert client.post(server.url, data=iter([b"in ", b"chunks"])).content == b"in chunks"
        with client.get(server.url + "/events", stream=True) as response:
            assert next(response.iter_lines()) == b"data: 0"
        server.wait_for("http.disconnect")


@tls
async def test_aiohttp(tls):
    async with serve(site, tls=tls) as server:
        connector = aiohttp.TCPConnector(ssl=server.ssl_context if tls else True)
        async with aiohttp.ClientSession(server.url, connector=connector) as client:
            async with client.post("/", data=b"body") as response:
                assert await response.read() == b"body"
            async with client.ws_connect("/") as websocket:
                await websocket.send_str("hello")
                assert await websocket.receive_str() == "hello"
            async with client.get("/events") as response:
                assert await response.content.readline() == b"data: 0\n"
                response.close()
            await server.wait_for("http.disconnect")


@tls
def test_websockets_blocking(tls):
    with serve(site, tls=tls) as server:
        ssl = server.ssl_context if tls else None
        with connect_blocking(server.ws_url, ssl=ssl) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"
        assert server.wait_for("websocket.disconnect").received[-1]["code"] == 1000


@tls
async def test_websockets(tls):
    async with serve(site, tls=tls) as server:
        ssl = server.ssl_context if tls else None
        async with connect(server.ws_url, ssl=ssl) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            websocket.transport.abort()
            exchange = await server.wait_for("websocket.disconnect")
        assert exchange.received[-1]["code"] == 1006


async def test_a_client_that_is_open_at_the_end_is_told():
    async with serve(site) as server:
        websocket = await connect(server.ws_url)
    with pytest.raises(ConnectionClosed):
        await websocket.recv()
    assert websocket.close_code == 1012
    assert [each.error for each in server.exchanges] == [None]


def test_chromium(browser):  # noqa: F811
    with serve(site) as server:
        page = browser.new_page()
        page.goto(server.url)
        expect(page.locator("#said")).to_have_text("hello")
        page.close()
        exchange = server.wait_for("websocket.disconnect", timeout=5)
    assert exchange.received[1]["text"] == "hello"


def test_a_client_of_tls_gets_no_ticket():
    """A ticket comes whenever it likes: between two halves of what another thread of the client writes."""
    with (
        serve(site, tls=True) as server,
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        server.ssl_context.wrap_socket(raw, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while sock.recv(4096):
            pass
        assert sock.version() == "TLSv1.3"
        assert not sock.session.has_ticket
