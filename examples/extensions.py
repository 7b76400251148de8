"""Extensions of ASGI: files copied by the kernel, early hints and trailers; and what to do without them.

miniasgi serve examples/extensions.py:app
curl -i http://127.0.0.1:8000/                       # early hints, then a page
curl http://127.0.0.1:8000/source                    # this file, by its path
curl -H 'Range: bytes=0-19' http://127.0.0.1:8000/part
curl -s -D - -H 'TE: trailers' http://127.0.0.1:8000/sum
"""

import hashlib
import os

FILE = os.path.abspath(__file__)
SIZE = os.path.getsize(FILE)
CSS = b"body { font-family: sans-serif; margin: 3rem auto; max-width: 30rem }"
PAGE = b"""<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Extensions</title><link rel="stylesheet" href="/style.css">
<h1>Extensions</h1><p>The style sheet was named before this page was made.</p>
"""


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(f"no {scope['type']} here")
    await PATHS.get(scope["path"], missing)(scope, send)


async def page(scope, send):
    """An early hint: the browser may fetch the style sheet while the page is still being made."""
    if "http.response.early_hint" in scope["extensions"]:
        links = [b"</style.css>; rel=preload; as=style"]
        await send({"type": "http.response.early_hint", "links": links})
    await respond(send, PAGE, b"text/html; charset=utf-8")


async def style(scope, send):
    await respond(send, CSS, b"text/css")


async def source(scope, send):
    """A whole file, by its path."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % SIZE),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if "http.response.pathsend" in scope["extensions"]:
        await send({"type": "http.response.pathsend", "path": FILE})
    else:
        with open(FILE, "rb") as file:
            await send({"type": "http.response.body", "body": file.read()})


async def part(scope, send):
    """The first 20 bytes of an open file."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"20")]
    await send({"type": "http.response.start", "status": 206, "headers": headers})
    with open(FILE, "rb") as file:
        if "http.response.zerocopysend" in scope["extensions"]:
            await send({"type": "http.response.zerocopysend", "file": file, "offset": 0, "count": 20})
        else:
            await send({"type": "http.response.body", "body": file.read(20)})


async def checksum(scope, send):
    """A body whose checksum is known only at its end, so it stands behind it, as a trailer."""
    trailers = "http.response.trailers" in scope["extensions"]  # where the client takes them
    headers = [(b"content-type", b"text/plain"), (b"trailer", b"x-sha256")] if trailers else []
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": trailers})
    digest = hashlib.sha256()
    for number in range(5):
        line = b"line %d\n" % number
        digest.update(line)
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body"})
    if trailers:
        headers = [(b"x-sha256", digest.hexdigest().encode())]
        await send({"type": "http.response.trailers", "headers": headers})


async def missing(scope, send):
    await respond(send, b"Not found\n", b"text/plain", status=404)


async def respond(send, body, content_type, status=200):
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


PATHS = {"/": page, "/style.css": style, "/source": source, "/part": part, "/sum": checksum}
