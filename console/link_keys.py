"""The keys of links, and that of network tokens, held against `[[key]]`: whether there is one, of the right use.

A configuration goes in, a line for each contradiction comes out. Called by `console.config`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsm.keys.attributes import ROLES
from hsm.vault.network_token_rules import NETWORK_TOKEN_KEY
from switch.links.settings import AcquirerLink, IssuerLink

if TYPE_CHECKING:
    from console.config import Config
    from hsm.config import KeyConfig

AES_FORMAT = 4  # the one PIN block format that is made with AES. Source: ISO 9564-1:2017, 9.4
TOKEN_USAGE = "token-cryptogram"
KSN_BYTES = {"TDES": 10, "AES": 12}  # Source: ANSI X9.24-1:2009 and X9.24-3:2017


def key_contradictions(config: Config) -> list[str]:
    """The faults of `pin_key`, `mac_key`, `pin_format` and `ksn_element` of all links."""
    found: list[str] = []
    keys = {key.name: key for key in config.key}
    acquirers: list[tuple[str, AcquirerLink | IssuerLink]] = [("acquirer", link) for link in config.acquirer]
    for section, link in [*acquirers, *(("issuer", link) for link in config.issuer)]:
        place = f"{section}[{link.name}]"
        for field, usages in (
            ("pin_key", ("pin", "bdk") if section == "acquirer" else ("pin",)),
            ("mac_key", ("mac",)),
        ):
            name = getattr(link, field)
            key = keys.get(name)
            if name and key is None:
                found.append(f"{place}.{field}: there is no [[key]] named {name!r}")
            elif key is not None and key.usage not in usages:
                found.append(f"{place}.{field}: key {name!r} is for {key.usage}, not for {' or '.join(usages)}")
            elif key is not None and field == "pin_key":
                found += _pin_contradictions(place, link, key)
        parties = {keys[name].party for name in (link.pin_key, link.mac_key) if name in keys}
        if len(parties) > 1:
            found.append(
                f"{place}.mac_key: its keys are shared with {' and '.join(sorted(parties))}: a link has one party"
            )
    return found + _token_contradictions(config, keys)


def _token_contradictions(config: Config, keys: dict[str, KeyConfig]) -> list[str]:
    """The fault of `[hsm] network_token_key`; without a link that takes network tokens its default needs no key."""
    name = config.hsm.network_token_key
    key = keys.get(name)
    if key is not None and key.usage != TOKEN_USAGE:
        return [f"hsm.network_token_key: key {name!r} is for {key.usage}, not for {TOKEN_USAGE}"]
    taking = [link.name for link in config.acquirer if link.token_cryptogram_element is not None]
    if key is not None or (name == NETWORK_TOKEN_KEY and not taking):
        return []
    needed = f", which acquirer[{taking[0]}].token_cryptogram_element needs" if taking else ""
    return [
        f"hsm.network_token_key: there is no [[key]] named {name!r}{needed}:"
        f' add one with usage = "{TOKEN_USAGE}" and a party, or name the one that there is'
    ]


def _pin_contradictions(place: str, link: AcquirerLink | IssuerLink, key: KeyConfig) -> list[str]:
    algorithm = key.algorithm or next(iter(ROLES[key.usage].algorithms))
    aes = link.pin_format == AES_FORMAT
    ksn_element = link.ksn_element if isinstance(link, AcquirerLink) else None
    found = []
    if key.usage == "bdk" and ksn_element is None:
        found.append(
            f"{place}.ksn_element: key {key.name!r} is a base derivation key: say which element has the KSN, "
            f"{KSN_BYTES.get(algorithm, 10)} bytes in hexadecimal"
        )
    if key.usage == "pin" and ksn_element is not None:
        found.append(f"{place}.ksn_element: key {key.name!r} is a zone PIN key, and those have no KSN")
    if aes and algorithm != "AES":
        found.append(f"{place}.pin_format: 4 is made with AES, key {key.name!r} is {algorithm}")
    if key.usage == "pin" and not aes and algorithm == "AES":
        found.append(f"{place}.pin_format: {link.pin_format} is made with TDES, key {key.name!r} is {algorithm}")
    return found
