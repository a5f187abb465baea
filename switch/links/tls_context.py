"""TLS settings of a link, and the context that they make: names of PEM files in, `ssl.SSLContext` out.

`switch.links.settings` looks at the files before anything starts, `switch.links.credentials` keeps them for handshakes.
"""

from __future__ import annotations

import ssl

import msgspec


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """tls = { … } of a link: TLS 1.3, files in PEM.

    Args:
        certificate, private_key: our chain, the leaf first, and its key without a password.
        ca: authorities that vouch for the peer's certificate; self-signed certificates may be listed, too.
        pins: SHA-256 of certificates (DER) that the peer may show, in hexadecimal; empty: any that `ca` vouches for.
        server_name: as which we dial the peer; "": the host of `address`.
        require_client_certificate: whether who dials us must show a certificate.
    """

    certificate: str = ""
    private_key: str = ""
    ca: str = ""
    pins: tuple[str, ...] = ()
    server_name: str = ""
    require_client_certificate: bool = True


def unusable(tls: TlsSettings) -> list[str]:
    """Why the files of a link cannot be used, a line each; [] where they can."""
    found = []
    for setting in ("certificate", "private_key", "ca"):
        file = getattr(tls, setting)
        try:
            if file:
                with open(file, "rb") as stream:
                    stream.read(1)
        except OSError as error:
            found.append(f"{setting} {file} cannot be read: {error.strerror}")
    if not found:
        try:
            context_of(tls, serves=bool(tls.certificate))
        except (OSError, ValueError) as error:
            found.append(f"{listed(tls)}: {reason_of(error)}")
    return found


def context_of(tls: TlsSettings, *, serves: bool) -> ssl.SSLContext:
    """TLS 1.3 and nothing before it.

    Source: RFC 9325 section 3.1 allows 1.2; links of a switch have two known ends, and none needs it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A certificate listed among the authorities is itself trusted, so that one may be pinned without any.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.certificate:
        # Without a password function OpenSSL would ask a terminal for the one of an encrypted key.
        context.load_cert_chain(tls.certificate, tls.private_key, password=lambda: "")
    if tls.ca:
        context.load_verify_locations(tls.ca)
    if serves:
        context.num_tickets = 0  # each connection shows its certificate again
        context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_NONE
    elif not tls.ca:  # the pin alone decides, see Credentials.mistrust
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def listed(tls: TlsSettings) -> str:
    return ", ".join(file for file in (tls.certificate, tls.private_key, tls.ca) if file)


def label_of(error: ssl.SSLError) -> str:
    """OpenSSL's own constant for what went wrong."""
    return str(error.reason or "failed").lower()


def reason_of(error: Exception) -> str:
    """The error, without paths of the library's sources."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return label_of(error).replace("_", " ")
    return str(getattr(error, "strerror", None) or type(error).__name__)
