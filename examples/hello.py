"""The smallest ASGI application: every request is answered with one line.

Run it with `miniasgi serve examples/hello.py:app`.
"""


async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = b"Hello from miniasgi\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
