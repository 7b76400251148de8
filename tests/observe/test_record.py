"""Records: content as JSON, what is cut, what is masked, and that a line can be read again."""

import json

import pytest

from miniasgi.observe.record import (
    DEPTH,
    KEPT,
    Mask,
    NotATrace,
    Record,
    as_json,
    header,
    read_header,
    read_record,
)


class Broken:
    def __repr__(self):
        raise RuntimeError("no text")


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        (float("nan"), {"repr": "nan"}),
        (10**400, {"repr": "<int>"}),
        ("text", "text"),
        ("x" * (KEPT + 1), {"text": "x" * KEPT, "size": KEPT + 1}),
        (b"\xff\x00", {"bytes": "\xff\x00"}),
        (memoryview(b"ab"), {"bytes": "ab"}),
        (b"x" * (KEPT + 1), {"bytes": "x" * KEPT, "size": KEPT + 1}),
        ((b"name", b"value"), [{"bytes": "name"}, {"bytes": "value"}]),
        ({"a": {"b": [1]}, 3: 4}, {"a": {"b": [1]}, "3": 4}),
        (Broken(), {"repr": "<Broken instance>"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_becomes_json(value, expected):
    content = as_json(value)
    if isinstance(value, Broken):
        assert set(content) == {"repr"}
        assert "Broken" in content["repr"]
    elif value == 10**400:
        assert set(content) == {"repr"}
    else:
        assert content == expected
    assert json.loads(json.dumps(content)) == content


def test_content_has_an_end_however_deep_it_is():
    content = as_json(nested(DEPTH * 3))
    assert json.dumps(content).count("[") <= DEPTH
    ring = []
    ring.append(ring)
    assert json.dumps(as_json(ring)).count("[") <= DEPTH


SECRETS = {
    "headers": [(b"cookie", b"a=b"), (b"Authorization", b"Basic x"), (b"accept", b"*/*")],
    "state": {"password": "p", "name": "n"},
}


def test_secrets_are_masked_unless_asked_for():
    masked = json.dumps(as_json(SECRETS))
    assert "a=b" not in masked
    assert "Basic" not in masked
    assert '"p"' not in masked
    assert "*/*" in masked
    assert '"n"' in masked
    assert "a=b" in json.dumps(as_json(SECRETS, secrets=True))


HEAD = (
    b"GET /a:b HTTP/1.1\r\nHost: x:80\r\nCookie: a=b; c=d\r\nX-Api-Key:k\r\nAccept: */*\r\n\r\n{body: cookie}"
)
SHOWN = (
    b"GET /a:b HTTP/1.1\r\nHost: x:80\r\nCookie: **** ***\r\nX-Api-Key:*\r\nAccept: */*\r\n\r\n{body: cookie}"
)


@pytest.mark.parametrize("cut", range(len(HEAD)))
def test_secrets_in_bytes_are_hidden_wherever_they_are_cut(cut):
    mask = Mask()
    assert mask(HEAD[:cut]) + mask(HEAD[cut:]) == SHOWN


def test_secrets_in_bytes_are_hidden_byte_by_byte():
    mask = Mask()
    assert b"".join(mask(HEAD[at : at + 1]) for at in range(len(HEAD))) == SHOWN


def test_a_record_is_read_as_it_was_written():
    record = Record(5, 1, 2, "events", "in", "Request", {"a": 1}, {"client": "DONE"}, "app.py", 7)
    assert read_record(record.text, 2) == record
    bare = Record(5, 1, 0, "app", "", "waits in receive()")
    assert json.loads(bare.text) == {"at": 5, "connection": 1, "lane": "app", "name": "waits in receive()"}
    assert read_record(bare.text, 2) == bare


def test_a_header_says_what_the_file_is():
    about = read_header(header("2026-11-26T12:00:00+00:00", "package:app"))
    assert (about["trace"], about["app"], about["began"]) == (1, "package:app", "2026-11-26T12:00:00+00:00")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("no json", "line 9 is no JSON: 'no json'"),
        ('{"at":1}', "line 9 is no record: "),
        ('{"at":1,"connection":1,"lane":"sea","name":"x"}', "line 9 is no record: "),
        ('{"at":"1","connection":1,"lane":"app","name":"x"}', "line 9 is no record: "),
        ('{"at":1,"connection":1,"lane":"app","name":"x","more":1}', "line 9 is no record: "),
        ("[]", "line 9 is no record: "),
        ("7", "line 9 is no record: "),
    ],
)
def test_a_line_that_is_no_record_is_refused_by_its_number(line, text):
    with pytest.raises(NotATrace) as refused:
        read_record(line, 9)
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"trace":2}', "x"])
def test_a_file_that_is_no_trace_is_refused(line):
    with pytest.raises(NotATrace, match="line 1"):
        read_header(line)
