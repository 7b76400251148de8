"""LiveServer: a server in a thread with a loop of its own, for a test that does not await.

It owns that neither start nor stop ever hangs, whatever the application does to the loop.
"""

import asyncio
import contextvars
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self, TypeVar, overload

from ..config import UsageError
from ..explain.frames import own_place, running_in
from ..lifespan import StartupFailed
from ..loops import CLEAN_UP, choose_loop, close_loop
from ..observe.recording import RecordedExchange
from ..protocol.runtime import RunningCall
from .faults import E, Expected, Kinds, fault
from .raw import TIMEOUT, BlockingLine, RawClient
from .served import ASK_AGAIN, PATIENCE, Options, ServerInTest

T = TypeVar("T")

# How much longer than its own limits a server may take before its thread is given up, in seconds.
GRACE = 2.0

number = itertools.count(1)  # of the servers of this process: their threads are told apart by it


class LiveServer(ServerInTest):
    """A server in a thread. Made by `with serve(app)`; it has started, and ends with the block."""

    def __init__(self, options: Options) -> None:
        self.changed = threading.Condition()
        self.changes = 0  # what has been recorded, as a count
        super().__init__(options)
        self.started = threading.Event()  # or it has failed
        self.ended = threading.Event()
        self.failure: BaseException | None = None  # what the server itself has raised
        self.older_calls: set[RunningCall] = set()  # of the application, from before this test

    # ---- for the test ----

    @overload
    def wait_for(self, what: str, timeout: float = PATIENCE) -> RecordedExchange: ...
    @overload
    def wait_for(self, what: Callable[[], T], timeout: float = PATIENCE) -> T: ...
    def wait_for(self, what: str | Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait until a message of this type has passed, and return the first exchange in which it did.

        Or until a function returns something true, which is returned; it is asked whenever something has been
        recorded, and now and then, since it may look at something else. Returns at once for what has been
        already. Raises TimeoutError.
        """
        until = time.monotonic() + timeout
        while True:
            changes = self.changes
            if found := self.seen(what):  # without the lock: it may be a request, which is to be recorded
                return found
            if (left := until - time.monotonic()) <= 0:
                raise self.late(what, timeout)
            with self.changed:
                if self.changes == changes:
                    self.changed.wait(min(left, ASK_AGAIN))

    def expect(self, kind: Kinds[E], match: str | None = None) -> "ExpectedHere[E]":
        """The application is to raise this, at least once by the end: it is not raised in the test.

        `match` is searched for in its text. Used in a `with`, it is waited for at the end of the block; its
        `error` is then what came.
        """
        expected = ExpectedHere(kind, match, self)
        self.faults.expect(expected)
        return expected

    def raw(self, *, receive_buffer: int | None = None) -> RawClient:
        """A client by hand, connected. `receive_buffer` is what the system keeps for it, at the least.

        With a small one, such as 4096, a client that does not read stops the server soon.
        """
        sock, peer = self.open_line(receive_buffer)

        async def settled(sent: int) -> None:
            self.wait_for(lambda: peer.has_read(sent), TIMEOUT)

        client = RawClient(self.secured(BlockingLine(sock)), settled)
        self.clients.append(client)
        return client

    # ---- its life ----

    def on_change(self) -> None:
        with self.changed:
            self.changes += 1
            self.changed.notify_all()

    def start(self) -> Self:
        """Return when the application has started and clients are accepted. Raises what the start raises."""
        __tracebackhide__ = True  # pytest leaves this frame out
        try:
            new_loop = choose_loop(self.config.loop)
            run = contextvars.copy_context().run
            name = f"miniasgi server {next(number)}"
            self.thread = threading.Thread(target=run, args=(self.run, new_loop), name=name, daemon=True)
            self.thread.start()
            if not self.started.wait(self.config.timeout_lifespan + CLEAN_UP + GRACE):
                raise StartupFailed(f"the application keeps the loop from turning{self.place}")
            if self.failure is not None:
                self.thread.join(GRACE)
                raise self.failure_in_test
        except BaseException:
            self.server.stop()
            self.clean_up()
            raise
        self.begin()
        return self

    def run(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """In the thread: serve until the block has ended."""
        try:
            loop = new_loop()
            executor = ThreadPoolExecutor(thread_name_prefix=self.thread.name)
            loop.set_default_executor(executor)
            loop.set_exception_handler(self.on_loop_error)
            try:
                loop.run_until_complete(self.serve())
            finally:
                close_loop(loop)
                executor.shutdown(wait=False)
        except BaseException as error:
            self.failure = error
        finally:
            self.started.set()
            self.ended.set()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has raised, or a task whose result nobody has asked for: such as are the application's.

        Of one that is heard of when the server has ended, no test would hear any more.
        """
        if (error := context.get("exception")) is None or self.ended.is_set():
            loop.default_exception_handler(context)
        else:
            self.faults.tell(logging.ERROR, f"in the loop: {context['message']}", error)

    async def serve(self) -> None:
        async with self.server:
            self.started.set()
            await self.server.stopped()

    def stop(self, error: BaseException | None) -> None:
        """Stop as the promise is, and raise the application's faults. `error` has ended the block."""
        __tracebackhide__ = True  # pytest leaves this frame out
        self.close_clients()
        self.server.stop()
        config = self.config
        try:
            if not self.ended.wait(config.timeout_graceful_shutdown + CLEAN_UP + GRACE):
                asked = self.server.asked.is_set()  # else the loop does not turn
                if not asked or not self.ended.wait(config.timeout_lifespan + 2 * CLEAN_UP):
                    self.faults.tell(
                        logging.ERROR, f"the server does not stop, and is left behind{self.place}", None
                    )
                    return
            self.thread.join(GRACE)
            self.join_workers()
            if self.failure is not None:
                raise self.failure_in_test
        except BaseException as raised:  # a test that is interrupted here, too, ends by that
            error = raised
            raise
        finally:
            self.end(error)

    @property
    def failure_in_test(self) -> Exception:
        """What the server's thread ended by, to be raised in the test's.

        Never what would end the run of all tests: no signal is heard in this thread, so that it is the
        application which has raised a KeyboardInterrupt there, or SystemExit in a callback of the loop.
        """
        if isinstance(self.failure, StartupFailed | UsageError):
            return self.failure.with_traceback(None)  # its text says all; how it came through us says nothing
        if isinstance(self.failure, Exception):
            return self.failure
        return fault("the application has ended the server's loop: it raised", self.failure)

    def begin_anew(self) -> None:
        """Another test begins: forget what was said, and what went wrong."""
        self.recording.exchanges.clear()
        self.faults.clear()
        self.older_calls = set(self.server.runtime.calls)

    def settle_test(self, error: BaseException | None) -> None:
        """A test has ended, and the server goes on: raise what has gone wrong in it.

        An application that has answered may still be about to raise, and is waited for a little.
        """
        __tracebackhide__ = True  # pytest leaves this frame out
        self.close_clients()
        waits = self.answered_ended()
        try:
            ended = asyncio.run_coroutine_threadsafe(waits, self.server.runtime.loop)
            ended.result(PATIENCE + GRACE)
        except TimeoutError:
            text = f"the application keeps the loop from turning{self.place}"
            self.faults.tell(logging.ERROR, text, None)
        except RuntimeError:  # the loop is closed since a moment ago: the next test's end says by what
            waits.close()
        try:
            self.settle(error)
        finally:
            self.faults.clear()

    async def answered_ended(self) -> None:
        """In the loop: return when of this test's calls those have ended that have answered; or in time."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            going_on = [each for each in self.exchanges if not (each.answered or each.ended)]
            if len(self.server.runtime.calls - self.older_calls) <= len(going_on):
                return
            await asyncio.sleep(0.001)

    def join_workers(self) -> None:
        """The threads of the loop's executor: they end by themselves when their work is done."""
        until = time.monotonic() + CLEAN_UP
        for each in threading.enumerate():
            if each.name.startswith(self.thread.name + "_"):
                each.join(max(until - time.monotonic(), 0))

    @property
    def place(self) -> str:
        """`; it is in app.py, line 7, in app: time.sleep(60)`, where that can be seen."""
        return own_place("; it is in ", running_in(self.thread.ident or 0))


class ExpectedHere(Expected[E]):
    """Errors that a test wants. Made by LiveServer.expect."""

    def __init__(self, kind: Kinds[E], match: str | None, server: LiveServer) -> None:
        super().__init__(kind, match)
        self.server = server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with suppress(TimeoutError):
                self.server.wait_for(lambda: self.errors)
            self.error  # noqa: B018  # raises where none came
