"""Colours: whether a stream is to have them, and how it has them. A leaf."""

import os
from typing import TextIO


def is_coloured(stream: TextIO) -> bool:
    """On a terminal that can, and not where the user wants none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """The text in a colour, by its number at the terminal; nothing has none."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text else ""
