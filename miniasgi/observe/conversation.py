"""Conversation: the ASGI messages of one call of the application, and what was said against them.

Recorded is a stand-in for the application, so that the road has no `if` for it: it hands the call on, with a
receive() and a send() that write down what passes. Used by `--debug` and by `miniasgi check`.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from ..asgi import Application, Message, Receive, Scope, Send
from ..explain.frames import senders
from ..explain.messages import advice
from ..explain.shown import shown

# How many messages of a conversation are kept: the first ones, and the last.
KEPT = 20
# How much advice is told of one server; the same piece is told once.
MAX_TOLD = 1000


class Entry(NamedTuple):
    """One message, or what became of it."""

    seconds: float  # since the call began
    way: str  # "receive" or "send"
    text: str  # the message, shortened
    failure: str = ""  # the first line of what send() raised


class Conversation:
    """Made by Recorded for one call; lives as long as its reader wants."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.began = time.monotonic()
        self.first: list[Entry] = []
        self.last: deque[Entry] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, way: str, message: object, failure: BaseException | None = None) -> None:
        text = str(failure).partition("\n")[0] or type(failure).__name__ if failure is not None else ""
        entry = Entry(time.monotonic() - self.began, way, shown(message), text)
        self.count += 1
        if len(self.first) < KEPT:
            self.first.append(entry)
        else:
            self.last.append(entry)

    @property
    def left_out(self) -> int:
        """How many messages between the first and the last were not kept."""
        return self.count - len(self.first) - len(self.last)


# The conversation of the call that runs in this context.
current: ContextVar[Conversation] = ContextVar("conversation")

# (a piece of advice, the lines that sent the message); told once for each of these
OnAdvice = Callable[[str, list[str]], None]


class Recorded:
    """An application whose conversations are written down. `on_advice` hears what could be better in them."""

    def __init__(self, app: Application, on_advice: OnAdvice) -> None:
        self.app = app
        self.on_advice = on_advice
        self.told: set[tuple[str, ...]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        conversation = Conversation(scope)
        current.set(conversation)

        async def recorded_receive() -> Message:
            message = await receive()
            conversation.add("receive", message)
            return message

        async def recorded_send(message: Message) -> None:
            try:
                await send(message)
            except BaseException as error:
                conversation.add("send", message, error)
                raise
            conversation.add("send", message)
            for each in advice(message):
                self.tell(each, senders())

        return await self.app(scope, recorded_receive, recorded_send)

    def tell(self, text: str, lines: list[str]) -> None:
        if (key := (text, *lines)) not in self.told and len(self.told) < MAX_TOLD:
            self.told.add(key)
            self.on_advice(text, lines)
