"""Every scope, key by key and type by type: no key more, none less.

Most of it is asked of a bare server, which offers no http.response.debug.
"""

import httpx
import pytest
from websockets.asyncio.client import connect

from miniasgi.testing import serve
from tests.applications import respond

from .dialogue import ACCEPT, ask, handshake, request


class Of:
    """A list or tuple of any length, whose items have this form."""

    def __init__(self, form):
        self.form = form


ASGI = {"version": str, "spec_version": str}
COMMON = {
    "type": str,
    "asgi": ASGI,
    "http_version": str,
    "scheme": str,
    "path": str,
    "raw_path": bytes,
    "query_string": bytes,
    "root_path": str,
    "headers": Of((bytes, bytes)),
    "client": (str, int),
    "server": (str, int),
    "state": {"pool": object},
}
TLS = {
    "server_cert": str,
    "client_cert_chain": Of(str),
    "client_cert_name": None,
    "client_cert_error": None,
    "tls_version": int,
    "cipher_suite": int,
}
OLD_HTTP_EXTENSIONS = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
HTTP_EXTENSIONS = {**OLD_HTTP_EXTENSIONS, "http.response.early_hint": {}}
WEBSOCKET_EXTENSIONS = {"websocket.http.response": {}}

HTTP = {**COMMON, "method": str, "extensions": HTTP_EXTENSIONS}
HTTP_WITH_TE = {**HTTP, "extensions": {**HTTP_EXTENSIONS, "http.response.trailers": {}}}
HTTP_1_0 = {**HTTP, "extensions": OLD_HTTP_EXTENSIONS}
WEBSOCKET = {**COMMON, "subprotocols": Of(str), "extensions": WEBSOCKET_EXTENSIONS}
LIFESPAN = {"type": str, "asgi": ASGI, "state": {}}


def differences(value, form, at):
    """Where a value is not of its form, a line each. Types are exact: a bool is no int here."""
    if form is object:
        return
    if isinstance(form, dict):
        if type(value) is not dict:
            yield f"{at} is a {type(value).__name__}"
            return
        yield from (f"{at} has the key {key!r}" for key in value if key not in form)
        yield from (f"{at} lacks the key {key!r}" for key in form if key not in value)
        yield from (f"{at} has a key of type {type(key).__name__}" for key in value if type(key) is not str)
        for key in value.keys() & form.keys():
            yield from differences(value[key], form[key], f"{at}[{key!r}]")
    elif isinstance(form, Of | tuple):
        if type(value) not in (list, tuple):
            yield f"{at} is a {type(value).__name__}"
            return
        forms = [form.form] * len(value) if isinstance(form, Of) else form
        if len(value) != len(forms):
            yield f"{at} has {len(value)} items"
        for number, (item, of) in enumerate(zip(value, forms, strict=False)):
            yield from differences(item, of, f"{at}[{number}]")
    elif form is None:
        if value is not None:
            yield f"{at} is a {type(value).__name__}"
    elif type(value) is not form:
        yield f"{at} is a {type(value).__name__}"


class Scopes:
    """An application that keeps the scopes that it is called with; its startup leaves a `pool`."""

    def __init__(self):
        self.seen = []

    async def __call__(self, scope, receive, send):
        self.seen.append({**scope, "state": dict(scope["state"])} if "state" in scope else scope)
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pool"] = self
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send(ACCEPT)
        else:
            await respond(send)


async def scope_of(bare_server, raw, asked, **options):
    app = Scopes()
    async with bare_server(app, **options) as server:
        reader, writer = await raw(server)
        writer.write(asked)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()  # else the end of a WebSocket waits for it
    return app.seen[1]


async def test_the_scope_of_httpx_has_the_keys_of_the_specification_in_their_types(bare_server):
    app = Scopes()
    async with bare_server(app) as server, httpx.AsyncClient() as client:
        await client.get(f"{server.url}/a%20b?c=d", headers=[("x-twice", "1"), ("x-twice", "2")])
    assert list(differences(app.seen[1], HTTP, "scope")) == []


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        (request(), HTTP),
        (request(b"POST", b"/", b"Content-Length: 1", body=b"x"), HTTP),
        (request(b"OPTIONS", b"*"), HTTP),
        (request(b"GET", b"http://y/"), HTTP),
        (request(b"GET", b"/", b"TE: trailers"), HTTP_WITH_TE),
        (request(b"GET", b"/", b"TE: deflate;q=0.5, trailers"), HTTP_WITH_TE),
        (request(version=b"1.0"), HTTP_1_0),
        (request(b"GET", b"/", b"TE: trailers", version=b"1.0"), HTTP_1_0),
        (handshake(), WEBSOCKET),
        (handshake(b"Sec-WebSocket-Protocol: a, b"), WEBSOCKET),
    ],
    ids=["GET", "POST", "OPTIONS", "absolute", "TE", "TE list", "1.0", "1.0 TE", "websocket", "subprotocols"],
)
async def test_the_scope_of_a_raw_client_has_the_keys_of_the_specification_in_their_types(
    bare_server, raw, asked, form
):
    scope = await scope_of(bare_server, raw, asked)
    assert list(differences(scope, form, "scope")) == []


async def test_the_scope_of_websockets_has_the_keys_of_the_specification_in_their_types(bare_server):
    app = Scopes()
    async with bare_server(app) as server, connect(server.url.replace("http", "ws"), subprotocols=["a"]):
        pass
    assert list(differences(app.seen[1], WEBSOCKET, "scope")) == []


async def test_the_scope_of_the_lifespan_has_the_keys_of_the_specification_in_their_types(bare_server):
    app = Scopes()
    async with bare_server(app):
        pass
    [scope] = app.seen
    assert list(differences(scope, LIFESPAN, "scope")) == []


async def test_a_scope_on_tls_has_one_extension_more(bare_server, certificate):
    app = Scopes()
    async with (
        bare_server(app, **certificate.options) as server,
        httpx.AsyncClient(verify=certificate.trusting()) as client,
    ):
        await client.get(f"https://127.0.0.1:{server.port}/")
        async with connect(f"wss://127.0.0.1:{server.port}/", ssl=certificate.trusting()):
            pass
    for scope, form in zip(app.seen[1:], (HTTP, WEBSOCKET), strict=True):
        form = {**form, "extensions": {**form["extensions"], "tls": TLS}}
        assert list(differences(scope, form, "scope")) == []


async def test_the_scopes_say_which_versions_are_spoken():
    async with serve(Scopes()) as server:
        async with httpx.AsyncClient() as client:
            await client.get(server.url)
        async with connect(server.ws_url):
            pass
    scopes = [each.scope for each in (server.lifespan, *server.exchanges)]
    assert [(scope["type"], scope["asgi"]) for scope in scopes] == [
        ("lifespan", {"version": "3.0", "spec_version": "2.0"}),
        ("http", {"version": "3.0", "spec_version": "2.5"}),
        ("websocket", {"version": "3.0", "spec_version": "2.5"}),
    ]


@pytest.mark.parametrize(
    ("version", "told"), [(b"1.0", "1.0"), (b"1.1", "1.1"), (b"1.2", "1.1"), (b"2.0", None), (b"3.0", None)]
)
async def test_the_http_version_is_one_that_the_specification_knows(version, told):
    """A higher minor version is served as the one we speak (RFC 9110 section 2.5); other majors are not HTTP/1."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["http_version"])
        await respond(send)

    await ask(app, request(version=version))
    assert seen == ([told] if told else [])


async def test_each_request_of_a_connection_has_a_scope_of_its_own():
    """What an application, or middleware that forgot to copy, does to one scope shows in no other."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        scope["path"] = scope["extensions"]["x"] = scope["asgi"]["x"] = scope["state"]["x"] = None
        scope["headers"] = [*scope["headers"], (b"x", b"x")]
        await respond(send)

    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(request(last=False) + request())
        await client.receive_all()
    first, second = seen
    assert first is not second
    for key in ("headers", "extensions", "asgi", "state"):
        assert first[key] is not second[key]
    assert "x" not in server.state


def test_the_comparison_finds_every_difference():
    scope = {"type": "http", "asgi": {"version": "3.0"}, "extra": 1, "headers": [(b"a", "b"), [b"c"]], 7: 7}
    form = {"type": str, "asgi": ASGI, "headers": Of((bytes, bytes)), "client": (str, int)}
    assert sorted(differences(scope, form, "scope")) == [
        "scope has a key of type int",
        "scope has the key 'extra'",
        "scope has the key 7",
        "scope lacks the key 'client'",
        "scope['asgi'] lacks the key 'spec_version'",
        "scope['headers'][0][1] is a str",
        "scope['headers'][1] has 1 items",
    ]
    assert list(differences(True, int, "value")) == ["value is a bool"]
    assert list(differences("ab", Of(str), "value")) == ["value is a str"]
