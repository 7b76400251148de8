"""Request smuggling and its relatives: what has two readings has none here, and the answer names the rule."""

import re

import h11
import pytest

from miniasgi.protocol import strict
from tests.applications import read_body, respond
from tests.memory import MemoryClient

# What an attacker would like to see answered as a request of its own.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LINES = b"a line ends with CR LF, neither of which may stand alone"
SIZE = b"a chunk begins with its size"
HOST = b"one Host header"


def get(*lines):
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: x", *lines, b"", b""])


def post(*lines, body=b""):
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *lines, b"", body])


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


class Server:
    """An application that keeps what it was asked; its answer is the body."""

    def __init__(self):
        self.asked = []

    async def __call__(self, scope, receive, send):
        body = await read_body(receive)
        self.asked.append((scope["method"], scope["raw_path"], body))
        await respond(send, body)


async def exchange(request, pieces=1, **options):
    """(what the application was asked, what the client was answered, the connection)."""
    server = Server()
    client = MemoryClient(server, **options)
    size = -(-len(request) // min(pieces, 500))  # a long one not byte by byte, but in many
    await client.send(*(request[at : at + size] for at in range(0, len(request), size)))
    return server.asked, client.written, client


REFUSED = {
    # ---- where a body ends ----
    "two lengths": (post(b"Content-Length: 0", b"Content-Length: 1"), 400, b"only one Content-Length"),
    "one length twice": (post(b"Content-Length: 0", b"Content-Length: 0"), 400, b"only one Content-Length"),
    "a list of lengths": (post(b"Content-Length: 0, 0"), 400, b"one number, not a list"),
    "a list with a hole": (post(b"Content-Length: 0,"), 400, b"one number, not a list"),
    "a length with a plus": (post(b"Content-Length: +5"), 400, b"decimal digits"),
    "a length with a minus": (post(b"Content-Length: -5"), 400, b"decimal digits"),
    "a length in hex": (post(b"Content-Length: 0x5"), 400, b"decimal digits"),
    "a length with a space": (post(b"Content-Length: 1 0"), 400, b"decimal digits"),
    "a length with an underscore": (post(b"Content-Length: 1_0"), 400, b"decimal digits"),
    "a length with a point": (post(b"Content-Length: 5.0"), 400, b"decimal digits"),
    "no length at all": (post(b"Content-Length:"), 400, b"decimal digits"),
    "a length without an end": (post(b"Content-Length: " + b"1" * 30), 400, b"decimal digits"),
    "length and coding": (
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
        b"do not go together",
    ),
    "coding and length": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        400,
        b"do not go together",
    ),
    "an unknown coding": (post(b"Transfer-Encoding: gzip, chunked"), 501, b"the only transfer coding taken"),
    "a coding with parameters": (post(b"Transfer-Encoding: chunked;q=1"), 400, b"last transfer coding"),
    "another coding at the end": (post(b"Transfer-Encoding: chunked, gzip"), 400, b"last transfer coding"),
    "only another coding": (post(b"Transfer-Encoding: gzip"), 400, b"last transfer coding"),
    "identity": (post(b"Transfer-Encoding: identity"), 400, b"last transfer coding"),
    "nearly chunked": (post(b"Transfer-Encoding: xchunked"), 400, b"last transfer coding"),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"'), 400, b"last transfer coding"),
    "no coding": (post(b"Transfer-Encoding:"), 400, b"last transfer coding"),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked"), 400, b"chunked is named only once"),
    "two codings": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        400,
        b"only one Transfer-Encoding",
    ),
    "two codings, one hidden": (
        post(b"Transfer-Encoding: chunked", b"transfer-encoding: identity"),
        400,
        b"only one Transfer-Encoding",
    ),
    "a vertical tab before chunked": (post(b"Transfer-Encoding: \x0bchunked"), 400, LINES),
    "a coding in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        b"HTTP/1.0 has no Transfer-Encoding",
    ),
    # ---- lines ----
    "a folded line": (get(b"A: b", b" c: d"), 400, b"a header is one line"),
    "a folded length": (post(b"Content-Length:", b" 5"), 400, b"a header is one line"),
    "a line folded by a tab": (get(b"A: b", b"\tc: d"), 400, b"a header is one line"),
    "a space before the first header": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, b"a header is one line"),
    "a space before the colon": (post(b"Content-Length : 5"), 400, b"a colon right behind it"),
    "a tab before the colon": (post(b"Content-Length\t: 5"), 400, b"a colon right behind it"),
    "no colon": (get(b"nonsense"), 400, b"a colon right behind it"),
    "no name": (get(b": nonsense"), 400, b"a colon right behind it"),
    "a name that is no token": (get(b"A(b): c"), 400, b"a colon right behind it"),
    "lines that end with LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400, LINES),
    "one line that ends with LF": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, LINES),
    "an empty line that ends with LF": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", 400, LINES),
    "CR in a value": (get(b"A: b\rTransfer-Encoding: chunked"), 400, LINES),
    "CR in the request line": (b"GET /\r HTTP/1.1\r\nHost: x\r\n\r\n", 400, LINES),
    "two CR": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400, LINES),
    "NUL in a value": (get(b"A: b\0c"), 400, LINES),
    "NUL in a name": (get(b"A\0: b"), 400, LINES),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, LINES),
    "an escape in a value": (get(b"A: \x1b[31m"), 400, LINES),
    "DEL in a value": (get(b"A: \x7f"), 400, LINES),
    # ---- the request line ----
    "nonsense": (b"nonsense\r\n\r\n", 400, b"the request line is"),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a space at the end": (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a tab in between": (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a method that is no token": (b"GE(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a target that is no ASCII": (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a name in lower case": (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "a version with many digits": (b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", 400, b"the request line is"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, b"the request line is"),
    "HTTP/0.9 in words": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, b"speaks HTTP/1.0 and HTTP/1.1"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"speaks HTTP/1.0 and HTTP/1.1"),
    "HTTP/2's preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
        505,
        b"speaks HTTP/1.0 and HTTP/1.1",
    ),
    "two empty lines before it": (b"\r\n\r\n" + get(), 400, b"begins with its method"),
    "a space before it": (b" " + get(), 400, b"begins with its method"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", 400, b"if this is TLS: the port serves http"),
    "a method in lower case": (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 501, b"upper case"),
    "a target without a slash": (b"GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"slash"),
    "a fragment": (b"GET /a#/../b HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"no fragment"),
    "a fragment with a host": (b"GET http://x#@y/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"no fragment"),
    "a URL with a user": (b"GET http://x@y/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the host of a URL"),
    "a URL with a backslash": (b"GET http://x\\@y/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the host of a URL"),
    "a URL with a strange port": (b"GET http://x:y/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the host of a URL"),
    "a URL with a port alone": (b"GET http://:80/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"without a host"),
    "an asterisk": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"OPTIONS"),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501, b"CONNECT"),
    # ---- Host ----
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, HOST),
    "no host in HTTP/1.2": (b"GET / HTTP/1.2\r\n\r\n", 400, HOST),
    "two hosts": (get(b"Host: y"), 400, HOST),
    "one host twice": (get(b"Host: x"), 400, HOST),
    "two hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, HOST),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400, b"Host is a name"),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", 400, b"Host is a name"),
    "hosts in a list": (b"GET / HTTP/1.1\r\nHost: x, y z\r\n\r\n", 400, b"Host is a name"),
    "a host and nonsense for a port": (b"GET / HTTP/1.1\r\nHost: x:y\r\n\r\n", 400, b"Host is a name"),
    "a port without a host": (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, b"Host is a name"),
    "a colon for a host": (b"GET http://x/ HTTP/1.1\r\nHost: :\r\n\r\n", 400, b"Host is a name"),
    "a URL with markup": (b"GET http://<b>/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"the host of a URL"),
    "half an IPv6 address": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, b"Host is a name"),
    # ---- chunks ----
    "a size with a plus": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size with a minus": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size with 0x": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a space before the size": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a space behind the size": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "junk behind the size": (chunked(b"5x\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "no size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size with an underscore": (chunked(b"1_0\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size over 64 bits": (chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size that ends with LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "a size that ends with CR": (chunked(b"5\rhello\r\n0\r\n\r\n"), 400, SIZE),
    "LF in an extension": (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "CR in an extension": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "NUL in an extension": (chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"), 400, SIZE),
    "an extension without an end": (chunked(b"5;" + b"a" * 5000), 400, SIZE),
    "extensions without an end": (chunked((b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 20), 413, b"extensions of the chunks"),
    "more than the size says": (chunked(b"5\r\nhello!\r\n0\r\n\r\n"), 400, b"CR LF comes behind the data"),
    "less than the size says": (chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400, b"CR LF comes behind the data"),
    "more than the size says, of a chunk with an extension": (
        chunked(b"5;a\r\nhello!\r\n0\r\n\r\n"),
        400,
        b"CR LF comes behind the data",
    ),
    "LF behind the data": (chunked(b"5\r\nhello\n0\r\n\r\n"), 400, b"CR LF comes behind the data"),
    "a trailer that is folded": (chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400, b"a header is one line"),
    "a trailer without a colon": (chunked(b"0\r\nnonsense\r\n\r\n"), 400, b"a colon right behind it"),
    "trailers that end with LF": (chunked(b"0\r\nA: b\n\r\n"), 400, LINES),
    "LF for the end of the trailers": (chunked(b"0\r\n\n"), 400, LINES),
    "NUL in a trailer": (chunked(b"0\r\nA: \0\r\n\r\n"), 400, LINES),
}  # fmt: skip


@pytest.mark.parametrize("pieces", [1, 7, 10_000], ids=["whole", "in pieces", "byte by byte"])
@pytest.mark.parametrize("name", REFUSED)
async def test_what_has_two_readings_is_refused_by_its_rule_and_nothing_behind_it_is_read(name, pieces):
    request, status, rule = REFUSED[name]
    asked, answer, client = await exchange(request + SMUGGLED, pieces)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close" in head.lower()
    assert rule in body
    assert re.search(rb"\((RFC \d+|Sec)", body), "the answer says where the rule stands"
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
    assert not [path for _, path, _ in asked if path != b"/"]
    assert not [body for _, _, body in asked if body != b"the client has left"]
    assert client.transport.eof_written  # closed in stages: the answer arrives
    await client.pass_time(3)
    assert client.transport.aborted


# One reading each: (bytes, what the application is asked).
TAKEN = {
    "an empty line before the request": (b"\r\n" + get(), [b""]),
    "an empty line behind a body": (post(b"Content-Length: 2", body=b"hi\r\n") + get(), [b"hi", b""]),
    "a minor version above": (get().replace(b"1.1", b"1.2"), [b""]),
    "no host in HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", [b""]),
    "an empty host": (get().replace(b"x", b""), [b""]),
    "a host with a port": (get().replace(b"x", b"x:80"), [b""]),
    "an IPv6 address": (get().replace(b"x", b"[::1]:80"), [b""]),
    "a host with an underscore": (get().replace(b"x", b"my_service.local:8000"), [b""]),
    "zeros before a length": (post(b"Content-Length: 002", body=b"hi"), [b"hi"]),
    "a length in spaces": (post(b"Content-Length: \t 2 \t", body=b"hi"), [b"hi"]),
    "chunked in capitals": (post(b"TRANSFER-ENCODING:\tCHUNKED ", body=b"2\r\nhi\r\n0\r\n\r\n"), [b"hi"]),
    "zeros before a size": (chunked(b"002\r\nhi\r\n000\r\n\r\n"), [b"hi"]),
    "an extension": (chunked(b'2;a=b;c="d, e"\r\nhi\r\n0;z\r\n\r\n'), [b"hi"]),
    "trailers": (chunked(b"2\r\nhi\r\n0\r\nA: b\r\nC: d\r\n\r\n"), [b"hi"]),
    "chunks that look like requests": (
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)) + get(),
        [SMUGGLED, b""],
    ),
    "a body that looks like a request": (
        post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED) + get(),
        [SMUGGLED, b""],
    ),
    "names that only look like lengths": (
        get(b"X-Content-Length: 5", b"Content-Length-Range: 1, 2", b"A: transfer-encoding: gzip"),
        [b""],
    ),
    "latin-1 in a value": (get(b"A: \xe4"), [b""]),
}


@pytest.mark.parametrize("pieces", [1, 7, 10_000], ids=["whole", "in pieces", "byte by byte"])
@pytest.mark.parametrize("name", TAKEN)
async def test_what_has_one_reading_is_read(name, pieces):
    request, bodies = TAKEN[name]
    asked, answer, _ = await exchange(request, pieces)
    assert [body for _, _, body in asked] == bodies
    assert {path for _, path, _ in asked} == {b"/"}
    assert answer.count(b"HTTP/1.1 200 OK") == len(bodies) == answer.count(b"HTTP/1.1 ")


# ---- the tables ----


ROWS = [
    (name, at)
    for name in ("NOT_TAKEN", "REQUEST_RULES", "REFUSALS")
    for at in range(len(getattr(strict, name)))
]


@pytest.mark.parametrize(("name", "at"), ROWS)
async def test_no_row_of_the_tables_could_be_left_out(name, at, monkeypatch):
    table = getattr(strict, name)
    rows = list(table.items() if isinstance(table, dict) else table)
    left_out = rows.pop(at)
    monkeypatch.setattr(strict, name, type(table)(rows))
    for request, status, rule in REFUSED.values():
        _, answer, client = await exchange(request)
        client.transport.lose()
        await client.turns()
        if not answer.startswith(b"HTTP/1.1 %d " % status) or rule not in answer:
            return
    raise AssertionError(f"nothing is answered in another way without {left_out}")


def test_what_h11_refuses_without_a_row_is_answered_all_the_same():
    assert strict.rule_behind(h11.RemoteProtocolError("something new")) == "this is not HTTP/1.1 (RFC 9112)"


# ---- the limits ----


def with_target(size):
    return b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * (size - 1))


def with_head(size):
    return get(b"A: " + b"b" * (size - len(get(b"A: "))))


def with_headers(count):
    return get(*[b"A: b"] * (count - 1))


def with_chunks(*sizes):
    return chunked(b"".join(b"%x\r\n%b\r\n" % (size, bytes(size)) for size in sizes) + b"0\r\n\r\n")


# (option, limit, as large as it may be, larger, status)
LIMITS = {
    "head": ("limit_head", 1024, with_head(1024), with_head(1025), 431),
    "head without end": ("limit_head", 1024, get(), with_head(9000)[:-4], 431),
    "target": ("limit_target", 100, with_target(100), with_target(101), 414),
    "target without end": ("limit_head", 1024, get(), b"GET /" + b"a" * 5000, 414),
    "headers": ("limit_headers", 10, with_headers(10), with_headers(11), 431),
    "length": (
        "limit_body",
        5,
        post(b"Content-Length: 5", body=b"hello"),
        post(b"Content-Length: 6", body=b"hello!"),
        413,
    ),
    "chunk": ("limit_body", 5, with_chunks(5), with_chunks(6), 413),
    "chunks": ("limit_body", 5, with_chunks(3, 2), with_chunks(3, 3), 413),
    "trailers": (
        "limit_headers",
        2,
        chunked(b"0\r\nA: b\r\n\r\n"),
        chunked(b"0\r\n" + b"A: b\r\n" * 3 + b"\r\n"),
        431,
    ),
}


@pytest.mark.parametrize("pieces", [1, 10_000], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_is_kept_to_the_byte_and_told_by_its_status(name, pieces):
    option, limit, taken, refused, status = LIMITS[name]
    _, answer, _ = await exchange(taken, pieces, **{option: limit})
    assert answer.startswith(b"HTTP/1.1 200 ")
    asked, answer, client = await exchange(refused + SMUGGLED, pieces, **{option: limit})
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
    assert b"(RFC " in answer
    assert not [path for _, path, _ in asked if b"smuggled" in path]
    assert client.transport.eof_written


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (with_head(2000), {"limit_pipelined": 0}),
        (with_head(2000), {"limit_pipelined": 1000}),
        (chunked(b"2\r\nhi\r\n0\r\nA: " + b"b" * 2000 + b"\r\n\r\n"), {"limit_pipelined": 1000}),
        (b"\r\n" + with_head(65536), {}),
    ],
    ids=["any head", "a head", "trailers", "by default"],
)
async def test_half_a_head_does_not_count_among_the_requests_that_wait(request_, options):
    server = Server()
    client = MemoryClient(server, **options)
    for piece in (request_[:-1000], request_[-1000:-1], request_[-1:]):
        assert client.transport.reading
        await client.send(piece)
    assert client.written.startswith(b"HTTP/1.1 200 ")


async def test_why_a_client_was_refused_can_be_had_in_the_log(caplog):
    caplog.set_level("DEBUG", "miniasgi")
    await exchange(post(b"Content-Length: 1, 1"))
    [line] = caplog.messages
    assert line.startswith("127.0.0.1:50000: refused with 400: Content-Length is one number")


async def test_a_body_that_is_said_to_be_too_large_is_not_asked_for():
    request = post(b"Content-Length: 6", b"Expect: 100-continue")
    asked, answer, _ = await exchange(request, limit_body=5)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert not asked


async def test_the_default_limits_are_those_of_the_options():
    for request, status in (
        (with_headers(101), b"431"),
        (with_target(16385), b"414"),
        (with_head(65537), b"431"),
        (with_headers(100), b"200"),
        (with_target(16384), b"200"),
        (with_head(65536), b"200"),
        (post(b"Content-Length: 1000000", body=bytes(1_000_000)), b"200"),
    ):
        _, answer, _ = await exchange(request)
        assert answer.startswith(b"HTTP/1.1 " + status)


# ---- what is kept ----


async def test_nothing_is_kept_of_a_request_that_was_read():
    for request in (get(), post(b"Content-Length: 200000", body=bytes(200_000)), with_chunks(200_000)):
        _, answer, client = await exchange(request)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert client.connection.intake.data == b""
