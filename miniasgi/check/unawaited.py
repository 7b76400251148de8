"""Unawaited: calls without `await`, each told by the line that called.

Python warns of such a coroutine where it is dropped, which may be long after its call and far away. For the
time of a check it remembers of each coroutine who made it, which would be too slow for serving.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import TextIO

from ..awaits import without_await
from ..frames import PACKAGE, is_installed, is_ours
from .traced import traced

# How many calls are remembered of each coroutine: asyncio's debug mode remembers as many.
DEPTH = 10

NEVER_AWAITED = re.compile(r"coroutine '(.+)' was never awaited")

# (what is told, by the application's own code)
OnUnawaited = Callable[[str, bool], None]


@contextmanager
def unawaited_heard(on_unawaited: OnUnawaited) -> Iterator[None]:
    """While the block runs, a coroutine that is dropped without having run is heard of, and not warned of."""
    before, depth = warnings.showwarning, sys.get_coroutine_origin_tracking_depth()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if (found := NEVER_AWAITED.match(str(message))) is None:
            before(message, category, filename, lineno, file, line)
        elif place := caller(str(message), (filename, lineno)):
            on_unawaited(without_await(found[1], *place), not is_installed(place[0]))

    with warnings.catch_warnings():
        warnings.filterwarnings("default", NEVER_AWAITED.pattern, RuntimeWarning)
        warnings.showwarning = show
        sys.set_coroutine_origin_tracking_depth(DEPTH)
        try:
            yield
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)


def caller(warning: str, dropped: tuple[str, int]) -> tuple[str, int] | None:
    """(file, line) that made the coroutine: the application's own, where one of those remembered is.

    None where we made it. In a thread of the application's nothing is remembered; there it is where the
    coroutine was dropped.
    """
    origin = traced(warning)
    inside = takewhile(lambda each: not each.file.startswith(PACKAGE), origin)
    lines = [(each.file, each.line) for each in inside if not is_ours(each.file)]
    own = [each for each in lines if not is_installed(each[0])]
    return next(iter(own + lines), None if origin else dropped)
