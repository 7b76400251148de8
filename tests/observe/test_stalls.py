"""What is told of a stall: whose request it is, which line, what to do; and not again and again."""

import asyncio
import sys
import time

import httpx
import pytest

from miniasgi import Config
from miniasgi.observe.stalls import StallLog
from miniasgi.observe.watchdog import Stall, Watchdog
from miniasgi.protocol.runtime import Runtime
from tests.applications import hello

LINE = "app.py, line 7, in app: time.sleep(5)"


@pytest.fixture
async def stalls():
    """A StallLog of a runtime without calls."""
    return StallLog(Runtime(hello, Config(), asyncio.get_running_loop()))


def stall(*lines, importing=False, task=None):
    return Stall(list(lines) or [LINE], importing, 1.1, task)


# ---- a server process ----


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_request_that_keeps_the_loop_is_named_with_its_line_while_it_does(process, loop):
    server = process("tests.applications:sleeper", "--loop", loop)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        client.get("/quick")
        assert client.get("/slow").text == "awake"
        assert client.get("/slow").text == "awake"
        over = server.wait_for("turns again")
    assert server.stop() == 0
    [told] = [line for line in server.lines if "keeps the event loop" in line]
    assert " GET /slow from 127.0.0.1:" in told
    assert "tests/applications.py, line " in told
    assert "in sleeper: time.sleep(1.6)" in told
    assert "asyncio.to_thread" in told
    assert server.lines.index(told) < server.lines.index(over)
    assert "WARNING" in told
    assert server.output.count("turns again") == 1


def test_a_server_whose_loop_turns_says_nothing(process):
    server = process("tests.applications:slow")  # awaits its second
    assert httpx.get(server.url, timeout=20).text == "slow"
    assert server.stop() == 0
    assert "event loop" not in server.output


# ---- the words ----


async def test_a_line_is_told_once_a_minute_with_how_often_it_was_seen(stalls, caplog, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr("miniasgi.observe.stalls.time.monotonic", lambda: now)
    for _ in range(3):
        each = stall()
        stalls.on_stall(each)
        stalls.on_over(each)
    assert len(caplog.records) == 2
    assert "times" not in caplog.text
    now += 61
    stalls.on_stall(stall())
    assert "(3 times since that was told last)" in caplog.records[-1].getMessage()
    stalls.on_stall(stall("another.py, line 1, in view: work()"))
    assert "another.py" in caplog.records[-1].getMessage()


async def test_a_library_that_blocks_is_told_with_who_called_it(stalls, caplog):
    stalls.on_stall(stall("a_library.py, line 1, in get: wait()", LINE))
    assert f"in get: wait(), called from {LINE}. Call it by" in caplog.text


async def test_an_import_is_told_to_be_one(stalls, caplog):
    stalls.on_stall(stall("app.py, line 3, in app: import pandas", importing=True))
    assert "It is an import, which takes its time only once" in caplog.text
    assert "to_thread" not in caplog.text


async def test_what_is_no_request_is_told_to_be_none(stalls, caplog):
    stalls.on_stall(stall())
    assert "A callback: keeps" in caplog.text
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.set_name("cleaning")
    stalls.on_stall(stall("b.py, line 1, in clean: work()", task=task))
    assert "The task cleaning: keeps" in caplog.text
    await task


@pytest.mark.both_loops
async def test_a_request_is_known_by_its_task_from_the_first_step_on(bare_server, raw, caplog):
    async def app(scope, receive, send):
        stalls.on_stall(stall(task=asyncio.current_task()))

    async with bare_server(app, lifespan="off") as server:
        stalls = StallLog(server.runtime)
        reader, writer = await raw(server)
        writer.write(b"GET /first HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.read()
    assert "GET /first from 127.0.0.1:" in caplog.records[0].getMessage()


# ---- the watchdog ----


async def test_a_stall_that_ends_as_it_is_found_is_told_all_the_same():
    class Racing(Watchdog):
        """The loop's beat comes between the two lines that find the stall and tell it."""

        def __setattr__(self, name, value):
            super().__setattr__(name, None if name == "stall" else value)

    found = []
    watchdog = Racing(1.0, found.append)
    watchdog.loop = asyncio.get_running_loop()
    frame = sys._getframe()
    watchdog.running = lambda: [(frame, frame.f_lineno)]
    watchdog.judge(watchdog.beaten, 1.5)
    [stall] = found
    assert "test_stalls.py" in stall.lines[0]
