"""Refusal: an application that does not support a type of scope, told from one that is broken in it.

It owns what counts as evidence. ASGI has no message for "not supported": an application refuses a scope by
raising before it takes part (lifespan specification, "Scope": the server "must continue but not send any
lifespan events"). A bug in the first lines raises at the same place. So it is looked at what was raised, and
how: a refusal is written on purpose, as `raise` or `assert`, and says what it refuses.
"""

import linecache
import opcode
import re
from collections.abc import Iterable
from itertools import islice
from types import TracebackType

from .frames import STANDARD_LIBRARY, walk

RAISE = bytes([opcode.opmap["RAISE_VARARGS"]])  # what `raise` and `assert` are compiled to

# How a refusal is worded, in its text or in the statement itself, such as assert scope["type"] == "http".
REFUSING = re.compile(
    r"""support | scope.{0,10}type | (unknown|unexpected|non-http)\ scope | only\ http | http\ only
    | no\ route | assert\ False | ["'](http|websocket|lifespan)["']""",
    re.VERBOSE | re.IGNORECASE,
)
# Classes that say nothing by themselves: raised without a text, behind the last `elif`.
PLAIN = (Exception, RuntimeError, TypeError, ValueError)

# The keys that scopes have. Who looks for one in a scope of a type without it did not look at the type.
KEYS = {"client", "extensions", "headers", "http_version", "method", "path", "query_string", "raw_path"}
KEYS |= {"root_path", "scheme", "server", "subprotocols"}


def is_refusal(error: BaseException, type_: str, keys: Iterable[str]) -> bool:
    """Whether an application that has received and sent nothing has refused its scope by this error.

    The scope had this type and these keys when it was given; it may have been changed since.
    """
    return foreign_key(error, keys) != "" or is_meant(error, type_)


def foreign_key(error: BaseException, keys: Iterable[str]) -> str:
    """The key of another type's scope for which the application looked in vain; "" where there is none."""
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    return key if isinstance(key, str) and key in KEYS.difference(keys) else ""


def is_meant(error: BaseException, type_: str) -> bool:
    """Whether somebody wrote this error in order to refuse the scope."""
    if isinstance(error, KeyError) and error.args == (type_,):
        return True  # a table of the types that are supported
    *_, last = [None, *walk(error.__traceback__)]
    if last is None or not is_raised(last):
        return False
    if isinstance(error, NotImplementedError) or (type(error) in PLAIN and not str(error)):
        return True
    words = f"{error} {statement(last)}"
    # By its own name: WebSocket may be a class, and websocket.accept a message.
    named = re.search(rf"(?<![\w.]){type_}(?!\w|\.\w)", words)
    return bool(named or REFUSING.search(words))


def is_raised(entry: TracebackType) -> bool:
    """Whether a statement raised the error; not one of the standard library, which refuses no scope."""
    code = entry.tb_frame.f_code
    of_python = code.co_filename.startswith(STANDARD_LIBRARY) and "-packages" not in code.co_filename
    return not of_python and code.co_code[entry.tb_lasti : entry.tb_lasti + 1] == RAISE


def statement(entry: TracebackType) -> str:
    """The source of what raised, which may have several lines; "" where it is not to be had."""
    code = entry.tb_frame.f_code
    first, last, *_ = next(islice(code.co_positions(), entry.tb_lasti // 2, None))
    lines = range(first or entry.tb_lineno, (last or entry.tb_lineno) + 1)
    return " ".join(linecache.getline(code.co_filename, line).strip() for line in lines)
