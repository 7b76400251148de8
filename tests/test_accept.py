"""Accepting: what goes wrong in it ends neither the server nor its silence, on both event loops."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time

import pytest

from miniasgi import Config, Server
from miniasgi.accept import ACCEPTS, OF_ONE_CLIENT
from tests.applications import hello
from tests.conftest import descriptors

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OUT_OF = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL]


class Failing(socket.socket):
    """A socket whose next accept() raises the first of `errors`, and works when there are none left."""

    errors = ()

    def accept(self):
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def failing():
    """`async with failing(*errors) as server`: its first accept()s raise these."""

    def make(*errors, **options):
        sock = Failing()
        sock.bind(("127.0.0.1", 0))
        sock.errors = list(errors)
        return Server(hello, Config(lifespan="off", access_log=False, **options), sockets=[sock])

    return make


async def answered(raw, server):
    reader, writer = await raw(server)
    writer.write(GET)
    await asyncio.wait_for(reader.readuntil(b"hello"), 5)
    return reader, writer


def said(caplog):
    return [(each.levelno, each.getMessage()) for each in caplog.records if each.name == "miniasgi"]


# ---- one client's errors ----


@pytest.mark.both_loops
async def test_what_is_wrong_with_one_client_keeps_no_other_one_out(failing, raw, caplog):
    errors = sorted(OF_ONE_CLIENT)
    async with failing(*errors) as server:
        await answered(raw, server)
        assert server.sockets[0].errors == []
    assert said(caplog) == []


@pytest.mark.both_loops
async def test_more_of_them_than_one_turn_takes_keep_no_other_one_out(failing, raw, caplog):
    async with failing(*[errno.ECONNABORTED] * 3 * ACCEPTS) as server:
        await answered(raw, server)
    assert said(caplog) == []


@pytest.mark.both_loops
async def test_a_rush_of_clients_is_served_whole(bare_server, raw):
    async with bare_server(hello, lifespan="off") as server:
        await asyncio.gather(*(answered(raw, server) for _ in range(2 * ACCEPTS)))


# ---- nobody can be accepted ----


@pytest.mark.both_loops
@pytest.mark.parametrize("number", OUT_OF, ids=errno.errorcode.get)
async def test_nobody_can_be_accepted_is_told_once_with_its_end_and_clients_wait(
    failing, raw, caplog, number
):
    async with failing(number, number, number) as server:
        await answered(raw, server)
    [(level, begun), (_, over)] = said(caplog)
    assert level == logging.ERROR
    assert begun.startswith("No client can be accepted: ")
    assert "accepted again, after 0." in over


async def test_without_descriptors_the_limit_and_its_remedy_are_named(failing, raw, caplog):
    async with failing(errno.EMFILE) as server:
        await answered(raw, server)
    assert f"Its limit is {os.sysconf('SC_OPEN_MAX')}, " in caplog.text
    assert "`ulimit -n`" in caplog.text
    assert "LimitNOFILE=" in caplog.text


@pytest.mark.both_loops
async def test_what_comes_again_and_again_is_told_once_a_minute(failing, raw, caplog, monkeypatch):
    async with failing() as server:
        listening = server.sockets[0]
        for _ in range(3):
            listening.errors.append(errno.EMFILE)
            await answered(raw, server)
        assert len(said(caplog)) == 2
        monkeypatch.setattr("miniasgi.accept.QUIET", 0.0)  # the minute is over
        listening.errors.append(errno.EMFILE)
        await answered(raw, server)
    assert len(said(caplog)) == 4


@pytest.mark.both_loops
async def test_a_shortage_is_told_once_for_all_sockets(caplog, raw):
    sockets = [Failing(), Failing()]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
        sock.errors = [errno.EMFILE] * 4
    async with Server(hello, Config(lifespan="off"), sockets=sockets) as server:
        await answered(raw, server)
        while sockets[1].errors:
            await asyncio.sleep(0.01)
    assert len([text for _, text in said(caplog) if text.startswith("No client")]) == 1


@pytest.mark.both_loops
async def test_a_stop_while_nobody_can_be_accepted_leaves_nothing(failing, raw, caplog):
    before, open_before = asyncio.all_tasks(), descriptors()
    async with failing(*[errno.EMFILE] * 100) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            while server.acceptor.retry is None:
                await asyncio.sleep(0)
    assert server.acceptor.retry.cancelled()
    assert asyncio.all_tasks() == before
    assert descriptors() == open_before


# ---- the turn in which the server stops ----


@pytest.mark.both_loops
@pytest.mark.parametrize("turns", range(5))
async def test_who_is_accepted_as_the_server_stops_is_let_go_and_leaves_nothing(bare_server, turns):
    before, open_before = asyncio.all_tasks(), descriptors()
    with contextlib.ExitStack() as stack:
        async with bare_server(hello, lifespan="off") as server:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
                for _ in range(3)
            ]
            server.acceptor.accept(server.sockets[0])
            assert len(server.acceptor.arriving) == 3
            for _ in range(turns):
                await asyncio.sleep(0)
        assert not server.acceptor.arriving
        assert not server.runtime.connections
        assert asyncio.all_tasks() == before
        assert [client.recv(100) for client in clients] == [b""] * 3
    assert descriptors() == open_before


@pytest.mark.both_loops
async def test_a_client_that_has_reset_its_connection_before_it_is_accepted_is_no_news(
    bare_server, raw, caplog
):
    async with bare_server(hello, lifespan="off") as server:
        for _ in range(10):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await answered(raw, server)
    assert said(caplog) == []


# ---- options of the sockets ----


@pytest.mark.both_loops
async def test_small_answers_do_not_wait_for_others(bare_server, raw):
    async with bare_server(hello, lifespan="off") as server:
        await answered(raw, server)
        [connection] = server.runtime.connections
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_backlog_is_that_of_the_option(failing, monkeypatch):
    listened = []
    monkeypatch.setattr(Failing, "listen", lambda self, backlog: listened.append(backlog), raising=False)
    async with failing(backlog=7):
        pass
    async with failing():
        pass
    assert listened == [7, 2048]


# ---- with a real limit ----


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the CPU time of a process is in /proc")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_process_without_descriptors_serves_its_clients_rests_and_takes_new_ones_when_it_can(process, loop):
    options = ["--loop", loop, "--timeout-keep-alive", "60", "--lifespan", "off", "--no-access-log"]
    server = process("tests.applications:hello", *options, before="ulimit -n 64;")
    with contextlib.ExitStack() as stack:
        kept, *others = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            for _ in range(100)
        ]
        line = server.wait_for("No client can be accepted")
        assert "Its limit is 64" in line
        begun, used = time.monotonic(), cpu_time(server)
        while time.monotonic() - begun < 1:  # what is to be seen takes time
            ask(kept)
            time.sleep(0.1)
        assert cpu_time(server) - used < 0.25
        assert "accepted again" not in server.output
        for each in others[:60]:
            each.close()
        for each in others[60:]:
            ask(each)
        server.wait_for("accepted again")
    assert server.stop() == 0
    assert server.output.count("No client") == 1
    assert "Traceback" not in server.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_process_without_descriptors_stops_as_asked(process, loop):
    options = ["--loop", loop, "--timeout-keep-alive", "60", "--lifespan", "off"]
    server = process("tests.applications:hello", *options, before="ulimit -n 64;")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        server.wait_for("No client can be accepted")
        assert server.stop() == 0
    assert "Traceback" not in server.output


def ask(sock):
    sock.sendall(GET)
    answer = b""
    while not answer.endswith(b"hello"):
        answer += sock.recv(1000)
        assert answer


def cpu_time(server):
    """Seconds that the process has run, in user mode and in the kernel: proc(5)."""
    with open(f"/proc/{server.popen.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
