"""A trace as a file of tests: the client's bytes again, at the same cuts, and what is to come of them."""

from collections.abc import Iterator
from typing import Any

from ..explain.shown import MASKED
from .exchanges import Exchange, RecordedTrace, data_of, is_whole

INDENT = " " * 8


def as_test(trace: RecordedTrace) -> Iterator[str]:
    began = trace.about.get("began")
    yield f'"""As recorded at {began}: what clients sent, and what {trace.app} answered."""'
    yield ""
    yield "from miniasgi.testing import serve"
    yield ""
    yield f"APP = {trace.app!r}"
    for exchange in trace.exchanges.values():
        yield ""
        yield ""
        yield from test_of(exchange)


def test_of(exchange: Exchange) -> Iterator[str]:
    pieces = [each.content for each in exchange.of("bytes", "in", "data_received")]
    if not pieces:
        yield f"# {exchange.number}: {exchange.name} came in one piece with the request before it"
        return
    yield f"def test_exchange_{exchange.number}():"
    yield f'    """{docstring(exchange.name)}"""'
    if not all(map(is_whole, pieces)):
        yield "    # More was sent than was recorded."
    if exchange.is_masked:
        yield f"    # {MASKED}: a row of * stands for what was not recorded."
    options = ', errors="collect"' if exchange.error else ""
    yield f"    with serve(APP{options}) as server:"
    yield f"{INDENT}client = server.raw()"
    if exchange.is_websocket:
        yield from websocket(exchange, pieces)
    else:
        yield from request(exchange, pieces)


def request(exchange: Exchange, pieces: list[Any]) -> Iterator[str]:
    for each in pieces:
        yield f"{INDENT}client.send({data_of(each)!r})"
    if not exchange.is_answered:
        yield f"{INDENT}client.reset()  # the client left"
        yield from ended(exchange)
        return
    method = data_of(exchange.request["method"]) if exchange.request else b"GET"
    argument = "" if method == b"GET" else repr(method)
    yield f"{INDENT}response = client.response({argument})"
    yield f"{INDENT}assert response.status == {exchange.status}"
    if exchange.answer and not exchange.error and all(map(is_whole, exchange.answer)) and method != b"HEAD":
        yield f"{INDENT}assert response.body == {b''.join(map(data_of, exchange.answer))!r}"
    if exchange.error:
        yield f"{INDENT}server.wait_for(lambda: server.errors)  # {exchange.error}"


def websocket(exchange: Exchange, pieces: list[Any]) -> Iterator[str]:
    handshake, *frames = pieces
    yield f"{INDENT}client.send({data_of(handshake)!r})"
    status = exchange.status or 101
    yield f"{INDENT}assert client.response().status == {status}"
    for each in frames:
        yield f"{INDENT}client.send({data_of(each)!r})"
    if not exchange.is_answered and status == 101:
        yield f"{INDENT}client.reset()  # the client left"
    yield from ended(exchange)
    types = [each.get("type") for each in exchange.sent]
    yield f"    assert [message['type'] for message in server.exchanges[0].sent] == {types!r}"


def ended(exchange: Exchange) -> Iterator[str]:
    if exchange.scope:
        yield f"{INDENT}server.wait_for(lambda: server.exchanges and server.exchanges[0].ended)"


def docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
