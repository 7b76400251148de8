"""The inspector's ASGI application: the page, its export, and a WebSocket of records.

Whoever sees the page sees what passes, secrets of the application's included: so it is shown to who has the
token that the terminal has printed, and the WebSocket only to a page of ours (RFC 6455 section 10.2).
"""

import asyncio
import secrets
from contextlib import suppress
from urllib.parse import parse_qs

from ..asgi import ClientDisconnected, Receive, Scope, Send
from .kept import Kept
from .page import as_html

# How many records a message has at the most.
TOGETHER = 500
# The page has its script and its style inside, talks to its server, and to nobody else.
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),  # the address has the token in it
    (b"x-content-type-options", b"nosniff"),
]


class Inspector:
    """The application. Made by `serving`; `head` is the line that stands before all records."""

    def __init__(self, kept: Kept, head: str, token: str) -> None:
        self.kept = kept
        self.head = head
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        allowed = self.knows(query) and is_here(scope)
        if scope["type"] == "websocket":
            if allowed and scope["path"] == "/records" and is_same_origin(scope):
                await self.tell_records(receive, send)
            else:
                await send({"type": "websocket.close"})
        elif not allowed:
            text = "The address of this page has a token in it: open it as `miniasgi serve` has printed it.\n"
            await answer(send, 403, b"text/plain; charset=utf-8", text)
        elif scope["path"] == "/":
            await answer(send, 200, b"text/html; charset=utf-8", as_html())
        elif scope["path"] == "/export.html":
            await self.export(query, send)
        else:
            await answer(send, 404, b"text/plain; charset=utf-8", "There is no such page.\n")

    def knows(self, query: dict[str, list[str]]) -> bool:
        given = query.get("token", [""])[0]
        return secrets.compare_digest(given.encode(), self.token.encode())

    async def export(self, query: dict[str, list[str]], send: Send) -> None:
        number = query.get("exchange", [""])[0]
        exchange = int(number) if number.isdecimal() else None
        name = "trace.html" if exchange is None else f"exchange-{exchange}.html"
        disposition = (b"content-disposition", b'attachment; filename="%s"' % name.encode())
        page = await asyncio.to_thread(as_html, [self.head, *self.kept.of(exchange)])
        await answer(send, 200, b"text/html; charset=utf-8", page, disposition)

    async def tell_records(self, receive: Receive, send: Send) -> None:
        """Send what is kept, and then what comes, until the page is left."""
        await send({"type": "websocket.accept"})
        telling = asyncio.create_task(self.tell(send))
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError, ClientDisconnected):
                await telling

    async def tell(self, send: Send) -> None:
        self.kept.loop = asyncio.get_running_loop()
        await send({"type": "websocket.send", "text": self.head})
        number = 0
        while True:
            number, lines = self.kept.after(number, TOGETHER)
            if lines:
                await send({"type": "websocket.send", "text": "\n".join(lines)})
            else:
                await self.kept.waiters.wait()


async def answer(send: Send, status: int, kind: bytes, text: str, *more: tuple[bytes, bytes]) -> None:
    body = text.encode()
    lines = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *HEADERS, *more]
    lines.append((b"content-security-policy", POLICY))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def header_of(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in scope["headers"] if each == name), "")


def is_here(scope: Scope) -> bool:
    """Whether the page was asked for by the name of this machine: no other name leads here by right.

    A page elsewhere may have its own name lead to this machine (DNS rebinding).
    """
    port = scope["server"][1]
    return header_of(scope, b"host") in (f"127.0.0.1:{port}", f"localhost:{port}")


def is_same_origin(scope: Scope) -> bool:
    return header_of(scope, b"origin") == f"http://{header_of(scope, b'host')}"
