"""host:port, or the path of a unix socket → listening sockets, bound before the application starts.

A bound socket that does not listen yet refuses clients, and keeps the address: so a port that is in use is
found out at once, and nobody is accepted who cannot be served. What cannot be had is an AddressError, whose
text says what to do.
"""

import errno
import os
import socket

from .config import UsageError, named


class AddressError(UsageError, OSError):
    """The address cannot be had: in use, not permitted, not this machine's, or no address at all."""


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """A bound socket for each address that `host` has; with port 0, all on the one that the first is given.

    Raises AddressError, and then leaves nothing open. A name may have an IPv6 address on a machine without
    IPv6, as localhost has in many containers: the other addresses serve as well.
    """
    sockets: list[socket.socket] = []
    absent: list[AddressError] = []
    for family, address in resolve(host, port):
        if port == 0 and sockets:
            address = (address[0], sockets[0].getsockname()[1], *address[2:])
        try:
            sockets.append(bind(family, address))
        except AddressError as error:
            if not is_absent(error):
                close_all(sockets)
                raise
            absent.append(error)
    if not sockets:
        raise absent[0]
    return sockets


def is_absent(error: AddressError) -> bool:
    """Whether the address is none of this machine's."""
    assert isinstance(error.__cause__, OSError)
    return error.__cause__.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def close_all(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """The addresses of a host name, each once; "" stands for every address."""
    # As bytes: of a str it would see whether it is no ASCII, by modules of 1 MB, which take 1 ms.
    name = host.encode() if host.isascii() else host
    try:
        found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # UnicodeError: an empty or overlong label
        reason = error.strerror if isinstance(error, OSError) else "it cannot be one"
        raise AddressError(f"{host!r} is no address and no known name: {reason}") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]


def bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    try:
        # With its protocol named: only then does asyncio switch Nagle's algorithm off (TCP_NODELAY).
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise AddressError(bind_advice(error, address[0], address[1])) from error
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:  # the IPv4 addresses have a socket of their own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            reuse_address(sock)
            sock.bind(address)
    except OSError as error:
        sock.close()
        raise AddressError(bind_advice(error, address[0], address[1])) from error
    return sock


def bind_unix(path: str) -> socket.socket:
    """A bound unix socket, whose file is the caller's to remove. Raises AddressError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise AddressError(f"the unix socket {path} cannot be had: {error.strerror or error}") from error
    return sock


def reuse_address(sock: socket.socket) -> None:
    """Let the address be had though connections of a server before us are in TIME_WAIT on it.

    Not before a bind without it has failed: two sockets with this option can be bound to one address until
    one of them listens, so another server could take ours while the application starts. And again before we
    listen, for those that we accept to be no hindrance to the server after us.
    """
    if os.name == "posix":  # elsewhere the option would let two servers share one port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def start_listening(sock: socket.socket, backlog: int) -> None:
    """From here on clients may connect. Raises AddressError."""
    try:
        reuse_address(sock)
        sock.listen(backlog)
    except OSError as error:  # another server bound the address as we did, and listened first
        address = sock.getsockname()
        if isinstance(address, str):
            raise AddressError(f"the unix socket {address} cannot be had: {error.strerror}") from error
        raise AddressError(bind_advice(error, *address[:2])) from error


def bind_advice(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            other = named("port")
            return (
                f"port {port} of {host} is in use; stop its user, or take another {other} (0: any free one)"
            )
        case errno.EACCES:
            return f"port {port} is not permitted to this user; take one from 1024 on with {named('port')}"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"{host} is not an address of this machine; {named('host', '127.0.0.1')} is, and 0.0.0.0"
        case _:
            return f"{host} port {port} cannot be had: {error.strerror}"


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """The URL under which this machine reaches a listening socket; of a unix socket, whatever its path is."""
    if sock.family == socket.AF_UNIX:
        return f"{scheme}://localhost"
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
