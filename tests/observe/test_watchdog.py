"""The watchdog: it names the line that keeps the loop, and is silent where nobody's does."""

import asyncio
import contextlib
import sys
import threading
import time

import pytest

from miniasgi.observe.watchdog import Watchdog


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
    monkeypatch.setattr(Watchdog, "read_queued", lambda self: time.monotonic())
    async with watching() as (watchdog, stalls):
        block()
        await beat(watchdog)
    assert not stalls


async def test_a_machine_that_does_not_tell_it_is_watched_as_well(monkeypatch):
    monkeypatch.setattr(Watchdog, "read_queued", lambda self: 0.0)
    async with watching() as (watchdog, stalls):
        block()
        await beat(watchdog)
    assert len(stalls) == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_it_leaves_no_thread_and_no_timer_behind(times):
    for _ in range(times):
        async with watching() as (watchdog, _stalls):
            assert watchdog.thread.is_alive()
        assert not watchdog.thread.is_alive()
        assert watchdog.timer.cancelled()
