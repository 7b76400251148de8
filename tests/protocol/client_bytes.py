"""What a fuzzed client sends, as strategies of hypothesis: HTTP requests and WebSocket frames, right and odd.

Bytes drawn at random would be refused at the first line. So all begins with what is right, and has one twist in
it, and now and then some bytes more or less. Which of it is right is not known here: see `readers`.
"""

import struct
import zlib
from itertools import chain, repeat

from hypothesis import strategies as st

# ---- HTTP --------------------------------------------------------------------------

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
METHODS = [b"GET", b"GET", b"POST", b"POST", b"POST", b"HEAD", b"OPTIONS", b"M-SEARCH"]
TARGETS = [b"/", b"/a%20b?c=d", b"/?", b"//x/../y", b"http://y/z", b"http://y:80?q", b"/" + b"a" * 300]
VERSIONS = [b"HTTP/1.1"] * 24 + [b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2"]
CONTENTS = [
    b"",
    b"h",
    b"hello",
    b"0\r\n\r\n",
    b"\r\n",
    b"\r\n0\r\n\r\n" + SMUGGLED,
    SMUGGLED,
    b"\0\xff\n" * 40,
]
PLAIN_LINES = [
    b"Accept: */*",
    b"X:",
    b"X: \xe9",
    b"X:\t a\tb ",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Content_Length: 5",
    b"Cookie: " + b"c" * 500,
    b"TE: trailers",
]
ODD_LENGTHS = [
    b"5", b"0", b"37", b"5, 5", b"5,5", b"5, 6", b"+5", b"-0", b"-5", b"0x5", b"5 5", b"5_0", b"5.", b"", b",", b"5,",
    b"00005", b"5\x00", b"5\x0b", b"\x0c5", b"5\r", b"5\xb2", b"18446744073709551621", b"9" * 25, b"five", b"5;",
]  # fmt: skip
ODD_CODINGS = [
    b"chunked", b"Chunked", b"CHUNKED", b"identity", b"chunked, chunked", b"chunked, identity", b"identity, chunked",
    b"gzip, chunked", b"gzip", b"xchunked", b"chunkedx", b"x chunked", b"\tchunked", b"\x0bchunked", b"chunked\x0b",
    b"chunked\x00", b"chunked\r", b'"chunked"', b"chunked;q=1", b"chunked,", b",chunked", b"", b"ch\xfcnked",
]  # fmt: skip
ODD_LINES = [
    *(b"Content-Length: " + value for value in ODD_LENGTHS),
    *(b"Transfer-Encoding: " + value for value in ODD_CODINGS),
    b"content-length:5", b"Content-Length : 5", b"Content-Length\t: 5", b" Content-Length: 5", b"Content-Length 5",
    b"Content-Length\x00: 5", b"Content-\rLength: 5", b"\x0bContent-Length: 5", b"X: a\r\n Content-Length: 5",
    b"transfer-encoding:chunked", b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding\xa0: chunked",
    b"X: a\nTransfer-Encoding: chunked", b"X: a\rTransfer-Encoding: chunked", b"X: a\r\n b", b"X: a\r\n\t",
    b"X: a\n\nGET /smuggled HTTP/1.1", b"X: a\x00b", b"X: a\x01b", b"X: a\x7fb", b"X: \x0b", b"X: \x1b[0m",
    b"X", b": x", b"X y: z", b"X\t: z", b"X(: z", b"\xe9: z", b"\x00: z",
    b"Host: y", b"Host:", b"Host: a b", b"Host: x/y", b"Host: x@y", b"Host: x:abc", b"Host: [::1]:80", b"Host: [::1",
    b"Host: x,y", b"Host: x\\y", b"Host : x", b"host: x", b"Host: %zz", b"Host: x:80:90", b"Host: \xe9",
    b"Connection: close", b"Connection: CLOSE", b"Connection: x, close", b"Connection: closed", b"Connection: Content-Length",
    b"Expect: 200-ok", b"Upgrade: websocket", b"Upgrade: WebSocket\r\nConnection: Upgrade",
    b"X: " + b"x" * 3000,
]  # fmt: skip
ODD_REQUEST_LINES = [
    b"GET /", b"GET", b"", b"GET / HTTP/0.9", b"GET / HTTP/1.2", b"GET / HTTP/1.9", b"GET / HTTP/2.0", b"GET / HTTP/3.1",
    b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET /\tHTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"\tGET / HTTP/1.1",
    b"get / HTTP/1.1", b"Get / HTTP/1.1", b"GET / http/1.1", b"GET / HTTP/1.10", b"GET / HTTP/11", b"GET / HTTP/1,1",
    b"GET / HTTP/1.", b"GET / HTTP/ 1.1", b"GET / HTTPS/1.1", b"GET /a b HTTP/1.1", b"GET /\x00 HTTP/1.1",
    b"GET /\x0b HTTP/1.1", b"GET /\r HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /#x HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http:// HTTP/1.1", b"GET x HTTP/1.1",
    b"GET ftp://x/ HTTP/1.1", b"GET http://u@x/ HTTP/1.1", b"GET HTTP://x HTTP/1.1", b"GET ? HTTP/1.1", b"G@T / HTTP/1.1",
    b"G(T / HTTP/1.1", b"\xe9 / HTTP/1.1", b"HTTP/1.1 200 OK", b"GET /%00%0d%0a%zz HTTP/1.1", b"GET\x00/ HTTP/1.1",
    b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00", b"GET /" + b"a" * 3000 + b" HTTP/1.1",
]  # fmt: skip
ODD_BEFORE = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\x00",
    b"x",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"0\r\n\r\n",
]
ODD_ENDS = [
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"",
    b" \r\n",
    b"\x00\r\n",
    b"\x0b",
    b"\r\n\n",
    b"\n\n",
    b"\r\n\r\n",
]
# Of a chunk of five bytes, for those who can read them.
ODD_SIZES = [
    b"+5", b"-5", b"0x5", b"0X5", b" 5", b"5 ", b"5\t", b"5 ;a", b"5;", b"5;a", b"5;a=b", b'5;a="b;c"', b"5; a", b"5;a\rb",
    b"5;a\x00b", b"5;\x0b", b"5;a\nb", b"5\nb", b"5\x0b", b"5\x00", b"", b"g", b"5g", b"5_0", b"5.0", b"5,", b"05",
    b"0000000000000005", b"00000000000000005", b"0" * 19 + b"5", b"0" * 20 + b"5", b"F" * 16, b"F" * 17, b"FFFFFFFF00000005",
    b"100000005", b"10000000000000005", b"5;" + b"e" * 3000, b"5\r", b"\r5", b"5;\xe9", b"4", b"6", b"3", b"7", b"0", b"00",
]  # fmt: skip
ODD_TRAILERS = [
    b"T: x", b"T:", b"T", b": x", b" T: x", b"T: x\r\n y", b"T : x", b"T: \x01", b"T: a\x00", b"T: a\rb", b"T: a\nU: b",
    b"Content-Length: 5", b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Host: y",
    b"Connection: close", b"T: " + b"t" * 3000,
]  # fmt: skip
ODD_BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"5",
    b"\x0b",
    b"\xff",
    b"a",
    b"\x1c",
    b"\x85",
]


def one_in(count):
    return st.sampled_from([True] + [False] * (count - 1))


@st.composite
def requests(draw, odd):
    """One request; with `odd`, there is something wrong or strange in it."""
    twist = draw(st.sampled_from(TWISTS)) if odd else None
    line = b" ".join(draw(st.tuples(*map(st.sampled_from, (METHODS, TARGETS, VERSIONS)))))
    lines = [b"Host: x", *draw(st.lists(st.sampled_from(PLAIN_LINES), max_size=2))]
    framings = ["", "", "length", "chunked", "chunked"]
    if twist in (odd_size, odd_chunk_end, odd_trailer, odd_chunk_data):
        framings = ["chunked"]
    match draw(st.sampled_from(framings)):
        case "":
            body = []
        case "length":
            content = draw(st.sampled_from(CONTENTS))
            lines.append(b"Content-Length: %d" % len(content))
            body = [content]
        case "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            contents = draw(st.lists(st.sampled_from(CONTENTS[1:]), max_size=3))
            body = list(chain.from_iterable((b"%x" % len(each), b"\r\n", each, b"\r\n") for each in contents))
            body += [b"0", b"\r\n", b"\r\n"]
    if draw(one_in(3)):
        lines.append(lines.pop(0))
    head = [line, b"\r\n", *chain.from_iterable((each, b"\r\n") for each in lines), b"\r\n"]
    if twist is not None:
        twist(draw, head, body)
    return b"".join((*head, *body))


# Each of these makes something odd of a request: its head and body are lists of pieces.


def odd_line(draw, head, body):
    at = draw(st.integers(1, len(head) // 2)) * 2
    head[at:at] = [draw(st.sampled_from(ODD_LINES)), b"\r\n"]


def odd_framing(draw, head, body):
    name, values = draw(
        st.sampled_from([(b"Content-Length: ", ODD_LENGTHS), (b"Transfer-Encoding: ", ODD_CODINGS)])
    )
    at = draw(st.integers(1, len(head) // 2)) * 2
    head[at:at] = [name + draw(st.sampled_from(values)), b"\r\n"]


def odd_framings(draw, head, body):
    odd_framing(draw, head, body)
    odd_line(draw, head, body)


def odd_request_line(draw, head, body):
    head[0] = draw(st.sampled_from(ODD_REQUEST_LINES))


def odd_before(draw, head, body):
    head.insert(0, draw(st.sampled_from(ODD_BEFORE)))


def odd_end(draw, head, body):
    at = draw(st.integers(0, (len(head) - 1) // 2))
    head[min(2 * at + 1, len(head) - 1)] = draw(st.sampled_from(ODD_ENDS))


def missing_line(draw, head, body):
    at = draw(st.integers(1, (len(head) - 3) // 2)) * 2
    del head[at : at + 2]


def double_line(draw, head, body):
    at = draw(st.integers(1, (len(head) - 3) // 2)) * 2
    head[at:at] = head[at : at + 2]


def odd_version(draw, head, body):
    version = draw(st.sampled_from([b"1.0", b"1.2", b"2.0"]))
    head[0] = head[0][:-3] + version


def odd_size(draw, head, body):
    odd_chunk = [draw(st.sampled_from(ODD_SIZES)), b"\r\n", b"hello", b"\r\n"]
    at = draw(st.integers(0, (len(body) - 3) // 4)) * 4
    body[at:at] = odd_chunk
    if draw(one_in(4)):  # of the last chunk as well
        body[-3] = draw(st.sampled_from([b"00", b"0;a=b", b"0 ", b"-0", b"0x0", b"0" * 17, b"0\n", b""]))


def odd_chunk_end(draw, head, body):
    at = draw(st.integers(0, (len(body) - 2) // 2)) * 2 + 1
    body[at] = draw(st.sampled_from(ODD_ENDS))


def odd_chunk_data(draw, head, body):
    at = draw(st.integers(0, (len(body) - 3) // 4)) * 4
    body[at:at] = [
        b"5",
        b"\r\n",
        draw(st.sampled_from([b"hell", b"hello!", b"hello\r", b"hel\r\n", b""])),
        b"\r\n",
    ]


def odd_trailer(draw, head, body):
    body[-1:-1] = [draw(st.sampled_from(ODD_TRAILERS)), b"\r\n"]


def odd_length_of_body(draw, head, body):
    if draw(one_in(2)):
        body.append(draw(st.sampled_from(CONTENTS)))
    else:
        body[-1:] = []


TWISTS = [
    odd_line, odd_line, odd_framing, odd_framing, odd_framings, odd_request_line, odd_before, odd_end, missing_line, double_line,
    odd_version, odd_size, odd_size, odd_chunk_end, odd_chunk_data, odd_trailer, odd_length_of_body,
]  # fmt: skip


@st.composite
def mutations(draw, data, odd_bytes):
    """The data with some bytes in it put in, taken out or replaced."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["insert", "delete", "replace"]))
        new = b"" if how == "delete" else draw(st.sampled_from(odd_bytes))
        data = data[:at] + new + data[at + (how != "insert") :]
    return data


@st.composite
def request_streams(draw):
    """Some requests behind one another, cut off at the end now and then."""
    before, after = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    odd = draw(st.sampled_from([True, True, True, False]))
    data = b"".join(draw(requests(each)) for each in (*(False,) * before, odd, *(False,) * after))
    data = draw(mutations(data, ODD_BYTES))
    return data[: draw(st.integers(1, len(data)))] if draw(one_in(8)) else data


# Sizes of the pieces that come one after another, over and over.
CUTS = st.lists(st.sampled_from([1, 1, 2, 3, 5, 16, 17, 40, 64, 100, 1000]), min_size=1, max_size=6)


def cut(data, sizes):
    pieces = []
    for size in chain.from_iterable(repeat(sizes)):
        if not data:
            return pieces
        pieces.append(data[:size])
        data = data[size:]
    raise AssertionError("unreachable")


# ---- WebSocket ---------------------------------------------------------------------

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
OFFERS = [
    None,
    None,
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    b"permessage-deflate; client_max_window_bits=9; server_max_window_bits=10",
    b"x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
]
MAX_SIZE = 1000  # of a message


def handshake(offer):
    lines = [
        b"GET /ws?a=b HTTP/1.1", b"Host: x", b"Connection: Upgrade", b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY,
    ]  # fmt: skip
    if offer is not None:
        lines.append(b"Sec-WebSocket-Extensions: " + offer)
    return b"\r\n".join((*lines, b"", b""))


def encoded(payload, opcode, *, fin=1, rsv=0, mask=b"\x01\xa2\x03\xf4", size=None, form=None):
    """A frame of the client. `size` and `form` (7, 16 or 64 bits) where its length is not as it should be."""
    size = len(payload) if size is None else size
    form = form or (7 if size < 126 else 16 if size < 2**16 else 64)
    second = 0x80 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    match form:
        case 7:
            head += bytes([second | size])
        case 16:
            head += bytes([second | 126]) + struct.pack("!H", size)
        case 64:
            head += bytes([second | 127]) + struct.pack("!Q", size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


TEXTS = [
    b"",
    b"hi",
    "gr\u00fc\u00df \u20ac \U0001f600".encode(),
    b"a" * 125,
    b"a" * 126,
    b"b" * 700,
    b'{"type": "x"}',
]
BROKEN_TEXTS = [
    b"\xff", b"\xc3", b"\xe2\x82", b"a\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80", b"ok\xc3(",
    b"a" * 999 + b"\xff", b"a" * 1000, b"a" * 1001, b"a" * 1000 + b"\xff",
]  # fmt: skip
DATAS = [b"", b"\x00", bytes(range(256)), b"\xff" * 125]
PINGS = [b"", b"p", b"\xff" * 125]
CLOSES = [
    b"",
    b"\x03\xe8",
    b"\x03\xe8bye",
    b"\x03\xe9",
    b"\x0b\xb8",
    b"\x13\x87" + b"r" * 123,
    b"\x03\xf4\xc3\xbc",
]
BROKEN_CLOSES = [
    b"\x03", b"\x03\xe7", b"\x03\xec", b"\x03\xed", b"\x03\xee", b"\x03\xf7", b"\x03\xf8", b"\x0b\xb7", b"\x13\x88",
    b"\xff\xff", b"\x00\x00", b"\x03\xe8\xff", b"\x03\xe8\xc3",
]  # fmt: skip
# Whole frames, each against a rule.
BROKEN_FRAMES = [
    *(encoded(b"x", opcode) for opcode in (3, 7, 11, 15)),
    *(encoded(b"x", 1, rsv=rsv) for rsv in (1, 2, 3, 4, 5, 6, 7)),
    *(encoded(b"x", opcode, rsv=4) for opcode in (0, 8, 9, 10)),
    encoded(b"x", 9, rsv=1), encoded(b"hi", 1, mask=b""), encoded(b"", 9, mask=b""), encoded(b"x", 0),
    encoded(b"x", 9, fin=0), encoded(b"\x03\xe8", 8, fin=0), encoded(b"x" * 126, 9), encoded(b"x" * 200, 8),
    encoded(b"x" * 10, 10, form=16), encoded(b"hi", 1, form=16), encoded(b"hi", 2, form=64), encoded(b"x" * 200, 1, form=64),
    encoded(b"", 1, size=2**63, form=64), encoded(b"", 2, size=2**64 - 1, form=64), encoded(b"x", 2, size=2**40, form=64),
    encoded(b"x", 1, size=2**63 - 1, form=64),
]  # fmt: skip
# Texts that are compressed as a stream of their own, whose last block is there or not.
STREAM_ENDS = [
    b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    b"\xf3\x48\xcd\xc9\xc9\x07\x00",
    b"\xf2\x48\xcd\xc9\xc9\x07\x00",
]
WS_BYTES = [
    b"\x81",
    b"\x80",
    b"\x01",
    b"\x00",
    b"\x88",
    b"\x89",
    b"\x82",
    b"\xc1",
    b"\xff",
    b"\x7f",
    b"\xfe",
    b"a",
]


class Deflater:
    """What a client compresses, with its context, if it keeps one."""

    def __init__(self, offer):
        self.keep = b"client_no_context_takeover" not in (offer or b"")
        self.deflate = None

    def __call__(self, payload):
        if self.deflate is None or not self.keep:
            self.deflate = zlib.compressobj(wbits=-9)
        return (self.deflate.compress(payload) + self.deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


@st.composite
def frames(draw, deflater, kind):
    """The frames of a message, a control frame, or something odd; as bytes."""
    if kind == "ping":
        return encoded(draw(st.sampled_from(PINGS)), draw(st.sampled_from([9, 9, 10])))
    if kind == "close":
        return encoded(draw(st.sampled_from(CLOSES)), 8)
    if kind == "broken close":
        return encoded(draw(st.sampled_from(BROKEN_CLOSES)), 8)
    if kind == "broken frame":
        return draw(st.sampled_from(BROKEN_FRAMES))
    if kind == "fake":  # marked as compressed, and it is not
        return encoded(draw(st.sampled_from([*TEXTS, *DATAS, b"\x03\x00", *STREAM_ENDS])), 1, rsv=4)
    opcode = draw(st.sampled_from([1, 2]))
    contents = BROKEN_TEXTS if kind == "broken message" else TEXTS if opcode == 1 else DATAS
    payload, rsv = draw(st.sampled_from(contents)), 0
    if kind == "bomb":
        payload, rsv = deflater(draw(st.sampled_from([b"a" * 1001, b"a" * 100_000]))), 4
    elif deflater is not None and draw(st.booleans()):
        payload, rsv = deflater(payload), 4
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    parts = [payload[i:j] for i, j in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    data = b""
    for number, part in enumerate(parts):
        fin = number == len(parts) - 1
        data += encoded(part, opcode if number == 0 else 0, fin=fin, rsv=rsv if number == 0 else 0)
        if not fin and draw(one_in(3)):
            data += encoded(b"between", draw(st.sampled_from([9, 9, 10])))
    return data


@st.composite
def frame_streams(draw):
    """(offer of extensions, bytes behind the handshake)."""
    offer = draw(st.sampled_from(OFFERS))
    deflater = None if offer is None else Deflater(offer)
    plain = ["message"] * 4 + ["ping"]
    odd = ["broken message", "broken close", "broken frame", "close", "close", "fake"]
    if deflater is not None:
        odd += ["bomb", "fake"]
    kinds = draw(st.lists(st.sampled_from(plain), max_size=5))
    if draw(st.sampled_from([True, True, False])):
        kinds += [draw(st.sampled_from(odd)), *draw(st.lists(st.sampled_from([*plain, *odd]), max_size=2))]
    data = b"".join(draw(frames(deflater, kind)) for kind in kinds)
    return offer, draw(mutations(data, WS_BYTES))
