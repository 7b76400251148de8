"""FilePart: a stretch of an open file, on its way to the client as it stands on the disk.

It owns how `file`, `offset` and `count` of a message are read (ASGI extensions, "Zero Copy Send"). It knows
neither framing nor sockets: h11 asks it for its length alone, and Connection sends it. Next in reading
order: `connection`.
"""

import os
import stat
from io import BufferedReader
from typing import Any

from ..messages import Unsendable


class FilePart:
    """Made by an Exchange for one message; the file is the application's, or the exchange's, to close."""

    __slots__ = (
        "count",  # how many bytes of it
        "descriptor",  # the system's number of the file
        "offset",  # where in the file it begins
    )

    def __init__(self, file: Any, offset: int | None, count: int | None) -> None:
        """Without an offset from the file's position on; without a count, or with one beyond it, to its end.

        Raises Unsendable for what is no regular file: it has no size, and the kernel cannot send it. Raises
        ValueError for a negative offset or count.
        """
        self.descriptor: int = file.fileno()
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unsendable(
                "the file is no regular one, such as a pipe or a folder; send what it holds as 'body'"
            )
        self.offset: int = file.tell() if offset is None else offset
        rest = max(status.st_size - self.offset, 0)
        if self.offset < 0 or (count is not None and count < 0):
            raise ValueError
        self.count = rest if count is None else min(count, rest)

    def __len__(self) -> int:
        return self.count

    def read(self, done: int, size: int) -> bytes:
        """At most `size` bytes from `done` on. The position of the file stays where it is."""
        return os.pread(self.descriptor, min(size, self.count - done), self.offset + done)


def open_file(path: object) -> BufferedReader:
    """The file of http.response.pathsend. Raises TypeError for what is no str, Unsendable where it fails."""
    if not isinstance(path, str):  # an int would be somebody's open file
        raise TypeError
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise Unsendable(f"the file of http.response.pathsend cannot be opened: {error}") from error
