"""Whose line it was: the application's frames, in a running stack and in a traceback.

An error is told by the line that its reader can change, so miniasgi's own frames are left out where the fault
is not ours. Used on the way to an error text alone.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

from .asgi import ASGIError, ClientDisconnected

PACKAGE = str(Path(__file__).resolve().parent) + os.sep
ASYNCIO = str(Path(os.__file__).parent / "asyncio") + os.sep

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def is_ours(file: str) -> bool:
    return file.startswith((PACKAGE, ASYNCIO, "<frozen"))


def is_installed(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file


def senders() -> list[str]:
    """Who called into miniasgi: the innermost line outside of it, and the application's own above that.

    Empty where that cannot be seen, as in a task that was made of `send()` itself.
    """
    frame: FrameType | None = sys._getframe(1)
    found: list[str] = []
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_ours(file) and not (found and is_installed(file)):
            found.append(place(frame))
            if not is_installed(file):
                break
        frame = frame.f_back
    return found


def place(frame: FrameType) -> str:
    """One line of a stack: app.py, line 7, in app."""
    return f"{short(frame.f_code.co_filename)}, line {frame.f_lineno}, in {frame.f_code.co_name}"


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


def walk(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next
