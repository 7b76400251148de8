"""Step 6: a start and an end. The application starts before the first client, and shuts down after the last.

New: Lifespan. On Ctrl+C or SIGTERM nobody new is let in, who is idle is let go, WebSockets are closed with
1012, and requests have ten seconds to end.
Missing: time limits for clients and for the application. TLS. All that miniasgi is about besides.

    python examples/from_scratch/step6_lifespan.py examples.chat:app

Press Ctrl+C while the page is open in two windows.
In miniasgi: `lifespan.py`, Lifespan; `server.py`, Server.__aenter__ and __aexit__; `process.py`, Signals.
"""

import asyncio
import logging
import pkgutil
import signal
import sys

from step5_websocket import UpgradableConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

GRACE = 10.0  # seconds that requests have to end
connections = set()
state = {}  # what the application puts into its lifespan's, of which each request has a copy
stopping = asyncio.Event()


class StoppableConnection(UpgradableConnection):
    """A connection that ends when the server stops: at once, or behind the answer that is owed."""

    async def serve(self):
        self.task, self.idle = asyncio.current_task(), False
        connections.add(self)
        try:
            await super().serve()
        finally:
            connections.discard(self)

    async def next_request(self):
        if stopping.is_set():
            return None
        self.idle = True
        try:
            return await super().next_request()
        except asyncio.CancelledError:  # by stop()
            return None
        finally:
            self.idle = False

    def scope(self, kind, scheme):
        return super().scope(kind, scheme) | {"state": state.copy()}

    @property
    def is_last(self):
        return stopping.is_set() or super().is_last

    async def stop(self):
        if self.idle:
            self.task.cancel()
        elif self.websocket and self.websocket.wsproto.state is ConnectionState.OPEN:
            await self.websocket.write(CloseConnection(1012))


class Lifespan:
    """The application's startup and shutdown: one more call of it, which lasts as long as the server."""

    def __init__(self, app):
        self.app = app
        self.told, self.answers = asyncio.Queue(), asyncio.Queue()
        self.task = asyncio.create_task(self.run())

    async def run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        try:
            await self.app(scope, self.told.get, self.answers.put)
        except Exception as error:
            logging.warning("the application's lifespan ended with %r", error)
        self.answers.put_nowait({"type": "the end"})

    async def ask(self, half):
        """Return when the application has done it, or takes no part. Exits where it says that it failed."""
        if not self.task.done():
            self.told.put_nowait({"type": f"lifespan.{half}"})
            answer = await self.answers.get()
            if answer["type"] == f"lifespan.{half}.failed":
                sys.exit(f"The {half} failed: {answer.get('message', '')}")


async def main():
    sys.path.insert(0, "")  # so that modules of the folder you are in are found
    app, port = pkgutil.resolve_name(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    lifespan = Lifespan(app)
    await lifespan.ask("startup")
    server = await asyncio.start_server(
        lambda *both: StoppableConnection(app, *both).serve(), "127.0.0.1", port
    )
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await stopping.wait()
    server.close()
    for connection in list(connections):
        await connection.stop()
    if connections:
        await asyncio.wait([connection.task for connection in connections], timeout=GRACE)
    for connection in connections:
        logging.error("cancelled after %g s: %r", GRACE, connection.request.target)
        connection.task.cancel()
    await lifespan.ask("shutdown")


if __name__ == "__main__":
    asyncio.run(main())
