"""The HTTP/1.1 half of the road, by hand, over a memory transport."""

import asyncio
import contextvars
import logging
import math
import socket
import sys
import tracemalloc

import h11
import pytest
from starlette.requests import Request

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.observe import debug
from miniasgi.protocol.connection import TURN, Arrival
from miniasgi.protocol.exchange import told_by
from miniasgi.protocol.http1 import CHUNKS, HIGH_WATER, MAX_UNWANTED, ON_EVENT, Http1Connection
from miniasgi.protocol.runtime import ENDED_AT_ONCE
from tests.applications import echo, hello, read_body, respond
from tests.memory import DATE, MemoryClient, MemoryTransport

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(body, *lines):
    return b"\r\n".join(
        [b"POST / HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *lines, b"", body]
    )


def chunked(*lines):
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", *lines, b"", b""])


def answering(body=b"", status=200, headers=()):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def head_of(written):
    return written.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")


# ---- what a response is made of ----


async def test_a_small_response_is_one_write_with_date_and_server():
    client = MemoryClient(hello)
    await client.send(GET)
    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: " + DATE + b"\r\nserver: miniasgi\r\n\r\nhello"
    assert client.transport.writes == [expected]


@pytest.mark.parametrize("length", [(), [(b"content-length", b"1000000")]], ids=["chunked", "length"])
async def test_of_a_large_response_what_is_small_and_stands_together_is_one_write(length):
    """Each write is a packet of its own, and h11 gives a head in as many pieces as it has lines."""
    body = bytes(1_000_000)
    client = MemoryClient(answering(body, headers=length))
    await client.send(GET)
    head, large, *end = client.transport.writes
    assert large == body
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert end == ([] if length else [b"\r\n0\r\n\r\n"])


async def test_the_applications_own_date_and_server_stay():
    client = MemoryClient(answering(headers=[(b"Date", b"a"), (b"Server", b"b"), (b"content-length", b"0")]))
    await client.send(GET)
    assert client.written == b"HTTP/1.1 200 OK\r\nDate: a\r\nServer: b\r\ncontent-length: 0\r\n\r\n"


async def test_a_body_without_length_is_chunked():
    client = MemoryClient(answering(b"hello"))
    await client.send(GET)
    assert b"transfer-encoding: chunked" in head_of(client.written)
    assert client.written.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert not client.transport.closing


async def test_a_body_without_length_ends_by_close_on_http_1_0():
    client = MemoryClient(answering(b"hello"))
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    head = head_of(client.written)
    assert b"connection: close" in head
    assert b"transfer-encoding: chunked" not in head
    assert client.written.endswith(b"\r\n\r\nhello")
    assert client.transport.closing


async def test_the_head_waits_for_the_first_of_the_body():
    """ "The protocol server must not start sending the response … until it has received at least one …" (ASGI)"""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.Event().wait()

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written == b""
    go_on.set()
    await client.turns()
    assert client.written.endswith(b"\r\n\r\n")  # an empty first part sends the head alone
    client.transport.lose()
    for call in client.runtime.calls:
        call.task.cancel()
    await client.turns()


async def test_head_has_the_headers_of_get_and_no_body():
    client = MemoryClient(hello)
    await client.send(GET)
    get = client.written
    client = MemoryClient(hello)
    await client.send(GET.replace(b"GET", b"HEAD"))
    assert client.written + b"hello" == get


@pytest.mark.parametrize("status", [204, 304])
async def test_some_statuses_have_no_body(status):
    client = MemoryClient(answering(b"not to be sent", status))
    await client.send(GET, GET)
    assert client.written.count(b"HTTP/1.1 %d " % status) == 2
    assert b"not to be" not in client.written
    assert b"chunked" not in client.written


async def test_a_204_has_no_content_length():
    client = MemoryClient(answering(status=204, headers=[(b"content-length", b"0")]))
    await client.send(GET)
    assert b"content-length" not in client.written


async def test_transfer_encoding_from_the_application_is_ignored():
    client = MemoryClient(
        answering(b"hi", headers=[(b"transfer-encoding", b"gzip"), (b"content-length", b"2")])
    )
    await client.send(GET)
    assert b"transfer-encoding" not in client.written
    assert client.written.endswith(b"\r\n\r\nhi")


async def test_a_large_part_is_not_copied_into_another_write():
    body = bytes(100_000)
    client = MemoryClient(answering(body, headers=[(b"content-length", b"100000")]))
    await client.send(GET)
    assert client.transport.writes[-1] == body
    assert client.written.endswith(b"\r\n\r\n" + body)


async def test_an_unknown_status_has_no_reason():
    client = MemoryClient(answering(status=299, headers=[(b"content-length", b"0")]))
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 299 \r\n")


# ---- keep-alive and pipelining ----


async def test_a_connection_serves_one_request_after_another():
    client = MemoryClient(echo)
    await client.send(post(b"a"), post(b"b"), GET)
    assert client.written.count(b"HTTP/1.1 200 OK") == 3
    assert not client.transport.closing


async def test_connection_close_of_either_side_closes():
    client = MemoryClient(hello)
    await client.send(LAST)
    assert b"connection: close" in head_of(client.written)
    assert client.transport.closing
    client = MemoryClient(answering(headers=[(b"connection", b"close"), (b"content-length", b"0")]))
    await client.send(GET)
    assert client.transport.closing


async def test_a_broken_request_is_refused_though_its_client_has_ended_its_side_meanwhile():
    """It came behind another, which was being answered; with the end of the client's side behind both."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    client = MemoryClient(app)
    await client.send(GET, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    await client.end()
    go_on.set()
    await client.turns()
    assert client.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"HTTP/1.1 400 Bad Request\r\n" in client.written
    assert client.transport.closing


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time():
    running = 0
    gates = [asyncio.Event() for _ in range(3)]

    async def app(scope, receive, send):
        nonlocal running
        running += 1
        assert running == 1
        number = int(scope["path"][1:])
        await gates[number].wait()
        running -= 1
        await respond(send, b"answer %d" % number)

    client = MemoryClient(app)
    await client.send(b"".join(GET.replace(b"/ ", b"/%d " % i) for i in range(3)))
    for gate in reversed(gates):
        gate.set()
        await client.turns()
    bodies = [part for part in client.written.split(b"\r\n") if b"answer" in part]
    assert [body.partition(b"HTTP")[0] for body in bodies] == [b"answer 0", b"answer 1", b"answer 2"]


async def test_four_hundred_pipelined_requests_do_not_nest():
    """With eager tasks an application could be called within the send() of the one before it."""
    depths = []

    async def app(scope, receive, send):
        depths.append(len(list(frames())))
        await respond(send, b"x")

    def frames():
        frame = sys._getframe(1)
        while frame is not None:
            yield frame
            frame = frame.f_back

    client = MemoryClient(app)
    await client.send(GET * 400)
    await client.turns(5000)
    assert client.written.count(b"HTTP/1.1 200 OK") == 400
    assert max(depths) - min(depths) <= 8


async def test_an_early_hint_leaves_before_its_application_goes_on():
    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        assert client.written.startswith(b"HTTP/1.1 103 ")
        await respond(send)

    client = MemoryClient(app)
    await client.send(GET)
    assert b"HTTP/1.1 200 OK" in client.written


async def test_what_was_written_leaves_before_the_end_of_the_client_is_answered():
    client = MemoryClient(respond)
    client.connection.write(b"part")
    client.transport.deliver_eof()
    assert client.written == b"part"
    await client.turns()


@pytest.mark.parametrize(
    ("data", "limit"),
    [(GET * 5000, 3 * TURN), (chunked() + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n", 2 * CHUNKS * TURN)],
    ids=["requests", "chunks"],
)
async def test_one_client_does_not_take_the_whole_turn_of_the_loop(data, limit):
    taken = 0

    async def app(scope, receive, send):
        nonlocal taken
        taken += 1
        more_body = True
        while more_body:
            message = await receive()
            taken += len(message["body"])
            more_body = message["more_body"]
        await respond(send)

    client = MemoryClient(app)
    client.connection.data_received(data)
    most = before = 0
    for _ in range(20_000):
        if taken >= 5000:
            break
        await asyncio.sleep(0)
        most, before = max(most, taken - before), taken
    assert taken >= 5000
    assert most <= limit
    await client.turns()
    assert client.transport.reading


async def test_each_request_has_headers_and_state_of_its_own():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        scope["headers"].append((b"x", b"y"))
        scope["state"]["seen"] = True
        await respond(send)

    client = MemoryClient(app, state={"shared": []})
    await client.send(GET, GET)
    assert scopes[1]["headers"] == [(b"host", b"x"), (b"x", b"y")]
    assert scopes[1]["state"] == {"shared": [], "seen": True}
    assert client.runtime.state == {"shared": []}
    assert scopes[0]["state"]["shared"] is scopes[1]["state"]["shared"]


@pytest.mark.parametrize("go_on", [False, True])
async def test_each_request_runs_in_a_context_of_its_own(go_on):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def app(scope, receive, send):
        seen.append(variable.get())
        variable.set("set")
        if go_on:  # the next request is begun by the loop, on behalf of this one
            await asyncio.sleep(0)
        await respond(send)

    client = MemoryClient(app)
    await client.send(GET * 3, GET)
    assert seen == ["unset"] * 4


# ---- request bodies ----


async def test_a_body_is_streamed_and_never_collected():
    parts = []

    async def app(scope, receive, send):
        more_body = True
        while more_body:
            message = await receive()
            parts.append(message["body"])
            more_body = message["more_body"]
        await respond(send)

    client = MemoryClient(app)
    whole = post(b"abc")
    await client.send(whole[:-3], b"a", b"b", b"c")
    assert b"".join(parts) == b"abc"
    assert len(parts) >= 3


async def test_a_small_request_is_whole_in_its_first_message():
    messages = []

    async def app(scope, receive, send):
        messages.append(await receive())
        await respond(send)

    client = MemoryClient(app)
    await client.send(post(b"abc"), GET)
    assert messages == [
        {"type": "http.request", "body": b"abc", "more_body": False},
        {"type": "http.request", "body": b"", "more_body": False},
    ]
    assert all(type(message["body"]) is bytes for message in messages)


async def test_100_continue_is_said_when_the_application_first_asks():
    ask = asyncio.Event()

    async def app(scope, receive, send):
        await ask.wait()
        await respond(send, await read_body(receive))

    client = MemoryClient(app)
    request = post(b"hi", b"Expect: 100-continue")
    await client.send(request[:-2])
    assert client.written == b""
    ask.set()
    await client.turns()
    assert client.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hi")
    assert client.written.endswith(b"\r\n\r\nhi")
    assert not client.transport.closing


async def test_100_continue_is_not_said_to_an_application_that_does_not_ask():
    """And nobody could tell the body from the next request then, so the connection is closed."""
    client = MemoryClient(hello)
    await client.send(post(b"hi", b"Expect: 100-continue")[:-2])
    assert b"100 Continue" not in client.written
    assert b"connection: close" in head_of(client.written)
    assert client.transport.eof_written


async def test_a_sender_waits_while_the_application_does_not_receive():
    go_on = asyncio.Event()
    got = []

    async def app(scope, receive, send):
        await go_on.wait()
        got.append(await read_body(receive))
        await respond(send)

    client = MemoryClient(app)
    body = bytes(HIGH_WATER + 1)
    whole = post(body + b"rest")
    await client.send(whole[: -len(body) - 4] + body[:1000])
    assert client.transport.reading
    await client.send(body[1000:])
    assert not client.transport.reading
    go_on.set()
    await client.turns()
    assert client.transport.reading
    await client.send(b"rest")
    assert got == [body + b"rest"]


async def test_a_sender_of_small_chunks_waits_before_they_take_much_memory():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    client = MemoryClient(app)
    await client.send(chunked())
    chunks = b"1\r\nx\r\n" * 40_000  # one read of asyncio's
    tracemalloc.start()
    while client.transport.reading:
        await client.send(chunks)
        await client.turns(40_000 // TURN)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 500_000
    [call] = client.runtime.calls
    call.task.cancel()
    await client.turns()


async def test_a_sender_of_pipelined_requests_waits_too():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    client = MemoryClient(app)
    many = HIGH_WATER // len(GET) + 2
    await client.send(GET * many)
    assert not client.transport.reading
    go_on.set()
    await client.turns(many * 10)
    assert client.transport.reading
    assert client.written.count(b"HTTP/1.1 200 OK") == many


@pytest.mark.parametrize("limit", [0, 1, 10])
@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["", "an empty line behind each"])
async def test_what_comes_in_pieces_is_waited_for_however_little_may_be_pipelined(limit, behind):
    requests = [GET, post(b"hello"), chunked() + b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n"]
    client = MemoryClient(echo, limit_pipelined=limit)
    for request in requests:
        await client.send(*((request + behind)[at : at + 1] for at in range(len(request + behind))))
        assert client.transport.reading
    assert client.written.count(b"HTTP/1.1 200 OK") == 3
    client = MemoryClient(echo, limit_pipelined=limit)
    await client.send(b"".join(request + behind for request in requests))
    assert client.written.count(b"HTTP/1.1 200 OK") == 3
    assert client.transport.reading


async def test_a_head_may_be_longer_than_what_may_be_pipelined():
    client = MemoryClient(hello, limit_head=100_000)
    request = GET[:-2] + b"A: " + b"b" * 90_000 + b"\r\n\r\n"
    await client.send(request[:70_000])
    assert client.transport.reading
    await client.send(request[70_000:])
    assert client.written.startswith(b"HTTP/1.1 200 ")


async def test_the_rest_of_a_body_that_nobody_wants_is_dropped_and_the_connection_kept():
    client = MemoryClient(hello)
    body = bytes(10_000)
    whole = post(body)
    await client.send(whole[:-5000], whole[-5000:], GET)
    assert client.written.count(b"HTTP/1.1 200 OK") == 2
    assert not client.transport.closing


async def test_too_much_of_a_body_that_nobody_wants_closes_in_stages():
    client = MemoryClient(hello)
    whole = post(bytes(MAX_UNWANTED * 2))
    await client.send(whole[:1000], whole[1000:])
    assert client.transport.eof_written
    assert not client.transport.closing
    await client.send(b"more")  # read and dropped
    await client.end()
    assert client.transport.closing
    assert not client.transport.aborted


# ---- clients that leave ----


async def test_a_client_that_leaves_in_mid_upload_is_told_at_once():
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "http.response.start", "status": 200})

    client = MemoryClient(app)
    await client.send(post(b"abc")[:-1])
    await client.end()
    assert received == [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert client.written == b""
    assert not client.runtime.calls


async def test_receive_after_the_request_waits_for_the_client_to_leave():
    received = []

    async def app(scope, receive, send):
        await receive()
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "http.response.start", "status": 200})

    client = MemoryClient(app)
    await client.send(GET)
    assert received == []
    client.transport.lose()
    await client.turns()
    assert received == [{"type": "http.disconnect"}]
    assert not client.runtime.calls


async def test_receive_after_the_response_is_a_disconnect():
    received = []

    async def app(scope, receive, send):
        await receive()
        await respond(send)
        received.append(await receive())

    client = MemoryClient(app)
    await client.send(GET)
    assert received == [{"type": "http.disconnect"}]


async def test_two_calls_of_receive_at_once_are_both_woken():
    """Frameworks listen for the disconnect beside reading the body; one may be cancelled."""
    received = []

    async def app(scope, receive, send):
        await receive()
        first, second, third = (asyncio.ensure_future(receive()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        received.extend([await first, await third])

    client = MemoryClient(app)
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    assert received == [{"type": "http.disconnect"}] * 2


async def test_a_client_that_ends_its_side_is_still_answered():
    """Which an application that never asked for the disconnect cannot know of; nc and old scripts do it."""
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"for " + scope["path"].encode())

    client = MemoryClient(app)
    await client.send(GET + GET.replace(b"/ ", b"/2 "))
    assert client.connection.eof_received() is True
    go_on.set()
    await client.turns()
    assert client.written.count(b"HTTP/1.1 200 OK") == 2
    assert client.written.endswith(b"for /2")
    assert client.transport.closing
    assert not client.transport.aborted


async def test_an_application_that_is_told_of_the_end_of_its_client_is_not_expected_to_answer():
    received = []

    async def app(scope, receive, send):
        await receive()
        received.append(await receive())
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "http.response.start", "status": 200})

    client = MemoryClient(app)
    await client.send(GET)
    assert client.connection.eof_received() is True
    await client.turns()
    assert received == [{"type": "http.disconnect"}] * 2
    assert client.transport.closing
    assert not client.runtime.connections


async def test_send_waits_for_a_client_that_does_not_read():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})
            sent.append(number)

    client = MemoryClient(app)
    client.connection.pause_writing()
    await client.send(GET)
    assert sent == []
    client.connection.resume_writing()
    await client.turns()
    assert sent == [0, 1, 2]


async def test_a_client_that_leaves_while_send_waits_ends_the_wait():
    ended = []
    paused = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await paused.wait()
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except OSError as error:
            ended.append(error)
            raise

    client = MemoryClient(app)
    await client.send(GET)
    client.connection.pause_writing()
    paused.set()
    await client.turns()
    client.transport.lose(ConnectionResetError())
    await client.turns()
    assert type(ended[0]) is ClientDisconnected
    assert not client.runtime.calls


async def test_an_application_that_never_waits_learns_that_its_client_left():
    """Its send() has to give the loop a turn once the transport is closing, or nobody could tell it."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            if not client.transport.closing:
                client.transport.close()  # as the transport does when a write fails
        raise AssertionError("it never learnt")

    client = MemoryClient(app)
    await client.send(GET)
    assert not client.runtime.calls


async def test_an_error_that_a_framework_makes_of_the_disconnect_is_not_logged(caplog):
    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await send({"type": "http.response.start", "status": 200})
        except OSError as error:
            raise ExceptionGroup("of a task group", [RuntimeError("client gone")]) from error

    client = MemoryClient(app)
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    # The group's own leaf does not stem from the disconnect: that one is an error.
    assert "client gone" in caplog.text
    assert caplog.records[0].levelname == "ERROR"
    caplog.clear()

    async def wrapping(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        try:
            await send({"type": "http.response.start", "status": 200})
        except OSError:
            raise RuntimeError("client gone")  # noqa: B904  # as frameworks do

    client = MemoryClient(wrapping)
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    # Raised on the way out of an `except`, it may be a fault in the clean-up: named, without a traceback.
    assert [record.levelname for record in caplog.records] == []
    caplog.set_level("INFO")
    client = MemoryClient(wrapping)
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert (
        "after the request was over, the application raised RuntimeError('client gone')"
        in record.getMessage()
    )
    assert record.exc_info is None


CHANGES = {
    "no raw path": {"raw_path": None},
    "raw path not in ASCII": {"raw_path": "/é".encode()},
    "one of the client's": {"client": ("1.2.3.4",)},
    "no client": {"client": None},
    "client of any kind": {"client": 5},
    "no headers": {"headers": None},
    "method": {"method": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("end", ["raise", "return", "late", "misuse"])
@pytest.mark.parametrize("show_failure", [None, debug.show_failure], ids=["", "debug"])
async def test_whatever_an_application_makes_of_its_scope_its_client_is_answered(
    change, end, show_failure, caplog
):
    async def app(scope, receive, send):
        scope.update(change)
        if end == "raise":
            raise ValueError
        if end == "late":
            await respond(send)
            await send({"type": "http.response.body", "body": b"late"})
        if end == "misuse":
            await send({"type": "http.response.body"})

    client = MemoryClient(app)
    client.runtime.show_failure = show_failure
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 200 " if end == "late" else b"HTTP/1.1 500 ")
    assert caplog.records
    assert not client.runtime.calls


class Unshowable:
    """It cannot even be asked what it is."""

    @property
    def __class__(self):
        raise LookupError

    def __repr__(self):
        raise LookupError

    __str__ = __repr__


@pytest.mark.parametrize("make", [Unshowable, lambda: 10**5000], ids=["object", "number"])
async def test_what_cannot_be_shown_leaves_no_client_waiting(make, caplog):
    returned = make()

    async def app(scope, receive, send):
        scope["client"] = (Unshowable(),)
        scope["method"] = Unshowable()
        scope["raw_path"] = Unshowable()
        return returned

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 500 ")
    [record] = caplog.records
    kind = type(returned).__name__
    assert record.getMessage() == (
        "a request: the application returned without an answer: "
        f"it sent no http.response.start; it returned <{kind}>, which nobody reads"
    )
    assert not client.runtime.calls


async def test_what_an_application_returns_behind_a_whole_answer_is_not_looked_at(caplog):
    async def app(scope, receive, send):
        await respond(send)
        return Unshowable()

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_client_that_ends_in_the_middle_of_its_upload_keeps_an_answer_that_was_whole(version):
    client = MemoryClient(answering(b"hello", headers=[(b"content-length", b"5")]))
    await client.send(b"POST / HTTP/%s\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc" % version)
    assert client.written.endswith(b"hello")
    await client.end()
    assert not client.transport.aborted
    assert client.transport.closing


async def test_behind_the_disconnect_nothing_of_the_request_is_received():
    told = []

    async def app(scope, receive, send):
        await respond(send)
        told.extend([(await receive())["type"] for _ in range(2)])

    await MemoryClient(app).send(post(b"body"))
    assert told == ["http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("headers", [[(None, b"x")], [()], 5])
async def test_a_key_of_another_message_is_no_error(headers):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello", "headers": headers})

    client = MemoryClient(app)
    await client.send(GET)
    assert b"hello" in client.written


async def test_advice_is_given_once_a_call(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await send({"type": "http.response.body", "bdoy": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    await MemoryClient(app).send(GET)
    assert caplog.text.count("which means nothing") == 1


async def test_groups_that_share_what_is_in_them_are_looked_through_once():
    error = ClientDisconnected("left")
    for _ in range(200):
        error = ExceptionGroup("a group", [error, error])
    assert told_by(error) is error
    error = ValueError("fault")
    for _ in range(200):
        error = ExceptionGroup("a group", [error, error])
    assert told_by(error) is None


async def test_a_clean_up_that_fails_in_a_group_is_no_disconnect_itself():
    left, fault = ClientDisconnected("left"), ValueError("in the clean-up")
    fault.__context__ = left
    assert told_by(fault) is left
    assert told_by(ExceptionGroup("a group", [fault])) is left
    assert told_by(ExceptionGroup("a group", [left, fault])) is left
    meant = ExceptionGroup("a group", [left])
    assert told_by(meant) is meant


async def test_groups_without_an_end_are_logged(caplog, monkeypatch):
    async def app(scope, receive, send):
        await receive()
        await receive()
        error = ValueError("innermost")
        for _ in range(3000):
            error = ExceptionGroup("a group", [error])
        raise error

    client = MemoryClient(app)
    short = logging.Formatter("%(message)s")
    monkeypatch.setattr(short, "formatException", lambda info: "its traceback")
    monkeypatch.setattr(caplog.handler, "formatter", short)  # which all tests of this process share
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    assert "the application raised" in caplog.text


async def test_a_file_that_is_given_up_when_the_client_has_left_is_no_news(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"x" * 100)
    reading = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200})
        part = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
        sending = asyncio.ensure_future(send(part))
        client.runtime.loop.call_soon(reading.set)
        await receive()
        sending.cancel()

    client = MemoryClient(app)
    client.transport.write = lambda data: client.connection.pause_writing()
    await client.send(GET)
    await reading.wait()
    client.transport.lose()
    await client.turns()
    assert not caplog.records


async def test_a_long_target_is_cut_and_the_client_named(caplog):
    async def app(scope, receive, send):
        """Answers nothing."""

    await MemoryClient(app).send(b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    [record] = caplog.records
    assert "aaa... from 127.0.0.1:50000: the application" in record.getMessage()


async def test_a_key_that_cannot_be_shown_is_no_error():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, 10**5000: 1})
        await send({"type": "http.response.body", "body": b"hello", 10**5000: 1})

    client = MemoryClient(app)
    await client.send(GET)
    assert b"hello" in client.written


async def test_a_long_chain_of_errors_is_followed_to_its_end():
    first = error = ValueError("the last one")
    for _ in range(20_000):
        error.__context__ = ValueError("before")
        error = error.__context__
    error.__context__ = ClientDisconnected("left")
    assert told_by(first) is error.__context__


async def test_what_an_application_puts_into_its_scope_stays_one_line_of_the_log(caplog):
    async def app(scope, receive, send):
        scope["client"] = ("1.2.3.4\nERROR forged\u2028", 1)

    await MemoryClient(app).send(GET)
    [record] = caplog.records
    assert r" from 1.2.3.4\x0aERROR forged\x2028:1: the application returned" in record.getMessage()


async def test_what_an_application_sends_after_it_returned_is_told_so():
    told, tasks = [], []

    async def late(send):
        await asyncio.sleep(0)
        with pytest.raises(ASGIError) as caught:
            await send({"type": "http.response.start", "status": 200})
        told.append(str(caught.value))

    async def app(scope, receive, send):
        tasks.append(asyncio.create_task(late(send)))
        told.append((await receive())["type"])

    await MemoryClient(app).send(GET)
    assert told[0] == "http.request"
    assert told[1].startswith("http.response.start was sent after the application had returned\n")


async def test_a_disconnect_in_a_framework_s_own_words_is_not_logged(caplog):
    caplog.set_level("INFO")

    async def app(scope, receive, send):
        request = Request(scope, receive)
        await request.body()

    client = MemoryClient(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1")
    client.transport.lose()
    await client.turns()
    assert not caplog.records


async def test_errors_whose_contexts_are_a_ring_are_logged(caplog):
    async def app(scope, receive, send):
        await receive()
        await receive()
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__context__ = second, ExceptionGroup("a group", [first])
        raise first

    client = MemoryClient(app)
    await client.send(GET)
    client.transport.lose()
    await client.turns()
    assert "ValueError: first" in caplog.text


# ---- the application's mistakes ----


async def test_an_application_that_raises_before_its_answer_is_a_500_without_a_word_of_it(caplog):
    async def app(scope, receive, send):
        raise ValueError("secret")

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"secret" not in client.written
    assert "GET / from 127.0.0.1:50000: the application raised" in caplog.text
    assert "ValueError: secret" in caplog.text


async def test_an_application_that_raises_between_start_and_body_is_a_500(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        raise ValueError

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 500 ")


async def test_an_application_that_raises_in_its_body_resets_the_connection(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.endswith(b"4\r\npart\r\n")
    assert client.transport.aborted


@pytest.mark.parametrize("messages", [0, 1, 2])
async def test_an_application_that_returns_too_early_is_named_in_the_log(messages, caplog):
    async def app(scope, receive, send):
        if messages > 0:
            await send({"type": "http.response.start", "status": 200})
        if messages > 1:
            await send({"type": "http.response.body", "body": b"part", "more_body": True})

    client = MemoryClient(app)
    await client.send(GET)
    assert "the application returned" in caplog.text
    assert client.transport.aborted == (messages == 2)
    assert client.written.startswith(b"HTTP/1.1 500 ") == (messages < 2)


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"status": "200"},
        {"status": 99},
        {"status": 101},
        {"status": 200, "headers": [(b"bad name", b"x")]},
        {"status": 200, "headers": [(b"a", b"new\r\nline: x")]},
        {"status": 200, "headers": [(b"a", b"nul\0")]},
        {"status": 200, "headers": [(b"content-length", b"many")]},
    ],
)
async def test_a_bad_start_is_raised_from_send_and_a_good_one_may_follow(start):
    async def app(scope, receive, send):
        with pytest.raises(ASGIError, match="http.response.start"):
            await send({"type": "http.response.start", **start})
        await respond(send, b"mended")

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.endswith(b"mended")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"four", "the body ends with 4 bytes, fewer than its content-length of 5; if more is to come, is"),
        (
            b"longer than five",
            "the body has 16 bytes, more than its content-length of 5",
        ),
    ],
)
async def test_a_body_that_is_not_as_long_as_promised_is_raised_and_becomes_a_500(body, told, caplog):
    client = MemoryClient(answering(body, headers=[(b"content-length", b"5")]))
    await client.send(GET)
    assert told in caplog.text
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert body not in client.written


async def test_a_stream_that_is_longer_than_promised_never_sends_the_excess(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await send({"type": "http.response.body", "body": b"excess"})

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.endswith(b"\r\n\r\n12345")
    assert client.transport.aborted
    assert "the body has 11 bytes so far, more than its content-length of 5" in caplog.text


async def test_an_application_that_goes_on_after_its_response_does_not_hold_up_the_next():
    done = asyncio.Event()
    finished = []

    async def app(scope, receive, send):
        await respond(send)
        await send({"type": "http.response.body", "body": b"ignored"})
        await done.wait()
        finished.append(scope["path"])

    client = MemoryClient(app)
    await client.send(GET, GET)
    assert client.written.count(b"HTTP/1.1 200 OK") == 2
    assert b"ignored" not in client.written
    assert len(client.runtime.calls) == 2
    done.set()
    await client.turns()
    assert finished == ["/", "/"]


# ---- the client's mistakes ----


async def test_a_head_without_end_is_a_431():
    client = MemoryClient(hello)
    await client.send(GET[:-2], b"A: " + b"a" * 70_000)
    assert client.written.startswith(b"HTTP/1.1 431 ")
    assert client.transport.eof_written


async def test_bytes_that_break_a_rule_are_not_repeated():
    client = MemoryClient(hello)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nsecret : token\r\n\r\n")
    assert b"secret" not in client.written


async def test_a_mistake_in_mid_response_breaks_off():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        with pytest.raises(ClientDisconnected):
            await send({"type": "http.response.body"})

    client = MemoryClient(app)
    await client.send(chunked(), b"nonsense\r\n")
    assert client.written.count(b"HTTP/1.1") == 1
    assert client.transport.aborted
    assert not client.runtime.calls


# ---- time ----


async def test_a_silent_connection_is_closed():
    client = MemoryClient(hello)
    await client.pass_time(4)
    assert not client.transport.closing
    await client.pass_time(2)
    assert client.transport.closing
    assert client.written == b""


async def test_half_a_head_is_a_408_however_it_trickles():
    client = MemoryClient(hello)
    for byte in b"GET / HTTP":
        await client.send(bytes([byte]))
        await client.pass_time(0.9)
    assert client.written == b""
    await client.pass_time(2)
    assert client.written.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert client.transport.eof_written


async def test_an_idle_connection_is_closed_and_a_used_one_is_not():
    client = MemoryClient(hello)
    for _ in range(5):
        await client.send(GET)
        await client.pass_time(4)
    assert client.written.count(b"HTTP/1.1 200 OK") == 5
    await client.pass_time(2)
    assert client.transport.closing


async def test_a_body_that_stalls_while_the_application_waits_is_a_408():
    received = []

    async def app(scope, receive, send):
        while True:
            received.append(await receive())
            if received[-1]["type"] == "http.disconnect":
                return

    client = MemoryClient(app)
    whole = post(b"abcd")
    await client.send(whole[:-3])
    for byte in (b"b", b"c"):
        await client.pass_time(29)
        await client.send(byte)
    await client.pass_time(29)
    assert client.written == b""
    await client.pass_time(2)
    assert client.written.startswith(b"HTTP/1.1 408 ")
    assert received[-1] == {"type": "http.disconnect"}


async def test_an_application_that_asks_again_and_again_gives_a_stalled_body_no_more_time():
    poll = asyncio.Event()

    async def app(scope, receive, send):
        while True:
            asked = asyncio.ensure_future(receive())
            polled = asyncio.ensure_future(poll.wait())
            await asyncio.wait([asked, polled], return_when=asyncio.FIRST_COMPLETED)
            poll.clear()
            polled.cancel()
            if asked.done() and asked.result()["type"] == "http.disconnect":
                return
            asked.cancel()

    client = MemoryClient(app)
    await client.send(post(b"abcd")[:-2])
    for _ in range(4):
        await client.pass_time(10)
        poll.set()
        await client.turns()
    assert client.written.startswith(b"HTTP/1.1 408 ")


async def test_an_application_may_take_its_time():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, await read_body(receive))

    client = MemoryClient(app)
    await client.send(post(b"abc"))
    await client.pass_time(3600)
    assert client.connection.deadline == math.inf
    go_on.set()
    await client.turns()
    assert client.written.endswith(b"abc")


# ---- stopping ----


async def test_a_stop_closes_what_is_idle_or_has_half_a_request():
    for data in ([], [GET], [GET, b"GET / HT"]):
        client = MemoryClient(hello)
        await client.send(*data)
        client.runtime.stop_accepting()
        await client.turns()
        assert client.transport.closing
        assert client.runtime.quiet.done()


async def test_a_stop_lets_a_running_request_finish_and_says_so():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"answer")

    client = MemoryClient(app)
    await client.send(GET + GET)
    client.runtime.stop_accepting()
    await client.turns()
    assert not client.runtime.quiet.done()
    go_on.set()
    await client.turns()
    assert client.written.count(b"HTTP/1.1 200 OK") == 1  # no new request is begun
    assert b"connection: close" in head_of(client.written)
    await client.end()
    assert client.runtime.quiet.done()


async def test_a_stop_does_not_wait_for_the_rest_of_a_request_that_was_answered():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"b"})

    client = MemoryClient(app)
    await client.send(post(bytes(100))[:-50])
    client.runtime.stop_accepting()
    go_on.set()
    await client.turns()
    assert client.written.endswith(b"1\r\nb\r\n0\r\n\r\n")
    assert client.transport.eof_written


async def test_a_request_that_is_cancelled_by_a_stop_is_a_503():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    client = MemoryClient(app)
    await client.send(GET)
    client.runtime.stop_accepting()
    for call in client.runtime.calls:
        call.task.cancel()
    await client.turns()
    assert client.written.startswith(b"HTTP/1.1 503 ")


# ---- the access log ----


async def test_the_access_log_has_a_line_for_every_end_of_a_request():
    lines = []

    def access(visit, status, sent, seconds):
        lines.append((visit.line, status, sent, seconds))

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            client.now += 1.5
        if scope["path"] == "/fails":
            raise ValueError
        if scope["path"] == "/waits":
            await receive()
            await receive()
            return
        await respond(send, b"hello")

    def get(path):
        return GET.replace(b"/ ", path + b" ")

    client = MemoryClient(app, access=access)
    await client.send(GET, get(b"/slow?q"), GET.replace(b"GET", b"HEAD"), get(b"/fails"))
    assert lines == [
        (b"GET / HTTP/1.1", 200, 5, 0),
        (b"GET /slow?q HTTP/1.1", 200, 5, 1.5),
        (b"HEAD / HTTP/1.1", 200, 0, 0),
        (b"GET /fails HTTP/1.1", 500, len(b"500 Internal Server Error\n"), 0),
    ]
    lines.clear()
    client = MemoryClient(app, access=access)
    await client.send(get(b"/waits"))
    client.transport.lose()
    await client.turns()
    assert lines == [(b"GET /waits HTTP/1.1", 0, 0, 0)]
    lines.clear()
    client = MemoryClient(app, access=access)
    await client.send(GET, b"nonsense\r\n\r\n")
    assert [line[:2] for line in lines] == [(b"GET / HTTP/1.1", 200), (b"-", 400)]
    lines.clear()
    client = MemoryClient(app, access=access)
    await client.send(b"GET")
    await client.end()
    assert lines == []  # nobody asked for anything


# ---- the tables ----


def test_every_event_of_h11_that_a_server_can_get_is_listed():
    of_clients = {h11.Response, h11.InformationalResponse}
    every = {each for each in vars(h11).values() if isinstance(each, type) and issubclass(each, h11.Event)}
    assert set(ON_EVENT) == every - of_clients - {
        h11.Event,
        h11.ConnectionClosed,
    }  # of their end the intake knows


# ---- closing ----


async def test_a_large_answer_is_taken_in_full_however_slowly_before_the_connection_goes():
    client = MemoryClient(answering(bytes(1000)))
    await client.send(post(b"hi", b"Expect: 100-continue")[:-2])  # an end in stages: a body may come
    assert client.transport.eof_written
    for left in range(900_000, 0, -100_000):
        client.transport.buffered = left
        await client.pass_time(50)
        assert not client.transport.closing
    client.transport.buffered = 0
    await client.pass_time(3)
    assert not client.transport.aborted
    await client.pass_time(3)
    assert client.transport.aborted


@pytest.mark.parametrize("request_", [LAST, GET])
async def test_a_client_that_takes_nothing_does_not_keep_its_connection(request_):
    client = MemoryClient(hello)
    client.transport.close = lambda: None  # as a real one does while it has bytes to send
    await client.send(request_)
    client.transport.buffered = 500_000
    for _ in range(40):
        await client.pass_time(3)
    assert client.transport.aborted


async def test_a_stop_lets_a_client_read_the_answers_to_what_it_pipelined():
    client = MemoryClient(hello)
    client.connection.data_received(GET * 5000)
    assert not client.transport.reading
    client.runtime.stop_accepting()
    await client.turns()
    assert client.transport.eof_written  # not closed: what is unread could reset the connection
    assert not client.transport.closing
    await client.end()
    assert client.transport.closing


async def test_a_refused_client_that_has_ended_its_side_is_not_waited_for(caplog):
    async def app(scope, receive, send):
        await go_on.wait()
        raise ValueError

    go_on = asyncio.Event()
    client = MemoryClient(app)
    await client.send(GET)
    assert client.connection.eof_received()
    go_on.set()
    await client.turns()
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert client.transport.closing


async def test_keep_alive_begins_when_the_last_answer_is_taken():
    client = MemoryClient(hello)
    await client.send(GET)
    for left in (3000, 2000, 1000, 0):
        client.transport.buffered = left
        await client.pass_time(6)
        assert not client.transport.closing
    await client.pass_time(6)
    assert client.transport.closing


async def test_no_request_is_begun_on_a_connection_that_a_stop_has_closed():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["path"])
        await go_on.wait()
        await respond(send)
        client.runtime.stop_accepting()

    go_on = asyncio.Event()
    client = MemoryClient(app)
    await client.send(GET + GET)
    go_on.set()
    await client.turns()
    assert seen == ["/"]


async def test_a_pipelined_request_behind_the_end_of_its_client_is_told_of_it():
    received = []

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/1":
            await go_on.wait()
            await respond(send)
        else:
            received.append(await receive())

    go_on = asyncio.Event()
    client = MemoryClient(app)
    await client.send(GET.replace(b"/ ", b"/1 ") + GET)
    assert client.connection.eof_received()
    go_on.set()
    await client.turns()
    assert received == [{"type": "http.disconnect"}]
    assert client.transport.closing
    assert not client.runtime.connections


@pytest.mark.parametrize("chunks", [1, 40, 100, 300])
@pytest.mark.parametrize("behind", [False, True])
async def test_a_body_that_came_whole_is_received_whole_though_its_client_has_ended_its_side(chunks, behind):
    received = []

    async def app(scope, receive, send):
        if scope["method"] == "GET":
            await go_on.wait()
            await respond(send)
            return
        while (message := await receive())["type"] == "http.request":
            received.append(message["body"])
        received.append(message["type"])

    go_on = asyncio.Event()
    client = MemoryClient(app)
    body = b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"
    client.connection.data_received(GET * behind + chunked() + body)
    assert client.connection.eof_received()
    await client.turns()
    go_on.set()
    await client.turns(100)
    assert received[-1] == "http.disconnect"
    assert b"".join(received[:-1]) == b"x" * chunks
    assert not client.runtime.connections
    assert not client.runtime.calls


async def test_many_pipelined_requests_are_answered_though_their_client_has_ended_its_side():
    client = MemoryClient(hello)
    client.connection.data_received(GET * 500)
    assert client.connection.eof_received()
    await client.turns(2000)
    assert client.written.count(b"HTTP/1.1 200 OK") == 500
    assert client.transport.closing
    assert not client.runtime.connections


async def test_an_http_1_0_client_is_reset_where_it_could_take_a_part_for_the_whole(caplog):
    class Socket:
        def setsockopt(self, *arguments):
            options.append(arguments)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError

    for version, expected in ((b"1.0", [socket.SO_LINGER]), (b"1.1", [])):
        options = []
        client = MemoryClient(app)
        client.transport._extra["socket"] = Socket()
        await client.send(GET.replace(b"1.1", version))
        assert client.transport.aborted
        assert [option[1] for option in options] == expected


async def test_a_client_that_left_before_the_answer_was_ended_is_no_error(caplog):
    client = MemoryClient(hello)

    def not_connected():
        raise OSError(107, "Transport endpoint is not connected")

    client.transport.write_eof = not_connected
    await client.send(b"nonsense\r\n\r\n")
    assert client.transport.aborted
    assert not caplog.records


async def test_nothing_more_is_written_to_a_transport_that_failed():
    client = MemoryClient(hello)
    written = []

    def fail(data):
        written.append(data)
        client.transport.closing = True

    client.transport.write = fail
    await client.send(GET * 10)
    assert len(written) == 1


# ---- more of time ----


async def test_half_a_head_behind_a_request_has_the_time_of_a_head():
    client = MemoryClient(hello, timeout_keep_alive=60)
    await client.send(GET + b"GET /2 HT")
    await client.pass_time(9)
    assert not client.transport.eof_written
    await client.pass_time(2)
    assert b"HTTP/1.1 408 " in client.written


async def test_a_body_that_nobody_waits_for_any_more_may_stall():
    async def app(scope, receive, send):
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        given_up.set()
        await go_on.wait()
        await respond(send, b"anyway")

    given_up, go_on = asyncio.Event(), asyncio.Event()
    client = MemoryClient(app)
    await client.send(post(b"abc")[:-1])
    await given_up.wait()
    await client.pass_time(31)
    assert client.written == b""
    go_on.set()
    await client.turns()
    assert client.written.endswith(b"anyway")


async def test_after_a_late_tick_nobody_is_judged():
    """uvloop runs timers before it reads: what came while the loop was blocked is still unread."""
    client = MemoryClient(hello)
    client.now += 60
    client.runtime.tick()
    await client.send(GET)
    client.runtime.tick()
    assert client.written.startswith(b"HTTP/1.1 200 ")
    assert not client.transport.closing


async def test_many_that_are_overdue_together_are_ended_a_few_in_each_turn():
    client = MemoryClient(hello)
    runtime = client.runtime
    others = [MemoryTransport(client.loop) for _ in range(3 * ENDED_AT_ONCE)]
    for transport in others:
        transport.protocol = Arrival(runtime, Http1Connection)
        transport.protocol.connection_made(transport)
    client.now += runtime.config.timeout_keep_alive
    runtime.ticked = client.now  # not late
    runtime.tick()
    closed, most = 0, 0
    awake = next(transport for transport in others if not transport.closing)
    awake.protocol.data_received(b"GET / ")  # it has more time, before it was its turn
    while closed < len(others):
        before, closed = closed, sum(transport.closing for transport in [*others, client.transport])
        most = max(most, closed - before)
        await asyncio.sleep(0)
    assert most <= ENDED_AT_ONCE
    assert not awake.closing
    assert awake.protocol in runtime.connections


# ---- more of mistakes ----


async def test_two_lengths_are_refused():
    client = MemoryClient(hello)
    await client.send(chunked(b"Content-Length: 5") + b"0\r\n\r\n" + GET)
    assert client.written.startswith(b"HTTP/1.1 400 ")
    assert client.written.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("pieces", [1, 2, 10])
async def test_a_head_that_is_too_long_is_a_431_however_it_is_cut(pieces):
    head = GET[:-2] + b"A: " + b"a" * 150_000 + b"\r\n\r\n"
    size = len(head) // pieces + 1
    client = MemoryClient(hello)
    await client.send(*(head[i : i + size] for i in range(0, len(head), size)))
    assert client.written.startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_is_no_bytes_is_raised_before_anything_is_written(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        with pytest.raises(
            ASGIError, match="'body' of http.response.body is the str 'text', but takes bytes"
        ):
            await send({"type": "http.response.body", "body": "text"})
        await send({"type": "http.response.body", "body": memoryview(b"te"), "more_body": True})
        await send({"type": "http.response.body", "body": bytearray(b"xt")})

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.endswith(b"2\r\nte\r\n2\r\nxt\r\n0\r\n\r\n")


async def test_a_path_cannot_forge_a_line_of_the_log(caplog):
    async def app(scope, receive, send):
        raise ValueError

    client = MemoryClient(app)
    await client.send(GET.replace(b"/ ", b"/%0aCRITICAL%1b[31m "))
    assert "GET /%0aCRITICAL%1b[31m from 127.0.0.1:50000: the application raised" in caplog.text


async def test_an_application_that_is_cancelled_by_what_it_waits_for_is_logged(caplog):
    async def app(scope, receive, send):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 503 ") or client.written.startswith(b"HTTP/1.1 500 ")
    assert "CancelledError" in caplog.text


@pytest.mark.parametrize("error", [type("Exit", (BaseException,), {}), SystemExit, GeneratorExit])
async def test_an_application_that_raises_no_exception_but_something_else_is_a_500(error, caplog):
    async def app(scope, receive, send):
        raise error

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert not client.runtime.calls
    assert error.__name__ in caplog.text


async def test_an_application_that_exits_is_a_500_and_the_server_goes_on(caplog):
    async def app(scope, receive, send):
        raise SystemExit(7)

    client = MemoryClient(app)
    await client.send(GET)
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert "SystemExit: 7" in caplog.text


async def test_the_access_log_has_one_line_for_a_request_whose_rest_is_broken():
    lines = []
    client = MemoryClient(hello, access=lambda visit, status, sent, seconds: lines.append((status, sent)))
    await client.send(chunked(), b"nonsense\r\n")
    assert lines == [(200, 5)]
    assert client.transport.eof_written
    assert not client.transport.aborted


async def test_the_access_log_has_no_status_where_nothing_was_sent():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await asyncio.Event().wait()

    lines = []
    client = MemoryClient(app, access=lambda visit, status, sent, seconds: lines.append((status, sent)))
    await client.send(GET)
    client.transport.lose()
    for call in client.runtime.calls:
        call.task.cancel()
    await client.turns()
    assert lines == [(0, 0)]


# ---- as many at a time as there may be ----


async def test_one_request_too_many_is_a_503_and_idle_connections_do_not_count():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/wait":
            await go_on.wait()
        await respond(send, b"answer")

    first = MemoryClient(app, limit_concurrency=2)
    clients = [first, *(MemoryClient(app, runtime=first.runtime) for _ in range(5))]
    for idle in clients:
        await idle.send(GET)  # one after the other, and none is under way any more
        assert b" 200 OK" in idle.written
    for busy in clients[:2]:
        await busy.send(GET.replace(b"/ ", b"/wait "))
    one_more = clients[2]
    one_more.transport.writes.clear()
    await one_more.send(GET)
    assert one_more.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 1" in head_of(one_more.written)
    assert one_more.transport.eof_written
    go_on.set()
    await first.turns()
    assert all(busy.written.count(b" 200 OK") == 2 for busy in clients[:2])
    await clients[3].send(GET)
    assert clients[3].written.count(b" 200 OK") == 2


async def test_an_open_websocket_counts_among_the_requests_at_a_time():
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    first = MemoryClient(app, limit_concurrency=1)
    second = MemoryClient(app, runtime=first.runtime)
    handshake = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await first.send(handshake)
    assert first.written.startswith(b"HTTP/1.1 101 ")
    await second.send(handshake)
    assert second.written.startswith(b"HTTP/1.1 503 ")
    first.transport.lose()
    await first.turns()
    third = MemoryClient(app, runtime=first.runtime)
    await third.send(GET)
    assert third.written.startswith(b"HTTP/1.1 200 ")
