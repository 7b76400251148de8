"""Step 2: h11 makes events of the bytes, and bytes of the events. It knows HTTP, and knows no sockets.

New: Connection, which gives h11 what comes and asks it for the next event; a client that breaks the rules of
HTTP is told so.
Missing: an application. More than one request a connection. Time limits.
Wrong: the body of a request is not read, and who is still sending it may miss the answer.

    python examples/from_scratch/step2_h11.py
    curl http://127.0.0.1:8000/hi

prints GET /hi.
In miniasgi: `protocol/http1.py`, Http1Connection.next_event and ON_EVENT.
"""

import asyncio
import sys
from contextlib import suppress

import h11


class Connection:
    """One client: its bytes are read and written here, and h11 says what they mean."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.h11 = h11.Connection(h11.SERVER)

    async def next_event(self):
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            self.h11.receive_data(await self.reader.read(65536))
        return event

    async def write(self, *events):
        self.writer.write(b"".join([self.h11.send(event) for event in events]))
        await self.writer.drain()

    async def serve(self):
        try:
            request = await self.next_event()
            if isinstance(request, h11.Request):  # and not the end of a connection that asked for nothing
                await self.answer(
                    200, request.method + b" " + request.target + b"\n", request.method == b"HEAD"
                )
        except h11.RemoteProtocolError as error:
            await self.answer(error.error_status_hint, b"this is not HTTP\n")
        except ConnectionError:
            """The client has left."""
        finally:
            self.writer.close()

    async def answer(self, status, body, bodiless=False):
        headers = [("content-length", str(len(body))), ("connection", "close")]
        with suppress(ConnectionError):
            head = h11.Response(status_code=status, headers=headers)
            await self.write(head, h11.Data(data=b"" if bodiless else body), h11.EndOfMessage())


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = await asyncio.start_server(lambda *both: Connection(*both).serve(), "127.0.0.1", port)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main())
