"""Step 6: lifespan. The application starts before the first client, and stops after the last one.

New: startup, shutdown, and the state between them. SIGTERM and Ctrl+C end the listening; idle
connections are closed, requests are answered, WebSockets closed with 1012; what takes more than 10
seconds is cancelled.
Missing: every other time limit; a second signal does not hurry. TLS, files, an access log. Read miniasgi
for these.
Wrong: an application that raises during its startup is served without one, as if it had none.

    python -c "import os, signal; os.kill(PID, signal.SIGTERM)"

with the number that `pgrep -f step6` prints, ends it with exit code 0.
In miniasgi: `lifespan.py`, Lifespan.startup and Lifespan.shutdown; `server.py`, Server.__aexit__.
"""

import argparse
import asyncio
import logging
import pkgutil
import signal
import sys
from urllib.parse import unquote

import h11
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState

ENOUGH = 4  # messages that may wait for the application; after that, the client has to
tasks = set()  # calls under way; a loop keeps no task alive
connections = set()  # open ones
state = {}  # what the application's startup puts here, each request is given


class Connection(asyncio.Protocol):
    """One client. The loop makes it, and calls its methods as things happen to the socket."""

    stopping = False  # all of them: no next request
    LOST = {"type": "http.disconnect"}

    def connection_made(self, transport):
        self.transport = transport
        self.writable = asyncio.Event()  # the client takes what it is sent
        self.writable.set()
        self.h11 = h11.Connection(h11.SERVER)
        self.call = None  # of the application, until the answer is complete
        self.started = False  # some of the answer was written
        self.closed = asyncio.get_running_loop().create_future()
        connections.add(self)

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
        connections.discard(self)
        self.closed.set_result(None)

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
                if self.transport.get_protocol() is not self:  # this is a WebSocket now
                    return
            self.transport.pause_reading()
        except h11.RemoteProtocolError as error:
            self.refuse(error.error_status_hint)

    def on_request(self, request):
        if not request.target.startswith(b"/"):
            raise h11.RemoteProtocolError("no other form of a target is for us (RFC 9112 section 3.2)")
        self.request, self.head = request, None
        if is_websocket(request):
            WebSocket(self)
            return
        self.call = Call(self, self.scope("http") | {"method": request.method.decode()})

    def scope(self, kind, scheme="http"):
        path, _, query = self.request.target.partition(b"?")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": self.request.http_version.decode(),
            "scheme": scheme,
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self.request.headers),
            "client": self.transport.get_extra_info("peername"),
            "server": self.transport.get_extra_info("sockname"),
            "state": state.copy(),
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
                if self.stopping or self.h11.they_are_waiting_for_100_continue:  # will the body come?
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
        if (self.h11.our_state, self.h11.their_state) == (h11.DONE, h11.DONE) and not self.stopping:
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

    def stop(self):
        if self.call is None:
            self.transport.close()

    def write(self, *parts):
        self.transport.write(b"".join([self.h11.send(part) for part in parts]))


OURS = (b"connection", b"transfer-encoding")  # headers that say how a message is framed, and are not ASGI's
ON_EVENT = {
    h11.Request: Connection.on_request,
    h11.Data: Connection.on_data,
    h11.EndOfMessage: Connection.on_end_of_message,
}


def is_websocket(request):
    fields = dict(request.headers)
    right = request.method == b"GET" and request.http_version == b"1.1" and not fields.keys() & BODY
    return right and fields.get(b"upgrade", b"").lower() == b"websocket"


BODY = {b"content-length", b"transfer-encoding"}  # a handshake has none; an Upgrade may be ignored


class WebSocket(Connection):
    """A WebSocket, on the transport of the HTTP connection that becomes it. wsproto knows the frames."""

    LOST = {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    def __init__(self, http):
        self.transport, self.writable, self.call, self.parts = http.transport, http.writable, None, []
        self.closed = http.closed
        connections.discard(http)
        connections.add(self)
        self.transport.set_protocol(self)
        self.wsproto = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        try:
            self.wsproto.initiate_upgrade_connection(list(http.request.headers), http.request.target)
        except (wsproto.utilities.RemoteProtocolError, UnicodeError) as error:
            self.write(getattr(error, "event_hint", events.RejectConnection()))
            self.transport.close()
            return
        [request] = self.wsproto.events()
        self.call = Call(self, http.scope("websocket", "ws") | {"subprotocols": request.subprotocols})
        self.call.inbox.put_nowait({"type": "websocket.connect"})
        if http.h11.trailing_data[0]:
            self.transport.abort()

    def data_received(self, data):
        if self.wsproto.state is ConnectionState.CONNECTING:  # who has no answer yet has to wait
            self.transport.abort()
        else:
            self.wsproto.receive_data(data)
            self.pump()

    def resume_writing(self):
        super().resume_writing()
        self.pump()

    def pump(self):
        for event in self.wsproto.events():
            self.on_event(event)
            full = self.call.inbox.qsize() >= ENOUGH and not self.call.over
            if full or not self.writable.is_set():  # pongs pile up, too
                self.transport.pause_reading()
                return
        self.transport.resume_reading()

    def on_event(self, event):
        match event:
            case events.Message() if not self.call.over:
                self.parts.append(event.data)
                if event.message_finished:
                    is_text = isinstance(event, events.TextMessage)
                    key, data = ("text", "".join(self.parts)) if is_text else ("bytes", b"".join(self.parts))
                    self.call.inbox.put_nowait({"type": "websocket.receive", key: data})
                    self.parts.clear()
            case events.Ping() if self.wsproto.state is ConnectionState.OPEN:
                self.write(event.response())
            case events.CloseConnection(code=code, reason=reason):
                if self.wsproto.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
                    self.write(event.response())
                self.call.end(self.LOST | {"code": int(code), "reason": reason or ""}, left=True)
                self.transport.close()

    def on_receive(self):
        self.pump()

    def on_send(self, message):
        opened = self.wsproto.state is ConnectionState.OPEN
        match message["type"]:
            case "websocket.accept" if not opened:
                subprotocol, headers = message.get("subprotocol"), list(message.get("headers", ()))
                self.write(events.AcceptConnection(subprotocol=subprotocol, extra_headers=headers))
            case "websocket.close" if not opened:
                self.reject(403)
            case "websocket.send" if opened and message.get("text") is not None:
                self.write(events.TextMessage(message["text"]))
            case "websocket.send" if opened:
                self.write(events.BytesMessage(message["bytes"]))
            case "websocket.close":
                self.close(message.get("code", 1000), message.get("reason") or "")
            case kind:
                raise RuntimeError(f"{kind} cannot be sent now")

    def on_return(self, error):
        if error is not None:
            logging.error("a WebSocket's application raised", exc_info=error)
        if self.wsproto.state is ConnectionState.OPEN:
            self.close(1000 if error is None else 1011)
        else:
            self.reject(500)

    def reject(self, status):
        self.write(events.RejectConnection(status_code=status, headers=[(b"connection", b"close")]))
        self.call.end(self.LOST, left=True)
        self.transport.close()

    def close(self, code, reason=""):
        """Say so; the client's own close frame, as its answer, ends the connection."""
        self.write(events.CloseConnection(code, reason))
        self.call.end(self.LOST | {"code": code, "reason": reason}, left=True)
        self.pump()

    def stop(self):
        if self.wsproto.state is ConnectionState.OPEN:
            self.close(1012)

    def write(self, event):
        self.transport.write(self.wsproto.send(event))


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


class Lifespan:
    """The wire below the application's startup and shutdown."""

    def __init__(self):
        self.writable = asyncio.Event()
        self.writable.set()
        asgi = {"version": "3.0", "spec_version": "2.0"}
        self.call = Call(self, {"type": "lifespan", "asgi": asgi, "state": state})

    async def ask(self, half):
        """Return when the application has done it, or takes no part. Exits where it says that it failed."""
        if not self.call.over:
            self.half, self.answer = half, asyncio.get_running_loop().create_future()
            self.call.inbox.put_nowait({"type": f"lifespan.{half}"})
            message = await self.answer
            if message["type"].endswith(".failed"):
                sys.exit(f"The {half} failed: {message.get('message', '')}")

    def on_receive(self):
        """Nobody has to be told."""

    def on_send(self, message):
        expected = (f"lifespan.{self.half}.complete", f"lifespan.{self.half}.failed")
        if message["type"] not in expected or self.answer.done():
            raise RuntimeError(f"{message['type']} cannot be sent now")
        self.answer.set_result(message)

    def on_return(self, error):
        self.call.over = True
        if not self.answer.done():
            logging.warning("Served without a %s: the application left with %r", self.half, error)
            self.answer.set_result({"type": f"lifespan.{self.half}.complete"})


async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        for half in ("startup", "shutdown"):
            await receive()
            print(half, flush=True, file=sys.stderr)
            await send({"type": f"lifespan.{half}.complete"})
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": f"You said {message.get('text')}"})
        return
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
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    lifespan = Lifespan()
    await lifespan.ask("startup")
    server = await loop.create_server(Connection, "127.0.0.1", arguments.port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await asked.wait()
    server.close()
    Connection.stopping = True
    for connection in list(connections):
        connection.stop()
    open_ones = {connection.closed for connection in connections} | tasks - {lifespan.call.task}
    if open_ones:
        await asyncio.wait(open_ones, timeout=10)
    for task in tasks - {lifespan.call.task}:
        task.cancel()
    await lifespan.ask("shutdown")


parser = argparse.ArgumentParser()
parser.add_argument("app", nargs="?", default="__main__:hello", help="module:attribute")
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()
sys.path.insert(0, "")  # so that modules of the folder you are in are found
app = pkgutil.resolve_name(arguments.app)
asyncio.run(main())
