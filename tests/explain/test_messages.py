"""The catalogue of messages, and the text for one that cannot be sent."""

import re
import time
import tracemalloc
from collections import UserDict, UserList
from http import HTTPStatus

import pytest

from miniasgi.asgi import ASGIError
from miniasgi.explain.messages import KINDS, advice, fault, refusal
from miniasgi.explain.shown import shown
from miniasgi.lifespan import SEND as LIFESPAN_SEND
from miniasgi.protocol.exchange import Exchange
from miniasgi.protocol.websocket import WebSocketExchange


def test_the_catalogue_has_every_message_of_the_tables_and_none_else():
    tables = (Exchange.SEND, WebSocketExchange.SEND, LIFESPAN_SEND)
    assert {name for table in tables for row in table.values() for name in row} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_an_example_keeps_the_rules_that_it_stands_for(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.mp4").touch()
    message = eval(KINDS[name].example)
    try:
        assert message["type"] == name
        assert fault(message) == ""
        assert list(advice(message)) == []
    finally:
        if "file" in message:
            message["file"].close()


@pytest.mark.parametrize("name", KINDS)
def test_a_key_more_is_no_fault(name, tmp_path, monkeypatch):
    keys = dict.fromkeys([*KINDS[name].required, *KINDS[name].one_of[:1]], "a value")
    told = fault({"type": name, "own": object(), **keys})
    assert "own" not in told


GOOD = [
    {"type": "http.response.start", "status": HTTPStatus.OK, "headers": ((b"a", b"b"), [b"c", b"\xff"])},
    {"type": "http.response.start", "status": 999, "headers": iter([(b"A", b"")]), "trailers": True},
    {"type": "http.response.body", "body": bytearray(b"x"), "more_body": True},
    {"type": "http.response.trailers"},
    {"type": "websocket.accept", "subprotocol": None, "headers": []},
    {"type": "websocket.send", "text": None, "bytes": memoryview(b"")},
    {"type": "websocket.send", "text": ""},
    {"type": "websocket.close", "code": 4999, "reason": None},
]
BAD = [
    ({"type": 5}, "'type' is 5 (int), but takes a str"),
    ({"type": []}, "'type' is [] (list), but takes a str"),
    ({"type": b"http.response.start"}, "'type' is b'http.response.start' (bytes), but takes a str"),
    ({"status": 200}, "a message has the key 'type', and this one has not"),
    ({"type": "http.request"}, "http.request is a message that receive() gives; it is not for an application"),
    ({"type": "zzz"}, "there is no message of type 'zzz' to send"),
    ({"type": "http.response.start", "status": True}, "is True (bool), but takes an int"),
    ({"type": "http.response.start", "status": 1000}, "a status code has three digits"),
    ({"type": "http.response.start", "status": 200, "headers": None}, "is None (NoneType), but takes a list"),
    ({"type": "http.response.start", "status": 200, "headers": [b"ab"]}, "has b'ab' in it, but takes pairs"),
    ({"type": "http.response.start", "status": 200, "headers": [(b"a", 5)]}, "has 5 (int) as a value"),
    ({"type": "http.response.start", "status": 200, "headers": [(b"", b"b")]}, "has the name b''"),
    ({"type": "http.response.start", "status": 200, "headers": [(b"a", b"\0")]}, "has a NUL in the value"),
    ({"type": "http.response.start", "status": 200, "headers": [(b"a", b" b")]}, "has white space around"),
    ({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"-1")]}, "a number of bytes"),
    ({"type": "http.response.body", "more_body": "no"}, "'more_body' of http.response.body is 'no' (str)"),
    ({"type": "websocket.close", "reason": b"x"}, "'reason' of websocket.close is b'x' (bytes), but takes a str"),
    ({"type": "websocket.close", "reason": "\ud800"}, "cannot be sent as UTF-8"),
    ({"type": "websocket.accept", "subprotocol": b"x"}, "'subprotocol' of websocket.accept is b'x' (bytes)"),
]  # fmt: skip


@pytest.mark.parametrize("message", GOOD)
def test_a_good_message_has_no_fault(message):
    assert fault(message) == ""


@pytest.mark.parametrize(("message", "told"), BAD)
def test_a_bad_message_has_one(message, told):
    assert told in fault(message)


def test_what_is_wrong_in_spirit_is_advice():
    [case] = advice({"type": "http.response.start", "status": 200, "headers": [(b"Set-Cookie", b"a")]})
    assert "has b'Set-Cookie' among its headers: ASGI has their names in lower case" in case
    [path] = advice({"type": "http.response.pathsend", "path": "film.mp4"})
    assert "which is not absolute" in path
    [key] = advice({"type": "http.response.body", "body": b"", "more_bdoy": True})
    assert "has the key 'more_bdoy', which means nothing; did you mean 'more_body'?" in key
    assert not list(advice({"type": "my.own"}))
    [body] = advice({"type": "http.response.body", "content": b"x"})
    assert "has the key 'content', which means nothing; its keys are 'body' and 'more_body'" in body
    assert not list(advice({"type": "http.response.body", "body": b"", "trace_id": 5}))


def test_a_key_of_another_message_is_advice():
    [case] = advice({"type": "http.response.start", "status": 200, "body": b"hello"})
    assert "has the key 'body', which means nothing; it is one of http.response.body" in case


def test_what_may_be_sent_now_is_guessed_first():
    def first_line(allowed):
        return str(refusal({"type": "websocket.accpt"}, "now", allowed)).splitlines()[0]

    assert first_line(["websocket.send", "websocket.accept"]).endswith("; did you mean 'websocket.accept'?")
    assert first_line(["lifespan.startup.complete"]).endswith("; did you mean 'websocket.accept'?")
    near = fault({"type": "http.response"}, ["http.response.start"])
    assert near.endswith("; did you mean 'http.response.start'?")


def test_advice_is_made_of_whatever_could_be_sent():
    for headers in ([iter([b"A", b"b"])], iter([(b"A", b"b")]), ((b"a", b"b") for _ in range(2)), ()):
        assert not list(advice({"type": "http.response.start", "status": 200, "headers": headers, 5: 6}))


def test_a_key_that_stands_where_one_is_missing_is_told():
    assert fault({"type": "websocket.send", "data": "x"}) == (
        "websocket.send has none of 'text' and 'bytes'; exactly one of them is not None; "
        "it has 'data', which means nothing"
    )


@pytest.mark.parametrize("value", [b"a\vb", b"a\fb", b"a\0b", b"a\nb"])
def test_what_h11_would_refuse_is_a_fault_of_any_header(value):
    assert fault({"type": "http.response.trailers", "headers": [(b"a", value)]})
    assert fault({"type": "http.response.early_hint", "links": [value]})


def send_here(message, state="before it", allowed=("http.response.start", "http.response.body", "x.y")):
    return refusal(message, state, allowed)


def test_the_text_has_its_rows():
    error = send_here({"type": "http.response.body", "body": "x" * 500})
    assert isinstance(error, ASGIError)
    first, *rows = str(error).splitlines()
    assert first.startswith("'body' of http.response.body is the str 'xxx")
    assert [row[:13].strip() for row in rows] == [
        *("the message", "sent by", "the state", "can be sent", "for example", "the rule")
    ]
    assert all(len(row) < 160 for row in rows)
    assert re.search(
        r"^  sent by      tests.explain.test_messages\.py, line \d+, in send_here$", str(error), re.M
    )
    assert "  can be sent  http.response.start, http.response.body or x.y\n" in str(error)
    assert "  for example  {'type': 'http.response.body', 'body': b'hello'}\n" in str(error)


def test_where_nothing_more_can_be_sent_there_is_no_example():
    text = str(refusal({"type": "http.response.body"}, "at the end", ()))
    assert text.startswith("http.response.body was sent at the end\n")
    assert "  can be sent  nothing\n" in text
    assert "for example" not in text


def test_a_reason_of_the_road_stands_where_the_catalogue_finds_no_fault():
    text = str(refusal({"type": "x.y"}, "now", ["x.y"], "no room"))
    assert text.startswith("there is no message of type 'x.y'")
    text = str(refusal({"type": "http.response.body"}, "now", ["http.response.body"], "no room"))
    assert text.startswith("no room\n")


def test_a_long_message_is_shortened():
    text = str(refusal({"type": "a", "body": b"x" * 10**6, "list": list(range(10**4))}, "now", ()))
    assert len(text) < 800
    assert "(1000000 bytes)" in text


class OwnDict(dict):
    """As the multi-dicts of frameworks are."""


@pytest.mark.parametrize("body", [bytes, bytearray], ids=["bytes", "bytearray"])
@pytest.mark.parametrize("kind", [dict, OwnDict, UserDict])
def test_of_a_long_value_only_its_beginning_is_made_into_text(kind, body):
    text = shown(kind({"type": "a", "body": body(10**6), **{f"key {n}": n for n in range(100)}}))
    assert text.startswith("{'type': 'a', 'body': " + ("bytearray(b'" if body is bytearray else "b'"))
    assert "(1000000 bytes), 'key 0': 0, " in text
    assert text.endswith(", ...}")
    assert len(text) < 400


def test_a_text_of_a_class_of_its_own_is_shortened():
    assert len(shown(type("Markup", (str,), {})("x" * 10**6))) < 100


SECRETS = [
    [(b"set-cookie", b"a=s3cret")],
    [[b"X-Api-Key", b"s3cret"]],
    [("set-cookie", "a=s3cret")],
    [(b"set-cookie", "a=s3cret")],
    [("set-cookie", b"a=s3cret")],
    [(bytearray(b"cookie"), b"s3cret")],
    [(b"cookie", b"s3cret", b"s3cret")],
    [(b"set-cookie", b"s3cret\r\n")],
    [(b"set-cookie", b" s3cret")],
    [(b"set-cookie", b"s3cret\0")],
    {b"set-cookie": b"s3cret"},
    {"Set-Cookie": "s3cret"},
    {b"set-cookie": b"s3cret"}.items(),
    UserList([(b"authorization", b"s3cret")]),
]


@pytest.mark.parametrize("headers", SECRETS, ids=map(repr, SECRETS))
def test_what_may_be_a_secret_is_not_shown(headers):
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    text = str(refusal(message, "now", ["http.response.start"]))
    assert "s3cret" not in text + shown(message)
    if not isinstance(headers, UserList):
        assert "(masked)" in text


def test_a_header_that_is_no_secret_is_shown():
    assert "(b'x-one', b'two')" in shown({"headers": [(b"x-one", b"two"), [b"set-cookie", b"a=b"]]})


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_is_too_long_to_be_shown_is_told_all_the_same(sign):
    status = sign * 10**5000
    assert fault({"type": "http.response.start", "status": status}).startswith(
        "'status' of http.response.start is <int>"
    )


def test_a_long_type_is_not_compared_to_its_end():
    began = time.process_time()
    assert len(fault({"type": "http." + "x" * 10**6})) < 300
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("value", [memoryview(bytearray(10**8)), range(10**8)], ids=["memoryview", "range"])
def test_a_long_view_is_not_copied(value):
    tracemalloc.start()
    assert len(shown({"body": value})) < 100
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**6


def test_a_text_of_one_s_own_stays_one_line():
    assert shown(type("Own", (), {"__repr__": lambda self: "a\nERROR b"})()) == r"a\x0aERROR b"
