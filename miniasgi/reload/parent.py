"""The parent: it keeps the listening sockets, watches the code, and replaces one child by the next.

It never loads the application, so no change can break it. It is plain synchronous code: all that happens,
signals, changes and the end of a child, is put into one queue, and waited for there. While no child serves,
clients wait in the sockets' queues. To be read last.
"""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import socket
from typing import Any, NamedTuple

from ..config import Config, UsageError, make_configs, named
from ..listen import close_all, open_sockets, start_listening
from ..loops import CLEAN_UP, choose_loop
from ..process import configure_logging
from ..tls_context import tls_context
from .child import LAST, SIGNALS, held, left_to_child
from .watch import watched

log = logging.getLogger("miniasgi")


class Ended(NamedTuple):
    """A child has ended: its exit code, or the number of a signal below zero."""

    code: int


# Code has changed, the parent is to stop, a child has ended, the watching has failed.
Event = set[Path] | signal.Signals | Ended | Exception


def serve_reloading(app: str, reload_dir: Sequence[str] = (), **options: Any) -> None:
    """Serve until SIGINT or SIGTERM; the application anew whenever its code changes.

    Raises UsageError for what is wrong with the options, the address or the certificate. What is wrong with
    the application is told, and its next change awaited.
    """
    config, tracing = make_configs(options)
    if tracing.inspect:
        from ..inspector import pass_on  # only where it is asked for

        pass_on(tracing.inspect, os.environ)
    configure_logging(config.log_level)
    choose_loop(config.loop)
    tls_context(config)
    folders = folders_of_code(app, config, reload_dir)
    events: SimpleQueue[Event] = SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(signals_told(events.put))
        sockets = [stack.enter_context(sock) for sock in open_sockets(config.host, config.port)]
        for sock in sockets:
            start_listening(sock, config.backlog)
        with held():
            how = stack.enter_context(watched(folders, events.put))
        log.info("Reloads when a *.py file changes below %s; %s", " or ".join(map(str, folders)), how)
        Parent(sockets, events, longest_stop(config)).run()


def folders_of_code(app: str, config: Config, reload_dir: Sequence[str]) -> list[Path]:
    """The folders to watch, none of them below another. Raises UsageError for one that is not there."""
    place = app.rpartition(":")[0]
    file_folders = [str(Path(place).parent)] if place.endswith(".py") else []
    found = []
    for each in reload_dir or (".", config.app_dir, *file_folders):
        if not Path(each).is_dir():
            option = "reload_dir" if reload_dir else "app_dir" if each == config.app_dir else None
            which = f", which {named(option)} names" if option else f" of {app}"
            raise UsageError(f"there is no folder {each!r}{which}")
        found.append(Path(each).resolve())
    return [each for each in dict.fromkeys(found) if not any(other in each.parents for other in found)]


def longest_stop(config: Config) -> float:
    """The most that a stop may take as promised, and one second, in which a child that keeps it has ended."""
    return config.timeout_graceful_shutdown + CLEAN_UP + config.timeout_lifespan + 1.0


@contextmanager
def signals_told(tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    before = {each: signal.signal(each, lambda number, _: tell(signal.Signals(number))) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Parent:
    """One child after another. Made by `serve_reloading`; it ends when a signal comes."""

    def __init__(self, sockets: list[socket], events: SimpleQueue[Event], limit: float) -> None:
        self.sockets = sockets  # listening
        self.events = events
        self.limit = limit  # seconds that a child may take to stop
        self.changed: set[Path] = set()  # what the child that there is may not know
        self.asked = 0  # how many signals came

    def run(self) -> None:
        while not self.asked:
            forget_bytecode(self.changed)
            self.changed = set()
            self.child = Child(self.sockets, self.events.put)
            try:
                self.until_replaced(self.child)
                self.stop(self.child)
            finally:  # also where the watching has failed
                self.child.let_go()

    def until_replaced(self, child: "Child") -> None:
        """Return when there is a reason to stop this child, which may have ended by itself."""
        while not (self.asked or self.changed):
            self.take(None)
        if self.changed:
            log.info("Reloading: %s changed", names(self.changed))
        elif child.ended:  # which otherwise says it
            log.info("Stopped")

    def stop(self, child: "Child") -> None:
        """As the promise is: in time; at once, after a second signal; by force, where neither helps."""
        began = time.monotonic()
        child.ask_to_stop()
        self.await_end(child, self.limit, signals=1)
        if self.asked > 1:
            child.let_go()
            self.await_end(child, LAST, signals=2)
        if not child.ended:
            log.error(
                "Process %d is still there %.1f s after it was asked to stop; killed",
                child.popen.pid,
                time.monotonic() - began,
            )
            child.popen.kill()
        child.waiting.join()

    def await_end(self, child: "Child", seconds: float, signals: int) -> None:
        """Return when the child has ended, the time is over, or more than so many signals have come."""
        until = time.monotonic() + seconds
        while not child.ended and self.asked <= signals and self.take(until - time.monotonic()):
            pass

    def take(self, seconds: float | None) -> bool:
        """Wait for what happens next; False where nothing does in that time."""
        try:
            event = self.events.get(timeout=None if seconds is None else max(seconds, 0))
        except Empty:
            return False
        match event:
            case Ended():
                self.child.on_end(event.code)
            case signal.Signals():
                self.asked += 1
                close_all(self.sockets)  # as each server does, so that clients go elsewhere
            case Exception():
                raise event
            case changed:
                self.changed |= changed
        return True


class Child:
    """A fresh interpreter, which runs this one's command and serves. Made and stopped by the parent."""

    def __init__(self, sockets: Sequence[socket], tell: Callable[[Event], None]) -> None:
        inner, outer = os.pipe()
        self.lifeline: int | None = outer
        environment, descriptors = left_to_child(inner, sockets)
        command = [sys.executable, *sys.orig_argv[1:]]  # with the interpreter's own options, such as -X dev
        with held():
            self.popen = subprocess.Popen(command, env=environment, pass_fds=descriptors)
            self.waiting = threading.Thread(target=lambda: tell(Ended(self.popen.wait())))
            self.waiting.start()
        os.close(inner)
        self.asked = False  # to stop
        self.ended = False

    def ask_to_stop(self) -> None:
        self.asked = True
        self.popen.terminate()  # nothing, where it has ended

    def let_go(self) -> None:
        """Have it end at once: nobody holds its lifeline any more."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None

    def on_end(self, code: int) -> None:
        self.ended = True
        if not self.asked:
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            log.error("Process %d has ended (%s); the next change starts it again", self.popen.pid, how)


def forget_bytecode(changed: Iterable[Path]) -> None:
    """Remove what Python has compiled of these files.

    It takes that for theirs still where a change left the size, and came within the same second.
    """
    for path in changed:
        with suppress(OSError):
            Path(importlib.util.cache_from_source(path)).unlink()


def names(paths: Collection[Path]) -> str:
    """Some files, as seen from here."""
    here = Path.cwd()
    told = sorted(str(each.relative_to(here) if each.is_relative_to(here) else each) for each in paths)
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return ", ".join(told[:3]) + more
