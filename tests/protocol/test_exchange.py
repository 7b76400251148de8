"""The table of an HTTP exchange: what the application may send in which state."""

import re
from types import SimpleNamespace

import pytest

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.explain.faults import log_fault
from miniasgi.explain.messages import KINDS, Unsendable
from miniasgi.protocol.exchange import Exchange, State
from miniasgi.protocol.runtime import Waiters


class SilentWire:
    """A wire that takes everything."""

    congested = False
    runtime = SimpleNamespace(on_debug=print, show_failure=None, tell=log_fault)

    def __init__(self):
        self.asked = []

    def write_response(self, status, headers, trailers):
        self.asked.append(("response", status, list(headers), trailers))

    def write_trailers(self, headers):
        self.asked.append(("trailers", list(headers)))

    async def write_file(self, part):
        self.asked.append(("file", part.offset, part.count))

    def write_body(self, body, more_body):
        self.asked.append(("body", body, more_body))


START = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST = {"type": "http.response.body"}


def exchange(state=State.START):
    made = Exchange({"type": "http", "method": "GET", "path": "/"}, SilentWire())
    made.state = state
    return made


def test_every_state_has_its_row_and_every_row_its_action():
    assert set(Exchange.SEND) == set(State)
    for row in Exchange.SEND.values():
        for name, act in row.items():
            assert name in KINDS
            assert getattr(Exchange, act.__name__) is act


async def walk(walked, *messages):
    """The state after each message."""
    states = []
    for message in messages:
        await walked.send(message)
        states.append(walked.state)
    return states


async def test_a_response_walks_through_the_states():
    walked = exchange()
    states = await walk(walked, START, MORE, MORE, LAST, LAST)
    assert states == [State.STARTED, State.BODY, State.BODY, State.DONE, State.DONE]
    assert walked.wire.asked == [
        ("response", 200, [(b"a", b"b")], False),
        ("body", b"x", True),
        ("body", b"x", True),
        ("body", b"", False),
    ]


async def test_a_response_with_trailers_ends_with_the_last_of_them():
    walked = exchange()
    trailers = {"type": "http.response.trailers", "headers": [(b"c", b"d")], "more_trailers": True}
    states = await walk(
        walked, START | {"trailers": True}, MORE, LAST, trailers, trailers | {"more_trailers": False}
    )
    assert states == [State.STARTED, State.BODY, State.TRAILERS, State.TRAILERS, State.DONE]
    assert walked.wire.asked == [
        ("response", 200, [(b"a", b"b")], True),
        ("body", b"x", True),
        ("body", b"", True),
        ("trailers", [(b"c", b"d"), (b"c", b"d")]),
    ]


async def test_a_file_by_its_path_is_the_whole_body(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    walked = exchange()
    states = await walk(walked, START, {"type": "http.response.pathsend", "path": str(path)}, LAST)
    assert states == [State.STARTED, State.DONE, State.DONE]
    assert walked.wire.asked[1:] == [("file", 0, 5), ("body", b"", False)]


async def test_a_file_by_its_path_does_not_mix_with_body():
    walked = exchange()
    await walk(walked, START, MORE)
    with pytest.raises(ASGIError, match="pathsend was sent after the first of the body"):
        await walked.send({"type": "http.response.pathsend", "path": "/"})


@pytest.mark.parametrize(
    ("keys", "sent", "position"),
    [
        ({}, (2, 8), 10),
        ({"count": 3}, (2, 3), 5),
        ({"count": 30}, (2, 8), 10),
        ({"offset": 4}, (4, 6), 2),
        ({"offset": 0, "count": 4}, (0, 4), 2),
        ({"offset": 30}, (30, 0), 2),
        ({"offset": None, "count": None}, (2, 8), 10),
    ],
)
async def test_a_file_is_sent_from_its_position_unless_an_offset_is_given(tmp_path, keys, sent, position):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    walked = exchange(State.STARTED)
    with path.open("rb") as file:
        file.read(2)
        await walked.send({"type": "http.response.zerocopysend", "file": file, "more_body": True, **keys})
        assert file.tell() == position
    assert walked.wire.asked == [("file", *sent), ("body", b"", True)]
    assert walked.state is State.BODY


async def test_nothing_else_can_be_sent_while_a_file_is(tmp_path):
    walked = exchange(State.STARTED)
    told = []

    async def write_file(part):
        with pytest.raises(ASGIError) as caught:
            await walked.send(LAST)
        told.append(str(caught.value))

    walked.wire.write_file = write_file
    path = tmp_path / "file"
    path.write_bytes(b"x")
    await walked.send({"type": "http.response.pathsend", "path": str(path)})
    assert "was sent while another send() was sending a file, which is to be awaited first" in told[0]
    assert walked.state is State.DONE


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
async def test_what_a_state_does_not_list_is_an_error_that_names_state_and_message(state):
    every = {name for row in Exchange.SEND.values() for name in row} | {"websocket.accept"}
    may_send = bool(Exchange.SEND[state]) and state is not State.DONE  # what that one lists is ignored
    for name in every - set(Exchange.SEND[state]):
        with pytest.raises(ASGIError) as caught:
            await exchange(state).send({"type": name})
        if name.startswith("websocket"):
            order = "but scope['type'] is 'http' here, not 'websocket'" if may_send else state.value
        else:
            order = "a second time" if state.value == f"after {name}" else state.value
        assert re.match(rf"{name} was sent,? {re.escape(order)}", str(caught.value))
        if may_send:
            for allowed in Exchange.SEND[state]:
                assert allowed in str(caught.value)


async def test_messages_after_the_response_are_ignored_and_a_slip_is_told(caplog):
    late = exchange(State.DONE)
    for message in ({"type": name} for name in Exchange.SEND[State.DONE] if name != "http.response.start"):
        await late.send(message)
    assert not caplog.records
    await late.send(START)
    assert "ignored a message of the application: http.response.start was sent after the" in caplog.text
    await late.send(MORE)  # of the second answer, of which the start was told
    assert len(caplog.records) == 1
    assert late.wire.asked == []


async def test_who_was_told_of_the_disconnect_cannot_send_any_more():
    late = exchange(State.DONE)
    assert await late.receive() == {"type": "http.disconnect"}
    with pytest.raises(ClientDisconnected):
        await late.send(LAST)


@pytest.mark.parametrize("message", [START, LAST, {"type": "anything"}])
async def test_every_message_after_the_client_left_is_an_oserror(message):
    with pytest.raises(ClientDisconnected):
        await exchange(State.GONE).send(message)


@pytest.mark.parametrize(
    "message", [None, {}, "http.response.start", {"typ": "http.response.start"}, {"type": []}]
)
async def test_what_is_no_message_is_an_error(message):
    with pytest.raises(ASGIError):
        await exchange().send(message)


async def test_a_slip_of_the_pen_gets_the_right_spelling():
    with pytest.raises(ASGIError, match=r"did you mean 'http\.response\.start'"):
        await exchange().send({"type": "http.respones.start"})


async def test_an_error_of_the_wire_leaves_the_state():
    refused = exchange()

    def refuse(status, headers, trailers):
        raise Unsendable("no")

    refused.wire.write_response = refuse
    with pytest.raises(ASGIError, match="no"):
        await refused.send(START)
    assert refused.state is State.START


async def test_who_gives_up_waiting_leaves_nothing_and_takes_nobody_along():
    waiters = Waiters()
    stays = waiters.wait()
    for _ in range(100):  # as `asyncio.wait_for(receive(), …)` does, again and again
        waiters.wait().cancel()
    assert len(waiters) <= 2
    waiters.wake()
    assert stays.done()
    assert not stays.cancelled()
    assert not waiters
