"""A fuzz of the road: bytes that hypothesis makes, cut and interleaved with all that may happen meanwhile.

What is right is said by two readers of this file, one of HTTP/1.1 requests and one of WebSocket frames. They
are simple, have the whole of the bytes, know nothing of h11 and wsproto, and stop at the first thing that two
readers could take in two ways. The server may be stricter than they are, where a note says so; never laxer.

By default the examples are always the same ones, and take some seconds. For new ones, and more of them:
`MINIASGI_FUZZ_EXAMPLES=20000 pytest tests/protocol/test_fuzz.py`.
"""

import asyncio
import codecs
import gc
import logging
import os
import re
import struct
import zlib
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import NamedTuple

import h11
import pytest
import uvloop
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate

from miniasgi import Config, Server
from miniasgi.asgi import ASGIError
from tests.conftest import descriptors
from tests.memory import MemoryClient, MemoryTransport

EXAMPLES = os.environ.get("MINIASGI_FUZZ_EXAMPLES")


def fuzz(examples):
    """The settings of one fuzz: the same examples each time, or as many new ones as are asked for."""
    return settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=EXAMPLES is None,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


# ---- a strict reader of requests (RFC 9112) ---------------------------------------------------------------


class Asked(NamedTuple):
    """One request that is there without a doubt."""

    method: bytes
    target: bytes  # as the application has it: path and query
    body: bytes  # as much of it as is there
    whole: bool
    notes: frozenset[str]  # why a server may refuse it all the same
    websocket: bool


class Flaw(NamedTuple):
    reason: str
    statuses: frozenset[int]


class Reading(NamedTuple):
    """What a stream holds: requests, and how it goes on behind them."""

    requests: list[Asked]
    end: str  # "more" can come, "last": nothing counts any more, "flaw"
    flaws: list[Flaw]
    undecided: bool  # in the middle of a head or a line: a server may say already what is wrong, or wait

    @property
    def statuses(self):
        return frozenset().union(*(flaw.statuses for flaw in self.flaws))


class More(Exception):
    """The bytes end here."""


class Faulty(Exception):
    """Nobody can tell where it goes on."""

    def __init__(self, reason, statuses=(400,)):
        super().__init__(reason)
        self.flaw = Flaw(reason, frozenset(statuses))


ANY_REFUSAL = (400, 405, 426, 431, 501, 505)
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % TOKEN)
FIELD = re.compile(rb"(%s):[ \t]*(.*?)[ \t]*" % TOKEN, re.DOTALL)
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=\-]|%[0-9A-Fa-f]{2})+(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
CHUNK = re.compile(rb"([0-9A-Fa-f]+)([ \t]*)(;.*)?", re.DOTALL)
PLAIN_TARGET = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@/?%\-]+")
MAX_LINE = 60_000  # above that, the server's limits count


def read_requests(data):
    """What `data` holds, from the beginning of a connection on."""
    requests, at = [], 0
    while True:
        notes = set()
        if data.startswith(b"\r\n", at):
            at += 2
        begin, flaws = at, []
        try:
            head, at = read_head(data, at, flaws, notes)
        except More:
            undecided = begin < len(data) or bool(notes)
            return Reading(requests, "more", [Flaw("half a head", frozenset(ANY_REFUSAL))], undecided)
        except Faulty as error:
            return Reading(requests, "flaw", [*flaws, error.flaw], b"\r\n\r\n" not in data[begin:])
        if flaws:
            return Reading(requests, "flaw", flaws, False)
        begin, body = at, []
        asked = Asked(head.method, head.target, b"", False, frozenset(notes), head.websocket)
        try:
            at = read_body(data, at, head, body, notes)
        except More:
            requests.append(asked._replace(body=b"".join(body), notes=frozenset(notes)))
            # A line of a chunk or a trailer may be wrong already.
            refusable = [Flaw("half a body", frozenset({400, 431, 501}))] if head.chunked else []
            return Reading(requests, "more", refusable, head.chunked)
        except Faulty as error:
            requests.append(asked._replace(body=b"".join(body), notes=frozenset(notes)))
            # A server may read on until it has a whole line, or all of the trailers.
            return Reading(requests, "flaw", [error.flaw], True)
        requests.append(asked._replace(body=b"".join(body), whole=True, notes=frozenset(notes)))
        if head.last:
            return Reading(requests, "last", [], False)


class Head(NamedTuple):
    method: bytes
    target: bytes
    length: int
    chunked: bool
    last: bool
    websocket: bool


def line_at(data, at):
    """(the line, where the next begins)."""
    end = data.find(b"\n", at)
    if end < 0:
        raise More
    line = data[at:end]
    if not line.endswith(b"\r"):
        raise Faulty("a bare LF", ANY_REFUSAL)
    return line[:-1], end + 1


def read_head(data, at, flaws, notes):
    """(Head, where the body begins). Adds what is wrong to `flaws`, and what may be refused to `notes`."""

    def flaw(reason, *statuses):
        flaws.append(Flaw(reason, frozenset(statuses or (400,))))

    begin = at
    line, at = line_at(data, at)
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        flaw("a bare CR in a head" if b"\r" in line else "the request line", 400)
    method, target, major, minor = match.groups() if match else (b"GET", b"/", b"1", b"1")
    if major != b"1":
        flaw("another HTTP", *((400, 505) if major == b"0" else (505,)))
    fields = []
    while True:
        line, at = line_at(data, at)
        if not line:
            break
        if line[:1] in b" \t":
            flaw("an obs-fold")
            continue
        found = FIELD.fullmatch(line)
        if found is None:
            flaw("a header line")
        elif b"\r" in found[2]:
            flaw("a bare CR in a head")
        elif not VALUE.fullmatch(found[2]):
            flaw("a control character")
        else:
            fields.append((found[1].lower(), found[2]))
    if at - begin > MAX_LINE:
        notes.add("a long head")

    def values(name):
        return [value for each, value in fields if each == name]

    def listed(name):
        return [part.strip(b" \t").lower() for value in values(name) for part in value.split(b",")]

    hosts, lengths, codings = values(b"host"), values(b"content-length"), values(b"transfer-encoding")
    if not hosts and (major, minor) == (b"1", b"1"):
        flaw("no Host")
    if not hosts and major == b"1" and minor > b"1":
        flaw("no Host in HTTP/1.2")
    if len(hosts) > 1:
        flaw("two Hosts")
    for host in hosts:
        if not host:
            notes.add("an empty Host")
        elif not HOST.fullmatch(host):
            flaw("an invalid Host")
    if lengths:
        each = [part.strip(b" \t") for value in lengths for part in value.split(b",")]
        if not all(re.fullmatch(rb"[0-9]{1,20}", part) for part in each) or len(set(each)) > 1:
            flaw("a Content-Length")
        elif len(each) > 1:
            flaw("a repeated Content-Length")
    if codings:
        if codings[0].lower() != b"chunked" or len(codings) > 1:
            flaw("a transfer coding", 400, 501)
        if lengths:
            flaw("a transfer coding and a length")
        if (major, minor) == (b"1", b"0"):
            flaw("a transfer coding in HTTP/1.0")
    if method != method.upper():
        notes.add("a method in lower case")
    proposed = minor != b"0" and b"websocket" in listed(b"upgrade")
    if proposed:
        notes.add("a handshake")
    return Head(
        method,
        read_target(method, target, notes),
        0 if codings or flaws or not lengths else int(lengths[0]),
        bool(codings),
        minor == b"0" or b"close" in listed(b"connection") or proposed,
        proposed,
    ), at


def read_target(method, target, notes):
    """Path and query, as the application has them."""
    if not PLAIN_TARGET.fullmatch(target):
        notes.add("an odd target")
    if target.find(b"?") == len(target) - 1:  # no query or an empty one: ASGI has the same for both
        target = target[:-1]
    if method == b"CONNECT":
        notes.add("CONNECT")
    elif target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    elif match := re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target):
        if not HOST.fullmatch(match[1]):
            notes.add("an odd authority")
        return match[2] if match[2].startswith(b"/") else b"/" + match[2]
    notes.add("an odd target")
    return target


def read_body(data, at, head, body, notes):
    """Where it ends; what is there of it is added to `body`."""
    if not head.chunked:
        return take(data, at, head.length, body)
    while True:
        line, at = line_at(data, at)
        size = chunk_size(line)
        if len(line) > MAX_LINE:
            notes.add("a long chunk extension")
        if size == 0:
            break
        at = take(data, at, size, body)
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            raise Faulty("the end of a chunk")
        if len(end) < 2:
            raise More
        at += 2
    begin = at
    while True:
        line, at = line_at(data, at)
        if not line:
            break
        found = FIELD.fullmatch(line)
        if line[:1] in b" \t":
            raise Faulty("an obs-fold")
        if found is None or b"\r" in line:
            raise Faulty("a trailer")
        if not VALUE.fullmatch(found[2]):
            raise Faulty("a control character")
        if found[1].lower() in (b"content-length", b"transfer-encoding", b"host"):
            notes.add("a trailer that belongs into a head")
    if at - begin > MAX_LINE:
        notes.add("long trailers")
    return at


def chunk_size(line):
    found = CHUNK.fullmatch(line)
    if found is None:
        raise Faulty("a chunk size")
    digits, space, extension = found.groups(b"")
    if len(digits) > 20:
        raise Faulty("a chunk size")
    if b"\r" in extension:
        raise Faulty("a bare CR")
    if not VALUE.fullmatch(extension):
        raise Faulty("a control character")
    if space:
        raise Faulty("white space behind a chunk size")
    if len(digits) > 16:
        raise Faulty("a long chunk size")
    return int(digits, 16)


def take(data, at, count, body):
    body.append(data[at : at + count])
    if len(data) - at < count:
        raise More
    return at + count


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


# ---- a strict reader of frames (RFC 6455, RFC 7692) -------------------------------------------------------


class Frames(NamedTuple):
    """What a stream of frames holds."""

    messages: list[str | bytes]
    pings: list[bytes]
    pongs: list[bytes]
    code: int | None  # of the close frame, 1005 where it has none; None without a close frame
    failure: frozenset[int]  # the codes of which one is the answer to a stream against the rules
    rest: bytes  # behind a close frame
    half: bool  # the last message is not whole


class Broken(Exception):
    """The stream breaks a rule; these are the codes for it."""

    def __init__(self, *codes):
        super().__init__(codes)
        self.codes = frozenset(codes)


class FrameReader:
    """Reads frames of one side. `deflate` is the agreed window in bits, or None; `keep`, whether it goes on."""

    def __init__(self, *, masked, deflate=None, keep=True, max_size=10**9):
        self.masked, self.deflate, self.keep, self.max_size = masked, deflate, keep, max_size
        self.inflater = None
        self.messages, self.pings, self.pongs = [], [], []
        self.kind = None  # the opcode of the message under way

    def read(self, data):
        code, failure = None, frozenset()
        at = 0
        try:
            while code is None:
                at, code = self.frame(data, at)
        except More:
            pass
        except Broken as error:
            failure = error.codes
        half = self.kind is not None
        return Frames(self.messages, self.pings, self.pongs, code, failure, data[at:], half)

    def frame(self, data, at):
        if len(data) - at < 2:
            raise More
        first, second = data[at], data[at + 1]
        fin, rsv1, others, opcode = first >> 7, first >> 6 & 1, first >> 4 & 3, first & 15
        size = second & 127
        control = opcode >= 8
        if opcode not in (0, 1, 2, 8, 9, 10) or (control and (not fin or size > 125)):
            raise Broken(1002)
        at += 2
        if size > 125:
            count, least = (2, 126) if size == 126 else (8, 2**16)
            if len(data) - at < count:
                raise More
            size = int.from_bytes(data[at : at + count], "big")
            if size < least or size >= 2**63:
                raise Broken(1002)
            at += count
        if others or (rsv1 and (self.deflate is None or opcode not in (1, 2))) or second >> 7 != self.masked:
            raise Broken(1002)
        mask = bytes(4)
        if self.masked:
            mask, at = data[at : at + 4], at + 4
            if len(mask) < 4:
                raise More
        there = data[at : at + size]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(there))
        whole = len(there) == size
        if control:
            if not whole:
                raise More
            return at + size, self.control(opcode, payload)
        self.part(opcode, payload, fin and whole, rsv1, whole)
        if not whole:
            raise More
        return at + size, None

    def control(self, opcode, payload):
        if opcode == 9:
            self.pings.append(payload)
        elif opcode == 10:
            self.pongs.append(payload)
        elif not payload:
            return 1005
        else:
            return close_code(payload)
        return None

    def part(self, opcode, payload, last, compressed, whole):
        # An empty part of a frame is no news: what is wrong with the order shows with its first byte.
        if not whole and not payload:
            raise More
        if (opcode == 0) != (self.kind is not None):
            raise Broken(1002)
        if opcode:
            self.kind, self.compressed, self.size, self.parts = opcode, compressed, 0, []
            self.decoder = codecs.getincrementaldecoder("utf-8")()
            if compressed and self.inflater is None:
                self.inflater = zlib.decompressobj(-self.deflate)
        codes, text = set(), b""
        try:
            for piece in self.inflated(payload, last) if self.compressed else [payload]:
                text += piece
            self.parts.append(self.decoder.decode(text, last) if self.kind == 1 else text)
        except (zlib.error, UnicodeDecodeError):
            codes.add(1007)
        self.size += len(text)
        # A reader in small steps finds the size first, one in large steps what is wrong with the message.
        if self.size > self.max_size:
            codes.add(1009)
        if codes:
            raise Broken(*codes)
        if last:
            self.messages.append(("" if self.kind == 1 else b"").join(self.parts))
            self.kind = None
            if not self.keep or (self.inflater and self.inflater.eof):  # section 7.2.3.4
                self.inflater = None

    def inflated(self, payload, last):
        """Byte by byte, so that what stands before an error counts."""
        for byte in payload + (b"\x00\x00\xff\xff" if last else b""):
            yield self.inflater.decompress(bytes([byte]))


def close_code(payload):
    """The code of a close frame's payload (RFC 6455 section 7.4)."""
    if len(payload) == 1:
        raise Broken(1002)
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1013 or 3000 <= code <= 4999):
        raise Broken(1002)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Broken(1007) from None
    return code


# ---- reading what the server writes -----------------------------------------------------------------------


class Answer(NamedTuple):
    status: int  # 0 where there is nothing but informational responses
    body: bytes
    whole: bool
    headers: list[tuple[bytes, bytes]]


def read_answers(written, methods, ended):
    """([Answer], what stands behind a 101). `methods` are those of the requests, as far as they are known."""
    client, answers = h11.Connection(h11.CLIENT), []
    client.receive_data(written)
    for method in chain(methods, repeat(b"GET")):
        if not client.trailing_data[0]:
            return answers, b""
        assert client.our_state is h11.IDLE, f"bytes behind the last answer: {client.trailing_data[0]!r}"
        upgrade = [("connection", "upgrade"), ("upgrade", "websocket")]
        method = b"HEAD" if method == b"HEAD" else b"GET"
        client.send(h11.Request(method=method, target="/", headers=[("host", "x"), *upgrade]))
        client.send(h11.EndOfMessage())
        answer = read_answer(client, ended)
        answers.append(answer)
        if answer.status == 101:
            return answers, client.trailing_data[0]
        if not answer.whole:
            assert not client.trailing_data[0] or answer.status == 0, "bytes that h11 does not take"
            return answers, b""
        if client.our_state is h11.DONE and client.their_state is h11.DONE:
            client.start_next_cycle()
    raise AssertionError("unreachable")


def read_answer(client, ended):
    status, body, headers = 0, b"", []
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            if ended:
                client.receive_data(b"")
                with suppress(h11.RemoteProtocolError):
                    if type(client.next_event()) is h11.EndOfMessage:  # the end of the connection ends it
                        return Answer(status, body, True, headers)
            return Answer(status, body, False, headers)
        match event:
            case h11.InformationalResponse(status_code=101):
                return Answer(101, b"", True, list(event.headers))
            case h11.InformationalResponse():
                assert event.status_code in (100, 103)
            case h11.Response():
                status, headers = event.status_code, list(event.headers)
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return Answer(status, body, True, headers)
            case _:
                raise AssertionError(f"{event} in the middle of an answer")


def agreed_deflate(headers):
    """(the window of what the client sends, whether it keeps its context, an extension for wsproto's client)."""
    answer = dict(headers).get(b"sec-websocket-extensions")
    if answer is None:
        return None, True, []
    extension = PerMessageDeflate()
    extension.finalize(answer.decode())
    return extension.client_max_window_bits, not extension.client_no_context_takeover, [extension]


def read_server_frames(data, extensions):
    """The frames of a server, which wsproto's client has to take as well."""
    client = WsprotoConnection(ConnectionType.CLIENT, extensions)
    client.receive_data(data)
    messages, parts = [], []
    for event in client.events():
        if isinstance(event, events.Message):
            parts.append(event.data)
            if event.message_finished:
                messages.append(type(event.data)().join(parts))
                parts.clear()
        elif isinstance(event, events.CloseConnection):
            assert client.state is ConnectionState.REMOTE_CLOSING, f"no valid frames: {event.reason}"
    extension = extensions[0] if extensions else None
    frames = FrameReader(
        masked=False,
        deflate=extension and extension.server_max_window_bits,
        keep=not (extension and extension.server_no_context_takeover),
    ).read(data)
    assert not frames.failure
    assert not (frames.code and frames.rest), f"bytes behind the close frame: {frames.rest!r}"
    assert not frames.half, "the server does not fragment"
    assert frames.messages == messages
    return frames


# ---- the application --------------------------------------------------------------------------------------


class Boom(Exception):
    """The application's own."""


class Left(Exception):
    """The application was told that its client has left, and ends."""


class Call:
    """What one call of the application saw and did."""

    def __init__(self, scope):
        self.websocket = scope["type"] == "websocket"
        self.method = b"GET" if self.websocket else scope["method"].encode()
        query = scope["query_string"]
        self.target = scope["raw_path"] + (b"?" + query if query or scope["raw_path"] == b"" else b"")
        self.headers = list(scope["headers"])
        self.body = b""
        self.whole = False
        self.received = []  # of a WebSocket: messages as str and bytes, and the code of the end as an int
        self.disconnects = 0
        self.status = 0
        self.sent = b""
        self.complete = False
        self.pending = None  # the message that send() did not return from
        self.messages = []  # sent to a WebSocket
        self.accepted = False

    def __repr__(self):
        return f"<{self.method} {self.target} {self.body or self.received} → {self.status} {self.sent}>"


class Application:
    """Goes through a program for each call: a list of steps, which are its methods and their arguments."""

    def __init__(self, *programs):
        self.programs = programs
        self.calls = []
        self.gate = asyncio.Event()
        self.network = None  # the transport of the client that it is called for, unless that is a real one
        self.running = []
        self.overlaps = False

    async def __call__(self, scope, receive, send):
        call = Call(scope)
        if scope["path"] == "/healthy":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body"})
        program = self.programs[len(self.calls) % len(self.programs)]
        self.calls.append(call)
        self.overlaps |= any(not (each.complete or each.disconnects) for each in self.running)
        self.running.append(call)
        try:
            await self.follow(call, receive, self.sender(call, send), program)
        except Left:
            pass
        finally:
            self.running.remove(call)

    def sender(self, call, send):
        async def recorded(message):
            call.pending = message
            try:
                await send(message)
            except Exception:  # nothing of it has been written
                call.pending = None
                raise
            assert not (self.network and self.network.holds), (
                "send() did not wait for a client that takes nothing"
            )
            call.pending = None
            kind = message["type"]
            if call.complete:
                return
            if kind.endswith("response.start"):
                call.status = message["status"]
            elif kind.endswith("response.body"):
                call.sent += message.get("body", b"")
                call.complete = not message.get("more_body", False)
            elif kind == "websocket.accept":
                call.accepted = True
            elif kind == "websocket.send":
                call.messages.append(message.get("text", message.get("bytes")))

        return recorded

    # ---- the steps ----

    async def follow(self, call, receive, send, program):
        for name, *arguments in program:
            await getattr(self, name)(call, receive, send, *arguments)

    async def unless_websocket(self, call, receive, send, program):
        """The program for HTTP; a WebSocket is denied."""
        if call.websocket:
            await self.receive(call, receive, send)
            await self.close(call, receive, send)
        else:
            await self.follow(call, receive, send, program)

    async def receive(self, call, receive, send, count=1):
        for _ in range(count):
            message = await receive()
            assert call.disconnects == 0 or message["type"].endswith(".disconnect"), "alive again"
            match message:
                case {"type": "http.request", "body": body, "more_body": more_body}:
                    assert not call.whole, "the end of the body came twice"
                    call.body += body
                    call.whole = not more_body
                case {"type": "websocket.receive", "text": data} | {
                    "type": "websocket.receive",
                    "bytes": data,
                }:
                    call.received.append(data)
                case {"type": "websocket.disconnect", "code": code}:
                    if not call.disconnects:
                        call.received.append(code)
                    call.disconnects += 1
                case {"type": "http.disconnect"}:
                    call.disconnects += 1
                case {"type": "websocket.connect"}:
                    assert not call.received
                case _:
                    raise AssertionError(f"what is {message}?")

    async def read(self, call, receive, send):
        while not call.whole:
            await self.receive(call, receive, send)
            if call.disconnects:
                raise Left

    async def wait_for_end(self, call, receive, send):
        while not call.disconnects:
            await self.receive(call, receive, send)

    async def echo(self, call, receive, send):
        await self.read(call, receive, send)
        await self.answer(call, receive, send, 200, (call.body,), True)

    async def answer(self, call, receive, send, status, parts, with_length):
        headers = [(b"content-length", b"%d" % len(b"".join(parts)))] if with_length else []
        await self.start(call, receive, send, status, headers)
        for part in parts:
            await self.part(call, receive, send, part, True)
        await self.part(call, receive, send, b"", False)

    async def start(self, call, receive, send, status, headers):
        kind = "websocket.http.response.start" if call.websocket else "http.response.start"
        await send({"type": kind, "status": status, "headers": list(headers)})

    async def part(self, call, receive, send, body, more_body):
        kind = "websocket.http.response.body" if call.websocket else "http.response.body"
        await send({"type": kind, "body": body, "more_body": more_body})

    async def hint(self, call, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})

    async def wait(self, call, receive, send):
        await self.gate.wait()

    async def turns(self, call, receive, send, count):
        for _ in range(count):
            await asyncio.sleep(0)

    async def fail(self, call, receive, send, error, *arguments):
        raise error(*arguments)

    async def leave(self, call, receive, send):
        raise Left

    async def say(self, call, receive, send, message):
        await send(dict(message))

    async def careless(self, call, receive, send, step):
        """Whatever comes of it, go on."""
        with suppress(Exception):
            await self.follow(call, receive, send, [step])

    # ---- of a WebSocket ----

    async def accept(self, call, receive, send):
        await self.receive(call, receive, send)
        await send({"type": "websocket.accept"})

    async def mirror(self, call, receive, send, count=10**9):
        for _ in range(count):
            await self.receive(call, receive, send)
            if call.disconnects:
                raise Left
            data = call.received[-1] if call.received else ""
            with suppress(OSError):  # what has come before the end is still received
                await send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})

    async def close(self, call, receive, send, code=1000):
        await send({"type": "websocket.close", "code": code})


# ---- the network ------------------------------------------------------------------------------------------


class Network(MemoryTransport):
    """A transport that behaves as a socket's: bytes wait while nobody reads, and closing waits for the client."""

    def __init__(self, loop):
        super().__init__(loop)
        self.inbound = []  # pieces that the client has sent; None is the end of its side
        self.ended = False  # the client has ended its side, and the protocol was told
        self.lost = False  # connection_lost was called, or is in the next turn of the loop
        self.cut_off = (
            False  # not by the server's close(), but by its abort(), the network, or after eof_received
        )
        self.faults = []

    def arrive(self, piece):
        self.inbound.append(piece)
        self.deliver()

    def deliver(self):
        while self.inbound and self.reading and not (self.closing or self.ended):
            piece = self.inbound.pop(0)
            if piece is None:
                self.ended = True
                if not self.protocol.eof_received():
                    self.close()
                    self.cut_off = True
            else:
                self.protocol.data_received(piece)

    def resume_reading(self):
        super().resume_reading()
        self.loop.call_soon(self.deliver)

    def write(self, data):
        if self.cut_off:
            return
        if self.closing or self.eof_written:
            self.faults.append(f"a write after the end: {bytes(data)!r}")
            return
        super().write(data)
        if self.buffered:
            self.buffered += len(data)

    def close(self):
        if not self.closing:
            self.closing = True
            if not self.buffered:
                self.finish()

    def abort(self):
        self.aborted = True
        self.lose()

    def lose(self, error=None):
        self.closing = self.cut_off = True
        self.finish(error)

    def finish(self, error=None):
        if not self.lost:
            self.lost = True
            self.loop.call_soon(lambda: self.protocol.connection_lost(error))

    @property
    def holds(self):
        """The client takes nothing, of a connection that is not at its end."""
        return self.buffered > 0 and not (self.closing or self.eof_written)

    def hold(self):
        """The client takes nothing any more."""
        if not (self.buffered or self.closing):
            self.buffered = 100_000
            self.protocol.pause_writing()

    def take(self):
        """The client takes all."""
        if self.buffered:
            self.buffered = 0
            if not self.lost:
                self.protocol.resume_writing()
                if self.closing:
                    self.finish()

    def get_extra_info(self, name, default=None):
        return self if name == "socket" else super().get_extra_info(name, default)

    def setsockopt(self, *option):
        """Breaking off resets the connection."""


class NetworkClient(MemoryClient):
    transport_class = Network


class Encounter:
    """A client, whose script this is, and a server. Ends with nothing left of either."""

    def __init__(self, application, **options):
        self.application = application
        self.client = NetworkClient(application, **options)
        self.runtime = self.client.runtime
        self.gave_up = False
        self.transport = application.network = self.client.transport

    @property
    def impatient(self):
        """Whether time was passing: then a connection may end without a reason that shows."""
        return self.client.now > 1000 or self.gave_up

    async def play(self, script, data):
        """Each step of the script is an action and a number of the loop's turns behind it; it feeds the data."""
        for (name, *arguments), turns in script:
            if name == "feed":
                size = arguments[0]
                if data:
                    self.feed(data[:size])
                data = data[size:]
            elif name == "give_up":
                await self.give_up()
            else:
                getattr(self, name)(*arguments)
            await self.client.turns(turns)

    def feed(self, piece):
        self.transport.arrive(piece)

    def eof(self):
        self.transport.arrive(None)

    def lose(self):
        self.transport.lose(ConnectionResetError("lost"))

    def hold(self):
        self.transport.hold()

    def take(self):
        self.transport.take()

    def gate(self):
        self.application.gate.set()
        self.application.gate = asyncio.Event()

    def stop(self):
        self.runtime.stop_accepting()

    async def give_up(self):
        """The end of a stop that took too long; Server has waited a turn of the loop at the least."""
        self.gave_up = True
        self.runtime.stop_accepting()
        await asyncio.sleep(0)
        for call in list(self.runtime.calls):
            call.task.cancel()
        await self.client.turns(3)
        for connection in list(self.runtime.connections):
            connection.give_up()

    def time(self, seconds):
        self.client.now += seconds
        self.runtime.tick()
        self.runtime.tick()
        self.runtime.date = b"Mon, 01 Jan 2024 00:00:00 GMT"

    async def end(self):
        """The client leaves for good. Whoever still waits for it does so in vain."""
        turns = self.client.turns
        self.take()
        self.application.gate.set()
        await turns()
        stuck = [call for call in self.application.running if call.pending]
        assert not stuck, f"send() does not return, and the client has taken everything: {stuck}"
        self.open = self.transport.reading and not (self.transport.inbound or self.transport.closing)
        self.eof()
        await turns()
        if self.transport.ended:
            assert not self.runtime.calls, f"not told that the client has left: {self.runtime.calls}"
        self.ended = self.transport.closing or self.transport.eof_written
        self.lose()
        await turns(40)
        if not self.runtime.stopping:
            other = self.client.connect()
            other.arrive(b"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            await turns()
            assert other.written.startswith(b"HTTP/1.1 200 OK\r\n"), "the server is not healthy afterwards"
            other.lose()
            await turns()
        self.check_nothing_is_left()

    def check_nothing_is_left(self):
        assert not self.transport.faults, self.transport.faults
        assert not self.runtime.connections, f"connections that are left: {self.runtime.connections}"
        assert not self.runtime.calls, f"calls that are left: {self.runtime.calls}"
        if self.runtime.stopping:
            assert self.runtime.quiet.done(), "the server does not learn that all is over"
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert not tasks, f"tasks that are left: {tasks}"
        assert not getattr(self.runtime.loop, "_scheduled", ()), "timers that are left"
        assert not self.application.overlaps, "two requests of one connection were answered at once"


# What a rude application raises by itself.
OWN = (Boom, ASGIError, asyncio.CancelledError, SystemExit, ExceptionGroup)


class Listener(logging.Handler):
    """Hears what the server and the loop complain of."""

    # By a rude application, with its own error or with what it left undone.
    PROVOKED = (
        "%s: the application raised",
        "%s: the application returned %s%s",
        "%s: ignored a message of the application: %s",
        "%s: %s",
    )

    def __init__(self):
        super().__init__(logging.WARNING)
        self.complaints = []
        self.rude = False

    def emit(self, record):
        error = record.exc_info[1] if record.exc_info else None
        own = error is None or isinstance(error, OWN)
        if not (self.rude and own and record.msg in self.PROVOKED):
            self.complaints.append((record.getMessage(), error))

    def on_loop_error(self, loop, context):
        self.complaints.append((context["message"], context.get("exception")))


async def cancel_all():
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@contextmanager
def arena(new_event_loop=asyncio.new_event_loop):
    """`run(coroutine, rude)`: runs one example, and sees that nobody complains."""
    listener, logger = Listener(), logging.getLogger("miniasgi")
    logger.addHandler(listener)
    logger.propagate = False

    def run(coroutine, rude=False):
        listener.complaints.clear()
        listener.rude = rude
        gc.freeze()  # so that the collection has little to look at
        try:
            runner.run(coroutine)
        except BaseException:
            runner.run(cancel_all())  # the next example is not to blame for what this one has left
            raise
        gc.collect()  # a task whose error nobody has looked at says so when it goes
        assert not listener.complaints, f"complaints: {listener.complaints}"

    gc.collect()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.get_loop().set_exception_handler(listener.on_loop_error)
            yield run
    finally:
        gc.unfreeze()
        logger.removeHandler(listener)


# ---- what the client sends: HTTP --------------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
METHODS = [b"GET", b"GET", b"POST", b"POST", b"POST", b"HEAD", b"OPTIONS", b"M-SEARCH"]
TARGETS = [b"/", b"/a%20b?c=d", b"/?", b"//x/../y", b"http://y/z", b"http://y:80?q", b"/" + b"a" * 300]
VERSIONS = [b"HTTP/1.1"] * 24 + [b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2"]
CONTENTS = [
    b"",
    b"h",
    b"hello",
    b"0\r\n\r\n",
    b"\r\n",
    b"\r\n0\r\n\r\n" + SMUGGLED,
    SMUGGLED,
    b"\0\xff\n" * 40,
]
PLAIN_LINES = [
    b"Accept: */*",
    b"X:",
    b"X: \xe9",
    b"X:\t a\tb ",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Content_Length: 5",
    b"Cookie: " + b"c" * 500,
    b"TE: trailers",
]
ODD_LENGTHS = [
    b"5", b"0", b"37", b"5, 5", b"5,5", b"5, 6", b"+5", b"-0", b"-5", b"0x5", b"5 5", b"5_0", b"5.", b"", b",", b"5,",
    b"00005", b"5\x00", b"5\x0b", b"\x0c5", b"5\r", b"5\xb2", b"18446744073709551621", b"9" * 25, b"five", b"5;",
]  # fmt: skip
ODD_CODINGS = [
    b"chunked", b"Chunked", b"CHUNKED", b"identity", b"chunked, chunked", b"chunked, identity", b"identity, chunked",
    b"gzip, chunked", b"gzip", b"xchunked", b"chunkedx", b"x chunked", b"\tchunked", b"\x0bchunked", b"chunked\x0b",
    b"chunked\x00", b"chunked\r", b'"chunked"', b"chunked;q=1", b"chunked,", b",chunked", b"", b"ch\xfcnked",
]  # fmt: skip
ODD_LINES = [
    *(b"Content-Length: " + value for value in ODD_LENGTHS),
    *(b"Transfer-Encoding: " + value for value in ODD_CODINGS),
    b"content-length:5", b"Content-Length : 5", b"Content-Length\t: 5", b" Content-Length: 5", b"Content-Length 5",
    b"Content-Length\x00: 5", b"Content-\rLength: 5", b"\x0bContent-Length: 5", b"X: a\r\n Content-Length: 5",
    b"transfer-encoding:chunked", b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding\xa0: chunked",
    b"X: a\nTransfer-Encoding: chunked", b"X: a\rTransfer-Encoding: chunked", b"X: a\r\n b", b"X: a\r\n\t",
    b"X: a\n\nGET /smuggled HTTP/1.1", b"X: a\x00b", b"X: a\x01b", b"X: a\x7fb", b"X: \x0b", b"X: \x1b[0m",
    b"X", b": x", b"X y: z", b"X\t: z", b"X(: z", b"\xe9: z", b"\x00: z",
    b"Host: y", b"Host:", b"Host: a b", b"Host: x/y", b"Host: x@y", b"Host: x:abc", b"Host: [::1]:80", b"Host: [::1",
    b"Host: x,y", b"Host: x\\y", b"Host : x", b"host: x", b"Host: %zz", b"Host: x:80:90", b"Host: \xe9",
    b"Connection: close", b"Connection: CLOSE", b"Connection: x, close", b"Connection: closed", b"Connection: Content-Length",
    b"Expect: 200-ok", b"Upgrade: websocket", b"Upgrade: WebSocket\r\nConnection: Upgrade",
    b"X: " + b"x" * 3000,
]  # fmt: skip
ODD_REQUEST_LINES = [
    b"GET /", b"GET", b"", b"GET / HTTP/0.9", b"GET / HTTP/1.2", b"GET / HTTP/1.9", b"GET / HTTP/2.0", b"GET / HTTP/3.1",
    b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET /\tHTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"\tGET / HTTP/1.1",
    b"get / HTTP/1.1", b"Get / HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.10", b"GET / HTTP/11", b"GET / HTTP/1,1",
    b"GET / HTTP/1.", b"GET / HTTP/ 1.1", b"GET / HTTPS/1.1", b"GET /a b HTTP/1.1", b"GET /\x00 HTTP/1.1",
    b"GET /\x0b HTTP/1.1", b"GET /\r HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /#x HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http:// HTTP/1.1", b"GET x HTTP/1.1",
    b"GET ftp://x/ HTTP/1.1", b"GET http://u@x/ HTTP/1.1", b"GET HTTP://x HTTP/1.1", b"GET ? HTTP/1.1", b"G@T / HTTP/1.1",
    b"G(T / HTTP/1.1", b"\xe9 / HTTP/1.1", b"HTTP/1.1 200 OK", b"GET /%00%0d%0a%zz HTTP/1.1", b"GET\x00/ HTTP/1.1",
    b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00", b"GET /" + b"a" * 3000 + b" HTTP/1.1",
]  # fmt: skip
ODD_BEFORE = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\x00",
    b"x",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"0\r\n\r\n",
]
ODD_ENDS = [
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"",
    b" \r\n",
    b"\x00\r\n",
    b"\x0b",
    b"\r\n\n",
    b"\n\n",
    b"\r\n\r\n",
]
# Of a chunk of five bytes, for those who can read them.
ODD_SIZES = [
    b"+5", b"-5", b"0x5", b"0X5", b" 5", b"5 ", b"5\t", b"5 ;a", b"5;", b"5;a", b"5;a=b", b'5;a="b;c"', b"5; a", b"5;a\rb",
    b"5;a\x00b", b"5;\x0b", b"5;a\nb", b"5\nb", b"5\x0b", b"5\x00", b"", b"g", b"5g", b"5_0", b"5.0", b"5,", b"05",
    b"0000000000000005", b"00000000000000005", b"0" * 19 + b"5", b"0" * 20 + b"5", b"F" * 16, b"F" * 17, b"FFFFFFFF00000005",
    b"100000005", b"10000000000000005", b"5;" + b"e" * 3000, b"5\r", b"\r5", b"5;\xe9", b"4", b"6", b"3", b"7", b"0", b"00",
]  # fmt: skip
ODD_TRAILERS = [
    b"T: x", b"T:", b"T", b": x", b" T: x", b"T: x\r\n y", b"T : x", b"T: \x01", b"T: a\x00", b"T: a\rb", b"T: a\nU: b",
    b"Content-Length: 5", b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Host: y",
    b"Connection: close", b"T: " + b"t" * 3000,
]  # fmt: skip
ODD_BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"5",
    b"\x0b",
    b"\xff",
    b"a",
    b"\x1c",
    b"\x85",
]


def one_in(count):
    return st.sampled_from([True] + [False] * (count - 1))


@st.composite
def requests(draw, odd):
    """One request; with `odd`, there is something wrong or strange in it."""
    twist = draw(st.sampled_from(TWISTS)) if odd else None
    line = b" ".join(draw(st.tuples(*map(st.sampled_from, (METHODS, TARGETS, VERSIONS)))))
    lines = [b"Host: x", *draw(st.lists(st.sampled_from(PLAIN_LINES), max_size=2))]
    framings = ["", "", "length", "chunked", "chunked"]
    if twist in (odd_size, odd_chunk_end, odd_trailer, odd_chunk_data):
        framings = ["chunked"]
    match draw(st.sampled_from(framings)):
        case "":
            body = []
        case "length":
            content = draw(st.sampled_from(CONTENTS))
            lines.append(b"Content-Length: %d" % len(content))
            body = [content]
        case "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            contents = draw(st.lists(st.sampled_from(CONTENTS[1:]), max_size=3))
            body = list(chain.from_iterable((b"%x" % len(each), b"\r\n", each, b"\r\n") for each in contents))
            body += [b"0", b"\r\n", b"\r\n"]
    if draw(one_in(3)):
        lines.append(lines.pop(0))
    head = [line, b"\r\n", *chain.from_iterable((each, b"\r\n") for each in lines), b"\r\n"]
    if twist is not None:
        twist(draw, head, body)
    return b"".join((*head, *body))


# Each of these makes something odd of a request: its head and body are lists of pieces.


def odd_line(draw, head, body):
    at = draw(st.integers(1, len(head) // 2)) * 2
    head[at:at] = [draw(st.sampled_from(ODD_LINES)), b"\r\n"]


def odd_framing(draw, head, body):
    name, values = draw(
        st.sampled_from([(b"Content-Length: ", ODD_LENGTHS), (b"Transfer-Encoding: ", ODD_CODINGS)])
    )
    at = draw(st.integers(1, len(head) // 2)) * 2
    head[at:at] = [name + draw(st.sampled_from(values)), b"\r\n"]


def odd_framings(draw, head, body):
    odd_framing(draw, head, body)
    odd_line(draw, head, body)


def odd_request_line(draw, head, body):
    head[0] = draw(st.sampled_from(ODD_REQUEST_LINES))


def odd_before(draw, head, body):
    head.insert(0, draw(st.sampled_from(ODD_BEFORE)))


def odd_end(draw, head, body):
    at = draw(st.integers(0, (len(head) - 1) // 2))
    head[min(2 * at + 1, len(head) - 1)] = draw(st.sampled_from(ODD_ENDS))


def missing_line(draw, head, body):
    at = draw(st.integers(1, (len(head) - 3) // 2)) * 2
    del head[at : at + 2]


def double_line(draw, head, body):
    at = draw(st.integers(1, (len(head) - 3) // 2)) * 2
    head[at:at] = head[at : at + 2]


def odd_version(draw, head, body):
    version = draw(st.sampled_from([b"1.0", b"1.2", b"2.0"]))
    head[0] = head[0][:-3] + version


def odd_size(draw, head, body):
    odd_chunk = [draw(st.sampled_from(ODD_SIZES)), b"\r\n", b"hello", b"\r\n"]
    at = draw(st.integers(0, (len(body) - 3) // 4)) * 4
    body[at:at] = odd_chunk
    if draw(one_in(4)):  # of the last chunk as well
        body[-3] = draw(st.sampled_from([b"00", b"0;a=b", b"0 ", b"-0", b"0x0", b"0" * 17, b"0\n", b""]))


def odd_chunk_end(draw, head, body):
    at = draw(st.integers(0, (len(body) - 2) // 2)) * 2 + 1
    body[at] = draw(st.sampled_from(ODD_ENDS))


def odd_chunk_data(draw, head, body):
    at = draw(st.integers(0, (len(body) - 3) // 4)) * 4
    body[at:at] = [
        b"5",
        b"\r\n",
        draw(st.sampled_from([b"hell", b"hello!", b"hello\r", b"hel\r\n", b""])),
        b"\r\n",
    ]


def odd_trailer(draw, head, body):
    body[-1:-1] = [draw(st.sampled_from(ODD_TRAILERS)), b"\r\n"]


def odd_length_of_body(draw, head, body):
    if draw(one_in(2)):
        body.append(draw(st.sampled_from(CONTENTS)))
    else:
        body[-1:] = []


TWISTS = [
    odd_line, odd_line, odd_framing, odd_framing, odd_framings, odd_request_line, odd_before, odd_end, missing_line, double_line,
    odd_version, odd_size, odd_size, odd_chunk_end, odd_chunk_data, odd_trailer, odd_length_of_body,
]  # fmt: skip


@st.composite
def mutations(draw, data, odd_bytes):
    """The data with some bytes in it put in, taken out or replaced."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["insert", "delete", "replace"]))
        new = b"" if how == "delete" else draw(st.sampled_from(odd_bytes))
        data = data[:at] + new + data[at + (how != "insert") :]
    return data


@st.composite
def request_streams(draw):
    """Some requests behind one another, cut off at the end now and then."""
    before, after = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    odd = draw(st.sampled_from([True, True, True, False]))
    data = b"".join(draw(requests(each)) for each in (*(False,) * before, odd, *(False,) * after))
    data = draw(mutations(data, ODD_BYTES))
    return data[: draw(st.integers(1, len(data)))] if draw(one_in(8)) else data


# Sizes of the pieces that come one after another, over and over.
CUTS = st.lists(st.sampled_from([1, 1, 2, 3, 5, 16, 17, 40, 64, 100, 1000]), min_size=1, max_size=6)


def cut(data, sizes):
    pieces = []
    for size in chain.from_iterable(repeat(sizes)):
        if not data:
            return pieces
        pieces.append(data[:size])
        data = data[size:]
    raise AssertionError("unreachable")


# ---- HTTP, with an application that does as it should -----------------------------------------------------


class Met(NamedTuple):
    """What came of an encounter of a polite client with a polite server."""

    calls: list[Call]
    written: bytes
    closed: bool  # by the server, before the client ended its side
    ended: bool  # by the server, before the client left for good

    @property
    def answers(self):
        answers, frames = read_answers(self.written, [call.method for call in self.calls], self.ended)
        assert not frames
        return [answer for answer in answers if answer.status]  # more than a 100 Continue

    @property
    def seen(self):
        """The calls that had a whole request."""
        return [call for call in self.calls if call.whole or call.websocket]


async def meet(pieces, *programs, **options):
    """The client sends its pieces, waits for what comes, and leaves."""
    encounter = Encounter(Application(*programs), **options)
    turns = encounter.client.turns
    for piece in pieces:
        encounter.feed(piece)
        await turns(2)
    await turns(40)
    transport = encounter.transport
    closed = transport.closing or transport.eof_written
    await encounter.end()
    return Met(encounter.application.calls, transport.written, closed, encounter.ended)


POLITE = [
    [("unless_websocket", program)]
    for program in (
        [("echo",)],
        [("echo",), ("turns", 2)],
        [("turns", 1), ("echo",), ("wait_for_end",)],
    )
]


def check_calls(calls, reading):
    """What the application saw is what is there without a doubt."""
    assert len(calls) <= len(reading.requests), (
        f"the application saw {calls[len(reading.requests) :]} in {reading}"
    )
    for call, asked in zip(calls, reading.requests, strict=False):
        assert (call.method, call.target, call.websocket) == (asked.method, asked.target, asked.websocket)
        assert asked.body.startswith(call.body), f"a body of {asked.body!r} reached it as {call.body!r}"
        if call.whole:
            assert asked.whole, "a body that is not whole came to an end"
            assert len(call.body) == len(asked.body), "the end of a body came early"


def check_same(one, other):
    """How the bytes are cut changes nothing.

    But for two things: whether the client is asked for its body depends on whether the application has to wait
    for it, and in which words a request is refused may depend on how much of it there is.
    """
    assert one.closed == other.closed
    for call, again in zip(one.seen, other.seen, strict=True):
        assert (call.method, call.target, call.headers) == (again.method, again.target, again.headers)
        assert call.body == again.body
    for answer, again in zip(one.answers, other.answers, strict=True):
        assert answer.status == again.status
        if answer.status < 400:
            assert answer == again


def check_polite(met, reading):
    """The application answers all that it sees whole; what the server refuses is refused for a reason."""
    check_calls(met.calls, reading)
    answers = met.answers
    done = met.seen
    for call, answer in zip(done, answers, strict=False):
        if call.websocket:
            assert answer.status == 403
        else:
            body = b"" if call.method == b"HEAD" else call.body
            assert (answer.status, answer.body, answer.whole) == (200, body, True), f"{answer} to {call}"
    assert len(answers) >= len(done), f"no answer to {done[len(answers) :]}"
    refusals = answers[len(done) :]
    assert len(refusals) <= 1, f"more than one refusal: {refusals}"
    whole = [asked for asked in reading.requests if asked.whole]
    if refusals:
        assert met.closed, "it was refused, and the connection is open"
        status = refusals[0].status
        if len(done) < len(whole):
            assert whole[len(done)].notes, f"{whole[len(done)]} was refused with {status}"
            assert status in ANY_REFUSAL
        else:
            partial = reading.requests[len(whole) :]
            notes = frozenset().union(*(asked.notes for asked in partial))
            assert notes or reading.end == "flaw" or reading.undecided, f"refused with {status}: {reading}"
            assert status in (ANY_REFUSAL if notes else reading.statuses), f"{status} for {reading.flaws}"
    else:
        assert len(done) == len(whole), f"{whole[len(done) :]} got no answer"
        if reading.end == "flaw" and not reading.undecided:
            raise AssertionError(f"{reading.flaws} was not refused")
        if reading.end == "last":
            assert met.closed, "the connection is open behind the last request"


class Share:
    """How many of the examples were worth something: a fuzz of nothing but refusals would see little."""

    def __init__(self):
        self.all = self.good = 0

    def count(self, good):
        self.all += 1
        self.good += bool(good)

    def check(self, least):
        assert self.good >= least * self.all, f"only {self.good} of {self.all} examples say something"


def test_the_application_sees_the_requests_that_are_there_however_they_are_cut():
    answered, refused = Share(), Share()

    async def both(data, sizes, program):
        reading = read_requests(data)
        whole, pieces = await meet([data], program), await meet(cut(data, sizes), program)
        for met in (whole, pieces):
            check_polite(met, reading)
        check_same(whole, pieces)
        answered.count(len(whole.seen) > 1)
        refused.count(b"HTTP/1.1 400" in whole.written)

    with arena() as run:

        @fuzz(300)
        @given(request_streams(), CUTS, st.sampled_from(POLITE))
        def examples(data, sizes, program):
            run(both(data, sizes, program))

        examples()
    answered.check(0.2)
    refused.check(0.1)


# ---- HTTP, whatever happens meanwhile and whatever the application does -----------------------------------

ANSWERS = [
    ("answer", 200, (b"hello",), True),
    ("answer", 200, (), True),
    ("answer", 200, (b"a", b"", b"bc"), False),
    ("answer", 404, (b"x" * 70_000, b"y"), False),
    ("answer", 204, (), False),
    ("answer", 304, (b"not to be sent",), False),
    ("answer", 500, (b"own",), True),
    ("echo",),
]
READS = [("receive",), ("receive", 2), ("read",)]
PAUSES = [("turns", 1), ("turns", 5), ("wait",)]
ENDINGS = [("wait_for_end",), ("receive",), *PAUSES]
WRONG = [
    {"type": "http.response.body", "body": "text"},
    {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]},
    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"x")]},
    {"type": "http.response.start", "status": 99},
    {"type": "http.response.trailers", "headers": []},
    {"type": "websocket.accept"},
    {"type": "no such thing"},
    {},
]
RUDE_STEPS = [
    *ANSWERS, *READS, *PAUSES, *ENDINGS, ("hint",), ("leave",),
    *(("say", message) for message in WRONG),
    ("start", 200, ()), ("start", 200, ((b"content-length", b"3"),)), ("start", 200, ((b"connection", b"close"),)),
    ("part", b"abc", True), ("part", b"", True), ("part", b"", False), ("part", b"abcd", False),
    ("fail", Boom), ("fail", asyncio.CancelledError), ("fail", SystemExit), ("fail", ExceptionGroup, "", [Boom()]),
]  # fmt: skip


def some(steps, most=1):
    return st.lists(st.sampled_from(steps), max_size=most)


POLITE_PROGRAMS = st.tuples(
    some(PAUSES), some(READS), some([*PAUSES, ("hint",)]), st.sampled_from(ANSWERS).map(lambda step: [step]), some(ENDINGS)
).map(lambda parts: list(chain.from_iterable(parts)))  # fmt: skip
RUDE_PROGRAMS = st.lists(
    st.sampled_from(RUDE_STEPS) | st.sampled_from(RUDE_STEPS).map(lambda step: ("careless", step)), max_size=5
)
TIMES = [1, 4, 6, 11, 31, 61, 130]
ACTIONS = [
    *(("feed", size) for size in (1, 2, 10, 17, 30, 60, 100, 1000) * 4),
    ("eof",), ("lose",), *[("hold",)] * 5, *[("take",)] * 3, ("gate",), ("gate",), ("stop",), ("give_up",),
    *(("time", seconds) for seconds in TIMES),
]  # fmt: skip
CALM_ACTIONS = [action for action in ACTIONS if action[0] in ("feed", "hold", "take", "gate")]


def scripts(actions):
    steps = st.tuples(st.sampled_from(actions), st.sampled_from([0, 0, 1, 2, 3, 20]))
    return st.lists(steps, min_size=1, max_size=14).map(lambda script: [*script, (("feed", 10**6), 20)])


SCRIPTS = scripts(ACTIONS) | scripts(CALM_ACTIONS)


def check_answers(encounter):
    """What the client was sent is a valid stream of answers, each of them the application's or an error."""
    transport, calls = encounter.transport, encounter.application.calls
    answers, _ = read_answers(transport.written, [call.method for call in calls], encounter.ended)
    answers = [answer for answer in answers if answer.status]
    complete = [call for call in calls if call.complete or (call.websocket and call.disconnects)]
    assert len(answers) >= len([call for call in calls if call.complete]), f"{answers} to {complete}"
    assert len(answers) <= len(calls) + 1, f"more answers than requests: {answers} to {calls}"
    for call, answer in zip(calls, answers, strict=False):
        check_answer(call, answer, transport)
    for answer in answers[len(calls) :]:
        assert answer.status >= 400
    assert all(answer.whole for answer in answers[:-1])
    if transport.aborted and not encounter.impatient:
        assert 0 < len(answers) <= len(calls), "broken off without an answer of the application's"
        assert not calls[len(answers) - 1].complete, "broken off behind an answer"


def check_answer(call, answer, transport):
    text = f"{answer} to {call}"
    if call.websocket:
        assert answer.status >= 400, text
        return
    sent = maybe = call.sent
    if call.pending and isinstance(call.pending.get("body"), bytes):
        maybe += call.pending["body"]
    if call.method == b"HEAD" or call.status in (204, 304):
        sent = maybe = b""
    if call.complete:
        assert answer.status == call.status, text
        assert answer.body == sent, text
        assert answer.whole, text
    elif answer.status != call.status or not maybe.startswith(answer.body):
        assert answer.status in (400, 408, 431, 500, 501, 503), text  # in the server's own name
        assert not (call.status and call.sent), f"the server answers in the middle of an answer: {text}"
    elif answer.whole and not is_framed(answer):
        assert transport.cut_off, f"a cut answer looks whole: {text}"
    elif answer.whole:  # all that it had promised, or the last part while send() had not returned yet
        has_length = any(name == b"content-length" for name, _ in answer.headers)
        assert has_length or (call.pending and not call.pending["more_body"]), text


def is_framed(answer):
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in answer.headers)


def test_whatever_happens_meanwhile_nothing_is_left_and_the_next_client_is_served():
    answered, refused = Share(), Share()

    async def one(data, script, programs):
        reading = read_requests(data)
        encounter = Encounter(Application(*([("unless_websocket", program)] for program in programs)))
        await encounter.play(script, data)
        await encounter.end()
        check_calls(encounter.application.calls, reading)
        check_answers(encounter)
        answered.count(any(call.complete for call in encounter.application.calls))
        refused.count(b"HTTP/1.1 4" in encounter.transport.written)

    with arena() as run:

        @fuzz(400)
        @given(
            request_streams(),
            SCRIPTS,
            st.lists(POLITE_PROGRAMS, min_size=1, max_size=3).map(lambda programs: (False, programs))
            | st.lists(RUDE_PROGRAMS, min_size=1, max_size=3).map(lambda programs: (True, programs)),
        )
        def examples(data, script, programs):
            rude, programs = programs
            run(one(data, script, programs), rude)

        examples()
    answered.check(0.2)
    refused.check(0.02)


# ---- what the client sends: WebSocket ---------------------------------------------------------------------

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
OFFERS = [
    None,
    None,
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    b"permessage-deflate; client_max_window_bits=9; server_max_window_bits=10",
    b"x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
]
MAX_SIZE = 1000  # of a message


def handshake(offer):
    lines = [
        b"GET /ws?a=b HTTP/1.1", b"Host: x", b"Connection: Upgrade", b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY,
    ]  # fmt: skip
    if offer is not None:
        lines.append(b"Sec-WebSocket-Extensions: " + offer)
    return b"\r\n".join((*lines, b"", b""))


def encoded(payload, opcode, *, fin=1, rsv=0, mask=b"\x01\xa2\x03\xf4", size=None, form=None):
    """A frame of the client. `size` and `form` (7, 16 or 64 bits) where its length is not as it should be."""
    size = len(payload) if size is None else size
    form = form or (7 if size < 126 else 16 if size < 2**16 else 64)
    second = 0x80 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    match form:
        case 7:
            head += bytes([second | size])
        case 16:
            head += bytes([second | 126]) + struct.pack("!H", size)
        case 64:
            head += bytes([second | 127]) + struct.pack("!Q", size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


TEXTS = [
    b"",
    b"hi",
    "gr\u00fc\u00df \u20ac \U0001f600".encode(),
    b"a" * 125,
    b"a" * 126,
    b"b" * 700,
    b'{"type": "x"}',
]
BROKEN_TEXTS = [
    b"\xff", b"\xc3", b"\xe2\x82", b"a\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80", b"ok\xc3(",
    b"a" * 999 + b"\xff", b"a" * 1000, b"a" * 1001, b"a" * 1000 + b"\xff",
]  # fmt: skip
DATAS = [b"", b"\x00", bytes(range(256)), b"\xff" * 125]
PINGS = [b"", b"p", b"\xff" * 125]
CLOSES = [
    b"",
    b"\x03\xe8",
    b"\x03\xe8bye",
    b"\x03\xe9",
    b"\x0b\xb8",
    b"\x13\x87" + b"r" * 123,
    b"\x03\xf4\xc3\xbc",
]
BROKEN_CLOSES = [
    b"\x03", b"\x03\xe7", b"\x03\xec", b"\x03\xed", b"\x03\xee", b"\x03\xf7", b"\x03\xf8", b"\x0b\xb7", b"\x13\x88",
    b"\xff\xff", b"\x00\x00", b"\x03\xe8\xff", b"\x03\xe8\xc3",
]  # fmt: skip
# Whole frames, each against a rule.
BROKEN_FRAMES = [
    *(encoded(b"x", opcode) for opcode in (3, 7, 11, 15)),
    *(encoded(b"x", 1, rsv=rsv) for rsv in (1, 2, 3, 4, 5, 6, 7)),
    *(encoded(b"x", opcode, rsv=4) for opcode in (0, 8, 9, 10)),
    encoded(b"x", 9, rsv=1), encoded(b"hi", 1, mask=b""), encoded(b"", 9, mask=b""), encoded(b"x", 0),
    encoded(b"x", 9, fin=0), encoded(b"\x03\xe8", 8, fin=0), encoded(b"x" * 126, 9), encoded(b"x" * 200, 8),
    encoded(b"x" * 10, 10, form=16), encoded(b"hi", 1, form=16), encoded(b"hi", 2, form=64), encoded(b"x" * 200, 1, form=64),
    encoded(b"", 1, size=2**63, form=64), encoded(b"", 2, size=2**64 - 1, form=64), encoded(b"x", 2, size=2**40, form=64),
    encoded(b"x", 1, size=2**63 - 1, form=64),
]  # fmt: skip
# Texts that are compressed as a stream of their own, whose last block is there or not.
STREAM_ENDS = [
    b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    b"\xf3\x48\xcd\xc9\xc9\x07\x00",
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
]
WS_BYTES = [
    b"\x81",
    b"\x80",
    b"\x01",
    b"\x00",
    b"\x88",
    b"\x89",
    b"\x82",
    b"\xc1",
    b"\xff",
    b"\x7f",
    b"\xfe",
    b"a",
]


class Deflater:
    """What a client compresses, with its context, if it keeps one."""

    def __init__(self, offer):
        self.keep = b"client_no_context_takeover" not in (offer or b"")
        self.deflate = None

    def __call__(self, payload):
        if self.deflate is None or not self.keep:
            self.deflate = zlib.compressobj(wbits=-9)
        return (self.deflate.compress(payload) + self.deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


@st.composite
def frames(draw, deflater, kind):
    """The frames of a message, a control frame, or something odd; as bytes."""
    if kind == "ping":
        return encoded(draw(st.sampled_from(PINGS)), draw(st.sampled_from([9, 9, 10])))
    if kind == "close":
        return encoded(draw(st.sampled_from(CLOSES)), 8)
    if kind == "broken close":
        return encoded(draw(st.sampled_from(BROKEN_CLOSES)), 8)
    if kind == "broken frame":
        return draw(st.sampled_from(BROKEN_FRAMES))
    if kind == "fake":  # marked as compressed, and it is not
        return encoded(draw(st.sampled_from([*TEXTS, *DATAS, b"\x03\x00", *STREAM_ENDS])), 1, rsv=4)
    opcode = draw(st.sampled_from([1, 2]))
    contents = BROKEN_TEXTS if kind == "broken message" else TEXTS if opcode == 1 else DATAS
    payload, rsv = draw(st.sampled_from(contents)), 0
    if kind == "bomb":
        payload, rsv = deflater(draw(st.sampled_from([b"a" * 1001, b"a" * 100_000]))), 4
    elif deflater is not None and draw(st.booleans()):
        payload, rsv = deflater(payload), 4
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    parts = [payload[i:j] for i, j in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    data = b""
    for number, part in enumerate(parts):
        fin = number == len(parts) - 1
        data += encoded(part, opcode if number == 0 else 0, fin=fin, rsv=rsv if number == 0 else 0)
        if not fin and draw(one_in(3)):
            data += encoded(b"between", draw(st.sampled_from([9, 9, 10])))
    return data


@st.composite
def frame_streams(draw):
    """(offer of extensions, bytes behind the handshake)."""
    offer = draw(st.sampled_from(OFFERS))
    deflater = None if offer is None else Deflater(offer)
    plain = ["message"] * 4 + ["ping"]
    odd = ["broken message", "broken close", "broken frame", "close", "close", "fake"]
    if deflater is not None:
        odd += ["bomb", "fake"]
    kinds = draw(st.lists(st.sampled_from(plain), max_size=5))
    if draw(st.sampled_from([True, True, False])):
        kinds += [draw(st.sampled_from(odd)), *draw(st.lists(st.sampled_from([*plain, *odd]), max_size=2))]
    data = b"".join(draw(frames(deflater, kind)) for kind in kinds)
    return offer, draw(mutations(data, WS_BYTES))


# ---- WebSocket --------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What the client of a WebSocket was told."""

    status: int
    frames: Frames


def read_told(written, ended):
    answers, rest = read_answers(written, [b"GET"], ended)
    assert len(answers) <= 1
    if not answers or answers[0].status != 101:
        return Told(answers[0].status if answers else 0, FrameReader(masked=False).read(b""))
    _, _, extensions = agreed_deflate(answers[0].headers)
    return Told(101, read_server_frames(rest, extensions))


def read_client_frames(written, data):
    """What is in the client's bytes, with the extension that the server has agreed to."""
    bits, keep = None, True
    if written.startswith(b"HTTP/1.1 101"):
        answers, _ = read_answers(written, [b"GET"], False)
        bits, keep, _ = agreed_deflate(answers[0].headers)
    return FrameReader(masked=True, deflate=bits, keep=keep, max_size=MAX_SIZE).read(data)


def is_prefix(some, of):
    return list(of[: len(some)]) == list(some)


def check_mirror(met, data):
    """An application that sends all messages back, and a client that sends its bytes and then leaves."""
    (call,) = met.calls
    there = read_client_frames(met.written, data)
    *messages, code = call.received
    assert messages == there.messages, f"{messages} in {there}"
    if there.failure:
        assert code in there.failure, f"{code} for {there}"
    else:
        assert code == (1006 if there.code is None else there.code), f"{code} for {there}"
    told = read_told(met.written, met.ended)
    assert told.status == 101
    assert told.frames.pongs == there.pings
    over = there.code is not None or there.failure
    assert is_prefix(told.frames.messages, messages)
    if not over:
        assert told.frames.messages == messages
        assert told.frames.code is None
    else:  # what was not sent back by then, cannot be
        assert told.frames.code == code
    assert met.closed == bool(over)
    return there


def test_a_websocket_carries_the_messages_that_are_there_however_they_are_cut():
    carried, failed = Share(), Share()

    async def both(offer, data, sizes, program):
        stream = handshake(offer) + data
        for pieces in ([stream], cut(stream, sizes)):
            met = await meet(pieces, program, ws_max_size=MAX_SIZE)
            there = check_mirror(met, data)
        carried.count(there.messages)
        failed.count(there.failure)

    with arena() as run:

        @fuzz(250)
        @given(
            frame_streams(),
            CUTS,
            st.sampled_from([[("accept",), ("mirror",)], [("turns", 3), ("accept",), ("mirror",)]]),
        )
        def examples(stream, sizes, program):
            run(both(*stream, sizes, program))

        examples()
    carried.check(0.4)
    failed.check(0.2)


WS_STEPS = [
    ("accept",), ("accept",), ("accept",), ("mirror",), ("mirror", 1), ("mirror", 3), ("receive",), ("receive", 5),
    ("close",), ("close", 4000), *PAUSES, *ENDINGS, ("leave",), ("answer", 404, (b"no",), True), ("answer", 200, (b"a", b"b"), False),
    ("say", {"type": "websocket.accept"}), ("say", {"type": "websocket.send", "text": "a" * 3000}),
    ("say", {"type": "websocket.send", "bytes": b"b"}), ("say", {"type": "websocket.send", "text": None}),
    ("say", {"type": "websocket.send", "bytes": "text"}), ("say", {"type": "websocket.close", "code": 1006}),
    ("say", {"type": "websocket.accept", "subprotocol": "not offered"}), ("say", {"type": "http.response.body"}),
    ("say", {"type": "websocket.accept", "headers": [(b"a", b"b\nc")]}), ("say", {}),
    ("start", 403, ()), ("part", b"abc", True), ("part", b"", False),
    ("fail", Boom), ("fail", asyncio.CancelledError), ("fail", SystemExit),
]  # fmt: skip
POLITE_WS_PROGRAMS = st.tuples(
    some(PAUSES),
    st.just([("accept",)]),
    some([*PAUSES, ("mirror", 2), ("receive", 2)]),
    st.sampled_from(
        [
            [("mirror",)],
            [("mirror",)],
            [("close",), ("wait_for_end",)],
            [("wait_for_end",)],
            [("turns", 3)],
            [("wait",)],
        ]
    ),
).map(lambda parts: list(chain.from_iterable(parts)))
RUDE_WS_PROGRAMS = st.lists(
    st.sampled_from(WS_STEPS) | st.sampled_from(WS_STEPS).map(lambda step: ("careless", step)), max_size=6
)
# What an application may be told at the end, besides what the client has said: that it is lost, that the
# server stops, fails, has no pong, or has closed by itself.
ENDS = {1000, 1006, 1011, 1012, 4000}


def check_websocket(encounter, data):
    """Whatever happened, what the application and the client were told is true."""
    written = encounter.transport.written
    there = read_client_frames(written, data)
    told = read_told(written, encounter.ended)
    for call in encounter.application.calls:
        *messages, last = call.received or [None]
        if not isinstance(last, int):
            messages = [each for each in call.received if each is not None]
        else:
            assert last in ENDS | there.failure | {there.code}, f"{last} for {there}"
        assert is_prefix(messages, there.messages), f"{messages} in {there}"
        assert (told.status == 101) >= call.accepted
        pending = call.pending or {}
        maybe = [*call.messages, pending.get("text", pending.get("bytes"))]
        assert is_prefix(call.messages, told.frames.messages)
        assert is_prefix(told.frames.messages, maybe), f"{told.frames.messages} is more than {maybe}"
    assert set(told.frames.pongs) <= set(there.pings)
    if encounter.open and told.status == 101 and told.frames.code is None:
        assert told.frames.pongs[-1:] == there.pings[-1:], "the last ping was not answered"
    assert told.frames.code in ENDS | there.failure | {there.code, None}
    if told.frames.code is not None and told.frames.code == there.code:
        return
    assert told.status in (0, 101, 403, 404, 200, 500, 503), told


def test_whatever_happens_meanwhile_a_websocket_tells_both_sides_the_truth():
    accepted, closed = Share(), Share()

    async def one(offer, data, script, programs):
        encounter = Encounter(Application(*programs), ws_max_size=MAX_SIZE)
        await encounter.play(script, handshake(offer) + data)
        await encounter.end()
        check_websocket(encounter, data)
        accepted.count(any(call.accepted for call in encounter.application.calls))
        closed.count(any(len(call.received) > 1 for call in encounter.application.calls))

    with arena() as run:

        @fuzz(400)
        @given(
            frame_streams(),
            SCRIPTS.map(lambda script: [(("feed", 300), 3), *script]),
            POLITE_WS_PROGRAMS.map(lambda program: (False, [program]))
            | RUDE_WS_PROGRAMS.map(lambda program: (True, [program])),
        )
        def examples(stream, script, programs):
            rude, programs = programs
            run(one(*stream, script, programs), rude)

        examples()
    accepted.check(0.3)
    closed.check(0.2)


# ---- over real sockets ------------------------------------------------------------------------------------


async def converse(server, pieces):
    """What the client reads that sends its pieces, ends its side, and waits for the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_socket_carries_what_the_memory_does_and_no_descriptor_is_left(new_event_loop):
    """So that what is found out above counts for both loops, and for a client that ends its side early."""
    application = Application([("unless_websocket", [("echo",)])])
    config = Config(port=0, access_log=False, log_level="critical")

    met = []

    async def in_memory(data):
        met[:] = [await meet([data], *application.programs)]

    async def over_socket(server, data, sizes):
        application.calls.clear()
        read = await converse(server, cut(data, sizes))
        calls, (expected,) = list(application.calls), met
        check_calls(calls, read_requests(data))
        for answer, wanted in zip(Met(calls, read, True, True).answers, expected.answers, strict=True):
            assert answer.status == wanted.status, f"{answer} and not {wanted}"
            assert answer.status >= 400 or answer.body == wanted.body

    with arena() as run_in_memory, arena(new_event_loop) as run:
        server = Server(application, config)
        run(server.__aenter__())

        @fuzz(60)
        @given(request_streams(), CUTS)
        def examples(data, sizes):
            # A client that sends on behind its last request may lose the answer to a reset.
            assume(read_requests(data).end != "last")
            run_in_memory(in_memory(data))
            run(over_socket(server, data, sizes))

        try:
            with descriptors_stay():
                examples()
                run(settled(server))
        finally:
            run(server.__aexit__(None, None, None))


async def settled(server):
    """Return when the server has seen that its clients are gone, and its loop has closed their sockets."""
    for _ in range(10_000):
        if not server.runtime.connections:
            break
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)


@contextmanager
def descriptors_stay():
    before = descriptors()
    yield
    assert descriptors() == before, "descriptors are left"


def test_each_odd_line_beside_each_framing():
    """The most dangerous pairs are left to no chance: what makes two requests of one, or one of two."""
    framings = [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
    bodies = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"]

    async def one(data):
        check_polite(await meet([data], POLITE[0]), read_requests(data))

    with arena() as run:
        for line in ODD_LINES:
            for framing, body in zip(framings, bodies, strict=True):
                for lines in (line + b"\r\n" + framing, framing + line + b"\r\n"):
                    run(one(b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n" + body + SMUGGLED))
