"""Report: the lines that are told of an application, and what was found since the last one.

It owns the marks, the words of the summary, and the exit codes. What the server and the loop say against the
application in their logs is found here, too. It knows no visit, only the name of the step that goes on.
"""

import asyncio
import gc
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from ..explain.awaits import DEPTH, unawaited_heard
from ..explain.frames import FrameLine, calling, is_installed, places, raising, running_in, summary, traced
from ..observe.watchdog import Stall
from .witness import sole

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


class Finding(NamedTuple):
    """What is to be told at the end of the step."""

    mark: Mark
    text: str
    details: tuple[str, ...]
    error: BaseException | None = None  # what it is about; that is told once
    of_server: bool = False  # the server said so in its log


LOADING, LIFESPAN = "application", "lifespan"


def labels(paths: Iterable[str]) -> list[str]:
    """All that a line may be about."""
    return [LOADING, LIFESPAN, *(f"{each} {path}" for path in paths for each in ("GET", "WebSocket"))]


def duration(began: float) -> str:
    return in_words(time.monotonic() - began)


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def counted(number: int, thing: str) -> str:
    """1 message, 2 messages"""
    return f"{number} {thing}{'' if number == 1 else 's'}"


class Report(logging.Handler):
    """The lines that were told, and what was found since then. Made by `check`; hears the server's log.

    Findings come from wherever they come; they are told under the step in which they did.
    """

    def __init__(self, show: Show, serve: str, timeout: float) -> None:
        super().__init__(logging.WARNING)
        self.show = show
        self.serve = serve  # the command that serves the same application
        self.timeout = timeout  # what each step may take, in seconds
        self.about = LOADING  # the step that goes on
        self.code_now = CANNOT_LOAD  # what is returned if the check has to end in this step
        self.lines: list[Line] = []
        self.found: list[Finding] = []
        self.stalls: list[Stall] = []  # the same, of which the loop is still to say how long they took
        self.told: list[BaseException] = []  # what need not be told again when it reaches the log
        self.failed_get = False  # an answer to GET was 500 or above
        self.overdue = False  # a step took longer than it may
        self.threads = set(threading.enumerate())  # those that there were before
        self.watched = threading.get_ident()

    # ---- what comes in ----

    @contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """While the block runs, what the server, the loop and Python would log or warn of is found."""
        log = logging.getLogger("miniasgi")
        before = log.handlers[:], log.propagate, log.disabled, log.level
        # Disabled, it is by an application that configures logging as it is loaded, as Django does.
        log.handlers[:], log.propagate, log.disabled = [self], False, False
        log.setLevel(logging.WARNING)
        loop.set_exception_handler(self.on_loop_error)
        try:
            with unawaited_heard(self.on_unawaited, depth=DEPTH):
                yield
        finally:
            loop.set_exception_handler(lambda *_: None)  # what the application keeps till the end was told
            log.handlers[:], log.propagate, log.disabled = before[:3]
            log.setLevel(before[3])

    def emit(self, record: logging.LogRecord) -> None:
        text, details = as_told(record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        self.find(Mark.WRONG, REQUEST.sub("", text), details, error, of_server=True)

    def on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task of the application's that nobody waited for has failed, and the like."""
        self.find(Mark.WRONG, context["message"], error=context.get("exception"))

    def on_unawaited(self, text: str, own: bool) -> None:
        text, *details = text.splitlines()
        self.find(Mark.WRONG if own else Mark.ADVICE, text, details)

    def on_advice(self, text: str, lines: list[str]) -> None:
        text, _, rule = text.partition("\n")
        # Some advice the server gives by itself, in its log, without the line.
        self.found[:] = [each for each in self.found if each.text != text]
        foreign = bool(lines) and lines[0].endswith("(a library)")
        self.find(Mark.ADVICE, text + (" (not by your own code)" if foreign else ""), [*lines, rule])

    def find(
        self,
        mark: Mark,
        text: str,
        details: Iterable[str] = (),
        error: BaseException | None = None,
        *,
        of_server: bool = False,
    ) -> None:
        """To be told at the end of the step, unless the error has been by then."""
        if error is not None:
            error = sole(error)
            text, details = f"{text}: {summary(error)}", [*details, *places(raising(error))[::-1]]
        self.found.append(Finding(mark, text, tuple(details), error, of_server))

    def forgive(self) -> None:
        """What the server said in this step is no fault: it was told as a fact."""
        self.found[:] = [each for each in self.found if not each.of_server]

    def locate(self, error: BaseException) -> None:
        """What the server said in this step without a line was about this error."""
        lines = tuple(places(raising(error))[::-1])
        self.found[:] = [
            each._replace(details=lines) if each.of_server and not each.details else each
            for each in self.found
        ]

    # ---- what goes out ----

    def tell(self, mark: Mark, text: str, details: Iterable[str] = ()) -> None:
        line = Line(mark, self.about, text, tuple(each.removeprefix("  ") for each in details))
        self.lines.append(line)
        self.show(line)

    def tell_found(self) -> None:
        """The end of a step: what was found in it."""
        self.tell_each_found()
        for error in self.told:
            drop_traceback(error)
        gc.collect()  # what else was dropped may be part of a ring
        self.tell_each_found()

    def tell_each_found(self) -> None:
        for stall in self.stalls:
            self.tell_stall(stall)
        for each in self.found:
            if any(each.error is told for told in self.told):  # not `in`: an error may define equality
                continue
            if each.error is not None:
                self.told.append(each.error)
            self.tell(each.mark, each.text, each.details)
        self.stalls.clear()
        self.found.clear()

    def tell_stall(self, stall: Stall) -> None:
        mark, why = Mark.ADVICE, "which nobody waits for here"
        if stall.importing:
            why = "an import, which takes time only once; at the top of the file, nobody would wait for it"
        elif self.about != LIFESPAN:
            mark, why = Mark.WRONG, "nobody else was served meanwhile"
        text = f"kept the loop from turning for {in_words(stall.seconds)}: {why}"
        self.tell(mark, text, stall.lines[::-1])

    def count(self, mark: Mark) -> int:
        return sum(line.mark is mark for line in self.lines)

    @property
    def code(self) -> int:
        return WRONG_FOUND if self.count(Mark.WRONG) else SOUND

    # ---- the end ----

    def abandon(self) -> None:
        """From an alarm: the thread does not come back, so nobody else can end what is under way."""
        self.overdue = True
        self.stalls.clear()
        text = f"it did not come back within {self.timeout:g} s; the check has to end here"
        self.end_at(running_in(self.watched), text)

    def end_at(self, stack: Iterable[FrameLine], text: str) -> NoReturn:
        """The application ends the check, by what it does there."""
        self.tell(Mark.WRONG, text, places(stack)[::-1])
        self.tell_found()
        self.tell_summary(self.code_now)
        self.leave(self.code_now)

    @contextmanager
    def exits_told(self) -> Iterator[None]:
        """While the block runs, os._exit() is told: it would end the check without a word, perhaps with 0."""
        checked = os.getpid()

        def tell(status: int) -> NoReturn:
            if os.getpid() == checked:  # the end of a child process is its own affair
                self.end_at(calling(sys._getframe(1)), f"it ended the process by os._exit({status})")
            end_process(status)

        os._exit = tell
        try:
            yield
        finally:
            os._exit = end_process

    def leave(self, code: int) -> NoReturn:
        """End the process, for which a thread of the application's would have to end."""
        sys.stdout.flush()
        end_process(code)

    def tell_summary(self, code: int) -> None:
        advice = self.count(Mark.ADVICE)
        wrong = [line.about for line in self.lines if line.mark is Mark.WRONG]
        text = "Nothing is wrong"
        if wrong:
            steps = ", ".join(dict.fromkeys(wrong))
            text = f"{counted(len(wrong), 'thing')} {'is' if len(wrong) == 1 else 'are'} wrong ({steps})"
        if advice:
            text += f"; {counted(advice, 'piece')} of advice"
        text = "\n".join([f"{text}.", *self.what_next(code)])
        self.show(Line(Mark.WRONG if wrong else Mark.GOOD, "", text))

    def what_next(self, code: int) -> Iterator[str]:
        if code == NOT_STARTED:
            yield "It does not start, so nothing else was asked of it."
        if self.overdue:
            yield f"Where it only needs longer: --timeout {6 * self.timeout:g}"
        if code == NOT_STARTED:
            yield f"To serve it without its startup and shutdown: {self.serve} --lifespan off"
        elif self.failed_get:
            yield f"To see a failed request whole, look at it in a browser: {self.serve} --debug"
        elif code != CANNOT_LOAD:
            yield f"{'To serve it all the same' if code else 'To serve it'}: {self.serve}"


def drop_traceback(error: BaseException | None) -> None:
    """An error that was told is kept to be known again; its frames would keep all that was in them."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


end_process = os._exit

# How the server's log names a request; here that is the step.
REQUEST = re.compile(r"^(GET|WebSocket) \S+ from [\d.]+:\d+: ")
BEGIN = "Traceback (most recent call last):\n"


def as_told(text: str) -> tuple[str, list[str]]:
    """(a line to tell, those below it); of a traceback the error, and the innermost place of one's own."""
    head, begin, trace = text.rpartition(BEGIN)
    if not begin:
        first, *others = text.splitlines()
        return first, others
    places = traced(trace)
    own = [each for each in places if not is_installed(each.file)]
    head = head.partition(BEGIN)[0]  # further ones are of the errors that came before
    return head + trace.strip().rpartition("\n")[2], [each.with_source for each in (own or places)[:1]]
