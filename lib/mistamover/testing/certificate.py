"""Certificates for private servers of tests: self-signed, for one address, and for two days.

Never import this from production code.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path


def certify(key: Path, certificate: Path, host: str = "127.0.0.1") -> None:
    """Given two paths and an IP address, write a new key and its certificate; into one file if the paths are equal.

    A client trusts the server if it is told to trust the file of the certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key.touch(mode=0o600)
    key.write_bytes(secret.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    with certificate.open("ab" if certificate == key else "wb") as file:
        file.write(made.public_bytes(pem))
