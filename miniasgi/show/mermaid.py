"""A trace as a sequence diagram of Mermaid (https://mermaid.js.org), which pages of Markdown show."""

from collections.abc import Iterator

from ..observe.lanes import cut, said
from ..observe.record import Record
from .exchanges import RecordedTrace

# Between which participants a record of a lane passes, from the client on.
BETWEEN = {
    "bytes": ("client", "transport"),
    "events": ("transport", "protocol"),
    "asgi": ("protocol", "application"),
    "app": ("protocol", "application"),
}
PARTICIPANTS = {
    "client": "client",
    "transport": "transport",
    "protocol": "h11, wsproto",
    "application": "application",
}
WIDTH = 60  # of a label


def as_mermaid(trace: RecordedTrace) -> Iterator[str]:
    yield "sequenceDiagram"
    for name, shown in PARTICIPANTS.items():
        yield f"    participant {name} as {shown}"
    exchange = 0
    for record in trace.records:
        if record.exchange and record.exchange != exchange:
            exchange = record.exchange
            yield f"    note over client,application: {label(f'exchange {exchange}')}"
        yield f"    {arrow(record)}: {label(said(record))}"


def arrow(record: Record) -> str:
    near, far = BETWEEN[record.lane]
    match record.way:
        case "in":
            return f"{near}->>{far}"
        case "out":
            return f"{far}->>{near}"
    return f"note over {far}"


def label(text: str) -> str:
    """As a diagram may have it: a semicolon ends a line there, a number sign begins a character's name."""
    return "".join(ENTITIES.get(each, each) for each in cut(text, WIDTH))


ENTITIES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;", '"': "#quot;"}
