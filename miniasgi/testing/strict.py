"""What `pytest --asgi-strict` adds to the faults of an application: calls without `await`.

Python only warns of those, and the warning belongs to no server: it is heard for the time of a test.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ..explain.awaits import DEPTH, unawaited_heard
from .faults import ApplicationFault


@contextmanager
def unawaited_raised() -> Iterator[None]:
    """Raise an ExceptionGroup of what was called in the block and never awaited, unless that has raised."""
    __tracebackhide__ = True  # pytest leaves this frame out
    heard: list[str] = []
    with unawaited_heard(lambda text, _own: heard.append(text), depth=DEPTH):
        yield
    if heard:
        faults = [ApplicationFault(each) for each in dict.fromkeys(heard)]
        raise ExceptionGroup("calls without await", faults)
