"""Config: every option once, with its type, default, limits, help and environment name.

The command line, the environment, the table in README and the keyword arguments of `run` are all made
from these fields. This file reads no environment and opens nothing; it knows nothing else of miniasgi.
"""

import dataclasses
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin


class UsageError(Exception):
    """Wrong use: an option, an application or an address that cannot be had.

    Its text is one line that says what to do; before it may stand a traceback of the application's own.
    The command line ends with exit code 2.
    """


class ConfigError(UsageError, ValueError):
    """An option that does not exist, or a value that it does not take."""


def as_argument(option: str, value: str | bool | None) -> str:
    """How a program says an option, perhaps with what it is to be: port, lifespan='off'."""
    return option if value is None else f"{option}={value!r}"


# How whoever set the options says them. The command line puts its own way here: --port, or MINIASGI_PORT.
spelling: ContextVar[Callable[[str, str | bool | None], str]] = ContextVar("spelling", default=as_argument)


def named(option: str, value: str | bool | None = None) -> str:
    """An option as it stands in an error's text: as its reader says it, perhaps with what it is to be."""
    return spelling.get()(option, value)


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
) -> Any:
    """A field of Config: its default, one line of help, and the limits (included) of a number.

    What is `secret` is not shown in the repr of a Config, which may stand in a log.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """How to serve. Times are in seconds, sizes in bytes. Raises ConfigError for what cannot be meant."""

    host: str = option("127.0.0.1", "address or name to listen on; 0.0.0.0 or :: for every IPv4 or IPv6 one")
    port: int = option(8000, "port to listen on; 0 takes a free one and prints it", minimum=0, maximum=65535)
    # Node and uvicorn let as many wait; the kernel's own limit (net.core.somaxconn) stands above it.
    backlog: int = option(2048, "connections that may wait to be accepted", minimum=1)
    app_dir: str = option(".", "folder put first on the import path")
    factory: bool = option(False, "APP is a function without arguments that returns the application")
    lifespan: Literal["auto", "on", "off"] = option(
        "auto", "run the application's startup and shutdown: if it has them, always, never"
    )
    root_path: str = option("", "path that a proxy before the server takes off, such as /api")
    loop: Literal["auto", "asyncio", "uvloop"] = option(
        "auto", "event loop; auto takes uvloop where it is installed"
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = option("info", "least level to log")
    access_log: bool = option(True, "log one line a request")
    debug: bool = option(False, "show clients the traceback and the messages of a request that failed")
    # Node closes a head that is not complete after 60 s, nginx and Apache after 20 to 60 s. No honest
    # client needs more than a few seconds for one packet.
    timeout_head: float = option(10.0, "time for the head of a request, from its first byte", minimum=0.1)
    # Node and uvicorn: 5 s. nginx: 75 s, for clients that pay for each connection with a round trip.
    timeout_keep_alive: float = option(5.0, "time that a connection may be idle", minimum=0.1)
    # Apache: 20 s, nginx: 60 s.
    timeout_body: float = option(
        30.0, "time without a byte of the body while the application waits for it", minimum=0.1
    )
    # nginx's send_timeout: 60 s.
    timeout_send: float = option(
        60.0, "time in which a client takes nothing of what it is sent, before it is given up", minimum=0.1
    )
    # systemd gives a service 90 s to start, and as many to stop.
    timeout_lifespan: float = option(
        90.0, "time for the application's startup, and for its shutdown", minimum=0.1
    )
    # gunicorn and Kubernetes: 30 s, docker: 10 s.
    timeout_graceful_shutdown: float = option(
        10.0, "time for running requests to end once the server was asked to stop", minimum=0.0
    )
    # Node takes 16 KiB, nginx 32, Apache 8 a line; large cookies of single sign-on need more than those.
    limit_head: int = option(64 * 1024, "largest head of a request, else 431", minimum=1024)
    # nginx and Apache: 8 KiB. RFC 9112 section 3 recommends no less.
    limit_target: int = option(16 * 1024, "longest path and query of a request, else 414", minimum=1)
    # Apache and gunicorn: 100.
    limit_headers: int = option(100, "most headers of a request, else 431", minimum=1)
    # nginx: 1 MiB; uvicorn and hypercorn have none. What is too much, the application knows best.
    limit_body: int = option(0, "largest body of a request, else 413; 0: any", minimum=0)
    # asyncio's streams let 64 KiB wait. A number of requests would need each to be read before its turn.
    limit_pipelined: int = option(
        64 * 1024, "size of the requests that may wait behind another on their connection", minimum=0
    )
    # uvicorn: none. Requests and WebSockets count, idle connections do not.
    limit_concurrency: int = option(0, "most requests at a time, else 503; 0: any number", minimum=0)
    recall: bool = option(True, "spare h11 and wsproto what they have said before; only slower without")
    ssl_certfile: str = option("", "PEM file of the certificate and its chain; serves https and wss")
    ssl_keyfile: str = option("", "PEM file of the private key, if not in the certificate's")
    ssl_keyfile_password: str = option("", "password of an encrypted private key", secret=True)
    ssl_ca_certs: str = option("", "PEM file of the authorities that client certificates are checked against")
    ssl_cert_reqs: Literal["none", "optional", "required"] = option(
        "none", "whether clients are asked for a certificate"
    )
    ssl_ciphers: str = option("", "ciphers for TLS 1.2, as OpenSSL names them; those of TLS 1.3 are fixed")
    ws_per_message_deflate: bool = option(True, "compress WebSocket messages with clients that offer it")
    # uvicorn: 16 MiB.
    ws_max_size: int = option(16 * 2**20, "largest WebSocket message, decompressed, else 1009", minimum=1)
    # uvicorn: 32; the websockets library: 16.
    ws_max_queue: int = option(32, "WebSocket messages that may wait for the application", minimum=1)
    # Both as in uvicorn and the websockets library.
    ws_ping_interval: float = option(20.0, "time between two WebSocket pings", minimum=0.1)
    ws_ping_timeout: float = option(20.0, "time for the pong before the connection is closed", minimum=0.1)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            check(each, getattr(self, each.name))
        if not self.host:
            raise ConfigError(
                f"{named('host')} is an address or a name, not ''; 0.0.0.0 is every IPv4 address"
            )
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            text = f"{named('root_path')} begins with a slash and ends without one, not {self.root_path!r}"
            raise ConfigError(text)
        check_ssl(self)


def check_ssl(config: Config) -> None:
    """Raise ConfigError for an option of TLS that would have no effect: who sets one relies on it."""
    for each in dataclasses.fields(config):
        given = each.name.startswith("ssl_") and getattr(config, each.name) != each.default
        if given and not config.ssl_certfile:
            certfile = named("ssl_certfile")
            raise ConfigError(
                f"{named(each.name)} has no effect without {certfile}, the server's certificate"
            )
    cert_reqs, ca_certs = named("ssl_cert_reqs", config.ssl_cert_reqs), named("ssl_ca_certs")
    if config.ssl_cert_reqs != "none" and not config.ssl_ca_certs:
        raise ConfigError(f"{cert_reqs} needs {ca_certs}, the authorities of client certificates")
    if config.ssl_ca_certs and config.ssl_cert_reqs == "none":
        raise ConfigError(f"{ca_certs} has no effect with {cert_reqs}; say optional or required")


def check(each: "dataclasses.Field[Any]", value: object) -> None:
    """Raise ConfigError unless `value` is of the field's type and within its limits."""
    name = named(each.name)
    if get_origin(each.type) is Literal:
        choices = get_args(each.type)
        if value not in choices:
            raise ConfigError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        return
    assert isinstance(each.type, type)
    # bool is an int and an int is as good as a float, as Python has it; but True is no port.
    allowed = (int, float) if each.type is float else each.type
    if not isinstance(value, allowed) or (isinstance(value, bool) and each.type is not bool):
        raise ConfigError(f"{name} is a value of type {each.type.__name__}, not {value!r}")
    minimum, maximum = each.metadata["minimum"], each.metadata["maximum"]
    if isinstance(value, int | float):
        if minimum is not None and not value >= minimum:  # put this way round, it refuses NaN too
            raise ConfigError(f"{name} is at least {minimum:g}, not {value:g}")
        if maximum is not None and value > maximum:
            raise ConfigError(f"{name} is at most {maximum:g}, not {value:g}")


# What `trace` may name: the lanes that something passes between client and application.
LANES = ("bytes", "events", "asgi", "app")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracing:
    """What a process shows of what passes while it serves. Raises ConfigError for what cannot be meant."""

    trace: str = option("", f"show what passes in the terminal: all, or some of {','.join(LANES)}")
    trace_file: str = option("", "file that what passes is written to, for `miniasgi show`")
    trace_secrets: bool = option(False, "show cookies, tokens and passwords, which are masked otherwise")
    inspect: str = option("", "port of a page on this machine that shows what passes; auto takes a free one")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            check(each, getattr(self, each.name))
        check_lanes("trace", self.trace)
        if self.inspect not in ("", "auto") and not (self.inspect.isdecimal() and int(self.inspect) < 65536):
            raise ConfigError(f"{named('inspect')} is a port, or auto, not {self.inspect!r}")
        if self.trace_secrets and not self:
            text = f"{named('trace_secrets', True)} has no effect without {named('trace')}, "
            raise ConfigError(text + f"{named('trace_file')} or {named('inspect')}")

    def __bool__(self) -> bool:
        """Whether anything is to be shown."""
        return bool(self.trace or self.trace_file or self.inspect)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that the terminal is to show."""
        return lanes_named(self.trace)


def check_lanes(option: str, value: str) -> None:
    """Raise ConfigError where an option names a lane that there is not."""
    for lane in lanes_named(value):
        if lane not in LANES:
            text = f"{named(option)} is all, or some of {','.join(LANES)}, not {value!r}"
            raise ConfigError(text + did_you_mean(lane, [*LANES]))


def lanes_named(value: str) -> tuple[str, ...]:
    return LANES if value == "all" else tuple(value.split(",")) if value else ()


def make_configs(options: dict[str, Any]) -> tuple[Config, Tracing]:
    """The Config and the Tracing of these options; ConfigError for one that is of neither."""
    names = [each.name for each in dataclasses.fields(Tracing)]
    tracing = {name: value for name, value in options.items() if name in names}
    rest = {name: value for name, value in options.items() if name not in names}
    return make_config(rest), Tracing(**tracing)


def make_config(options: dict[str, Any]) -> Config:
    """A Config of these options; ConfigError (with the nearest name) for one that does not exist."""
    known = [each.name for each in dataclasses.fields(Config)]
    for name in options:
        if name not in known:
            raise ConfigError(f"there is no option {name!r}{did_you_mean(name, known)}")
    return Config(**options)


def did_you_mean(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is near."""
    near = nearest(name, known)
    return f"; did you mean {' or '.join(repr(each) for each in near)}?" if near else ""


def nearest(name: str, known: list[str]) -> list[str]:
    """At most two known names that can have been meant, the nearest first."""
    import difflib  # only on the way to an error

    return difflib.get_close_matches(name, known, n=2, cutoff=0.7)


def environment_name(name: str) -> str:
    """The environment variable that sets an option of the command line: port → MINIASGI_PORT."""
    return f"MINIASGI_{name.upper()}"
