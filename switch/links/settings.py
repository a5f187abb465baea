"""The settings of a link: [[acquirer]] and [[issuer]] of the file, as frozen structs.

`switch.config` reads them and adds `link_contradictions` to what it lists.
"""

from __future__ import annotations

import msgspec

from hsm.peer_credentials import user_id
from messages.address import UNIX, address_of
from messages.dialect import Dialect, load_dialect
from messages.errors import MessagesError, SpecError
from messages.framing import TERMINATED, Framing, framing
from switch.links.permissions import Permissions
from switch.links.tls_context import TlsSettings, unusable

MAX_KEY_HOURS = 24 * 366
MAX_AGE_S = 180 * 86_400.0  # DE 7 has no year: half a year on it would be taken for another one's
ADVICE_MAX_AGE_S = 30 * 86_400.0  # by default
MAX_AHEAD_S = 14 * 3_600.0  # no clock on earth is further ahead of UTC
MAX_CONNECTIONS = 10_000  # of a link in a worker
CRYPTOGRAM_BASE64 = 28  # characters of the 20 bytes that come with a network token
ECHO_S = 30.0  # where nothing is said and we dial
TEXT = frozenset({"ascii", "cp037", "cp500", "cp1047", "hex", "ebcdic-hex"})  # encodings without control characters


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of links of both kinds. Times in seconds; counts are those of one worker."""

    name: str
    listen: str = ""  # one of the two: where the peer dials us,
    address: str = ""  # or where we dial it
    dialect: str
    framing: str = "2-byte-be"
    max_frame: int = 8192
    header: str | int = ""  # "tpdu", "vap" or a number of bytes, before each message
    header_bytes: str = ""  # hexadecimal: the header of what we start
    tls: TlsSettings | None = None
    peer_users: tuple[str, ...] = ()  # at the other end of a unix socket, names or numbers; (): the one that we run as
    connections: int = 0  # that we dial, 0: one; where the peer dials, how many a worker takes, 0: max_connections
    max_connections: int = 100
    max_per_address: int = 0  # connections that one address may have of a worker; 0: half of max_connections
    max_bad_frames: int = 50  # in a row (no message, wrong MAC) that end a connection that the peer dialled; 0: none do
    silent_s: float = 300.0  # until the first message on a connection that the peer dialled; 0: for ever
    frame_s: float = 30.0  # from the first to the last byte of a frame; 0: for ever
    management_rate: float = 10.0  # network management a second and connection; 0: no limit
    must_sign_on: bool = False  # the peer, before it may send requests and gets any
    missed_echoes: int = 3
    dial_timeout_s: float = 3.0
    reconnect_s: float = 0.2  # first back-off; doubles up to reconnect_cap_s, with jitter
    reconnect_cap_s: float = 10.0
    max_in_flight: int = 2000
    queue: int = 0  # requests that wait for a place among those in flight
    queue_s: float = 0.5  # for so long at most
    rate: float = 0.0  # requests a second, 0: no limit
    pin_key: str = ""
    pin_format: int = 0  # ISO 9564 format of the PIN blocks that it sends or gets
    mac_key: str = ""
    mac_management: bool = False
    key_exchange_hours: float = 0.0  # 0: by command only
    trace_element: int | None = None
    # Greatest age of DE 7 in the peer's requests, and the greatest time in the future.
    max_age_s: float = 86_400.0  # of requests
    advice_max_age_s: float = (
        ADVICE_MAX_AGE_S  # of advices, reversals and chargebacks, which are kept until they arrive
    )
    max_ahead_s: float = 300.0
    permissions: Permissions | None = None  # messages that the other end may send; None: all that its side may

    @property
    def per_address(self) -> int:
        """Connections that one address may have of a worker."""
        half = self.max_connections if self.on_unix_socket else max(1, self.max_connections // 2)
        return self.max_per_address or half

    @property
    def dials(self) -> bool:
        """Whether we dial the peer; else it dials us."""
        return bool(self.address)

    @property
    def on_unix_socket(self) -> bool:
        """Whether the peer is on this machine, and the kernel says which user it is."""
        return (self.listen or self.address).startswith(UNIX)

    @property
    def identity(self) -> tuple[str, ...]:
        """The other end's proof of identity: any of "peer user", "mac", "tls"; () for none.

        TLS proves the end that we dial; of an end that dials us only with a certificate of its own.
        """
        mutual = self.tls is not None and (self.dials or self.tls.require_client_certificate)
        found = {"peer user": self.on_unix_socket, "mac": bool(self.mac_key), "tls": mutual}
        return tuple(name for name, proved in found.items() if proved)

    def framed(self, dialect: Dialect) -> Framing:
        """Its framing. Raises SpecError."""
        try:
            start = bytes.fromhex(self.header_bytes)
        except ValueError:
            raise SpecError("framing", ["header_bytes is no hexadecimal"]) from None
        return framing(
            self.framing, self.max_frame, header=self.header, header_bytes=start, keepalive=dialect.keepalive
        )


class AcquirerLink(Link, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[acquirer]]: a link that requests come from; which link it is says who they come from."""

    ksn_element: int | None = None  # where the KSN is, if pin_key is a base derivation key
    surrogate: bool = False
    partial_approvals: bool | None = None  # whether it takes DE 39 = 10; None: unless it has surrogates
    token_cryptogram_element: int | None = None  # where network tokens have their cryptogram, base64
    sign_on: bool = False  # whether we sign on
    echo_s: float | None = None  # 0: none; None: 30 where we dial, else none
    advice_timeout_s: float = 5.0

    @property
    def takes_partial(self) -> bool:
        """Whether it takes an approval of less than it asked for; else that is undone at the issuer."""
        return not self.surrogate if self.partial_approvals is None else self.partial_approvals

    @property
    def answer_s(self) -> float:
        """Longest wait for the answer to network management."""
        return self.advice_timeout_s

    @property
    def idle_s(self) -> float:
        """Silence after which we send an echo; 0 for none."""
        return self.echo_s if self.echo_s is not None else ECHO_S if self.dials else 0.0


class IssuerLink(Link, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[issuer]]: a link that requests go to. Every worker needs connections of its own."""

    deadline_s: float = 3.0
    sign_on: bool = True
    echo_s: float = ECHO_S
    advice_timeout_s: float = 3.0

    @property
    def answer_s(self) -> float:
        """Longest wait for the answer to network management."""
        return self.deadline_s

    @property
    def idle_s(self) -> float:
        """Silence after which we send an echo; 0 for none."""
        return self.echo_s


def exchanged_keys(link: AcquirerLink | IssuerLink) -> dict[str, str]:
    """Names of the keys of a link that may be exchanged over it, by kind; a base derivation key may not."""
    derived = isinstance(link, AcquirerLink) and link.ksn_element is not None
    names = {"pin": "" if derived else link.pin_key, "mac": link.mac_key}
    return {kind: name for kind, name in names.items() if name}


def link_contradictions(acquirers: tuple[AcquirerLink, ...], issuers: tuple[IssuerLink, ...]) -> list[str]:
    """Settings that each link allows by itself, but not together with the rest."""
    problems: list[str] = []
    names = [acquirer.name for acquirer in acquirers] + [issuer.name for issuer in issuers]
    problems += [
        f"link {name}: the name is used more than once" for name in sorted(set(names)) if names.count(name) > 1
    ]
    problems += [f"link {name!r}: a name must not contain '|'" for name in names if "|" in name or not name]
    labelled: list[tuple[str, AcquirerLink | IssuerLink]] = [(f"acquirer[{x.name}]", x) for x in acquirers]
    labelled += [(f"issuer[{issuer.name}]", issuer) for issuer in issuers]
    for label, link in labelled:
        problems += _place_problems(label, link)
        problems += _wire_problems(label, link)
        problems += _limit_problems(label, link)
        if link.tls is not None:
            problems += tls_problems(f"{label}.tls", link.tls, link.dials)
    problems += _cryptogram_elements(acquirers)
    for label, link in labelled:
        if not 0 <= link.key_exchange_hours <= MAX_KEY_HOURS:
            problems.append(f"{label}: key_exchange_hours must be from 0 to {MAX_KEY_HOURS}")
        elif link.key_exchange_hours and not exchanged_keys(link):
            problems.append(f"{label}: key_exchange_hours is set, but it has no key to exchange")
    return problems


def _place_problems(label: str, link: Link) -> list[str]:
    """The end that dials."""
    if bool(link.listen) == bool(link.address):
        return [f"{label}: exactly one of listen (it dials us) and address (we dial it) is needed"]
    problems = [f"{label}.peer_users: this machine has no user {u!r}" for u in link.peer_users if user_id(u) is None]
    if link.peer_users and not link.on_unix_socket:
        problems.append(f"{label}: peer_users is about unix sockets: listen or address must begin with unix:")
    if link.tls is not None and link.on_unix_socket:
        problems.append(f"{label}.tls: a unix socket has none, the kernel says who is at its other end")
    return problems + address_problem(f"{label}.{'listen' if link.listen else 'address'}", link.listen or link.address)


def _wire_problems(label: str, link: Link) -> list[str]:
    """Dialect and framing."""
    try:
        dialect = load_dialect(link.dialect)
        link.framed(dialect)
    except (MessagesError, OSError) as error:
        return [f"{label}: {error}"]
    if link.framing in TERMINATED and not _is_text(dialect):
        return [f"{label}: framing {link.framing} cannot carry {dialect.name}, which has binary parts"]
    return []


def _is_text(dialect: Dialect) -> bool:
    elements = [element.encoding for element in dialect.elements.values()]
    return {dialect.mti_encoding, dialect.bitmap_encoding, *elements} <= TEXT


def _limit_problems(label: str, link: AcquirerLink | IssuerLink) -> list[str]:
    """Times and limits that leave nothing."""
    positive = ["missed_echoes", "dial_timeout_s", "reconnect_s", "reconnect_cap_s", "max_in_flight", "max_connections"]
    positive += ["queue_s", "advice_timeout_s"]
    if isinstance(link, IssuerLink):
        positive.append("deadline_s")
    problems = [f"{label}: {field} must be > 0" for field in positive if getattr(link, field) <= 0]
    problems += [
        f"{label}: {field} must be ≥ 0"
        for field in (
            "connections",
            "queue",
            "rate",
            "echo_s",
            "max_per_address",
            "max_bad_frames",
            "silent_s",
            "frame_s",
            "management_rate",
        )
        if (getattr(link, field) or 0) < 0
    ]
    problems += [
        f"{label}: {field} must be up to {MAX_CONNECTIONS}"
        for field in ("connections", "max_connections")
        if getattr(link, field) > MAX_CONNECTIONS
    ]
    problems += [
        f"{label}: {field} must be > 0 and up to {most:.0f}"
        for field, most in (("max_age_s", MAX_AGE_S), ("advice_max_age_s", MAX_AGE_S), ("max_ahead_s", MAX_AHEAD_S))
        if not 0 < getattr(link, field) <= most
    ]
    if link.advice_max_age_s < link.max_age_s:
        problems.append(f"{label}: advice_max_age_s must not be below max_age_s")
    if link.sign_on and link.must_sign_on:
        problems.append(f"{label}: sign_on (we) and must_sign_on (the peer) exclude each other")
    return problems


def tls_problems(label: str, tls: TlsSettings, dials: bool) -> list[str]:
    """Settings that leave somebody unverified, and files that cannot be used."""
    problems: list[str] = []
    if bool(tls.certificate) != bool(tls.private_key):
        problems.append(f"{label}: certificate and private_key need each other")
    elif not tls.certificate and not dials:
        problems.append(f"{label}: a listening link needs certificate and private_key")
    for pin in tls.pins:
        try:
            usable = len(bytes.fromhex(pin.replace(":", ""))) == 32
        except ValueError:
            usable = False
        if not usable:
            problems.append(f"{label}: a pin is the SHA-256 of a certificate, 64 hexadecimal digits")
    if dials and not tls.ca and not tls.pins:
        problems.append(f"{label}: ca or pins must say which peer is the right one")
    if not dials and not tls.ca and (tls.require_client_certificate or tls.pins):
        problems.append(
            f"{label}: ca must say whose certificates are taken (those that are pinned may stand in it themselves), or "
            "set require_client_certificate = false"
        )
    if not dials and tls.pins and not tls.require_client_certificate:
        problems.append(f"{label}: pins of who dials us need require_client_certificate")
    return problems or [f"{label}: {reason}" for reason in unusable(tls)]


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
                f"acquirer[{link.name}]: token_cryptogram_element {number} of {link.dialect} is {shown}, which has no "
                f"room for a cryptogram of {CRYPTOGRAM_BASE64} characters: use one like 126"
            )
    return problems


def address_problem(label: str, address: str) -> list[str]:
    """The fault of `address`, as a list of one problem or none."""
    try:
        address_of(address)
    except ValueError as error:
        return [f"{label}: {error}"]
    return []
