"""Writing: records to a terminal, as lanes, and to a file, as they are."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ..config import UsageError, named
from .colours import is_coloured
from .lanes import HEAD, WIDTH, Lanes
from .record import Record

log = logging.getLogger("miniasgi")

Hear = Callable[[Record], None]


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
