"""Watchdog: sees from a thread of its own that the event loop does not turn, and whose line keeps it.

It owns one thread, and one timer of the loop: the beat, whatever number of requests there is. It knows no
request: who is told of a stall has the task that was running, and says what that was.

A loop that does not turn is not always kept. The machine may be slow, so that the loop's thread has to wait,
or one that it waits for, as for one that was just started: such time is not counted. The loop may only wait:
then the innermost frame of its thread is in select(), and nothing is told. Nor is it where the server itself
is at work, and no line of the application's.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from types import FrameType
from typing import Any

from ..explain.frames import ASYNCIO, PACKAGE, RUNNERS, FrameLine, calling, places, running_in

# How often the loop beats and the thread looks, in parts of the limit.
LOOKS = 5

IMPORTLIB = "<frozen importlib"  # where the import system runs; it stands around all that is imported


class Stall:
    """One time that something kept the loop. Made by Watchdog when its limit was passed."""

    __slots__ = (
        "importing",  # it was an import: the next one of the same module costs nothing
        # The innermost line that is not ours, and the application's own above it; of an import, who imports.
        "lines",
        "seconds",  # how long; so far, until the loop turns again
        "task",  # the task that was running; None in a plain callback
    )

    def __init__(
        self, lines: list[str], importing: bool, seconds: float, task: "asyncio.Task[Any] | None"
    ) -> None:
        self.lines = lines
        self.importing = importing
        self.seconds = seconds
        self.task = task


# Called once a stall: from the watchdog's thread while it lasts, and from the loop when it is over.
OnStall = Callable[[Stall], None]


class Watchdog:
    """Watches the loop in which it is started, until it is stopped there.

    What takes less than `limit` seconds is never told; what takes half as long again always is, in time that
    the machine gave to this process.
    """

    def __init__(self, limit: float, on_stall: OnStall, on_over: OnStall | None = None) -> None:
        self.limit = limit
        self.on_stall = on_stall
        self.on_over = on_over
        self.period = limit / LOOKS
        self.over = threading.Event()
        self.beaten = 0.0  # when the loop beat last
        self.base: FrameType | None = None  # who runs the loop: what stands on it is a callback
        self.stall: Stall | None = None  # the one that goes on

    def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ident = threading.get_ident()
        self.timer: asyncio.Handle = self.loop.call_soon(self.beat)
        self.thread = threading.Thread(target=self.watch, name="miniasgi watchdog", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.timer.cancel()
        self.thread.join()
        self.base = None

    # ---- in the loop ----

    def beat(self) -> None:
        now, before = time.monotonic(), self.beaten
        if self.base is None:
            self.base = next((line[0] for line in calling(sys._getframe(1)) if not of_loop(line)), None)
        stall, self.stall = self.stall, None
        if stall is not None:  # it began between two beats: halfway, for want of better knowledge
            stall.seconds = max(stall.seconds, now - before - self.period / 2)
            if self.on_over is not None:
                self.on_over(stall)
        self.beaten = now
        self.timer = self.loop.call_later(self.period, self.beat)

    # ---- in the thread ----

    def watch(self) -> None:
        seen, looked, used, kept = self.beaten, time.monotonic(), time.process_time(), 0.0
        while not self.over.wait(self.period):
            now, cpu = time.monotonic(), time.process_time()
            if self.beaten != seen:
                seen, kept = self.beaten, 0.0
            else:
                # A look that comes very late counts for less: the whole process had no time, then.
                elapsed = min(now - looked, self.limit / 2)
                # While a thread wants to run, only what was run counts; who sleeps is kept by what it called.
                kept += min(elapsed, cpu - used) if wants_to_run() else elapsed
            looked, used = now, cpu
            # The loop was free for up to a period after its last beat.
            if kept >= self.limit + self.period and self.stall is None and self.base is not None:
                self.judge(seen, kept - self.period / 2)

    def judge(self, seen: float, seconds: float) -> None:
        """The loop has not turned for so long: tell it, if somebody's line is to blame."""
        stack = self.running()
        within = [at for at, (frame, _) in enumerate(stack) if frame.f_code.co_filename.startswith(IMPORTLIB)]
        importing = bool(within)
        lines = places(stack[within[-1] + 1 :] if importing else stack)
        task = asyncio.current_task(self.loop)
        if lines and self.beaten == seen:  # it did not go on while we looked
            self.stall = stall = Stall(lines, importing, seconds, task)
            self.on_stall(stall)  # not self.stall: the next beat may have taken it away already

    def running(self) -> list[FrameLine]:
        """What the loop runs of the application's, the innermost line first; empty where that is nothing."""
        stack = list(takewhile(lambda line: line[0] is not self.base, running_in(self.ident)))
        waits = len(stack) > 1 and stack[0][0].f_code.co_name == "select" and of_loop(stack[1])
        return [] if waits or of_server(stack) else stack


def wants_to_run() -> bool:
    """Whether a thread of this process, but for our own, runs or waits for its turn (Linux; elsewhere no)."""
    own = str(threading.get_native_id())
    try:
        return any(state_of(each) == "R" for each in os.listdir(TASKS) if each != own)
    except OSError:
        return False


def state_of(thread: str) -> str:
    """R, S and so on, as proc(5) has it; "" of a thread that has ended."""
    try:
        with open(f"{TASKS}/{thread}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


TASKS = "/proc/self/task"


def of_server(stack: list[FrameLine]) -> bool:
    """Whether the server itself is at work: a callback of its own, which does not call the application."""
    frames = [frame.f_code for frame, _ in stack if not frame.f_code.co_filename.startswith(ASYNCIO)]
    ours = [code for code in frames if code.co_filename.startswith(PACKAGE)]
    return bool(ours) and ours[-1] is frames[-1] and not any(code.co_name in RUNNERS for code in ours)


def of_loop(line: FrameLine) -> bool:
    return line[0].f_code.co_filename.startswith(ASYNCIO)
