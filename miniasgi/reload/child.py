"""The child: what it inherits of its parent, how it is stopped, and how it ends with its parent.

SIGTERM asks it to stop, as the promise is, however often it comes: whoever ends a whole group of processes
(a terminal at Ctrl+C, honcho, `timeout`) signals the child as well as the parent, which signals the child,
too. So it is no second signal that ends it at once, but the end of its lifeline, a pipe of which the parent
alone has the other end. The parent closes it, or dies.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, Self

from ..config import make_configs
from ..loops import CLEAN_UP
from ..process import Signals, serve

VARIABLE = "MINIASGI_INHERITANCE"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long a child may take that is to end at once: for what it cancels to clean up, and for what is left.
LAST = 2 * CLEAN_UP + 1.0
# And how long until its loop turns, without which nothing of that happens.
TURN = 0.5


class Inheritance(NamedTuple):
    """Descriptors that a child has of its parent."""

    lifeline: int
    sockets: list[socket.socket]


def left_to_child(lifeline: int, sockets: Iterable[socket.socket]) -> tuple[dict[str, str], list[int]]:
    """The environment of a child, and the descriptors that it must be given."""
    descriptors = [lifeline, *(sock.fileno() for sock in sockets)]
    return {**os.environ, VARIABLE: " ".join(map(str, descriptors))}, descriptors


def inherited(environment: MutableMapping[str, str]) -> Inheritance | None:
    """What a parent has left to this process; None where this is no child.

    It is taken out of the environment, and the descriptors are closed in what the application may start.
    """
    text = environment.pop(VARIABLE, "")
    if not text:
        return None
    lifeline, *descriptors = map(int, text.split())
    for each in (lifeline, *descriptors):
        os.set_inheritable(each, False)
    return Inheritance(lifeline, [listening_socket(each) for each in descriptors])


def listening_socket(descriptor: int) -> socket.socket:
    # With its protocol named, as in `listen.bind`: not every system can be asked for it.
    sock = socket.socket(proto=socket.IPPROTO_TCP, fileno=descriptor)
    sock.setblocking(False)
    return sock


def serve_inherited(app: str, inheritance: Inheritance, **options: Any) -> None:
    """Serve on the parent's sockets until it asks for the end, or ends. Raises what `run` raises."""
    config, tracing = make_configs(options)
    serve(app, config, ChildSignals(inheritance.lifeline), inheritance.sockets, tracing)


class ChildSignals(Signals):
    """What signals do in a child, and the end of its lifeline."""

    def __init__(self, lifeline: int) -> None:
        super().__init__()
        self.lifeline = lifeline
        self.told = f"Ctrl+C, or SIGTERM to process {os.getppid()}, stops it"

    def __enter__(self) -> Self:
        super().__enter__()
        threading.Thread(target=self.follow, name="miniasgi follows its parent", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `held`
        return self

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self.count == 0:  # SIGINT is the terminal's, and for the parent
            super().on_signal(number, frame)

    def follow(self) -> None:
        """End at once when the lifeline ends; by force, where the application does not let that happen."""
        os.read(self.lifeline, 1)
        if self.server is not None:
            self.server.stop(at_once=True)
            time.sleep(TURN)
            if self.server.at_once.is_set():
                time.sleep(LAST - TURN)
        os._exit(1)


@contextmanager
def held() -> Iterator[None]:
    """Let signals wait while the block runs, and in the processes and threads that it starts.

    A child lets them come once it knows what to do with them, so that none ends it with a traceback before.
    In the parent the main thread has them, whose wait they are to end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
