"""Kept: the records of a server, as lines, within a limit of memory, and who waits for the next ones.

Lines are added in the thread of the application's loop, and read in that of the inspector's.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from threading import Lock

from ..observe.record import Record
from ..protocol.runtime import Waiters

# How many characters of records are kept: those of some ten thousand requests.
LIMIT = 64 * 1024 * 1024


class Kept:
    """Made with the inspector. `hear` is for the trace, all else for the inspector's own loop."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.lock = Lock()
        self.lines: deque[tuple[int, str]] = deque()  # (exchange, line)
        self.size = 0
        self.dropped = 0  # how many lines were, from the beginning
        self.waiters = Waiters()
        self.loop: asyncio.AbstractEventLoop | None = None  # of those who wait
        self.told = False  # that there is news, and they did not look yet

    def hear(self, record: Record) -> None:
        line = record.text
        with self.lock:
            self.lines.append((record.exchange, line))
            self.size += len(line)
            while self.size > self.limit:
                self.size -= len(self.lines.popleft()[1])
                self.dropped += 1
            tell, self.told = not self.told, True
        if tell and self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.waiters.wake)

    def after(self, number: int, most: int) -> tuple[int, list[str]]:
        """The lines behind the first `number` ones, `most` at a time; and how many there are with these."""
        with self.lock:
            self.told = False
            begin = max(number - self.dropped, 0)
            lines = [line for _, line in islice(self.lines, begin, begin + most)]
            return self.dropped + begin + len(lines), lines

    def of(self, exchange: int | None) -> Iterator[str]:
        """The lines of one exchange, or all."""
        with self.lock:
            kept = list(self.lines)
        return (line for number, line in kept if exchange is None or number == exchange)
