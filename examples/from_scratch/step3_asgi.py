"""Step 3: ASGI. Any application answers, and needs to know nothing of sockets or of h11.

New: a request is a scope, and two functions to receive and to send messages.
Missing: more than one request a connection. No extensions, no root_path, no Date header. Time limits.
Wrong: a body is collected as a whole, and so is the answer, however large they are.

    python examples/from_scratch/step3_asgi.py
    curl --data hello http://127.0.0.1:8000/hi

prints POST /hi: 5 bytes. `step3_asgi.py package.module:app` serves an application of yours.
In miniasgi: `protocol/scope.py`, http_scope; `protocol/exchange.py`, Exchange.receive and Exchange.SEND.
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

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
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
            request = await self.next_event()
            if isinstance(request, h11.Request):  # and not the end of a connection that asked for nothing
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

    async def run(self, request):
        self.request, self.head, self.body = request, None, b""
        await app(self.scope(), self.receive, self.send)
        if self.h11.our_state is h11.SEND_RESPONSE:
            raise RuntimeError("the application has returned without a whole answer")

    def scope(self):
        if not self.request.target.startswith(b"/"):
            raise h11.RemoteProtocolError("no other form of a target is for us (RFC 9112 section 3.2)")
        path, _, query = self.request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": self.request.http_version.decode(),
            "method": self.request.method.decode(),
            "scheme": "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": list(self.request.headers),
            "client": self.writer.get_extra_info("peername"),
            "server": self.writer.get_extra_info("sockname"),
        }

    async def receive(self):
        if self.h11.they_are_waiting_for_100_continue:
            await self.write(h11.InformationalResponse(status_code=100, headers=[]))
        body = b""
        while isinstance(event := await self.next_event(), h11.Data):
            body += event.data
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": body, "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message):
        match message["type"]:
            case "http.response.start" if self.head is None:
                headers = [line for line in message.get("headers", ()) if line[0].lower() not in OURS]
                headers.append((b"connection", b"close"))
                self.head = h11.Response(status_code=message["status"], headers=headers)
            case "http.response.body" if self.head is not None:
                self.body += message.get("body", b"")
                if not message.get("more_body", False):
                    bodiless = self.request.method == b"HEAD" or self.head.status_code in (204, 304)
                    body = h11.Data(data=b"" if bodiless else self.body)
                    await self.write(self.head, body, h11.EndOfMessage())
            case kind:
                raise RuntimeError(f"{kind} cannot be sent now")

    async def refuse(self, status):
        """Answer so, unless an answer has begun."""
        if self.h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("content-length", "0"), ("connection", "close")]
            with suppress(Left):
                await self.write(h11.Response(status_code=status, headers=headers), h11.EndOfMessage())


async def hello(scope, receive, send):
    assert scope["type"] == "http"
    size, message = 0, {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        size += len(message.get("body", b""))
    body = f"{scope['method']} {scope['path']}: {size} bytes\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main():
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    server = await asyncio.start_server(lambda *both: Connection(*both).serve(), "127.0.0.1", port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.path.insert(0, "")  # so that modules of the folder you are in are found
    app = pkgutil.resolve_name(sys.argv[1]) if len(sys.argv) > 1 else hello
    asyncio.run(main())
