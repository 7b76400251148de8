"""A call without `await`, which Python only warns of: how that is heard, and what is told of it.

It is no exception: the call made a coroutine, which nobody ran. Python warns where the coroutine is dropped,
which may be long after the call and far away; who wants to know the call has the calls remembered. This owns
Python's warnings while `unawaited_heard` lasts, which is for a process, or for a check, to say.
"""

import linecache
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import TextIO

from .frames import PACKAGE, is_installed, is_ours, short, traced
from .messages import row

# How many calls are remembered of each coroutine, where they are: asyncio's debug mode remembers as many.
DEPTH = 10

# (what is told, whether it is about the application's own code)
OnUnawaited = Callable[[str, bool], None]


@contextmanager
def unawaited_heard(on_unawaited: OnUnawaited, *, depth: int = 0) -> Iterator[None]:
    """While the block runs, a coroutine that is dropped without having run is heard of, and not warned of.

    `depth` is how many calls are remembered of each coroutine that is made; each costs time.
    """
    before, depth_before = warnings.showwarning, sys.get_coroutine_origin_tracking_depth()

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
        sys.set_coroutine_origin_tracking_depth(max(depth, depth_before))
        try:
            yield
        finally:
            sys.set_coroutine_origin_tracking_depth(depth_before)


NEVER_AWAITED = re.compile(r"coroutine '(.+)' was never awaited")


def caller(warning: str, dropped: tuple[str, int]) -> tuple[str, int] | None:
    """(file, line) that made the coroutine: the application's own, where one of those remembered is.

    None where we made it. Where nothing is remembered, as in a thread of the application's, it is where the
    coroutine was dropped.
    """
    origin = traced(warning)
    inside = takewhile(lambda each: not each.file.startswith(PACKAGE), origin)
    lines = [(each.file, each.line) for each in inside if not is_ours(each.file)]
    own = [each for each in lines if not is_installed(each[0])]
    return next(iter(own + lines), None if origin else dropped)


# The coroutine functions behind what an application is given, by their qualified names.
GIVEN = re.compile(
    r"(?:ApplicationCall|Exchange|WebSocketExchange|Lifespan)\.(send|receive)|.*\.recorded_(send|receive)"
)


def without_await(coroutine: str, filename: str, number: int) -> str:
    """What is told of a coroutine that was dropped at this line without having run."""
    given = GIVEN.fullmatch(coroutine)
    name = given[1] or given[2] if given else coroutine.rpartition(".")[2]
    effect = {"send": "nothing was sent", "receive": "nothing was received"} if given else {}
    what = f"{name}() was called without `await`, so that {effect.get(name, 'it did not run')}"
    if is_ours(filename):  # the coroutine was dropped late: whoever made it is not known any more
        return f"{what}; with --debug, it is told where"
    line = linecache.getline(filename, number).strip()
    awaited = re.sub(rf"^((?:return |[\w.]+ = )?)((?:[\w.]|\(\))*\b{re.escape(name)}\()", r"\1await \2", line)
    rows = [row("the line", line)] if line else []
    if awaited != line:
        rows.append(row("in its place", awaited, *[ASYNC_DEF] * is_in_plain_function(filename, number)))
    return "\n".join([f"{short(filename)}, line {number}: {what}", *rows])


ASYNC_DEF = "(in an `async def`; a `def` cannot await)"


def is_in_plain_function(filename: str, number: int) -> bool:
    """Whether the function around this line is a `def`, by the nearest one above that is indented less."""
    *above, line = linecache.getlines(filename)[:number] or [""]
    indent = len(line) - len(line.lstrip())
    heads = [each for each in above if each.lstrip().startswith(("def ", "async def "))]
    around = [each for each in heads if len(each) - len(each.lstrip()) < indent]
    return bool(around) and around[-1].lstrip().startswith("def ")
