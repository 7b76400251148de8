"""`miniasgi check`: what an application can, and what it does wrong, in words.

In reading order: `report` has the lines that are told of an application, `witness` stands in for it and keeps
what it did, `client` is who asks, `visit` pays the visits, one after another, each with a limit of time, and
`process` sees that all of it ends. It stands above the server, which it starts in its own process on a free
port of 127.0.0.1, and it knows no terminal: whoever calls `check` shows the lines.
"""

from .process import check
from .report import NOT_STARTED, SOUND, WRONG_FOUND, Line, Mark, labels

__all__ = ["NOT_STARTED", "SOUND", "WRONG_FOUND", "Line", "Mark", "check", "labels"]
