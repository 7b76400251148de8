"""Step 2: h11. Bytes become events of HTTP, and events become bytes.

New: h11 reads and writes HTTP. What arrives is given to it, and it is asked for events until it needs
more bytes: how the network has cut them does not matter any more. What breaks the rules is 400.
Missing: an application: the answer is always the same. One request a connection. Time limits. A Date
header.
Wrong: to close with something unread, as behind a 400, may reset the connection before the answer is
read.

    curl --include http://127.0.0.1:8000/hi

prints HTTP/1.1 200, content-length: 17, connection: close, and: You sent GET /hi
In miniasgi: `http1.py`, Http1Connection.pump and ON_EVENT.
"""

import argparse
import asyncio

import h11


class Connection(asyncio.Protocol):
    """One client. The loop makes it, and calls its methods as things happen to the socket."""

    def connection_made(self, transport):
        self.transport = transport
        self.h11 = h11.Connection(h11.SERVER)
        self.started = False  # some of the answer was written

    def data_received(self, data):
        self.h11.receive_data(data)
        self.pump()

    def pump(self):
        """Take what h11 makes of the bytes, until it needs more of them."""
        try:
            while (event := self.h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                ON_EVENT[type(event)](self, event)
        except h11.RemoteProtocolError as error:
            self.refuse(error.error_status_hint)

    def on_request(self, request):
        self.request = request
        if self.h11.they_are_waiting_for_100_continue:
            self.write(h11.InformationalResponse(status_code=100, headers=[]))

    def on_data(self, event):
        """Nobody asks for it."""

    def on_end_of_message(self, event):
        body = b"You sent %s %s\n" % (self.request.method, self.request.target)
        headers = [("content-length", str(len(body))), ("connection", "close")]
        self.write(h11.Response(status_code=200, headers=headers))
        if self.request.method != b"HEAD":
            self.write(h11.Data(data=body))
        self.write(h11.EndOfMessage())
        self.started = True
        self.transport.close()

    def refuse(self, status):
        """Answer so, unless an answer has begun, and close."""
        if not self.started:
            self.started = True
            self.h11 = h11.Connection(h11.SERVER)  # the other one may be in its state ERROR
            headers = [("content-length", "0"), ("connection", "close")]
            self.write(h11.Response(status_code=status, headers=headers), h11.EndOfMessage())
        self.transport.close()

    def write(self, *parts):
        self.transport.write(b"".join([self.h11.send(part) for part in parts]))


ON_EVENT = {
    h11.Request: Connection.on_request,
    h11.Data: Connection.on_data,
    h11.EndOfMessage: Connection.on_end_of_message,
}


async def main():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", arguments.port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()
asyncio.run(main())
