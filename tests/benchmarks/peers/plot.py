"""The ratios as an SVG: a panel for each workload, a bar for each server, to the right of 1 what is better.

The scale is logarithmic. The colours follow the reader's preference for light or dark; the ground is left to the
page.
"""

import math
from html import escape
from typing import NamedTuple

from .report import Results, cpu_ratio, of_workload, ratio
from .servers import BASELINE, LIMIT
from .workloads import WORKLOADS

COLUMNS = 2
PANEL = 470  # width of a panel, with the names
NAMES = 160  # for the names, left of the bars
BARS = 250  # for the bars
LINE = 17  # height of a bar with what is between two
TITLE = 26
GAP = 22
TITLE_OF_ALL = (
    f"times as good as {BASELINE}, on a logarithmic scale; the dot is the ratio of processor time; "
    "dashed: canned bytes, the limit"
)
MARKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)
LEAST, MOST = 0.25, 32.0

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.about, .mark { fill: #59636e; font-size: 11px; font-weight: 400; }
.grid { stroke: #d1d9e0; }
.one { stroke: #59636e; }
.peer { fill: #8c959f; }
.ours { fill: #0969da; }
.dot { fill: #1f2328; }
.limit { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .about, .mark { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .peer { fill: #6e7681; }
  .ours { fill: #4493f8; }
  .dot { fill: #f0f6fc; }
}
"""


def x_of(times: float) -> float:
    """Where a ratio lies, in the panel; what is off the scale lies at its end."""
    share = math.log(min(max(times, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return NAMES + share * BARS


def kind_of(server: str) -> str:
    if server == LIMIT:
        return "limit"
    return "ours" if server.startswith("miniasgi") else "peer"


class Bar(NamedTuple):
    server: str
    times: float
    cpu: float | None  # the ratio of processor time, if the workload has one


def drawn_bar(bar: Bar, top: float) -> list[str]:
    one, end = x_of(1), x_of(bar.times)
    left, width = min(one, end), max(abs(end - one), 1)
    label = max(one, end, x_of(bar.cpu or LEAST)) + 8
    lines = [
        f'<text x="{NAMES - 8}" y="{top + 12:g}" text-anchor="end">{escape(bar.server)}</text>',
        f'<rect class="{kind_of(bar.server)}" x="{left:.1f}" y="{top + 2:g}" width="{width:.1f}" '
        f'height="{LINE - 5}"/>',
        f'<text x="{label:.1f}" y="{top + 12:g}">{bar.times:.2f}</text>',
    ]
    if bar.cpu is not None:
        lines.append(f'<circle class="dot" cx="{x_of(bar.cpu):.1f}" cy="{top + 8:g}" r="2.5"/>')
    return lines


def bars_of(results: Results, name: str) -> list[Bar]:
    found = [(each, ratio(results, each)) for each in of_workload(results, name)]
    return [Bar(each.server, times, cpu_ratio(results, each)) for each, times in found if times is not None]


def panel(name: str, bars: list[Bar]) -> list[str]:
    """A title, the marks of the scale, the bars."""
    height = TITLE + LINE * len(bars)
    lines = [
        f'<text class="title" x="0" y="12">{escape(name)} '
        f'<tspan class="about">{escape(WORKLOADS[name].about)}</tspan></text>'
    ]
    for mark in MARKS:
        x, kind = x_of(mark), "one" if mark == 1 else "grid"
        lines.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TITLE - 4}" y2="{height}"/>')
        lines.append(f'<text class="mark" x="{x:.1f}" y="{height + 12}" text-anchor="middle">{mark:g}</text>')
    for number, bar in enumerate(bars):
        lines += drawn_bar(bar, TITLE + LINE * number)
    return lines


def svg(results: Results) -> str:
    """The whole picture. A server without a ratio has no bar, a workload without any no panel."""
    panels = []
    for name in dict.fromkeys(workload for workload, _ in results):
        bars = bars_of(results, name)
        if bars:
            panels.append((panel(name, bars), TITLE + LINE * len(bars) + GAP))
    top, lines = 30, [f'<text x="0" y="14">{TITLE_OF_ALL}</text>']
    for first in range(0, len(panels), COLUMNS):
        row = panels[first : first + COLUMNS]
        for column, (drawn, _) in enumerate(row):
            lines += [f'<g transform="translate({column * PANEL} {top})">', *drawn, "</g>"]
        top += max(height for _, height in row) + GAP / 2
    size = f'width="{PANEL * COLUMNS}" height="{top:g}" viewBox="-10 0 {PANEL * COLUMNS} {top:g}"'
    body = "\n".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n<title>{TITLE_OF_ALL}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n'
