"""The scripts run, each with tiny sizes; what they measure is not for a test to judge."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120
# What measures time is not run in asyncio's debug mode, which tells of each step that takes long.
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}


def run(*words):
    """The output of `python -m …`, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, env=BARE
    )
    assert done.stderr == ""
    return done.stdout, done.returncode


@pytest.mark.parametrize(
    ("case", "loop"),
    [("download, chunked, 64", "asyncio"), ("compressed 1:2", "uvloop"), ("no answers", "uvloop")],
)
def test_backpressure_tells_what_a_case_costs(case, loop):
    output, code = run(
        "tests.benchmarks.backpressure",
        "--loop",
        loop,
        "--only",
        case,
        "--megabytes",
        "4",
        "--connections",
        "2",
    )
    assert code == 0, output
    head, row = output.splitlines()[1:3]
    assert head.split()[:4] == ["case", "client", "sent", "app"]
    assert case in row


def test_hostile_tells_how_long_a_healthy_client_waits():
    crowd = ("--silent", "20", "--slowloris", "3", "--slow-body", "3", "--slow-reader", "3", "--resets", "20")
    output, _ = run("tests.benchmarks.hostile", "--seconds", "1", *crowd)  # the code is about time
    assert "20 silent connections: " in output
    assert "Traceback" not in output
    assert [line.split()[0] for line in output.splitlines() if " less waits " in line] == ["fresh", "kept"]


def test_in_tests_tells_what_a_test_waits_for_its_server():
    output, _ = run("tests.benchmarks.in_tests", "--rounds", "2")  # the code is about time
    rows = output.splitlines()
    assert rows[0].split()[:3] == ["case", "rounds", "start"]
    assert [row.split("  ")[0] for row in rows[1:6]] == [
        "bare asyncio",
        "miniasgi, thread",
        "miniasgi, thread, lifespan",
        "miniasgi, loop",
        "miniasgi, loop, lifespan",
    ]
    for other in ("uvicorn", "daphne"):  # measured, or named as missing
        assert other in output
