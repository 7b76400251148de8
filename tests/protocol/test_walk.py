"""`miniasgi/protocol/README.md`: its names are there, in the order in which they are called; its diagrams are the code's."""

import ast
import re
import sys

import pytest

from tests.conftest import ROOT
from tests.memory import MemoryClient

from .diagrams import README, texts, with_diagrams
from .test_websocket import frame, handshake

PROTOCOL = ROOT / "miniasgi" / "protocol"
TEXT = README.read_text()
REFERENCE = re.compile(r"`(\w+\.py):([\w.]+)`")
SECTIONS = {
    section.partition("\n")[0]: section.partition("\n")[2]
    for section in re.split("^## ", TEXT, flags=re.MULTILINE)[1:]
}


def node_of(file, dotted):
    """The definition of `Class.method` or `NAME` in a file of the road. Raises LookupError."""
    node = ast.parse((PROTOCOL / file).read_text())
    for name in dotted.split("."):
        for each in node.body:
            targets = getattr(each, "targets", [getattr(each, "target", None)])
            if getattr(each, "name", None) == name or name in [getattr(one, "id", None) for one in targets]:
                node = each
                break
        else:
            raise LookupError(f"no {dotted} in {file}")
    return node


def walked(title):
    """(file, name) of the functions that a section names before its diagram, in its order."""
    text = SECTIONS[title].partition("<!--")[0]
    return [
        (file, name)
        for file, name in REFERENCE.findall(text)
        if isinstance(node_of(file, name), ast.FunctionDef | ast.AsyncFunctionDef)
    ]


class Calls:
    """Which functions of the road are called while the block runs, in their order."""

    def __enter__(self):
        self.seen = []
        sys.setprofile(self.on_event)
        return self.seen

    def on_event(self, frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PROTOCOL)):
            self.seen.append((code.co_filename.rpartition("/")[2], code.co_qualname))

    def __exit__(self, *exception):
        sys.setprofile(None)


def missing(names, seen):
    """The first of the names that was not called behind those before it; None where all were."""
    calls = iter(seen)
    return next((name for name in names if name not in calls), None)


async def answer(scope, receive, send):
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})


async def plain_answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def test_each_name_is_in_its_file():
    names = REFERENCE.findall(TEXT)
    assert len(names) > 50
    for file, name in names:
        node_of(file, name)


async def test_the_names_of_a_get_are_in_the_order_of_their_calls():
    client = MemoryClient(answer, recall=False)
    with Calls() as seen:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.written.endswith(b"\r\nhello\r\n0\r\n\r\n")
    assert len(client.transport.writes) == 1
    names = walked("A GET, there and back")
    # The last two tell of a client that does not take its answer, which this one does.
    assert names[-1] == ("connection.py", "Connection.drained")
    assert missing(names[:-2], seen) is None


async def test_the_names_of_a_websocket_are_in_the_order_of_their_calls():
    client = MemoryClient(answer, recall=False)
    with Calls() as seen:
        await client.send(handshake())
        await client.send(frame(1, b"hello"))
    assert client.written.partition(b"\r\n\r\n")[2].startswith(b"\x81\x05hello")
    assert missing(walked("A WebSocket message"), seen) is None


async def test_the_names_of_the_short_way_are_in_the_order_of_their_calls():
    client = MemoryClient(plain_answer)
    request = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    await client.send(request)
    with Calls() as seen:
        await client.send(request)
    assert client.written.endswith(b"\r\n\r\nhello")
    names = walked("The short way")
    # The last one tells of what comes to something else.
    assert names[-1] == ("http1.py", "Http1Connection.settle")
    assert missing(names[:-1], seen) is None


async def test_the_names_of_the_short_way_of_a_message_are_in_the_order_of_their_calls():
    client = MemoryClient(answer)
    await client.send(handshake())
    with Calls() as seen:
        await client.send(frame(1, b"hello"))
    assert missing(walked("The short way of a message"), seen) is None


async def test_a_name_out_of_order_is_found():
    client = MemoryClient(answer, recall=False)
    with Calls() as seen:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    names = walked("A GET, there and back")[:-2]
    for at in range(len(names) - 1):
        if names[at] != names[at + 1]:
            swapped = [*names[:at], names[at + 1], names[at], *names[at + 2 :]]
            if missing(swapped, seen) is not None:
                return
    pytest.fail("no order of the names is wrong")


async def test_the_diagrams_are_those_of_the_tables():
    assert with_diagrams(TEXT, await texts()) == TEXT, "python -m tests.protocol.diagrams writes them anew"
