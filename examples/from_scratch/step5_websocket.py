"""Step 5: WebSocket. A request that asks for one becomes one, on the same connection.

New: wsproto knows the handshake and the frames, as h11 does HTTP; its wire is the connection of step 4.
Missing: compression, denial responses, limits of size, pings of our own. Time limits.
Wrong: a ping is answered, and a close frame seen, only while the application receives.

    python examples/from_scratch/step5_websocket.py examples.chat:app

Open the page in two windows.
In miniasgi: `protocol/websocket.py`, ON_EVENT and WebSocketExchange.SEND; `protocol/http1.py`,
Http1Connection.upgrade.
"""

import asyncio

import wsproto
from step4_keep_alive import Connection, Left, main
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.utilities import RemoteProtocolError


class UpgradableConnection(Connection):
    """A connection whose requests may ask for a WebSocket."""

    websocket = None  # that it has become

    async def run(self, request):
        fields = dict(request.headers)
        if fields.get(b"upgrade", b"").lower() == b"websocket" and request.method == b"GET":
            self.request, self.websocket = request, WebSocket(self)
            await self.websocket.run()
        else:
            await super().run(request)

    async def next_request(self):
        return None if self.websocket else await super().next_request()

    async def refuse(self, status):
        if self.websocket is None:  # it has said so itself
            await super().refuse(status)


class WebSocket:
    """One WebSocket, on the connection that its handshake came on."""

    def __init__(self, connection):
        self.connection = connection
        self.parts = []  # of the message under way
        self.closed = None  # the last message for the application
        self.connects = True  # the first one is still to come
        self.wsproto = wsproto.WSConnection(wsproto.ConnectionType.SERVER)

    async def run(self):
        request = self.connection.request
        try:
            self.wsproto.initiate_upgrade_connection(list(request.headers), request.target)
            if self.connection.h11.trailing_data[0]:
                raise RemoteProtocolError("a frame before the answer")
        except (RemoteProtocolError, UnicodeError) as error:
            await self.write(getattr(error, "event_hint", None) or events.RejectConnection(status_code=400))
            return
        [handshake] = self.wsproto.events()
        scope = self.connection.scope("websocket", "ws") | {"subprotocols": handshake.subprotocols}
        code = 1011
        try:
            await self.connection.app(scope, self.receive, self.send)
            code = 1000
        finally:
            if self.wsproto.state is ConnectionState.CONNECTING:
                await self.write(events.RejectConnection(status_code=500))
            elif self.wsproto.state is ConnectionState.OPEN:
                await self.write(events.CloseConnection(code))

    async def write(self, event):
        self.connection.writer.write(self.wsproto.send(event))
        try:
            await self.connection.writer.drain()
        except ConnectionError as error:
            raise Left from error

    async def receive(self):
        if self.connects:
            self.connects = False
            return {"type": "websocket.connect"}
        while self.closed is None:
            await self.on_event(next(self.wsproto.events(), None))
            if self.parts and self.parts[-1].message_finished:
                key = "text" if isinstance(self.parts[0], events.TextMessage) else "bytes"
                data = ("" if key == "text" else b"").join([part.data for part in self.parts])
                self.parts.clear()
                return {"type": "websocket.receive", key: data}
        return self.closed

    async def on_event(self, event):
        match event:
            case None:  # wsproto needs more bytes
                try:
                    data = await self.connection.reader.read(65536)
                except ConnectionError:
                    data = b""
                if data:
                    self.wsproto.receive_data(data)
                else:
                    self.disconnect(1006)
            case events.Message():
                self.parts.append(event)
            case events.Ping():
                await self.write(event.response())
            case events.CloseConnection():
                if self.wsproto.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
                    await self.write(event.response())
                self.disconnect(event.code, event.reason)

    def disconnect(self, code, reason=""):
        self.closed = {"type": "websocket.disconnect", "code": int(code), "reason": reason or ""}

    async def send(self, message):
        opened = self.wsproto.state is ConnectionState.OPEN
        match message["type"]:
            case _ if self.closed or self.wsproto.state not in (
                ConnectionState.CONNECTING,
                ConnectionState.OPEN,
            ):
                raise Left
            case "websocket.accept" if not opened:
                headers = list(message.get("headers", ()))
                subprotocol = message.get("subprotocol")
                await self.write(events.AcceptConnection(subprotocol=subprotocol, extra_headers=headers))
            case "websocket.close" if not opened:
                await self.write(events.RejectConnection(status_code=403))
                self.disconnect(1006)
            case "websocket.send" if message.get("text") is not None:
                await self.write(events.TextMessage(message["text"]))
            case "websocket.send":
                await self.write(events.BytesMessage(message["bytes"]))
            case "websocket.close":
                reason = message.get("reason") or ""
                await self.write(events.CloseConnection(message.get("code", 1000), reason))
            case kind:
                raise RuntimeError(f"{kind} cannot be sent now")


if __name__ == "__main__":
    asyncio.run(main(UpgradableConnection))
