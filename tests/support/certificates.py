"""Certificates of an authority of our own, for servers on loopback and their clients."""

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


def write_certificates(folder: Path) -> Path:
    """`ca.pem`, `broker.pem` (key and chain), `client.pem`, `client-key.pem`, and `other-ca.pem`, which signed none."""
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("shop@example.org")
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    # Kafka reads PKCS 8 only.
    as_pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "broker.pem").write_bytes(as_pkcs8 + b"".join(blob.bytes() for blob in server.cert_chain_pems))
    (folder / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    client.private_key_pem.write_to_path(str(folder / "client-key.pem"))
    return folder
