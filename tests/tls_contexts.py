"""A certificate for the loopback, from an authority made for this run: as TLS contexts and as files."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import trustme

HOST = "localhost"


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@functools.cache
def _certificate() -> trustme.LeafCert:
    return _authority().issue_cert(HOST, "127.0.0.1", key_type=trustme.KeyType.ECDSA)


def server_context() -> ssl.SSLContext:
    """A new context of a server whose certificate `client_context()` trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _certificate().configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """A new context that trusts the servers of this run, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


def write_files(folder: Path) -> tuple[Path, Path, Path]:
    """Writes the server's certificate chain, its key and the authority's certificate; returns their paths."""
    paths = folder / "certificate.pem", folder / "key.pem", folder / "authority.pem"
    certificate = _certificate()
    paths[0].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    paths[1].write_bytes(certificate.private_key_pem.bytes())
    paths[2].write_bytes(_authority().cert_pem.bytes())
    return paths
