"""What HTTP/1.1 forbids and h11 lets through, as tables; and which rule stands behind a refusal of h11's.

Request smuggling lives on two readers who do not agree where a message ends: a proxy, and the server behind
it. So whatever can be read in two ways is not read at all. h11 is the authority on the grammar; where it is
generous, a row here is not, and says why. It must not know connections or states; every function looks at
bytes, or at a request of h11's, and raises BadRequest. Next in reading order: `intake`.
"""

import re
from collections.abc import Callable, Iterable

import h11

from ..config import Config

Headers = Iterable[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]  # headers, the last one of each name


class BadRequest(ValueError):
    """A request that is not served; `status` and `headers` are the answer's, the text names the rule."""

    def __init__(self, text: str, status: int = 400, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


# ---- bytes, before h11 has them ---------------------------------------------------------------------------

# What may be in a header's value. Bytes above 127 mean nothing there ("obs-text", RFC 9110 section 5.5).
FIELD_VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
# And in the lines of a head.
ALLOWED = b"\r\n" + FIELD_VALUE


def check_lines(lines: bytes) -> None:
    """Lines of a head or of trailers. Every request passes here, hence the methods that run in C."""
    if lines.translate(None, ALLOWED) or not lines.count(b"\r\n") == lines.count(b"\n") == lines.count(b"\r"):
        raise BadRequest(
            "a line ends with CR LF, neither of which may stand alone, and has no other control characters "
            "(RFC 9112 section 2.2, RFC 9110 section 5.5)"
        )


# Most heads hold nothing that the table below is about: one search instead of six (2 µs of a GET).
PECULIAR = re.compile(rb"\r\n(?:[ \t]|content-length:|transfer-encoding:)")
# Of a head in lower case, and of trailers: (what is not taken, status, the rule).
NOT_TAKEN: tuple[tuple[re.Pattern[bytes], int, str], ...] = (
    (
        # "A server that receives an obs-fold … MUST either reject the message … or replace"
        re.compile(rb"\r\n[ \t]"),
        400,
        "a header is one line; a line that begins with a space is obsolete (RFC 9112 section 5.2)",
    ),
    (
        # h11 takes equal values for one, as a recipient may. Who is in front of us may do otherwise.
        re.compile(rb"\r\ncontent-length:[^\r]*,"),
        400,
        "Content-Length is one number, not a list (RFC 9110 section 8.6)",
    ),
    (
        re.compile(rb"(?s)\r\ncontent-length:.*\r\ncontent-length:"),
        400,
        "a request has only one Content-Length (RFC 9110 section 8.6)",
    ),
    (
        re.compile(rb"(?s)\r\ntransfer-encoding:.*\r\ntransfer-encoding:"),
        400,
        "a request has only one Transfer-Encoding (RFC 9112 section 6.1)",
    ),
    (
        # "If … the chunked transfer coding is not the final encoding, … the server MUST respond with the 400"
        re.compile(rb"\r\ntransfer-encoding:(?!(?:[^\r]*,)?[ \t]*chunked[ \t]*\r\n)"),
        400,
        "the last transfer coding is chunked, or nobody knows where the body ends (RFC 9112 section 6.3)",
    ),
    (
        re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*,"),
        400,
        "chunked is named only once (RFC 9112 section 6.1)",
    ),
)


def check_head(head: bytes, config: Config) -> None:
    """A whole head, from its request line to its empty line."""
    line = head[: head.index(b"\r\n")]
    if line.rfind(b" ") - line.find(b" ") - 1 > config.limit_target:
        raise BadRequest(TARGET_TOO_LONG, 414)
    check_fields(head, config)


def check_fields(lines: bytes, config: Config) -> None:
    """The headers of a head, or trailers; what stands in the first line and the last does not matter."""
    if lines.count(b"\r\n") - 2 > config.limit_headers:
        raise BadRequest(f"at most {config.limit_headers} headers are taken (RFC 6585 section 5)", 431)
    lower = lines.lower()
    if PECULIAR.search(lower):
        for pattern, status, text in NOT_TAKEN:
            if pattern.search(lower):
                raise BadRequest(text, status)


TARGET_TOO_LONG = "the request target is too long (RFC 9110 section 15.5.15)"
HEAD_TOO_LONG = "the head of the request is too long (RFC 6585 section 5)"

# The line before the data of a chunk. h11 takes spaces behind the size; 20 digits, of which others would drop
# some; and any characters in an extension, of any length, which nobody uses.
MAX_CHUNK_LINE = 4 * 1024
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")


def size_of_chunk(line: bytes) -> int:
    """How long the data of a chunk is, by the line before it."""
    found = CHUNK_LINE.fullmatch(line)
    if found is None or len(line) > MAX_CHUNK_LINE:
        raise BadRequest(
            "a chunk begins with its size, 16 hexadecimal digits at the most, in a line of its own that ends "
            "with CR LF (RFC 9112 section 7.1)"
        )
    return int(found[1], 16)


# ---- a request, as h11 has read it ------------------------------------------------------------------------

# uri-host [ ":" port ] (RFC 9110 section 7.2, RFC 3986 section 3.2.2). It may be empty, but a port without a
# host is of no http URL (RFC 9110 section 4.2.1), and nginx refuses it too.
HOST = re.compile(rb"((\[[0-9A-Za-z:.~_%!$&'()*+,;=-]+\]|[0-9A-Za-z.~_%!$&'()*+,;=-]+)(:[0-9]*)?)?")

# (whether the request breaks the rule, status, the rule)
REQUEST_RULES: tuple[tuple[Callable[[h11.Request, Fields], bool], int, str], ...] = (
    (
        lambda request, _: not request.http_version.startswith(b"1."),
        505,
        "this server speaks HTTP/1.0 and HTTP/1.1 (RFC 9110 section 15.6.6)",
    ),
    (
        # Methods are told apart by case, and ASGI has them in upper case: to change one would be to answer
        # another request.
        lambda request, _: request.method != request.method.upper(),
        501,
        "methods are in upper case here (RFC 9110 section 9.1)",
    ),
    (
        # "the server MUST close the connection after responding to such a request"
        lambda _, fields: b"transfer-encoding" in fields and b"content-length" in fields,
        400,
        "Transfer-Encoding and Content-Length do not go together (RFC 9112 section 6.1)",
    ),
    (
        # "MUST treat the message as if the framing is faulty"
        lambda request, fields: request.http_version == b"1.0" and b"transfer-encoding" in fields,
        400,
        "HTTP/1.0 has no Transfer-Encoding (RFC 9112 section 6.1)",
    ),
    (
        # h11 asks 1.1 alone for it; a minor version above is read as 1.1 (RFC 9110 section 2.5).
        lambda request, fields: request.http_version != b"1.0" and b"host" not in fields,
        400,
        "a request names its host by one Host header (RFC 9112 section 3.2)",
    ),
    (
        lambda _, fields: HOST.fullmatch(fields.get(b"host", b"")) is None,
        400,
        "Host is a name or an address, and perhaps a port (RFC 9112 section 3.2)",
    ),
)


def check_request(request: h11.Request, fields: Fields) -> None:
    """Raise BadRequest for the first rule that is broken; `fields` are the request's headers."""
    for broken, status, text in REQUEST_RULES:
        if broken(request, fields):
            raise BadRequest(text, status)


# ---- h11's refusals ---------------------------------------------------------------------------------------

CHUNK_FOOTER = (
    "CR LF comes behind the data of a chunk, which is as long as its size says (RFC 9112 section 7.1)"
)
# How its words begin, and the rule. The bytes that broke it are not ours to repeat.
REFUSALS = {
    "illegal request line": "the request line is a method, a target and HTTP/1.1, with one space between "
    "them (RFC 9112 section 3)",
    "illegal header line": "a header is a name, a colon right behind it, and a value (RFC 9112 section 5)",
    "bad Content-Length": "Content-Length is a number in decimal digits (RFC 9110 section 8.6)",
    "Only Transfer-Encoding: chunked is supported": "chunked is the only transfer coding taken here "
    "(RFC 9112 section 6.1)",
    "Missing mandatory Host: header": "a request names its host by one Host header (RFC 9112 section 3.2)",
    "Found multiple Host: headers": "a request names its host by one Host header (RFC 9112 section 3.2)",
    "malformed chunk footer": CHUNK_FOOTER,
}


def rule_behind(error: h11.RemoteProtocolError) -> str:
    """The rule that a client broke, which made h11 refuse."""
    return next(
        (rule for words, rule in REFUSALS.items() if str(error).startswith(words)),
        "this is not HTTP/1.1 (RFC 9112)",
    )
