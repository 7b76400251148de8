"""miniasgi: a minimal ASGI server. `run` serves until a signal comes, `Server` inside a running loop.

The names are imported when they are asked for: pytest loads miniasgi's plugin into every run of every test
suite, and must not have to wait for a server that nobody wants.
"""

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .config import Config
    from .process import run
    from .server import Server

__all__ = ["Config", "Server", "__version__", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import config, process, server

    return {"Config": config.Config, "Server": server.Server, "run": process.run}[name]
