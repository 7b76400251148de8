"""The TLS extension 0.2, with keys of an authority that each test makes for itself."""

import asyncio
import ssl

import httpx
import pytest
from cryptography.x509 import load_pem_x509_certificate
from websockets.asyncio.client import connect

from tests.applications import respond

from .dialogue import CLOSE, handshake, request, ws

# The numbers of RFC 8446 appendix B.4 and RFC 5289, by OpenSSL's names.
CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
}
VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class Scopes:
    """Keeps the scope of the last call; answers requests, and denies WebSockets."""

    async def __call__(self, scope, receive, send):
        self.scope = scope
        if scope["type"] == "http":
            await respond(send)
        else:
            await receive()
            await send(CLOSE)

    @property
    def tls(self):
        return self.scope["extensions"]["tls"]


async def scope_on_tls(bare_server, options, context, asked=None):
    """(scope, the client's end of TLS) of a request on TLS."""
    app = Scopes()
    async with bare_server(app, lifespan="off", timeout_keep_alive=0.5, **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        try:
            writer.write(request() if asked is None else asked)
            await reader.readuntil(b"\r\n\r\n")
            return app, writer.get_extra_info("ssl_object")
        finally:
            writer.close()


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.mark.parametrize("asked", [request(), handshake()], ids=["http", "websocket"])
async def test_without_tls_there_is_no_extension(bare_server, raw, asked):
    app = Scopes()
    async with bare_server(app, lifespan="off") as server:
        reader, writer = await raw(server)
        writer.write(asked)
        await reader.readuntil(b"\r\n\r\n")
    assert "tls" not in app.scope["extensions"]


@pytest.mark.parametrize(
    ("asked", "scheme"), [(request(), "https"), (handshake(), "wss")], ids=["http", "websocket"]
)
async def test_on_tls_the_extension_has_its_keys_and_the_scope_its_scheme(
    bare_server, certificate, asked, scheme
):
    app, _ = await scope_on_tls(bare_server, certificate.options, certificate.trusting(), asked)
    assert app.scope["scheme"] == scheme
    assert set(app.tls) == {
        "server_cert",
        "client_cert_chain",
        "client_cert_name",
        "client_cert_error",
        "tls_version",
        "cipher_suite",
    }


async def test_the_servers_certificate_is_the_one_that_it_sent_in_pem(bare_server, certificate):
    app, client = await scope_on_tls(bare_server, certificate.options, certificate.trusting())
    assert type(app.tls["server_cert"]) is str
    assert der(app.tls["server_cert"]) == der(certificate.pem) == client.getpeercert(binary_form=True)


async def test_a_client_without_certificate_has_no_chain_no_name_and_no_error(bare_server, certificate):
    for options in (certificate.options, certificate.inviting_clients):
        app, _ = await scope_on_tls(bare_server, options, certificate.trusting())
        assert list(app.tls["client_cert_chain"]) == []
        assert app.tls["client_cert_name"] is None
        assert app.tls["client_cert_error"] is None


async def test_a_clients_certificate_is_told_in_pem_and_by_its_name(bare_server, certificate):
    shown = certificate.authority.issue_cert(
        "client@example.org", common_name='Ann, "the #1" + <only>', organization_name=" Kent\\Essex; "
    )
    pem = shown.cert_chain_pems[0].bytes()
    for options in (certificate.asking_clients, certificate.inviting_clients):
        app, _ = await scope_on_tls(bare_server, options, certificate.trusting(shown))
        chain = list(app.tls["client_cert_chain"])
        assert all(type(each) is str for each in chain)
        assert der(chain[0]) == der(pem.decode())
        assert app.tls["client_cert_name"] == load_pem_x509_certificate(pem).subject.rfc4514_string()
        assert app.tls["client_cert_error"] is None


async def test_a_client_whose_certificate_cannot_be_verified_reaches_no_application(
    bare_server, certificate, tmp_path_factory
):
    stranger = type(certificate)(tmp_path_factory.mktemp("stranger"))
    shown = stranger.authority.issue_cert("client@example.org")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await scope_on_tls(bare_server, certificate.asking_clients, certificate.trusting(shown))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_version_and_cipher_suite_are_the_numbers_of_the_tls_specifications(
    bare_server, certificate, version
):
    context = certificate.trusting()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    app, client = await scope_on_tls(bare_server, certificate.options, context)
    assert app.tls["tls_version"] == VERSIONS[client.version()]
    assert app.tls["cipher_suite"] == CIPHER_SUITES[client.cipher()[0]]
    assert type(app.tls["tls_version"]) is type(app.tls["cipher_suite"]) is int


async def test_events_on_tls_are_those_of_http_and_websocket(bare_server, certificate):
    body = bytes(range(256)) * 1000

    async def app(scope, receive, send):
        if scope["type"] == "http":
            event = await receive()
            received = event["body"]
            while event["more_body"]:
                event = await receive()
                received += event["body"]
            await respond(send, received)
        else:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": (await receive())["text"]})

    trusting = certificate.trusting()
    async with bare_server(app, lifespan="off", **certificate.options) as server:
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.post(f"https://127.0.0.1:{server.port}", content=body)).content == body
        async with connect(ws(server).replace("ws", "wss", 1), ssl=trusting) as client:
            await client.send("text")
            assert await client.recv() == "text"
