"""Conversation: the ASGI messages of one call of the application, and what was said against them.

Recorded is a stand-in for the application, so that the road has no `if` for it: it hands the call on, with a
receive() and a send() that write down what passes. Used by `--debug`, by `miniasgi check` and by recordings.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

from ..asgi import Application, Message, Receive, Scope, Send
from ..explain.frames import senders
from ..explain.messages import advice
from ..explain.shown import shown

# How many messages of a conversation are kept: the first ones, and the last.
KEPT = 20
# How much advice is told of one server; the same piece is told once.
MAX_TOLD = 1000


Way = Literal["receive", "send"]


class Entry(NamedTuple):
    """One message that passed, or that send() refused."""

    seconds: float  # since the call began
    way: Way
    message: Any  # a copy; what is no dict, as it was
    error: BaseException | None = None  # what send() raised

    @property
    def text(self) -> str:
        """The message in one line, shortened, and what may be a secret masked."""
        return shown(self.message)

    @property
    def failure(self) -> str:
        """The first line of what send() raised; "" where it raised nothing."""
        if self.error is None:
            return ""
        return str(self.error).partition("\n")[0] or type(self.error).__name__


class Conversation:
    """Made by Recorded for one call; lives as long as its reader wants. `scope` is a copy."""

    kept = KEPT

    def __init__(self, scope: Scope) -> None:
        self.scope = dict(scope)
        self.began = time.monotonic()
        self.first: list[Entry] = []
        self.last: deque[Entry] = deque(maxlen=self.kept)
        self.count = 0

    def calls(self, way: Way, message: Any = None) -> None:
        """The application calls receive(), or send() with this message; `add` tells what comes of it."""

    def add(self, way: Way, message: Any, error: BaseException | None = None) -> None:
        copy = dict(message) if isinstance(message, dict) else message
        entry = Entry(time.monotonic() - self.began, way, copy, error)
        self.count += 1
        if len(self.first) < self.kept:
            self.first.append(entry)
        else:
            self.last.append(entry)

    def end(self, error: BaseException | None) -> None:
        """The application has returned, or raised."""

    @property
    def left_out(self) -> int:
        """How many messages between the first and the last were not kept."""
        return self.count - len(self.first) - len(self.last)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """(milliseconds, way, message and what became of it) of each message."""
        rows: list[tuple[str, str, str]] = [
            (
                f"{each.seconds * 1000:.1f}",
                each.way,
                each.text + (f"\n→ {each.failure}" if each.failure else ""),
            )
            for each in (*self.first, *self.last)
        ]
        if self.left_out:
            rows.insert(len(self.first), ("", "", f"… {self.left_out} more …"))
        return rows

    @property
    def lines(self) -> list[str]:
        """The rows as lines of a text."""
        rows = [f"{at:>9} ms  {way:<8} " + text.replace("\n", "\n" + " " * 22) for at, way, text in self.rows]
        return rows or ["  not a message was received or sent"]


def type_of(message: Any) -> str:
    """A message's type; of what is no message, what it is."""
    return str(message.get("type")) if isinstance(message, dict) else shown(message)


# The conversation of the call that runs in this context.
current: ContextVar[Conversation] = ContextVar("conversation")

# (a piece of advice, the lines that sent the message); told once for each of these
OnAdvice = Callable[[str, list[str]], None]


class Recorded:
    """An application whose conversations are written down.

    `begin` makes the Conversation of a call, of its scope and its receive(). `on_advice` hears what could be
    better in the messages.
    """

    def __init__(
        self,
        app: Application,
        on_advice: OnAdvice | None = None,
        begin: Callable[[Scope, Receive], Conversation] = lambda scope, _: Conversation(scope),
    ) -> None:
        self.app = app
        self.on_advice = on_advice
        self.begin = begin
        self.told: set[tuple[str, ...]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        conversation = self.begin(scope, receive)
        current.set(conversation)

        async def recorded_receive() -> Message:
            conversation.calls("receive")
            message = await receive()
            conversation.add("receive", message)
            return message

        async def recorded_send(message: Message) -> None:
            conversation.calls("send", message)
            try:
                await send(message)
            except BaseException as error:
                conversation.add("send", message, error)
                raise
            conversation.add("send", message)
            if self.on_advice is not None:
                for each in advice(message):
                    self.tell(self.on_advice, each, senders())

        try:
            returned = await self.app(scope, recorded_receive, recorded_send)  # type: ignore[func-returns-value]
        except BaseException as error:
            conversation.end(error)
            raise
        conversation.end(None)
        return returned

    def tell(self, on_advice: OnAdvice, text: str, lines: list[str]) -> None:
        if (key := (text, *lines)) not in self.told and len(self.told) < MAX_TOLD:
            self.told.add(key)
            on_advice(text, lines)
