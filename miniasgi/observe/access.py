"""The access log: one line a request, through the logger `miniasgi.access`.

    127.0.0.1:50000 "GET /path HTTP/1.1" 200 12 0.4ms

client, request line, status, bytes of the body, milliseconds from the request's head to the response's last
byte. A status of `-` is a client that left before there was one. A WebSocket has its line at its end: status
101, bytes of the frames sent, how long it was open.
"""

import asyncio
import logging
import sys
import time
from typing import TextIO

from ..protocol.runtime import Visit

log = logging.getLogger("miniasgi")
access_log = logging.getLogger("miniasgi.access")

TIME = "%Y-%m-%d %H:%M:%S"


def log_request(visit: Visit, status: int, sent: int, seconds: float) -> None:
    if access_log.isEnabledFor(logging.INFO):
        line = visit.line.decode("ascii")  # h11 lets nothing but visible ASCII into a request line
        values = (visit.client, line, status or "-", sent, seconds * 1000)
        lines = access_log.handlers[0] if len(access_log.handlers) == 1 else None
        if isinstance(lines, AccessLines) and not (access_log.filters or access_log.propagate):
            lines.add(values)
        else:  # the program's own logging has it
            access_log.info(LINE, *values)


LINE = '%s "%s" %s %d %.1fms'
# So many lines do not wait for more. A write takes 20 µs, and a busy turn has 20 lines.
ENOUGH = 200


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the terminal, a file or a pipe; falls silent, after one line, when that takes no more."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.addFilter(lambda _: False)
        log.error("The log to %s ends here: %s", self.stream.name, error.strerror)


class AccessLines(TerminalHandler):
    """The same, and a server's own lines together: those of one turn, and of the next if it has some.

    A record of `logging` and a write for each would double what a small request costs: 26 µs beside its 24.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", TIME))
        self.lines: list[str] = []
        self.seen = 0  # how many of them there were at the end of the last turn
        self.second = 0
        self.line = ""  # LINE, as it is in this second

    def add(self, values: tuple[object, ...]) -> None:
        """Write a line of these, a turn of the running loop later or a few."""
        if not self.lines:
            if self.filters:  # it has fallen silent
                return
            self.begin()
        self.lines.append(self.line % values)

    def begin(self) -> None:
        now = int(time.time())
        if now != self.second:
            self.second, self.line = now, f"{time.strftime(TIME, time.localtime(now))} {LINE}\n"
        self.seen = 0
        asyncio.get_running_loop().call_soon(self.turn_ends)

    def turn_ends(self) -> None:
        if self.seen < len(self.lines) < ENOUGH:
            self.seen = len(self.lines)
            asyncio.get_running_loop().call_soon(self.turn_ends)
        else:
            self.flush()

    def flush(self) -> None:
        """Write what is left; `logging` does so too, at the end of the process."""
        lines, self.lines = self.lines, []
        try:
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        except Exception:
            self.handleError(logging.makeLogRecord({"msg": "the access log"}))
