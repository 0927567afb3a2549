"""Servers that speak TLS, each with a certificate of its own."""

import socket
import ssl
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import redis

from tests.servers.memcached import Memcached
from tests.servers.redis import Redis
from tests.servers.server import find_program


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `127.0.0.1` and its key, in files in this folder."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *(find_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-days", "2", "-out", certificate, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


class TLSMemcached(Memcached):
    """A memcached for `127.0.0.1` whose certificate `context` trusts.

    Args:
        folder: Where the certificate and its key are made.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = make_certificate(folder)
        super().__init__("-Z", "-o", f"ssl_chain_cert={self.certificate},ssl_key={self.key}")
        self.context = ssl.create_default_context(cafile=self.certificate)

    def connect(self) -> socket.socket:
        return self.context.wrap_socket(super().connect(), server_hostname=self.host)


class TLSRedis(Redis):
    """A Redis for `127.0.0.1` that speaks nothing but TLS.

    Args:
        folder: Where the certificate and its key are made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.certificate, key = make_certificate(folder)
        options = {
            "--port": "0",
            "--tls-port": str(self.port),
            "--tls-cert-file": str(self.certificate),
            "--tls-key-file": str(key),
            "--tls-ca-cert-file": str(self.certificate),
            "--tls-auth-clients": "no",
        }
        self.arguments = tuple(word for option in options.items() for word in option)

    def client(self, **options: Any) -> AbstractContextManager[redis.Redis]:
        return super().client(ssl=True, ssl_ca_certs=str(self.certificate), **options)
