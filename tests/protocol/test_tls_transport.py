"""TLS without a socket: OpenSSL's client on one side, the road over a memory transport on the other."""

import asyncio
import ssl
from functools import partial

import pytest

from miniasgi.protocol.connection import Arrival
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.protocol.tls_transport import STEP, Handshake
from tests.applications import echo, hello, respond
from tests.memory import MemoryClient, MemoryTransport

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class TLSMemoryClient(MemoryClient):
    """A MemoryClient that speaks TLS: what it sends is cut into pieces of `size` bytes on the way."""

    def __init__(self, app, certificates, *, version=ssl.TLSVersion.TLSv1_3, size=1 << 20, **options):
        super().__init__(app, **options)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificates.server)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(certificates.ca)
        client.minimum_version = client.maximum_version = version
        self.runtime.connections.clear()
        self.transport = MemoryTransport(self.loop)
        self.transport.protocol = Arrival(self.runtime, partial(Handshake, server, Http1Connection))
        self.transport.protocol.connection_made(self.transport)
        self.size = size
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.taken = 0
        self.got = b""
        self.ended = False

    async def carry(self):
        """Carry bytes both ways until nobody has more to say."""
        before = None
        while before != self.taken or self.outgoing.pending:
            before = self.taken
            data = self.outgoing.read()
            await self.send(*(data[at : at + self.size] for at in range(0, len(data), self.size)))
            await self.turns()
            written = self.transport.written
            self.incoming.write(written[self.taken :])
            self.taken = len(written)
            self.read()

    def read(self):
        if self.tls.version() is None:
            return
        try:
            while piece := self.tls.read(1 << 16):
                self.got += piece
            self.ended = True
        except ssl.SSLZeroReturnError:  # both sides have said goodbye
            self.ended = True
        except ssl.SSLWantReadError:
            pass

    async def shake_hands(self):
        while self.tls.version() is None or self.outgoing.pending:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            await self.carry()

    async def ask(self, data):
        self.tls.write(data)
        await self.carry()
        return self.got

    async def say_goodbye(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.carry()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
async def test_it_does_not_matter_how_the_bytes_are_cut(certificates, version, size):
    client = TLSMemoryClient(echo, certificates, version=version, size=size)
    await client.shake_hands()
    for body in (b"a", b"b" * 20_000):  # more than a record
        client.got = b""
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await client.ask(request + body)).endswith(b"\r\n\r\n" + body)
    assert isinstance(client.connection.protocol, Http1Connection)
    assert client.runtime.connections == {client.connection.protocol}


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(certificates):
    client = TLSMemoryClient(hello, certificates)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    await client.carry()
    client.tls.do_handshake()
    assert (await client.ask(GET)).endswith(b"hello")


@pytest.mark.parametrize(
    ("version", "answered"), [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)]
)
async def test_a_goodbye_ends_one_side_in_tls_1_3_and_both_in_1_2(certificates, version, answered):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"still")

    client = TLSMemoryClient(app, certificates, version=version)
    await client.shake_hands()
    await client.ask(GET)
    await client.say_goodbye()
    assert client.transport.closing is not answered
    go_on.set()
    await client.turns()
    await client.carry()
    assert client.got.endswith(b"still") is answered
    assert client.ended
    assert client.transport.closing or client.transport.eof_written


async def test_an_end_is_told_once(certificates):
    """By close_notify, by the end of the TCP connection behind it, and asked for again."""
    told = []

    class Protocol(asyncio.Protocol):
        def eof_received(self):
            told.append("end")
            return True

    client = TLSMemoryClient(hello, certificates)
    await client.shake_hands()
    secure = client.connection
    secure.set_protocol(Protocol())
    assert type(secure.get_protocol()) is Protocol
    await client.say_goodbye()
    await client.send(b"and more")
    await client.end()
    secure.pause_reading()
    secure.resume_reading()
    await client.turns()
    assert told == ["end"]
    assert not secure.is_closing()


@pytest.mark.parametrize("cut", [0, 3, 20])
async def test_an_end_without_a_goodbye_is_an_end(certificates, cut):
    """Between two records or in the middle of one; whether a body is whole is told by its own framing."""
    told = []

    async def app(scope, receive, send):
        told.append((await receive())["type"])
        told.append((await receive())["type"])

    client = TLSMemoryClient(app, certificates)
    await client.shake_hands()
    await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    client.tls.write(b"more")
    await client.send(client.outgoing.read()[:cut])
    await client.end()
    assert told == ["http.request", "http.disconnect"]
    assert client.transport.closing


async def test_a_record_that_was_changed_on_the_way_ends_the_connection(certificates):
    client = TLSMemoryClient(hello, certificates)
    await client.shake_hands()
    client.tls.write(GET)
    record = bytearray(client.outgoing.read())
    record[-1] ^= 1
    await client.send(bytes(record))
    assert client.transport.aborted
    assert not client.runtime.connections
    assert not client.runtime.calls


async def test_one_client_does_not_take_the_whole_turn_of_the_loop(certificates):
    """Ten thousand records may come in one read. These hold a byte each, so that it shows what becomes of them."""

    async def app(scope, receive, send):
        await asyncio.Event().wait()

    client = TLSMemoryClient(app, certificates)
    await client.shake_hands()
    await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
    for _ in range(10_000):
        client.tls.write(b"x")
    records = client.outgoing.read()
    [call] = client.runtime.calls
    client.connection.data_received(records)
    handed_on = [call.size]
    while call.size < 10_000:
        assert not client.transport.reading
        await asyncio.sleep(0)
        handed_on.append(call.size)
    assert len(handed_on) >= len(records) // STEP
    assert client.transport.reading
    client.transport.lose()
    call.task.cancel()
    await client.turns()


async def test_what_was_not_asked_for_is_not_handed_on_and_comes_later(certificates):
    go_on = asyncio.Event()
    messages = []

    async def app(scope, receive, send):
        await go_on.wait()
        while not messages or messages[-1]["more_body"]:
            messages.append(await receive())
        await respond(send, b"read")

    client = TLSMemoryClient(app, certificates)
    await client.shake_hands()
    body = b"x" * 200_000
    await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n" + body)
    assert not client.transport.reading
    client.tls.write(body)  # a loop's transport may have read it in the same turn
    data = client.outgoing.read()
    client.connection.data_received(data)
    [connection] = client.runtime.connections
    assert connection.exchange.size < 300_000
    go_on.set()
    await client.turns()
    await client.carry()
    assert client.got.endswith(b"read")
    assert b"".join(message["body"] for message in messages) == body * 2


async def test_a_close_says_goodbye_and_nothing_more(certificates):
    client = TLSMemoryClient(hello, certificates)
    await client.shake_hands()
    await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert client.got.endswith(b"hello")
    assert client.ended
    secure = client.connection
    before = len(client.transport.written)
    secure.write(b"late")
    secure.close()
    secure.data_received(b"late too")
    assert len(client.transport.written) == before


async def test_a_mistake_is_answered_and_the_connection_closed_in_stages(certificates):
    client = TLSMemoryClient(hello, certificates)
    await client.shake_hands()
    assert b" 400 " in await client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: no\r\n\r\n")
    assert client.ended
    assert client.transport.eof_written
    client.tls.write(b"the client goes on")
    await client.carry()
    assert not client.transport.closing
    await client.end()
    assert client.transport.closing
    assert not client.runtime.connections


async def test_a_write_on_a_connection_that_is_broken_ends_it(certificates):
    client = TLSMemoryClient(hello, certificates)
    await client.shake_hands()
    secure = client.connection
    secure.tls = Broken()
    secure.write(b"x")
    assert client.transport.aborted


class Broken:
    def write(self, data):
        raise ssl.SSLError("broken")

    def unwrap(self):
        raise ssl.SSLError("broken")


async def test_a_handshake_has_its_time(certificates):
    client = TLSMemoryClient(hello, certificates, timeout_head=10)
    await client.send(b"\x16\x03")
    await client.pass_time(9)
    assert not client.transport.closing
    await client.pass_time(2)
    assert client.transport.aborted
    assert not client.runtime.connections


async def test_a_stop_ends_a_handshake(certificates):
    client = TLSMemoryClient(hello, certificates)
    client.runtime.stop_accepting()
    assert client.transport.closing
    await client.turns()
    assert client.runtime.quiet.done()


async def test_what_is_no_tls_is_closed_in_stages(certificates):
    client = TLSMemoryClient(hello, certificates)
    await client.send(GET)
    assert client.transport.eof_written
    assert not client.transport.closing
    await client.end()
    assert client.transport.closing
    assert not client.runtime.connections
