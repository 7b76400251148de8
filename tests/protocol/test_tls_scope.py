"""The `tls` extension's values: names by RFC 4514, versions, ciphers."""

import ssl

import pytest

from miniasgi.protocol.tls_scope import attribute_text, cipher_numbers, client_chain, distinguished_name


def name(*parts):
    """A subject as getpeercert() has it, from its first part to its last; a part is its attributes."""
    return tuple(tuple(part) for part in parts)


EXAMPLE, NET = [("domainComponent", "example")], [("domainComponent", "net")]


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        # The examples of RFC 4514 section 4, but for the last: what is not ASCII may stand for itself.
        (name(NET, EXAMPLE, [("userId", "jsmith")]), "UID=jsmith,DC=example,DC=net"),
        (
            name(NET, EXAMPLE, [("organizationalUnitName", "Sales"), ("commonName", "J.  Smith")]),
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        ),
        (
            name(NET, EXAMPLE, [("commonName", 'James "Jim" Smith, III')]),
            r"CN=James \"Jim\" Smith\, III,DC=example,DC=net",
        ),
        (name(NET, EXAMPLE, [("commonName", "Before\rAfter")]), r"CN=Before\0dAfter,DC=example,DC=net"),
        (name([("commonName", "Lučić")]), "CN=Lučić"),
        (name(), ""),
    ],
)
def test_names_are_those_of_rfc_4514(subject, text):
    assert distinguished_name(subject) == text


@pytest.mark.parametrize(
    ("attribute", "text"),
    [
        (("localityName", "a"), "L=a"),
        (("stateOrProvinceName", "a"), "ST=a"),
        (("organizationName", "a"), "O=a"),
        (("countryName", "DE"), "C=DE"),
        (("streetAddress", "a"), "STREET=a"),
        (("emailAddress", "a@b"), "emailAddress=a@b"),
        (("commonName", ""), "CN="),
        (("commonName", " "), r"CN=\ "),
        (("commonName", "  "), r"CN=\ \ "),
        (("commonName", " a "), r"CN=\ a\ "),
        (("commonName", "#a#"), r"CN=\#a#"),
        (("commonName", 'a+b,c;d<e>f\\g"h=i'), r"CN=a\+b\,c\;d\<e\>f\\g\"h=i"),
        (("commonName", "a\\ "), r"CN=a\\\ "),
        (("commonName", "a\0b\nc"), r"CN=a\00b\0ac"),
        (("1.3.6.1.4.1.1466.0", "Hi"), "1.3.6.1.4.1.1466.0=#0c024869"),
        (("1.2.3", "x" * 200), "1.2.3=#0c81c8" + "78" * 200),
        (("1.2.3", "x" * 300), "1.2.3=#0c82012c" + "78" * 300),
    ],
)
def test_values_are_escaped(attribute, text):
    assert attribute_text(*attribute) == text


def test_ciphers_have_the_numbers_of_iana():
    numbers = cipher_numbers(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert numbers["TLS_AES_128_GCM_SHA256"] == 0x1301  # RFC 8446 section B.4
    assert numbers["ECDHE-ECDSA-AES256-GCM-SHA384"] == 0xC02C  # RFC 5289 section 3.2


def test_a_python_that_cannot_tell_the_chain_gives_the_leaf():
    der = b"the client's own"

    class Told:
        def getpeercert(self, binary_form):
            return der

    assert client_chain(Told()) == [ssl.DER_cert_to_PEM_cert(der)]
