"""The table of an HTTP exchange: what the application may send in which state."""

import pytest

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.protocol.exchange import Exchange, State


class SilentWire:
    """A wire that takes everything."""

    congested = False

    def __init__(self):
        self.asked = []

    def write_response(self, status, headers):
        self.asked.append(("response", status, list(headers)))

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
            assert name.startswith("http.response.")
            assert getattr(Exchange, act.__name__) is act


async def test_a_response_walks_through_the_states():
    walked = exchange()
    states = []
    for message in (START, MORE, MORE, LAST, LAST):
        await walked.send(message)
        states.append(walked.state)
    assert states == [State.BODY, State.BODY, State.BODY, State.DONE, State.DONE]
    assert walked.wire.asked == [
        ("response", 200, [(b"a", b"b")]),
        ("body", b"x", True),
        ("body", b"x", True),
        ("body", b"", False),
    ]


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
async def test_what_a_state_does_not_list_is_an_error_that_names_state_and_message(state):
    every = {name for row in Exchange.SEND.values() for name in row} | {"websocket.accept"}
    for name in every - set(Exchange.SEND[state]):
        with pytest.raises(ASGIError) as caught:
            await exchange(state).send({"type": name})
        assert name in str(caught.value)
        assert state.value in str(caught.value)
        for allowed in Exchange.SEND[state]:
            assert allowed in str(caught.value)


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

    def refuse(status, headers):
        raise ASGIError("no")

    refused.wire.write_response = refuse
    with pytest.raises(ASGIError, match="no"):
        await refused.send(START)
    assert refused.state is State.START
