"""Lanes: records as lines for a terminal: aligned, narrow, coloured only where that is wanted."""

import re

from miniasgi.observe.lanes import Lanes, said
from miniasgi.observe.record import Record

CALLED = Record(100, 1, 1, "app", "in", "called", {"type": "http", "method": "GET", "path": "/"})
STATES = {"client": "DONE", "server": "SEND_RESPONSE"}


def test_lanes_stand_below_each_other_in_the_order_of_the_way():
    lanes = Lanes()
    lines = [
        lanes.line(Record(100, 1, 1, "bytes", "in", "data_received", {"bytes": "GET / HTTP/1.1\r\n\r\n"})),
        lanes.line(Record(2100, 1, 1, "events", "in", "EndOfMessage", {"headers": []}, STATES)),
        lanes.line(Record(2200, 1, 1, "events", "in", "EndOfMessage", {"headers": []}, STATES)),
        lanes.line(Record(3100, 1, 1, "asgi", "out", "http.response.body", {"body": {"bytes": "hi"}})),
        lanes.line(Record(3200, 1, 1, "app", "out", "returned")),
        lanes.line(Record(9000, 2, 0, "bytes", "in", "connection_made", {"peername": ["127.0.0.1", 5]})),
        lanes.line(Record(9000, 0, 0, "asgi", "in", "lifespan.startup", {"type": "lifespan.startup"})),
    ]
    assert lines == [
        r"      0.00  #1    ▶┊┊┊ bytes  18 bytes: GET / HTTP/1.1\r\n\r\n",
        "      2.00  #1    ┊▶┊┊ h11    EndOfMessage  [DONE / SEND_RESPONSE]",
        "      2.10  #1    ┊▶┊┊ h11    EndOfMessage",
        "      3.00  #1    ┊┊◀┊ asgi   http.response.body: 2 bytes: hi, the last",
        "      3.10  #1    ┊┊┊◀ app    returned",
        "      0.00  c2    ▶┊┊┊ bytes  connected from 127.0.0.1:5",
        "      0.00  life  ┊┊▶┊ asgi   lifespan.startup",
    ]


def test_only_the_lanes_that_are_wanted_are_shown():
    assert Lanes(("asgi",)).line(CALLED) is None
    assert Lanes(("app",)).line(CALLED) is not None


def test_a_line_is_as_wide_as_it_may_be_and_no_wider():
    long = {"bytes": "x" * 5000}
    for width in (60, 100):
        line = Lanes(width=width).line(Record(0, 1, 1, "bytes", "in", "data_received", long))
        assert len(line) == width
        assert line.endswith("…")
        states = Lanes(width=width).line(Record(0, 1, 1, "events", "in", "Data", {"data": long}, STATES))
        assert len(states) == width
        assert states.endswith("…  [DONE / SEND_RESPONSE]")


def test_colours_add_nothing_but_themselves():
    plain, coloured = Lanes().line(CALLED), Lanes(coloured=True).line(CALLED)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_what_strangers_send_does_nothing_to_the_terminal():
    hostile = "\x1b[2J\u202e\x07\n\u2028\x9b"
    for record in (
        Record(0, 1, 1, "bytes", "in", "data_received", {"bytes": hostile}),
        Record(
            0, 1, 1, "events", "in", "Request", {"method": {"bytes": hostile}, "target": {"bytes": hostile}}
        ),
        Record(0, 1, 1, "events", "in", "TextMessage", {"data": hostile}),
        Record(0, 1, 1, "asgi", "in", "websocket.receive", {"text": hostile}),
        Record(0, 1, 1, "asgi", "in", "websocket.disconnect", {"code": 1000, "reason": hostile}),
        Record(0, 1, 1, "asgi", "out", hostile, {"type": hostile}),
        Record(0, 1, 1, "app", "in", "called", {"type": "http", "method": hostile, "path": hostile}),
        Record(0, 1, 1, "app", "out", "raised", {"error": hostile, "at": [hostile]}),
        Record(0, 1, 1, "app", "", "waits in receive()", app=hostile),
    ):
        assert Lanes().line(record).isprintable()


def test_each_kind_of_record_is_said_in_words():
    words = {
        said(Record(0, 1, 1, *lane, content))
        for *lane, content in [
            ("bytes", "in", "eof_received", None),
            ("bytes", "", "pause_reading", None),
            ("events", "out", "Response", {"status_code": 200, "headers": [1]}),
            ("events", "in", "CloseConnection", {"code": 1000, "reason": "bye"}),
            ("events", "in", "RemoteProtocolError", {"error": "illegal"}),
            ("events", "out", "refused", {"status_code": 400, "rule": "two lengths"}),
            ("asgi", "out", "http.response.start", {"type": "x", "status": 204, "headers": []}),
            ("asgi", "in", "http.request", {"body": {"bytes": "ab", "size": 7000}, "more_body": True}),
            ("asgi", "in", "websocket.receive", {"type": "websocket.receive", "text": "hi"}),
            ("asgi", "in", "send() raised", {"error": "OSError"}),
            ("app", "out", "raised", {"error": "ValueError: x", "at": ["app.py, line 1"]}),
        ]
    }
    assert words == {
        "the client has ended its side (eof_received)",
        "the application has enough: the client waits (pause_reading)",
        "Response 200, 1 header",
        "CloseConnection 1000 bye",
        "RemoteProtocolError: illegal",
        "refused with 400: two lengths",
        "http.response.start: 204",
        "http.request: 7,000 bytes: ab, more to come",
        "websocket.receive: 2 characters: hi",
        "send() raised OSError",
        "raised ValueError: x in app.py, line 1",
    }


def test_memory_does_not_grow_with_the_exchanges():
    lanes = Lanes()
    for number in range(1, 5000):
        lanes.line(CALLED._replace(exchange=number, states=STATES))
    assert len(lanes.began) <= 1000
    assert len(lanes.states) <= 1000
