"""HTTP of the HTTP & WebSocket specification 2.5, over real sockets; a memory transport where only order counts."""

import asyncio

import httpx
import pytest

from miniasgi.asgi import ASGIError, ClientDisconnected
from miniasgi.protocol.connection import Arrival
from miniasgi.protocol.http1 import Http1Connection
from miniasgi.testing import serve
from tests.applications import echo, read_body, respond
from tests.memory import MemoryClient, MemoryTransport

from .dialogue import BODY, START, all_ended, ask, handshake, parse, raised_by, receive_all, request

# ---- the scope ----


class Answering:
    """Keeps the scope and the body of the last request, and answers 200."""

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.body = await read_body(receive) if scope["type"] == "http" else b""
        await (respond(send) if scope["type"] == "http" else send({"type": "websocket.close"}))


async def test_a_request_has_the_type_http():
    app = Answering()
    await ask(app)
    assert app.scope["type"] == "http"


async def test_a_call_lasts_as_long_as_its_request_not_as_the_socket():
    """Called at the start of the request, before its body is there; the second call on the socket is another."""
    async with serve(Answering(), lifespan="off") as server:
        client = server.raw()
        for number, path in enumerate(("/first", "/next")):
            await client.send(request(b"POST", path.encode(), b"Content-Length: 1", last=False))
            await server.wait_for(lambda: len(server.exchanges) > number)  # noqa: B023  # it is over by then
            exchange = server.exchanges[number]
            assert (exchange.scope["path"], exchange.ended) == (path, None)
            await client.send(b"x")
            assert (await client.response()).status == 200
            await all_ended(server)
    assert len(server.exchanges) == 2


async def test_a_response_held_open_keeps_the_scope_until_the_client_ends_it():
    async def app(scope, receive, send):
        await receive()
        await send(START)
        await send({**BODY, "more_body": True})
        await receive()

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request())
        await client.receive_until(b"whole")
        [exchange] = server.exchanges
        assert exchange.ended is None
        assert len(exchange.received) == 1
        client.close()
        await all_ended(server)
    assert exchange.received[1:] == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH", b"QUERY", b"get", b"Post"])
async def test_the_method_is_in_upper_case(method):
    """A method in lower case is another method to HTTP: it is told in upper case, or not served at all."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["method"])
        await respond(send)

    answer = parse(await ask(app, request(method)))
    assert seen == [method.decode().upper()] if answer.status == 200 else seen == []


async def test_the_scheme_is_that_of_the_connection():
    app = Answering()
    await ask(app)
    assert app.scope["scheme"] == "http"


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        (b"/", "/", b"/", b""),
        (b"/a%20b/%C3%A9?x=%20%C3%A9&y", "/a b/é", b"/a%20b/%C3%A9", b"x=%20%C3%A9&y"),
        (b"/%F0%9F%90%8D", "/🐍", b"/%F0%9F%90%8D", b""),
        (b"/a%2Fb%3Fc?d", "/a/b?c", b"/a%2Fb%3Fc", b"d"),
        (b"/a%252F", "/a%2F", b"/a%252F", b""),
        (b"/a?b?c=/d", "/a", b"/a", b"b?c=/d"),
        (b"/a/../b/./c;d=e", "/a/../b/./c;d=e", b"/a/../b/./c;d=e", b""),
        (b"http://y/a%20b?c", "/a b", b"/a%20b", b"c"),
    ],
)
async def test_path_is_decoded_raw_path_and_query_string_are_the_bytes_received(
    target, path, raw_path, query_string
):
    app = Answering()
    await ask(app, request(target=target))
    assert app.scope["path"] == path
    assert app.scope["raw_path"] == raw_path
    assert app.scope["query_string"] == query_string


@pytest.mark.parametrize("asked", [request(target=b"/users?a=b"), handshake()], ids=["http", "websocket"])
async def test_path_begins_with_root_path(asked):
    """So that PATH_INFO is what remains when SCRIPT_NAME is taken off."""
    app = Answering()
    await ask(app, asked, root_path="/the api", timeout_keep_alive=0.1)
    left = asked.split(b" ")[1].partition(b"?")[0].decode()
    assert app.scope["root_path"] == "/the api"
    assert app.scope["path"].removeprefix(app.scope["root_path"]) == left


async def test_root_path_is_empty_unless_set():
    app = Answering()
    await ask(app)
    assert app.scope["root_path"] == ""


async def test_raw_path_has_the_root_path_in_front_where_one_is_set():
    """Not the bytes received alone, so that it still encodes `path`."""
    app = Answering()
    await ask(app, request(target=b"/a%20b"), root_path="/the api")
    assert (app.scope["path"], app.scope["raw_path"]) == ("/the api/a b", b"/the%20api/a%20b")


async def test_headers_come_in_their_order_with_duplicates_and_names_in_lower_case():
    """Nothing is joined, not even cookies; values are the bytes that were sent."""
    app = Answering()
    lines = [
        b"X-B: 1",
        b"Cookie: a=b",
        b"x-a: 2",
        b"X-B: 3, 4",
        b"Cookie: c=d",
        b"X-Latin: \xe9\xff",
        b"X-Empty:",
        b"X-Case: MiXed",
    ]
    await ask(app, request(b"GET", b"/", *lines))
    assert [tuple(pair) for pair in app.scope["headers"]] == [
        (b"host", b"x"),
        (b"connection", b"close"),
        (b"x-b", b"1"),
        (b"cookie", b"a=b"),
        (b"x-a", b"2"),
        (b"x-b", b"3, 4"),
        (b"cookie", b"c=d"),
        (b"x-latin", b"\xe9\xff"),
        (b"x-empty", b""),
        (b"x-case", b"MiXed"),
    ]


async def test_client_and_server_are_the_two_ends_of_the_connection(raw):
    app = Answering()
    async with serve(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(request())
        await reader.read()
        assert tuple(app.scope["client"]) == writer.get_extra_info("sockname")
        assert tuple(app.scope["server"]) == writer.get_extra_info("peername")


async def test_client_and_server_have_two_items_on_ipv6():
    app = Answering()
    client = MemoryClient(app)
    ends = {"sockname": ("::1", 8000, 0, 0), "peername": ("::1", 50000, 0, 0)}
    client.transport = MemoryTransport(client.loop, **ends)
    client.transport.protocol = Arrival(client.runtime, Http1Connection)
    client.transport.protocol.connection_made(client.transport)
    await client.send(request())
    assert (tuple(app.scope["client"]), tuple(app.scope["server"])) == (("::1", 50000), ("::1", 8000))


async def test_server_is_the_path_of_a_unix_socket():
    app = Answering()
    async with (
        serve(app, lifespan="off", uds=True) as server,
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=server.uds)) as client,
    ):
        assert (await client.get("http://x/")).status_code == 200
    assert tuple(app.scope["server"]) == (server.uds, None)
    assert app.scope["client"] is None


async def test_state_is_a_copy_of_the_lifespans():
    pool, seen = object(), []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = pool
            await send({"type": "lifespan.startup.complete"})
        else:
            seen.append(scope["state"].copy())
            scope["state"]["mine"] = True
            await respond(send)

    async with serve(app) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        await client.get(server.url)
    assert seen == [{"pool": pool}] * 2


# ---- the request ----


async def test_a_chunked_request_is_received_as_plain_bytes():
    app = Answering()
    chunks = b"5;extension=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
    await ask(app, request(b"POST", b"/", b"Transfer-Encoding: chunked", body=chunks))
    assert app.body == b"hello world"


async def test_a_request_without_body_is_one_empty_event():
    events = []

    async def app(scope, receive, send):
        events.append(await receive())
        await respond(send)

    await ask(app)
    assert events == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_a_long_request_comes_in_parts_that_make_its_body():
    """more_body says whether another part follows."""
    body = bytes(range(256)) * 4000
    async with serve(Answering(), lifespan="off") as server, httpx.AsyncClient() as client:
        await client.post(server.url, content=body)
    events = server.exchanges[0].received
    assert b"".join(event["body"] for event in events) == body
    assert [event["more_body"] for event in events] == [True] * (len(events) - 1) + [False]
    assert len(events) > 1


# ---- the response ----


async def test_the_head_may_wait_for_the_body_so_that_an_error_can_take_its_place():
    async def app(scope, receive, send):
        await send(START)
        raise ValueError

    assert parse(await ask(app, expect=ValueError)).status == 500


async def test_a_response_without_length_is_framed_by_the_server():
    async def app(scope, receive, send):
        await send(START)
        await send({**BODY, "more_body": True})
        await send(BODY)

    answer = parse(await ask(app))
    assert answer.all(b"transfer-encoding") == [b"chunked"]
    assert answer.body == b"wholewhole"
    answer = parse(await ask(app, request(version=b"1.0")))
    assert answer.all(b"transfer-encoding") == []
    assert answer.body == b"wholewhole"


@pytest.mark.parametrize("encoding", [b"chunked", b"gzip", b"identity"])
@pytest.mark.parametrize("name", [b"transfer-encoding", b"Transfer-Encoding"])
async def test_transfer_encoding_of_the_application_is_ignored(name, encoding):
    async def app(scope, receive, send):
        await send({**START, "headers": [(name, encoding), (b"content-length", b"5")]})
        await send(BODY)

    answer = parse(await ask(app))
    assert answer.all(b"transfer-encoding") == []
    assert answer.body == b"whole"


async def test_content_encoding_is_the_applications():
    async def app(scope, receive, send):
        await send({**START, "headers": [(b"content-encoding", b"gzip")]})
        await send(BODY)

    answer = parse(await ask(app))
    assert answer.all(b"content-encoding") == [b"gzip"]
    assert answer.body == b"whole"


LINES = [(b"x-b", b"1"), (b"set-cookie", b"a=b"), (b"x-a", b"2"), (b"set-cookie", b"c=d"), (b"x-b", b"3")]


@pytest.mark.parametrize(
    "make",
    [list, tuple, iter, lambda lines: [list(line) for line in lines], lambda lines: (x for x in lines)],
)
async def test_headers_of_a_response_are_any_iterable_and_keep_their_order(make):
    async def app(scope, receive, send):
        await send({**START, "headers": make(LINES)})
        await send(BODY)

    answer = parse(await ask(app))
    assert [line for line in answer.headers if line in LINES] == LINES


async def test_status_headers_and_body_have_the_defaults_of_the_specification():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    answer = parse(await ask(app))
    assert (answer.status, answer.body) == (404, b"")


async def test_what_send_was_given_is_on_its_way_when_the_application_waits():
    """The client has each part before the application goes on."""
    go_on = asyncio.Queue()

    async def app(scope, receive, send):
        await send(START)
        for part in (b"", b"<1>", b"<2>", b"<3>"):
            await send({**BODY, "body": part, "more_body": True})
            await go_on.get()
        await send({"type": "http.response.body"})

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request())
        for until in (b"\r\n\r\n", b"<1>", b"<2>", b"<3>"):
            await client.receive_until(until)
            go_on.put_nowait(None)
        assert (await client.receive_all()).endswith(b"0\r\n\r\n")


async def test_a_body_message_leaves_with_the_turn_of_the_loop():
    written = []

    async def app(scope, receive, send):
        await send(START)
        for last in (False, True):
            await send({**BODY, "more_body": not last})
            await asyncio.sleep(0)
            written.append(client.written)

    client = MemoryClient(app)
    await client.send(request())
    assert written[0].endswith(b"\r\n\r\n5\r\nwhole\r\n")
    assert written[1].endswith(b"\r\n5\r\nwhole\r\n0\r\n\r\n")


async def test_a_body_without_more_body_completes_the_response():
    """The client has all of it while the application is still running."""
    leave = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send(BODY)
        await leave.wait()

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request())
        assert parse(await client.receive_all()).body == b"whole"
        assert server.exchanges[0].ended is None
        leave.set()


LATE = [
    BODY,
    {**BODY, "more_body": True},
    START,
    {"type": "http.response.trailers", "headers": []},
    {"type": "http.response.pathsend", "path": "/"},
    {"type": "http.response.early_hint", "links": [b"</a>"]},
]


@pytest.mark.parametrize("late", LATE, ids=lambda late: late["type"])
async def test_messages_after_the_response_are_ignored(late, caplog):
    """send() does nothing: neither does it raise, nor does any of it reach this client or its next request."""
    errors = []

    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())
        errors.append(await raised_by(send(late)))

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request(target=b"/first", last=False))
        await client.receive_until(b"/first")
        await all_ended(server)
        await client.send(request(target=b"/next"))
        answer = parse(await client.receive_all())
    assert errors == [None, None]
    assert (answer.status, answer.body) == (200, b"/next")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# ---- the client that left ----


async def ask_and_leave(app):
    """A client that leaves once the application has been called; return when that has ended."""
    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request())
        await server.wait_for(lambda: server.exchanges)
        client.close()
        await all_ended(server)


async def test_send_raises_an_oserror_of_the_servers_own_once_the_client_has_left(caplog):
    errors = []

    async def app(scope, receive, send):
        await receive_all(receive, "http.disconnect")
        for message in (START, BODY, {**BODY, "more_body": True}):
            errors.append(await raised_by(send(message)))

    await ask_and_leave(app)
    assert [type(error) for error in errors] == [ClientDisconnected] * 3
    assert issubclass(ClientDisconnected, OSError)
    assert ClientDisconnected is not OSError
    assert not issubclass(ASGIError, OSError)


async def test_send_raises_though_nobody_asked_whether_the_client_left():
    errors, go_on = [], asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        await send({**BODY, "more_body": True})
        await go_on.wait()
        errors.append(await raised_by(send(BODY)))

    client = MemoryClient(app)
    await client.send(request())
    client.transport.lose()
    go_on.set()
    await client.turns()
    assert [type(error) for error in errors] == [ClientDisconnected]


async def test_an_application_may_catch_the_disconnect_and_return(caplog):
    caught = []

    async def app(scope, receive, send):
        await receive_all(receive, "http.disconnect")
        try:
            await send(START)
        except OSError as error:
            caught.append(error)

    await ask_and_leave(app)
    assert len(caught) == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_receive_tells_the_disconnect_once_the_response_was_sent():
    events = []

    async def app(scope, receive, send):
        await receive()
        await respond(send)
        events.append(await receive())

    await ask(app)
    assert events == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("how", ["close", "abort", "upload"])
async def test_receive_tells_the_disconnect_once_the_client_has_left(how):
    async def app(scope, receive, send):
        await receive_all(receive, "http.disconnect")

    length = b"Content-Length: 9" if how == "upload" else b"Content-Length: 0"
    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request(b"POST", b"/", length))
        await server.wait_for(lambda: server.exchanges)
        client.reset() if how == "abort" else client.close()
        events = (await server.wait_for("http.disconnect")).received
    assert events[-1] == {"type": "http.disconnect"}
    assert all(event["more_body"] for event in events[:-1]) or how != "upload"


async def test_http_2_is_not_spoken_so_nothing_of_it_is_promised():
    """No push, no pseudo headers: its preface is answered as HTTP/1.1 answers what it does not know."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        await respond(send)

    answer = await ask(app, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert seen == []


async def test_a_request_that_is_echoed_comes_back_unchanged():
    body = bytes(range(256)) * 4000
    async with serve(echo) as server, httpx.AsyncClient() as client:
        assert (await client.post(server.url, content=body)).content == body
