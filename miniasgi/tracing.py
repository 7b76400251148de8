"""Tracing: where the records of what passes go while a process serves: the terminal, a file, a page.

Made from the options of Tracing. A process that shows nothing has no Trace, and its connections no stand-ins.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from .config import Tracing

if TYPE_CHECKING:
    from .observe.record import Record
    from .observe.trace import Trace
    from .observe.writing import Hear


@contextmanager
def traced(tracing: Tracing, app: str) -> Iterator["Trace | None"]:
    """The Trace of a server, while the block runs; None where nothing is to be shown. `app` is its name.

    Raises UsageError for a file that cannot be written, AddressError for a port that cannot be had.
    """
    if not tracing:
        yield None
        return
    # Here: without a trace, a start is 15 ms shorter.
    from .observe.record import header
    from .observe.trace import Trace
    from .observe.writing import to_file, to_terminal

    hearers: list[Hear] = []

    def hear(record: "Record") -> None:
        for each in hearers:
            each(record)

    trace = Trace(hear, secrets=tracing.trace_secrets)
    head = header(trace.date, app)
    with ExitStack() as stack:
        if tracing.trace:
            hearers.append(to_terminal(sys.stdout, tracing.lanes))
        if tracing.trace_file:
            hearers.append(stack.enter_context(to_file(tracing.trace_file, head)))
        if tracing.inspect:
            from .inspector import inspector  # only where it is asked for

            hearers.append(stack.enter_context(inspector(tracing.inspect, head)))
        yield trace
