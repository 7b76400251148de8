"""Strict readers: what bytes hold of HTTP/1.1 requests and WebSocket frames, and what the server has answered.

Two say what is right in what a client sends, for the fuzz. They are simple, have the whole of the bytes, know
nothing of h11 and wsproto, and stop at the first thing that two readers could take in two ways. The server may
be stricter than they are, where a note says so; never laxer. What the server writes is read by h11's and
wsproto's clients, and its frames by the strict reader as well.
"""

import codecs
import re
import zlib
from contextlib import suppress
from itertools import chain, repeat
from typing import NamedTuple

import h11
from wsproto import events
from wsproto.connection import Connection as WsprotoConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate

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
        if flaws:  # one is enough, and it may be this
            flaw("a method in lower case", 501)
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
        if self.deflate is not None and not control and (opcode == 0) != (self.kind is not None):
            raise Broken(1002)  # a server has to know by the header whether to inflate
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
