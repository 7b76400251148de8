"""A real server inside a test: `serve`, `connect`, and a plugin of pytest. README.md has how to use it.

The names are imported when they are asked for: pytest loads the plugin, which is in this package, into every
run of every test suite, and most of them have nothing to do with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..observe.recording import RecordedExchange
    from .faults import ApplicationFault
    from .in_loop import AsyncLiveServer, Wire
    from .raw import AsyncRawClient, RawClient, Response
    from .serving import connect, serve
    from .thread import LiveServer

__all__ = [
    "ApplicationFault",
    "AsyncLiveServer",
    "AsyncRawClient",
    "LiveServer",
    "RawClient",
    "RecordedExchange",
    "Response",
    "Wire",
    "connect",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..observe import recording
    from . import faults, raw, serving

    return next(vars(each)[name] for each in (serving, raw, faults, recording) if name in vars(each))
