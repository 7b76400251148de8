"""Extensions of ASGI, on the wire: files by the kernel, early hints, trailers, debug; with real clients.

Files have a bare server: one that knows what was said reads them, since what the kernel copies it does not see.
"""

import asyncio
import contextlib
import io
import os
import re
import ssl
import subprocess

import h11
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from miniasgi import Config, Server
from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.protocol.exchange import State
from miniasgi.protocol.file import FilePart
from miniasgi.testing import ApplicationFault, serve
from tests.applications import hello, read_body
from tests.conftest import descriptors

CONTENT = bytes(range(256)) * 20_000  # 5 MB: more than any socket takes at once
LONG = 200_000_000  # more than a client of TLS takes in that does not read


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


def start(*headers, status=200, **keys):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **keys}


def path_of(file):
    return {"type": "http.response.pathsend", "path": str(file)}


def part_of(file, **keys):
    return {"type": "http.response.zerocopysend", "file": file, **keys}


def length(number):
    return b"content-length", b"%d" % number


def sending(*messages, told=None):
    """An application that sends these messages to every request."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await read_body(receive)
            try:
                for message in messages:
                    await send(dict(message))
            except Exception as error:
                if told is not None:
                    told.append(error)
                raise

    return app


async def converse(server, request):
    """Send the bytes, end our side, and read all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


# ---- files ------------------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_file_by_its_path_is_the_body(bare_server, file):
    app = sending(start(length(len(CONTENT))), path_of(file))
    async with bare_server(app) as server, httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(3):  # on one connection
            response = await client.get("/")
            assert response.content == CONTENT
        assert len(server.runtime.connections) == 1


@pytest.mark.both_loops
async def test_the_kernel_copies_it(bare_server, file, monkeypatch):
    copied = []
    sendfile = os.sendfile

    def counted(*arguments):
        copied.append(sent := sendfile(*arguments))
        return sent

    monkeypatch.setattr(os, "sendfile", counted)
    async with bare_server(sending(start(), path_of(file))) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).content == CONTENT
    assert sum(copied) == len(CONTENT)


@pytest.mark.parametrize("works", [0, 1000])
async def test_where_the_kernel_cannot_it_is_read(bare_server, file, monkeypatch, works):
    def sendfile(sock, descriptor, offset, size):
        if offset >= works:
            raise OSError(22, "Invalid argument")
        return os.write(sock, os.pread(descriptor, works, offset))

    monkeypatch.setattr(os, "sendfile", sendfile)
    async with bare_server(sending(start(), path_of(file))) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).content == CONTENT


@pytest.mark.both_loops
async def test_parts_of_files_mix_with_body(bare_server, file):
    with file.open("rb") as opened:
        opened.seek(10)
        app = sending(
            start(),
            {"type": "http.response.body", "body": b"begin", "more_body": True},
            part_of(opened, offset=1000, count=500_000, more_body=True),
            {"type": "http.response.body", "body": b"middle", "more_body": True},
            part_of(opened, count=7, more_body=True),
            part_of(opened, count=3, more_body=True),
            part_of(opened, offset=len(CONTENT), more_body=True),
            part_of(opened, offset=len(CONTENT) - 5, count=50),
        )
        async with bare_server(app) as server, httpx.AsyncClient() as client:
            response = await client.get(server.url)
        assert response.headers["transfer-encoding"] == "chunked"
        middle = CONTENT[1000:501_000] + b"middle" + CONTENT[10:17] + CONTENT[17:20]
        assert response.content == b"begin" + middle + CONTENT[-5:]
        assert opened.tell() == 20


async def test_a_range_with_its_length_and_a_pipelined_request_behind_it(bare_server, file):
    with file.open("rb") as opened:
        app = sending(start(length(4), status=206), part_of(opened, offset=1, count=4))
        async with bare_server(app) as server:
            answer = await converse(server, GET.replace(b"Connection: close\r\n", b"") + GET)
    first, second = answer.split(b"\x01\x02\x03\x04")[:2]
    assert first.startswith(b"HTTP/1.1 206 ")
    assert second.startswith(b"HTTP/1.1 206 ")
    assert answer.endswith(b"\x01\x02\x03\x04")


async def test_http_10_gets_a_file_until_the_end_of_the_connection(bare_server, file):
    async with bare_server(sending(start(), path_of(file))) as server:
        answer = await converse(server, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == CONTENT


async def test_head_and_304_have_the_head_alone(bare_server, file):
    for status, method in ((200, "HEAD"), (304, "GET")):
        app = sending(start(length(len(CONTENT)), status=status), path_of(file))
        async with bare_server(app) as server, httpx.AsyncClient(base_url=server.url) as client:
            for _ in range(2):
                response = await client.request(method, "/")
                assert response.headers["content-length"] == str(len(CONTENT))
                assert response.content == b""
            assert len(server.runtime.connections) == 1


async def test_an_empty_file_is_an_empty_body(bare_server, tmp_path):
    (tmp_path / "empty").touch()
    async with (
        bare_server(sending(start(), path_of(tmp_path / "empty"))) as server,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(server.url)).content == b""


@pytest.mark.both_loops
async def test_a_client_that_leaves_in_the_middle_of_a_file_ends_it(bare_server, file, caplog):
    told, ended = [], asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send(start())
        watching = asyncio.create_task(receive())
        try:
            await send(path_of(file))
        except OSError as error:
            told.append(error)
            told.append(await watching)
            raise
        finally:
            ended.set()

    os.truncate(file, 200_000_000)  # more than the system's buffers on the way
    async with bare_server(app, lifespan="off") as server:
        before = descriptors()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await reader.readexactly(100_000)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)
        assert isinstance(told[0], ClientDisconnected)
        assert told[1] == {"type": "http.disconnect"}
        await until(lambda: not server.runtime.connections)
        assert descriptors() <= before
    assert not caplog.records


@pytest.mark.both_loops
async def test_a_client_that_takes_nothing_holds_up_its_own_file_only(bare_server, file):
    async def app(scope, receive, send):
        if scope["path"] == "/file":
            await sending(start(), path_of(file))(scope, receive, send)
        else:
            await hello(scope, receive, send)

    os.truncate(file, 100_000_000)
    async with bare_server(app, lifespan="off") as server, httpx.AsyncClient(base_url=server.url) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET.replace(b"/ ", b"/file ", 1))
        await reader.readexactly(1000)
        for _ in range(3):
            assert (await client.get("/")).text == "hello"
        assert len(server.runtime.calls) == 1
        assert not writer.is_closing()
        size = 1000
        while data := await reader.read(2**20):
            size += len(data)
        assert size > 100_000_000
        writer.close()


@pytest.mark.both_loops
async def test_a_stop_ends_a_file_that_nobody_takes(bare_server, file, caplog):
    os.truncate(file, 100_000_000)
    async with bare_server(sending(start(), path_of(file)), timeout_graceful_shutdown=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await reader.readexactly(1000)
    assert "still running when the server stopped; cancelled" in caplog.text
    assert "Traceback" not in caplog.text
    writer.transport.abort()


async def test_a_file_that_shrinks_on_the_way_breaks_the_response_off(bare_server, file, caplog):
    os.truncate(file, 100_000_000)
    async with bare_server(sending(start(length(100_000_000)), path_of(file))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await reader.readexactly(1000)
        os.truncate(file, 100)
        size = 1000
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(2**20):
                size += len(data)
        assert size < 100_000_000
        writer.close()
    assert "the file has become shorter while it was sent" in caplog.text


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([path_of("/not/there")], "cannot be opened: [Errno 2] No such file or directory"),
        ([path_of("/")], "the file is no regular one, such as a pipe or a folder"),
        ([path_of("a\0b")], "embedded null"),
        ([{"type": "http.response.pathsend", "path": 0}], "'path' of http.response.pathsend is 0 (int)"),
        (
            [{"type": "http.response.pathsend", "pth": "/"}],
            "has no 'path'; it has 'pth'; did you mean 'path'?",
        ),
        ([part_of(7)], "'file' of http.response.zerocopysend is 7, not a file that is open in the system"),
        ([part_of(io.BytesIO(b"x"))], "not a file that is open in the system (fileno)"),
    ],
)
async def test_what_is_no_file_is_told_and_becomes_a_500(bare_server, messages, told, caplog):
    async with bare_server(sending(start(), *messages)) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).status_code == 500
    assert f"miniasgi.asgi.ASGIError: {told}" in caplog.text or told in caplog.text


@pytest.mark.parametrize(
    "keys", [{"offset": -1}, {"count": -1}, {"offset": "1"}, {"count": 1.5}, {"more_body": "no"}]
)
async def test_a_part_that_cannot_be_is_told(bare_server, keys, file):
    raised = []
    with file.open("rb") as opened:
        app = sending(start(), part_of(opened, **keys), told=raised)
        async with bare_server(app) as server, httpx.AsyncClient() as client:
            assert (await client.get(server.url)).status_code == 500
    assert isinstance(raised[0], ASGIError)
    assert f"{next(iter(keys))!r} of http.response.zerocopysend is" in str(raised[0])


async def test_a_pipe_is_no_file_to_send(bare_server):
    ours, theirs = os.pipe()
    raised = []
    with os.fdopen(ours, "rb") as pipe, os.fdopen(theirs, "wb"):
        async with (
            bare_server(sending(start(), part_of(pipe), told=raised)) as server,
            httpx.AsyncClient() as client,
        ):
            assert (await client.get(server.url)).status_code == 500
    assert "is no regular one" in str(raised[0])


async def test_a_file_that_is_shorter_than_promised_is_told(bare_server, file):
    raised = []
    app = sending(start(length(len(CONTENT) + 10)), path_of(file), told=raised)
    async with bare_server(app) as server:
        body = (await converse(server, GET)).partition(b"\r\n\r\n")[2]
    assert body == CONTENT
    assert "the body ends with 5120000 bytes, fewer than its content-length of 5120010" in str(raised[0])


async def test_of_a_file_that_has_grown_since_its_length_was_asked_for_that_much_is_sent(
    bare_server, file, caplog
):
    app = sending(start(length(len(CONTENT) - 10)), path_of(file))
    async with bare_server(app) as server, httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(2):
            assert (await client.get("/")).content == CONTENT[:-10]
        assert len(server.runtime.connections) == 1
    assert "the file has 5120000 bytes, of which content-length lets 5119990" in caplog.text


async def test_a_part_with_a_count_that_is_longer_than_promised_is_told(bare_server, file):
    raised = []
    with file.open("rb") as opened:
        app = sending(start(length(10)), part_of(opened, count=11), told=raised)
        async with bare_server(app) as server:
            assert b" 500 " in await converse(server, GET)
    assert "the body has 11 bytes, more than its content-length of 10" in str(raised[0])


@pytest.mark.both_loops
@pytest.mark.parametrize("tls", [False, True])
async def test_a_file_that_was_given_up_in_the_middle_is_the_end_of_its_connection(
    bare_server, file, tls, certificates, caplog
):
    """Whatever were sent behind it would stand inside the body that was promised."""
    told = []
    os.truncate(file, LONG)

    async def app(scope, receive, send):
        if scope["path"] == "/next":
            await hello(scope, receive, send)
            return
        await send(start(length(LONG)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(path_of(file)), 0.1)
        with pytest.raises(ClientDisconnected, match="nothing can be sent after the request was over"):
            await send({"type": "http.response.body"})
        told.append(await receive())
        told.append(await receive())

    options = {"ssl_certfile": certificates.server} if tls else {}
    context = ssl.create_default_context(cafile=certificates.ca) if tls else None
    async with bare_server(app, lifespan="off", **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(told) == 2)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(2**20):
                got += data
        writer.close()
    body = got.partition(b"\r\n\r\n")[2]
    assert len(body) < LONG
    assert body.strip(b"\0") in CONTENT
    assert (
        f"the response is broken off after {len(body)} bytes of its body: CancelledError()" in caplog.text
        or tls
    )
    assert told[1] == {"type": "http.disconnect"}


@pytest.mark.both_loops
async def test_a_copy_that_cannot_begin_is_the_end_of_its_connection(bare_server, file, monkeypatch, caplog):
    def no_more(descriptor):
        raise OSError(24, "Too many open files")

    async def app(scope, receive, send):
        await send(start())
        monkeypatch.setattr(os, "dup", no_more)
        with pytest.raises(OSError, match="Too many open files"):
            await send(path_of(file))
        monkeypatch.undo()
        with pytest.raises(ClientDisconnected):
            await send({"type": "http.response.body", "body": b"sorry"})

    async with bare_server(app, lifespan="off") as server:
        answer = await converse(server, GET)
        await until(lambda: not server.runtime.calls)
    assert b"sorry" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    [record] = caplog.records
    assert record.getMessage().endswith(
        "the response is broken off after 0 bytes of its body: OSError(24, 'Too many open files')"
    )


@pytest.mark.both_loops
async def test_a_file_that_the_kernel_does_not_copy_is_no_client_that_left(bare_server, file, monkeypatch):
    def bad_descriptor(*arguments):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(os, "sendfile", bad_descriptor)
    async with bare_server(sending(start(), path_of(file))) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).content == CONTENT


async def test_a_file_that_is_not_open_for_reading_is_told(bare_server, file):
    raised = []
    with file.open("ab") as opened:
        app = sending(start(), part_of(opened, offset=0), told=raised)
        async with bare_server(app) as server, httpx.AsyncClient() as client:
            assert (await client.get(server.url)).status_code == 500
    assert str(raised[0]).startswith("the file cannot be read: Bad file descriptor\n")


async def test_a_named_pipe_does_not_keep_the_loop(bare_server, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    raised = []
    async with (
        bare_server(sending(start(), path_of(pipe), told=raised)) as server,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(server.url)).status_code == 500
    assert "is no regular one" in str(raised[0])


@pytest.mark.both_loops
async def test_a_file_that_the_application_closes_in_the_meantime_is_sent_to_its_end(
    bare_server, file, tmp_path
):
    other = tmp_path / "other"
    other.write_bytes(bytes(len(CONTENT)))
    sent = []

    async def app(scope, receive, send):
        await send(start())
        with file.open("rb") as opened:
            sending_ = asyncio.create_task(send(part_of(opened)))
            await until(lambda: sent)
        with other.open("rb"):  # takes over the number of the file that was closed
            await sending_

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(GET.replace(b"1.1", b"1.0"))
        sent.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.read() == CONTENT
        writer.close()


@pytest.mark.both_loops
async def test_descriptors_are_given_back(bare_server, file):
    async with bare_server(sending(start(), path_of(file), path_of(file))) as server:
        await converse(server, GET)
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        for _ in range(3):
            await converse(server, GET)
        if before:
            assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.both_loops
async def test_a_client_that_leaves_before_the_file_has_its_turn_ends_it(bare_server, file, caplog):
    """A copy by the kernel waits until all that was written before has left."""
    told = []
    body = {"type": "http.response.body", "body": b"x" * 50_000, "more_body": True}
    with file.open("rb") as opened:
        stream = [body, part_of(opened, offset=0, more_body=True)] * 20
        async with bare_server(sending(start(), *stream, told=told)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
            writer.write(GET)
            await reader.readexactly(1000)
            await until(lambda: any(call.state is State.FILE for call in server.runtime.calls))
            writer.transport.abort()
            await until(lambda: told and not server.runtime.calls)
    assert isinstance(told[0], ClientDisconnected)
    assert not caplog.records


async def test_a_file_that_shrinks_and_is_closed_while_it_is_sent_is_told_as_what_it_is(
    bare_server, file, caplog
):
    os.truncate(file, LONG)
    told, began = [], []

    async def app(scope, receive, send):
        await send(start())
        opened = file.open("rb")
        sending_ = asyncio.create_task(send(part_of(opened)))
        await until(lambda: began)
        opened.close()
        os.truncate(file, 100)
        try:
            await sending_
        except Exception as error:
            told.append(error)
            raise

    async with bare_server(app, lifespan="off") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(GET)
        began.append(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(2**20):
                pass
        writer.close()
        await until(lambda: not server.runtime.calls)
    assert isinstance(told[0], EOFError)
    assert "the response is broken off after " in caplog.text
    assert "EOFError: the file has become shorter while it was sent" in caplog.text


async def test_numbers_may_be_of_a_class_of_their_own(bare_server, file):
    class Number(int):
        """As numpy's and enum's are."""

    with file.open("rb") as opened:
        part = part_of(opened, offset=Number(1), count=Number(5))
        async with bare_server(sending(start(), part)) as server, httpx.AsyncClient() as client:
            assert (await client.get(server.url)).content == CONTENT[1:6]


@pytest.mark.parametrize("keys", [{"offset": 1.0}, {"offset": True}, {"count": 5.0}])
async def test_a_number_of_another_type_is_refused_before_a_byte_has_left(bare_server, file, keys):
    with file.open("rb") as opened:
        async with bare_server(sending(start(), part_of(opened, **keys))) as server:
            assert (await converse(server, GET)).startswith(b"HTTP/1.1 500 ")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="descriptors are counted in /proc")
async def test_a_file_that_cannot_be_moved_keeps_no_descriptor(file):
    with file.open("rb", buffering=0) as opened:

        class Stuck:
            def fileno(self):
                return opened.fileno()

            def seekable(self):
                return True

            def tell(self):
                return 0

            def seek(self, position):
                raise LookupError("stuck")

        before = os.listdir("/proc/self/fd")
        with pytest.raises(LookupError):
            FilePart.of(Stuck(), None, None)
        assert os.listdir("/proc/self/fd") == before


async def test_an_http_10_client_that_ends_in_mid_upload_sees_that_its_answer_was_broken_off():
    async def app(scope, receive, send):
        await send(start())
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await read_body(receive)

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\nabc")
        await client.receive_until(b"half")
        await client.end()
        with pytest.raises(ConnectionResetError):
            await client.receive_all()


async def test_a_hint_without_links_is_no_response():
    async with serve(sending(HINT | {"links": []}, start(), BODY)) as server:
        assert (await converse(server, GET)).startswith(b"HTTP/1.1 200 ")


async def test_an_http_10_client_that_has_ended_its_side_sees_that_its_answer_was_broken_off():
    """The application learns in mid-answer that the client sends no more, and takes it for gone."""

    async def app(scope, receive, send):
        await send(start())
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await read_body(receive)
        assert (await receive())["type"] == "http.disconnect"

    async with serve(app, lifespan="off") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        writer.write_eof()  # in one turn with the request
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.both_loops
async def test_starlettes_file_response_goes_by_its_path(bare_server, file, monkeypatch):
    monkeypatch.chdir(file.parent)

    async def download(request):
        return FileResponse(file.name)  # a relative path

    app = Starlette(routes=[Route("/", download)])
    async with bare_server(app) as server, httpx.AsyncClient() as client:
        whole = await client.get(server.url)
        part = await client.get(server.url, headers={"range": "bytes=5-9"})
    assert whole.content == CONTENT
    assert part.content == CONTENT[5:10]


@pytest.mark.both_loops
async def test_through_tls_a_file_is_read(bare_server, file, certificates, monkeypatch):
    monkeypatch.delattr(os, "sendfile")
    context = ssl.create_default_context(cafile=certificates.ca)
    with file.open("rb") as opened:
        app = sending(start(), part_of(opened, count=300_000, more_body=True), part_of(opened))
        server = bare_server(app, ssl_certfile=certificates.server)
        async with server, httpx.AsyncClient(verify=context, base_url=server.url) as client:
            for _ in range(2):
                opened.seek(0)
                assert (await client.get("/")).content == CONTENT
            assert len(server.runtime.connections) == 1


async def test_a_client_on_tls_that_leaves_in_the_middle_of_a_file_ends_it(
    bare_server, file, certificates, caplog
):
    told = []
    os.truncate(file, LONG)
    context = ssl.create_default_context(cafile=certificates.ca)
    async with bare_server(
        sending(start(), path_of(file), told=told), ssl_certfile=certificates.server
    ) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(GET)
        await reader.readexactly(1000)
        writer.transport.abort()
        await until(lambda: told and not server.runtime.calls)
    assert isinstance(told[0], ClientDisconnected)
    assert not caplog.records


# ---- early hints ------------------------------------------------------------------------------------------

HINT = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]}
BODY = {"type": "http.response.body", "body": b"hello"}


@pytest.mark.parametrize("messages", [(HINT, start(), BODY), (start(), HINT, BODY)])
async def test_an_early_hint_stands_before_the_head(messages, need):
    async with serve(sending(*messages)) as server, httpx.AsyncClient() as client:
        answer = await converse(server, GET)
        assert (await client.get(server.url)).text == "hello"
        command = [need("curl", install="curl"), "-si", server.url]
        shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    links = b"link: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\n" + links + b"HTTP/1.1 200 OK\r\n")
    assert "HTTP/1.1 103 Early Hints" in shown.stdout
    assert shown.stdout.endswith("\n\nhello")


async def test_several_hints_each_have_their_response():
    async with serve(sending(HINT, start(), HINT, BODY)) as server:
        answer = await converse(server, GET)
    assert answer.count(b"HTTP/1.1 103 Early Hints\r\n") == 2


@pytest.mark.parametrize(
    ("messages", "request_"),
    [
        ((start(), BODY | {"more_body": True}, HINT, BODY), GET),  # the head has left
        ((HINT, start(), BODY), b"GET / HTTP/1.0\r\n\r\n"),  # which knows no informational response
    ],
)
async def test_a_hint_that_is_late_or_not_understood_is_ignored(messages, request_):
    async with serve(sending(*messages)) as server:
        answer = await converse(server, request_)
    assert b" 103 " not in answer
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_hint_does_not_stand_for_the_100_that_a_client_waits_for():
    async def app(scope, receive, send):
        await send(dict(HINT))
        assert await read_body(receive) == b"12345"
        await send(start())
        await send(dict(BODY))

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"12345")
        assert (await client.receive_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("links", ["</a>", b"</a>", ["</a>"], [b"a\r\nb"], None, 5])
async def test_links_that_cannot_be_sent_are_told(links):
    async with serve(sending({**HINT, "links": links})) as server, httpx.AsyncClient() as client:
        server.expect(ASGIError, match="'links' of http.response.early_hint")
        assert (await client.get(server.url)).status_code == 500


# ---- trailers ---------------------------------------------------------------------------------------------

TRAILERS = {"type": "http.response.trailers", "headers": [(b"digest", b"abc")]}
WITH_TE = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n")


async def test_trailers_stand_behind_the_last_chunk(need):
    app = sending(
        start((b"trailer", b"digest, took"), trailers=True),
        BODY,
        TRAILERS | {"more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"took", b"1 ms")]},
    )
    async with serve(app) as server:
        answer = await converse(server, WITH_TE)
        command = [need("curl", install="curl"), "-s", "-D-", "-HTE: trailers", server.url]
        shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert answer.endswith(b"\r\n5\r\nhello\r\n0\r\ndigest: abc\r\ntook: 1 ms\r\n\r\n")
    assert "took: 1 ms" in shown.stdout
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.receive_data(answer)
    events = [client.next_event() for _ in range(3)]
    assert events[-1].headers == [(b"digest", b"abc"), (b"took", b"1 ms")]


async def test_trailers_take_the_place_of_a_length():
    app = sending(start(length(5), trailers=True), BODY, TRAILERS)
    async with serve(app) as server:
        with_trailers = await converse(server, WITH_TE)
        without = await converse(server, GET)
    assert b"content-length" not in with_trailers
    assert with_trailers.endswith(b"0\r\ndigest: abc\r\n\r\n")
    assert b"\r\ncontent-length: 5\r\n" in without
    assert without.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        WITH_TE.replace(b"1.1", b"1.0"),
        WITH_TE.replace(b"GET", b"HEAD"),
        GET.replace(b"\r\n\r\n", b"\r\nTE: gzip\r\n\r\n"),
    ],
)
async def test_who_does_not_take_trailers_gets_none(request_):
    async with serve(sending(start(trailers=True), BODY, TRAILERS)) as server:
        answer = await converse(server, request_)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"digest" not in answer


async def test_a_304_has_no_trailers():
    async with serve(sending(start(status=304, trailers=True), BODY, TRAILERS)) as server:
        assert (await converse(server, WITH_TE)).endswith(b"\r\n\r\n")


async def test_trailers_behind_a_file(bare_server, file):
    async with bare_server(sending(start(trailers=True), path_of(file), TRAILERS)) as server:
        assert (await converse(server, WITH_TE)).endswith(b"\r\n0\r\ndigest: abc\r\n\r\n")


async def test_the_connection_goes_on_behind_trailers():
    app = sending(start(trailers=True), BODY, TRAILERS)
    async with serve(app) as server, httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(2):
            assert (await client.get("/", headers={"te": "trailers"})).text == "hello"
        assert len(server.server.runtime.connections) == 1


async def test_framing_is_no_matter_of_trailers():
    trailers = [(b"Content-Length", b"5"), (b"transfer-encoding", b"chunked"), (b"a", b"b")]
    app = sending(start(trailers=True), BODY, TRAILERS | {"headers": trailers})
    async with serve(app) as server:
        assert (await converse(server, WITH_TE)).endswith(b"\r\n0\r\na: b\r\n\r\n")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ((start(), BODY, TRAILERS), None),  # not announced: the response is complete, and they are ignored
        (
            (start(), BODY | {"more_body": True}, TRAILERS),
            "http.response.trailers was sent after the first of",
        ),
        ((start(trailers=True), BODY, BODY), "http.response.body was sent after the last of the body"),
        ((start(trailers=True), BODY, TRAILERS | {"headers": [("a", "b")]}), "as a name, but takes bytes"),
        ((start(trailers="yes"),), "'trailers' of http.response.start is 'yes' (str), but takes a bool"),
    ],
)
async def test_trailers_out_of_order_are_told(messages, told):
    async with serve(sending(*messages)) as server:
        if told is not None:
            server.expect(ASGIError, match=re.escape(told))
        await converse(server, WITH_TE)


async def test_of_several_trailers_the_bad_one_is_told():
    bad = TRAILERS | {"headers": [(b"a name", b"x")], "more_trailers": True}
    async with serve(sending(start(trailers=True), BODY, bad, TRAILERS)) as server:
        server.expect(ASGIError, match="has the name b'a name'")
        await converse(server, WITH_TE)


async def test_announced_trailers_that_do_not_come_break_the_response_off():
    async with serve(sending(start(trailers=True), BODY)) as server:
        server.expect(ApplicationFault, match="it did not send the last of http.response.trailers")
        assert (await converse(server, WITH_TE)).endswith(b"5\r\nhello\r\n")


# ---- debug ------------------------------------------------------------------------------------------------

DEBUG = {"type": "http.response.debug", "info": {"template": "page.html"}}


async def test_debug_information_reaches_the_test():
    heard, scopes = [], []

    async def app(scope, receive, send):
        scopes.append(scope)
        await sending(DEBUG, start(), BODY)(scope, receive, send)

    server = Server(app, Config(port=0, lifespan="off"), on_debug=lambda *heard_: heard.append(heard_))
    async with server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "hello"
    assert scopes[0]["extensions"]["http.response.debug"] == {}
    assert heard == [(scopes[0], {"template": "page.html"})]


async def test_outside_a_test_there_is_no_debug_information(bare_server):
    raised = []
    async with bare_server(sending(DEBUG, told=raised)) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).status_code == 500
    assert "http.response.debug was sent before http.response.start" in str(raised[0])
    assert "can be sent  http.response.start or http.response.early_hint\n" in str(raised[0])
