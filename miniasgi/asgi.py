"""ASGI's own words: the five aliases, and the two errors of `send`.

A leaf, which imports nothing of miniasgi. Source: the ASGI specification, version 3.0
(https://asgi.readthedocs.io/en/latest/specs/main.html). What a message may hold is in
`explain.messages`, how an application is found in `loading`.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class ASGIError(RuntimeError):
    """The application broke the ASGI specification; raised where it did, from its own `send()`.

    The first line of the text says what is wrong; those below it show the message, who sent it, in which
    state, what was expected, and where the rule stands.
    """


class ClientDisconnected(OSError):
    """Raised from `send()` on a connection that is closed (ASGI HTTP & WebSocket 2.4 asks for an OSError).

    It is no error of the application's: if it ends the application, that is not logged as one.
    """
