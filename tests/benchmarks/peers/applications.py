"""The applications that all servers serve: raw ASGI, one for each way to behave, no dispatch by path.

What a transfer's size is stands in the query string. None of them raises, whatever the server does.
"""

import asyncio
import json
import os
import sys
from urllib.parse import parse_qsl

BODY = b"Hello, world!"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))],
}
WHOLE = {"type": "http.response.body", "body": BODY}
EVENT = b"event: tick\ndata: %s\n\n" % (b"x" * 40)  # 60 bytes
FILE = "PEERS_FILE"  # the environment's name of the file that `file` sends
FRAMEWORK = "PEERS_FRAMEWORK"  # and of the framework that frameworks.py has
PATHSEND = "http.response.pathsend"


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def query(scope):
    """The numbers in the query string, by name."""
    return {name: int(value) for name, value in parse_qsl(scope["query_string"].decode())}


async def respond(send, body, status=200):
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- HTTP ----


async def hello(scope, receive, send):
    """The least that an application does."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await send(START)
    await send(WHOLE)


async def post(scope, receive, send):
    """The body comes back when all of it is there."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    body, more_body = b"", True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
    await respond(send, body)


async def upload(scope, receive, send):
    """How long the body was."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    size, more_body = 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more_body = message.get("more_body", False)
    await respond(send, b"%d" % size)


async def download(scope, receive, send):
    """`?size=…&block=…`: so many bytes, a message for each block; the size is a multiple of the block's."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    asked = query(scope)
    left, block = asked["size"], bytes(asked["block"])
    headers = [(b"content-length", b"%d" % left)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while left:
        left -= len(block)
        await send({"type": "http.response.body", "body": block, "more_body": left > 0})


async def file(scope, receive, send):
    """The file that the environment names, by pathsend; 501 where the server has no such extension."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if PATHSEND not in scope.get("extensions", {}):
        return await respond(send, b"no pathsend", 501)
    path = os.environ[FILE]
    headers = [(b"content-length", b"%d" % os.stat(path).st_size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": PATHSEND, "path": path})


async def sse(scope, receive, send):
    """`?count=…` events, and the other streams have their turn after each of them."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(query(scope)["count"]):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def modules(scope, receive, send):
    """How many modules the serving process has imported."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await respond(send, json.dumps({"modules": len(sys.modules)}).encode())


# ---- WebSocket ----


async def ws_echo(scope, receive, send):
    """Each message comes back."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


room = set()  # send() of each receiver


async def ws_broadcast(scope, receive, send):
    """What a client of /send sends goes to all clients of /join."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    await receive()
    joins = scope["path"] == "/join"
    if joins:
        room.add(send)
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        for each in list(room):
            await each({**message, "type": "websocket.send"})
    room.discard(send)
