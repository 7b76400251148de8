"""An exchange as a command of curl that asks the same again."""

import shlex
from collections.abc import Iterator
from typing import Any

from ..explain.shown import MASKED
from .exchanges import Exchange, data_of, is_whole

# curl makes these of the address and the body.
ITS_OWN = (b"host", b"content-length", b"expect", b"connection")


def as_curl(exchange: Exchange) -> Iterator[str]:
    status = "" if exchange.status is None else f", answered with {exchange.status}"
    yield f"# {exchange.number}: {exchange.name}{status}"
    request = exchange.request
    if request is None:
        yield "# curl sends no such thing; --format pytest has its bytes"
        return
    if exchange.is_masked:
        yield f"# {MASKED} stands for what was not recorded; `miniasgi serve APP --trace-secrets` does"
    if exchange.is_websocket:
        yield "# a WebSocket, which the client of the package websockets speaks:"
        yield f"python -m websockets {shlex.quote(url_of(exchange, request, 'ws'))}"
        return
    if not all(map(is_whole, exchange.body)):
        yield "# the body is longer than what was recorded of it"
    yield command(exchange, request)


def command(exchange: Exchange, request: dict[str, Any]) -> str:
    method = data_of(request["method"]).decode("latin-1")
    body = b"".join(map(data_of, exchange.body))
    words = ["curl", "--include", "--path-as-is"]
    if method == "HEAD":
        words = ["curl", "--head", "--path-as-is"]
    elif method != ("POST" if body else "GET"):
        words += ["--request", method]
    for name, value in request["headers"]:
        if data_of(name).lower() not in ITS_OWN:
            text = value if isinstance(value, str) else data_of(value).decode("latin-1")
            words += ["--header", f"{data_of(name).decode('latin-1')}: {text}"]
    line = " ".join(map(shlex.quote, [*words, url_of(exchange, request, "http")]))
    if not body:
        return line
    if is_text(body):
        return f"{line} --data-binary {shlex.quote(body.decode())}"
    octal = "".join(rf"\{each:03o}" for each in body)
    return f"printf '{octal}' | {line} --data-binary @-"


def url_of(exchange: Exchange, request: dict[str, Any], scheme: str) -> str:
    secure = exchange.scope.get("scheme") in ("https", "wss")
    host = next((data_of(value) for name, value in request["headers"] if data_of(name) == b"host"), b"")
    target = data_of(request["target"]).decode("latin-1")
    if not target.startswith("/"):  # with its address in it
        return target
    return f"{scheme}{'s' if secure else ''}://{host.decode('latin-1') or '127.0.0.1:8000'}{target}"


def is_text(body: bytes) -> bool:
    """Whether the body can stand in a command: a NUL cannot, and a shell would misread what is no UTF-8."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return all(each.isprintable() or each in "\r\n\t" for each in text) and not text.startswith("@")
