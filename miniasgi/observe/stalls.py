"""Stalls in the log: which request keeps the event loop from turning, with which line, and what to do.

    GET /report from 127.0.0.1:50000: keeps the event loop from turning, for 1.1 s so far; nobody else is
    served. It is in app.py, line 7, in app: time.sleep(5). Call it by `await asyncio.to_thread(...)`, or …

What a stall is, the watchdog says; this file owns what is told of it, and how often.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.runtime import Runtime
from .watchdog import Stall, Watchdog

log = logging.getLogger("miniasgi")

# How long a loop may be kept without a word: a limit that nobody passes by accident.
LIMIT = 1.0
# One line may keep the loop with each request. It is told once in this time.
QUIET = 60.0


@contextmanager
def stalls_told(runtime: Runtime) -> Iterator[None]:
    """What keeps the running loop is told while the block runs."""
    stalls = StallLog(runtime)
    watchdog = Watchdog(LIMIT, stalls.on_stall, stalls.on_over)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


class StallLog:
    """Tells each place that keeps the loop, and again after QUIET, with how often it was seen meanwhile."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.places: dict[tuple[str, ...], Place] = {}
        self.told: Stall | None = None  # the last one that was

    def on_stall(self, stall: Stall) -> None:
        """Called in the watchdog's thread, while the loop is kept."""
        place = self.places.setdefault(tuple(stall.lines), Place())
        place.unsaid += 1
        now = time.monotonic()
        if now < place.quiet_until:
            return
        again = f" ({place.unsaid} times since that was told last)" if place.unsaid > 1 else ""
        place.unsaid, place.quiet_until = 0, now + QUIET
        self.told = stall
        log.warning(
            "%s: keeps the event loop from turning%s, for %.1f s so far; nobody else is served. "
            "It is in %s. %s",
            self.name_of(stall),
            again,
            stall.seconds,
            ", called from ".join(stall.lines),
            ONCE if stall.importing else REMEDY,
        )

    def on_over(self, stall: Stall) -> None:
        """Called in the loop, when it turns again."""
        if stall is self.told:
            self.told = None
            log.warning("The event loop turns again, after %.1f s", stall.seconds)

    def name_of(self, stall: Stall) -> str:
        """Whose task it is that was running."""
        if stall.task is None:
            return "A callback"
        for call in list(self.runtime.calls):  # a copy: the loop may go on just now
            if getattr(call, "task", None) is stall.task:
                return call.name
        return f"The task {stall.task.get_name()}"


class Place:
    """One line that has kept the loop. Made by StallLog."""

    __slots__ = (
        "quiet_until",  # nothing more is told of it before
        "unsaid",  # how often it was seen since it was told
    )

    def __init__(self) -> None:
        self.quiet_until = 0.0
        self.unsaid = 0


REMEDY = "Call it by `await asyncio.to_thread(...)`, or use an asynchronous one in its place"
ONCE = "It is an import, which takes its time only once: at the top of a module it comes before any client"
