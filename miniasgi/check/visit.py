"""The visits: startup, each path by GET and as a WebSocket, shutdown; each step with its limit of time.

It owns their order, and what is said of each.
"""

import asyncio
import shlex
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..asgi import Application
from ..config import Config
from ..explain.frames import is_call_itself, is_installed, places, raising, summary
from ..lifespan import StartupFailed, alarm
from ..observe.conversation import Recorded
from ..observe.watchdog import Watchdog
from ..server import Server
from .client import Answer, ask, shake_hands
from .report import (
    LIFESPAN,
    LOADING,
    NOT_STARTED,
    WRONG_FOUND,
    Mark,
    Report,
    as_told,
    counted,
    duration,
    in_words,
)
from .witness import Call, Witness, busy_threads, is_foreign, sole, waits

# How long a callback may keep the loop, in seconds: longer, and every other client notices.
BLOCKING = 0.1
# How long what was cancelled, or is about to end by itself, may take.
CLEAN_UP = 1.0
# A step that goes on for so long after its limit does not give the loop back.
PATIENCE = 5.0


class Visits:
    """Pays the visits of one check: startup, each path by GET and as a WebSocket, shutdown."""

    def __init__(self, app: Application, report: Report, loop: asyncio.AbstractEventLoop) -> None:
        self.report = report
        self.timeout = report.timeout
        self.loop = loop
        self.witness = Witness(app, loop)
        # The limits of time are kept here; the server's own only stand behind them.
        config = Config(
            port=0,
            access_log=False,
            timeout_lifespan=self.timeout + PATIENCE,
            timeout_graceful_shutdown=CLEAN_UP,
        )
        self.server = Server(Recorded(self.witness, report.on_advice), config)
        self.watchdog = Watchdog(BLOCKING, report.stalls.append)
        self.where: list[str] | None = None  # where the application waited, if the step took too long
        self.taken = False  # some request was not refused

    async def pay(self, paths: Sequence[str]) -> bool:
        """Return whether the application has started; if it has not, nothing else is asked of it."""
        self.watchdog.start()
        await asyncio.sleep(0)  # its first beat
        try:
            if not await self.startup():
                return False
            for path in paths:
                await self.get(path)
                await self.websocket(path)
            await self.shutdown()
        finally:
            self.watchdog.stop()
        self.tell_refuses_all(paths)
        return True

    @contextmanager
    def step(self, about: str, end: Callable[[], object]) -> Iterator[None]:
        """One step, and its limit: then it is looked at where the application waits, and `end` is called."""
        self.report.about = about
        self.report.code_now = WRONG_FOUND if self.witness.calls else NOT_STARTED
        self.where = None
        timer = self.loop.call_later(self.timeout, self.on_limit, about == LIFESPAN, end)
        try:
            with alarm(self.timeout + PATIENCE, self.report.abandon):
                yield
        finally:
            timer.cancel()

    def on_limit(self, lifespan: bool, end: Callable[[], object]) -> None:
        self.report.overdue = True
        calls = [call for call in self.witness.calls if call.is_running(lifespan=lifespan)]
        tasks = [line for task in self.witness.running(*calls) for line in self.witness.describe(task)]
        self.where = [line for call in calls for line in waits(call.task)]
        self.where += busy_threads(self.report.threads) + tasks
        end()

    # ---- lifespan ----

    async def startup(self) -> bool:
        began = time.monotonic()
        failure: StartupFailed | None = None
        with self.step(LIFESPAN, partial(self.server.stop, at_once=True)):
            try:
                await self.server.__aenter__()
            except StartupFailed as error:
                failure = error
        [call] = self.witness.calls
        if failure is not None:
            self.tell_not_started(call, failure)
        elif "lifespan.startup.complete" in call.types_sent:
            self.report.tell(Mark.GOOD, f"supported: started in {duration(began)}")
        elif call.refuses:
            self.tell_refusal(call)
        elif call.sent_foreign and not call.received:
            self.tell_unaware(call)
        else:
            self.tell_left_out(call)
        self.tell_refused(call)
        self.report.tell_found()
        return failure is None

    def tell_not_started(self, call: Call, failure: StartupFailed) -> None:
        error = failure.__cause__
        if self.where is not None:
            text = f"the startup was not complete within {self.timeout:g} s"
            self.report.tell(Mark.WRONG, text, self.where)
        elif error is None:
            self.report.tell(Mark.WRONG, *as_told(str(failure)))
        elif any(sole(error) is each for _, each in call.refused):
            self.report.tell(Mark.FACT, NOT_SENT)
        else:
            self.report.told.append(sole(error))
            self.report.tell(Mark.WRONG, str(failure), places(raising(error))[::-1])

    def tell_unaware(self, call: Call) -> None:
        """The application answers a lifespan scope as if it were a request."""
        self.report.tell(Mark.FACT, f"not supported: sent {call.refused[0][0]}", own_places(call))
        text = "it does not look at scope['type']; for a type that it does not know, it should raise"
        self.report.tell(Mark.ADVICE, text)
        self.report.told += [error for _, error in call.refused]
        call.refused.clear()

    def tell_left_out(self, call: Call) -> None:
        """The application took part, or meant to, but did not start: it is served all the same."""
        if call.refused:  # they are told below
            self.report.told += [call.error] if call.error is not None else []
            self.report.tell(Mark.FACT, f"{NOT_SENT}: it is served without startup and shutdown")
            return
        if call.error is not None and is_call_itself(call.error):
            self.report.tell(Mark.FACT, "it could not be called")
            return  # why is told with the server's warning, and with each request
        did, lines = "returned", list[str]()
        if call.error is not None:
            self.report.told.append(call.error)
            did, lines = f"raised {summary(call.error)}", places(raising(call.error))[::-1]
        if call.error is not None and not call.received:
            lines.append("to refuse the lifespan on purpose, raise NotImplementedError")
        when = "after" if call.received else "before"
        text = f"{did} {when} it had received lifespan.startup: it is served without startup and shutdown"
        self.report.tell(Mark.WRONG, text, lines)

    async def shutdown(self) -> None:
        began = time.monotonic()
        [call] = [call for call in self.witness.calls if call.type == "lifespan"]
        call.refused.clear()  # what was told with the startup
        with self.step(LIFESPAN, partial(self.server.stop, at_once=True)):
            await self.server.__aexit__(None, None, None)
        if self.where is not None:
            self.report.tell(
                Mark.WRONG, f"the shutdown was not complete within {self.timeout:g} s", self.where
            )
        elif "lifespan.shutdown.complete" in call.types_sent:
            self.report.tell(Mark.GOOD, f"shut down in {duration(began)}")
        elif (
            "lifespan.startup.complete" in call.types_sent
            and call.error is None
            and "lifespan.shutdown.failed" not in call.types_sent
        ):
            text = "ended without a shutdown: it never sent lifespan.shutdown.complete"
            self.report.tell(Mark.ADVICE, text)
        self.tell_refused(call)
        await self.tell_left_behind(call)
        self.report.tell_found()

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
        answer = Answer()
        call = await self.request(f"GET {path}", answer, ask(self.server.port, path, answer))
        if self.where is not None and not answer.complete and not answer.streams:
            text = f"no answer within {self.timeout:g} s"
            if answer.status:
                text = (
                    f"{head_of(answer)}, but not the whole answer within {self.timeout:g} s; {sent_by(call)}"
                )
            self.report.tell(Mark.WRONG, text, self.where)
        elif call is not None and call.refuses:
            self.tell_refusal(call)
        elif answer.complete:
            self.tell_answer(call, answer)
        elif answer.streams:
            text = f"{head_of(answer)}, a stream: {counted(answer.size, 'byte')} so far; {sent_by(call)}"
            self.report.tell(Mark.GOOD, text)
        else:
            self.report.tell(Mark.FACT, f"broken off: {answer.broken}")
        await self.tell_request(call, answer)

    def tell_answer(self, call: Call | None, answer: Answer) -> None:
        mark = Mark.GOOD
        if answer.status >= 500:
            self.report.failed_get = True
            mark = Mark.FACT if self.faults(call) else Mark.WRONG  # why it failed stands below
        size, seconds = counted(answer.size, "byte"), in_words(answer.seconds)
        self.report.tell(
            mark, f"{head_of(answer)}, {size} in {seconds}; {sent_by(call)}", another_path(answer)
        )

    async def websocket(self, path: str) -> None:
        answer = Answer()
        call = await self.request(f"WebSocket {path}", answer, shake_hands(self.server.port, path, answer))
        if answer.status == 101:
            self.report.tell(Mark.GOOD, f"supported: accepted in {in_words(answer.seconds)}")
        elif self.where is not None and not answer.complete:
            self.report.tell(Mark.WRONG, f"no answer to the handshake within {self.timeout:g} s", self.where)
        elif call is not None and call.refuses:
            self.tell_refusal(call)
        elif call is not None and call.sent and answer.complete:
            closed = "websocket.close" in call.types_sent
            how = "closed before it was accepted" if closed else "by a response of its own"
            text = f"supported: denied with {answer.status} in {in_words(answer.seconds)} ({how})"
            self.report.tell(Mark.GOOD, text, [ANOTHER_PATH])
        else:
            text = f"failed; the server answered {answer.status}" if answer.status else answer.broken
            self.report.tell(Mark.FACT, text)
        await self.tell_request(call, answer)

    async def request(self, about: str, answer: Answer, asking: Coroutine[Any, Any, None]) -> Call | None:
        """Pay one visit, and see the call end that it was; None where the application was not called."""
        before = len(self.witness.calls)

        async def ask_and_wait() -> None:
            await asking
            for call in self.witness.calls[before:]:
                await call.ended.wait()

        client = asyncio.ensure_future(ask_and_wait())
        with self.step(about, client.cancel):
            await asyncio.wait((client,))
        if not client.cancelled():
            client.result()
        call = next(iter(self.witness.calls[before:]), None)
        if call is not None and self.where is not None:
            goes_on = answer.size > 0 and call.sent_last > answer.began + self.timeout / 2
            answer.streams = answer.streams or goes_on
            with alarm(2 * CLEAN_UP + PATIENCE, self.report.abandon):
                await self.end(call)
        return call

    async def end(self, call: Call) -> None:
        """The step is over, and its client has left: the call may end by itself, and then has to."""
        assert call.task is not None
        await asyncio.wait((call.task,), timeout=CLEAN_UP)
        if not call.task.done():
            call.task.cancel()
            await asyncio.wait((call.task,), timeout=CLEAN_UP)

    async def tell_request(self, call: Call | None, answer: Answer) -> None:
        """What else was found in a request, below its first line."""
        if call is not None:
            self.taken = self.taken or not call.refuses or call.lacks_route
            if self.where is not None and answer.complete:
                text = f"the application still runs {self.timeout:g} s later, though all was said"
                self.report.tell(Mark.ADVICE, text, self.where)
            self.tell_refused(call)
            if call.error is not None:
                self.report.locate(call.error)
            if tasks := self.witness.running(call):
                await asyncio.wait(tasks, timeout=CLEAN_UP / 4)
            for task in self.witness.running(call):
                text = "a task that it started runs on after the answer; a stop of the server cuts it off"
                self.report.find(Mark.ADVICE, text, self.witness.describe(task))
        self.report.tell_found()

    def faults(self, call: Call | None) -> bool:
        """Whether a line below says why a request failed."""
        found = any(each.mark is Mark.WRONG for each in self.report.found)
        return found or (call is not None and bool(call.refused or call.error))

    def tell_refuses_all(self, paths: Sequence[str]) -> None:
        if not self.taken:
            self.report.about = LOADING
            text = f"it supports neither HTTP nor WebSocket, asked for {' and '.join(paths)}"
            self.report.tell(Mark.WRONG, text)

    # ---- words for both ----

    def tell_refusal(self, call: Call) -> None:
        """The application does not support this type of scope."""
        self.report.forgive()
        if call.error is None:
            self.report.tell(Mark.FACT, "not supported: the application returned at once")
            return
        self.report.told.append(call.error)
        hints = [ANOTHER_PATH] if call.lacks_route else []
        text = f"not supported: raised {summary(call.error)}"
        self.report.tell(Mark.FACT, text, own_places(call) + hints)
        if key := call.foreign_key:
            text = f"a {call.type} scope has no {key!r}: look at scope['type'] first, and raise for others"
            self.report.tell(Mark.ADVICE, text)

    def tell_refused(self, call: Call) -> None:
        """The messages of the application's that were refused."""
        for kind, error in call.refused:
            text, *details = str(error).splitlines()
            if is_foreign(kind, call.type):
                details.append(f"what to do   {ANSWERS[call.type]}")
            self.report.told.append(error)
            self.report.tell(Mark.WRONG, text, details)


def own_places(call: Call) -> list[str]:
    """The application's own lines in what it raised; of a library's refusal the text says enough."""
    lines = places(raising(call.error)) if call.error is not None else []
    return [line for line in lines if not is_installed(line)]


def head_of(answer: Answer) -> str:
    parts = [str(answer.status), answer.header(b"content-type") or "no content-type"]
    if location := answer.header(b"location"):
        parts.append(f"to {location}")
    return ", ".join(parts)


def sent_by(call: Call | None) -> str:
    return f"{counted(call.sent if call else 0, 'message')} sent"


ANOTHER_PATH = "to ask for another path: --path /…"
NOT_SENT = "no lifespan.startup.complete was sent, but what is told below"

# How an application answers a scope of each type.
ANSWERS = {
    "http": "look at scope['type']; a request is answered by http.response.start and http.response.body",
    "lifespan": "look at scope['type']; an application without startup and shutdown raises here",
    "websocket": "look at scope['type']; a WebSocket is denied by websocket.close, "
    "or by websocket.http.response.start and .body",
}


def another_path(answer: Answer) -> list[str]:
    """What to ask in place of what is not to be had at this path."""
    location = answer.header(b"location")
    if 300 <= answer.status < 400 and location.startswith("/"):
        return [f"to ask for where it leads: --path {shlex.quote(location)}"]
    if answer.status == 400:
        return ["is a request for the host 127.0.0.1 refused? Django has its names in ALLOWED_HOSTS"]
    if answer.status in (401, 403):
        return [f"{ANOTHER_PATH}, one that is open to everybody"]
    return [ANOTHER_PATH] if 300 <= answer.status < 500 else []
