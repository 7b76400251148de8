"""Step 1: bytes. A loop reads them from a socket and writes them to it: whatever comes is sent back.

Missing: any protocol, so nothing here knows where a message ends. Time limits.

    python examples/from_scratch/step1_bytes.py
    curl telnet://127.0.0.1:8000

sends back each line that you type.
In miniasgi: `protocol/connection.py`, Connection. The loop calls its methods, and nothing in it awaits: it is
faster so, and looks other than these steps.
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
