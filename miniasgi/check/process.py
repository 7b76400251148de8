"""The process of a check: it loads the application, runs the visits in a loop, and sees that there is an end.

It owns what an application can do to all of that: keep the thread, end the loop or the process, leave threads
behind. To be read last.
"""

import asyncio
import gc
import inspect
import shlex
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..asgi import Application
from ..config import UsageError
from ..explain.application import definition
from ..lifespan import alarm
from ..loading import load_app
from ..process import leave
from .report import NOT_STARTED, Mark, Report, Show, duration
from .visit import CLEAN_UP, PATIENCE, Visits
from .witness import busy_threads


def check(
    target: str,
    show: Show,
    *,
    app_dir: str = ".",
    factory: bool = False,
    paths: Sequence[str] = ("/",),
    timeout: float = 10.0,
) -> int:
    """Visit the application that `target` names; each line is shown as soon as it is known.

    Returns SOUND, WRONG_FOUND or NOT_STARTED. Raises LoadError, and UsageError for a path or a time that
    cannot be meant. An application that does not give its thread back ends the process, after the last line.
    """
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f"--path begins with a slash, not {path!r}")
    if not timeout > 0:  # put this way round, it refuses NaN too
        raise UsageError(f"--timeout is more than 0 seconds, not {timeout:g}")
    where = [] if app_dir == "." else ["--app-dir", app_dir]
    how = ["--factory"] if factory else []
    report = Report(show, shlex.join(["miniasgi", "serve", target, *where, *how]), timeout)
    with report.exits_told():
        with alarm(timeout + PATIENCE, report.abandon):
            began = time.monotonic()
            app = load_app(target, app_dir=app_dir, factory=factory)
            made = f"made by the factory {target}, " if factory else ""
            report.tell(Mark.GOOD, f"{kind_of(app)}, {made}loaded in {duration(began)}")
        code = visit(app, report, paths)
        if busy_threads(report.threads):
            report.leave(code)
    return code


def visit(app: Application, report: Report, paths: Sequence[str]) -> int:
    """Pay the visits in a loop of their own, and tell the summary; the exit code."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # What was loaded need not be looked through by each garbage collection, which would keep the loop.
    gc.freeze()
    try:
        with report.listening(loop):
            try:
                started = run(loop, Visits(app, report, loop).pay(paths), report)
            finally:
                with alarm(2 * CLEAN_UP + PATIENCE, report.abandon), ends_told(report):
                    leave(loop)
                loop.set_task_factory(None)  # the witness
            report.tell_found()
    finally:
        gc.unfreeze()
    code = report.code if started else NOT_STARTED
    report.tell_summary(code)
    return code


def run(loop: asyncio.AbstractEventLoop, visits: Coroutine[Any, Any, bool], report: Report) -> bool:
    """Run the loop to the end of the visits, also where the application ends it in the middle."""
    task = loop.create_task(visits)
    while not task.done():
        with ends_told(report):
            loop.run_until_complete(task)
    return task.result()


@contextmanager
def ends_told(report: Report) -> Iterator[None]:
    """Where the application ends the loop that the block runs, that is found, and not raised."""
    try:
        yield
    except SystemExit as error:  # outside of its calls, where it reaches the loop
        report.find(Mark.WRONG, "a task or a callback would have ended the server", error=error)
    except RuntimeError as error:
        if str(error) != "Event loop stopped before Future completed.":
            raise
        report.find(Mark.WRONG, "the application stopped the event loop, and so the server")


def kind_of(app: object) -> str:
    """What kind of object an application is: an async function app (app.py, line 3)."""
    if inspect.isfunction(app):
        kind = "an async function" if inspect.iscoroutinefunction(app) else "a function"
        return f"{kind}, {app.__name__}{definition(app)}"
    if inspect.isclass(app):
        return f"a class, {app.__module__}.{app.__qualname__}, of which each call makes an instance"
    return f"an instance of {type(app).__module__}.{type(app).__qualname__}"
