"""The lifespan conversation: startup before the first connection, shutdown after the last.

It owns the order of the lifespan messages (ASGI lifespan specification 2.0), as a table, and says what it
means when the application takes no part, and where it waits when it takes long. It knows nothing of sockets.
"""

import _thread
import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import Any, Literal

from .asgi import Application, ASGIError, Message
from .config import named
from .explain.faults import Tell, log_fault
from .explain.frames import (
    awaiting,
    is_call_itself,
    not_called,
    own_place,
    raising,
    running_in,
    summary,
)
from .explain.messages import fault, refusal
from .explain.refusal import is_refusal
from .loops import CLEAN_UP

log = logging.getLogger("miniasgi")

# A startup or shutdown that takes longer, in seconds, is told once: where it waits.
PATIENCE = 3.0


KEYS = ("type", "asgi", "state")  # of the scope


class StartupFailed(RuntimeError):
    """The application did not start. `__cause__` is what it raised, where it raised."""


class State(Enum):
    """Where the application stands; each value completes "… was sent"."""

    WAITING = "before lifespan.startup was received"
    STARTING = "during startup"
    RUNNING = "between startup and shutdown"
    STOPPING = "during shutdown"
    OVER = "after the lifespan was over"


@contextmanager
def alarm(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in a thread of its own, unless the block ends in time. No loop need turn for it.

    A bare thread, which takes 30 µs where a threading.Timer took 150: more than most startups do.
    """
    over = threading.Lock()
    over.acquire()
    # Taken away at the end: the thread ends in its own time, and is to keep nothing alive until then.
    acts = [act]

    def wait() -> None:
        if not over.acquire(timeout=seconds):
            for each in acts:
                each()

    _thread.start_new_thread(wait, ())
    try:
        yield
    finally:
        acts.clear()
        over.release()


class Lifespan:
    """One run of the application's lifespan. Made by Server, which calls `startup` and then `shutdown`.

    `mode` is Config.lifespan; `timeout` the seconds that each half may take; `state` the namespace that the
    application may fill, of which each request is given a shallow copy; `tell` hears what goes wrong.
    """

    def __init__(
        self,
        app: Application,
        mode: Literal["auto", "on", "off"],
        timeout: float,
        state: dict[Any, Any],
        tell: Tell = log_fault,
    ) -> None:
        self.app = app
        self.tell = tell
        self.mode = mode
        self.timeout = timeout
        self.scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self.state = State.WAITING
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.answered = self.next_answer()  # done when the application has answered what it was told last
        self.failure = ""  # the message of startup.failed or shutdown.failed
        self.task: asyncio.Task[None] | None = None  # None where the application takes no part

    @staticmethod
    def next_answer() -> "asyncio.Future[None]":
        return asyncio.get_running_loop().create_future()

    # ---- the server's side ----

    async def startup(self) -> None:
        """Return when the application has started, or takes no part. Raises StartupFailed."""
        if self.mode == "off":
            return
        self.inbox.put_nowait({"type": "lifespan.startup"})
        self.task = asyncio.create_task(self.run(), name="lifespan")
        try:
            ended = await self.answer_or_end("startup")
        except TimeoutError as error:
            await self.cancel()
            raise StartupFailed(f"the application did not start within {error}") from None
        except asyncio.CancelledError:  # asked to stop during startup
            if self.state is not State.RUNNING:  # otherwise it has a shutdown
                await self.cancel()
            raise
        if self.failure:
            await self.cancel()  # a second to clean up, as it may after its answer
            raise StartupFailed(f"the application's startup failed: {self.failure}")
        if ended:
            self.ended_early(self.task)
            self.task = None
        elif self.task.done():  # behind its answer: that is told before anybody is served
            self.on_end(self.task)
        else:
            self.task.add_done_callback(self.on_end)

    def on_end(self, task: "asyncio.Task[None]") -> None:
        """The application has left the conversation: too early, unless it was asked to shut down."""
        if self.state is State.RUNNING and (error := error_of(task)) is not None:
            self.state, self.task = State.OVER, None
            text = "The application's lifespan raised; it is served on, and will have no shutdown"
            self.tell(logging.ERROR, text, error)

    def ended_early(self, task: "asyncio.Task[None]") -> None:
        """The application left the conversation before it had started: is it without lifespan, or broken?"""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and self.state is not State.WAITING:
            text = f"the application raised during startup: {summary(error)}"
            if is_told_off(error) or is_body_missing(error):
                text += (
                    "; does it take the startup for a request? For scope['type'] 'lifespan', raise "
                    f"NotImplementedError before receive(), or serve it with {named('lifespan', 'off')}"
                )
            raise StartupFailed(text) from error
        what = f"raised {summary(error)}" if error is not None else "returned without an answer"
        if self.mode == "on":
            text = f"the application {what} on lifespan, and {named('lifespan', 'on')} says that it has one"
            raise StartupFailed(text) from error
        if error is None or is_refusal(error, "lifespan", KEYS) or is_told_off(error):
            log.info("The application has no lifespan: it %s", what)
        elif is_call_itself(error):
            self.tell(logging.WARNING, not_called(error), None)
        else:
            self.seems_broken(error)

    def seems_broken(self, error: BaseException) -> None:
        """Say so, and how to say that there is no lifespan; the error stands below, without its traceback."""
        where = own_place(" in ", raising(error))
        none = f"if it is to have none, say {named('lifespan', 'off')}"
        text = f"The application's lifespan failed{where}; served without it ({none})"
        self.tell(logging.WARNING, text, error.with_traceback(None))

    async def shutdown(self) -> None:
        """Return when the application has shut down, or has had its time. Never raises for it: logs."""
        if self.task is None:
            return
        try:
            if not self.task.done():
                self.state = State.STOPPING
                self.answered = self.next_answer()
                self.inbox.put_nowait({"type": "lifespan.shutdown"})
                await self.answer_or_end("shutdown")
        except TimeoutError as error:
            self.tell(logging.ERROR, f"The application's shutdown was cancelled after {error}", None)
        finally:
            await self.cancel()
        if self.failure:
            self.tell(logging.ERROR, f"The application's shutdown failed: {self.failure}", None)

    async def answer_or_end(self, half: str) -> bool:
        """Wait for the application's answer (False) or its end (True).

        Raises TimeoutError, whose text says how long that was and where the application waited.
        """
        assert self.task is not None
        # An application that blocks the loop leaves no other way to say so than from a thread.
        with alarm(PATIENCE, partial(self.tell_slow, half, threading.get_ident())):
            done, _ = await asyncio.wait(
                (self.answered, self.task), timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED
            )
        if not done:
            raise TimeoutError(f"{self.timeout:g} s ({named('timeout_lifespan')}){self.where()}")
        return not self.answered.done()

    def tell_slow(self, half: str, thread: int) -> None:
        """Say where the application waits, or what keeps it; `thread` is the one that the loop runs in."""
        log.info("Waiting for the application's %s%s", half, self.where(thread))

    def where(self, thread: int = 0) -> str:
        """`: app.py, line 8, in start: await connect()`, or nothing where that cannot be seen.

        `thread` is the one that the loop runs in, where that is not the caller's.
        """
        assert self.task is not None
        if asyncio.current_task(self.task.get_loop()) is self.task:
            lines = running_in(thread)
        else:
            lines = awaiting(self.task.get_coro())
        return own_place(": ", lines)

    async def cancel(self) -> None:
        """End what is left of the application's task; say what it raised in its last moments."""
        assert self.task is not None
        self.state = State.OVER
        if not self.task.done():
            await asyncio.wait((self.task,), timeout=CLEAN_UP if self.answered.done() else 0)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait((self.task,), timeout=CLEAN_UP)
        error = error_of(self.task) if self.task.done() else None
        if error is not None and not self.failure:  # otherwise it has said so itself
            self.tell(logging.ERROR, "The application's lifespan raised", error)

    # ---- the application's side ----

    async def run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except SystemExit as error:  # which a task would hand on to the loop, and so to everybody
            raise RuntimeError(f"the application called sys.exit({error.code!r})") from error

    async def receive(self) -> Message:
        message = await self.inbox.get()
        if self.state is State.WAITING:
            self.state = State.STARTING
        return message

    async def send(self, message: Message) -> None:
        try:
            act = SEND[self.state][message["type"]]
        except (KeyError, TypeError):
            act = None
        if act is None or fault(message):
            raise refusal(message, str(self.state.value), SEND[self.state])
        act(self, message)

    def on_startup_complete(self, message: Message) -> None:
        self.state = State.RUNNING
        self.answered.set_result(None)

    def on_shutdown_complete(self, message: Message) -> None:
        self.state = State.OVER
        self.answered.set_result(None)

    def on_failed(self, message: Message) -> None:
        self.failure = message.get("message") or "it gave no reason"
        self.state = State.OVER
        self.answered.set_result(None)


def error_of(task: "asyncio.Task[None]") -> BaseException | None:
    """What a task that is done has raised; a cancellation too, unless somebody has asked for it."""
    if task.cancelled():
        return None if task.cancelling() else asyncio.CancelledError()
    return task.exception()


def is_told_off(error: BaseException) -> bool:
    """Whether it was send() that raised, against who answers as if asked for something else."""
    return isinstance(error, ASGIError) and "scope['type'] is 'lifespan'" in str(error)


def is_body_missing(error: BaseException) -> bool:
    """Whether the application looked into lifespan.startup for what a request has."""
    return isinstance(error, KeyError) and error.args[:1] in (
        ("body",),
        ("more_body",),
        ("text",),
        ("bytes",),
    )


SEND: Mapping[State, Mapping[str, Callable[[Lifespan, Message], None]]] = {
    # An application may answer without having called receive().
    State.WAITING: {
        "lifespan.startup.complete": Lifespan.on_startup_complete,
        "lifespan.startup.failed": Lifespan.on_failed,
    },
    State.STARTING: {
        "lifespan.startup.complete": Lifespan.on_startup_complete,
        "lifespan.startup.failed": Lifespan.on_failed,
    },
    State.RUNNING: {},
    State.STOPPING: {
        "lifespan.shutdown.complete": Lifespan.on_shutdown_complete,
        "lifespan.shutdown.failed": Lifespan.on_failed,
    },
    State.OVER: {},
}
