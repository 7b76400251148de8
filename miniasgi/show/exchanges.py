"""What a trace has of each exchange, for those who tell it again. Reads the file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..explain.shown import MASKED
from ..observe.record import NotATrace, Record, read_header, read_record


class RecordedTrace:
    """A trace as it was read: its first line, what that says, all records in their order, the exchanges."""

    def __init__(self, head: str, about: dict[str, Any], records: list[Record]) -> None:
        self.head = head
        self.about = about
        self.records = records

    @property
    def app(self) -> str:
        """The application's name, as it was served."""
        return str(self.about.get("app", "package.module:app"))

    @cached_property
    def exchanges(self) -> dict[int, "Exchange"]:
        """By their numbers, in the order of their beginning; without lifespan."""
        found: dict[int, list[Record]] = {}
        for each in self.records:
            if each.exchange:
                found.setdefault(each.exchange, []).append(each)
        return {number: Exchange(number, records) for number, records in found.items()}

    def only(self, number: int) -> "RecordedTrace":
        return RecordedTrace(self.head, self.about, self.exchanges[number].records)


def read_trace(lines: Iterable[str]) -> RecordedTrace:
    """The trace that these lines are. Raises NotATrace.

    A last line without its end is left out: the server may have been killed while it wrote.
    """
    head, *rest = [*lines] or [""]
    about = read_header(head)
    records = []
    for number, line in enumerate(rest, 2):
        try:
            records.append(read_record(line, number))
        except NotATrace:
            if line.endswith("\n"):
                raise
    return RecordedTrace(head.rstrip("\n"), about, records)


@dataclass(frozen=True)
class Exchange:
    """One request or WebSocket: its records in their order."""

    number: int
    records: list[Record]

    def of(self, lane: str, way: str, *names: str) -> Iterator[Record]:
        """Those of a lane and a way; of these names only, where some are given."""
        for each in self.records:
            if each.lane == lane and each.way == way and (not names or each.name in names):
                yield each

    @cached_property
    def request(self) -> dict[str, Any] | None:
        """The fields of h11's Request; None where what came is none."""
        return next((each.content for each in self.of("events", "in", "Request")), None)

    @property
    def is_masked(self) -> bool:
        """Whether a header of the request was a secret, and is not there."""
        return self.request is not None and any(value == MASKED for _, value in self.request["headers"])

    @property
    def scope(self) -> dict[str, Any]:
        """What the application was called with; empty where it was not."""
        return next((each.content for each in self.of("app", "in", "called")), {})

    @property
    def is_websocket(self) -> bool:
        return self.scope.get("type") == "websocket"

    @property
    def name(self) -> str:
        if self.request is None:
            return "no request that could be read"
        return f"{data_of(self.request['method']).decode()} {data_of(self.request['target']).decode()}"

    @property
    def status(self) -> int | None:
        """The status of the answer, whoever gave it."""
        names = ("Response", "refused")
        return next((each.content["status_code"] for each in self.of("events", "out", *names)), None)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The messages that the application sent, those that were refused too."""
        return [each.content for each in self.of("asgi", "out") if isinstance(each.content, dict)]

    @property
    def body(self) -> list[Any]:
        """The pieces of the body that came, as content."""
        return [each.content["data"] for each in self.of("events", "in", "Data")]

    @property
    def answer(self) -> list[Any]:
        """The pieces of the body that the application sent, as content."""
        bodies = ("http.response.body", "websocket.http.response.body")
        return [each.get("body", {"bytes": ""}) for each in self.sent if each.get("type") in bodies]

    @property
    def error(self) -> str:
        """What the application raised; "" where it raised nothing."""
        return next((str(each.content["error"]) for each in self.of("app", "out", "raised")), "")

    @property
    def is_answered(self) -> bool:
        """Whether the client has a whole answer, or the WebSocket was closed by rule."""
        if self.is_websocket:
            return any(self.of("events", "out", "CloseConnection"))
        return any(self.of("events", "out", "EndOfMessage", "refused"))


def data_of(content: Any) -> bytes:
    """A piece of content as bytes."""
    if isinstance(content, dict):
        return str(content.get("bytes", "")).encode("latin-1")
    return str(content).encode()


def is_whole(content: Any) -> bool:
    """Whether a piece of content is all there was."""
    return not (isinstance(content, dict) and ("size" in content or "repr" in content))
