"""The application that the benchmarks and the soak serve, as `tests.benchmarks.applications:app`.

One application for all of them, and for other servers too: its path says how it behaves. It raises nothing on
purpose, so a traceback in the server's log is a fault. What has no end by itself waits for `GET /release`: an
application that receives nothing cannot know that its client has left.
"""

import asyncio
import ctypes
import gc
import json
import os
import sys
import tracemalloc
from urllib.parse import parse_qsl


class Counts:
    """What the application has done so far, for `GET /status`."""

    def __init__(self):
        self.calls = 0  # of the application, under way
        self.sent = 0  # bytes that send() has taken of downloads
        self.received = 0  # bytes that receive() has given of uploads
        self.release = asyncio.Event()  # set by GET /release for whoever waits then


counts = Counts()
LIBC = ctypes.CDLL(None)
PAUSE = 0.02  # between two events of a stream
SNAPSHOTS = []  # the first one that tracemalloc took


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    counts.calls += 1
    try:
        otherwise = missing if scope["type"] == "http" else ws_deny
        behave = PATHS[scope["type"]].get(scope["path"], otherwise)
        await behave(dict(parse_qsl(scope["query_string"].decode())), receive, send)
    except OSError:  # the client has left: send() says so
        pass
    finally:
        counts.calls -= 1


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


# ---- HTTP ----


async def respond(send, body, status=200, content_type=b"text/plain"):
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def missing(query, receive, send):
    await respond(send, b"no such path", 404)


async def hello(query, receive, send):
    await respond(send, b"hello")


async def echo(query, receive, send):
    """The body of the request comes back, chunked, as it came."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        counts.received += len(message["body"])
        more_body = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more_body})


async def length(query, receive, send):
    """How long the body of the request was."""
    size, more_body = 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        counts.received += len(message["body"])
        more_body = message["more_body"]
    await respond(send, b"%d" % size)


async def download(query, receive, send):
    """`total` bytes in pieces of `piece`, with a content-length if `length` is 1."""
    total, piece = int(query.get("total", "1000")), bytes(int(query.get("piece", "65536")))
    headers = [(b"content-length", b"%d" % total)] if query.get("length") == "1" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while total > 0:
        body = piece if len(piece) <= total else piece[:total]
        total -= len(body)
        await send({"type": "http.response.body", "body": body, "more_body": total > 0})
        counts.sent += len(body)


async def events(query, receive, send):
    """An event stream without an end."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await asyncio.sleep(PAUSE)


async def wait(query, receive, send):
    """Receives nothing and sends nothing, until it is released."""
    await counts.release.wait()
    await respond(send, b"released")


async def release(query, receive, send):
    released, counts.release = counts.release, asyncio.Event()
    released.set()
    await respond(send, b"released")


async def status(query, receive, send):
    """The process as it sees itself; with `collect=1` after a collection of garbage.

    With `trim=1` what is free goes back to the system: how much malloc keeps is a matter of chance.
    """
    await asyncio.sleep(0)  # the task that accepted who asks this may still be about to end
    if query.get("collect") == "1":
        gc.collect()
    if query.get("trim") == "1" and hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    told = {
        "pid": os.getpid(),
        "tasks": len(asyncio.all_tasks()) - 1,  # without this one
        "calls": counts.calls - 1,
        "objects": len(gc.get_objects()) if "collect" in query else 0,
        "blocks": sys.getallocatedblocks(),
        "sent": counts.sent,
        "received": counts.received,
    }
    await respond(send, json.dumps(told).encode(), content_type=b"application/json")


async def allocations(query, receive, send):
    """What tracemalloc (PYTHONTRACEMALLOC=10) has seen grow since this was asked first, largest first."""
    gc.collect()
    lines = ["tracemalloc is not on: set PYTHONTRACEMALLOC=10"]
    if tracemalloc.is_tracing():
        snapshot = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(False, tracemalloc.__file__)]
        )
        SNAPSHOTS[:] = SNAPSHOTS[:1] or [snapshot]
        grown = snapshot.compare_to(SNAPSHOTS[0], "traceback")
        lines = [
            f"{each.size_diff:+} bytes in {each.count_diff:+} blocks\n" + "\n".join(each.traceback.format())
            for each in grown[:15]
        ]
    await respond(send, "\n".join(lines).encode())


# ---- WebSocket ----


async def accept(receive, send):
    await receive()
    await send({"type": "websocket.accept"})


async def ws_echo(query, receive, send):
    """Each message comes back."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def ws_download(query, receive, send):
    """`total` bytes in messages of `piece`, and then the close."""
    total, piece = int(query.get("total", "1000")), bytes(int(query.get("piece", "65536")))
    await accept(receive, send)
    while total > 0:
        await send({"type": "websocket.send", "bytes": piece})
        total -= len(piece)
        counts.sent += len(piece)
    await send({"type": "websocket.close"})


async def ws_wait(query, receive, send):
    """Accepts, and receives nothing until it is released."""
    await accept(receive, send)
    await counts.release.wait()


async def ws_close(query, receive, send):
    """Closes with `code` after the first message."""
    await accept(receive, send)
    await receive()
    await send({"type": "websocket.close", "code": int(query.get("code", "1000")), "reason": "asked for"})


async def ws_deny(query, receive, send):
    await receive()
    await send({"type": "websocket.close"})


PATHS = {
    "http": {
        "/": hello,
        "/echo": echo,
        "/length": length,
        "/download": download,
        "/events": events,
        "/wait": wait,
        "/release": release,
        "/status": status,
        "/allocations": allocations,
    },
    "websocket": {
        "/echo": ws_echo,
        "/download": ws_download,
        "/wait": ws_wait,
        "/close": ws_close,
    },
}
