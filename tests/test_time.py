"""The promised times of a server's life, in a loop whose time passes by itself. Those of a connection are
tested where it is: `protocol/`."""

import asyncio
import time
from email.utils import formatdate

import pytest

from miniasgi import Config, Server
from miniasgi.lifespan import StartupFailed
from miniasgi.protocol.runtime import http_date
from tests import clock
from tests.applications import endless, hello


def test_the_date_is_written_as_in_mail():
    for now in range(0, 2**32, 86_399 * 31):
        assert http_date(now).decode() == formatdate(now, usegmt=True)
    assert (
        abs(
            time.mktime(time.strptime(http_date().decode(), "%a, %d %b %Y %H:%M:%S GMT"))
            - time.mktime(time.gmtime())
        )
        < 60
    )


class Stages:
    """An application whose startup or shutdown never ends."""

    def __init__(self, stuck_in):
        self.stuck_in = stuck_in

    async def __call__(self, scope, receive, send):
        for stage in ("startup", "shutdown"):
            await receive()
            if stage == self.stuck_in:
                await asyncio.Event().wait()
            await send({"type": f"lifespan.{stage}.complete"})


def test_a_startup_has_its_time():
    async def main():
        began = asyncio.get_running_loop().time()
        with pytest.raises(StartupFailed, match="did not start within 90 s"):
            async with Server(Stages("startup"), Config(port=0)):
                raise AssertionError("it has started")
        return asyncio.get_running_loop().time() - began

    assert 90 <= clock.run(main()) < 91


def test_a_shutdown_has_its_time(caplog):
    async def main():
        async with Server(Stages("shutdown"), Config(port=0)):
            began = asyncio.get_running_loop().time()
        return asyncio.get_running_loop().time() - began

    assert 90 <= clock.run(main()) < 91
    assert "shutdown was cancelled after 90 s" in caplog.text


async def ask(server, path=b"/"):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    return reader, writer


def test_what_still_runs_is_cancelled_when_the_time_of_a_stop_is_over(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        async with Server(endless, Config(port=0, lifespan="off")) as server:
            reader, writer = await ask(server)
            await reader.readuntil(b"data: x")
            began = loop.time()
        assert 10 <= loop.time() - began < 11.1
        writer.close()

    clock.run(main())
    assert "GET / from 127.0.0.1" in caplog.text
    assert "still running when the server stopped; cancelled" in caplog.text


async def swallowing(scope, receive, send):
    """Goes on whatever is done to end it."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if scope["state"].get("let_go"):
                raise


def test_what_will_not_be_cancelled_has_one_second_more_and_is_left_behind(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        async with Server(swallowing, Config(port=0, lifespan="off")) as server:
            reader, writer = await ask(server)
            while not server.runtime.calls:
                await asyncio.sleep(0.001)
            [call] = server.runtime.calls
            began = loop.time()
        assert 11 <= loop.time() - began < 12.1
        assert await reader.read() == b""
        writer.close()
        call.scope["state"]["let_go"] = True
        call.task.cancel()
        await asyncio.wait([call.task])

    clock.run(main())
    assert "goes on in spite of being cancelled; left behind" in caplog.text


@pytest.mark.parametrize(
    ("sent", "option", "answer"),
    [
        (b"", "timeout_keep_alive", b""),
        (b"GET / HTTP/1.1\r\n", "timeout_head", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "timeout_keep_alive", b"HTTP/1.1 200 "),
    ],
    ids=["silent", "half a head", "idle"],
)
async def test_for_real_a_connection_has_its_time(sent, option, answer, bare_server, raw):
    """By the clock on the wall, within the second in which the server's ticks."""
    async with bare_server(
        hello, **{"timeout_head": 30.0, "timeout_keep_alive": 30.0, option: 0.3}
    ) as server:
        reader, writer = await raw(server)
        began = time.monotonic()
        writer.write(sent)
        answered = await reader.read()
        assert 0.3 <= time.monotonic() - began < 5
        assert answered.startswith(answer)
        assert bool(answered) == bool(answer)
