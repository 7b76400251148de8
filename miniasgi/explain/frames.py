"""Whose line it was: the application's frames, in a running stack, a suspended one and a traceback.

An error is told by the line that its reader can change, so miniasgi's own frames are left out where the fault
is not ours. Used on the way to an error text alone.
"""

import gc
import inspect
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from itertools import dropwhile
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple

from ..asgi import ASGIError, ClientDisconnected

PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
ASYNCIO = STANDARD_LIBRARY + "asyncio" + os.sep

FrameLine = tuple[FrameType, int]  # a frame, and the line in it
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def is_ours(file: str) -> bool:
    return file.startswith((PACKAGE, ASYNCIO, "<frozen"))


def is_installed(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file or file.startswith(STANDARD_LIBRARY)


def senders() -> list[str]:
    """Who called into miniasgi: the application's own line, then that of the library that it went through.

    Empty where that cannot be seen, as in a task that was made of `send()` itself.
    """
    found = [place(*line) for line in reversed(outside(calling(sys._getframe(1))))]
    return [
        f"{of_package(str(each))} (a library)" if is_installed(each.file) else str(each) for each in found
    ]


def of_package(path: str) -> str:
    """The path of an installed file, from its package on."""
    return path.rpartition(f"-packages{os.sep}")[2].removeprefix(STANDARD_LIBRARY)


def places(lines: Iterable[FrameLine]) -> list[str]:
    """Of these lines, the innermost first: those that `outside` finds, with their source."""
    return [place(*line).with_source for line in outside(lines)]


def own_place(before: str, lines: Iterable[FrameLine]) -> str:
    """The application's own of these lines, innermost first, behind some words; "" where there is none."""
    return "".join(before + line for line in places(lines)[-1:])


# Who calls the application, and who runs the loop: what lies further out than these is not the application's.
RUNNERS = ("run", "run_forever")


def outside(lines: Iterable[FrameLine]) -> list[FrameLine]:
    """Of these lines, the innermost first: the first one outside of miniasgi, and the application's own."""
    found: list[FrameLine] = []
    through_us = False
    for frame, number in lines:
        file = frame.f_code.co_filename
        if is_ours(file) and frame.f_code.co_name in RUNNERS:
            break
        if file.startswith(PACKAGE):
            through_us = True
        elif not is_ours(file) and (through_us or not (found and is_installed(file))):
            if through_us:
                found.clear()  # what was found further in is what we called
                through_us = False
            found.append((frame, number))
            if not is_installed(file):
                break
    return found


def calling(frame: FrameType | None) -> Iterator[FrameLine]:
    """A running stack, from this frame outwards, as far as that is who asked for it.

    A coroutine is run by another one, or by asyncio; by any other function only where the loop is not
    written in Python, and that is who runs the loop.
    """
    while frame is not None:
        yield frame, frame.f_lineno
        inner, frame = frame, frame.f_back
        if frame is None or not inner.f_code.co_flags & COROUTINE:
            continue
        if not (frame.f_code.co_flags & MAY_AWAIT or is_ours(frame.f_code.co_filename)):
            return


# What a function is, by its code's flags. A generator may be a coroutine's `__await__`.
COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
MAY_AWAIT = COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def running_in(thread: int) -> list[FrameLine]:
    """The stack of a thread at this moment, the innermost line first; empty where there is no such thread.

    Garbage is not collected meanwhile: in Python 3.11, where looking at a frame may begin that, other threads
    could run on in the middle of it. A crash was seen once without this, and not again; it is a precaution.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return list(calling(sys._current_frames().get(thread)))
    finally:
        if collects:
            gc.enable()


def raising(error: BaseException) -> list[FrameLine]:
    """Where an exception was raised, and what it passed; raised by us or by asyncio, from the call on."""
    lines = [(entry.tb_frame, entry.tb_lineno) for entry in walk(error.__traceback__)]
    return list(dropwhile(lambda line: is_ours(line[0].f_code.co_filename), reversed(lines)))


def awaiting(awaited: object) -> list[FrameLine]:
    """Where a coroutine that does not run waits, and who waits for it there."""
    found: list[FrameLine] = []
    while awaited is not None:
        if (link := links(awaited)) is None:
            # What `async for` and `__await__` of a coroutine make does not say of whom; the collector knows.
            known = [each for each in gc.get_referents(awaited) if links(each) is not None]
            awaited = known[0] if known else None
            continue
        frame, awaited = link
        if frame is not None and frame.f_lineno is not None:
            found.append((frame, frame.f_lineno))
    return found[::-1]


def links(awaited: object) -> tuple[FrameType | None, object] | None:
    """(the frame, what it waits for) of a coroutine or a generator of either kind; None for all else."""
    for frame, waits_for in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(awaited, frame):
            return getattr(awaited, frame), getattr(awaited, waits_for)
    return None


class Place(NamedTuple):
    """One line of a stack, as it is told: app.py, line 7, in app."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{short(self.file)}, line {self.line}, in {self.function}"

    @property
    def with_source(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{self}: {source}" if source else str(self)


def place(frame: FrameType, number: int) -> Place:
    return Place(frame.f_code.co_filename, number, frame.f_code.co_name)


# A place in the text of a traceback, where nobody has the frames any more.
PLACE = re.compile(r'^  File "(.+)", line (\d+), in (.+)', re.MULTILINE)


def traced(text: str) -> list[Place]:
    """The places that a traceback names, the innermost first."""
    return [Place(file, int(line), function) for file, line, function in PLACE.findall(text)][::-1]


def short(file: str) -> str:
    """The file as seen from the folder in which the process was started."""
    here = os.environ.get("PWD")
    return file.removeprefix(here + os.sep) if here else file


def of_application(error: BaseException) -> ExceptionInfo:
    """`error` for the log: its traceback begins in the application, and for an ASGIError ends there, too."""
    entries = list(walk(error.__traceback__))
    outside = [
        at for at, entry in enumerate(entries) if not entry.tb_frame.f_code.co_filename.startswith(PACKAGE)
    ]
    if not outside:
        return type(error), error, error.__traceback__
    end = outside[-1] + 1 if isinstance(error, ASGIError | ClientDisconnected) else len(entries)
    trace = None
    for entry in reversed(entries[outside[0] : end]):
        trace = TracebackType(trace, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return type(error), error, trace


def summary(error: BaseException) -> str:
    """The error's type and text in one line, without its notes."""
    lines = traceback.format_exception_only(error)
    return lines[-1 if isinstance(error, SyntaxError) else 0].strip().splitlines()[0]


def is_call_itself(error: BaseException) -> bool:
    """Whether calling the application failed, and not the application: no frame of it is in the traceback."""
    files = (entry.tb_frame.f_code.co_filename for entry in walk(error.__traceback__))
    return isinstance(error, TypeError) and all(file.startswith(PACKAGE) for file in files)


def not_called(error: BaseException) -> str:
    """What is told of an application that could not be called."""
    return (
        f"ASGI calls `await app(scope, receive, send)`, which failed: {error}. "
        "Is the application declared with `def` in place of `async def`, or is it no ASGI application?"
    )


def walk(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
