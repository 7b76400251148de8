"""Step 4: keep-alive and streaming. One request after the other, and nobody has to take more than they can.

New: serve() goes on with the next request; what comes too early stays in h11 (pipelining). receive() gives
each piece of a body, send() writes each, and waits while the client does not read: backpressure both ways.
Missing: time limits.
Wrong: that a client leaves is seen by who receives or sends, not before; who ends its sending side has left.

    python examples/from_scratch/step4_keep_alive.py step3_asgi:hello
    curl --verbose http://127.0.0.1:8000/one http://127.0.0.1:8000/two

says that it uses the connection again. The next steps build on this one, and have only what is new in them.
In miniasgi: `protocol/http1.py`, Http1Connection.next_cycle; `protocol/connection.py`, Connection.drained.
"""

import asyncio
import logging
import pkgutil
import sys
from contextlib import suppress
from urllib.parse import unquote

import h11

OURS = (b"connection", b"transfer-encoding")  # headers that say how a message is framed, and are not ASGI's


class Left(ConnectionError):
    """The client has left: an OSError, as ASGI has it."""


class Connection:
    """One client: its bytes are read and written here, and h11 says what they mean."""

    def __init__(self, app, reader, writer):
        self.app, self.reader, self.writer = app, reader, writer
        self.h11 = h11.Connection(h11.SERVER)

    async def next_event(self):
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            try:
                self.h11.receive_data(await self.reader.read(65536))
            except ConnectionError:
                return h11.ConnectionClosed()
        return event

    async def write(self, *events):
        self.writer.write(b"".join([self.h11.send(event) for event in events]))
        try:
            await self.writer.drain()
        except ConnectionError as error:
            raise Left from error

    async def serve(self):
        try:
            while isinstance(request := await self.next_request(), h11.Request):
                await self.run(request)
        except h11.RemoteProtocolError as error:
            await self.refuse(error.error_status_hint)
        except Left:
            """Nobody waits for an answer."""
        except Exception:
            logging.exception("the application failed")
            await self.refuse(500)
        finally:
            self.writer.close()

    async def next_request(self):
        """h11's next Request, or what it says in its place."""
        if self.h11.our_state is h11.DONE:
            while self.h11.their_state is h11.SEND_BODY:  # the application did not want to know the rest
                await self.next_event()
            self.h11.start_next_cycle()
        return await self.next_event() if self.h11.our_state is h11.IDLE else None

    async def run(self, request):
        self.request, self.head, self.begun, self.over = request, None, False, asyncio.Event()
        scope = self.scope("http", "http") | {"method": request.method.decode()}
        await self.app(scope, self.receive, self.send)
        if not self.over.is_set():
            raise RuntimeError("the application has returned without a whole answer")

    def scope(self, kind, scheme):
        if not self.request.target.startswith(b"/"):
            raise h11.RemoteProtocolError("no other form of a target is for us (RFC 9112 section 3.2)")
        path, _, query = self.request.target.partition(b"?")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": self.request.http_version.decode(),
            "scheme": scheme,
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": list(self.request.headers),
            "client": self.writer.get_extra_info("peername"),
            "server": self.writer.get_extra_info("sockname"),
        }

    async def receive(self):
        if self.h11.they_are_waiting_for_100_continue and not self.begun:
            await self.write(h11.InformationalResponse(status_code=100, headers=[]))
        event = h11.PAUSED if self.over.is_set() else await self.next_event()
        if isinstance(event, h11.Data | h11.EndOfMessage):
            body = bytes(event.data) if isinstance(event, h11.Data) else b""
            return {"type": "http.request", "body": body, "more_body": isinstance(event, h11.Data)}
        if event is h11.PAUSED:  # the client is there: it has asked for something else already
            await self.over.wait()
        return {"type": "http.disconnect"}

    @property
    def is_last(self):
        """Whether the connection ends with this answer: nobody knows whether the body will come."""
        return self.h11.they_are_waiting_for_100_continue

    async def send(self, message):
        match message["type"]:
            case "http.response.start" if self.head is None:  # it leaves with the first of the body
                headers = [line for line in message.get("headers", ()) if line[0].lower() not in OURS]
                headers += [(b"connection", b"close")] if self.is_last else []
                self.head = h11.Response(status_code=message["status"], headers=headers)
            case "http.response.body" if self.head is not None and not self.over.is_set():
                bodiless = self.request.method == b"HEAD" or self.head.status_code in (204, 304)
                events = [] if self.begun else [self.head]
                events += [] if bodiless else [h11.Data(data=message.get("body", b""))]
                events += [] if message.get("more_body", False) else [h11.EndOfMessage()]
                self.begun = True
                await self.write(*events)
                if not message.get("more_body", False):
                    self.over.set()
            case kind:
                raise RuntimeError(f"{kind} cannot be sent now")

    async def refuse(self, status):
        """Answer so, unless an answer has begun."""
        if self.h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("content-length", "0"), ("connection", "close")]
            with suppress(Left):
                await self.write(h11.Response(status_code=status, headers=headers), h11.EndOfMessage())


async def main(connection):
    sys.path.insert(0, "")  # so that modules of the folder you are in are found
    app, port = pkgutil.resolve_name(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    server = await asyncio.start_server(lambda *both: connection(app, *both).serve(), "127.0.0.1", port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Connection))
