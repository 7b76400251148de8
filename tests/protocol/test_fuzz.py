"""A fuzz of the road: bytes that hypothesis makes, cut and interleaved with all that may happen meanwhile.

What is sent is made in `client_bytes`, what it holds is said by `readers`, and `encounters` has both ends of
the connection. What the server may make of it is judged here.

By default the examples are always the same ones, and take half a minute. For new ones, and more of them:
`MINIASGI_FUZZ_EXAMPLES=20000 pytest tests/protocol/test_fuzz.py`.
"""

import asyncio
import os
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import pytest
import uvloop
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from miniasgi import Config, Server
from tests.conftest import descriptors
from tests.protocol.client_bytes import (
    CUTS,
    MAX_SIZE,
    ODD_LINES,
    SMUGGLED,
    cut,
    frame_streams,
    handshake,
    request_streams,
)
from tests.protocol.encounters import (
    Application,
    Boom,
    Call,
    Encounter,
    arena,
)
from tests.protocol.readers import (
    ANY_REFUSAL,
    FrameReader,
    Frames,
    agreed_deflate,
    read_answers,
    read_requests,
    read_server_frames,
)

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
    dropped = transport.broken_off  # one that was given in the turn in which the connection was lost
    assert len(answers) + dropped >= len([call for call in calls if call.complete]), (
        f"{answers} to {complete}"
    )
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
    bodiless = call.method == b"HEAD" or call.status in (204, 304)
    if bodiless:
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
        cut = bodiless and transport.cut_off  # which cannot be seen of an answer without a body
        assert cut or has_length or (call.pending and not call.pending["more_body"]), text


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
        maybe = [*call.messages, *call.dropped, pending.get("text", pending.get("bytes"))]
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
        @example(  # an answer in the turn in which the network has lost the connection
            (None, b"\x81\x80\0\0\0\0"),
            [(("feed", 300), 3), (("feed", 1), 1), (("lose",), 0), (("feed", 10**6), 20)],
            (False, [[("accept",), ("turns", 5), ("mirror",)]]),
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


@pytest.mark.parametrize(
    "new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
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
