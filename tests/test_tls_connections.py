"""TLS over real sockets, on both event loops: what the scope says, and the promises that hold without it too."""

import asyncio
import contextlib
import gc
import logging
import re
import socket
import ssl
import struct

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from miniasgi.testing import serve
from tests.applications import echo, hello, respond
from tests.clock import quickest

pytestmark = pytest.mark.both_loops

BIG = bytes(range(256)) * 20_000  # 5 MB: more than any buffer on the way takes


@pytest.fixture
def quiet(caplog):
    """Nothing is logged from warnings on, by nobody; debug mode's word on slow callbacks aside."""
    yield
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each for each in said if not each.startswith("Executing ")] == []


@pytest.fixture
def client_context(certificates):
    """`client_context(client=True, version=…)`: what a client verifies the server with, and shows it."""

    def make(*, client=False, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificates.ca)
        if client:
            context.load_cert_chain(certificates.client)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    return make


@pytest.fixture
async def secure(client_context):
    """`reader, writer = await secure(server)`: a TLS connection, ended after the test."""
    opened = []

    async def open_(server, context=None):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context or client_context(), server_hostname="localhost"
        )
        opened.append(writer)
        return reader, writer

    yield open_
    for writer in opened:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def tls(bare_server, certificates):
    """`async with tls(app, **options) as server`: `bare_server` with a certificate."""

    def make(app, **options):
        return bare_server(app, **{"ssl_certfile": certificates.server, "lifespan": "off", **options})

    return make


@pytest.fixture
def serve_tls(certificates):
    """`async with serve_tls(app, **options) as server`: `serve` with a certificate of our own."""

    def make(app, **options):
        return serve(app, ssl_certfile=certificates.server, lifespan="off", **options)

    return make


async def seen(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    else:
        await respond(send, b"seen")


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


# ---- the extension ----


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("client", [False, True])
async def test_the_extension_says_what_tls_agreed_on(
    serve_tls, secure, client_context, certificates, version, client, quiet
):
    options = {"ssl_ca_certs": certificates.ca, "ssl_cert_reqs": "optional"}
    async with serve_tls(seen, **options) as server:
        reader, writer = await secure(server, client_context(client=client, version=version))
        for _ in range(2):
            writer.write(GET)
            await reader.readuntil(b"seen")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        name, _, _ = writer.get_extra_info("cipher")
    first, second = (each.scope["extensions"]["tls"] for each in server.exchanges)
    assert first == second
    assert first is not second
    assert first["client_cert_chain"] is not second["client_cert_chain"]
    assert ssl.PEM_cert_to_DER_cert(first["server_cert"]) == shown
    assert first["server_cert"] == certificates.server_chain[0]
    assert first["client_cert_chain"] == (certificates.client_chain if client else [])
    assert first["client_cert_name"] == (certificates.client_name if client else None)
    assert first["client_cert_error"] is None
    assert first["tls_version"] == (0x0304 if version is ssl.TLSVersion.TLSv1_3 else 0x0303)
    known = {each["name"]: each["id"] & 0xFFFF for each in client_context().get_ciphers()}
    assert first["cipher_suite"] == known[name]
    assert set(first) == {
        "server_cert",
        "client_cert_chain",
        "client_cert_name",
        "client_cert_error",
        "tls_version",
        "cipher_suite",
    }
    assert server.exchanges[0].scope["scheme"] == "https"


async def test_without_tls_there_is_no_extension():
    async with serve(seen, lifespan="off") as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        async with connect(server.ws_url):
            pass
    told = [each.scope["extensions"].get("tls", "none") for each in server.exchanges]
    assert told == ["none", "none"]


async def test_a_session_that_is_taken_up_again_names_its_client(serve_tls, client_context, certificates):
    """OpenSSL keeps the client's own certificate with a session, and no more of the chain."""

    def ask(port, context, session=None):
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
            client.sendall(GET)
            assert client.recv(10_000)
            return client.session, client.session_reused

    options = {"ssl_ca_certs": certificates.ca, "ssl_cert_reqs": "required"}
    async with serve_tls(seen, **options) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(client=True, version=version)
            session, _ = await asyncio.to_thread(ask, server.port, context)
            _, reused = await asyncio.to_thread(ask, server.port, context, session)
            assert reused
    assert len(server.exchanges) == 4
    for each in server.exchanges:
        assert each.scope["extensions"]["tls"]["client_cert_name"] == certificates.client_name
        assert each.scope["extensions"]["tls"]["client_cert_chain"][0] == certificates.client_chain[0]


# ---- clients ----


async def test_httpx_is_answered_with_keep_alive(serve_tls, client_context, quiet):
    async with serve_tls(echo) as server, httpx.AsyncClient(verify=client_context()) as client:
        url = f"https://localhost:{server.port}"
        assert server.url == f"https://127.0.0.1:{server.port}"
        for body in (b"", b"x", BIG):
            response = await client.post(url, content=body)
            assert response.content == body
        assert len(server.server.runtime.connections) == 1


async def test_websockets_is_answered_with_close_codes(serve_tls, client_context, quiet):
    async def app(scope, receive, send):
        assert scope["scheme"] == "wss"
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
            else:
                await send(dict(message, type="websocket.send"))

    async with serve_tls(app) as server:
        url, context = f"wss://localhost:{server.port}", client_context()
        async with connect(url, ssl=context, max_size=None) as client:
            for message in ("text", b"bytes", BIG):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4002, "bye")
        told = await server.wait_for("websocket.disconnect")
        assert told.received[-1] == {"type": "websocket.disconnect", "code": 4002, "reason": "bye"}
        async with connect(url, ssl=context) as client:
            await client.send("close")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
        client = await connect(url, ssl=context)
    with pytest.raises(ConnectionClosed) as caught:
        await client.recv()
    assert caught.value.rcvd.code == 1012


async def run_program(*command, stdin=b""):
    program = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(program.communicate(stdin), 30)
    return program.returncode, out, err


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_is_answered(serve_tls, certificates, need, tmp_path, version, quiet):
    curl = need("curl", install="curl")
    (tmp_path / "body").write_bytes(BIG)
    options = {"ssl_ca_certs": certificates.ca, "ssl_cert_reqs": "required"}
    async with serve_tls(echo, **options) as server:
        command = [curl, "-sS", "--noproxy", "*", "--cacert", certificates.ca, "--cert", certificates.client]
        command += [f"--tlsv{version}", "--tls-max", version, "-w", "%{http_version} %{num_connects}"]
        command += ["--data-binary", f"@{tmp_path}/body", f"https://localhost:{server.port}/"]
        code, out, err = await run_program(*command)
        assert (code, err) == (0, b"")
        assert out == BIG + b"1.1 1"


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
async def test_openssl_is_answered_and_agrees_on_the_protocol(serve_tls, certificates, need, version, quiet):
    openssl = need("openssl", install="openssl")
    async with serve_tls(hello) as server:
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", "localhost"]
        command += ["-CAfile", certificates.ca, f"-{version}", "-alpn", "h2,http/1.1", "-verify_return_error"]
        request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        code, out, err = await run_program(*command, "-ign_eof", stdin=request)
        assert b"ALPN protocol: http/1.1" in out
        assert b"Verify return code: 0 (ok)" in out
        assert b"HTTP/1.1 200 " in out
        assert b"\r\n\r\nhello" in out
        old = ["-connect", f"127.0.0.1:{server.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
        code, out, err = await run_program(openssl, "s_client", *old)
        assert code == 1
        assert b"alert protocol version" in err


class HalfClient:
    """A client of TLS 1.3 on a raw socket, which can end its side of TCP without the goodbye of TLS."""

    def __init__(self, server, context):
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def ask_and_end(self, request, goodbye):
        """The answer to a request that is followed by FIN, with close_notify before it or without."""
        with self.sock:
            self.until_done(self.tls.do_handshake)
            self.tls.write(request)
            if goodbye:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self.tls.unwrap()
            self.sock.sendall(self.outgoing.read())
            self.sock.shutdown(socket.SHUT_WR)
            for data in iter(lambda: self.sock.recv(65536), b""):
                self.incoming.write(data)
        return b"".join(iter(self.read, b""))

    def until_done(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))

    def read(self):
        try:
            return self.tls.read(65536)
        except ssl.SSLZeroReturnError:
            return b""


@pytest.mark.parametrize("goodbye", [True, False])
async def test_a_client_that_ends_its_side_is_answered_with_a_goodbye_or_without(
    tls, client_context, goodbye, quiet
):
    async def app(scope, receive, send):
        await asyncio.sleep(0.01)  # the client's end has come by then
        await respond(send, BIG)

    async with tls(app) as server:
        context = client_context(version=ssl.TLSVersion.TLSv1_3)
        client = HalfClient(server, context)
        answer = await asyncio.to_thread(client.ask_and_end, GET, goodbye)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(BIG)


# ---- handshakes that fail ----


async def ask(secure, server, context):
    """A client of TLS 1.3 has done its part before the server looks at the certificate: it learns of a refusal
    when it reads."""
    reader, writer = await secure(server, context)
    writer.write(GET)
    return await asyncio.wait_for(reader.read(), 10)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_a_client_without_the_required_certificate_is_refused(
    serve_tls, secure, client_context, certificates, quiet, caplog
):
    caplog.set_level("INFO")
    options = {"ssl_ca_certs": certificates.ca, "ssl_cert_reqs": "required"}
    async with serve_tls(seen, **options) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with pytest.raises(ssl.SSLError, match="(?i)certificate[ _]required|handshake[ _]failure"):
                await ask(secure, server, client_context(version=version))
        reader, writer = await secure(server, client_context(client=True))
        writer.write(GET)
        await reader.readuntil(b"seen")
    assert len(server.exchanges) == 1
    assert (
        len(re.findall(r"No TLS with 127\.0\.0\.1:\d+: peer did not return a certificate", caplog.text)) == 2
    )


async def test_a_client_with_a_stranger_s_certificate_is_refused(
    tls, secure, client_context, certificates, quiet, caplog
):
    caplog.set_level("INFO")
    options = {"ssl_ca_certs": certificates.ca, "ssl_cert_reqs": "optional"}
    async with tls(hello, **options) as server:
        context = client_context()
        context.load_cert_chain(certificates.stranger)
        with pytest.raises(ssl.SSLError, match="(?i)unknown[ _]ca"):
            await ask(secure, server, context)
    assert "certificate verify failed (none of the authorities given has signed the client's)" in caplog.text


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_client_that_does_not_know_who_signed_the_certificate_is_told_of(
    tls, need, version, quiet, caplog
):
    caplog.set_level("INFO")
    command = [need("curl", install="curl"), "-s", "--noproxy", "*", "--tls-max", version]
    async with tls(hello) as server:
        code, *_ = await run_program(*command, f"https://127.0.0.1:{server.port}/")
        assert code == 60  # CURLE_PEER_FAILED_VERIFICATION
        await until(lambda: not server.runtime.connections)
    assert "alert unknown ca (the client does not know who signed the server's certificate)" in caplog.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
async def test_plain_http_on_a_tls_port_is_told_what_the_port_serves(tls, secure, quiet, caplog, method):
    caplog.set_level("INFO")
    async with tls(hello) as server:
        async with httpx.AsyncClient() as client:
            answer = await client.request(method, server.url.replace("https", "http"))
        assert answer.status_code == 400
        assert answer.headers["connection"] == "close"
        assert answer.headers["date"]
        if method != "HEAD":
            assert answer.text.startswith("This port serves https: ")
            assert answer.text.count("\n") == 1
        [told] = [each.getMessage() for each in caplog.records if each.name == "miniasgi"]
        assert re.fullmatch(r"No TLS with 127\.0\.0\.1:\d+: http request \(this port serves https\)", told)
        reader, writer = await secure(server)
        writer.write(GET)
        await reader.readuntil(b"hello")


async def test_the_answer_to_plain_http_arrives_though_the_client_goes_on_sending(tls, raw, quiet):
    async with tls(hello) as server:
        reader, writer = await raw(server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000))
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b" for a WebSocket.\n")


async def test_a_client_that_leaves_in_mid_handshake_is_no_news(tls, raw, client_context, quiet):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    client_hello = outgoing.read()
    async with tls(hello) as server:
        for cut in (0, 1, 100, len(client_hello)):
            for reset in (False, True):
                reader, writer = await raw(server)
                writer.write(client_hello[:cut])
                if cut == len(client_hello):
                    await reader.read(1)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()
        gc.collect()


async def test_a_silent_client_is_closed_in_time(tls, raw, quiet):
    async with tls(hello, timeout_head=0.2) as server:
        reader, writer = await raw(server)
        assert await asyncio.wait_for(reader.read(), 10) == b""


# ---- promises ----


async def test_an_upload_to_an_application_that_does_not_receive_stops(tls, secure):
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    async with tls(app, timeout_graceful_shutdown=0) as server:
        reader, writer = await secure(server)
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        taken = 0
        while taken < 100:
            writer.write(bytes(1_000_000))
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
            taken += 1
        assert taken < 100
        [connection] = server.runtime.connections
        assert connection.reading_paused
        assert len(connection.exchange.body) < 1_000_000


async def test_a_download_to_a_client_that_does_not_read_stops(tls, client_context):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
            sent += 1

    async with (
        tls(app, timeout_graceful_shutdown=0) as server,
        BlockingClient(server, client_context()) as client,
    ):
        await client.sendall(GET)
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 50  # what the kernel's buffers take
        [connection] = server.runtime.connections
        assert connection.transport.get_write_buffer_size() < 2_000_000


class BlockingClient:
    """A TLS client over a blocking socket, driven in a thread: it reads what it is told to, and no more."""

    def __init__(self, server, context):
        self.address, self.context = ("127.0.0.1", server.port), context

    async def __aenter__(self):
        await asyncio.to_thread(self.open)
        return self

    def open(self):
        self.sock = socket.socket()
        self.sock.settimeout(20)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)  # the kernel takes little
        self.sock.connect(self.address)
        self.sock = self.context.wrap_socket(self.sock, server_hostname="localhost")

    async def __aexit__(self, *_):
        self.sock.close()

    async def sendall(self, data):
        await asyncio.to_thread(self.sock.sendall, data)

    async def recv(self, size):
        return await asyncio.to_thread(self.sock.recv, size)

    async def read_slowly(self):
        """All that comes until the end, in 3 seconds: more than a server waits for its client to close."""
        got = bytearray()
        while piece := await self.recv(16_384):
            got += piece
            if len(got) % 500_000 < 16_384:
                await asyncio.sleep(0.3)
        return got

    def leave(self, how):
        if how == "close_notify":
            self.sock.settimeout(0)
            with contextlib.suppress(ssl.SSLError):  # it does not wait for the server's
                self.sock.unwrap()
        elif how == "end":
            self.sock.shutdown(socket.SHUT_WR)
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "end":
            self.sock.close()


@pytest.mark.parametrize("how", ["close_notify", "end", "reset"])
async def test_a_client_that_leaves_in_mid_upload_is_told_at_once(tls, client_context, how, quiet):
    told = asyncio.Queue()

    async def app(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        told.put_nowait(asyncio.get_running_loop().time())
        with pytest.raises(OSError, match="after the request was over"):
            await send({"type": "http.response.start", "status": 200})
        told.put_nowait("raised")

    async with tls(app) as server:

        async def leave():
            async with BlockingClient(server, client_context()) as client:
                await client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
                await until(lambda: server.runtime.calls)
                left = asyncio.get_running_loop().time()
                client.leave(how)
                took = await asyncio.wait_for(told.get(), 5) - left
                assert await asyncio.wait_for(told.get(), 5) == "raised"
                await until(lambda: not server.runtime.connections)
                return took

        assert await quickest(leave) < 0.1


@pytest.mark.parametrize("how", ["close_notify", "reset"])
async def test_a_client_that_leaves_in_mid_response_ends_the_application(tls, client_context, how, quiet):
    ended = asyncio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        except OSError:
            ended.set()
            raise

    async with tls(app) as server, BlockingClient(server, client_context()) as client:
        await client.sendall(GET)
        await client.recv(1000)
        client.leave(how)
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("last", [True, False])
async def test_a_slow_client_gets_the_whole_of_its_answer(tls, client_context, last, quiet):
    """Whether the connection is closed behind it, or is idle from then on: time begins when it was taken."""

    async def app(scope, receive, send):
        await respond(send, BIG)

    async with tls(app, timeout_keep_alive=1) as server, BlockingClient(server, client_context()) as client:
        end = b"Connection: close\r\n\r\n" if last else b"\r\n"
        await client.sendall(GET.removesuffix(b"\r\n") + end)
        assert (await client.read_slowly()).endswith(BIG)


async def test_answers_to_a_mistake_arrive_though_the_client_goes_on_sending(tls, client_context, quiet):
    request = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n"
    async with tls(hello) as server, BlockingClient(server, client_context()) as client:
        await client.sendall(request)
        with contextlib.suppress(OSError):
            for _ in range(50):
                await client.sendall(bytes(40_000))
        assert (await client.recv(1000)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("kind", ["idle", "silent", "in mid-handshake"])
async def test_a_stop_does_not_wait_for_an_idle_client(tls, raw, client_context, kind, quiet):
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(tls(hello, timeout_graceful_shutdown=60))
        if kind == "idle":  # one that reads nothing, so that it does not answer a goodbye
            client = await stack.enter_async_context(BlockingClient(server, client_context()))
            await client.sendall(GET)
            assert await client.recv(1000)
        else:
            reader, writer = await raw(server)
            writer.write(b"" if kind == "silent" else b"\x16\x03\x01")
            await until(lambda: server.runtime.connections)
        before = asyncio.get_running_loop().time()
        server.stop()
        await server.__aexit__(None, None, None)
        stack.pop_all()
        assert asyncio.get_running_loop().time() - before < 1.5  # LINGER is two seconds
        if kind == "idle":
            client.sock.close()
        elif kind == "silent":
            assert await asyncio.wait_for(reader.read(), 5) == b""
        else:
            with contextlib.suppress(ConnectionResetError):  # where its bytes were not read yet
                assert await asyncio.wait_for(reader.read(), 5) == b""
