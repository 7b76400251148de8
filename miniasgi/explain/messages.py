"""The messages that an application may send, as the specification has them; and the text for one it may not.

It owns the catalogue: of each message its keys, their types, an example, and where the rule stands. Nothing
here runs while an application keeps to ASGI: the road takes what it is sent, and only a message that could
not be used is looked up, to say why. The exception is `advice`: `--debug` and `miniasgi check` ask for it of
every message, the road of one that has a key more and a key less than others of its type. It knows no
connection and no state of one.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from ..asgi import ASGIError
from ..config import nearest
from .frames import senders
from .shown import MASKED, is_secret, shown

SPECIFICATION = "https://asgi.readthedocs.io/en/latest/"


class Unsendable(ValueError):
    """Raised on the road for a message that cannot be sent, well formed as it is; the text says why."""


# ---- what a value may be: each says what is wrong with it, or nothing --------------------------------------

Check = Callable[[object], str]


def is_a(kind: type | tuple[type, ...], words: str) -> Check:
    def check(value: object) -> str:
        # True is an int to Python; as a status or a code it is a slip.
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        return "" if right else f"is {shown(value)} ({type(value).__name__}), but takes {words}"

    return check


is_flag = is_a(bool, "a bool")


def is_status(value: object) -> str:
    if wrong := is_a(int, "an int, such as 200")(value):
        return wrong
    assert isinstance(value, int)
    if 100 <= value < 200:
        return f"is {shown(value)}: an informational response is not for an application to start"
    if 200 <= value <= 999:
        return ""
    return f"is {shown(value)}: a status code has three digits (RFC 9110 section 15)"


def is_body(value: object) -> str:
    if isinstance(value, str):
        return f"is the str {shown(value)}, but takes bytes: {shown(value)}.encode()"
    return is_a((bytes, bytearray, memoryview), "bytes")(value)


def is_text(value: object) -> str:
    if isinstance(value, bytes):
        return f"is the bytes {shown(value)}, but takes a str; bytes are sent by the key 'bytes'"
    return is_reason(value)


def is_reason(value: object) -> str:
    if wrong := is_a(str, "a str")(value):
        return wrong
    assert isinstance(value, str)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"cannot be sent as UTF-8: {error.reason}"
    return ""


def are_headers(value: object) -> str:
    """An iterable of pairs of bytes (ASGI), each such as RFC 9110 section 5.5 allows."""
    if isinstance(value, dict):
        return "is a dict, but takes a list of pairs: [(b'name', b'value')]"
    try:
        pairs = list(value)  # type: ignore[call-overload]
    except TypeError:
        return is_a(list, "a list of pairs: [(b'name', b'value')]")(value)
    return next((wrong for pair in pairs if (wrong := pair_fault(pair))), "")


def pair_fault(pair: object) -> str:
    """What is wrong with one of the pairs in `headers`."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return f"has {shown(pair)} in it, but takes pairs: (b'name', b'value')"
    name, value = pair
    for part, what, text in ((name, "name", shown(name)), (value, "value", text_of(name, value))):
        if isinstance(part, str):
            such = "" if text == MASKED else f", such as {shown(part.encode(errors='backslashreplace'))}"
            return f"has the str {text} as a {what}, but takes bytes{such}"
        if not isinstance(part, bytes):
            return f"has {text} ({type(part).__name__}) as a {what}, but takes bytes"
    return header_fault(name, value)


def text_of(name: object, value: object) -> str:
    """The value of a header, as it may be shown."""
    return MASKED if is_secret(name) else shown(value)


# What a name is made of (RFC 9110 section 5.6.2).
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# What h11 takes for no part of a header's value, nor does RFC 9110 section 5.5.
UNFIT = {
    b"\r": "a line break",
    b"\n": "a line break",
    b"\0": "a NUL",
    b"\v": "a vertical tab",
    b"\f": "a form feed",
}


def header_fault(name: bytes, value: bytes) -> str:
    if not name or name.translate(None, TOKEN):
        return (
            f"has the name {shown(name)}, which is no token of letters, digits and -_. (RFC 9110 section 5.1)"
        )
    for byte, what in UNFIT.items():
        if byte in value:
            return f"has {what} in the value of {shown(name)}: {text_of(name, value)} (RFC 9110 section 5.5)"
    if value != value.strip(b" \t"):
        text = text_of(name, value)
        return f"has white space around the value of {shown(name)}: {text} (RFC 9110 section 5.5)"
    if name.lower() == b"content-length" and not value.isdigit():
        return f"has the content-length {shown(value)}; it is a number of bytes (RFC 9110 section 8.6)"
    return ""


def are_links(value: object) -> str:
    if isinstance(value, bytes | str):
        return f"is {shown(value)}, but takes a list of bytes"
    try:
        links = list(value)  # type: ignore[call-overload]
    except TypeError:
        return is_a(list, "a list of bytes")(value)
    return next((f"has one that {wrong}" for wrong in map(is_a(bytes, "bytes"), links) if wrong), "") or next(
        (wrong for link in links if (wrong := header_fault(b"link", link))), ""
    )


def is_file(value: object) -> str:
    try:
        value.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError) as error:
        return f"is {shown(value)}, not a file that is open in the system ({error})"
    return ""


def is_size(value: object) -> str:
    if wrong := is_a(int, "an int")(value):
        return wrong
    return "is negative" if isinstance(value, int) and value < 0 else ""


def is_close_code(value: object) -> str:
    if wrong := is_a(int, "an int, such as 1000")(value):
        return wrong
    if isinstance(value, int) and is_sendable(value):
        return ""
    own = "an application's own are 3000 to 4999"
    return f"is {shown(value)}, which no close frame may have; {own} (RFC 6455 section 7.4)"


def is_sendable(code: int) -> bool:
    """Whether a close frame of ours may say it: RFC 6455 section 7.4.1, IANA's register, the free ranges."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def or_none(check: Check) -> Check:
    return lambda value: "" if value is None else check(value)


# ---- the catalogue ----------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """One type of message. A key in `required` must be there; of `one_of`, exactly one is not None."""

    section: str  # where the rule stands, below SPECIFICATION
    keys: dict[str, Check]
    example: str
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


HEADERS = {"headers": are_headers}
RESPONSE_KEYS: dict[str, Check] = {"status": is_status, **HEADERS}
BODY_KEYS: dict[str, Check] = {"body": is_body, "more_body": is_flag}

KINDS = {
    "http.response.start": Kind(
        "specs/www.html#response-start-send-event",
        {**RESPONSE_KEYS, "trailers": is_flag},
        "{'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/plain')]}",
        required=("status",),
    ),
    "http.response.body": Kind(
        "specs/www.html#response-body-send-event",
        BODY_KEYS,
        "{'type': 'http.response.body', 'body': b'hello'}",
    ),
    "http.response.pathsend": Kind(
        "extensions.html#path-send",
        {"path": is_a(str, "a str")},
        "{'type': 'http.response.pathsend', 'path': '/srv/films/one.mp4'}",
        required=("path",),
    ),
    "http.response.zerocopysend": Kind(
        "extensions.html#zero-copy-send",
        {"file": is_file, "offset": or_none(is_size), "count": or_none(is_size), "more_body": is_flag},
        "{'type': 'http.response.zerocopysend', 'file': open('one.mp4', 'rb')}",
        required=("file",),
    ),
    "http.response.early_hint": Kind(
        "extensions.html#early-hints",
        {"links": are_links},
        "{'type': 'http.response.early_hint', 'links': [b'</style.css>; rel=preload; as=style']}",
        required=("links",),
    ),
    "http.response.trailers": Kind(
        "extensions.html#http-trailers",
        {**HEADERS, "more_trailers": is_flag},
        "{'type': 'http.response.trailers', 'headers': [(b'digest', b'...')]}",
    ),
    "http.response.debug": Kind(
        "extensions.html#debug",
        {"info": is_a(dict, "a dict")},
        "{'type': 'http.response.debug', 'info': {'template': 'page.html'}}",
        required=("info",),
    ),
    "websocket.accept": Kind(
        "specs/www.html#accept-send-event",
        {"subprotocol": or_none(is_a(str, "a str")), **HEADERS},
        "{'type': 'websocket.accept'}",
    ),
    "websocket.send": Kind(
        "specs/www.html#send-send-event",
        {"text": or_none(is_text), "bytes": or_none(is_body)},
        "{'type': 'websocket.send', 'text': 'hello'}",
        one_of=("text", "bytes"),
    ),
    "websocket.close": Kind(
        "specs/www.html#close-send-event",
        {"code": is_close_code, "reason": or_none(is_reason)},
        "{'type': 'websocket.close', 'code': 1000, 'reason': 'done'}",
    ),
    "websocket.http.response.start": Kind(
        "extensions.html#websocket-denial-response",
        RESPONSE_KEYS,
        "{'type': 'websocket.http.response.start', 'status': 401}",
        required=("status",),
    ),
    "websocket.http.response.body": Kind(
        "extensions.html#websocket-denial-response",
        BODY_KEYS,
        "{'type': 'websocket.http.response.body', 'body': b'members only'}",
    ),
    "lifespan.startup.complete": Kind(
        "specs/lifespan.html#startup-complete-send-event", {}, "{'type': 'lifespan.startup.complete'}"
    ),
    "lifespan.startup.failed": Kind(
        "specs/lifespan.html#startup-failed-send-event",
        {"message": is_a(str, "a str")},
        "{'type': 'lifespan.startup.failed', 'message': 'no database'}",
    ),
    "lifespan.shutdown.complete": Kind(
        "specs/lifespan.html#shutdown-complete-send-event", {}, "{'type': 'lifespan.shutdown.complete'}"
    ),
    "lifespan.shutdown.failed": Kind(
        "specs/lifespan.html#shutdown-failed-send-event",
        {"message": is_a(str, "a str")},
        "{'type': 'lifespan.shutdown.failed', 'message': 'the queue is not empty'}",
    ),
}
ERROR_HANDLING = "specs/main.html#error-handling"


# ---- what is wrong with a message -------------------------------------------------------------------------


RECEIVED = (
    *("http.request", "http.disconnect"),
    *("websocket.connect", "websocket.receive", "websocket.disconnect"),
    *("lifespan.startup", "lifespan.shutdown"),
)


def fault(message: object, allowed: Iterable[str] = ()) -> str:
    """The first rule for its type that this message breaks, as a sentence; "" where it keeps them all.

    In which order messages may be sent is no matter here; the types `allowed` are guessed at first.
    """
    if not isinstance(message, MutableMapping):
        return f"send() takes a dict with the key 'type', not {shown(message)} ({type(message).__name__})"
    if "type" not in message:
        known = [key for each in KINDS.values() for key in each.keys]
        return f"a message has the key 'type', and this one has not{misspelt(message, known, 'type')}"
    name = message["type"]
    if not isinstance(name, str):
        return f"'type' {is_a(str, 'a str')(name)}"
    kind = KINDS.get(name)
    if kind is None:
        if name in RECEIVED:
            return f"{name} is a message that receive() gives; it is not for an application to send"
        near = did_you_mean(name, allowed) or did_you_mean(name, relatives(name))
        return f"there is no message of type {shown(name)} to send{near}"
    for key in kind.required:
        if key not in message:
            return f"{name} has no {key!r}{misspelt(message, kind.keys, key)}"
    if kind.one_of:
        given = [key for key in kind.one_of if message.get(key) is not None]
        both = " and ".join(repr(key) for key in kind.one_of)
        if not given:
            near = misspelt(message, kind.keys, *kind.one_of)
            return f"{name} has none of {both}; exactly one of them is not None{near}"
        if len(given) > 1:
            return f"{name} has both {both}; exactly one of them is not None"
    for key, check in kind.keys.items():
        if key in message and (wrong := check(message[key])):
            return f"{key!r} of {name} {wrong}"
    return ""


def relatives(name: str) -> list[str]:
    """The types of the same protocol; all of them, where there is no such protocol."""
    protocol = name.partition(".")[0] + "."
    return [each for each in KINDS if each.startswith(protocol)] or list(KINDS)


def misspelt(message: MutableMapping[str, Any], known: Iterable[str], *missing: str) -> str:
    """Which key may have been meant by one that is missing; else which of them mean nothing."""
    unknown = [key for key in message if isinstance(key, str) and key not in (*known, "type")]
    near = [(key, meant_by(key, missing)) for key in unknown]
    hints = [f"; it has {shown(key)}{hint}" for key, hint in near if hint]
    means_nothing = [f"; it has {shown(key)}, which means nothing" for key in unknown]
    return next(iter(hints + means_nothing), "")


def meant_by(key: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a key that is near to a known one, or the beginning of it; else nothing."""
    whole = [each for each in known if len(key) > 2 and each.startswith(key)]
    return did_you_mean(whole[0] if whole else key, known)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest one, or nothing where none is near."""
    near = nearest(name[:LONG], list(known))
    return f"; did you mean {near[0]!r}?" if near else ""


LONG = 80  # no name of ours is as long; what is need not be compared to its end


def advice(message: MutableMapping[str, Any]) -> Iterator[str]:
    """What in this message, which was sent, is against the letter of ASGI, or looks like a slip.

    Each piece has two lines: what it is, and where the rule stands.
    """
    name = message.get("type")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        return
    rule = "\n" + row("the rule", SPECIFICATION + kind.section)
    absent = [key for key in kind.keys if key not in message]
    for key in message:
        if key != "type" and key not in kind.keys:
            near = isinstance(key, str) and (meant_by(key, absent) or owner_of(key, str(name)))
            if near or "body" in absent:  # keys of its own are allowed; but what would be a body without one?
                yield f"{name} has the key {shown(key)}, which means nothing{near or keys_of(kind)}{rule}"
    headers = message.get("headers", ()) if "headers" in kind.keys else ()
    # What is used up by reading it was read.
    pairs = headers if isinstance(headers, list | tuple) else ()
    names = [pair[0] for pair in pairs if isinstance(pair, list | tuple)]  # bytes: the message was sent
    if upper := [each for each in names if each != each.lower()]:
        yield f"{name} has {shown(upper[0])} among its headers: ASGI has their names in lower case{rule}"
    path = message.get("path")
    if name == "http.response.pathsend" and isinstance(path, str) and not Path(path).is_absolute():
        yield f"{name} has the path {shown(path)}, which is not absolute{rule}"


def owner_of(key: str, name: str) -> str:
    """Which other message of this one's protocol has the key."""
    owners = [each for each in relatives(name) if key in KINDS[each].keys]
    return f"; it is one of {owners[0]}" if owners else ""


def keys_of(kind: Kind) -> str:
    return f"; its keys are {alternatives([repr(key) for key in kind.keys], 'and')}"


# ---- the text ---------------------------------------------------------------------------------------------


def refusal(message: object, state: str, allowed: Iterable[str], reason: str = "") -> ASGIError:
    """The error for a message that cannot be sent.

    `state` completes "… was sent", `allowed` are the types that may be sent in it. `reason` is why this one
    cannot, or how that may have come, where the catalogue does not know.
    """
    allowed = list(allowed)
    name = message.get("type") if isinstance(message, MutableMapping) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    broken = fault(message, allowed)
    if kind is not None and name not in allowed:
        wrong = out_of_order(str(name), state, allowed) + (f"; {reason}" if reason else "")
    else:
        wrong = broken or reason
    # Where the reason is the road's, the example may have it, too.
    example = KINDS.get(allowed[0]) if allowed and name not in allowed else kind if broken else None
    lines = [
        wrong,
        row("the message", shown(message)),
        row("sent by", *senders()),
        row("the state", state),
        row("can be sent", alternatives(allowed)),
        row("for example", *([example.example] if example else [])),
        row("the rule", SPECIFICATION + (kind.section if kind else ERROR_HANDLING)),
    ]
    return ASGIError("\n".join(filter(None, lines)))


def out_of_order(name: str, state: str, allowed: list[str]) -> str:
    """What an application is told that sent a message which it may not send now, or not here at all."""
    theirs, ours = name.partition(".")[0], allowed[0].partition(".")[0] if allowed else ""
    if ours not in ("", theirs):
        return f"{name} was sent, but scope['type'] is {ours!r} here, not {theirs!r}"
    return f"{name} was sent " + ("a second time" if state == f"after {name}" else state)


def alternatives(names: list[str], word: str = "or") -> str:
    """a, b or c"""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])) or "nothing"


def sent_by(text: str, lines: list[str]) -> str:
    """A piece of advice, with the lines that sent the message."""
    what, _, rule = text.partition("\n")
    return "\n".join([what, row("sent by", *lines), rule])


def row(label: str, *texts: str) -> str:
    """One line of the text's table; further ones stand below the first. Nothing without a text."""
    return "\n".join(f"  {label if at == 0 else '':<13}{text}" for at, text in enumerate(texts))
