"""Certificates of one end of a link: files in, the TLS context of the next handshake and the verdict on a peer out.

`switch.links.tls` shakes hands with them on the switch's loop, and the console hands them to a gateway on another
machine, which shakes hands on its own. Files that have changed are taken for the handshakes that come after. Files that
cannot be used are logged, and those before stay in force.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta

import structlog
from cryptography import x509

from switch.errors import WireError
from switch.links.tls_context import TlsSettings, context_of, listed, reason_of

log = structlog.get_logger("switch.links.tls")

WARN_BEFORE = timedelta(days=14)


class Credentials:
    """Our chain, key and authorities, and the pins of the peer.

    Args:
        link: its name, for the log.
        serves: whether the peer dials us.
        server_name: the name that the certificate of the peer must have, where we dial.

    Raises:
        WireError: the files cannot be used.
    """

    def __init__(self, link: str, tls: TlsSettings, *, serves: bool, server_name: str = "") -> None:
        self._ends_at: datetime | None = None
        self.server_name = server_name
        self._link = link
        self._tls = tls
        self._serves = serves
        self._pins = frozenset(pin.replace(":", "").lower() for pin in tls.pins)
        self._seen = self._state()
        try:
            self._current = self._load()
        except (OSError, ValueError) as error:
            raise WireError(f"link {link}: {listed(tls)}: {reason_of(error)}") from None

    @property
    def ends_at(self) -> datetime | None:
        """When our certificate ends; None without one."""
        return self._ends_at

    def context(self) -> ssl.SSLContext:
        """The context for a handshake that begins now."""
        if self._state() != self._seen:
            self.reload()
        return self._current

    def reload(self) -> bool:
        """Take the files as they are now; False, and an error in the log, where they cannot be used."""
        self._seen = self._state()
        try:
            # One whole context in place of another: there is no moment with the new chain and the old key.
            self._current = self._load()
        except (OSError, ValueError) as error:
            log.error("certificate_refused", link=self._link, files=listed(self._tls), error=reason_of(error))
            return False
        return True

    def mistrust(self, connection: ssl.SSLObject) -> tuple[str, str] | None:
        """Why the peer of a handshake that OpenSSL has let through is not let in; None where it is.

        OpenSSL looks at neither pins nor the dates of a certificate that is trusted for its pin alone.

        Returns: a constant for the metric, and what was wrong.
        """
        if not self._pins:
            return None
        shown = connection.getpeercert(binary_form=True)
        if shown is None:
            return "no_certificate", "no certificate"
        fingerprint = hashlib.sha256(shown).hexdigest()
        if fingerprint not in self._pins:
            return "wrong_pin", f"the certificate {fingerprint} is not pinned"
        if not self._tls.ca:
            certificate = x509.load_der_x509_certificate(shown)
            if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
                return "expired", "the pinned certificate has expired or is not valid yet"
        return None

    def _load(self) -> ssl.SSLContext:
        tls = self._tls
        context = context_of(tls, serves=self._serves)
        if not tls.certificate:
            return context
        with open(tls.certificate, "rb") as file:
            leaf = x509.load_pem_x509_certificates(file.read())[0]
        self._ends_at = ends_at = leaf.not_valid_after_utc
        log.info("certificate_loaded", link=self._link, serial=f"{leaf.serial_number:x}", ends_at=ends_at.isoformat())
        if os.stat(tls.private_key).st_mode & stat.S_IROTH:
            log.warning("private_key_open", hint=f"every user can read it: chmod o-r {tls.private_key}")
        if ends_at < datetime.now(UTC) + WARN_BEFORE:
            log.warning("certificate_ends_soon", link=self._link, ends_at=ends_at.isoformat())
        return context

    def _state(self) -> tuple[object, ...]:
        """Values that change with the file."""
        found: list[object] = []
        for file in (self._tls.certificate, self._tls.private_key, self._tls.ca):
            try:
                status = os.stat(file) if file else None
            except OSError:
                status = None
            found.append(status and (status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
