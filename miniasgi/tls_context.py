"""The options of TLS → the context that every connection is served with.

A leaf beside `listen`: it reads the files, knows no sockets, and is asked before the application is loaded.
Whatever is wrong with a file, a password or a cipher is a TLSError, whose text says which option and why.
OpenSSL's own errors rarely do (`[SSL] PEM lib`), so each file is looked at by itself first.
"""

import re
import ssl
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .config import Config, UsageError, named

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TLSError(UsageError):
    """A certificate, key, password or cipher that cannot be served with."""


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The context that the options describe, TLS 1.2 and 1.3; None without a certificate. Raises TLSError."""
    if not config.ssl_certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 forbids what is older
    # A client could make us work at will; and what the scope says of a connection would change on the way.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Many clients end their side of TCP without the goodbye of TLS. To OpenSSL 3 that is an error after which
    # nothing can be written, not even the answer that they wait for. Nothing is lost by taking it for an end:
    # HTTP and WebSocket know by themselves whether a message is whole (RFC 9112 section 9.8).
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # where OpenSSL is older, it is none
    context.set_alpn_protocols(["http/1.1"])  # RFC 7301
    read_certificates("ssl_certfile", config.ssl_certfile)
    load_key(context, config)
    if config.ssl_ca_certs:
        context.load_verify_locations(cadata="\n".join(read_authorities(config.ssl_ca_certs)))
    context.verify_mode = CERT_REQS[config.ssl_cert_reqs]
    if config.ssl_ciphers:
        set_ciphers(context, config.ssl_ciphers)
    return context


def server_certificate(config: Config) -> str | None:
    """The certificate that clients are shown, in PEM: the first of its file, if any. Raises TLSError."""
    if not config.ssl_certfile:
        return None
    return read_certificates("ssl_certfile", config.ssl_certfile)[0] + "\n"


def read_certificates(name: str, path: str) -> list[str]:
    """The certificates in the PEM file that the option `name` names, at least one. Raises TLSError."""
    found: list[str] = CERTIFICATE.findall(read(name, path))
    if not found:
        raise TLSError(
            f"{named(name)}: {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        )
    for number, each in enumerate(found, 1):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=each)
        except (ssl.SSLError, ValueError) as error:
            raise TLSError(f"{named(name)}: certificate {number} in {path} is damaged") from error
    return found


def read_authorities(path: str) -> list[str]:
    """The certificates of authorities in a PEM file. Raises TLSError where no client could pass by them.

    OpenSSL follows a client's certificate up to one that its own subject has issued, which has to be here.
    """
    found = read_certificates("ssl_ca_certs", path)
    if any(is_self_issued(ssl.PEM_cert_to_DER_cert(each)) for each in found):
        return found
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata="\n".join(found))
    what = "authorities, but no root, which every chain has to end in; add it"
    if not context.cert_store_stats()["x509_ca"]:
        what = "no certificate of an authority, but a client's or a server's; name that of who issued it"
    raise TLSError(f"{named('ssl_ca_certs')}: {path} holds {what}")


def is_self_issued(certificate: bytes) -> bool:
    """Whether a certificate in DER names its own subject as its issuer (RFC 5280 section 4.1)."""
    fields = elements(next(elements(next(elements(certificate)).content)).content)
    _serial, _algorithm, issuer, _validity, subject = islice(
        (each for each in fields if each.tag != VERSION), 5
    )
    return issuer == subject


class Element(NamedTuple):
    """A value in DER: its type, and what it holds."""

    tag: int
    content: bytes


VERSION = 0xA0  # [0], which may be absent


def elements(data: bytes) -> Iterator[Element]:
    """The values in DER that stand in a row (X.690 section 8.1; none of a certificate has a long tag)."""
    while data:
        size, at = data[1], 2
        if size & 0x80:  # so many bytes of length follow
            at += size & 0x7F
            size = int.from_bytes(data[2:at])
        yield Element(data[0], data[at : at + size])
        data = data[at + size :]


def read(name: str, path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:  # PEM allows any text between its blocks
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a path with NUL in it
        reason = error.strerror if isinstance(error, OSError) else "it cannot be a path"
        raise TLSError(f"{named(name)}: {path!r} cannot be read: {reason}") from error


def load_key(context: ssl.SSLContext, config: Config) -> None:
    """Give the context its certificates, which were read already, and their private key. Raises TLSError."""
    if config.ssl_keyfile:
        read("ssl_keyfile", config.ssl_keyfile)
    where = config.ssl_keyfile or config.ssl_certfile
    asked = False

    def password() -> str:
        """OpenSSL asks for it where the key is encrypted; without this function it would ask the terminal."""
        nonlocal asked
        asked = True
        return config.ssl_keyfile_password

    try:
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile or None, password)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password longer than OpenSSL takes
        raise TLSError(key_advice(getattr(error, "reason", None), asked, where, config)) from error


# OpenSSL's reasons for a key of another certificate; the last is for a key of another kind (RSA, EC).
MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


def key_advice(reason: str | None, asked: bool, where: str, config: Config) -> str:
    if reason in MISMATCH:
        return f"the private key in {where} does not belong to the first certificate in {config.ssl_certfile}"
    password = named("ssl_keyfile_password")
    if asked and not config.ssl_keyfile_password:
        return f"the private key in {where} is encrypted; set {password}"
    if asked:
        return f"{password} does not open the private key in {where}"
    if reason is None or reason == "NO_START_LINE":  # OpenSSL says no more than "PEM lib"
        hint = "" if config.ssl_keyfile else f"; name its file with {named('ssl_keyfile')}"
        return f"{where} holds no private key in PEM form{hint}"
    return f"{config.ssl_certfile} cannot be served with: {reason.replace('_', ' ').lower()}"


def set_ciphers(context: ssl.SSLContext, ciphers: str) -> None:
    try:
        context.set_ciphers(ciphers)
    except (ssl.SSLError, ValueError) as error:
        raise TLSError(
            f"{named('ssl_ciphers')}: {ciphers!r} names no cipher that OpenSSL has; see `openssl ciphers -v`"
        ) from error
