"""`miniasgi show FILE`: a recorded trace again, as text, diagram, commands, tests or a page.

`exchanges` reads the file; of the formats `text` and `html` are those that a server shows while it runs, and
`mermaid`, `curl` and `as_test` have a file each.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ..observe.lanes import HEAD, Lanes
from .as_test import as_test
from .curl import as_curl
from .exchanges import Exchange, RecordedTrace, read_trace
from .mermaid import as_mermaid

__all__ = ["FORMATS", "NoSuchExchange", "read_trace", "show"]


class NoSuchExchange(LookupError):
    """The exchange that was asked for is not in the trace."""


def show(trace: RecordedTrace, form: str, number: int | None, lanes: Lanes) -> Iterator[str]:
    """The trace, or one exchange of it, as lines of text in one of FORMATS. Raises NoSuchExchange."""
    if number is not None:
        if number not in trace.exchanges:
            numbers = ", ".join(map(str, trace.exchanges)) or "none"
            raise NoSuchExchange(f"there is no exchange {number} in this trace; it has {shortened(numbers)}")
        trace = trace.only(number)
    return FORMATS[form](trace, lanes)


def shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[:most].rpartition(",")[0] + ", …"


def as_text(trace: RecordedTrace, lanes: Lanes) -> Iterator[str]:
    told = (lanes.line(record) for record in trace.records)
    return chain([HEAD.rstrip("\n")], (line for line in told if line is not None))


def as_page(trace: RecordedTrace, _: Lanes) -> Iterator[str]:
    from ..inspector import as_html  # with the server that it is part of: only where it is asked for

    yield as_html([trace.head, *(record.text for record in trace.records)])


def of_exchanges(
    make: Callable[[Exchange], Iterable[str]],
) -> Callable[[RecordedTrace, Lanes], Iterator[str]]:
    """A format that has a part for each exchange."""

    def form(trace: RecordedTrace, _: Lanes) -> Iterator[str]:
        for at, exchange in enumerate(trace.exchanges.values()):
            if at:
                yield ""
            yield from make(exchange)

    return form


FORMATS: dict[str, Callable[[RecordedTrace, Lanes], Iterator[str]]] = {
    "text": as_text,
    "mermaid": lambda trace, _: as_mermaid(trace),
    "curl": of_exchanges(as_curl),
    "pytest": lambda trace, _: as_test(trace),
    "html": as_page,
}
