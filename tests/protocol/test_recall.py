"""With recall and without it, the same bytes come to the same: all that the application and the client see.

The fuzz plays each encounter twice and compares. That it would find what could go wrong is shown by the mutants:
each takes one condition out of the code, and has to be found.

For more and new examples: `MINIASGI_FUZZ_EXAMPLES=20000 pytest tests/protocol/test_recall.py`.
"""

import functools
import re
from http import HTTPStatus

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniasgi import Config
from miniasgi.protocol import http1, intake, recall
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.intake import Intake
from miniasgi.protocol.recall import (
    LONGEST_BLOCK,
    LONGEST_LINE,
    MOST_BLOCKS,
    MOST_LINES,
    Known,
    PlainAnswer,
    PlainRequest,
    Recall,
)
from miniasgi.protocol.scope import read_request
from miniasgi.protocol.strict import check_request
from tests.memory import DATE, MemoryClient
from tests.protocol.client_bytes import ODD_BYTES, mutations, one_in, requests
from tests.protocol.test_fuzz import ANSWERS, POLITE_PROGRAMS, RUDE_PROGRAMS, SCRIPTS, Share, fuzz
from tests.protocol.twice import AT_ONCE, changed, compare, instead, is_found, outcomes, stage

CONFIG = Config()
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

# ---- one head, one answer: every byte in every place --------------------------------------------------------


def as_h11_reads(head, config=CONFIG):
    """(method, target, headers, length) as the road has it without recall; None where it refuses."""
    intake, conn = Intake(config), h11.Connection(h11.SERVER)
    intake.receive(head)
    try:
        conn.receive_data(intake.piece())
        request = conn.next_event()
        fields = dict(request.headers)
        check_request(request, fields)
        intake.expect_body(fields)
        place, headers = read_request(request, config.root_path)
    except (ValueError, h11.RemoteProtocolError):
        return None
    return request.method, request.target, headers, intake.left, place


def plain(head, memory=None, config=CONFIG):
    """The same, as recall has it."""
    found = (memory or Recall(config)).request(head, Known())
    if found is None:
        return None
    return found.method, found.target, list(found.headers), found.length, found.place


HEAD = b"GET /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\nX-y:  z \r\n\r\n"


def with_each_byte(data):
    for at in range(len(data)):
        for byte in range(256):
            yield data[:at] + bytes([byte]) + data[at + 1 :]
            yield data[:at] + bytes([byte]) + data[at:]


def test_each_byte_in_each_place_of_a_head_is_read_as_without_recall():
    memory = Recall(CONFIG)
    found = 0
    for head in with_each_byte(HEAD):
        if head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1:
            known = plain(head, memory)
            if known is not None:
                assert known == as_h11_reads(head), head
                assert plain(head, memory) == known, "at the second time"
                found += 1
    assert found > 5000


def as_h11_writes(headers):
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(GET)
    while conn.next_event() is not h11.PAUSED and conn.their_state is not h11.DONE:
        pass
    try:
        return conn.send(h11.Response(status_code=200, headers=headers, reason=b"OK"))
    except h11.LocalProtocolError:
        return None


def test_each_byte_in_each_place_of_an_answer_is_written_as_without_recall():
    memory = Recall(CONFIG)
    found = 0
    length = (b"content-length", b"5")
    pairs = [(each, b"a b") for each in with_each_byte(b"x-y")]
    pairs += [(b"x-y", each) for each in with_each_byte(b"a b")]
    for pair in pairs:
        for _ in range(2):
            answer = memory.answer(200, [length, pair], DATE)
            if answer is not None:
                assert b"".join(answer.parts) + b"\r\n" == as_h11_writes([length, pair]), pair
                found += 1
        # h11 lets an application send any control character but those that break lines.
        left_to_h11 = any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in pair[1])
        assert (answer is None) == (left_to_h11 or as_h11_writes([length, pair]) is None), pair
    assert found > 2000


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"X: y\r\n",
        b"Host: x\r\nHost: x\r\n",
        b"Host: x/y\r\n",
        b"Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n",
        b"Host: x\r\nContent-Length: 5, 5\r\n",
        b"Host: x\r\nContent-Length: " + b"1" * 16 + b"\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked\r\n",
        b"Host: x\r\nConnection: keep-alive, close\r\n",
        b"Host: x\r\nUpgrade: websocket\r\n",
        b"Host: x\r\nExpect: 100-continue\r\n",
        b"Host: x\r\nTE: trailers\r\n",
        b"Host: x\r\nX: y\r\n z\r\n",
        b"Host: x\r\n" + b"X: y\r\n" * 100,
    ],
)
def test_what_steers_the_connection_or_breaks_a_rule_is_not_plain(lines):
    assert plain(b"GET / HTTP/1.1\r\n" + lines + b"\r\n") is None


@pytest.mark.parametrize(
    "line",
    [b"HEAD / HTTP/1.1", b"CONNECT / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://x/ HTTP/1.1", b"OPTIONS * HTTP/1.1",
     b"GET /#a HTTP/1.1", b"get / HTTP/1.1", b"GET /" + b"a" * CONFIG.limit_target + b" HTTP/1.1"],
)  # fmt: skip
def test_a_request_line_out_of_the_ordinary_is_not_plain(line):
    assert plain(line + b"\r\nHost: x\r\n\r\n") is None


def test_a_body_above_the_limit_is_not_plain():
    assert plain(HEAD, config=Config(limit_body=4)) is None
    assert plain(HEAD, config=Config(limit_body=5)) is not None


@pytest.mark.parametrize("status", [99, 100, 204, 304, 1000, "200", 200.0, None, True])
def test_a_status_out_of_the_ordinary_is_not_plain(status):
    memory = Recall(CONFIG)
    assert memory.answer(200, [(b"content-length", b"5")], DATE) is not None
    assert memory.answer(status, [(b"content-length", b"5")], DATE) is None


@pytest.mark.parametrize(
    "pair",
    [(b"connection", b"keep-alive"), (b"Transfer-Encoding", b"chunked"), (b"date", b"now"), (b"Server", b"me"),
     (b"content-length", b"5"), (b"content-length", b"x"), (b"Content-Length", b"5"), (b"a", b"b\r\nc: d"), (b"a b", b"c"),
     ("a", "b"), (b"a", "b"), [b"a", b"b"], (b"a",), (b"a", b"b", b"c"), (b"host", b"x"), b"ab", "ab", None, 5, ({}, [])],
)  # fmt: skip
def test_a_header_of_an_answer_out_of_the_ordinary_is_not_plain(pair):
    for headers in ([(b"content-length", b"5"), pair], [pair, (b"content-length", b"5")]):
        assert Recall(CONFIG).answer(200, headers, DATE) is None


# ---- what is kept ------------------------------------------------------------------------------------------


class Status(int):
    """One that is equal to itself alone."""

    __hash__ = object.__hash__


def test_the_memories_are_bounded():
    memory, known = Recall(CONFIG), Known()
    for number in range(3 * MOST_LINES):
        assert memory.request(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: %d\r\n\r\n" % number, known)
        assert memory.answer(200, [(b"content-length", b"5"), (b"vary", b"%d" % number)], DATE)
        assert memory.answer(Status(200), [(b"content-length", b"5")], DATE)
        kept = (memory.header_lines, memory.answer_lines)
        assert all(0 < len(each) <= MOST_LINES for each in kept)
        assert len(memory.status_lines) == 1
        assert 0 < len(known.blocks) <= MOST_BLOCKS
        assert known.request.head.endswith(b" %d\r\n\r\n" % number)
    assert memory.request(b"GET / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"x" * LONGEST_BLOCK), known)
    assert max(len(block.written) for block in known.blocks) <= LONGEST_BLOCK
    assert known.request is None
    assert max(map(len, memory.header_lines)) <= LONGEST_LINE


@pytest.mark.parametrize(
    "secret",
    [
        b"Cookie: a=b",
        b"AUTHORIZATION: Basic YTpi",
        b"Proxy-Authorization: x",
        b"X-Api-Key: x",
        b"Referer: http://x/?a",
        b"X-Forwarded-For: a",
    ],
)
def test_what_may_be_a_secret_is_kept_by_its_own_connection_alone(secret):
    memory, known = Recall(CONFIG), Known()
    assert memory.request(b"GET /?token=a HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % secret, known)
    assert memory.answer(
        200, [(b"content-length", b"5"), (b"Set-Cookie", b"a=b"), (b"location", b"/?a")], DATE
    )
    assert list(memory.header_lines) == [b"Host: x"]
    assert not memory.answer_lines
    assert len(known.blocks) == 1


async def test_h11_is_told_of_a_plain_request_when_it_is_asked():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        assert client.connection.untold
        if scope["path"] == "/parts":
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
            assert client.connection.untold
            assert client.connection.authority.our_state is h11.SEND_BODY
            await send({"type": "http.response.body", "body": b"llo"})
        else:
            await send({"type": "http.response.body", "body": b"hello"})
            idle = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
            assert client.connection.h11 is None or client.connection.h11.states == idle

    client = MemoryClient(app)
    for path in (b"/", b"/parts", b"/"):
        await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert (client.connection.h11 is None) is (client.written.count(b"HTTP") == 1), (
            "made when it is asked"
        )
    assert client.written.count(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: ") == 3
    assert client.written.count(b"\r\n\r\nhello") == 3


@pytest.mark.parametrize("recall", [True, False])
@pytest.mark.parametrize("more_body", [True, False])
async def test_the_head_is_that_of_its_own_time(recall, more_body):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        client.runtime.date = b"Mon, 01 Jan 2024 00:00:01 GMT"
        client.runtime.stop_accepting()
        await send({"type": "http.response.body", "body": b"hello", "more_body": more_body})
        await send({"type": "http.response.body"})

    client = MemoryClient(app, recall=recall)
    await client.send(GET)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: %b\r\nserver: miniasgi\r\n\r\n" % DATE
    assert client.written == head + b"hello"
    assert client.transport.closing or client.transport.eof_written


@pytest.mark.parametrize("recall", [True, False])
@pytest.mark.parametrize("pair", [lambda: map(str.encode, ("x-a", "b")), lambda: (b"x-a", memoryview(b"b"))])
async def test_a_pair_that_is_no_tuple_of_bytes_fails_as_without_recall(recall, pair):
    async def app(scope, receive, send):
        headers = [(b"content-length", b"5"), (b"x-a", b"b") if scope["path"] == "/right" else pair()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise LookupError

    client = MemoryClient(app, recall=recall)
    for path in (b"/right", b"/"):
        client.transport = client.connect()
        await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert client.written.startswith(b"HTTP/1.1 500 ")
    assert not client.runtime.calls


async def test_without_recall_h11_is_always_asked():
    async def app(scope, receive, send):
        assert client.connection.h11.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.SEND_RESPONSE}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    client = MemoryClient(app, recall=False)
    await client.send(GET, GET)
    assert client.written.count(b"HTTP/1.1 200 OK") == 2


# ---- the fuzz ----------------------------------------------------------------------------------------------

LINES = [
    b"Accept: */*", b"User-Agent: a (b; c) d/1", b"Connection: keep-alive", b"connection: Keep-Alive", b"Cookie: a=b",
    b"Authorization: Basic YTpi", b"X-Request-Id: 1", b"X-Request-Id: 2", b"X:", b"X: \xe9", b"X:\t a\tb ",
]  # fmt: skip
HOSTS = [b"Host: x", b"host:x", b"Host: [::1]:80", b"HOST:"]
BODIES = [b"", b"h", b"hello", b"\r\n\r\n", GET, b"x" * 70_000]


@st.composite
def plain_requests(draw):
    method, target = draw(st.sampled_from([b"GET", b"POST", b"DELETE"])), draw(st.sampled_from(TARGETS))
    lines = [draw(st.sampled_from(HOSTS)), *draw(st.lists(st.sampled_from(LINES), max_size=3))]
    body = draw(st.sampled_from([*[b""] * 6, *BODIES]))
    if body or draw(one_in(5)):
        lines.append(b"Content-Length: %d" % len(body))
    if draw(one_in(3)):
        lines.append(lines.pop(0))
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", *lines, b"", body))


TARGETS = [b"/", b"/", b"/a", b"/a%20b?c=d", b"/?a", b"//x/../y"]


@st.composite
def streams(draw):
    """A few requests, over and over; now and then one that is nearly the same."""
    odd = st.one_of(requests(True), requests(False))
    kinds = [plain_requests()] * 5 + [odd]
    pool = draw(st.lists(st.one_of(kinds), min_size=1, max_size=3))
    data = b""
    for request in draw(st.lists(st.sampled_from(pool), min_size=1, max_size=7)):
        data += draw(mutations(request, ODD_BYTES)) if draw(one_in(6)) else request
    return data


HEADERS = [
    *[((b"content-length", b"5"),)] * 3,
    ((b"Content-Length", b"5"), (b"X-Y", b"z"), (b"x-y", b"z")),
    ((b"content-type", b"text/plain"), (b"content-length", b"05")),
    ((b"content-length", b"5"), (b"content-length", b"5")),
    ((b"content-length", b"5"), (b"Content-Length", b"6")),
    ((b"content-length", b"5"), (b"connection", b"close")),
    ((b"content-length", b"5"), (b"connection", b"keep-alive")),
    ((b"content-length", b"5"), (b"transfer-encoding", b"chunked")),
    ((b"Date", b"today"), (b"date", b"tomorrow"), (b"content-length", b"5")),
    ((b"server", b"a"), (b"Server", b"b"), (b"content-length", b"5")),
    ((b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"content-length", b"5")),
    ((b"content-length", b"5"), (b"x", b"a\r\nb: c")),
    ((b"content-length", b"5"), (b"x", b" a")),
    ((b"content-length", b"5"), (b"x y", b"a")),
    ((b"content-length", b"5"), ("x", "y")),
    ((b"content-length", b"5"), [b"x", b"y"]),
    ((b"content-length", b"5"), (b"x",)),
    ((b"content-length", b"5"), (b"host", b"y")),
    ((b"content-length", b"5"), (b"x-y", memoryview(b"z"))),
    ((b"content-length", b"-5"),),
    ((b"content-length", b"70000"),),
    (),
]  # fmt: skip
STATUSES = [200, 200, 200, 201, HTTPStatus.NOT_FOUND, 204, 304, 599, 999, 99, 200.0, "200"]
PARTS = [
    (b"hello", False), (b"hello", False), (b"hello", True), (b"", True), (b"", False), (b"hell", False), (b"hello!", False),
    (b"x" * 70_000, False), (bytearray(b"hello"), False), (memoryview(b"hello"), False),
]  # fmt: skip
OPTIONS = [
    {}, {}, {}, {"root_path": "/r"}, {"state": {"a": "b"}}, {"limit_body": 3}, {"limit_concurrency": 1}, {"limit_headers": 2},
    {"limit_target": 8}, {"limit_pipelined": 0}, {"ws_max_size": 1},
]  # fmt: skip


@st.composite
def own_answers(draw):
    """A head of all kinds, and bodies that fit it or do not."""
    start = "start_and_change" if draw(one_in(4)) else "start"
    steps = [(start, draw(st.sampled_from(STATUSES)), draw(st.sampled_from(HEADERS)))]
    steps += [("turns", 2)] if draw(one_in(4)) else []
    steps += [("hint",)] if draw(one_in(8)) else []
    steps += [("stop_server",)] if draw(one_in(10)) else []
    steps += [("part", *draw(st.sampled_from(PARTS))) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    return [("careless", step) if draw(one_in(5)) else step for step in steps]


PLAIN_ANSWER = [("start", 200, HEADERS[0]), ("part", b"hello", False)]
PROGRAMS = st.one_of(
    st.just(PLAIN_ANSWER),
    own_answers(),
    own_answers().map(lambda steps: [("receive",), *steps, ("wait_for_end",)]),
    own_answers().map(lambda steps: [("receive",), *steps]),
    st.tuples(st.sampled_from(ANSWERS)).map(list),
    POLITE_PROGRAMS,
    RUDE_PROGRAMS,
)


EXAMPLES = st.tuples(
    st.tuples(
        streams(),  # what the client sends
        st.one_of(st.just(AT_ONCE), SCRIPTS),
        st.lists(PROGRAMS.map(lambda program: [("unless_websocket", program)]), min_size=1, max_size=3),
    ),
    st.builds(
        lambda warm, options: {"warm": warm, **options},
        st.one_of(st.just(b""), st.just(GET), streams()),  # what another one has sent before
        st.sampled_from(OPTIONS),
    ),
)


def test_with_recall_all_is_as_without():
    share = Share()
    with stage() as play:

        @fuzz(500)
        @given(EXAMPLES)
        def examples(example):
            _, recalled = compare(play, example)
            share.count(recalled)

        examples()
    share.check(0.3)


# ---- the mutants -------------------------------------------------------------------------------------------


def without(name, element):
    """A table of `recall` without one of its elements."""
    return recall, name, lambda: tuple(each for each in getattr(recall, name) if each != element)


def any_value(name):
    """A header of this name needs no judge, whatever it says."""
    return recall, "PLAIN_VALUES", lambda: {**recall.PLAIN_VALUES, name: lambda value: True}


MUTANTS = {
    "a connection that is to be closed is kept": instead(
        Recall, "read_block", '== b"close"', '== b"closed"'
    ),
    "a connection that is to be upgraded is kept": any_value(b"connection"),
    "what came behind the last request is not awaited": instead(
        Http1Connection, "write_plain", "linger=self.intake.begun", ""
    ),
    "a body in chunks is the next request": without("REQUEST_STEERS", b"transfer-encoding"),
    "trailers are not offered": without("REQUEST_STEERS", b"te"),
    "an answer to HEAD has a body": without("NOT_PLAIN", b"HEAD"),
    "any target": (recall, "PLAIN_LINE", lambda: re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")),
    "any version": (recall, "PLAIN_LINE", lambda: re.compile(rb"([A-Z]+) (/[\x21\x22\x24-\x7e]*) HTTP/1\..")),
    "no host": instead(Recall, "read_block", 'b"host" not in fields', "False"),
    "two hosts": without("REQUEST_ONCE", b"host"),
    "any host": any_value(b"host"),
    "any length": any_value(b"content-length"),
    "two lengths": without("REQUEST_ONCE", b"content-length"),
    "two words on the connection": without("REQUEST_ONCE", b"connection"),
    "no body": instead(Recall, "read_block", 'int(fields.get(b"content-length", 0))', "0"),
    "any character in a header": instead(recall, "is_plain", "value.translate(None, FIELD_VALUE)", "False"),
    "any character in a name": instead(recall, "is_plain", "name.translate(None, TOKEN)", "False"),
    "no name": instead(recall, "is_plain", "not name or ", ""),
    "spaces around a value": instead(recall, "is_plain", 'value.strip(b" \\t") == value', "True"),
    "the headers of another request": instead(Recall, "request", "block.written == rest", "True"),
    "another request": instead(Recall, "request", "known.request.head == head", "True"),
    "the application's list of headers": instead(
        Http1Connection, "begin_plain", "list(request.headers)", "request.headers"
    ),
    "a body that has not come": instead(Http1Connection, "begin_plain", "if not self.intake.left", "if True"),
    "the rest of a body is the next request": instead(Intake, "take_plain", "self.left = end - self.at", "pass"),
    "a body without an end": (
        http1,
        "ON_EVENT",
        lambda: http1.ON_EVENT
        | {h11.Data: changed(Http1Connection.on_data, "self.untold and not self.intake.left", "False")},
    ),
    "nothing more is read of a body": instead(
        Http1Connection, "reads_on", "return self.body_comes", "return self.body_comes and not self.untold"
    ),
    "an answer before its request is whole is as any": instead(
        Http1Connection, "fits", "self.body_comes and not more_body", "False"
    ),
    "all is still to come of a body": instead(PlainRequest, "rest", 'b"%d" % left', 'b"%d" % self.length'),
    "the next request before the answer": instead(
        Http1Connection, "reads_on", "self.request is None", "self.request is None or self.untold"
    ),
    "h11 is not told": instead(Http1Connection, "settle", "authority.receive_data(self.request.rest(self.intake.left))", "return"),
    "the head is lost when h11 is told": instead(Http1Connection, "settle", "elif answer is not None", "elif False"),
    "a part is taken for the whole": instead(Http1Connection, "fits", "more_body and size < answer.length", "size < answer.length"),
    "a body of another length": instead(Http1Connection, "fits", "size == answer.length", "True"),
    "all is still to come of an answer": instead(PlainAnswer, "rest", "self.length - sent", "self.length"),
    "an answer of known length has no length": instead(PlainAnswer, "rest", "self.length is None", "True"),
    "a part of a plain body of known length is a chunk": instead(
        Http1Connection, "write_plain", "answer.length is None\n", "True\n"
    ),
    "the time of the request before": instead(Http1Connection, "request_begins", "self.began = self.runtime.time()"),
    "no word in the access log": instead(Http1Connection, "write_plain", "self.log_access()"),
    "what waits is forgotten": instead(Http1Connection, "write_plain", "self.go_on()", "pass"),
    "a body where there is none": instead(Recall, "read_status", "status in (204, 304)", "False"),
    "an answer that keeps what is to be closed": without("ANSWER_STEERS", b"connection"),
    "two dates": without("ANSWER_STEERS", b"date"),
    "two servers": without("ANSWER_STEERS", b"server"),
    "two framings": without("ANSWER_STEERS", b"transfer-encoding"),
    "two lengths of an answer": instead(Recall, "answer", "length is None and name", "name"),
    "any header of an answer": instead(Recall, "read_answer_line", "or not is_plain(name, value)"),
    "a part of a body of known length is a chunk": instead(
        Http1Connection, "frame", "parts[-3:] == chunk(body)", "True"
    ),
    "an empty part is a chunk": instead(Http1Connection, "write_body", "and more_body and body", "and more_body"),
    "any end of a chunk": instead(Intake, "in_plain_chunk", 'not b"\\r\\n".startswith(end)', "False"),
    "half of the end of a chunk": instead(Intake, "in_plain_chunk", "len(end) < 2", "not end"),
    "the last chunk": instead(Intake, "in_plain_chunk", "or not size", ""),
    "any size of a body": instead(Intake, "in_plain_chunk", "self.check_size(self.size + size)", "pass"),
    "any line of a chunk": (intake, "PLAIN_CHUNK_LINE", lambda: re.compile(rb"([0-9A-Fa-f]+)[^\n]*\n")),
    "what h11 has not told yet": instead(Http1Connection, "next_event", "if self.asked", "if False"),
    "a client that waits to be asked": instead(
        Http1Connection, "next_event", "and not authority.they_are_waiting_for_100_continue"
    ),
    "a stream without an end": instead(Http1Connection, "write_plain", "is None and not more_body", "is None and False"),
    "an empty part is the first chunk": instead(Http1Connection, "write_plain", "if body:", "if True:"),
    "the head of a stream is sent again": instead(
        Http1Connection, "settle", "and self.response is answer", "and False"
    ),
    "the last part is a chunk": instead(Http1Connection, "write_body", "and more_body and body", "and body"),
    "the next body is chunked, too": instead(
        Http1Connection, "await_request", "self.asked = self.chunked = False", "self.asked = False"
    ),
    "chunks are not counted": instead(
        Http1Connection, "write_body", "self.sent += len(body)\n        if len", "if len"
    ),
    "a status that is no int": instead(Recall, "answer", "not isinstance(status, int)", "False"),
}  # fmt: skip


def asked(*lines, line=b"GET / HTTP/1.1", host=b"Host: x", body=b""):
    return b"\r\n".join((line, *([host] if host else ()), *lines, b"", body))


def answered(*headers, status=200, before=(), between=()):
    start = ("start", status, ((b"content-length", b"5"), *headers))
    return [*before, start, *between, ("part", b"hello", False)]


def streamed(first, *parts, headers=(), between=()):
    return [("start", 200, headers), ("part", *first), *between, *(("part", *part) for part in parts)]


CHUNKED = b"Transfer-Encoding: chunked"

# What is rare among the examples of the fuzz: (what the client sends twice, what the application does).
RARE = [
    (asked(line=b"HEAD / HTTP/1.1"), answered()),
    (asked(b"X: y", host=None), answered()),
    (asked(host=b"Host: x/y"), answered()),
    (asked(b"Connection: close"), answered()),
    (asked() + asked(b"Connection: Keep-Alive", b"Connection: Close"), streamed((b"x", True), (b"", False))),
    (asked() + asked(b"Connection: Close", b"Connection: Keep-Alive"), answered()),
    (asked(b"Connection: close, x"), answered()),
    (asked(b"Connection: close"), streamed((b"x", True), (b"", False), headers=[(b"content-length", b"1")])),
    (asked(b"X: \x01"), answered()),
    (asked(b"X y: z"), answered()),
    (asked(b": z"), answered()),
    (asked(b"Content-Length: +5", body=b"hello"), answered(before=[("read",)])),
    (asked(), answered((b"x", b" y"))),
    (asked(b"TE: trailers"), answered()),
    (asked(b"Host: x"), answered()),
    (asked(), answered((b"transfer-encoding", b"chunked"))),
    (
        asked(b"Content-Length: 5", body=b"hello")
        + asked(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        answered(),
    ),
    (asked(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"), answered(before=[("read",)])),
    (asked(b"X: y") + asked(b"X: z"), answered()),
    (asked(), answered(status=204)),
    (asked(), answered(status=200.0)),
    (asked(), answered((b"connection", b"close"))),
    (asked(), answered((b"Date", b"today"))),
    (asked(), answered((b"Server", b"me"))),
    (asked(), answered(before=[("stop_server",)])),
    (asked(), answered(between=[("stop_server",)])),
    (asked(), answered(before=[("turns", 1)])),
    (asked(line=b"GET http://y/z HTTP/1.1"), answered()),
    (asked(line=b"GET / HTTP/1.2"), answered()),
    (asked(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), answered()),
    (asked(b"Content-Length: 5", body=b"hello"), answered(before=[("read",)])),
    (asked(), streamed((b"x" * 70_000, True), (b"", False), headers=[(b"content-length", b"70000")])),
    (asked(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), answered(before=[("read",)])),
    (asked(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n"), answered(before=[("read",)])),
    (asked(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"), answered(before=[("read",)])),
    (asked(CHUNKED, body=b"5\r\nhello!!0\r\n\r\n"), answered(before=[("read",)])),
    (asked(CHUNKED, b"Expect: 100-continue", body=b"5\r\nhello\r\n0\r\n\r\n"), answered(before=[("read",)])),
    (asked(b"Content-Length: 99", body=b"hello"), answered(before=[("read",)])),
    (asked(), [("start", 200, ((b"content-length", b"5"),)), ("part", b"hello", True), ("part", b"", False)]),
    (asked(), [("start", 200, ((b"content-length", b"5"),)), ("careless", ("part", b"hell", False))]),
    (asked(), streamed((b"he", True), (b"", True), (b"llo", False), headers=[(b"content-length", b"5")])),
    (
        asked(),
        streamed((b"he", True), (b"llo", False), headers=[(b"Content-Length", b"5")], between=[("hint",)]),
    ),
    (
        asked(b"TE: trailers"),
        streamed((b"he", True), (b"l", True), (b"lo", False), headers=[(b"content-length", b"5")]),
    ),
    (asked(), streamed((b"he", True), (b"llo!", True), headers=[(b"Content-Length", b"5")])),
    (asked(), answered((b"content-length", b"5"))),
    (asked(), answered((b"x y", b"z"))),
    (asked(), streamed((b"", True), (b"", False))),
    (asked(), streamed((b"x", True), (b"x", True), (b"", False), between=[("stop_server",)])),
    (asked(), streamed((b"he", True), (b"", True), (b"l", True), (b"lo", False))),
    (asked(), streamed((b"x", True), (b"x", True), (b"x", False), headers=[(b"content-length", b"3")])),
]


def crafted(data, *programs, script=AT_ONCE, **options):
    return (data, script, [[("unless_websocket", program)] for program in programs]), options


READS = answered(before=[("read",)])
CHUNK = asked(CHUNKED, body=b"5\r\nhello\r\n")
UNASKED = asked(CHUNKED, b"Expect: 100-continue", body=b"5\r\nhello\r\n")
FIVE = asked(b"Content-Length: 5", body=b"hello")
CRAFTED = [
    *(crafted(data * 2, program) for data, program in RARE),
    # Two answers on one connection, the second of which is not framed as the first one is.
    crafted(asked() * 2, *(program for _, program in RARE[-2:])),
    crafted(CHUNK + b"0\r\n\r\n", READS, limit_body=4),
    # As many chunks of one read are taken in a turn as without recall.
    *(
        crafted(asked(CHUNKED, body=b"1\r\nx\r\n" * count + b"zz\r\n"), answered(before=[("turns", turns)]))
        for count in (15, 70, 200)
        for turns in (1, 2, 3)
    ),
    # What comes in pieces.
    *(
        crafted(data + asked(), program, script=[*[(("feed", size), 3)] * times, *AT_ONCE])
        for data in (FIVE, CHUNK + b"0\r\n\r\n")
        for size, times in ((len(data) - 2, 1), (len(data) - 7, 1), (1, len(data)))
        for program in (
            READS,
            answered(before=[("receive",)]),
            answered(),
            streamed((b"x", True), (b"", False), between=[("read",)]),
        )
    ),
    # The client does not wait to be asked for its body, of which the end comes later.
    crafted(UNASKED + b"0\r\n\r\n", READS, script=[(("feed", len(UNASKED)), 5), *AT_ONCE]),
]


def test_crafted_examples_are_as_without_recall():
    with stage() as play:
        for example in CRAFTED:
            compare(play, example)


@functools.cache
def known_examples():
    return outcomes(EXAMPLES, fuzz(600), CRAFTED)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found(mutant):
    assert is_found(MUTANTS[mutant], known_examples())


def test_nothing_is_found_in_the_code_as_it_is():
    """Otherwise each of the mutants would be."""
    assert not is_found((recall, "NOT_PLAIN", lambda: recall.NOT_PLAIN), known_examples())
