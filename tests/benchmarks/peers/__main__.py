"""miniasgi beside other ASGI servers, in turns; the README of the benchmarks says what is measured and how.

    python -m tests.benchmarks.peers [--only hello,browser] [--servers miniasgi,uvicorn-h11] [--seconds 3]
        [--turns 3] [--peer-python PATH] [--markdown] [--json FILE] [--svg FILE] [--read FILE ...]

For each workload each server is started, verified, measured and stopped, and this over and over. The server has
one processor, the load another. A server that is not installed for --peer-python is told as missing; one whose
answer is wrong is told with that answer, and then the exit code is 1. --read measures nothing, and shows what
--json has written before.
"""

import argparse
import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

from .load import Unsupported, Wrong, allow_descriptors, cores
from .plot import svg
from .report import Result, Results, conditions, read, section, summary, write
from .servers import LIMIT, SERVERS, Running
from .workloads import MIB, WORKLOADS, Sample, Sizes, Workload

LONGEST = 15.0  # seconds: after 20 servers send the pings that the load does not await
FAULTS = (Wrong, OSError, RuntimeError, subprocess.CalledProcessError)  # of a server, or of the load


def listed(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def known(names: list[str], all_names: dict[str, object]) -> list[str]:
    if unknown := [each for each in names if each not in all_names]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(all_names)}")
    return names or list(all_names)


def lacking(needs: tuple[str, ...], installed: dict[str, str]) -> str:
    """Which of the distributions are missing, or nothing."""
    return ", ".join(each for each in needs if each not in installed)


def why_absent(workload: Workload, server: str, installed: dict[str, str]) -> str:
    """Why there is nothing to measure, or nothing."""
    if server == LIMIT and not workload.canned:
        return "nothing canned"
    missing = lacking(workload.needs, installed)
    return f"is missing: {missing}" if missing else ""


def without_missing(names: list[str], installed: dict[str, str]) -> tuple[list[str], str]:
    """(the servers that can be measured, the others with what they lack)"""
    missing = {each: lacking(SERVERS[each].needs, installed) for each in names}
    absent = ", ".join(f"{name} ({lacks})" for name, lacks in missing.items() if lacks)
    return [each for each in names if not missing[each]], absent


def measure(
    workload: Workload,
    names: list[str],
    installed: dict[str, str],
    arguments: argparse.Namespace,
    core: int,
) -> list[Result]:
    """All turns of all servers, which have the processor `core`."""
    absent = {each: why_absent(workload, each, installed) for each in names}
    failed = dict.fromkeys(names, "")
    samples: dict[str, list[Sample]] = {each: [] for each in names}
    sizes = Sizes(arguments.megabytes * MIB, arguments.idle)
    for turn, name in itertools.product(range(arguments.turns), names):
        if absent[name] or failed[name]:
            continue
        progress(f"{workload.name}, turn {turn + 1}: {name}")
        launch = functools.partial(
            Running, SERVERS[name], python=arguments.peer_python, workload=workload.name, core=core
        )
        try:
            samples[name].append(workload.measure(launch, arguments.seconds, sizes))
        except Unsupported as error:
            absent[name] = str(error)
        except FAULTS as error:
            failed[name], samples[name] = f"{type(error).__name__}: {error}", []
    progress("")
    return [Result(workload.name, name, samples[name], absent[name], failed[name]) for name in names]


def progress(text: str) -> None:
    """One line that changes, for a person who waits at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=listed, default=[], help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--servers", type=listed, default=[], help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--seconds", type=float, default=3.0, help=f"of a turn, at most {LONGEST:g}")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=100, help="MiB of an upload or download")
    parser.add_argument("--idle", type=int, default=2000, help="connections of the workloads idle_*")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that runs all servers")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="write what was found")
    parser.add_argument("--svg", metavar="FILE", help="write a plot of the ratios")
    parser.add_argument("--read", metavar="FILE", nargs="+", help="show what --json wrote; measure nothing")
    arguments = parser.parse_args()
    if not 0 < arguments.seconds <= LONGEST:
        parser.error(f"--seconds is more than 0 and at most {LONGEST:g}")
    return arguments


def measure_all(arguments: argparse.Namespace) -> Results:
    """Prints each table when it is there."""
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    allow_descriptors(2 * arguments.idle + 1000)
    workloads = known(arguments.only, WORKLOADS)
    told = conditions(arguments.peer_python)
    servers, absent = without_missing(known(arguments.servers, SERVERS), told)
    if absent:
        told["missing"] = absent
    print(line_of(told))
    results: Results = {}
    for name in workloads:
        for result in measure(WORKLOADS[name], servers, told, arguments, server_core):
            results[name, result.server] = result
        print(section(results, name, arguments.markdown), flush=True)
        if arguments.json:
            write(arguments.json, told, results)  # what is there is kept, whatever becomes of the rest
    return results


def read_all(arguments: argparse.Namespace) -> Results:
    """Prints the tables of what was measured before."""
    told, results = read(arguments.read)
    print(line_of(told))
    for name in dict.fromkeys(workload for workload, _ in results):
        print(section(results, name, arguments.markdown))
    return results


def line_of(told: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in told.items()) + "\n"


def main() -> int:
    arguments = parsed()
    results = read_all(arguments) if arguments.read else measure_all(arguments)
    print(summary(results, arguments.markdown))
    if arguments.svg:
        Path(arguments.svg).write_text(svg(results))
    return 1 if any(each.failed for each in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
