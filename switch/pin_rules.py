"""Which PIN blocks links may carry: formats, their length in a dialect, and what may become what on the way.

The links of a configuration go in, a line for each contradiction comes out. Called by `switch.config`; other modules
check whether the keys fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from messages.dialect import Dialect, load_dialect
from messages.errors import MessagesError

if TYPE_CHECKING:
    from switch.links.settings import AcquirerLink, IssuerLink

# ISO 9564 formats that links may use, with the bytes of a block. Source: ISO 9564-1:2017, 9.3.
PIN_FORMATS = {0: 8, 1: 8, 3: 8, 4: 16}
# Formats that a block may become on its way. Source: PCI PIN Security Requirements 3.1, requirement 3-3; ISO
# 9564-1:2017, 9.4: format 1 is not bound to a card number, so nothing that is may become format 1.
PIN_TRANSLATIONS = {0: {0, 3, 4}, 1: {0, 1, 3, 4}, 3: {0, 3, 4}, 4: {0, 3, 4}}
KSN_CHARACTERS = 20  # at least: 10 bytes of TDES DUKPT as hexadecimal digits; AES DUKPT has 24


def pin_block_bytes(pin_format: int) -> int:
    """Length of a PIN block of an ISO 9564 format."""
    return PIN_FORMATS[pin_format]


def pin_contradictions(acquirers: Sequence[AcquirerLink], issuers: Sequence[IssuerLink]) -> list[str]:
    """PIN blocks that a link's dialect cannot carry, and translations that PCI PIN forbids."""
    problems: list[str] = []
    ksn_elements = [acquirer.ksn_element for acquirer in acquirers] + [None for _ in issuers]
    links: list[tuple[str, AcquirerLink | IssuerLink]] = [(f"acquirer[{x.name}]", x) for x in acquirers]
    links += [(f"issuer[{x.name}]", x) for x in issuers]
    for (label, link), ksn_element in zip(links, ksn_elements, strict=True):
        if link.pin_format not in PIN_FORMATS:
            formats = ", ".join(map(str, PIN_FORMATS))
            problems.append(f"{label}: pin_format {link.pin_format} is not one of {formats}")
        elif link.pin_key:
            problems += _pin_elements(label, link.dialect, link.pin_format, ksn_element)
    if problems:
        return problems
    for acquirer in acquirers:
        for issuer in issuers:
            if not (acquirer.pin_key and issuer.pin_key):
                continue
            if issuer.pin_format not in PIN_TRANSLATIONS[acquirer.pin_format]:
                problems.append(
                    f"issuer[{issuer.name}]: pin_format {issuer.pin_format}: blocks of acquirer {acquirer.name}, "
                    f"format {acquirer.pin_format}, must not become that (PCI PIN 3-3)"
                )
    return problems


def _pin_elements(label: str, dialect_name: str, pin_format: int, ksn_element: int | None) -> list[str]:
    try:
        dialect: Dialect = load_dialect(dialect_name)
    except (MessagesError, OSError):
        return []  # reported with the link
    size = pin_block_bytes(pin_format)
    block = dialect.elements.get(52)
    fits = block is not None and block.kind == "b"
    if block is None or not fits or (block.max_length < size if block.length_kind else block.max_length != size):
        shown = "none" if block is None else block.format
        return [
            f"{label}: pin_format {pin_format} has {size} bytes, but DE 52 of {dialect_name} is {shown}: "
            f'use a dialect with 52 = {{ format = "b {size * 8}" }}'
        ]
    if ksn_element is None:
        return []
    element = dialect.elements.get(ksn_element)
    if element is None or element.kind not in ("b", "an", "ans") or element.characters < KSN_CHARACTERS:
        shown = "none" if element is None else element.format
        return [
            f"{label}: ksn_element {ksn_element} of {dialect_name} is {shown}, which has no room for a KSN of "
            f'{KSN_CHARACTERS} or 24 hexadecimal digits: use one like 62, or a dialect with "b 80" or "b 96" there'
        ]
    return []
