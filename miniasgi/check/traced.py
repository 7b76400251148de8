"""Traced: places in the text of a traceback, where nobody has the frames any more.

Python's warnings have such a text, and the reason that Starlette gives for a startup that failed.
"""

import linecache
import re
from typing import NamedTuple

from ..frames import is_installed, short

PLACE = re.compile(r'^  File "(.+)", line (\d+), in (.+)', re.MULTILINE)
BEGIN = "Traceback (most recent call last):\n"


class Place(NamedTuple):
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        return f"{short(self.file)}, line {self.line}, in {self.function}" + (f": {source}" if source else "")


def traced(text: str) -> list[Place]:
    """The places that a traceback names, the innermost first."""
    return [Place(file, int(line), function) for file, line, function in PLACE.findall(text)][::-1]


def as_told(text: str) -> tuple[str, list[str]]:
    """(a line to tell, those below it); of a traceback the error, and the innermost place of one's own."""
    head, begin, trace = text.rpartition(BEGIN)
    if not begin:
        first, *others = text.splitlines()
        return first, others
    places = traced(trace)
    own = [each for each in places if not is_installed(each.file)]
    head = head.partition(BEGIN)[0]  # further ones are of the errors that came before
    return head + trace.strip().rpartition("\n")[2], [str(each) for each in (own or places)[:1]]
