"""Messages on the short way and by wsproto: the same bytes come to the same.

The fuzz plays each encounter twice, and compares all that comes of it; the mutants show what it would find.
For more and new examples: `MINIASGI_FUZZ_EXAMPLES=20000 pytest tests/protocol/test_frames.py`.
"""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionType

from miniasgi.protocol import frames, websocket
from miniasgi.protocol.frames import Walk, frame_of, unmasked, whole_message
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.websocket import WebSocketConnection
from tests.protocol.client_bytes import (
    BROKEN_FRAMES,
    CUTS,
    MAX_SIZE,
    TEXTS,
    cut,
    encoded,
    frame_streams,
    handshake,
)
from tests.protocol.test_fuzz import POLITE_WS_PROGRAMS, RUDE_WS_PROGRAMS, SCRIPTS, Share, fuzz
from tests.protocol.twice import AT_ONCE, compare, instead, is_found, outcomes, stage


def by_wsproto(data):
    wsproto = Connection(ConnectionType.SERVER)
    wsproto.receive_data(data)
    return list(wsproto.events())


def whole_by_wsproto(data):
    """What `whole_message` is to say of data that wsproto has one message in."""
    (event,) = by_wsproto(data)
    assert event.message_finished
    return event.data, len(data)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
@pytest.mark.parametrize("opcode", [1, 2])
def test_a_whole_message_is_read_as_by_wsproto(opcode, size):
    data = encoded(b"x" * size, opcode)
    assert whole_message(data + b"\x81", 0) == whole_by_wsproto(data)
    message, end = whole_message(b"\x81" + data, 1)
    assert (message, end - 1) == whole_by_wsproto(data)


def test_each_first_two_bytes_are_read_as_by_wsproto_or_left_to_it():
    taken = 0
    for first in range(256):
        for second in range(256):
            data = bytes((first, second)) + b"\x00\x7f" + bytes(4) + b"a" * 200
            found = whole_message(data, 0)
            if found is not None:
                assert found == whole_by_wsproto(data[: found[1]])
                taken += 1
    assert taken == 2 * 127  # of text and of bytes, each length in one byte and in two


@pytest.mark.parametrize(
    "data", [*BROKEN_FRAMES, encoded(b"\xff", 1), encoded(b"x", 1, fin=0), encoded(b"", 9)]
)
def test_anything_else_is_left_to_wsproto(data):
    assert whole_message(data, 0) is None


@pytest.mark.parametrize("size", range(10))
def test_a_payload_of_any_length_is_unmasked(size):
    payload, mask = bytes(range(200, 200 + size)), b"\x01\xa2\x03\xf4"
    assert encoded(unmasked(mask, payload), 2, mask=mask)[6:] == payload


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("text", [True, False])
def test_a_frame_of_ours_is_that_of_wsproto(text, size):
    data = "x" * size if text else b"x" * size
    message = events.TextMessage(data) if text else events.BytesMessage(data)
    assert frame_of(data) == Connection(ConnectionType.SERVER).send(message)


@given(st.lists(st.sampled_from([encoded(text, 1) for text in TEXTS]), max_size=4), CUTS)
@settings(fuzz(200))
def test_the_walk_gives_wsproto_each_frame_by_itself(whole, sizes):
    walk, given_now, given_all = Walk(), b"", []
    for piece in cut(b"".join(whole), sizes):
        at = 0
        while at < len(piece):
            count = walk.advance(piece, at, 50)
            assert 0 < count <= len(piece) - at
            given_now += piece[at : at + count]
            at += count
            if walk.at_rest:
                given_all.append(given_now)
                given_now = b""
    assert (given_all, given_now) == (whole, b"")


# ---- the fuzz ----------------------------------------------------------------------------------------------

# Frames in any order: some are wrong by themselves, some where they stand, and one has others in it.
GOOD = [
    encoded(b"hi", 1), encoded(b"\xff\x00", 2), encoded(b"", 1), encoded(b"a" * 126, 1), encoded(b"b" * 125, 2),
    encoded(encoded(b"hi", 1) * 20, 2, mask=bytes(4)),
]  # fmt: skip
SOUP = [
    *GOOD * 5,
    encoded(b"h", 1, fin=0), encoded(b"i", 0, fin=0), encoded(b"!", 0), encoded(b"\xc3", 1, fin=0), encoded(b"\xbc", 0),
    encoded(b"p", 9), encoded(b"", 10), encoded(b"\xff", 1), encoded(b"a" * 1001, 2), encoded(b"\x03\xe8", 8),
    encoded(b"hi", 1, form=16), encoded(b"not masked", 2, mask=b""),
    *[encoded(b"h", 1, fin=0) + encoded(b"between", 9)] * 2,
]  # fmt: skip
SOUPS = st.lists(st.sampled_from(SOUP), max_size=8).map(lambda each: (None, b"".join(each)))
# Often enough as it is meant: an application that sends all back, and a client that sends and waits.
FEEDS = st.lists(st.sampled_from([1, 1, 2, 3, 5, 7, 20, 100]), max_size=10).map(
    lambda sizes: [*((("feed", size), 3) for size in sizes), (("feed", 10**6), 40)]
)
MIRROR = [("accept",), ("mirror",)]


@st.composite
def encountered(draw):
    """The handshake is fed as a whole."""
    if draw(st.sampled_from([True, True, False])):
        (offer, data), script, program = draw(SOUPS), draw(FEEDS), MIRROR
    else:
        offer, data = draw(st.one_of(SOUPS, frame_streams()))
        script = draw(SCRIPTS)
        program = draw(st.one_of(POLITE_WS_PROGRAMS, RUDE_WS_PROGRAMS))
    return example(data, script, program, offer)


def example(data, script, program=MIRROR, offer=None):
    head = handshake(offer)
    return (head + data, [(("feed", len(head)), 3), *script], [program]), {"ws_max_size": MAX_SIZE}


def test_with_the_short_way_all_is_as_without():
    share = Share()
    with stage() as play:

        @fuzz(400)
        @given(encountered())
        def examples(example):
            told, _ = compare(play, example)
            share.count(any("text" in each or "bytes" in each for each in told[0]))

        examples()
    share.check(0.2)


MUTANTS = {
    "a fragment is a message": (frames, "WHOLE_TEXT", lambda: 0x01),
    "frames that are not masked": instead(
        websocket, "whole_message", "data[at + 1] ^ MASKED", "data[at + 1] & 0x7F"
    ),
    "a length that needed one byte": instead(websocket, "whole_message", "length < 126", "False"),
    "a frame that is not there as a whole": instead(websocket, "whole_message", "end > len(data)", "False"),
    "a text that is none": instead(
        websocket, "whole_message", "payload.decode()", 'payload.decode(errors="replace")'
    ),
    "a frame that is not taken off": instead(
        websocket, "whole_message", "return payload.decode(), end", "return payload.decode(), end - 1"
    ),
    "the mask": instead(frames, "unmasked", "^ key", "^ 0"),
    "a message amid the fragments of another": instead(
        Walk, "advance", "self.open = not", "self.open = False and not"
    ),
    "a frame amid another": instead(Walk, "advance", "self.left -= count", "self.left = 0"),
    "a header that came in two pieces": instead(Walk, "advance", "self.begun = header", "pass"),
    "a control frame ends a message": instead(Walk, "advance", "if not header[0] & CONTROL:", "if True:"),
    "what wsproto has not told yet": instead(
        WebSocketConnection, "next_events", "if self.asked:", "if False:"
    ),
    "compressed ones": instead(Http1Connection, "upgrade", "and not extensions"),
    "a frame of ours of a wrong length": instead(websocket, "frame_of", "size < 126", "size < 127"),
}


BEGUN = encoded(b"h", 1, fin=0)
# Something for each mutant, whatever the fuzz draws: frames, and after how many bytes they are cut.
CRAFTED = [
    example(data, [(("feed", size), 3) for size in (*cuts, 10**6)] + AT_ONCE)
    for data, *cuts in [
        (GOOD[0] * 2,),
        (GOOD[1] * 2,),
        (GOOD[5], 1, 7),
        (GOOD[1] * 2, 7),
        (GOOD[3],),
        (GOOD[5], 8),
        (BEGUN + encoded(b"i", 0),),
        (BEGUN + GOOD[0],),
        (BEGUN + encoded(b"p", 9) + GOOD[0],),
        (encoded(b"not masked", 2, mask=b"") + GOOD[1],),
        (encoded(b"hi", 1, form=16),),
        (encoded(b"\xff", 1),),
    ]
] + [example(GOOD[0] * 2, AT_ONCE, offer=b"permessage-deflate")]


@functools.cache
def known_examples():
    return outcomes(encountered(), fuzz(700), CRAFTED)


def test_crafted_examples_are_as_without_the_short_way():
    with stage() as play:
        for each in CRAFTED:
            compare(play, each)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found(mutant):
    assert is_found(MUTANTS[mutant], known_examples())


def test_nothing_is_found_in_the_code_as_it_is():
    """Otherwise each of the mutants would be."""
    assert not is_found((frames, "WHOLE_TEXT", lambda: frames.WHOLE_TEXT), known_examples())
