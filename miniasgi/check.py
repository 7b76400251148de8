"""`miniasgi check`: what an application can, and what it does wrong, in words.

It owns the visits that are paid to the application, one after another, each with a limit of time, and the
lines that are told of them. It stands above the server, which it starts in its own process on a free port of
127.0.0.1, and knows no terminal: who calls `check` shows the lines. What the server says against an
application in its log is told here as a finding.
"""

import asyncio
import inspect
import logging
import os
import re
import shlex
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import h11
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import RemoteProtocolError

from .asgi import Application, ASGIError, Message, Receive, Scope, Send
from .config import Config, UsageError
from .frames import FrameLine, awaiting, calling, is_installed, places, raising, short
from .lifespan import StartupFailed
from .loading import load_app
from .observe.conversation import Recorded
from .observe.watchdog import Stall, Watchdog
from .process import awaits_explained, leave
from .server import Server

SOUND, WRONG_FOUND, CANNOT_LOAD, NOT_STARTED = 0, 1, 2, 3  # what `check` returns

# How long a callback may keep the loop, in seconds: longer, and every other client notices.
BLOCKING = 0.1
# How long what was cancelled, or is about to end by itself, may take.
CLEAN_UP = 1.0
# A step that goes on for so long after its limit does not give the loop back.
PATIENCE = 5.0


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


LOADING, LIFESPAN = "application", "lifespan"


def labels(paths: Iterable[str]) -> list[str]:
    """All that a line may be about."""
    return [LOADING, LIFESPAN, *(f"{each} {path}" for path in paths for each in ("GET", "WebSocket"))]


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


def duration(began: float) -> str:
    return in_words(time.monotonic() - began)


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def sole(error: BaseException) -> BaseException:
    """A group of one, as task groups raise it, is told as that one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def summary(error: BaseException) -> str:
    """The type of an error, and the first line of its text."""
    return "".join(traceback.format_exception_only(sole(error))).strip().partition("\n")[0]


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


# ---- what is told -----------------------------------------------------------------------------------------


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
                with awaits_explained():
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
        foreign = bool(lines) and all(map(is_installed, lines))
        self.find(Mark.ADVICE, text + (" (not by your own code)" if foreign else ""), lines)

    def find(
        self, mark: Mark, text: str, details: Iterable[str] = (), error: BaseException | None = None
    ) -> None:
        """To be told at the end of the step, unless the error has been by then."""
        if error is not None:
            error = sole(error)
            text, details = f"{text}: {summary(error)}", [*details, *places(raising(error))[::-1]]
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


# ---- what is seen of the application ----------------------------------------------------------------------


class Call:
    """One call of the application. Made by Witness."""

    __slots__ = (
        "ended",  # set when the application has returned or raised
        "error",  # what it raised
        "kinds",  # the types of the messages that it sent
        "left",  # it was told that the client had left
        "received",  # it was given a message
        "refused",  # (type of the message, what send() raised against it)
        "scope",
        "sent",  # how many messages it sent
        "sent_last",  # when the last one was
        "task",  # what runs it
    )

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.task = asyncio.current_task()
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self.kinds: set[str] = set()
        self.left = False
        self.received = False
        self.refused: list[tuple[object, ASGIError]] = []
        self.sent = 0
        self.sent_last = 0.0

    def is_running(self, *, lifespan: bool) -> bool:
        return (self.scope["type"] == "lifespan") is lifespan and not self.ended.is_set()

    @property
    def unaware(self) -> bool:
        """It sent messages of another protocol only: the application does not look at the scope's type."""
        protocols = {str(kind).partition(".")[0] for kind, _ in self.refused}
        return not self.sent and bool(protocols) and self.scope["type"] not in protocols


# The call in whose context something runs: also in the tasks that it started, and theirs.
current: ContextVar[Call | None] = ContextVar("call", default=None)


class Witness:
    """A stand-in for the application that keeps a Call of each call, and knows whose tasks are whose."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.calls: list[Call] = []
        # Each task that a call of the application started, with the lines that did.
        self.tasks: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[Call, list[str]]]
        self.tasks = weakref.WeakKeyDictionary()
        loop.set_task_factory(self.make_task)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope)
        self.calls.append(call)
        current.set(call)

        async def recorded_receive() -> Message:
            message = await receive()
            call.received = True
            call.left = call.left or message["type"].endswith(".disconnect")
            return message

        async def recorded_send(message: Message) -> None:
            try:
                await send(message)
            except ASGIError as error:
                kind = message.get("type") if isinstance(message, MutableMapping) else None
                call.refused.append((kind, error))
                raise
            call.sent += 1
            call.sent_last = time.monotonic()
            call.kinds.add(message["type"])

        try:
            await self.app(scope, recorded_receive, recorded_send)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.ended.set()

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, /, **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **options)
        if (call := current.get()) is not None:
            self.tasks[task] = call, places(calling(sys._getframe(1)))
        return task

    def running(self, *calls: Call) -> list["asyncio.Task[Any]"]:
        """The tasks that these calls started and that have not ended; not the calls themselves."""
        own = [call.task for call in self.calls]
        return [
            task
            for task, (call, _) in self.tasks.items()
            if call in calls and not task.done() and task not in own
        ]

    def describe(self, task: "asyncio.Task[Any]") -> list[str]:
        """What a task is, who started it, and where it waits."""
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", repr(coroutine))
        given = task.get_name()
        if given != "None" and not given.startswith(
            "Task-"
        ):  # the names that asyncio gives (3.13.0: the first)
            name += f", named {given}"
        made = [f"started by {line}" for line in self.tasks[task][1][-1:]]
        return [f"task {name}", *made, *waits(task)]


def waits(task: "asyncio.Task[Any] | None") -> list[str]:
    """Where a task waits: the application's own line, and the innermost one where that is another."""
    lines = places(awaiting(task.get_coro())) if task is not None else []
    return [f"waits in {line}" for line in lines[::-1]]


def busy_threads(before: set[threading.Thread]) -> list[str]:
    """Where the threads are that were started since, and for which the process would wait at its end."""
    frames, found = sys._current_frames(), []
    for thread in set(threading.enumerate()) - before - {threading.current_thread()}:
        stack = list(calling(frames.get(thread.ident or 0)))
        if stack and not thread.daemon and not is_idle(stack):
            found.append(f"a thread is in {places(stack)[-1]}")
    return found


def is_idle(stack: Iterable[FrameLine]) -> bool:
    """Whether a thread is one of a pool that waits for work: such threads end with the process."""
    for frame, _ in stack:
        if not frame.f_code.co_filename.endswith(("threading.py", "queue.py")):
            return (Path(frame.f_code.co_filename).parent.name, frame.f_code.co_name) in POOLS
    return False


# Where the threads of concurrent.futures and of anyio wait: the folder, and the function.
POOLS = {("futures", "_worker"), ("_backends", "run")}


# ---- the visits -------------------------------------------------------------------------------------------


class Answer:
    """What a client saw of one request; filled in as it comes."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seconds = 0.0  # until it was complete
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.size = 0
        self.complete = False
        self.streams = False  # it is meant to have no end
        self.broken = "without a reason"  # why it ended before its end

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def end(self) -> None:
        self.complete = True
        self.seconds = time.monotonic() - self.began


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
        messages = f"{call.sent if call else 0} messages sent"
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
                text = f"raised {summary(call.error)} when the client left; caught, it would not fill the log"
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
        did = f"sent {call.refused[0][0]}" if call.unaware else f"raised {summary(call.error)}"
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


# ---- the client -------------------------------------------------------------------------------------------

HOST = "127.0.0.1"
AGENT = (b"user-agent", b"miniasgi check")
READ = 65536


async def ask(port: int, path: str, answer: Answer) -> None:
    """GET the path; `answer` is filled in. Returns at its end, or once it is known to be an event stream."""
    client = h11.Connection(h11.CLIENT)
    headers = [(b"host", f"{HOST}:{port}".encode()), AGENT, (b"accept", b"*/*"), (b"connection", b"close")]
    request = h11.Request(method=b"GET", target=as_target(path), headers=headers)
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write((client.send(request) or b"") + (client.send(h11.EndOfMessage()) or b""))
        while not answer.complete:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await reader.read(READ))
            elif isinstance(event, h11.Response):
                answer.status, answer.headers = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                answer.size += len(event.data)
                answer.streams = answer.header(b"content-type").startswith("text/event-stream")
                if answer.streams:
                    break
            elif isinstance(event, h11.EndOfMessage):
                answer.end()
    except (OSError, h11.RemoteProtocolError) as error:
        answer.broken = str(error)
    finally:
        writer.close()


async def shake_hands(port: int, path: str, answer: Answer) -> None:
    """Open a WebSocket and close it with 1000, or take the denial; `answer` is filled in."""
    client = WSConnection(ConnectionType.CLIENT)
    headers = [AGENT, (b"origin", f"http://{HOST}:{port}".encode())]  # as a page of the same site has it
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(client.send(ws.Request(f"{HOST}:{port}", as_target(path), extra_headers=headers)))
        closed = False
        while not closed:
            data = await reader.read(READ)
            client.receive_data(data or None)
            for event in client.events():
                if isinstance(event, ws.AcceptConnection):
                    answer.status = 101
                    answer.end()
                    writer.write(client.send(ws.CloseConnection(1000)))
                elif isinstance(event, ws.RejectConnection):
                    answer.status = event.status_code
                    closed = not event.has_body
                elif isinstance(event, ws.RejectData):
                    closed = event.body_finished
                elif isinstance(event, ws.CloseConnection):
                    closed = True
        if not answer.complete:
            answer.end()
    except (OSError, RemoteProtocolError) as error:
        answer.broken = str(error)
    finally:
        writer.close()


def as_target(path: str) -> str:
    """The path as it stands in a request line; what is escaped already stays so."""
    return quote(path, safe="/?%&=+:@,;!$'()*~-._")
