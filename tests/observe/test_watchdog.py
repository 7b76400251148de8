"""The watchdog: it names the line that keeps the loop, and is silent where nobody's does."""

import asyncio
import contextlib
import sys
import threading
import time

import pytest

from miniasgi import Config, Server
from miniasgi.observe.watchdog import Watchdog, wants_to_run


@contextlib.asynccontextmanager
async def watching(limit=0.1):
    """`async with watching() as (watchdog, stalls)`: watched until the end of the block."""
    stalls = []
    watchdog = Watchdog(limit, stalls.append)
    watchdog.start()
    await asyncio.sleep(0)  # the first beat
    try:
        yield watchdog, stalls
    finally:
        watchdog.stop()


def block(seconds=0.6):
    time.sleep(seconds)


async def beat(watchdog):
    """Return after the loop's next beat."""
    before = watchdog.beaten
    while watchdog.beaten == before:
        await asyncio.sleep(0.001)


async def test_a_callback_that_keeps_the_loop_is_told_once_with_its_line_its_task_and_how_long():
    async with watching() as (watchdog, stalls):

        async def callback():
            block()

        task = asyncio.create_task(callback())
        await task
        await beat(watchdog)
    [stall] = stalls
    [line] = stall.lines
    assert line.endswith("in block: time.sleep(seconds)")
    assert stall.task is task
    assert not stall.importing
    assert 0.4 < stall.seconds < 10


async def test_what_blocks_inside_a_library_is_told_with_the_line_of_ones_own_too():
    async with watching() as (watchdog, stalls):
        threading.Event().wait(0.6)
        await beat(watchdog)
    [stall] = stalls
    assert "threading.py" in stall.lines[0]
    assert stall.lines[1].endswith("threading.Event().wait(0.6)")


async def test_an_import_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.6)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with watching() as (watchdog, stalls):
        import slow_to_import  # noqa: F401

        await beat(watchdog)
    del sys.modules["slow_to_import"]
    [stall] = stalls
    assert stall.importing


async def test_a_loop_that_waits_is_not_blamed():
    async with watching() as (watchdog, stalls):

        def look():
            end = time.monotonic() + 30
            while watchdog.running() and time.monotonic() < end:
                pass
            assert not watchdog.running()
            # Even where its beat is long overdue.
            watchdog.judge(watchdog.beaten, 5.0)

        await asyncio.to_thread(look)
    assert not stalls


async def test_time_in_which_the_machine_ran_others_is_not_counted(monkeypatch):
    monkeypatch.setattr("miniasgi.observe.watchdog.wants_to_run", lambda: True)
    async with watching() as (watchdog, stalls):
        block()
        await beat(watchdog)
    assert not stalls


async def test_a_machine_that_does_not_tell_it_is_watched_as_well(monkeypatch):
    monkeypatch.setattr("miniasgi.observe.watchdog.TASKS", "/nowhere")
    async with watching() as (watchdog, stalls):
        block()
        await beat(watchdog)
    assert len(stalls) == 1


async def test_a_callback_that_computes_is_told_though_its_thread_wants_to_run_all_the_time():
    async with watching() as (watchdog, stalls):
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass
        await beat(watchdog)
    [stall] = stalls
    assert "test_watchdog.py" in stall.lines[0]


async def test_the_servers_own_work_is_not_told():
    async def app(scope, receive, send):
        raise NotImplementedError

    def slow_time():
        block()
        return time.monotonic()

    async with Server(app, Config(port=0)) as server, watching() as (watchdog, stalls):
        server.runtime.time = slow_time
        server.loop.call_soon(server.runtime.tick)
        await beat(watchdog)
        await beat(watchdog)
        server.runtime.time = time.monotonic
    assert not stalls


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the states of threads")
async def test_whether_another_thread_wants_to_run_is_known():
    assert not await asyncio.to_thread(look_until, False)
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        assert await asyncio.to_thread(look_until, True)
    finally:
        stop.set()
        thread.join()


def look_until(expected):
    """What is seen of the other threads, once it is what is expected, or after half a minute."""
    end = time.monotonic() + 30
    while (seen := wants_to_run()) is not expected and time.monotonic() < end:
        pass
    return seen


@pytest.mark.parametrize("times", [1, 2])
async def test_it_leaves_no_thread_and_no_timer_behind(times):
    for _ in range(times):
        async with watching() as (watchdog, _stalls):
            assert watchdog.thread.is_alive()
        assert not watchdog.thread.is_alive()
        assert watchdog.timer.cancelled()
