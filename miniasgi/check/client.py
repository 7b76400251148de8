"""Who asks: one GET, or one WebSocket handshake, over a socket; and what came of it.

h11 and wsproto in their roles as clients. It knows nothing of the application, which may do anything.
"""

import asyncio
import time
from urllib.parse import quote

import h11
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import RemoteProtocolError

HOST = "127.0.0.1"
AGENT = (b"user-agent", b"miniasgi check")
READ = 65536


class Answer:
    """What a client saw of one request; filled in as it comes."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seconds = 0.0  # until it was complete
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.size = 0
        self.complete = False
        self.streams = False  # it is meant to have no end
        self.broken = "without a reason"  # why it ended before its end

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def end(self) -> None:
        self.complete = True
        self.seconds = time.monotonic() - self.began


async def ask(port: int, path: str, answer: Answer) -> None:
    """GET the path; `answer` is filled in. Returns at its end, or once it is known to be an event stream."""
    client = h11.Connection(h11.CLIENT)
    headers = [(b"host", f"{HOST}:{port}".encode()), AGENT, (b"accept", b"*/*"), (b"connection", b"close")]
    request = h11.Request(method=b"GET", target=as_target(path), headers=headers)
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write((client.send(request) or b"") + (client.send(h11.EndOfMessage()) or b""))
        while not answer.complete:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await reader.read(READ))
            elif isinstance(event, h11.Response):
                answer.status, answer.headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                answer.size += len(event.data)
                answer.streams = answer.header(b"content-type").startswith("text/event-stream")
                if answer.streams:
                    break
            elif isinstance(event, h11.EndOfMessage):
                answer.end()
    except (OSError, h11.RemoteProtocolError) as error:
        answer.broken = str(error)
    finally:
        writer.close()


async def shake_hands(port: int, path: str, answer: Answer) -> None:
    """Open a WebSocket and close it with 1000, or take the denial; `answer` is filled in."""
    client = WSConnection(ConnectionType.CLIENT)
    headers = [AGENT, (b"origin", f"http://{HOST}:{port}".encode())]  # as a page of the same site has it
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(client.send(ws.Request(f"{HOST}:{port}", as_target(path), extra_headers=headers)))
        closed = False
        while not closed:
            data = await reader.read(READ)
            client.receive_data(data or None)
            for event in client.events():
                if isinstance(event, ws.AcceptConnection):
                    answer.status = 101
                    answer.end()
                    writer.write(client.send(ws.CloseConnection(1000)))
                elif isinstance(event, ws.RejectConnection):
                    answer.status = event.status_code
                    closed = not event.has_body
                elif isinstance(event, ws.RejectData):
                    closed = event.body_finished
                elif isinstance(event, ws.CloseConnection):
                    closed = True
        if not answer.complete:
            answer.end()
    except (OSError, RemoteProtocolError) as error:
        answer.broken = str(error)
    finally:
        writer.close()


def as_target(path: str) -> str:
    """The path as it stands in a request line; what is escaped already stays so."""
    return quote(path, safe="/?%&=+:@,;!$'()*~-._")
