"""Faults: what goes wrong in the application, and who is told.

That is the log, unless somebody else listens: a test wants to have it raised. What is told at the level
ERROR is wrong whoever looks at it; what is told at WARNING is against the specification and was served all
the same. What is told below that is no fault: a client has left, and the application ended by it.
"""

import logging
from collections.abc import Callable

from .frames import of_application

log = logging.getLogger("miniasgi")

# (level, what happened and in which request, what the application raised or None)
Tell = Callable[[int, str, BaseException | None], None]


def log_fault(level: int, text: str, error: BaseException | None = None) -> None:
    """Tell the log."""
    log.log(level, "%s", text, exc_info=None if error is None else of_application(error))
