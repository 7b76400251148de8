"""What is served in the tests of `miniasgi.testing`."""

import asyncio
import time

from tests.applications import respond


async def hello(scope, receive, send):
    """Answers; without lifespan."""
    assert scope["type"] == "http"
    await respond(send, b"ok")


async def failing(scope, receive, send):
    """Raises by its path: the name of an exception."""
    assert scope["type"] == "http"
    name = scope["path"].strip("/")
    if name:
        raise {"ValueError": ValueError, "KeyError": KeyError, "SystemExit": SystemExit}[name]("as asked")
    await respond(send, b"ok")


async def stuck(scope, receive, send):
    """Never ends, in the way that its path names."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:  # in spite of the disconnect
            await receive()
            await asyncio.sleep(0)
    assert scope["type"] == "http"
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await asyncio.sleep(0.01)
    if scope["path"] == "/blocked":
        time.sleep(60)
    while True:
        await receive()
        await asyncio.sleep(0)


def with_lifespan(startup=None, shutdown=None, app=hello):
    """An application whose startup and shutdown call these functions; its state has the key "started"."""

    async def application(scope, receive, send):
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        if startup is not None:
            startup()
        scope["state"]["started"] = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if shutdown is not None:
            shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    return application
