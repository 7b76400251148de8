"""The request line and headers, as h11 read them, → the ASGI scope.

It owns the reading of request targets (RFC 9112 section 3.2) and the keys of the scope (ASGI HTTP & WebSocket
2.5, "HTTP Connection Scope" and "WebSocket Connection Scope"). It must not know sockets, states or
answers: what cannot be read is a BadRequest, which says why. Next in reading order: `exchange`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import h11

from ..asgi import Scope
from .strict import HOST, BadRequest
from .tls_scope import TLSFacts

# The version of the ASGI specification, and of its part on HTTP and WebSocket, that the road keeps to.
ASGI_VERSION = "3.0"
SPEC_VERSION = "2.5"

Address = tuple[str, int | None] | None
Headers = Iterable[tuple[bytes, bytes]]


class Endpoint(NamedTuple):
    """Who speaks with whom: what every request of one connection has in common."""

    client: Address  # (host, port); None on a unix socket
    server: Address  # (host, port); (path, None) on a unix socket
    tls: TLSFacts | None = None  # None without TLS


# What of a scope depends on the request's target alone: path, raw_path, query_string.
Place = tuple[str, bytes, bytes]


def http_scope(request: h11.Request, endpoint: Endpoint, root_path: str, state: dict[Any, Any]) -> Scope:
    """The scope of one HTTP request. Raises BadRequest."""
    place, headers = read_request(request, root_path)
    scope = fresh_http_scope(request.method, place, headers, endpoint, root_path, state)
    if request.http_version == b"1.0":  # it has neither informational responses nor trailers
        scope["http_version"] = "1.0"
        del scope["extensions"]["http.response.early_hint"]
    elif asks_for_trailers(headers):
        scope["extensions"]["http.response.trailers"] = {}
    return scope


def fresh_http_scope(
    method: bytes,
    place: Place,
    headers: list[tuple[bytes, bytes]],
    endpoint: Endpoint,
    root_path: str,
    state: dict[Any, Any],
) -> Scope:
    """The same of HTTP/1.1, without trailers. All of it that can be changed is the application's own."""
    path, raw_path, query_string = place
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": ASGI_VERSION, "spec_version": SPEC_VERSION},
        "http_version": "1.1",
        "method": method.decode("ascii"),
        "scheme": "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": headers,
        "client": endpoint.client,
        "server": endpoint.server,
        "state": state.copy(),
        # What a response may have beyond a head and a body (ASGI, "Extensions").
        "extensions": {
            "http.response.pathsend": {},
            "http.response.zerocopysend": {},
            "http.response.early_hint": {},
        },
    }
    if endpoint.tls is not None:
        add_tls(scope, endpoint.tls)
    return scope


def add_tls(scope: Scope, tls: TLSFacts) -> None:
    """The `tls` extension; "for non-TLS connections, the ASGI server is forbidden from providing" it."""
    scope["scheme"] += "s"
    scope["extensions"]["tls"] = tls.extension()


def websocket_scope(request: h11.Request, endpoint: Endpoint, root_path: str, state: dict[Any, Any]) -> Scope:
    """The scope of one WebSocket; its headers are those of the handshake, all of them. Raises BadRequest."""
    place, headers = read_request(request, root_path)
    scope = fresh_http_scope(request.method, place, headers, endpoint, root_path, state)
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "ws"
    scope["subprotocols"] = offered_subprotocols(request)
    scope["extensions"] = {"websocket.http.response": {}}
    if endpoint.tls is not None:
        add_tls(scope, endpoint.tls)
    return scope


def asks_for_trailers(headers: Headers) -> bool:
    """Whether the client takes trailers: `TE: trailers` (RFC 9110 section 10.1.4)."""
    for name, value in headers:  # nearly always without a hit; a generator would take three times as long
        if name == b"te" and b"trailers" in [token.strip() for token in value.lower().split(b",")]:
            return True
    return False


def read_request(request: h11.Request, root_path: str) -> tuple[Place, list[tuple[bytes, bytes]]]:
    """(where the request goes, its headers)"""
    target, host = read_target(request)
    headers = list(request.headers)
    if host is not None:
        headers = [(b"host", host), *(line for line in headers if line[0] != b"host")]
    return place_of(target, root_path), headers


def place_of(target: bytes, root_path: str) -> Place:
    """Of path and query, as `read_target` has them."""
    raw_path, _, query_string = target.partition(b"?")
    path = raw_path.decode("ascii")  # h11 lets nothing but visible ASCII through
    if "%" in path:
        path = unquote(path)
    if root_path and path != "*":
        # The proxy took the prefix off. ASGI's `path` is the whole path, `root_path` the part of it that
        # belongs to whoever mounted the application.
        path = root_path + path
        raw_path = quote(root_path).encode("ascii") + raw_path
    return path, raw_path, query_string


def read_target(request: h11.Request) -> tuple[bytes, bytes | None]:
    """(path and query, host) of the four forms of a target; the host only where the target names one."""
    target = request.target
    if b"#" in target:  # where it is taken, some drop what follows, and others read it as part of the path
        raise BadRequest("the request target has no fragment (RFC 9112 section 3.2)")
    if target.startswith(b"/"):  # origin form (RFC 9112 section 3.2.1)
        return target, None
    if request.method == b"CONNECT":  # authority form (3.2.3)
        raise BadRequest("CONNECT is for proxies, and this is none (RFC 9110 section 9.3.6)", 501)
    if target == b"*":  # asterisk form (3.2.4)
        if request.method != b"OPTIONS":
            raise BadRequest("the request target * goes with OPTIONS only (RFC 9112 section 3.2.4)")
        return target, None
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):  # absolute form (3.2.2)
        # "the origin server MUST ignore the received Host header field (if any) and instead use the host
        # information of the request-target"
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        path, host = rest[end:], rest[:end]
        if not host or host.startswith(b":"):
            raise BadRequest("an http URL without a host is invalid (RFC 9110 section 4.2.1)")
        # Of a user before it: "SHOULD parse for userinfo and treat its presence as an error" (4.2.4).
        if HOST.fullmatch(host) is None:
            raise BadRequest(
                "the host of a URL is a name or an address, and perhaps a port (RFC 9110 section 4.2)"
            )
        return path if path.startswith(b"/") else b"/" + path, host
    raise BadRequest("the request target begins with a slash (RFC 9112 section 3.2)")


def offered_subprotocols(request: h11.Request) -> list[str]:
    """The subprotocols that the client offers, in its order (RFC 6455 section 4.1)."""
    return [
        protocol.strip().decode("latin-1")
        for name, value in request.headers
        if name == b"sec-websocket-protocol"
        for protocol in value.split(b",")
        if protocol.strip()
    ]


def proposes_websocket(request: h11.Request) -> bool:
    """Whether the client asks for a WebSocket. HTTP/1.0 has no Upgrade (RFC 9110 section 7.8)."""
    return request.http_version != b"1.0" and "websocket" in tokens(request, b"upgrade")


def tokens(request: h11.Request, name: bytes) -> list[str]:
    """The comma-separated values of a header, in lower case."""
    return [
        token.strip().lower()
        for each, value in request.headers
        if each == name
        for token in value.decode("latin-1").split(",")
    ]
