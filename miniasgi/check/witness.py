"""Witness: a stand-in for the application, which keeps what each call of it did, and whose tasks are whose.

It owns what can be seen of an application from inside its process: calls, tasks, threads, where each waits.
"""

import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Iterable, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..asgi import Application, ASGIError, Message, Receive, Scope, Send
from ..explain.frames import FrameLine, awaiting, calling, places, running_in
from ..explain.refusal import foreign_key, is_refusal


class Call:
    """One call of the application. Made by Witness."""

    __slots__ = (
        "ended",  # set when the application has returned or raised
        "error",  # what it raised; of a group of one, as task groups raise it, that one
        "keys",  # those of its scope, when it was given
        "received",  # it was given a message
        "refused",  # (type of the message, what send() raised against it)
        "sent",  # how many messages it sent
        "sent_last",  # when the last one was
        "task",  # what runs it
        "type",  # the scope's type
        "types_sent",  # the types of the messages that it sent
    )

    def __init__(self, scope: Scope) -> None:
        self.type: str = scope["type"]
        self.keys = frozenset(scope)
        self.task = asyncio.current_task()
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self.received = False
        self.refused: list[tuple[object, ASGIError]] = []
        self.sent = 0
        self.sent_last = 0.0
        self.types_sent: set[str] = set()

    def is_running(self, *, lifespan: bool) -> bool:
        return (self.type == "lifespan") is lifespan and not self.ended.is_set()

    @property
    def sent_foreign(self) -> bool:
        """It tried to send messages of another type of scope, and none of its own."""
        return not self.sent and any(is_foreign(kind, self.type) for kind, _ in self.refused)

    @property
    def refuses(self) -> bool:
        """It ended because its type of scope is not supported.

        Who was given a message, or sent one, has taken part. An `http` scope is not refused by returning:
        far more often an answer was forgotten.
        """
        if self.received or self.sent or self.refused:
            return False
        return self.type != "http" if self.error is None else is_refusal(self.error, self.type, self.keys)

    @property
    def lacks_route(self) -> bool:
        """It found no route for the path; on others it may support the type of scope."""
        return "no route" in str(self.error).lower()

    @property
    def foreign_key(self) -> str:
        """The key of another type's scope for which it looked in vain; "" where there is none."""
        return "" if self.error is None else foreign_key(self.error, self.keys)


def is_foreign(kind: object, type_: str) -> bool:
    """Whether a message of this type belongs to another type of scope."""
    protocol = str(kind).partition(".")[0]
    return protocol != type_ and protocol in ("http", "websocket", "lifespan")


def sole(error: BaseException) -> BaseException:
    """A group of one, as task groups raise it, is told as that one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


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
            call.types_sent.add(message["type"])

        try:
            return await self.app(scope, recorded_receive, recorded_send)
        except BaseException as error:
            call.error = sole(error)
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
        if not given.startswith("Task-") and given != "None":  # asyncio's own; the second is 3.13.0's
            name += f", named {given}"
        made = [f"started by {line}" for line in self.tasks[task][1][-1:]]
        return [f"task {name}", *made, *waits(task)]


def waits(task: "asyncio.Task[Any] | None") -> list[str]:
    """Where a task waits: the application's own line, and the innermost one where that is another."""
    lines = places(awaiting(task.get_coro())) if task is not None else []
    return [f"waits in {line}" for line in lines[::-1]]


def busy_threads(before: set[threading.Thread]) -> list[str]:
    """Where the threads are that were started since, and for which the process would wait at its end."""
    found = []
    for thread in set(threading.enumerate()) - before - {threading.current_thread()}:
        stack = running_in(thread.ident or 0)
        if stack and not thread.daemon and not is_idle(stack):
            # Nothing of a thread that runs a loop, and no application in it.
            found.append(" is in ".join([f"thread {thread.name}", *places(stack)[-1:]]))
    return found


def is_idle(stack: Iterable[FrameLine]) -> bool:
    """Whether a thread is one of a pool that waits for work: such threads end with the process."""
    for frame, _ in stack:
        if not frame.f_code.co_filename.endswith(("threading.py", "queue.py")):
            return (Path(frame.f_code.co_filename).parent.name, frame.f_code.co_name) in POOLS
    return False


# Where the threads of concurrent.futures and of anyio wait: the folder, and the function.
POOLS = {("futures", "_worker"), ("_backends", "run")}
