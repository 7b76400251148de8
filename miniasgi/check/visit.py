"""The visits: startup, each path by GET and as a WebSocket, shutdown; each step with its limit of time.

It owns their order, and what is said of each. To be read last, after `report`, `witness` and `client`.
"""

import asyncio
import inspect
import shlex
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..asgi import Application
from ..config import Config, UsageError
from ..frames import is_installed, places, raising, short, summary
from ..lifespan import StartupFailed
from ..loading import load_app
from ..observe.conversation import Recorded
from ..observe.watchdog import Watchdog
from ..process import leave
from ..server import Server
from .client import Answer, ask, shake_hands
from .report import (
    CANNOT_LOAD,
    LIFESPAN,
    LOADING,
    NOT_STARTED,
    WRONG_FOUND,
    Mark,
    Report,
    Show,
    duration,
    in_words,
    sole,
)
from .witness import Call, Witness, busy_threads, waits

# How long a callback may keep the loop, in seconds: longer, and every other client notices.
BLOCKING = 0.1
# How long what was cancelled, or is about to end by itself, may take.
CLEAN_UP = 1.0
# A step that goes on for so long after its limit does not give the loop back.
PATIENCE = 5.0


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
    report = Report(show, shlex.join(["miniasgi", "serve", target, *where, *how]))
    with alarm(timeout + PATIENCE, partial(report.abandon, LOADING, timeout, CANNOT_LOAD)):
        began = time.monotonic()
        app = load_app(target, app_dir=app_dir, factory=factory)
        made = f"made by the factory {target}, " if factory else ""
        report.tell(Mark.GOOD, LOADING, f"{kind_of(app)}, {made}loaded in {duration(began)}")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with report.listening(loop):
            code = loop.run_until_complete(Visit(app, report, timeout, loop).pay(paths))
    finally:
        leave(loop)
    if busy_threads(report.threads):
        report.leave(code)
    return code


def kind_of(app: object) -> str:
    """What kind of object an application is: an async function app (app.py, line 3)."""
    if inspect.isfunction(app):
        kind = "an async function" if inspect.iscoroutinefunction(app) else "a function"
        return (
            f"{kind}, {app.__name__} ({short(app.__code__.co_filename)}, line {app.__code__.co_firstlineno})"
        )
    if inspect.isclass(app):
        return f"a class, {app.__module__}.{app.__qualname__}, of which each call makes an instance"
    return f"an instance of {type(app).__module__}.{type(app).__qualname__}"


@contextmanager
def alarm(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in a thread of its own, unless the block ends in time. No loop need turn for it."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Visit:
    """Pays the visits, in order: startup, each path by GET and as a WebSocket, shutdown. Made by `check`."""

    def __init__(
        self, app: Application, report: Report, timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.report = report
        self.timeout = timeout
        self.loop = loop
        self.witness = Witness(app, loop)
        # The limits of time are kept here; the server's own only stand behind them.
        config = Config(
            port=0, access_log=False, timeout_lifespan=timeout + PATIENCE, timeout_graceful_shutdown=CLEAN_UP
        )
        self.server = Server(Recorded(self.witness, report.on_advice), config)
        self.watchdog = Watchdog(BLOCKING, report.stalls.append)
        self.where: list[str] | None = None  # where the application waited, if the step took too long

    async def pay(self, paths: Sequence[str]) -> int:
        self.watchdog.start()
        await asyncio.sleep(0)  # its first beat
        try:
            if not await self.startup():
                self.report.tell_summary(NOT_STARTED)
                return NOT_STARTED
            for path in paths:
                await self.get(path)
                await self.websocket(path)
            await self.shutdown()
        finally:
            self.watchdog.stop()
        self.report.tell_summary(self.report.code)
        return self.report.code

    @contextmanager
    def step(self, about: str, end: Callable[[], object]) -> Iterator[None]:
        """One step, and its limit: then it is looked at where the application waits, and `end` is called."""
        self.where = None

        def look() -> None:
            calls = [call for call in self.witness.calls if call.is_running(lifespan=about == LIFESPAN)]
            tasks = [line for task in self.witness.running(*calls) for line in self.witness.describe(task)]
            self.where = [
                *(line for call in calls for line in waits(call.task)),
                *busy_threads(self.report.threads),
                *tasks,
            ]
            end()

        code = NOT_STARTED if about == LIFESPAN and not self.witness.calls else WRONG_FOUND
        timer = self.loop.call_later(self.timeout, look)
        try:
            with alarm(self.timeout + PATIENCE, partial(self.report.abandon, about, self.timeout, code)):
                yield
        finally:
            timer.cancel()

    # ---- lifespan ----

    async def startup(self) -> bool:
        began = time.monotonic()
        failure: StartupFailed | None = None
        with self.step(LIFESPAN, partial(self.server.stop, at_once=True)):
            try:
                await self.server.__aenter__()
            except StartupFailed as error:
                failure = error
        calls = [call for call in self.witness.calls if call.scope["type"] == "lifespan"]
        if failure is not None:
            text, lines = str(failure), places(raising(failure.__cause__)) if failure.__cause__ else []
            if self.where is not None:
                text, lines = f"the startup was not complete within {self.timeout:g} s", self.where
            elif failure.__cause__ is not None:
                self.report.told.append(sole(failure.__cause__))
            self.report.tell(Mark.WRONG, LIFESPAN, text, lines)
        elif "lifespan.startup.complete" in calls[0].kinds:
            self.report.tell(Mark.GOOD, LIFESPAN, f"supported: started in {duration(began)}")
        else:
            self.tell_unsupported(calls[0], LIFESPAN)
        self.tell_refused(calls, LIFESPAN)
        self.report.tell_found(LIFESPAN)
        return failure is None

    async def shutdown(self) -> None:
        began = time.monotonic()
        [call] = [call for call in self.witness.calls if call.scope["type"] == "lifespan"]
        supported = "lifespan.startup.complete" in call.kinds
        refused = len(call.refused)
        with self.step(LIFESPAN, partial(self.server.stop, at_once=True)):
            await self.server.__aexit__(None, None, None)
        if self.where is not None:
            text = f"the shutdown was not complete within {self.timeout:g} s"
            self.report.tell(Mark.WRONG, LIFESPAN, text, self.where)
        elif "lifespan.shutdown.complete" in call.kinds:
            self.report.tell(Mark.GOOD, LIFESPAN, f"shut down in {duration(began)}")
        elif supported and call.error is None and "lifespan.shutdown.failed" not in call.kinds:
            text = "ended without a shutdown: it never sent lifespan.shutdown.complete"
            self.report.tell(Mark.ADVICE, LIFESPAN, text)
        call.refused[:refused] = []
        self.tell_refused([call], LIFESPAN)
        await self.tell_left_behind(call)
        self.report.tell_found(LIFESPAN)

    async def tell_left_behind(self, call: Call) -> None:
        if tasks := self.witness.running(call):
            await asyncio.wait(tasks, timeout=CLEAN_UP)
        for task in self.witness.running(call):
            text = "a task that the application started still runs after its shutdown"
            self.report.find(Mark.WRONG, text, self.witness.describe(task))
        end = time.monotonic() + CLEAN_UP
        while busy_threads(self.report.threads) and time.monotonic() < end:  # noqa: ASYNC110 (a thread tells nobody)
            await asyncio.sleep(0.01)
        if lines := busy_threads(self.report.threads):
            text = "a thread still runs, for which the process would wait at its end"
            self.report.find(Mark.ADVICE, text, lines)

    # ---- requests ----

    async def get(self, path: str) -> None:
        about, answer = f"GET {path}", Answer()
        call = await self.request(about, answer, ask(self.server.port, path, answer))
        parts = [str(answer.status), answer.header(b"content-type") or "no content-type"]
        if answer.header(b"location"):
            parts.append(f"to {answer.header(b'location')}")
        sent = call.sent if call else 0
        messages = f"{sent} message{'' if sent == 1 else 's'} sent"
        text = f"{', '.join(parts)}, {answer.size} bytes in {in_words(answer.seconds)}; {messages}"
        mark, details = Mark.GOOD, list[str]()
        if answer.complete and answer.status >= 500 and not self.faults(call):
            mark = Mark.WRONG
        elif answer.complete:
            mark = Mark.FACT if answer.status >= 500 else Mark.GOOD  # why it failed stands below
            details = HINTS.get(answer.status, details)
        elif answer.streams:
            text = f"{', '.join(parts)}, a stream: {answer.size} bytes so far; {messages}"
        elif self.where is not None:
            mark, details = Mark.WRONG, self.where
            text = f"no answer within {self.timeout:g} s"
            if answer.status:
                text = f"{', '.join(parts)}, but not the whole answer within {self.timeout:g} s; {messages}"
        else:
            mark, text = Mark.FACT, f"broken off: {answer.broken}"
        self.report.tell(mark, about, text, details)
        await self.tell_request(call, about, answer)

    async def websocket(self, path: str) -> None:
        about, answer = f"WebSocket {path}", Answer()
        call = await self.request(about, answer, shake_hands(self.server.port, path, answer))
        if answer.status == 101:
            self.report.tell(Mark.GOOD, about, f"supported: accepted in {in_words(answer.seconds)}")
            if call is not None and call.error is not None and is_disconnect(call):
                self.report.told.append(sole(call.error))
                raised = summary(sole(call.error))
                text = f"raised {raised} when the client left; caught, it would not fill the log"
                self.report.tell(Mark.ADVICE, about, text, places(raising(call.error))[::-1])
        elif self.where is not None and not answer.complete:
            text = f"no answer to the handshake within {self.timeout:g} s"
            self.report.tell(Mark.WRONG, about, text, self.where)
        elif (
            call is not None and call.error is not None and (call.unaware or not (call.received or call.sent))
        ):
            self.tell_unsupported(call, about)
        elif call is not None and call.sent and answer.complete:
            how = (
                "closed before it was accepted"
                if "websocket.close" in call.kinds
                else "by a response of its own"
            )
            text = f"supported: denied with {answer.status} in {in_words(answer.seconds)} ({how})"
            self.report.tell(Mark.GOOD, about, text)
        else:
            text = f"failed; the server answered {answer.status}" if answer.status else answer.broken
            self.report.tell(Mark.FACT, about, text)
        await self.tell_request(call, about, answer)

    async def request(self, about: str, answer: Answer, asking: Coroutine[Any, Any, None]) -> Call | None:
        """Pay one visit, and see the call end that it was; None where the application was not called."""
        before = len(self.witness.calls)

        async def visit() -> None:
            await asking
            for call in self.witness.calls[before:]:
                await call.ended.wait()

        client = asyncio.ensure_future(visit())
        with self.step(about, client.cancel):
            await asyncio.wait((client,))
        if not client.cancelled():
            client.result()
        call = next(iter(self.witness.calls[before:]), None)
        if call is not None and self.where is not None:
            answer.streams = answer.streams or (
                answer.size > 0 and call.sent_last > answer.began + self.timeout / 2
            )
            await self.end(call)
        return call

    async def end(self, call: Call) -> None:
        """The step is over, and its client has left: the call may end by itself, and then has to."""
        assert call.task is not None
        await asyncio.wait((call.task,), timeout=CLEAN_UP)
        if not call.task.done():
            call.task.cancel()
            await asyncio.wait((call.task,), timeout=CLEAN_UP)

    async def tell_request(self, call: Call | None, about: str, answer: Answer) -> None:
        """What else was found in a request, below its first line."""
        if call is not None:
            if self.where is not None and answer.complete:
                text = f"the application still runs {self.timeout:g} s later, though all was said"
                self.report.tell(Mark.ADVICE, about, text, self.where)
            self.tell_refused([call], about)
            if tasks := self.witness.running(call):
                await asyncio.wait(tasks, timeout=CLEAN_UP / 4)
            for task in self.witness.running(call):
                text = "a task that it started runs on after the answer; a stop of the server cuts it off"
                self.report.find(Mark.ADVICE, text, self.witness.describe(task))
        self.report.tell_found(about)

    def faults(self, call: Call | None) -> bool:
        """Whether a line below says why a request failed."""
        found = any(line.mark is Mark.WRONG for line, _ in self.report.found)
        return found or (call is not None and bool(call.refused or call.error))

    # ---- words for both ----

    def tell_unsupported(self, call: Call, about: str) -> None:
        if call.error is None:
            self.report.tell(Mark.FACT, about, "not supported: the application returned at once")
            return
        self.report.told.append(sole(call.error))
        own = [line for line in places(raising(call.error)) if not is_installed(line)]
        did = f"sent {call.refused[0][0]}" if call.unaware else f"raised {summary(sole(call.error))}"
        self.report.tell(Mark.FACT, about, f"not supported: {did}", own)
        if call.unaware:
            text = "it does not look at scope['type']; for a type that it does not know, it should raise"
            self.report.tell(Mark.ADVICE, about, text)
            call.refused.clear()

    def tell_refused(self, calls: Iterable[Call], about: str) -> None:
        for call in calls:
            for _, error in call.refused:
                text, *details = str(error).splitlines()
                self.report.told.append(error)
                self.report.tell(Mark.WRONG, about, text, details)


def is_disconnect(call: Call) -> bool:
    """Whether a call ended by what its framework raises when a client leaves, as Starlette does."""
    return call.left and type(sole(call.error or Exception())).__name__.endswith("Disconnect")


HINTS = {
    400: ["is a request for the host 127.0.0.1 refused? Django has its names in ALLOWED_HOSTS"],
    404: ["another path is asked for by --path"],
}
