"""The certificate of the tokenization endpoint: two PEM files go in, a TLS context comes out that follows them.

`hsm.tokenizer.server` serves by it and calls `follow`. A file that changes is taken for the connections that come
after; those that are open go on. Unusable files are logged, and the former certificate stays.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography import x509

from hsm.errors import ConfigurationError

log = structlog.get_logger(__name__)

POLL_S = 2.0
WARN_BEFORE = timedelta(days=14)
# TLS 1.3 has no others; of TLS 1.2 those with forward secrecy and authenticated encryption.
# Source: RFC 9325 section 4.2.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class Certificate:
    """A certificate chain with its private key, and the context that serves them.

    Args:
        certificate: PEM, the leaf first. private_key: PEM, not encrypted.
    Raises:
        ConfigurationError: a file is missing, or they do not belong together.
    """

    def __init__(self, certificate: str, private_key: str) -> None:
        self._files = (Path(certificate), Path(private_key))
        self._seen = self._state()
        self._current = self._load()
        self.context = self._load()
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """Take the files as they are now; False, and an error in the log, where they cannot be used."""
        self._seen = self._state()
        try:
            # One whole context in place of another: there is no moment with the new chain and the old key.
            self._current = self._load()
        except ConfigurationError as error:
            log.error("certificate_refused", error=str(error))
            return False
        return True

    async def follow(self, asked: asyncio.Event) -> None:
        """Reload when a file has changed, or at once when `asked` is set; never returns."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await asked.wait()
            except TimeoutError:
                if self._state() == self._seen:
                    continue
            asked.clear()
            self.reload()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        certificate, private_key = self._files
        loaded = load_certificate(certificate, private_key)
        log.info("certificate_loaded", serial=f"{loaded.serial:x}", ends_at=loaded.ends_at.isoformat())
        if loaded.open_to_all:
            log.warning("private_key_open", hint=f"every user can read it: chmod o-r {private_key}")
        if loaded.ends_at < datetime.now(UTC) + WARN_BEFORE:
            log.warning("certificate_ends_soon", ends_at=loaded.ends_at.isoformat())
        return loaded.context

    def _state(self) -> tuple[object, ...]:
        found: list[object] = []
        for file in self._files:
            try:
                status = os.stat(file)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)


class LoadedCertificate(NamedTuple):
    """A certificate as it is in its files: its context, serial number, end, and whether every user may read the key."""

    context: ssl.SSLContext
    serial: int
    ends_at: datetime
    open_to_all: bool


def load_certificate(certificate: Path, private_key: Path) -> LoadedCertificate:
    """Return a certificate with its key, ready to serve.

    Args:
        certificate: PEM, the leaf first. private_key: PEM, not encrypted.
    Raises:
        ConfigurationError: a file is missing, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # Without a password function OpenSSL would ask a terminal for the one of an encrypted key.
        context.load_cert_chain(certificate, private_key, password=lambda: "")
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        open_to_all = bool(private_key.stat().st_mode & stat.S_IROTH)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"tokenizer.certificate and private_key ({certificate}, {private_key}): "
            f"{getattr(error, 'reason', None) or getattr(error, 'strerror', None) or type(error).__name__}"
        ) from None
    return LoadedCertificate(context, leaf.serial_number, leaf.not_valid_after_utc, open_to_all)
