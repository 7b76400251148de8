"""`ask_bare_server`: a raw client of a served application. `certificate`: what TLS needs."""

import asyncio
import ssl

import pytest

from .dialogue import request


@pytest.fixture
def ask_bare_server(bare_server, raw):
    """As `ask` of the dialogue; where files are copied by the kernel."""

    async def ask(app, asked=None, **options):
        async with bare_server(app, **{"lifespan": "off", **options}) as server:
            reader, writer = await raw(server)
            writer.write(request() if asked is None else asked)
            return await asyncio.wait_for(reader.read(), 10)

    return ask


class Certificate:
    """A certificate of 127.0.0.1 in files, and the authority that signed it and signs those of clients."""

    def __init__(self, folder):
        import trustme  # needed by the tests of TLS alone

        self.authority = trustme.CA()
        self.folder = folder
        issued = self.authority.issue_cert("127.0.0.1")
        self.pem = issued.cert_chain_pems[0].bytes().decode()
        certfile, keyfile, ca_certs = (str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem"))
        issued.cert_chain_pems[0].write_to_path(certfile)
        issued.private_key_pem.write_to_path(keyfile)
        self.authority.cert_pem.write_to_path(ca_certs)
        self.options = {"ssl_certfile": certfile, "ssl_keyfile": keyfile}
        self.asking_clients = {**self.options, "ssl_ca_certs": ca_certs, "ssl_cert_reqs": "required"}
        self.inviting_clients = {**self.asking_clients, "ssl_cert_reqs": "optional"}

    def trusting(self, client=None):
        """A client's TLS context; `client` is the certificate that it shows."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        return context


@pytest.fixture
def certificate(tmp_path):
    return Certificate(tmp_path)
