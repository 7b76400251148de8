r"""Lanes: records as lines of text, for a terminal, each lane in a place of its own.

      0.21  #1   ▶┊┊┊ bytes  78 bytes: GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n…
      0.40  #1   ┊▶┊┊ h11    Request GET /hello, 4 headers
      0.52  #1   ┊┊┊▶ app    called: http GET /hello

are milliseconds since the exchange began, the number of the exchange, the way from the client on the left to
the application on the right, and what passed. A line is cut to the width that it is given.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..config import LANES
from .colours import painted
from .record import Record

HEAD = "        ms  exchange\n"
ARROWS = {"in": "▶", "out": "◀", "": "•"}
COLOURS: dict[str, str] = {"bytes": "36", "events": "33", "asgi": "32", "app": "35"}
# Of the numbers of exchanges, so that those that are under way together look different.
NUMBERS = ("94", "93", "92", "95", "96", "91")
DIM, RED = "2", "31"
# How wide a line is where nobody says.
WIDTH = 100
# How many exchanges it is remembered of when they began, and in which states their protocol is.
KEPT = 1000


class Lanes:
    """Makes lines of records that come in their order. `shown` are the lanes that are wanted."""

    def __init__(self, shown: Collection[str] = LANES, *, width: int = WIDTH, coloured: bool = False) -> None:
        self.shown = shown
        self.width = width
        self.coloured = coloured
        self.began: dict[int, int] = {}  # by exchange, in µs
        self.states: dict[int, Mapping[str, str]] = {}  # by exchange

    def line(self, record: Record) -> str | None:
        """The record as a line, without its end; None where its lane is not wanted."""
        began = self.began.setdefault(record.exchange, record.at) if record.exchange else record.at
        changed = bool(record.states) and self.states.get(record.exchange) != record.states
        if changed:
            self.states[record.exchange] = record.states
        for kept in (self.began, self.states):
            if len(kept) > KEPT:
                del kept[next(iter(kept))]
        if record.lane not in self.shown:
            return None
        milliseconds = (record.at - began) / 1000
        number = number_of(record)
        arrow = "".join(ARROWS[record.way] if each == record.lane else "┊" for each in LANES)
        before = f"{milliseconds:>10.2f}  {number:<5} {arrow} {lane_name(record):<7}"
        states = f"  [{states_of(record)}]" if changed else ""
        text = cut(said(record), self.width - len(before) - len(states))
        if not self.coloured:
            return before + text + states
        colour = RED if is_wrong(record) else COLOURS[record.lane]
        number = painted(f"{number:<5}", NUMBERS[record.exchange % len(NUMBERS)])
        lane = painted(f"{arrow} {lane_name(record):<7}{text}", colour)
        return f"{painted(f'{milliseconds:>10.2f}', DIM)}  {number} {lane}{painted(states, DIM)}"


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def number_of(record: Record) -> str:
    """#2 for an exchange, c1 for a connection on which nothing was asked yet, life for lifespan."""
    if record.exchange:
        return f"#{record.exchange}"
    return f"c{record.connection}" if record.connection else "life"


def lane_name(record: Record) -> str:
    if record.lane != "events":
        return record.lane
    return "ws" if "websocket" in record.states else "h11"


def states_of(record: Record) -> str:
    if "websocket" in record.states:
        return record.states["websocket"]
    return f"{record.states['client']} / {record.states['server']}"


def is_wrong(record: Record) -> bool:
    return "raised" in record.name or record.name.endswith("Error")


# ---- what was said ----------------------------------------------------------------------------------------


def said(record: Record) -> str:
    """A record in some words, on one line, whatever strangers have put into it."""
    try:
        return visible(words(record))
    except (LookupError, TypeError, ValueError):  # a file of records that was changed by hand
        return visible(record.name)


def words(record: Record) -> str:
    content = record.content if isinstance(record.content, dict) else {}
    match record.lane:
        case "bytes":
            return said_bytes(record.name, content)
        case "events":
            return said_event(record.name, content)
        case "asgi":
            return said_message(record.name, content)
    return said_call(record, content)


def said_bytes(name: str, content: Mapping[str, Any]) -> str:
    if name == "connection_made":
        return f"connected from {address(content.get('peername'))}"
    if "bytes" not in content:
        return TRANSPORT.get(name, name)
    return f"{counted(size_of(content), 'byte')}: {plain(content)}"


# asyncio's names, and what they mean here.
TRANSPORT = {
    "eof_received": "the client has ended its side (eof_received)",
    "connection_lost": "the connection is over (connection_lost)",
    "write_eof": "we end our side (write_eof)",
    "close": "we close (close)",
    "abort": "we break the connection off (abort)",
    "pause_reading": "the application has enough: the client waits (pause_reading)",
    "resume_reading": "the client is read again (resume_reading)",
    "pause_writing": "the client takes too little: the application waits (pause_writing)",
    "resume_writing": "the client takes more again (resume_writing)",
}


def said_event(name: str, content: Mapping[str, Any]) -> str:
    headers = content.get("headers")
    match name:
        case "Request":
            what = f" {plain(content['method'])} {plain(content['target'])}"
        case "Response" | "InformationalResponse":
            what = f" {content['status_code']}"
        case "Data" | "TextMessage" | "BytesMessage":
            what = f" {amount(content['data'])}"
            if not content.get("message_finished", True):
                what += ", more to come"
        case "refused":
            what = f" with {content['status_code']}" + (f": {content['rule']}" if content["rule"] else "")
        case "CloseConnection":
            what = f" {content['code']}" + (f" {content['reason']}" if content["reason"] else "")
        case _:
            what = f": {content['error']}" if "error" in content else ""
    return f"{name}{what}" + (f", {counted(len(headers), 'header')}" if headers else "")


def said_message(name: str, content: Mapping[str, Any]) -> str:
    match content:
        case {"error": error}:
            return f"{name} {error}"
        case {"status": status}:
            headers = content.get("headers") or []
            names = [f"{plain(each[0])}: {plain(each[1])}" for each in headers if len(each) == 2]
            return f"{name}: " + ", ".join([str(status), *names])
        case {"body": _} | {"more_body": _}:
            end = "more to come" if content.get("more_body") else "the last"
            return f"{name}: {amount(content.get('body', EMPTY))}, {end}"
        case {"text": str() | dict() as data} | {"bytes": str() | dict() as data}:
            return f"{name}: {amount(data)}"
    rest = ", ".join(f"{key} {plain(value)}" for key, value in content.items() if key != "type" and value)
    return f"{name}: {rest}" if rest else name


EMPTY = {"bytes": ""}


def said_call(record: Record, content: Mapping[str, Any]) -> str:
    match record.name:
        case "called":
            path = f" {content['path']}" if "path" in content else ""
            method = f" {content['method']}" if "method" in content else ""
            return f"called: {content.get('type')}{method}{path}"
        case "raised":
            at = content.get("at") or [""]
            return f"raised {content['error']}" + (f" in {at[0]}" if at[0] else "")
    return f"{record.name}: {record.app}" if record.app else record.name


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def size_of(data: Any) -> int:
    """How many bytes or characters a piece of content had before it was cut."""
    if isinstance(data, dict):
        return int(data.get("size", len(plain(data))))
    return len(plain(data))


def amount(data: Any) -> str:
    """How much, and the beginning of what."""
    kind = "byte" if isinstance(data, dict) and "bytes" in data else "character"
    size = size_of(data)
    return f"{counted(size, kind)}: {plain(data)}" if size else counted(0, kind)


def plain(value: Any) -> str:
    """A piece of content as text."""
    match value:
        case {"bytes": str() as text} | {"text": str() as text} | {"repr": str() as text}:
            return text
        case str():
            return value
    return str(value)


def visible(text: str) -> str:
    """Text without what would break a line, or do something to a terminal."""
    return "".join(each if each.isprintable() else CONTROLS.get(each, "·") for each in text)


CONTROLS = {"\r": "\\r", "\n": "\\n", "\t": "\\t"}


def address(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) >= 2:
        return f"{value[0]}:{value[1]}"
    return "a unix socket"
