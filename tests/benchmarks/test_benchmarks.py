"""The scripts run, each with tiny sizes; what they measure is not for a test to judge."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .peers import canned, report, servers, workloads
from .peers.load import Wrong, cores

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


TINY = ("--seconds", "0.2", "--turns", "1", "--megabytes", "1", "--idle", "20")


def rows_of(output, workload):
    """The rows of a workload's table: the cells of each server's line, by its name."""
    _, _, section = output.partition(f"\n{workload}: ")
    lines = section.partition("\n\n")[0].splitlines()[2:]
    return {line.split()[0]: line.split()[1:] for line in lines}


@pytest.mark.parametrize(
    "workload",
    [
        *("upload_4k", "upload_length", "download_64k", "download_file"),
        *(
            "ws_echo",
            "ws_large",
            "ws_broadcast",
            "ws_deflate",
            "idle_http",
            "idle_ws",
            "idle_deflate",
            "startup",
        ),
    ],
)
def test_peers_measures_with_clients_of_its_own(workload):
    output, code = run("tests.benchmarks.peers", "--only", workload, "--servers", "miniasgi,canned", *TINY)
    assert code == 0, output
    rows = rows_of(output, workload)
    assert float(rows["miniasgi"][0].replace(",", "")) > 0
    assert ("canned" in rows) == workloads.WORKLOADS[workload].canned


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is missing")
@pytest.mark.parametrize(
    "workload", ["unique", "pipelined", "post", "connect", "sse", "access_log", "starlette"]
)
def test_peers_measures_by_wrk(workload):
    output, code = run("tests.benchmarks.peers", "--only", workload, "--servers", "miniasgi,canned", *TINY)
    assert code == 0, output
    assert float(rows_of(output, workload)["miniasgi"][0].replace(",", "")) > 0


def test_peers_measures_or_names_each_server_and_draws_what_was_measured(tmp_path):
    stored, drawn = tmp_path / "found.json", tmp_path / "found.svg"
    output, _ = run(
        "tests.benchmarks.peers", "--only", "ws_echo", *TINY, "--json", str(stored)
    )  # of any peer
    for server in ("miniasgi", "uvicorn-h11", "hypercorn", "granian", "canned"):
        assert server in output.partition("\nx uvicorn-h11")[0]
    told, code = run("tests.benchmarks.peers", "--read", str(stored), "--markdown", "--svg", str(drawn))
    assert "| miniasgi | " in told
    assert "<svg " in drawn.read_text()


def test_the_limit_is_there_for_each_workload_that_says_so():
    assert set(canned.CANNED) == {name for name, each in workloads.WORKLOADS.items() if each.canned}


@pytest.mark.parametrize("workload", ["hello", "download_64k", "ws_echo"])
def test_a_server_that_answers_something_else_is_not_measured(workload):
    launch = functools.partial(
        servers.Running, servers.SERVERS["canned"], python=sys.executable, workload="startup", core=cores()[0]
    )
    with pytest.raises(Wrong):
        workloads.WORKLOADS[workload].measure(launch, 0.1, workloads.Sizes(workloads.MIB, 1))


def test_a_ratio_above_one_is_always_better_than_the_baseline():
    def result(workload, server, value):
        return report.Result(workload, server, [workloads.Sample(value)])

    results = {
        (each.workload, each.server): each
        for each in (
            result("hello", servers.BASELINE, 100.0),
            result("hello", "miniasgi", 300.0),
            result("startup", servers.BASELINE, 300.0),
            result("startup", "miniasgi", 100.0),
        )
    }
    for workload in ("hello", "startup"):
        assert report.ratio(results, results[workload, "miniasgi"]) == 3
