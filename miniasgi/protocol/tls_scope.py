"""What TLS says of a connection → the `tls` extension of its scopes.

It owns the extension's keys (ASGI TLS extension 0.2, "TLS Connection Scope") and the string form of a
certificate's subject (RFC 4514). It must not know sockets, files or HTTP. Next in reading order: `scope`.
"""

import functools
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple


class TLSFacts(NamedTuple):
    """What TLS agreed on for one connection; read once, when the handshake is complete."""

    server_cert: str | None  # the certificate that we showed, in PEM
    client_cert_chain: tuple[str, ...]  # what the client showed, its own certificate first, in PEM
    client_cert_name: str | None  # the subject of its certificate (RFC 4514); None without one
    tls_version: int | None  # as on the wire: 0x0304 is TLS 1.3
    cipher_suite: int | None  # IANA's number: 0x1301 is TLS_AES_128_GCM_SHA256

    def extension(self) -> dict[str, Any]:
        """The value of scope["extensions"]["tls"], fresh, for one request."""
        return {
            "server_cert": self.server_cert,
            "client_cert_chain": list(self.client_cert_chain),
            "client_cert_name": self.client_cert_name,
            "client_cert_error": None,  # a certificate that is not valid does not pass the handshake
            "tls_version": self.tls_version,
            "cipher_suite": self.cipher_suite,
        }


def tls_facts(ssl_object: ssl.SSLObject, server_cert: str | None) -> TLSFacts:
    """What an SSLObject knows after its handshake. It does not know which certificate was ours."""
    cipher = ssl_object.cipher()
    subject = (ssl_object.getpeercert() or {}).get("subject")
    return TLSFacts(
        server_cert,
        tuple(client_chain(ssl_object)),
        None if subject is None else distinguished_name(subject),  # type: ignore[arg-type]
        VERSIONS.get(ssl_object.version() or ""),
        cipher_numbers(ssl_object.context).get(cipher[0]) if cipher else None,
    )


VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}  # RFC 8446 section 4.1.2; older ones are not spoken


@functools.lru_cache(maxsize=8)
def cipher_numbers(context: ssl.SSLContext) -> dict[str, int]:
    """The number of each cipher suite by OpenSSL's name; OpenSSL's own number has the protocol above it."""
    return {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}


def client_chain(ssl_object: ssl.SSLObject) -> list[str]:
    """The certificates that the client showed, in PEM, its own first.

    Of a session that is taken up again, OpenSSL keeps no more than the client's own.
    """
    own = ssl_object.getpeercert(binary_form=True)
    if own is None:
        return []
    return [ssl.DER_cert_to_PEM_cert(each) for each in unverified_chain(ssl_object) or [own]]


def unverified_chain(ssl_object: ssl.SSLObject) -> list[bytes]:
    """All that the client showed, in DER, as far as this Python can tell.

    Public since Python 3.13. Before, the same is had from what an SSLObject wraps, which is private.
    """
    if hasattr(ssl_object, "get_unverified_chain"):
        return list(ssl_object.get_unverified_chain())
    private = getattr(ssl_object, "_sslobj", None)
    shown = getattr(private, "get_unverified_chain", lambda: None)() or []
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in shown]


# ---- RFC 4514: distinguished names as strings -------------------------------------------------------------

# Section 3's table of short names, by OpenSSL's long ones. Other types keep the name that OpenSSL has.
SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
# Section 2.4: what has to be escaped wherever it stands. Control characters may be, and are: a line break in
# a log or a header would do harm.
ESCAPES = {ord(each): "\\" + each for each in '"+,;<>\\'}
ESCAPES |= {code: f"\\{code:02x}" for code in (*range(0x20), 0x7F)}

Attribute = tuple[str, str]


def distinguished_name(subject: Iterable[Iterable[Attribute]]) -> str:
    """A subject, as getpeercert() has it, in the form of RFC 4514: the last of its parts first."""
    parts = ["+".join(attribute_text(*each) for each in part) for part in subject]
    return ",".join(reversed(parts))


def attribute_text(name: str, value: str) -> str:
    """type=value (RFC 4514 sections 2.3 and 2.4)."""
    if name[:1].isdigit():  # a type without a name: the value is its encoding in hexadecimal
        return f"{name}=#{utf8_string(value).hex()}"
    return f"{SHORT_NAMES.get(name, name)}={escaped(value)}"


def escaped(value: str) -> str:
    text = value.translate(ESCAPES)
    if text.endswith(" "):
        text = text[:-1] + "\\ "
    return "\\" + text if value[:1] in (" ", "#") and value != " " else text


def utf8_string(value: str) -> bytes:
    """The encoding as a UTF8String (X.690 section 8.1): what a certificate's text most often is."""
    data = value.encode()
    if len(data) < 0x80:
        return bytes((0x0C, len(data))) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8)
    return bytes((0x0C, 0x80 | len(length))) + length + data
