"""Step 1: bytes. A TCP server that sends back what it is sent.

New: a loop that waits for all sockets at once, and tells the object of each what happens there.
Missing: any meaning. A piece of bytes is what the network made of them: half a word, or two.
Wrong: who sends without reading fills our memory, for as long as he likes; Ctrl+C ends it with a
traceback.

    curl --silent --http0.9 --max-time 1 http://127.0.0.1:8000/hi

prints what curl itself sends, since just that comes back: GET /hi HTTP/1.1, and headers. It waits for
more until its second is over.
In miniasgi: `connection.py`, Arrival.connection_made.
"""

import argparse
import asyncio


class Connection(asyncio.Protocol):
    """One client. The loop makes it, and calls its methods as things happen to the socket."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def main():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", arguments.port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()
asyncio.run(main())
