"""Frames: the short way of whole WebSocket messages, past wsproto while it holds nothing of another.

Most messages are one frame: no fragment, not compressed, there as a whole. Nothing of such a frame has to be
remembered, so wsproto, which takes 20 µs to read one and 8 to write one, need not see it. Every other byte is
wsproto's, which stays the authority: control frames, fragments, whatever is compressed or not whole yet, and
all that is against the rules. `tests/protocol/test_frames.py` sends the same bytes with and without
this, and compares what comes of them.

It owns the walk along the client's frames, which tells when wsproto is at rest; it must not know connections.
"""

import struct

# The first byte of a frame that is a whole message: FIN, no reserved bit, an opcode (RFC 6455 section 5.2).
WHOLE_TEXT, WHOLE_BYTES = 0x81, 0x82
FIN, CONTROL, MASKED = 0x80, 0x08, 0x80
LONGEST_HEADER = 14


class Walk:
    """Where the next byte for wsproto stands in the client's frames."""

    __slots__ = (
        "begun",  # the beginning of a header that was not whole yet, and that wsproto has
        "left",  # bytes of the frame under way that wsproto is still to be given
        "open",  # a message has had a fragment, and not its last one
    )

    def __init__(self) -> None:
        self.begun = b""
        self.left = 0
        self.open = False

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a message, or a control frame between two."""
        return not (self.left or self.open or self.begun)

    def advance(self, data: bytes, at: int, most: int) -> int:
        """How many of the bytes from there wsproto is given now: never of two frames."""
        there = len(data) - at
        if not self.left:
            header = self.begun + data[at : at + LONGEST_HEADER - len(self.begun)]
            size = size_of_frame(header)
            if not size:
                self.begun = header
                return there
            self.left = size - len(self.begun)
            self.begun = b""
            if not header[0] & CONTROL:
                self.open = not header[0] & FIN
        count = min(self.left, most, there)
        self.left -= count
        return count


def size_of_frame(header: bytes) -> int:
    """Of the header and the payload of a client's frame; 0 where that cannot be told yet."""
    if len(header) < 2:
        return 0
    length = header[1] & 0x7F
    if length < 126:
        return 6 + length
    if length == 126:
        return 8 + int.from_bytes(header[2:4], "big") if len(header) >= 4 else 0
    return 14 + int.from_bytes(header[2:10], "big") if len(header) >= 10 else 0


def whole_message(data: bytes, at: int) -> tuple[str | bytes, int] | None:
    """(the message that begins there, where it ends), as wsproto would have it.

    None where there is no whole message in one frame of up to 65,535 bytes.
    """
    if len(data) < at + 6:
        return None
    first = data[at]
    if first != WHOLE_TEXT and first != WHOLE_BYTES:
        return None
    length = data[at + 1] ^ MASKED
    start = at + 6
    if length > 125:
        if length > 126:
            return None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        start = at + 8
        if length < 126:  # it would have gone into one byte
            return None
    end = start + length
    if end > len(data):
        return None
    payload = unmasked(data[start - 4 : start], data[start:end])
    if first == WHOLE_BYTES:
        return payload, end
    try:
        return payload.decode(), end
    except UnicodeDecodeError:
        return None


def unmasked(mask: bytes, payload: bytes) -> bytes:
    """RFC 6455 section 5.3, as one operation on a large number: a loop in Python takes 30 times as long."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame_of(data: str | bytes) -> bytes:
    """The frame of a whole message of the server's, which is not masked."""
    first, payload = (WHOLE_BYTES, data) if isinstance(data, bytes) else (WHOLE_TEXT, data.encode())
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 2**16:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload
