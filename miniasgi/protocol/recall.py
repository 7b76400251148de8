"""Recall: what h11 has said of the same lines before. The road is complete without it, and slower.

h11 takes 60 µs to read a small head and 45 to write one, and comes to the same with the same lines each time.
Here is kept what that was: of a block of headers, of a line, of the lines of an answer. A request is *plain*
when none of its lines is unusual, or steers the connection: then it is served without h11, which is told of
it as soon as anything else than a plain answer comes of it (`Http1Connection.settle`).

A line that is new is looked at here, by rules that take less than h11 and `strict` do. For anything else the
answer is None, and h11 is asked for all of it. `tests/protocol/test_recall.py` sends the same bytes with and
without it, and compares all that comes of them.

It owns the memories and their bounds. What all connections share says nothing of a person, nor may it be a
secret: who measures how long a request takes could find out whether somebody else has sent the same.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import h11

from ..config import Config
from ..explain.messages import TOKEN
from .reasons import REASONS
from .scope import Place, place_of
from .strict import FIELD_VALUE, HOST

Header = tuple[bytes, bytes]

# How many lines of each kind are kept. Then all are forgotten at once: those that come often are soon back.
MOST_LINES = 1024
# The longest line that is kept.
LONGEST_LINE = 256
# How many blocks of headers a connection keeps, and up to which length: a client sends the same one with
# nearly every request, a proxy those of many clients.
MOST_BLOCKS = 2
LONGEST_BLOCK = 2048
MOST_HEADERS = 32
# Whose lines all connections share: what programs and frameworks say of themselves, and not of a person.
SHARED = frozenset(
    (
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"accept-ranges"),
        *(b"access-control-allow-headers", b"access-control-allow-methods", b"allow", b"cache-control"),
        *(b"connection", b"content-encoding", b"content-language", b"content-length", b"content-type"),
        *(b"cross-origin-opener-policy", b"dnt", b"expires", b"host", b"permissions-policy", b"pragma"),
        *(b"priority", b"referrer-policy", b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform"),
        *(b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user", b"sec-gpc"),
        *(b"strict-transport-security", b"upgrade-insecure-requests", b"user-agent", b"vary"),
        *(b"x-content-type-options", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"),
        *(b"x-frame-options", b"x-powered-by", b"x-requested-with"),
    )
)
# What changes more than the scope.
REQUEST_STEERS = (b"expect", b"te", b"transfer-encoding", b"upgrade")
# What a request has once, or h11 has to say which one counts.
REQUEST_ONCE = (b"connection", b"content-length", b"host")
# A connection that is kept alive is one that nothing was said of.
KEPT_OR_NOT = (b"keep-alive", b"close")
# What is said once, or not by the application, or changes more than the head.
ANSWER_STEERS = (
    b"connection",
    b"content-length",
    b"date",
    b"host",  # which h11 puts first
    b"server",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
)
# Less than h11 takes (a test asks it about every byte), and than `strict` and `scope` do.
PLAIN_LINE = re.compile(rb"([A-Z]+) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
NOT_PLAIN = (b"HEAD", b"CONNECT")
LONGEST_LENGTH = 15  # digits of a content-length, which makes it a number of which h11 takes more


class Block(NamedTuple):
    """The headers of a request, as bytes and as read."""

    written: bytes
    headers: tuple[Header, ...]
    length: int  # of the body that they promise
    closes: bool  # the connection is closed behind the answer


# One of each is made for a request. A class with slots takes 140 ns, a NamedTuple 220.


class PlainRequest:
    """A request as h11 would have it, by the names of h11.Request."""

    __slots__ = ("closes", "head", "headers", "length", "method", "place", "target")
    http_version = b"1.1"

    def __init__(self, head: bytes, method: bytes, target: bytes, block: Block, place: Place) -> None:
        self.head = head
        self.method = method
        self.target = target
        self.headers = block.headers
        self.length = block.length
        self.closes = block.closes
        self.place = place

    def rest(self, left: int) -> bytes:
        """The head, as if so much were all of the body."""
        length = b"%d" % left
        lines = [(name, length if name == b"content-length" else value) for name, value in self.headers]
        return b"\r\n".join(
            (b"%b %b HTTP/1.1" % (self.method, self.target), *map(b"%b: %b".__mod__, lines), b"", b"")
        )


class PlainAnswer:
    """The head of a response, in the parts that h11 would write."""

    __slots__ = (
        "date",  # when it was made
        "headers",  # what it was made of
        "length",  # of the body; None where it is not known, and sent in chunks
        "parts",  # the status line and headers; those that every answer has are to follow
        "status_code",
    )

    def __init__(
        self, status: int, parts: list[bytes], length: int | None, headers: list[Header], date: bytes
    ) -> None:
        self.status_code = status
        self.parts = parts
        self.length = length
        self.headers = headers
        self.date = date

    def rest(self, sent: int) -> h11.Response:
        """What h11 need know of it when so many bytes of its body were sent: how the others are framed."""
        headers = [] if self.length is None else [(b"content-length", b"%d" % (self.length - sent))]
        return h11.Response(status_code=self.status_code, headers=headers)


class Known:
    """What one connection remembers, to be compared: to hash a head of 1 KB would take 20 times as long."""

    __slots__ = (
        "blocks",  # the last blocks of headers
        "request",  # the last plain request
    )

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.request: PlainRequest | None = None


class Recall:
    """What is remembered for all connections of one server. Made by Runtime."""

    __slots__ = (
        "answer_lines",  # (name, value) → as h11 writes it
        "config",  # the limits, and root_path
        "header_lines",  # line → (name, value)
        "status_lines",  # status → as h11 writes it
    )

    def __init__(self, config: Config) -> None:
        self.config = config
        self.answer_lines: dict[Header, bytes] = {}
        self.header_lines: dict[bytes, Header] = {}
        self.status_lines: dict[int, bytes] = {}

    # ---- requests ----

    def request(self, head: bytes, known: Known) -> PlainRequest | None:
        """The request with this head, from its first line to its empty one; None unless it is plain."""
        if known.request is not None and known.request.head == head:
            return known.request
        end = head.find(b"\r\n")
        line, rest = head[:end], head[end + 2 :]
        for block in known.blocks:
            if block.written == rest:
                break
        else:
            read = self.read_block(rest, known.blocks)
            if read is None:
                return None
            block = read
        found = PLAIN_LINE.fullmatch(line)
        if found is None:
            return None
        method, target = found.groups()
        if method in NOT_PLAIN or len(target) > self.config.limit_target:
            return None
        place = place_of(target, self.config.root_path)
        request = PlainRequest(head, method, target, block, place)
        known.request = request if len(head) <= LONGEST_BLOCK else None
        return request

    def read_block(self, block: bytes, known: list[Block]) -> Block | None:
        lines = block[:-4].split(b"\r\n")
        if len(lines) > self.config.limit_headers:
            return None
        headers: list[Header] = []
        for line in lines:
            header = self.header_lines.get(line) or self.read_header(line)
            if header is None:
                return None
            headers.append(header)
        fields = dict(headers)
        if b"host" not in fields:
            return None
        if len(fields) < len(headers):
            names = [name for name, _ in headers]
            if any(names.count(name) > 1 for name in REQUEST_ONCE):
                return None
        length = int(fields.get(b"content-length", 0))
        if 0 < self.config.limit_body < length:
            return None
        closes = fields.get(b"connection", b"").lower() == b"close"
        found = Block(block, tuple(headers), length, closes)
        if len(block) <= LONGEST_BLOCK and len(lines) <= MOST_HEADERS:
            if len(known) >= MOST_BLOCKS:
                del known[0]
            known.append(found)
        return found

    def read_header(self, line: bytes) -> Header | None:
        header = split_header(line)
        if header is not None and header[0] in SHARED:
            remember(self.header_lines, line, header, len(line))
        return header

    # ---- answers ----

    def answer(self, status: object, headers: list[Any], date: bytes) -> PlainAnswer | None:
        """The head of an answer with these headers, to a plain request; None unless it is plain."""
        if not isinstance(status, int):
            return None
        status = int(status)
        first = self.status_lines.get(status) or self.read_status(status)
        if first is None:
            return None
        parts = [first]
        length: int | None = None
        for pair in headers:
            # Other types may be equal to bytes, or be something else at the second look.
            if type(pair) is not tuple or len(pair) != 2:
                return None
            name, value = pair
            if type(name) is not bytes or type(value) is not bytes:
                return None
            line = self.answer_lines.get(pair)
            if line is None:
                if length is None and name.lower() == b"content-length" and is_length(value):
                    length = int(value)
                    line = b"%b: %b\r\n" % pair
                elif (line := self.read_answer_line(name, value)) is None:
                    return None
            parts.append(line)
        return PlainAnswer(status, parts, length, headers, date)

    def read_status(self, status: int) -> bytes | None:
        if status in (204, 304):  # they have no body
            return None
        try:
            head = h11.Response(status_code=status, headers=[], reason=REASONS.get(status, b""))
        except h11.LocalProtocolError:
            return None
        written = h11.Connection(h11.SERVER).send(head)
        assert written is not None
        line = self.status_lines[status] = written[: written.index(b"\r\n") + 2]
        return line

    def read_answer_line(self, name: bytes, value: bytes) -> bytes | None:
        lower = name.lower()
        if lower in ANSWER_STEERS or not is_plain(name, value):
            return None
        line = b"%b: %b\r\n" % (name, value)
        if lower in SHARED:
            remember(self.answer_lines, (name, value), line, len(line))
        return line


def split_header(line: bytes) -> Header | None:
    """(name, value) of a header; None where it steers the connection, or is h11's to judge."""
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not is_plain(name, value):
        return None
    name = name.lower()
    if name in REQUEST_STEERS or (name in PLAIN_VALUES and not PLAIN_VALUES[name](value)):
        return None
    return name, value


def is_plain(name: bytes, value: bytes) -> bool:
    """Whether h11 takes this header and writes it as it is; it takes more (a test asks about each byte)."""
    if not name or name.translate(None, TOKEN) or value.translate(None, FIELD_VALUE):
        return False
    return value.strip(b" \t") == value


def is_length(value: bytes) -> bool:
    """Whether this is a content-length that needs no judge."""
    return value.isdigit() and len(value) <= LONGEST_LENGTH


PLAIN_VALUES: dict[bytes, Callable[[bytes], object]] = {
    b"connection": lambda value: value.lower() in KEPT_OR_NOT,
    b"content-length": is_length,
    b"host": HOST.fullmatch,
}


def remember(memory: dict[Any, Any], key: object, value: object, size: int) -> None:
    if size > LONGEST_LINE:
        return
    if len(memory) >= MOST_LINES:
        memory.clear()
    memory[key] = value
