"""Step 4: keep-alive. One request after the other on a connection, and nobody has to take more than he can.

New: the next request begins when an answer is complete; what comes too early stays in h11, then in the
system, then with the client (pipelining). So does a body that is not received, and send() waits while
the client does not read: backpressure both ways.
Missing: time limits, so an idle client stays as long as it likes, and so does one that reads nothing.
Wrong: that a client leaves is not seen while it has to wait. A body that nobody wants is read to its
end.

    curl http://127.0.0.1:8000/one http://127.0.0.1:8000/two

prints GET /one: 0 bytes, and GET /two: 0 bytes; with --verbose also that it uses the connection again.
In miniasgi: `http1.py`, Http1Connection.next_cycle and Http1Connection.balance; `connection.py`,
Connection.drained.
"""

import argparse
import asyncio
import logging
import pkgutil
import sys
from urllib.parse import unquote

import h11

ENOUGH = 4  # messages that may wait for the application; after that, the client has to
tasks = set()  # calls under way; a loop keeps no task alive


class Connection(asyncio.Protocol):
    """One client. The loop makes it, and calls its methods as things happen to the socket."""

    LOST = {"type": "http.disconnect"}

    def connection_made(self, transport):
        self.transport = transport
        self.writable = asyncio.Event()  # the client takes what it is sent
        self.writable.set()
        self.h11 = h11.Connection(h11.SERVER)
        self.call = None  # of the application, until the answer is complete
        self.started = False  # some of the answer was written

    def data_received(self, data):
        self.h11.receive_data(data)
        self.pump()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def connection_lost(self, error):
        self.writable.set()  # nobody waits for who has left
        if self.call is not None:
            self.call.end(self.LOST, left=True)

    def pump(self):
        """Take what h11 makes of the bytes, until it needs more of them, or the application has enough."""
        try:
            while self.call is None or self.call.inbox.qsize() < ENOUGH:
                event = self.h11.next_event()
                if event is h11.NEED_DATA:
                    self.transport.resume_reading()
                    return
                if event is h11.PAUSED:  # a request that has to wait for the answer to the one before it
                    break
                ON_EVENT[type(event)](self, event)
            self.transport.pause_reading()
        except h11.RemoteProtocolError as error:
            self.refuse(error.error_status_hint)

    def on_request(self, request):
        if not request.target.startswith(b"/"):
            raise h11.RemoteProtocolError("no other form of a target is for us (RFC 9112 section 3.2)")
        self.request, self.head = request, None
        self.call = Call(self, self.scope("http") | {"method": request.method.decode()})

    def scope(self, kind):
        path, _, query = self.request.target.partition(b"?")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": self.request.http_version.decode(),
            "scheme": "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self.request.headers),
            "client": self.transport.get_extra_info("peername"),
            "server": self.transport.get_extra_info("sockname"),
        }

    def on_data(self, event):
        if self.call is not None:  # else the answer is complete, and nobody wants the rest
            self.call.inbox.put_nowait({"type": "http.request", "body": bytes(event.data), "more_body": True})

    def on_end_of_message(self, event):
        if self.call is not None:
            self.call.inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        else:
            self.next_cycle()

    def on_receive(self):
        if self.h11.they_are_waiting_for_100_continue:
            self.write(h11.InformationalResponse(status_code=100, headers=[]))
        self.pump()

    def on_send(self, message):
        match message["type"]:
            case "http.response.start" if self.head is None:  # it leaves with the first of the body
                headers = [
                    (name, value) for name, value in message.get("headers", ()) if name.lower() not in OURS
                ]
                if self.h11.they_are_waiting_for_100_continue:  # nobody knows whether the body comes
                    headers.append((b"connection", b"close"))
                self.head = h11.Response(status_code=message["status"], headers=headers)
            case "http.response.body" if self.head is not None:
                bodiless = self.request.method == b"HEAD" or self.head.status_code in (204, 304)
                parts = [] if self.started else [self.head]
                if message.get("body") and not bodiless:
                    parts.append(h11.Data(data=message["body"]))
                if not message.get("more_body", False):
                    parts.append(h11.EndOfMessage())
                self.write(*parts)
                self.started = True
                if not message.get("more_body", False):
                    self.call.end(self.LOST)
                    self.call = None
                    self.next_cycle()
                    self.pump()
            case kind:
                raise RuntimeError(f"{kind} cannot be sent now")

    def next_cycle(self):
        """The answer is complete. Once the request is, too, the next one may come, or this was the last."""
        if (self.h11.our_state, self.h11.their_state) == (h11.DONE, h11.DONE):
            self.h11.start_next_cycle()
            self.started = False
        elif self.h11.their_state is not h11.SEND_BODY:
            self.transport.close()

    def on_return(self, error):
        logging.error("%r has no answer, or half of one", self.request.target, exc_info=error)
        self.refuse(500)

    def refuse(self, status):
        """Answer so, unless an answer has begun, and close."""
        if not self.started:
            self.started = True
            self.h11 = h11.Connection(h11.SERVER)  # the other one may be in its state ERROR
            headers = [("content-length", "0"), ("connection", "close")]
            self.write(h11.Response(status_code=status, headers=headers), h11.EndOfMessage())
        if self.call is not None:
            self.call.end(self.LOST, left=True)
        self.transport.close()

    def write(self, *parts):
        self.transport.write(b"".join([self.h11.send(part) for part in parts]))


OURS = (b"connection", b"transfer-encoding")  # headers that say how a message is framed, and are not ASGI's
ON_EVENT = {
    h11.Request: Connection.on_request,
    h11.Data: Connection.on_data,
    h11.EndOfMessage: Connection.on_end_of_message,
}


class Call:
    """One call of the application. What it can receive is in the inbox; what it sends is for the wire."""

    def __init__(self, wire, scope):
        self.wire, self.scope, self.inbox = wire, scope, asyncio.Queue()
        self.over = self.left = False  # nothing is owed any more; because the client has left
        self.task = asyncio.create_task(self.run())
        tasks.add(self.task)
        self.task.add_done_callback(tasks.discard)

    async def run(self):
        failure = None
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:
            failure = error
        if not self.over:
            self.wire.on_return(failure)
        elif failure is not None and not isinstance(failure, OSError):
            logging.error("raised when its client was served, or had left", exc_info=failure)

    async def receive(self):
        if not self.over:
            self.wire.on_receive()
        message = await self.inbox.get()
        if message["type"].endswith(".disconnect"):
            self.inbox.put_nowait(message)  # for whoever asks again
        return message

    async def send(self, message):
        await self.wire.writable.wait()
        if self.left:
            raise ConnectionResetError("the client has left")
        if not self.over:  # what is sent behind a complete answer is ignored
            self.wire.on_send(message)

    def end(self, message, left=False):
        if not self.over:
            self.over, self.left = True, left
            self.inbox.put_nowait(message)


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
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", arguments.port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("app", nargs="?", default="__main__:hello", help="module:attribute")
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()
sys.path.insert(0, "")  # so that modules of the folder you are in are found
app = pkgutil.resolve_name(arguments.app)
asyncio.run(main())
