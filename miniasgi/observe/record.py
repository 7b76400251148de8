"""Record: one thing that happened, as a trace has it; and how its content becomes JSON, cut and masked.

A file of records begins with a line that says what it is (`header`); each further line is one record. What is
not there is empty: a record without `exchange` is of a connection on which nothing was asked yet.

Content is plain JSON, but for what JSON has no word for: bytes are `{"bytes": "GET"}`, each byte the
character of its number (ISO 8859-1); what was cut has its size, `{"bytes": "GET", "size": 100000}` or
`{"text": "…", "size": …}`; any other object is `{"repr": "<…>"}`. What may be a secret is `"(masked)"`, and
in bytes a row of `*`.
"""

import dataclasses
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

from ..config import LANES, UsageError
from ..explain.messages import TOKEN
from ..explain.shown import MASKED, is_secret, shown
from ..version import __version__

Lane = Literal["bytes", "events", "asgi", "app"]  # as LANES has them

# How much of a body, a text or a piece of the wire is kept in one record, in bytes or characters.
KEPT = 8 * 1024
# How many entries are kept of a list or a dict, and how deep.
ENTRIES = 1000
DEPTH = 12


class Record(NamedTuple):
    """One thing that happened.

    `lane` is where: bytes (the transport), events (of h11 or wsproto), asgi (a message) or app (the call of
    the application). `way` is "in" from client to application, "out" back, "" for neither.
    """

    at: int  # µs since the trace began
    connection: int  # numbered in the order of their coming, from 1; 0 is lifespan's
    exchange: int  # numbered likewise over all connections; 0 is lifespan's, and nobody's
    lane: Lane
    way: Literal["in", "out", ""]
    name: str  # data_received, Request, http.request, called
    content: Any = None  # as `as_json` makes it
    # After it: {"client": "DONE", "server": "SEND_RESPONSE"} of h11, {"websocket": "OPEN"} of wsproto.
    states: dict[str, str] = {}  # never changed
    app: str = ""  # the application's line that did it, or in which it waits
    took: int = 0  # µs that the application has waited in this call of receive() or send()

    @property
    def text(self) -> str:
        """The record as one line of JSON."""
        fields = {name: value for name, value in self._asdict().items() if value or name in ALWAYS}
        return json.dumps(fields, separators=(",", ":"))


ALWAYS = ("at", "connection", "lane", "name")


def header(began: str, app: str) -> str:
    """The first line of a file of records: when it began, as ISO 8601 has it, and the application's name."""
    about = {"trace": 1, "miniasgi": __version__, "python": platform.python_version()}
    about |= {"began": began, "app": app}
    return json.dumps(about, separators=(",", ":"))


class NotATrace(UsageError):
    """A file that is no trace, or a line of it that is no record."""


def read_header(line: str) -> dict[str, Any]:
    """What the first line of a file says. Raises NotATrace."""
    about = read_json(line, 1)
    if not isinstance(about, dict) or about.get("trace") != 1:
        raise NotATrace("line 1 is not that of a trace; `miniasgi serve APP --trace-file FILE` writes one")
    return about


def read_record(line: str, number: int) -> Record:
    """The record of a line, the `number`th of its file. Raises NotATrace."""
    fields = read_json(line, number)
    try:
        record = Record(**{"exchange": 0, "way": "", **fields})
    except TypeError as error:
        raise NotATrace(f"line {number} is no record: {error}") from None
    kinds = zip(record, (int, int, int, str, str, str, object, dict, str, int), strict=True)
    if record.lane not in LANES or not all(isinstance(value, kind) for value, kind in kinds):
        raise NotATrace(f"line {number} is no record: {line.strip()[:80]}")
    return record


def read_json(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise NotATrace(f"line {number} is no JSON: {line.strip()[:80]!r}") from None


# ---- content ----------------------------------------------------------------------------------------------


def as_json(value: Any, secrets: bool = False, depth: int = DEPTH) -> Any:
    """A copy of any value as JSON has it, cut, and masked unless `secrets` are asked for. Never raises."""
    try:
        return jsonable(value, secrets, depth)
    except Exception:  # an object of the application's own, which may do anything
        return {"repr": shown(value)}


def jsonable(value: Any, secrets: bool, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case int() | float():
            return value if abs(value) < 2**53 and math.isfinite(value) else {"repr": shown(value)}
        case str():
            return str(value) if len(value) <= KEPT else {"text": value[:KEPT], "size": len(value)}
        case bytes() | bytearray() | memoryview():
            return bytes_as_json(bytes(value))
    if depth == 0:
        return {"repr": "…"}
    match value:
        case Mapping():
            return {
                key if isinstance(key, str) else shown(key): (
                    MASKED if is_secret(key) and not secrets else as_json(each, secrets, depth - 1)
                )
                for key, each in islice(value.items(), ENTRIES)
            }
        case [str() | bytes() as name, _] if is_secret(name) and not secrets:
            return [as_json(name), MASKED]
        case Sequence():
            return [as_json(each, secrets, depth - 1) for each in islice(value, ENTRIES)]
    return {"repr": shown(value)}


def bytes_as_json(data: bytes) -> dict[str, Any]:
    content: dict[str, Any] = {"bytes": data[:KEPT].decode("latin-1")}
    if len(data) > KEPT:
        content["size"] = len(data)
    return content


def fields_of(event: Any) -> dict[str, Any]:
    """An event of h11 or wsproto as a dict; of an error, what it says."""
    if isinstance(event, BaseException):
        return {"error": str(event)}
    return {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}


class Mask:
    """Hides the values of secret headers in bytes that pass in pieces, cut anywhere. Lengths stay."""

    def __init__(self) -> None:
        self.name = b""  # of the header under way, as far as it has come
        self.hides: bool | None = None  # its value; None while the name is not complete

    def __call__(self, data: bytes) -> bytes:
        return b"".join(map(self.masked, data.splitlines(keepends=True)))

    def masked(self, line: bytes) -> bytes:
        """A line, or a part of one."""
        before, value = b"", line
        if self.hides is None:
            name, colon, value = line.partition(b":")
            self.name = (self.name + name)[:LONG]
            before = name + colon
            if colon:
                self.hides = not self.name.translate(None, TOKEN) and is_secret(self.name)
        shown_value = VISIBLE.sub(b"*", value) if self.hides else value
        if line.endswith((b"\n", b"\r")):
            self.name, self.hides = b"", None
        return before + shown_value


LONG = 100  # no secret has a longer name
VISIBLE = re.compile(rb"[^\r\n\t ]")
