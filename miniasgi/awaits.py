"""A call without `await`, which Python only warns of: what is told of it, and how it is noticed.

It owns Python's warnings while `awaits_explained` lasts, which is for a process, or for a check, to say.
"""

import linecache
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from .frames import is_ours, short
from .messages import row

log = logging.getLogger("miniasgi")


@contextmanager
def awaits_explained(*, origins: bool = False) -> Iterator[None]:
    """While the block runs, Python's warning of a call without `await` is an error in the log.

    It is no exception: the call made a coroutine, which nobody ran. Python notices, and only warns: where
    the coroutine is dropped, which may be late. With `origins` it remembers where each was made, at a cost.
    """
    before, depth = warnings.showwarning, sys.get_coroutine_origin_tracking_depth()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if found := NEVER_AWAITED.match(str(message)):
            origin = [(filename, str(lineno)), *ORIGIN.findall(str(message))][-1]
            log.error("%s", without_await(found[1], origin[0], int(origin[1])))
        else:
            before(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    if origins:
        sys.set_coroutine_origin_tracking_depth(max(depth, 1))
    try:
        yield
    finally:
        warnings.showwarning = before
        sys.set_coroutine_origin_tracking_depth(depth)


NEVER_AWAITED = re.compile(r"coroutine '(.+)' was never awaited")
ORIGIN = re.compile(r'^  File "(.+)", line (\d+)', re.M)  # where it was made, the last of these
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
        return what
    line = linecache.getline(filename, number).strip()
    awaited = re.sub(rf"^((?:return |[\w.]+ = )?)(\S*\b{re.escape(name)}\()", r"\1await \2", line)
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
