"""The strict reader of requests is held to what it is there for."""

import pytest

from tests.protocol.readers import Asked, read_requests

BODY = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\nHost: x\r\n\r\n", "a bare LF"),
        (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "a bare CR in a head"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n", "a control character"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "an obs-fold"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "a header line"),
        (b"GET / HTTP/1.1\r\n\r\n", "no Host"),
        (b"GET / HTTP/1.2\r\n\r\n", "no Host in HTTP/1.2"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "two Hosts"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "an invalid Host"),
        (b"GET /\r\n\r\n", "the request line"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "another HTTP"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "a Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", "a repeated Content-Length"),
        (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n" + BODY, "a transfer coding and a length"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + BODY, "a transfer coding"),
        (b"GET / HTTP/1.0\r\n" + BODY, "a transfer coding in HTTP/1.0"),
        (b"GET / HTTP/1.1\r\n" + BODY + b"0x5\r\n", "a chunk size"),
        (b"GET / HTTP/1.1\r\n" + BODY + b"5 \r\n", "white space behind a chunk size"),
        (b"GET / HTTP/1.1\r\n" + BODY + b"0" * 16 + b"5\r\n", "a long chunk size"),
        (b"GET / HTTP/1.1\r\n" + BODY + b"5;a\x00\r\n", "a control character"),
        (b"GET / HTTP/1.1\r\n" + BODY + b"5\r\nhello!\r\n", "the end of a chunk"),
    ],
)
def test_the_reader_stops_at_what_could_be_taken_in_two_ways(data, reason):
    good = b"POST /?a HTTP/1.1\r\nContent-Length: 2\r\nHost: x\r\n\r\nhi"
    reading = read_requests(good + data)
    assert reading.requests[0] == Asked(b"POST", b"/?a", b"hi", True, frozenset(), False)
    assert reason in [flaw.reason for flaw in reading.flaws]
    assert not any(asked.whole for asked in reading.requests[1:])
