"""A certificate to throw away: for this machine, signed by an authority that nobody else trusts.

Made once a process, since that takes 10 ms, and written to a folder that goes with the process.
"""

import atexit
import functools
import shutil
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..config import ConfigError

# The names that it is for: how a client on this machine reaches the server.
NAMES = ("localhost", "127.0.0.1", "::1")


class ThrowAway(NamedTuple):
    """Files in PEM."""

    ca_file: str  # the authority: what a client is to trust
    certfile: str  # the server's certificate, and its key

    def client_context(self) -> ssl.SSLContext:
        """For a client: it trusts this certificate, and no other."""
        return ssl.create_default_context(cafile=self.ca_file)


@functools.cache
def throw_away() -> ThrowAway:
    """Raises ConfigError where trustme is missing."""
    try:
        import trustme
    except ImportError as error:
        raise ConfigError("tls=True makes a certificate with trustme: pip install trustme") from error
    folder = Path(tempfile.mkdtemp(prefix="miniasgi-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    authority = trustme.CA()
    made = ThrowAway(str(folder / "ca.pem"), str(folder / "server.pem"))
    authority.cert_pem.write_to_path(made.ca_file)
    authority.issue_cert(*NAMES).private_key_and_cert_chain_pem.write_to_path(made.certfile)
    return made
