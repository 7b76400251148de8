"""What the tests of the specification have in common: requests, messages, and answers as h11's client reads them."""

from typing import NamedTuple

import h11

from miniasgi.testing import serve
from tests.protocol.test_websocket import handshake  # noqa: F401  # the tests here take it from this file

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body", "body": b"whole"}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}


def request(method=b"GET", target=b"/", *lines, version=b"1.1", body=b"", last=True):
    """A request; the last of its connection, so that the answer can be read to the end."""
    closing = [b"Connection: close"] if last else []
    first = method + b" " + target + b" HTTP/" + version
    return b"\r\n".join([first, b"Host: x", *closing, *lines, b"", body])


class Answer(NamedTuple):
    """A response; `hints` are the headers of each 103 before it."""

    status: int
    headers: list
    body: bytes
    trailers: list
    hints: list

    def all(self, name):
        return [value for each, value in self.headers if each == name]


def parse(data, method="GET"):
    """The one answer that the bytes are. Raises h11.RemoteProtocolError where it is not whole."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x"), ("Connection", "close")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    hints, body = [], b""
    while type(event := client.next_event()) is not h11.EndOfMessage:
        if isinstance(event, h11.InformationalResponse):
            hints.append((event.status_code, list(event.headers)))
        elif isinstance(event, h11.Response):
            head = event
        else:
            body += event.data
    return Answer(head.status_code, list(head.headers), body, list(event.headers), hints)


async def raised_by(awaitable):
    """What it raised, or None."""
    try:
        await awaitable
    except Exception as error:
        return error
    return None


async def receive_all(receive, last):
    """Every event up to the one of this type, which is included."""
    events = []
    while not events or events[-1]["type"] != last:
        events.append(await receive())
    return events


async def ask(app, asked=None, *, expect=None, **options):
    """All bytes that a client reads of a served application until its connection ends.

    The application raises `expect`, and nothing else.
    """
    async with serve(app, **{"lifespan": "off", **options}) as server:
        if expect is not None:
            server.expect(expect)
        client = server.raw()
        await client.send(request() if asked is None else asked)
        return await client.receive_all()


async def all_ended(server):
    """Return when no call of the application is under way."""
    await server.wait_for(lambda: all(each.ended for each in server.exchanges))
