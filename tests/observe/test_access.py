"""The access log: its lines, who writes them, and what becomes of them when nobody can."""

import asyncio
import io
import logging
import re

import pytest

from miniasgi.observe.access import ENOUGH, AccessLines, access_log, log_request
from miniasgi.protocol.runtime import Visit

VISIT = Visit("127.0.0.1:50000", b"GET /a%20b?c HTTP/1.1", 1.0)
TOLD = '127.0.0.1:50000 "GET /a%20b?c HTTP/1.1" 200 12 0.4ms'


class Stream(io.StringIO):
    """Counts its writes, and takes no more when it is broken."""

    name = "a pipe"
    writes = 0
    broken = False

    def write(self, text):
        if self.broken:
            raise BrokenPipeError(32, "Broken pipe")
        self.writes += 1
        return super().write(text)


@pytest.fixture
def open_log():
    """`stream = open_log()`: what the log is written into. Called in the test, or pytest would listen, too."""

    def open_log():
        access_log.setLevel(logging.INFO)
        access_log.propagate = False
        access_log.handlers[:] = [AccessLines(Stream())]
        return access_log.handlers[0].stream

    yield open_log
    access_log.handlers.clear()


def without_time(line):
    return re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)", line)[1]


async def quiet_turns():
    """After one without a line, all are written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_the_lines_of_a_turn_and_of_the_next_are_one_write(open_log):
    stream = open_log()
    log_request(VISIT, 200, 12, 0.0004)
    await asyncio.sleep(0)
    log_request(VISIT, 0, 0, 61.0)
    assert stream.getvalue() == ""
    await quiet_turns()
    first, second = map(without_time, stream.getvalue().splitlines())
    assert first == TOLD
    assert second.endswith(' HTTP/1.1" - 0 61000.0ms')
    assert stream.writes == 1


async def test_lines_that_are_enough_do_not_wait_for_more(open_log):
    stream = open_log()
    for _ in range(ENOUGH // 20 + 1):
        for _ in range(20):
            log_request(VISIT, 200, 12, 0.0004)
        await asyncio.sleep(0)
    assert stream.writes == 1
    assert len(stream.getvalue().splitlines()) == ENOUGH


async def test_a_line_is_that_of_a_record(open_log):
    stream = open_log()
    log_request(VISIT, 200, 12, 0.0004)
    await quiet_turns()
    access_log.addFilter(lambda record: True)  # the program's own: it sees each record
    try:
        log_request(VISIT, 200, 12, 0.0004)
    finally:
        access_log.filters.clear()
    first, second = map(without_time, stream.getvalue().splitlines())
    assert first == second == TOLD


async def test_a_program_that_logs_itself_has_records(open_log, caplog):
    open_log()
    access_log.addHandler(caplog.handler)
    log_request(VISIT, 200, 12, 0.0004)
    assert caplog.messages == [TOLD]
    assert caplog.records[0].args == ("127.0.0.1:50000", "GET /a%20b?c HTTP/1.1", 200, 12, 0.4)


async def test_nothing_is_written_below_the_level(open_log):
    stream = open_log()
    access_log.setLevel(logging.WARNING)
    log_request(VISIT, 200, 12, 0.0004)
    await quiet_turns()
    assert stream.getvalue() == ""


async def test_it_falls_silent_when_nobody_reads_it(open_log, caplog):
    stream = open_log()
    stream.broken = True
    for _ in range(2):
        log_request(VISIT, 200, 12, 0.0004)
        await quiet_turns()
    assert caplog.messages == ["The log to a pipe ends here: Broken pipe"]
    stream.broken = False
    log_request(VISIT, 200, 12, 0.0004)
    await quiet_turns()
    assert stream.getvalue() == ""


async def test_what_is_left_at_the_end_is_written(open_log):
    stream = open_log()
    log_request(VISIT, 200, 12, 0.0004)
    logging.shutdown()
    assert TOLD in stream.getvalue()
