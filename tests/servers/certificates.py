"""Certificates for TLS on loopback."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from pathlib import Path


class Unavailable(RuntimeError):
    """The server asked for is not installed here; the text says what would bring it."""


_OPENSSL = """\
[req]
distinguished_name = name
prompt = no
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificates:
    """A certificate authority, and one certificate for 127.0.0.1 and localhost, made by openssl.

    Raises Unavailable where openssl is not installed.
    """

    def __init__(self) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise Unavailable("no openssl on PATH: it makes the certificates for TLS")
        self.directory = Path(tempfile.mkdtemp(prefix="tc-tls-"))
        atexit.register(self.remove)
        self.ca = self.directory / "ca.pem"
        self.cert = self.directory / "cert.pem"
        self.key = self.directory / "key.pem"
        config = self.directory / "openssl.cnf"
        config.write_text(_OPENSSL)
        ca_key, request = self.directory / "ca.key", self.directory / "request.pem"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        new = ("req", "-config", config, *curve, "-subj")
        for command in (
            (*new, "/CN=ca", "-x509", "-days", "2", "-extensions", "ca", "-keyout", ca_key, "-out", self.ca),
            (*new, "/CN=localhost", "-keyout", self.key, "-out", request),
            (
                "x509", "-req", "-days", "2", "-in", request, "-CA", self.ca, "-CAkey", ca_key,
                "-set_serial", "1", "-extfile", config, "-extensions", "leaf", "-out", self.cert,
            ),
        ):  # fmt: skip
            subprocess.run([openssl, *map(str, command)], check=True, capture_output=True)

    def remove(self) -> None:
        """Remove the files."""
        atexit.unregister(self.remove)
        shutil.rmtree(self.directory, ignore_errors=True)
