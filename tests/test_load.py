"""wrk against a server process: no error, and a stop in the middle of it."""

import re
import subprocess

import pytest


def wrk(need, server, seconds):
    command = [need("wrk", install="wrk (Debian)"), "-t", "1", "-c", "32", "-d", str(seconds), server.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_wrk_finds_no_error(process, need, loop):
    server = process("tests.applications:counting", "--loop", loop, "--no-access-log")
    output, _ = wrk(need, server, 2).communicate(timeout=30)
    assert "Socket errors" not in output
    assert "Non-2xx" not in output
    assert int(re.search(r"(\d+) requests in", output)[1]) > 500
    assert server.stop() == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stop_in_the_middle_of_wrk_leaves_no_request_without_its_answer(process, need, loop):
    server = process("tests.applications:counting", "--loop", loop, "--no-access-log")
    load = wrk(need, server, 2)
    server.wait_for("busy")
    server.send_signal()
    assert server.wait() == 0
    output, _ = load.communicate(timeout=30)
    reached, answered = (int(word) for word in server.wait_for("reached").split()[1::2])
    assert reached == answered
    assert "Non-2xx" not in output
    # wrk counts a response only when it has read the whole of it.
    assert int(re.search(r"(\d+) requests in", output)[1]) == answered
    assert "Traceback" not in server.output
