"""ServerInTest: what a test has of its server, whichever thread that runs in.

It owns the Server and what is recorded of it: where it is, what was said, what went wrong, clients by hand.
The start, the stop and whatever waits differ: see `thread` and `in_loop`.
"""

import logging
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..asgi import Application, ASGIError
from ..config import Config, ConfigError, make_config
from ..explain.application import check_application
from ..listen import bind_unix, close_all
from ..loading import load_app
from ..observe import debug
from ..observe.conversation import current
from ..observe.recording import RecordedExchange, Recording
from ..server import Server
from .certificate import ThrowAway, throw_away
from .faults import Errors, Faults
from .raw import TIMEOUT, AsyncRawClient, Line, Peer, RawClient, TLSLine

# How a test is served where it does not say otherwise: on a free port, without lines of its own in the log,
# and with time limits that a person waits for.
DEFAULTS: dict[str, Any] = {
    "port": 0,
    "access_log": False,
    "loop": "asyncio",
    "timeout_lifespan": 10.0,
    "timeout_graceful_shutdown": 1.0,
}
# How long a test waits for what it expects, in seconds, where it does not say.
PATIENCE = 1.0
# How often what is waited for is looked at when nothing is recorded, in seconds: it may be the application's
# own, such as what a task of it has cleaned up.
ASK_AGAIN = 0.01


# The servers that were started last, for the report of a test that fails.
recent: "deque[ServerInTest]" = deque(maxlen=8)
# And those that run, however long ago that was: a fixture may have started one for all tests.
running: "set[ServerInTest]" = set()


class Strictness:
    """Whether misuse of ASGI is a fault where a test does not say. `pytest --asgi-strict` makes it one."""

    default = False


class Options:
    """What `serve` was told, checked. Raises LoadError, ConfigError."""

    def __init__(
        self,
        app: Application | str,
        *,
        uds: bool | str = False,
        tls: bool = False,
        errors: Errors = "raise",
        strict: bool | None = None,
        **options: Any,
    ) -> None:
        self.throw_away: ThrowAway | None = throw_away() if tls else None
        if self.throw_away is not None:
            if "ssl_certfile" in options:
                raise ConfigError("tls=True makes a certificate; ssl_certfile names another one")
            options["ssl_certfile"] = self.throw_away.certfile
        if uds and ("host" in options or "port" in options):
            raise ConfigError("uds is a unix socket, which has neither host nor port")
        self.config = make_config({**DEFAULTS, **options})
        self.uds = uds
        self.errors = errors
        self.strict = Strictness.default if strict is None else strict
        if isinstance(app, str):
            app = load_app(app, app_dir=self.config.app_dir, factory=self.config.factory)
        check_application(app, "the application")
        self.app = app


class TicketlessServer(Server):
    """A server whose TLS gives out no tickets to take a session up again: that of `tls=True`.

    A client may write in one thread while another reads, as websockets' blocking one does. OpenSSL does not
    bear that while a ticket comes: one client in 300 waited for ever with its request unsent.
    """

    def listen(self, tls: ssl.SSLContext | None) -> None:
        assert tls is not None  # with tls=True
        tls.num_tickets = 0
        super().listen(tls)


class ServerInTest:
    """What a test has of its server, in either world."""

    def __init__(self, options: Options) -> None:
        self.config: Config = options.config
        self.throw_away = options.throw_away
        self.faults = Faults(options.errors, options.strict, self.on_change)
        otherwise = debug.warn if self.config.debug else None
        on_advice = self.faults.advise if options.strict else otherwise
        self.recording = Recording(self.on_change, on_advice)
        self.folder = ""  # of the unix socket, where there is one of ours
        self.uds = ""  # the path of the unix socket that is served on, or ""
        make_server = Server if options.throw_away is None else TicketlessServer
        self.server = make_server(
            self.recording.of_application(options.app),
            self.config,
            sockets=self.sockets(options),
            tell=self.faults.tell,
            first=self.recording.first,
            on_debug=lambda _scope, _info: None,  # the message is in the recording
        )
        self.clients: list[RawClient | AsyncRawClient] = []
        recent.append(self)

    def sockets(self, options: Options) -> Sequence[socket.socket] | None:
        if not options.uds:
            return None
        if options.uds is True:
            self.folder = tempfile.mkdtemp(prefix="miniasgi-")
            self.uds = os.path.join(self.folder, "socket")
        else:
            self.uds = str(options.uds)
        return [bind_unix(self.uds)]

    # ---- where it is ----

    def begin(self) -> None:
        """The server has started."""
        running.add(self)
        self.url = self.server.url  # such as http://127.0.0.1:41234, without a slash at the end
        self.hear_frameworks(True)

    @property
    def ws_url(self) -> str:
        """The URL for WebSocket: ws:// or wss://."""
        return "ws" + self.url.removeprefix("http")

    @property
    def port(self) -> int:
        """The port that it listens on. Raises AttributeError on a unix socket."""
        if self.uds:
            raise AttributeError("a unix socket has no port; `uds` is its path")
        return int(self.url.rpartition(":")[2])

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """For a client of a server with tls=True: it trusts the certificate that was made for it."""
        if self.throw_away is None:
            raise AttributeError("ssl_context is for a server with tls=True")
        return self.throw_away.client_context()

    @property
    def ca_file(self) -> str:
        """The file, in PEM, of what a client is to trust, where a file is what it takes."""
        if self.throw_away is None:
            raise AttributeError("ca_file is for a server with tls=True")
        return self.throw_away.ca_file

    # ---- what was said ----

    @property
    def state(self) -> dict[Any, Any]:
        """What the application put into its lifespan's state."""
        return self.server.runtime.state

    @property
    def exchanges(self) -> list[RecordedExchange]:
        """The calls of the application, each a request or a WebSocket, in the order of their start."""
        return self.recording.exchanges

    @property
    def lifespan(self) -> RecordedExchange | None:
        """The lifespan's conversation; None where the application was not asked for it."""
        return self.recording.lifespan

    @property
    def errors(self) -> list[Exception]:
        """What has gone wrong in the application so far, expected or not."""
        return self.faults.found

    def seen(self, what: "str | Callable[[], object]") -> Any:
        if callable(what):
            return what()
        return next((each for each in self.exchanges if what in each.types), None)

    def late(self, what: "str | Callable[[], object]", timeout: float) -> TimeoutError:
        name = f"no {what}" if isinstance(what, str) else "what was waited for did not come"
        said = "\n".join(each.report for each in self.exchanges[-5:]) or "nobody has asked for anything"
        return TimeoutError(f"{name} within {timeout:g} s; what was said:\n{said}")

    def on_change(self) -> None:
        """Something has been recorded. In the loop, or in a thread of the application's."""
        raise NotImplementedError

    # ---- clients by hand ----

    def open_line(self, receive_buffer: int | None) -> tuple[socket.socket, Peer]:
        """A socket that is connected to the server, and what is known of the server's end.

        It has an address before it connects, so that the server's end is known by it.
        """
        listening = self.server.sockets[0]
        sock = socket.socket(listening.family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:  # it counts only before the connection is made
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            own = f"{self.uds}.{id(sock):x}"
            sock.bind(own if self.uds else (listening.getsockname()[0], 0))
            peer = Peer(self.recording, sock)
            sock.settimeout(TIMEOUT)
            sock.connect(listening.getsockname())
            if self.uds:
                os.unlink(own)
        except BaseException:
            self.recording.awaited.pop(sock.getsockname(), None)
            sock.close()
            raise
        return sock, peer

    def secured(self, line: Line) -> Line:
        return line if self.throw_away is None else TLSLine(line, self.ssl_context)

    # ---- the end ----

    def close_clients(self) -> None:
        for client in self.clients:
            client.close()

    def end(self, error: BaseException | None) -> None:
        """The counterpart of `begin`: the server has stopped. Its block, or the stop, ended by `error`."""
        __tracebackhide__ = True  # pytest leaves this frame out
        self.hear_frameworks(False)
        self.clean_up()
        self.settle(error)

    def clean_up(self) -> None:
        running.discard(self)
        close_all(self.server.sockets)  # of a server that did not start
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.uds:
            with suppress(FileNotFoundError):
                os.unlink(self.uds)

    def settle(self, error: BaseException | None) -> None:
        """Raise what is to be raised of the application's faults."""
        __tracebackhide__ = True  # pytest leaves this frame out
        if self.faults.strict:
            self.faults.add_swallowed(
                (f"{exchange.name}: refused by send()", entry.error)
                for exchange in self.exchanges
                for entry in exchange.messages
                if isinstance(entry.error, ASGIError)
            )
        self.faults.settle(error)

    # ---- frameworks ----

    def hear_frameworks(self, on: bool) -> None:
        """Django answers 500 by itself; it tells what a view has raised by a signal.

        Not imported here: who uses it has done so.
        """
        if (signals := sys.modules.get("django.core.signals")) is not None:
            signal = signals.got_request_exception
            (signal.connect if on else signal.disconnect)(self.on_django_error)

    def on_django_error(self, sender: object, **_: object) -> None:
        exchange, error = current.get(None), sys.exc_info()[1]
        if any(each is exchange for each in self.exchanges) and error is not None:
            assert isinstance(exchange, RecordedExchange)
            self.faults.tell(logging.ERROR, f"{exchange.name}: the application raised, and answered", error)
