"""Report: the lines that are told of an application, and what was found since the last one.

It owns the marks, the words of the summary, and the exit codes. What the server and the loop say against the
application in their logs is found here, too. It knows no visit, only the name of the step that goes on.
"""

import asyncio
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple

from ..awaits import awaits_explained
from ..frames import calling, places, raising, summary
from ..observe.watchdog import Stall

SOUND, WRONG_FOUND, CANNOT_LOAD, NOT_STARTED = 0, 1, 2, 3  # what `check` returns


class Mark(Enum):
    """What a line is."""

    FACT = "-"
    GOOD = "ok"
    ADVICE = "advice"
    WRONG = "WRONG"


class Line(NamedTuple):
    """One fact or finding."""

    mark: Mark
    about: str  # the step in which it was found
    text: str
    details: tuple[str, ...] = ()


Show = Callable[[Line], None]


LOADING, LIFESPAN = "application", "lifespan"


def labels(paths: Iterable[str]) -> list[str]:
    """All that a line may be about."""
    return [LOADING, LIFESPAN, *(f"{each} {path}" for path in paths for each in ("GET", "WebSocket"))]


def duration(began: float) -> str:
    return in_words(time.monotonic() - began)


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def sole(error: BaseException) -> BaseException:
    """A group of one, as task groups raise it, is told as that one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Report(logging.Handler):
    """The lines that were told, and what was found since then. Made by `check`; hears the server's log.

    Findings come from wherever they come; they are told under the step in which they did.
    """

    def __init__(self, show: Show, serve: str) -> None:
        super().__init__(logging.WARNING)
        self.serve = serve  # the command that serves the same application
        self.show = show
        self.lines: list[Line] = []
        # What is to be told at the end of the step, with the error that it is about.
        self.found: list[tuple[Line, BaseException | None]] = []
        self.stalls: list[Stall] = []  # the same, of which the loop is still to say how long they took
        self.told: list[BaseException] = []  # what need not be told again when it reaches the log
        self.threads = set(threading.enumerate())  # those that there were before
        self.watched = threading.get_ident()

    # ---- what comes in ----

    @contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """While the block runs, what the server and the loop would log is found, and a send() not awaited."""
        log = logging.getLogger("miniasgi")
        before = log.handlers[:], log.propagate, log.disabled, log.level
        # Disabled, it is by an application that configures logging as it is loaded, as Django does.
        log.handlers[:], log.propagate, log.disabled = [self], False, False
        log.setLevel(logging.WARNING)
        loop.set_exception_handler(self.on_loop_error)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("default", "coroutine .* was never awaited", RuntimeWarning)
                with awaits_explained(origins=True):
                    yield
        finally:
            loop.set_exception_handler(None)
            log.handlers[:], log.propagate, log.disabled = before[:3]
            log.setLevel(before[3])

    def emit(self, record: logging.LogRecord) -> None:
        text, *details = record.getMessage().splitlines()
        error = record.exc_info[1] if record.exc_info else None
        self.find(Mark.WRONG, REQUEST.sub("", text), details, error)

    def on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task of the application's that nobody waited for has failed, and the like."""
        self.find(Mark.WRONG, context["message"], error=context.get("exception"))

    def on_advice(self, text: str, lines: list[str]) -> None:
        text, _, rule = text.partition("\n")
        foreign = bool(lines) and lines[0].endswith("(a library)")
        self.find(Mark.ADVICE, text + (" (not by your own code)" if foreign else ""), [*lines, rule])

    def find(
        self, mark: Mark, text: str, details: Iterable[str] = (), error: BaseException | None = None
    ) -> None:
        """To be told at the end of the step, unless the error has been by then."""
        if error is not None:
            error = sole(error)
            text, details = f"{text}: {summary(sole(error))}", [*details, *places(raising(error))[::-1]]
        self.found.append((Line(mark, "", text, tuple(details)), error))

    # ---- what goes out ----

    def tell(self, mark: Mark, about: str, text: str, details: Iterable[str] = ()) -> None:
        line = Line(mark, about, text, tuple(each.removeprefix("  ") for each in details))
        self.lines.append(line)
        self.show(line)

    def tell_found(self, about: str) -> None:
        """The end of a step: what was found in it."""
        for stall in self.stalls:
            self.tell_stall(stall, about)
        for line, error in self.found:
            if error is None:
                self.tell(line.mark, about, line.text, line.details)
            elif not any(error is each for each in self.told):  # not `in`: an error may define equality
                self.told.append(error)
                self.tell(line.mark, about, line.text, line.details)
        self.stalls.clear()
        self.found.clear()

    def tell_stall(self, stall: Stall, about: str) -> None:
        mark, why = Mark.ADVICE, "which nobody waits for here"
        if stall.importing:
            why = "an import, which takes time only once; earlier, nobody would wait for it"
        elif about != LIFESPAN:
            mark, why = Mark.WRONG, "nobody else was served meanwhile"
        text = f"kept the loop from turning for {in_words(stall.seconds)}: {why}"
        self.tell(mark, about, text, stall.lines[::-1])

    def count(self, mark: Mark) -> int:
        return sum(line.mark is mark for line in self.lines)

    @property
    def code(self) -> int:
        return WRONG_FOUND if self.count(Mark.WRONG) else SOUND

    def abandon(self, about: str, seconds: float, code: int) -> None:
        """From an alarm: the thread does not come back, so nobody else can end what is under way."""
        lines = places(calling(sys._current_frames().get(self.watched)))
        self.stalls.clear()
        text = f"it did not come back within {seconds:g} s; the check has to end here"
        self.tell(Mark.WRONG, about, text, lines[::-1])
        self.tell_found(about)
        self.tell_summary(code)
        self.leave(code)

    def leave(self, code: int) -> None:
        """End the process, for which a thread of the application's would have to end."""
        sys.stdout.flush()
        os._exit(code)

    def tell_summary(self, code: int) -> None:
        wrong, advice = self.count(Mark.WRONG), self.count(Mark.ADVICE)
        things = "1 thing is" if wrong == 1 else f"{wrong} things are"
        text = f"{things} wrong" if wrong else "Nothing is wrong"
        if advice:
            text += f"; {advice} piece{'s' if advice > 1 else ''} of advice"
        self.show(Line(Mark.WRONG if wrong else Mark.GOOD, "", f"{text}. {NEXT[code].format(self.serve)}"))


# How the server's log names a request; here that is the step.
REQUEST = re.compile(r"^(GET|WebSocket) \S+ from [\d.]+:\d+: ")

# What to do next.
NEXT = {
    SOUND: "To serve it: {0}",
    WRONG_FOUND: "To see a failed request whole, look at it in a browser: {0} --debug",
    CANNOT_LOAD: "It cannot be loaded.",
    NOT_STARTED: "It does not start, so nothing else was asked of it.",
}
