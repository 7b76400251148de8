"""Shown: any value as one line of text, for an error, a log or a page.

It is shortened, whatever it is; what may be a secret is masked, since logs and pages are sent around; and it
never raises, since who shows a value has something to tell. A leaf.
"""

import re
import reprlib
from collections.abc import Callable, ItemsView, Mapping, Sequence
from itertools import islice
from typing import Any

MASKED = "(masked)"
SECRET = re.compile("authorization|cookie|token|secret|password|passwd|api-?key|session|credential", re.I)


def is_secret(name: object) -> bool:
    """Whether what has this name, a header for one, may be what lets somebody in."""
    if isinstance(name, bytes | bytearray):
        name = name.decode("latin-1")
    return isinstance(name, str) and SECRET.search(name) is not None


def shown(value: object) -> str:
    try:
        return SHOWN.repr(value).translate(CONTROLS)
    except Exception:  # an object that cannot be shown, or a number too long for it
        return f"<{type(value).__name__}>"


# What would break a line.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, 0x85, 0x2028, 0x2029)}


class Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = self.maxlist = self.maxtuple = 8
        self.maxstring = self.maxother = 80

    def repr1(self, value: Any, level: int) -> str:
        """By what the value is; reprlib goes by its type's name, and makes the whole text of all others."""
        match value:
            case bytes() | bytearray():
                return repr(value) if len(value) <= 60 else f"{value[:40]!r}... ({len(value)} bytes)"
            case str():
                return self.repr_str(value, level)
            case Mapping():
                return "{" + self.parts(value.items(), self.entry, level) + "}"
            case ItemsView():
                return "([" + self.parts(value, self.repr1, level) + "])"
            # Not [name, *rest], which would copy a whole memoryview.
            case [name, _] | [name, _, _] if is_secret(name):
                return f"({self.repr1(name, level)}, {MASKED})"
            case tuple():
                return self.repr_tuple(value, level)
            case Sequence() if not isinstance(value, memoryview):
                return self.repr_list(list(islice(value, self.maxlist + 1)), level)
        return super().repr1(value, level)

    def entry(self, pair: tuple[Any, Any], level: int) -> str:
        key, value = pair
        return f"{self.repr1(key, level)}: {MASKED if is_secret(key) else self.repr1(value, level)}"

    def parts(self, items: ItemsView[Any, Any], text: Callable[[Any, int], str], level: int) -> str:
        """Each by its text, in the order in which they were written; reprlib would sort them."""
        if level <= 0:
            return "..."
        first = [text(each, level - 1) for each in islice(items, self.maxdict)]
        return ", ".join([*first, *["..."] * (len(items) > self.maxdict)])


SHOWN = Shown()
