"""The options of TLS → a context, or one line that says what is wrong."""

import datetime
import socket
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from miniasgi import Server
from miniasgi.config import Config, ConfigError, UsageError, make_config
from miniasgi.tls_context import TLSError, server_certificate, tls_context


@pytest.fixture
def context_of(certificates):
    """`context_of(**options)`: the context, with the tests' certificate and key unless other ones are given."""

    def make(**options):
        files = {"ssl_certfile": certificates.server_certs, "ssl_keyfile": certificates.server_key}
        return tls_context(make_config({**files, **options}))

    return make


@pytest.fixture
def encrypted_key(certificates, need, tmp_path):
    """A private key that opens with the password `secret`."""
    openssl = need("openssl", install="openssl")
    path = tmp_path / "encrypted.pem"
    command = [openssl, "pkcs8", "-topk8", "-in", certificates.server_key, "-out", path]
    subprocess.run([*command, "-passout", "pass:secret"], check=True)
    return str(path)


def test_without_a_certificate_there_is_no_tls():
    assert tls_context(Config()) is None
    assert server_certificate(Config()) is None


def test_a_certificate_may_hold_its_key(certificates, context_of):
    context_of()
    context = tls_context(Config(ssl_certfile=certificates.server))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert server_certificate(Config(ssl_certfile=certificates.server)) == certificates.server_chain[0]


def test_text_between_the_certificates_does_no_harm(certificates, tmp_path):
    path = tmp_path / "with-text.pem"
    with open(certificates.server, encoding="ascii") as file:
        path.write_bytes("subject=Müller\n".encode("latin-1") + file.read().encode("ascii"))
    tls_context(Config(ssl_certfile=str(path)))


@pytest.mark.parametrize(("word", "mode"), [("optional", ssl.CERT_OPTIONAL), ("required", ssl.CERT_REQUIRED)])
def test_clients_are_asked_for_certificates(certificates, context_of, word, mode):
    context = context_of(ssl_ca_certs=certificates.ca, ssl_cert_reqs=word)
    assert context.verify_mode is mode
    assert len(context.get_ca_certs()) == 1


def self_signed(ca):
    """A certificate in PEM that nobody else has issued; of an authority, or of a client that is known itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    begin = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(1))
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("ca", [True, False, None])
def test_a_certificate_that_nobody_else_has_issued_may_be_an_authority(
    certificates, context_of, tmp_path, ca
):
    path = tmp_path / "self.pem"
    with open(certificates.client, "rb") as client:
        path.write_bytes(client.read() + self_signed(ca))  # beside others, which are of no use
    context_of(ssl_ca_certs=str(path), ssl_cert_reqs="required")


def test_ciphers_are_those_that_were_named(context_of):
    names = [each["name"] for each in context_of(ssl_ciphers="ECDHE+AESGCM").get_ciphers()]
    assert all(name.startswith("TLS_") or "-GCM-" in name for name in names)


def test_an_encrypted_key_opens_with_its_password(context_of, encrypted_key):
    context_of(ssl_keyfile=encrypted_key, ssl_keyfile_password="secret")


@pytest.mark.parametrize(
    ("password", "text"),
    [
        ("", "the private key in {key} is encrypted; set ssl_keyfile_password"),
        ("wrong", "ssl_keyfile_password does not open the private key in {key}"),
        ("x" * 5000, "ssl_keyfile_password does not open the private key in {key}"),
    ],
)
def test_an_encrypted_key_is_told_and_nobody_is_asked_at_the_terminal(
    context_of, encrypted_key, password, text
):
    with pytest.raises(TLSError) as caught:
        context_of(ssl_keyfile=encrypted_key, ssl_keyfile_password=password)
    assert str(caught.value) == text.format(key=encrypted_key)


DAMAGED = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
FILES = {
    "text": "no PEM at all",
    "damaged": DAMAGED,
    "half": "-----BEGIN CERTIFICATE-----\nAAAA\n",
    "damaged-key": DAMAGED.replace("CERTIFICATE", "PRIVATE KEY"),
}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ssl_certfile": "/no/file"}, "ssl_certfile: '/no/file' cannot be read: No such file"),
        ({"ssl_certfile": "/"}, "ssl_certfile: '/' cannot be read: Is a directory"),
        ({"ssl_certfile": "a\0b"}, "cannot be read: it cannot be a path"),
        ({"ssl_certfile": "text"}, "ssl_certfile: {text} holds no certificate in PEM form"),
        ({"ssl_certfile": "half"}, "ssl_certfile: {half} holds no certificate in PEM form"),
        ({"ssl_certfile": "damaged"}, "ssl_certfile: certificate 1 in {damaged} is damaged"),
        ({"ssl_keyfile": "/no/file"}, "ssl_keyfile: '/no/file' cannot be read: No such file"),
        ({"ssl_keyfile": ""}, "{certs} holds no private key in PEM form; name its file with ssl_keyfile"),
        ({"ssl_keyfile": "text"}, "{text} holds no private key in PEM form"),
        ({"ssl_keyfile": "damaged-key"}, "{damaged-key} holds no private key in PEM form"),
        ({"ssl_keyfile": "stranger"}, "in {stranger} does not belong to the first certificate in {certs}"),
        ({"ssl_keyfile": "rsa"}, "in {rsa} does not belong to the first certificate in {certs}"),
        ({"ssl_ciphers": "NONE-SUCH"}, "ssl_ciphers: 'NONE-SUCH' names no cipher"),
        ({"ssl_ciphers": "a\0b"}, "names no cipher"),
        ({"ssl_ca_certs": "/no/file"}, "ssl_ca_certs: '/no/file' cannot be read: No such file"),
        ({"ssl_ca_certs": "text"}, "ssl_ca_certs: {text} holds no certificate"),
        (
            {"ssl_ca_certs": "client"},
            "{client} holds no certificate of an authority, but a client's or a server's",
        ),
        (
            {"ssl_ca_certs": "between"},
            "ssl_ca_certs: {between} holds authorities, but no root, which every chain",
        ),
        ({"ssl_ca_certs": "key"}, "ssl_ca_certs: {key} holds no certificate in PEM form"),
        ({"ssl_ca_certs": "damaged"}, "ssl_ca_certs: certificate 1 in {damaged} is damaged"),
    ],
)
def test_what_cannot_be_served_with_is_one_line(certificates, context_of, tmp_path, options, text):
    paths = {"certs": certificates.server_certs, "stranger": certificates.stranger_key}
    paths["rsa"] = certificates.rsa_key
    paths["key"] = certificates.server_key
    own, between = certificates.client_chain
    for name, content in (FILES | {"client": own, "between": between}).items():
        paths[name] = str(tmp_path / name)
        (tmp_path / name).write_text(content)
    given = {name: paths.get(value, value) for name, value in options.items()}
    if "ssl_ca_certs" in given:
        given["ssl_cert_reqs"] = "required"
    with pytest.raises(TLSError) as caught:
        context_of(**given)
    assert text.format_map(paths) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_certificate_too_weak_for_the_machine_s_policy_says_so(certificates, monkeypatch):
    def refuse(*arguments):
        error = ssl.SSLError("[SSL: EE_KEY_TOO_SMALL] ee key too small")
        error.reason = "EE_KEY_TOO_SMALL"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
    with pytest.raises(TLSError, match="cannot be served with: ee key too small"):
        tls_context(Config(ssl_certfile=certificates.server))


def test_errors_of_tls_are_usage_errors():
    assert issubclass(TLSError, UsageError)


async def test_a_server_finds_it_before_the_application_is_started():
    async def app(scope, receive, send):
        raise AssertionError

    config = Config(port=0, lifespan="on", ssl_certfile="/no/file")
    with socket.socket() as bound:
        for sockets in ([], [bound]):
            with pytest.raises(TLSError):
                async with Server(app, config, sockets=sockets):
                    raise AssertionError
        assert bound.fileno() == -1  # as the caller was promised


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ssl_keyfile": "k"}, "ssl_keyfile has no effect without ssl_certfile"),
        ({"ssl_keyfile_password": "p"}, "ssl_keyfile_password has no effect without ssl_certfile"),
        ({"ssl_ca_certs": "c"}, "ssl_ca_certs has no effect without ssl_certfile"),
        ({"ssl_cert_reqs": "required"}, "ssl_cert_reqs has no effect without ssl_certfile"),
        ({"ssl_ciphers": "x"}, "ssl_ciphers has no effect without ssl_certfile"),
        ({"ssl_certfile": "c", "ssl_cert_reqs": "optional"}, "ssl_cert_reqs='optional' needs ssl_ca_certs"),
        ({"ssl_certfile": "c", "ssl_ca_certs": "a"}, "ssl_ca_certs has no effect with ssl_cert_reqs='none'"),
        ({"ssl_certfile": "c", "ssl_cert_reqs": "yes"}, "ssl_cert_reqs is one of none, optional, required"),
    ],
)
def test_an_option_that_would_have_no_effect_is_an_error(options, text):
    with pytest.raises(ConfigError) as caught:
        make_config(options)
    assert text in str(caught.value)


def test_a_config_does_not_show_the_password():
    shown = repr(Config(ssl_certfile="cert.pem", ssl_keyfile_password="secret"))
    assert "cert.pem" in shown
    assert "secret" not in shown
