"""Applications that the tests serve, in process or as `tests.applications:name`."""

import asyncio
import contextlib
import json
import time


async def hello(scope, receive, send):
    """A fixed answer to any request."""
    await respond(send, b"hello")


async def respond(send, body=b"", status=200, headers=()):
    headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive):
    body, more_body = b"", True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"the client has left"
        body, more_body = body + message["body"], message["more_body"]
    return body


async def echo(scope, receive, send):
    """The body, or each WebSocket message, comes back."""
    if scope["type"] == "http":
        body = await read_body(receive)
        with contextlib.suppress(OSError):  # left in mid-upload
            await respond(send, body)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send(dict(message, type="websocket.send"))


async def describe(scope, receive, send):
    """The scope as JSON."""
    shown = {key: repr(value) for key, value in scope.items()}
    await respond(send, json.dumps(shown).encode())


async def endless(scope, receive, send):
    """A stream that only sends, for ever; or, on WebSocket, one that is open for ever."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await asyncio.sleep(0.05)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


async def stuck(scope, receive, send):
    """Waits for ever for more than the client sends, and does not stop at the disconnect."""
    if scope["type"] == "http":
        print("is stuck", flush=True)
        while True:
            await receive()
            await asyncio.sleep(0.05)


async def swallowing(scope, receive, send):
    """Takes no cancellation for an answer."""
    if scope["type"] == "http":
        print("will not end", flush=True)
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass


async def stubborn(scope, receive, send):
    """What does not want to end, by its path: /stuck, /swallowing; an endless stream or WebSocket elsewhere."""
    app = {"/stuck": stuck, "/swallowing": swallowing}.get(scope.get("path"), endless)
    await app(scope, receive, send)


async def slow(scope, receive, send):
    """Answers after a second."""
    if scope["type"] == "http":
        print("has begun", flush=True)
        await asyncio.sleep(1)
        await respond(send, b"slow")


class Counting:
    """Counts requests that reached it and answers that it gave; prints both at shutdown, and when it is busy."""

    def __init__(self):
        self.reached = self.answered = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print(f"reached {self.reached} answered {self.answered}", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.reached += 1
        await asyncio.sleep(0)
        await respond(send, b"counted")
        self.answered += 1
        if self.answered == 200:
            print("busy", flush=True)


counting = Counting()


async def slow_startup(scope, receive, send):
    """A startup that never completes; its clean-up is visible."""
    assert scope["type"] == "lifespan"
    await receive()
    print("starting", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)


async def failing_startup(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    raise RuntimeError("no database")


async def refusing_startup(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no cache"})


async def with_lifespan(scope, receive, send):
    """Prints its startup and shutdown; answers with what it put into the state."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["greeting"] = "hello from startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await respond(send, scope["state"]["greeting"].encode())


async def failing(scope, receive, send):
    """Fails before anything of its answer has left, after one misuse that it gets over."""
    if scope["type"] != "lifespan":
        await receive()
    with contextlib.suppress(RuntimeError, KeyError):
        await send({"type": f"{scope['type']}.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.start", "status": 200})
    raise ValueError("<script>alert('no')</script>")


async def blocking(scope, receive, send):
    """Keeps the loop from turning."""
    import time

    if scope["type"] == "http":
        print("asleep", flush=True)
        time.sleep(60)


def make():
    """A factory."""
    return hello


not_callable = 42


async def sleeper(scope, receive, send):
    """Keeps the loop where it should be given back."""
    if scope["path"] == "/slow":
        time.sleep(1.6)
    await respond(send, b"awake")
