"""What was found, as tables for a terminal or for Markdown, and as a file of JSON that can be read again."""

import datetime
import json
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from miniasgi.version import __version__

from ..served import table
from .servers import BASELINE, versions
from .workloads import WORKLOADS, Sample, Workload

NOTHING = "-"
HEAD = (
    "server",
    "{unit}",
    "x {baseline}",
    "CPU µs/{each}",
    "x CPU",
    "from … to",
    "server %",
    "load %",
    "errors",
)


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is there, if anything is."""
    there = [each for each in values if each is not None]
    return median(there) if there else None


class Result(NamedTuple):
    """Of one workload and one server: its turns, or why there are none."""

    workload: str
    server: str
    samples: list[Sample]
    absent: str = ""  # why it cannot be measured, which is no fault
    failed: str = ""  # what was wrong

    @property
    def value(self) -> float | None:
        return middle(each.value for each in self.samples)

    @property
    def cpu(self) -> float | None:
        return middle(each.cpu for each in self.samples)


Results = dict[tuple[str, str], Result]  # by workload and server


def conditions(python: str) -> dict[str, str]:
    """When, where and with what versions."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": model[1] if model else platform.machine(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "miniasgi": __version__,
        **versions(python),
    }


def divided(value: float | None, other: float | None) -> float | None:
    return value / other if value and other and value > 0 and other > 0 else None


def ratio(results: Results, result: Result) -> float | None:
    """How many times as good as the baseline; None if one of them was not measured."""
    baseline = results.get((result.workload, BASELINE))
    if baseline is None:
        return None
    if WORKLOADS[result.workload].less_is_better:
        return divided(baseline.value, result.value)
    return divided(result.value, baseline.value)


def cpu_ratio(results: Results, result: Result) -> float | None:
    """How many times as much of the processor's time the baseline takes for a unit."""
    baseline = results.get((result.workload, BASELINE))
    return divided(baseline.cpu, result.cpu) if baseline else None


def number(value: float | None, factor: float = 1.0) -> str:
    """Three digits or all before the point; nothing for None."""
    if value is None:
        return NOTHING
    value *= factor
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def head_of(workload: Workload, found: list[Result]) -> list[str]:
    words = {"unit": workload.unit, "baseline": BASELINE, "each": workload.each}
    return [each.format(**words) for each in HEAD] + more_of(found)


def more_of(found: list[Result]) -> list[str]:
    """The further columns."""
    return list(dict.fromkeys(name for result in found for each in result.samples for name in each.more))


def row_of(results: Results, result: Result, more: list[str]) -> list[str]:
    samples = result.samples
    least, most = min(each.value for each in samples), max(each.value for each in samples)
    return [
        result.server,
        number(result.value),
        times(ratio(results, result)),
        number(result.cpu),
        times(cpu_ratio(results, result)),
        f"{number(least)} … {number(most)}",
        number(middle(each.server for each in samples), 100),
        number(middle(each.load for each in samples), 100),
        str(sum(each.errors for each in samples)),
        *(number(middle(each.more.get(name) for each in samples)) for name in more),
    ]


def of_workload(results: Results, name: str) -> list[Result]:
    return [result for (workload, _), result in results.items() if workload == name]


def section(results: Results, name: str, markdown: bool) -> str:
    """A workload's title, its table, and who is not in it."""
    workload, found = WORKLOADS[name], of_workload(results, name)
    measured = [each for each in found if each.samples]
    more = more_of(measured)
    rows = [row_of(results, each, more) for each in measured]
    lines = [f"### {name}: {workload.about}\n" if markdown else f"{name}: {workload.about}"]
    if rows:
        head, rows = without_empty(head_of(workload, measured), rows)
        lines.append((markdown_table if markdown else table)(head, rows))
    absent = "; ".join(f"{each.server}: {each.absent or each.failed}" for each in found if not each.samples)
    if absent:
        lines.append(f"\nNot measured: {absent}." if markdown else f"not measured: {absent}")
    return "\n".join(lines) + "\n"


def without_empty(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The columns in which there is anything."""
    kept = [at for at in range(len(head)) if any(row[at] != NOTHING for row in rows)]
    return [head[at] for at in kept], [[row[at] for at in kept] for row in rows]


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(results: Results, markdown: bool) -> str:
    """The ratios of all workloads: a line for each, a column for each server; and those of processor time."""
    tables = (
        grid(results, f"x {BASELINE}", ratio, markdown),
        grid(results, "x CPU", cpu_ratio, markdown),
    )
    return "\n\n".join(each for each in tables if each)


def grid(results: Results, title: str, figure: Callable[..., float | None], markdown: bool) -> str:
    servers = list(dict.fromkeys(server for _, server in results))
    rows = []
    for name in dict.fromkeys(workload for workload, _ in results):
        found = [results.get((name, server)) for server in servers]
        rows.append([name, *(times(figure(results, each) if each else None) for each in found)])
    rows = [row for row in rows if set(row[1:]) != {NOTHING}]
    return (markdown_table if markdown else table)([title, *servers], rows) if rows else ""


def write(path: str, told: dict[str, str], results: Results) -> None:
    found = [
        {**each._asdict(), "samples": [sample._asdict() for sample in each.samples]}
        for each in results.values()
    ]
    Path(path).write_text(json.dumps({"conditions": told, "results": found}, indent=1) + "\n")


def read(paths: list[str]) -> tuple[dict[str, str], Results]:
    """The conditions and the results of such files, in the order of WORKLOADS; a later file is preferred."""
    told: dict[str, str] = {}
    results: Results = {}
    for path in paths:
        stored = json.loads(Path(path).read_text())
        told |= stored["conditions"]
        for each in stored["results"]:
            samples = [Sample(**sample) for sample in each.pop("samples")]
            results[each["workload"], each["server"]] = Result(samples=samples, **each)
    order = list(WORKLOADS)
    return told, dict(sorted(results.items(), key=lambda item: order.index(item[0][0])))
