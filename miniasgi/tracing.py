"""Tracing: where the records of what passes go while a process serves: the terminal, a file, a page.

Made from the options of Tracing. A process that shows nothing has no Trace, and its connections no stand-ins.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TextIO

from .config import Tracing, UsageError, named
from .observe.lanes import HEAD, WIDTH, Lanes
from .observe.record import Record, header
from .observe.trace import Trace

log = logging.getLogger("miniasgi")

Hear = Callable[[Record], None]


@contextmanager
def traced(tracing: Tracing, app: str) -> Iterator[Trace | None]:
    """The Trace of a server, while the block runs; None where nothing is to be shown. `app` is its name.

    Raises UsageError for a file that cannot be written, AddressError for a port that cannot be had.
    """
    if not tracing:
        yield None
        return
    hearers: list[Hear] = []

    def hear(record: Record) -> None:
        for each in hearers:
            each(record)

    trace = Trace(hear, secrets=tracing.trace_secrets)
    head = header(trace.date, app)
    with ExitStack() as stack:
        if tracing.trace:
            hearers.append(to_terminal(sys.stdout, tracing.lanes))
        if tracing.trace_file:
            hearers.append(stack.enter_context(to_file(tracing.trace_file, head)))
        if tracing.inspect:
            from .inspector import inspector  # only where it is asked for

            hearers.append(stack.enter_context(inspector(tracing.inspect, head)))
        yield trace


def lanes_of(stream: TextIO, shown: Sequence[str]) -> Lanes:
    """Lanes as this stream takes them."""
    width = shutil.get_terminal_size((WIDTH, 0)).columns if stream.isatty() else WIDTH
    return Lanes(shown, width=width, coloured=is_coloured(stream))


def to_terminal(stream: TextIO, shown: Sequence[str]) -> Hear:
    lanes = lanes_of(stream, shown)
    writer = Writer(stream, "terminal")
    writer.write(HEAD)

    def hear(record: Record) -> None:
        if (line := lanes.line(record)) is not None:
            writer.write(line + "\n")

    return hear


@contextmanager
def to_file(path: str, head: str) -> Iterator[Hear]:
    with opened(path) as file:
        writer = Writer(file, path)
        writer.write(head + "\n")
        yield lambda record: writer.write(record.text + "\n")


def opened(path: str) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{named('trace_file', path)} cannot be written: {error.strerror}") from None


class Writer:
    """Writes to a stream; falls silent, after one line in the log, when that takes no more."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.stream: TextIO | None = stream
        self.name = name

    def write(self, text: str) -> None:
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except UnicodeEncodeError:  # a terminal that has no arrows
            self.write(text.encode("ascii", "replace").decode())
        except OSError as error:
            self.stream = None
            log.error("The trace to the %s ends here: %s", self.name, error.strerror)


def is_coloured(stream: TextIO) -> bool:
    """On a terminal that can, and not where the user wants none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
