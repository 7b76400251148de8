"""FilePart: a stretch of a file, on its way to the client as it stands on the disk.

It owns how `path`, and `file`, `offset` and `count` of a message are read (ASGI extensions, "Path Send" and
"Zero Copy Send"), and a descriptor for as long as that takes. It knows neither framing nor sockets: h11 asks
it for its length alone, and Connection sends it. Next in reading order: `connection`.
"""

import os
import stat
from types import TracebackType
from typing import Any, Self

from ..explain.messages import Unsendable, is_size


class FilePart:
    """Made by an Exchange for one message, which uses it as a block: its end closes the descriptor.

    The descriptor is its own. The application may close its file while this is sent, and the system gives
    the number of a closed file to the next that is opened: somebody else's.
    """

    __slots__ = (
        "count",  # how many bytes of it
        "descriptor",  # the system's number of the file
        "done",  # how many of them were sent
        "offset",  # where in the file it begins
        "whole",  # it goes to the end of the file, wherever that is
    )

    def __init__(self, descriptor: int, offset: int, count: int | None) -> None:
        """Take over the descriptor. Without a count, or with one beyond it, to the end of the file.

        Raises Unsendable for what is no regular file, since it has no size and the kernel cannot send it, and
        for one that was not opened for reading.
        """
        self.descriptor = descriptor
        self.offset = offset
        self.done = 0
        self.whole = count is None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unsendable(
                    "the file is no regular one, such as a pipe or a folder; send what it holds as 'body'"
                )
            os.pread(descriptor, 0, 0)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise Unsendable(f"the file cannot be read: {error.strerror}") from error
            raise
        rest = max(status.st_size - offset, 0)
        self.count = rest if count is None else min(count, rest)

    @classmethod
    def at(cls, path: object) -> Self:
        """A whole file by its path. Raises TypeError for what is no str, Unsendable for what is no file."""
        if not isinstance(path, str):  # an int would be somebody's open file
            raise TypeError
        try:
            # Without O_NONBLOCK, a named pipe would keep the loop until someone writes to it.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise Unsendable(f"the file of http.response.pathsend cannot be opened: {error}") from error
        return cls(descriptor, 0, None)

    @classmethod
    def of(cls, file: Any, offset: int | None, count: int | None) -> Self:
        """A part of an open file; without an offset from its position on, which then moves as if by reading.

        Raises Unsendable. Raises TypeError and ValueError for what is no offset or count.
        """
        for number in (offset, count):
            if number is not None and is_size(number):  # it says what is wrong
                raise ValueError
        position = offset if offset is not None else file.tell() if file.seekable() else 0
        part = cls(os.dup(file.fileno()), position, count)
        try:
            if offset is None:
                file.seek(part.offset + part.count)
        except BaseException:
            part.close()
            raise
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def __len__(self) -> int:
        return self.count

    def read(self, size: int) -> bytes:
        """At most `size` bytes of what was not sent yet."""
        return os.pread(self.descriptor, min(size, self.count - self.done), self.offset + self.done)
