"""Intake: what came on an HTTP/1.1 connection, cut into the pieces that h11 is given.

It owns the bytes that h11 has not got, and the limits of what may come. A cut lies wherever something has to
be looked at that h11 does not tell: behind a head, before a chunk, behind the trailers. So h11 never holds
anything of the next request. The framing is by what h11 said of the head; where the cuts were wrong, h11
would find so. What h11 is not given is cut here as well: plain requests, and the chunks of a body whose lines
have nothing but a size. Next in reading order: `scope`.
"""

import re
from collections.abc import Callable
from enum import Enum

from ..config import Config
from .strict import (
    CHUNK_FOOTER,
    HEAD_TOO_LONG,
    MAX_CHUNK_LINE,
    TARGET_TOO_LONG,
    BadRequest,
    Fields,
    check_fields,
    check_head,
    check_lines,
    size_of_chunk,
)

# What the extensions of a request's chunks may have together: "a server ought to limit the total length" (RFC
# 9112 section 7.1.1). Node and hyper take as much.
MAX_EXTENSIONS = 16 * 1024

# How many bytes of chunks are taken as one.
LARGEST_RUN = 256 * 1024
# The line of a chunk, with its size and nothing else.
PLAIN_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Stage(Enum):
    """What the next byte belongs to."""

    HEAD = "a request line and headers"
    BODY = "a body of known length"
    CHUNK = "the line before the data of a chunk"
    CHUNK_DATA = "the data of a chunk, and the end of its line"
    PLAIN_CHUNK = "the same, of a chunk that h11 is not given"
    TRAILERS = "the last chunk, and what stands behind it"


class Intake:
    """What came and waits. Made and asked by an Http1Connection."""

    __slots__ = (
        "at",  # up to where h11 has `data`
        "checked",  # up to where the lines of a head or of trailers were looked at
        "config",  # the limits
        "data",  # what came last, and what was left before it
        "ended",  # the client has ended its side
        "extensions",  # bytes in the lines before chunks, beyond their sizes
        "left",  # bytes of the body, or of a chunk and its line, that are still to come
        "run",  # how many chunks were taken as one last
        "size",  # of a chunked body, so far
        "stage",  # what the next byte belongs to
    )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data = b""
        self.at = 0
        self.checked = 0
        self.ended = False
        self.stage = Stage.HEAD
        self.left = 0
        self.size = 0
        self.extensions = 0
        self.run = 1

    def __len__(self) -> int:
        """How many bytes wait."""
        return len(self.data) - self.at

    @property
    def begun(self) -> bool:
        """Whether something of a request waits; an empty line before one is none of it."""
        if not self.data:
            return False
        return len(self.data) - self.at > 2 or self.data[self.at :] not in (b"", b"\r", b"\r\n")

    def receive(self, data: bytes) -> None:
        if self.data:
            self.data = self.data[self.at :] + data
            self.checked = max(self.checked - self.at, 0)
        else:
            self.data, self.checked = data, 0
        self.at = 0

    def whole_head(self) -> bytes:
        """The next head, if all of it is there; it is not taken, nor looked at."""
        end = self.data.find(b"\r\n\r\n", self.at) + 4
        return self.data[self.at : end] if 4 <= end <= self.at + self.config.limit_head else b""

    def take_plain(self, head: int, body: int) -> bytes:
        """What has come of the body of a request of these sizes, which h11 is not given from here."""
        start, end = self.at + head, self.at + head + body
        taken = self.data[start:end]
        self.at = start + len(taken)
        if self.at < end:
            self.left = end - self.at
            self.stage = Stage.BODY
        self.forget_taken()
        return taken

    def forget_taken(self) -> None:
        """An idle connection does not keep what was taken."""
        if self.at == len(self.data):
            self.data, self.at, self.checked = b"", 0, 0

    def rest(self) -> bytes:
        """What came behind a request that ends HTTP here."""
        return self.data[self.at :]

    def expect_body(self, fields: Fields) -> None:
        """The body of a request with these headers comes next. Raises BadRequest for its size."""
        self.size = self.extensions = self.left = 0
        if b"transfer-encoding" in fields:
            self.stage = Stage.CHUNK
        elif length := int(fields.get(b"content-length", 0)):
            self.check_size(length)
            self.left = length
            self.stage = Stage.BODY

    def check_size(self, size: int) -> None:
        limit = self.config.limit_body
        if limit and size > limit:
            raise BadRequest(f"a body has at most {limit} bytes here (RFC 9110 section 15.5.14)", 413)

    # ---- the cuts ----

    def piece(self) -> bytes:
        """The next bytes for h11; empty until there are enough. Raises BadRequest."""
        piece = CUT[self.stage](self) if len(self) else b""
        if piece:
            self.run = 1
            self.forget_taken()
        return piece

    def cut_head(self) -> bytes:
        # "SHOULD ignore at least one empty line (CRLF) received prior to the request-line" (RFC 9112, 2.2)
        start = self.at + 2 if self.data.startswith(b"\r\n", self.at) else self.at
        if not self.begun:
            return b""
        if self.data[start] <= 0x20:
            raise BadRequest(
                "a request begins with its method (RFC 9112 section 3); if this is TLS: the port serves http"
            )
        head = self.cut_lines(start)
        if head:
            check_head(head, self.config)
        return head

    def cut_lines(self, start: int) -> bytes:
        """The lines from `start` to the first empty one, which belongs to them; empty until that is there.

        Each line is looked at as it comes, up to the limit: so the answer does not depend on the network's
        cuts, and a client that ends its lines in a wrong way is not left waiting for one.
        """
        data, limit = self.data, start + self.config.limit_head
        first = max(start, self.checked)
        blank = data.find(b"\r\n\r\n", max(start, first - 2))  # the first of these may be looked at already
        until = blank + 4 if blank >= 0 else data.rfind(b"\n", first) + 1
        too_long = (until if blank >= 0 else len(data)) > limit
        if (new := limit if too_long else until) > first:
            check_lines(data[first:new].removesuffix(b"\r"))
            self.checked = new
        if too_long:
            in_first_line = data.find(b"\r\n", start, limit) < 0
            raise BadRequest(TARGET_TOO_LONG, 414) if in_first_line else BadRequest(HEAD_TOO_LONG, 431)
        if blank < 0:
            return b""
        self.at = until
        return data[start:until]

    def cut_body(self) -> bytes:
        piece = self.data[self.at : self.at + self.left]
        self.at += len(piece)
        self.left -= len(piece)
        if not self.left:
            self.stage = Stage.HEAD if self.stage is Stage.BODY else Stage.CHUNK
        return piece

    def cut_chunk(self) -> bytes:
        """The line before a chunk's data, and as much of that as there is."""
        end = self.data.find(b"\r\n", self.at)
        line = self.rest() if end < 0 else self.data[self.at : end + 2]
        if end < 0 and len(line) <= MAX_CHUNK_LINE and b"\n" not in line:
            return b""
        size = size_of_chunk(line)
        self.extensions += max(len(line) - len(b"0123456789abcdef\r\n"), 0)
        if self.extensions > MAX_EXTENSIONS:
            raise BadRequest("the extensions of the chunks are too long (RFC 9112 section 7.1.1)", 413)
        if not size:
            self.stage = Stage.TRAILERS
            return self.cut_trailers()
        self.size += size
        self.check_size(self.size)
        self.left = len(line) + size + len(b"\r\n")
        self.stage = Stage.CHUNK_DATA
        return self.cut_body()

    def plain_chunks(self, most: int) -> bytes:
        """Data of at most so many chunks, which h11 is not given from here. Raises BadRequest.

        Empty where h11 is to be given the next chunk, since its line is not there or has more than the size,
        and where nothing of the data is there.
        """
        parts: list[memoryview] = []
        size = 0
        try:
            while size < LARGEST_RUN and len(parts) < most and self.in_plain_chunk():
                part = memoryview(self.data)[self.at : self.at + self.left]
                self.at += len(part)
                self.left -= len(part)
                size += len(part)
                parts.append(part)
        except BadRequest:
            if not parts:  # else it is raised when this is asked again
                raise
        self.forget_taken()
        self.run = len(parts) or 1
        return b"".join(parts)

    def in_plain_chunk(self) -> bool:
        """Whether the next byte is there, and one of the data of a chunk that h11 is not given."""
        if self.stage is Stage.PLAIN_CHUNK and not self.left:
            end = self.data[self.at : self.at + 2]
            if not b"\r\n".startswith(end):
                raise BadRequest(CHUNK_FOOTER)
            if len(end) < 2:
                return False
            self.at += 2
            self.stage = Stage.CHUNK
        if self.stage is Stage.CHUNK:
            found = PLAIN_CHUNK_LINE.match(self.data, self.at)
            size = 0 if found is None else int(found[1], 16)
            if found is None or not size:
                return False
            self.check_size(self.size + size)
            self.size += size
            self.at = found.end()
            self.left = size
            self.stage = Stage.PLAIN_CHUNK
        return self.stage is Stage.PLAIN_CHUNK and self.at < len(self.data)

    def cut_trailers(self) -> bytes:
        lines = self.cut_lines(self.at)
        if lines:
            check_fields(lines, self.config)
            self.stage = Stage.HEAD
        return lines


CUT: dict[Stage, Callable[[Intake], bytes]] = {
    Stage.HEAD: Intake.cut_head,
    Stage.BODY: Intake.cut_body,
    Stage.CHUNK: Intake.cut_chunk,
    Stage.CHUNK_DATA: Intake.cut_body,
    Stage.PLAIN_CHUNK: lambda _: b"",
    Stage.TRAILERS: Intake.cut_trailers,
}
