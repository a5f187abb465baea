"""Certificates for tests, made when they are needed: authorities, leaves, some that are late or early."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Certificate:
    """A certificate with its key, in files."""

    certificate: str
    private_key: str
    pin: str
    made: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Forge:
    """Makes certificates in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0

    def make(
        self,
        name: str,
        issuer: Certificate | None = None,
        *,
        authority: bool = False,
        days: tuple[float, float] = (-1.0, 30.0),
        file: str = "",
    ) -> Certificate:
        """`days`: from when to when, counted from now."""
        self.count += 1
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.made.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        signer = issuer.key if issuer else key
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        made = builder.sign(signer, hashes.SHA256())
        base = self.directory / (file or f"{name}-{self.count}")
        pem = made.public_bytes(serialization.Encoding.PEM)
        base.with_suffix(".crt").write_bytes(pem)
        fresh = base.with_suffix(".key.new")
        fresh.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        fresh.chmod(0o600)
        fresh.replace(base.with_suffix(".key"))
        pin = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()
        return Certificate(str(base.with_suffix(".crt")), str(base.with_suffix(".key")), pin, made, key)
