"""The TLS extension 0.2, with keys of an authority that each test makes for itself."""

import asyncio
import ssl

import httpx
import pytest
from cryptography.x509 import load_pem_x509_certificate
from websockets.asyncio.client import connect

from miniasgi.testing import serve
from tests.applications import respond

from .dialogue import CLOSE, handshake, request

# The numbers of RFC 8446 appendix B.4 and RFC 5289, by OpenSSL's names.
CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
}
VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


async def app(scope, receive, send):
    """Answers requests, and denies WebSockets."""
    if scope["type"] == "http":
        await respond(send)
    else:
        await receive()
        await send(CLOSE)


async def scope_on_tls(options, context, asked=None):
    """(scope, the client's end of TLS) of a request on TLS."""
    async with serve(app, lifespan="off", **options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        try:
            writer.write(request() if asked is None else asked)
            await reader.readuntil(b"\r\n\r\n")
            return server.exchanges[0].scope, writer.get_extra_info("ssl_object")
        finally:
            writer.close()


async def extension_on_tls(options, context):
    """(the extension, the client's end of TLS) of a request on TLS."""
    scope, client = await scope_on_tls(options, context)
    return scope["extensions"]["tls"], client


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.mark.parametrize("asked", [request(), handshake()], ids=["http", "websocket"])
async def test_without_tls_there_is_no_extension(asked):
    async with serve(app, lifespan="off") as server:
        client = server.raw()
        await client.send(asked)
        await client.response()
    assert "tls" not in server.exchanges[0].scope["extensions"]


@pytest.mark.parametrize(
    ("asked", "scheme"), [(request(), "https"), (handshake(), "wss")], ids=["http", "websocket"]
)
async def test_on_tls_the_extension_has_its_keys_and_the_scope_its_scheme(certificate, asked, scheme):
    scope, _ = await scope_on_tls(certificate.options, certificate.trusting(), asked)
    assert scope["scheme"] == scheme
    assert set(scope["extensions"]["tls"]) == {
        "server_cert",
        "client_cert_chain",
        "client_cert_name",
        "client_cert_error",
        "tls_version",
        "cipher_suite",
    }


async def test_the_servers_certificate_is_the_one_that_it_sent_in_pem(certificate):
    tls, client = await extension_on_tls(certificate.options, certificate.trusting())
    assert type(tls["server_cert"]) is str
    assert der(tls["server_cert"]) == der(certificate.pem) == client.getpeercert(binary_form=True)


async def test_a_client_without_certificate_has_no_chain_no_name_and_no_error(certificate):
    for options in (certificate.options, certificate.inviting_clients):
        tls, _ = await extension_on_tls(options, certificate.trusting())
        assert list(tls["client_cert_chain"]) == []
        assert tls["client_cert_name"] is None
        assert tls["client_cert_error"] is None


async def test_a_clients_certificate_is_told_in_pem_and_by_its_name(certificate):
    shown = certificate.authority.issue_cert(
        "client@example.org", common_name='Ann, "the #1" + <only>', organization_name=" Kent\\Essex; "
    )
    pem = shown.cert_chain_pems[0].bytes()
    for options in (certificate.asking_clients, certificate.inviting_clients):
        tls, _ = await extension_on_tls(options, certificate.trusting(shown))
        chain = list(tls["client_cert_chain"])
        assert all(type(each) is str for each in chain)
        assert der(chain[0]) == der(pem.decode())
        assert tls["client_cert_name"] == load_pem_x509_certificate(pem).subject.rfc4514_string()
        assert tls["client_cert_error"] is None


async def test_a_client_whose_certificate_cannot_be_verified_reaches_no_application(
    certificate, tmp_path_factory
):
    stranger = type(certificate)(tmp_path_factory.mktemp("stranger"))
    shown = stranger.authority.issue_cert("client@example.org")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await scope_on_tls(certificate.asking_clients, certificate.trusting(shown))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_version_and_cipher_suite_are_the_numbers_of_the_tls_specifications(certificate, version):
    context = certificate.trusting()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    tls, client = await extension_on_tls(certificate.options, context)
    assert tls["tls_version"] == VERSIONS[client.version()]
    assert tls["cipher_suite"] == CIPHER_SUITES[client.cipher()[0]]
    assert type(tls["tls_version"]) is type(tls["cipher_suite"]) is int


async def test_events_on_tls_are_those_of_http_and_websocket(certificate):
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
    async with serve(app, lifespan="off", **certificate.options) as server:
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.post(server.url, content=body)).content == body
        async with connect(server.ws_url, ssl=trusting) as client:
            await client.send("text")
            assert await client.recv() == "text"
