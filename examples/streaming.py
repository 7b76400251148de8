"""Three ways to stream, in plain ASGI: an upload echoed as it comes, server-sent events, long polling.

Run it with `miniasgi serve examples/streaming.py:app`, then try in another terminal

    curl -N http://127.0.0.1:8000/events
    curl -T README.md http://127.0.0.1:8000/echo
    curl http://127.0.0.1:8000/poll             (waits, until in a third terminal somebody tells:)
    curl -d news http://127.0.0.1:8000/tell
"""

import asyncio

waiting: set[asyncio.Future[bytes]] = set()


async def app(scope, receive, send):
    if scope["type"] == "http":
        await ROUTES.get(scope["path"], not_found)(scope, receive, send)


async def echo(scope, receive, send):
    """Send back each part of the upload as soon as it is there: none of it is collected."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more_body = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more_body})


async def events(scope, receive, send):
    """One event a second, until the client leaves: then send() raises an OSError, which ends the stream."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    number = 0
    while True:
        event = b"id: %d\ndata: event number %d\n\n" % (number, number)
        await send({"type": "http.response.body", "body": event, "more_body": True})
        number += 1
        await asyncio.sleep(1)


async def poll(scope, receive, send):
    """Answer when there is something to tell, or give up when the client does."""
    news = asyncio.get_running_loop().create_future()
    waiting.add(news)
    left = asyncio.ensure_future(until_disconnect(receive))
    try:
        await asyncio.wait((news, left), return_when=asyncio.FIRST_COMPLETED)
        if news.done():
            await respond(send, 200, news.result())
    finally:
        waiting.discard(news)
        left.cancel()


async def tell(scope, receive, send):
    """Give the body to everybody who polls."""
    body, more_body = b"", True
    while more_body:
        message = await receive()
        body, more_body = body + message.get("body", b""), message.get("more_body", False)
    told = [news for news in waiting if not news.done()]
    for news in told:
        news.set_result(body)
    await respond(send, 200, b"told %d\n" % len(told))


async def not_found(scope, receive, send):
    await respond(send, 404, b"There are /echo, /events, /poll and /tell\n")


async def until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(send, status, body):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


ROUTES = {"/echo": echo, "/events": events, "/poll": poll, "/tell": tell}
