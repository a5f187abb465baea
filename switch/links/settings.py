"""What a link is configured as: [[acquirer]] and [[issuer]] of the file, as frozen structs.

`switch.config` reads them and adds `link_contradictions` to what it lists.
"""

from __future__ import annotations

import msgspec

from messages.address import address_of
from messages.dialect import load_dialect
from messages.errors import MessagesError
from messages.framing import framing

MAX_KEY_HOURS = 24 * 366
CRYPTOGRAM_BASE64 = 28  # characters of the 20 bytes that come with a network token


class AcquirerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[acquirer]]: a link that acquirers dial; the port says who they are."""

    name: str
    listen: str
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    pin_key: str = ""
    pin_format: int = 0  # ISO 9564 format of the PIN blocks that it sends
    ksn_element: int | None = None  # where the KSN is, if pin_key is a base derivation key
    mac_key: str = ""
    mac_management: bool = False
    key_exchange_hours: float = 0.0  # 0: by command only
    surrogate: bool = False
    token_cryptogram_element: int | None = None  # where network tokens have their cryptogram, base64
    trace_element: int | None = None
    must_sign_on: bool = False
    max_connections: int = 100  # a worker
    advice_timeout_s: float = 5.0


class IssuerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[issuer]]: a link that every worker dials."""

    name: str
    address: str
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    pin_key: str = ""
    pin_format: int = 0  # ISO 9564 format of the PIN blocks that it gets
    mac_key: str = ""
    mac_management: bool = False
    key_exchange_hours: float = 0.0
    deadline_s: float = 3.0
    echo_s: float = 30.0
    missed_echoes: int = 3
    dial_timeout_s: float = 3.0
    reconnect_s: float = 0.2  # first back-off; doubles up to reconnect_cap_s, with jitter
    reconnect_cap_s: float = 10.0
    max_pending: int = 2000
    advice_timeout_s: float = 3.0
    trace_element: int | None = None


def exchanged_keys(link: AcquirerLink | IssuerLink) -> dict[str, str]:
    """Names of the keys of a link that may be exchanged over it, by kind; a base derivation key may not."""
    derived = isinstance(link, AcquirerLink) and link.ksn_element is not None
    names = {"pin": "" if derived else link.pin_key, "mac": link.mac_key}
    return {kind: name for kind, name in names.items() if name}


def link_contradictions(acquirers: tuple[AcquirerLink, ...], issuers: tuple[IssuerLink, ...]) -> list[str]:
    """What each link allows by itself, but not together with the rest."""
    problems: list[str] = []
    names = [acquirer.name for acquirer in acquirers] + [issuer.name for issuer in issuers]
    problems += [
        f"link {name}: the name is used more than once" for name in sorted(set(names)) if names.count(name) > 1
    ]
    problems += [f"link {name!r}: a name must not contain '|'" for name in names if "|" in name or not name]
    for acquirer in acquirers:
        problems += _link_problems(acquirer.name, acquirer.listen, acquirer.dialect, acquirer.framing)
    for issuer in issuers:
        problems += _link_problems(issuer.name, issuer.address, issuer.dialect, issuer.framing)
        problems += [
            f"issuer {issuer.name}: {field} must be > 0"
            for field in ("deadline_s", "echo_s", "missed_echoes", "dial_timeout_s", "reconnect_s", "max_pending")
            if getattr(issuer, field) <= 0
        ]
    problems += _cryptogram_elements(acquirers)
    labelled: list[tuple[str, AcquirerLink | IssuerLink]] = [(f"acquirer {x.name}", x) for x in acquirers]
    for label, link in [*labelled, *((f"issuer {issuer.name}", issuer) for issuer in issuers)]:
        if not 0 <= link.key_exchange_hours <= MAX_KEY_HOURS:
            problems.append(f"{label}: key_exchange_hours must be from 0 to {MAX_KEY_HOURS}")
        elif link.key_exchange_hours and not exchanged_keys(link):
            problems.append(f"{label}: key_exchange_hours is set, but it has no key to exchange")
    return problems


def _link_problems(name: str, address: str, dialect: str, framing_name: str) -> list[str]:
    problems = address_problem(f"link {name}", address)
    try:
        load_dialect(dialect)
        framing(framing_name)
    except (MessagesError, OSError) as error:
        problems.append(f"link {name}: {error}")
    return problems


def _cryptogram_elements(acquirers: tuple[AcquirerLink, ...]) -> list[str]:
    """Elements for the cryptograms of network tokens that do not hold one."""
    problems: list[str] = []
    for link in acquirers:
        number = link.token_cryptogram_element
        try:
            element = load_dialect(link.dialect).elements.get(number) if number is not None else None
        except (MessagesError, OSError):
            continue  # reported with the link
        if number is not None and (element is None or element.kind != "ans" or element.characters < CRYPTOGRAM_BASE64):
            shown = "none" if element is None else element.format
            problems.append(
                f"acquirer {link.name}: token_cryptogram_element {number} of {link.dialect} is {shown}, which has no "
                f"room for a cryptogram of {CRYPTOGRAM_BASE64} characters: use one like 126"
            )
    return problems


def address_problem(label: str, address: str) -> list[str]:
    """Why `address` is none, as a list of one problem or none."""
    try:
        address_of(address)
    except ValueError as error:
        return [f"{label}: {error}"]
    return []
