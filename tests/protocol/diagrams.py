"""The state diagrams of `miniasgi/protocol/README.md`: `python -m tests.protocol.diagrams` writes them anew.

An arrow is an act of a SEND table that was really carried out, on a wire that takes everything; where it points to is
the state that the object was in afterwards. Nothing is declared here but which messages to try.
"""

import asyncio
import re
import tempfile
from collections import Counter, deque
from types import SimpleNamespace

from miniasgi.config import Config
from miniasgi.lifespan import SEND as LIFESPAN_SEND
from miniasgi.lifespan import Lifespan
from miniasgi.lifespan import State as LifespanState
from miniasgi.protocol.exchange import Exchange
from miniasgi.protocol.websocket import WebSocketConnection, WebSocketExchange
from tests.conftest import ROOT

README = ROOT / "miniasgi" / "protocol" / "README.md"
RUNTIME = SimpleNamespace(
    on_debug=lambda scope, info: None,
    show_failure=None,
    tell=lambda level, text, error: None,
    config=Config(),
)


class TakesAll:
    """A wire below an HTTP exchange, or below a WebSocket before its acceptance."""

    congested = False
    runtime = RUNTIME

    def __init__(self):
        self.during_file = None  # the state in which a file was sent

    def write_response(self, status, headers, trailers):
        pass

    def write_early_hint(self, links):
        pass

    def write_body(self, body, more_body):
        pass

    def write_trailers(self, headers):
        pass

    async def write_file(self, part):
        self.during_file = self.exchange.state

    def app_failed(self, status, page):
        pass

    def upgrade(self, exchange, headers, subprotocol):
        return TakesFrames(exchange)


class TakesFrames(WebSocketConnection):
    """A wire below an accepted WebSocket."""

    congested = False
    during_file = None

    def __init__(self, exchange):
        self.runtime = RUNTIME
        self.exchange = exchange

    def begin(self):
        pass

    def send_message(self, data):
        pass

    def say_close(self, code, reason):
        self.exchange.on_disconnect(code, reason)


def made(kind):
    """A new exchange of this kind."""
    wire = TakesAll()
    wire.exchange = kind({"type": "http", "method": "GET", "path": "/"}, wire)
    return wire.exchange


def messages(kind, file):
    """(label, message) of all that is tried: each type of the table, with each value of its flags."""
    with_keys = {
        "http.response.start": [{"status": 200}, {"status": 200, "trailers": True}],
        "http.response.body": [{}, {"more_body": True}],
        "http.response.zerocopysend": [{"file": file}, {"file": file, "more_body": True}],
        "http.response.pathsend": [{"path": file.name}],
        "http.response.trailers": [{}, {"more_trailers": True}],
        "http.response.early_hint": [{"links": []}],
        "http.response.debug": [{"info": {}}],
        "websocket.http.response.start": [{"status": 404}],
        "websocket.http.response.body": [{}, {"more_body": True}],
        "websocket.send": [{"text": ""}],
    }
    for name in sorted({name for row in kind.SEND.values() for name in row}):
        for keys in with_keys.get(name, [{}]):
            flags = "".join(f", {key}" for key, value in keys.items() if value is True)
            yield name + flags, {"type": name, **keys}


async def arrows(kind):
    """(from, label, to) of every message that the table allows, tried in every state that can be reached."""
    found = {}  # each arrow, and whether trailers had been announced
    with tempfile.NamedTemporaryFile() as file:
        known, waiting = set(), deque([()])
        while waiting:
            path = waiting.popleft()
            for label, message in messages(kind, file):
                exchange = made(kind)
                for before in path:
                    await exchange.send(before)
                state, announced = exchange.state, awaits_trailers(exchange)
                if message["type"] not in kind.SEND[state]:
                    continue
                exchange.wire.during_file = None
                await exchange.send(message)
                through = exchange.wire.during_file
                if through is not None:
                    found.setdefault((state, label, through), set()).add(announced)
                    state, label = through, f"{label}, is sent"
                found.setdefault((state, label, exchange.state), set()).add(announced)
                node = (exchange.state, awaits_trailers(exchange))  # all that later messages depend on
                if node not in known:
                    known.add(node)
                    waiting.append((*path, message))
    ways = Counter((state, label) for state, label, _ in found)
    return [
        (state, f"{label}, trailers announced" if ways[state, label] > 1 and all(announced) else label, after)
        for (state, label, after), announced in found.items()
    ]


def awaits_trailers(exchange):
    return getattr(exchange, "trailers", None) is not None


async def lifespan_arrows():
    """The same of the lifespan; its states change when the application receives, too."""
    found, seen = {}, []

    async def app(scope, receive, send):
        for half in ("startup", "shutdown"):
            seen.append(running.state)
            await receive()
            seen.append(running.state)
            await send({"type": f"lifespan.{half}.complete"})

    running = Lifespan(app, "on", 10.0, {})
    await running.startup()
    await running.shutdown()
    waiting, starting, between, stopping = seen
    found[waiting, "receive() gives lifespan.startup", starting] = None
    for state, row in LIFESPAN_SEND.items():
        for name, act in row.items():
            lifespan = Lifespan(app, "on", 10.0, {})
            lifespan.state = state
            act(lifespan, {"type": name})
            found[state, name, lifespan.state] = None
    found[between, "the server stops; receive() gives lifespan.shutdown", stopping] = None
    return list(found)


def diagram(states, first, edges):
    """The text of one diagram: what each state is called, and one arrow for all messages that lead the same way.

    A state in which nothing changes any more has one arrow without their names.
    """
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {state.name}: {state.name}<br>{state.value}" for state in states]
    lines.append(f"    [*] --> {first.name}")
    ways = {}
    for before, label, after in edges:
        ways.setdefault((before, after), []).append(label)
    for (before, after), labels in ways.items():
        is_last = {to for start, to in ways if start is before} == {before}
        text = "whatever the table has" if is_last else "<br>".join(labels)
        lines.append(f"    {before.name} --> {after.name}: {text}")
    return "\n".join([*lines, "```"])


def rows(table):
    """The table itself: what may be sent in which state."""
    lines = ["| state | it is | may be sent |", "| --- | --- | --- |"]
    for state, row in table.items():
        lines.append(
            f"| {state.name} | {state.value} | {', '.join(f'`{name}`' for name in row) or 'nothing'} |"
        )
    return "\n".join(lines)


async def texts():
    """What stands between the markers, by the file that it is made from."""
    result = {}
    for name, kind in (("exchange.py", Exchange), ("websocket.py", WebSocketExchange)):
        edges = await arrows(kind)
        drawn = [state for state in kind.SEND if any(state in (before, after) for before, _, after in edges)]
        result[name] = f"{diagram(drawn, edges[0][0], edges)}\n\n{rows(kind.SEND)}"
    edges = await lifespan_arrows()
    result["lifespan.py"] = f"{diagram(LifespanState, edges[0][0], edges)}\n\n{rows(LIFESPAN_SEND)}"
    return result


def with_diagrams(text, made_of):
    """The page with these texts between its markers."""
    for name, between in made_of.items():
        begin, end = f"<!-- made from SEND of {name} -->", f"<!-- end of {name} -->"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        text, count = re.subn(
            pattern, lambda _, new=f"{begin}\n{between}\n{end}": new, text, count=1, flags=re.DOTALL
        )
        assert count == 1, f"no markers for {name}"
    return text


if __name__ == "__main__":
    README.write_text(with_diagrams(README.read_text(), asyncio.run(texts())))
