"""Faults of the application under test: collected while a server runs, and raised in the test.

It owns which of them are wanted (`expect`), which are raised, and what each says of its request. `tell` and
`advise` are called in the server's loop, or in a thread of the application's; all else by the test.
"""

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic, Literal, TypeVar

from ..config import ConfigError
from ..explain.faults import log_fault
from ..explain.frames import of_application
from ..explain.messages import sent_by
from ..explain.shown import shown

Errors = Literal["raise", "collect", "ignore"]
E = TypeVar("E", bound=BaseException)
Kinds = type[E] | tuple[type[E], ...]


class ApplicationFault(Exception):
    """What the application did wrong without raising it: no answer, no end, a message against ASGI."""


class Expected(Generic[E]):
    """Errors that a test wants. Made by `server.expect`; `errors` are those that came."""

    def __init__(self, kind: Kinds[E], match: str | None) -> None:
        self.kind = kind
        self.match = match
        self.errors: list[E] = []

    @property
    def error(self) -> E:
        """The first one that came. Raises AssertionError where none did."""
        if not self.errors:
            raise AssertionError(self.missing)
        return self.errors[0]

    @property
    def missing(self) -> str:
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        matching = "" if self.match is None else f" that matches {self.match!r}"
        return f"the application raised no {' or '.join(each.__name__ for each in kinds)}{matching}"

    def takes(self, error: BaseException | None) -> bool:
        """Whether this is one of them, or a group of nothing else; then it is taken down."""
        if isinstance(error, self.kind) and (self.match is None or re.search(self.match, text_of(error))):
            self.errors.append(error)
            return True
        if isinstance(error, BaseExceptionGroup):
            taken = [self.takes(each) for each in error.exceptions]
            return all(taken)
        return False


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the application's own method, and as wrong as it may be
        return ""


class Faults:
    """The faults of one server's application. Made by `serve`."""

    def __init__(self, errors: Errors, strict: bool, on_change: Callable[[], None]) -> None:
        if errors not in ("raise", "collect", "ignore"):
            raise ConfigError(f"errors is one of raise, collect, ignore, not {errors!r}")
        self.mode = errors
        self.strict = strict
        self.on_change = on_change
        self.found: list[Exception] = []
        self.unwanted: list[Exception] = []  # those of them that nobody expected
        self.expected: list[Expected[BaseException]] = []

    def tell(self, level: int, text: str, error: BaseException | None) -> None:
        """As the log is told otherwise."""
        if self.mode == "ignore" or level < (logging.WARNING if self.strict else logging.ERROR):
            log_fault(level, text, error)
        else:
            self.add(text, error)

    def advise(self, text: str, lines: list[str]) -> None:
        """A message that was sent could be better; where misuse is a fault, this is one."""
        self.add(sent_by(text, lines), None)

    def add(self, text: str, error: BaseException | None) -> None:
        if any(error is cause(each) for each in self.found if error is not None):  # told in two ways
            return
        found = fault(text, error)
        self.found.append(found)
        if not any([each.takes(cause(found)) for each in self.expected]):  # noqa: C419  # each takes it down
            self.unwanted.append(found)
        self.on_change()

    def add_swallowed(self, errors: Iterable[tuple[str, BaseException]]) -> None:
        """What send() raised against messages, and the application has made nothing of."""
        for text, error in errors:
            if not any(leads_to(each, error) for each in self.found):
                self.add(text, error)

    def expect(self, expected: Expected[E]) -> None:
        self.expected.append(expected)  # type: ignore[arg-type]  # it is asked for errors of any kind
        self.unwanted = [each for each in self.unwanted if not expected.takes(cause(each))]

    def clear(self) -> None:
        self.found.clear()
        self.unwanted.clear()
        self.expected.clear()

    def settle(self, error: BaseException | None) -> None:
        """The server has stopped, and its block ended by `error`: raise what is to be raised.

        An error of the block's own is what the test fails by; what went wrong in the application stands above
        it, as that which came before.
        """
        __tracebackhide__ = True  # pytest leaves this frame out
        if self.mode != "raise":
            return
        missing = [AssertionError(each.missing) for each in self.expected if not each.errors]
        unwanted = [*self.unwanted, *(missing if error is None else ())]
        if not unwanted:
            return
        group = ExceptionGroup("errors in the application", unwanted)
        if error is None:
            raise group
        # Not by attributes: an exception may refuse to have one set, as a frozen dataclass does.
        first = came_first(error)
        BaseException.__setattr__(first, "__context__", group)
        BaseException.__setattr__(first, "__suppress_context__", False)


def fault(text: str, error: BaseException | None) -> Exception:
    """What is raised in the test: the application's own error, or one that says what is wrong.

    `text` is a note of the first, and all that the other says.
    """
    if isinstance(error, Exception):
        with suppress(Exception):  # one that takes no attributes, such as a frozen dataclass
            error.with_traceback(of_application(error)[2]).add_note(text)
        return error
    found = ApplicationFault(text if error is None else f"{text} {shown(error)}")
    found.__cause__ = error  # SystemExit, or a cancellation that nobody asked for
    return found


def cause(found: Exception) -> BaseException:
    """What the application raised, where that had to be wrapped."""
    return found.__cause__ or found if isinstance(found, ApplicationFault) else found


def came_first(error: BaseException) -> BaseException:
    """Of the errors that a traceback of this one shows, the first; what `from None` hides is not shown."""
    seen = {id(error)}
    while True:
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is None or id(before) in seen:
            return error
        seen.add(id(before))
        error = before


def leads_to(error: BaseException | None, other: BaseException) -> bool:
    """Whether one error came of the other."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if error is other:
            return True
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup) and any(leads_to(each, other) for each in error.exceptions):
            return True
        error = error.__cause__ or error.__context__
    return False
