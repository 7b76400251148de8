"""Step 1: bytes. A loop reads them from a socket, and writes them to it; whatever comes is sent back.

Missing: any protocol, so nothing here knows where a message ends. Time limits.

    curl telnet://127.0.0.1:8000

sends back each line that you type. In miniasgi: `connection.py`, Connection, which the loop calls back in place
of being awaited: that is faster, and the reason why the rest of it looks other than here.
"""

import asyncio
import sys


async def echo(reader, writer):
    """One client, from its first byte to its last one."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()  # until it has taken enough of what it is sent
    except ConnectionError:
        """The client has left."""
    finally:
        writer.close()


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    print("tcp://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main())
