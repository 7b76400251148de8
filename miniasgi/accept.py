"""Acceptor: listening sockets → clients, each given to a protocol of its own.

It owns what a server does when no client can be accepted. The loops' own `create_server` is no help there,
measured with Python 3.11 and uvloop 0.23 under a limit of 64 descriptors: asyncio logs 3,000 tracebacks a
second; uvloop accepts on a descriptor that it keeps in reserve, and hangs up.
Here those clients wait in the kernel's queue, as they do while the application is busy, and are served
when a descriptor is free. It must not know what is spoken on a connection.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

log = logging.getLogger("miniasgi")

# How many clients are taken in one turn of the loop: each costs 120 µs, and a rush of thousands must not keep
# those who are connected waiting.
ACCEPTS = 10
# How long nobody is accepted after that has failed. A try costs some 50 microseconds.
RETRY = 0.1
# A server at its limit has, again and again, a descriptor and then none: that is told once in this time.
QUIET = 60.0
# accept(2): what went wrong with the one client, which is gone from the queue then. Linux hands on "already-
# pending network errors on the new socket", and says EPERM where a firewall forbids it.
OF_ONE_CLIENT = {
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "EPERM", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"),
        *("EOPNOTSUPP", "ENETDOWN", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET"),
    )
    if hasattr(errno, name)
}


class Acceptor:
    """Accepts on some sockets, which listen already. Made by Server; ends with `close`, and then `settled`.

    `make_protocol` gives the protocol of a client, as for create_server; `start_task` is the runtime's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        start_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.loop = loop
        self.sockets = sockets
        self.make_protocol = make_protocol
        self.start_task = start_task
        self.arriving: set[asyncio.Task[None]] = set()  # clients on their way to a transport
        self.retry: asyncio.TimerHandle | None = None  # nobody is accepted until then
        self.told = False  # that nobody can be accepted, and not yet that it is over
        self.told_last = loop.time() - QUIET  # when that was told last
        for sock in sockets:
            sock.setblocking(False)
        self.listen()

    def listen(self) -> None:
        for sock in self.sockets:
            self.loop.add_reader(sock.fileno(), self.accept, sock)

    # ---- clients ----

    def accept(self, sock: socket.socket) -> None:
        """Take those who wait at this socket, ACCEPTS at the most."""
        for _ in range(ACCEPTS):
            try:
                client, _ = sock.accept()
            except BlockingIOError:  # nobody waits any more
                self.recover()
                return
            except OSError as error:
                if error.errno not in OF_ONE_CLIENT:
                    self.pause(error)
                    return
            else:
                arrival = self.start_task(self.arrive(client))
                if not arrival.done():
                    self.arriving.add(arrival)
        self.recover()

    async def arrive(self, client: socket.socket) -> None:
        """Make the client's transport, which from then on has the socket."""
        try:
            await self.loop.connect_accepted_socket(self.make_protocol, client)
        except OSError as error:  # it has left already, or the loop cannot have the socket
            log.info("A client was accepted and lost at once: %s", error)
            client.close()
        finally:  # by itself: a callback would take a turn of the loop, and 2 % of a connection
            self.arriving -= {asyncio.current_task()}

    # ---- when there are none to be had ----

    def pause(self, error: OSError) -> None:
        """Accept nobody for a while: the sockets stay readable, and the loop would never rest."""
        for sock in self.sockets:
            self.loop.remove_reader(sock.fileno())
        self.retry = self.loop.call_later(RETRY, self.resume)
        now = self.loop.time()
        if not self.told and now - self.told_last >= QUIET:
            self.told, self.told_last = True, now
            log.error("No client can be accepted: %s. New ones wait until one can be.", reason(error))

    def resume(self) -> None:
        """Try it, rather than wait for a client: it is told when it is over, not when the next one comes."""
        self.retry = None
        self.listen()
        for sock in self.sockets:
            if self.retry is None:
                self.accept(sock)

    def recover(self) -> None:
        if self.told:
            self.told = False
            seconds = self.loop.time() - self.told_last
            log.warning("Clients are accepted again, after %.1f s; those who waited are among them", seconds)

    # ---- the end ----

    def close(self) -> None:
        """Accept nobody any more. The sockets are the caller's to close."""
        if self.retry is not None:
            self.retry.cancel()
        for sock in self.sockets:
            self.loop.remove_reader(sock.fileno())

    async def settled(self) -> None:
        """Return when all who were accepted have their connections, a few turns of the loop later."""
        if self.arriving:
            await asyncio.wait(self.arriving)


def reason(error: OSError) -> str:
    """Why nobody can be accepted, and what to do about it."""
    match error.errno:
        case errno.EMFILE:
            return (
                f"this process has no file descriptors left. Its limit is {os.sysconf('SC_OPEN_MAX')}, of "
                "which each connection takes one; `ulimit -n` raises it, or LimitNOFILE= in its systemd unit"
            )
        case errno.ENFILE:
            return "this machine has no file descriptors left; `sysctl fs.file-max` is its limit"
        case errno.ENOBUFS | errno.ENOMEM:
            return f"this machine has no memory left for connections ({error.strerror})"
        case _:
            return f"{error.strerror}"
