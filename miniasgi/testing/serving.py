"""serve and connect: an application behind a real server, for the time of a block of a test.

Two worlds, one name: `with serve(app)` runs the server in a thread (`thread`), `async with serve(app)` in the
loop of the test (`in_loop`); what both have is in `served`. Nothing here touches signals, the
configuration of logging or the event loop policy.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from ..asgi import Application
from .faults import Errors
from .in_loop import AsyncLiveServer, MemoryServer, Wire
from .served import Options
from .thread import LiveServer


class Serving:
    """What `serve` returns: the server begins with the block. It can be used again, when that is over."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.live: LiveServer | AsyncLiveServer | None = None

    def __enter__(self) -> LiveServer:
        __tracebackhide__ = True  # pytest leaves this frame out
        self.check_over()
        self.live = live = LiveServer(self.options).start()
        return live

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True  # pytest leaves this frame out
        live, self.live = self.live, None
        assert isinstance(live, LiveServer)
        live.stop(error)

    async def __aenter__(self) -> AsyncLiveServer:
        __tracebackhide__ = True  # pytest leaves this frame out
        self.check_over()
        self.live = live = await AsyncLiveServer(self.options).start()
        return live

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True  # pytest leaves this frame out
        live, self.live = self.live, None
        assert isinstance(live, AsyncLiveServer)
        await live.stop(error)

    def check_over(self) -> None:
        if self.live is not None:
            raise RuntimeError("this serve(…) has its block already; each server is a serve(…) of its own")


def serve(
    app: Application | str,
    *,
    uds: bool | str = False,
    tls: bool = False,
    errors: Errors = "raise",
    strict: bool | None = None,
    **options: Any,
) -> Serving:
    """An application behind a real server, for the time of a block.

        with serve(app) as server:        # in a thread, with a loop of its own
            httpx.get(server.url)
        async with serve(app) as server:  # in the loop of the test
            ...

    The block begins when clients are accepted and the application has started; it ends when the server has
    stopped, as `miniasgi serve` does. What the application has raised is then raised as an ExceptionGroup,
    each error with a note that names the request; with `errors="collect"` it is in `server.errors` only, with
    "ignore" in the log. `strict` makes faults of messages that are against the specification and would be
    served all the same.

    `app` is an application, or its name, `module:attribute`. `uds` serves on a unix socket, of this path or
    one to throw away; `tls` with a certificate to throw away. The options are Config's; here the port is 0,
    the access log is off, `loop` (of the thread) is asyncio, a startup has 10 s, what runs at the end 1 s.
    Raises ConfigError and LoadError; the block's beginning StartupFailed, AddressError, TLSError.
    """
    return Serving(Options(app, uds=uds, tls=tls, errors=errors, strict=strict, **options))


@asynccontextmanager
async def connect(
    app: Application | str, *, errors: Errors = "raise", strict: bool | None = None, **options: Any
) -> AsyncIterator[Wire]:
    """A client of the application without a socket: its bytes go into the road of a real server.

        async with connect(app) as wire:
            await wire.send(b"GET / HTTP/1.1\\r\\n", b"Host: x\\r\\n\\r\\n")
            assert (await wire.response()).status == 200

    `wire.server` is as `serve` has it, in the loop of the test; its time stands still, until
    `await wire.server.pass_time(seconds)`.
    """
    server = MemoryServer(Options(app, errors=errors, strict=strict, **options))
    await server.start()
    error: BaseException | None = None
    try:
        yield server.raw()
    except BaseException as raised:
        error = raised
        raise
    finally:
        await server.stop(error)
