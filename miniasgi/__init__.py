"""miniasgi: a minimal ASGI server. `run` serves until a signal comes, `Server` inside a running loop."""

from .config import Config
from .process import run
from .server import Server
from .version import __version__

__all__ = ["Config", "Server", "__version__", "run"]
