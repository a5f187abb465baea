"""Identity of an acquirer, and the cards at its terminals: data for `simulators.acquirer.core` and scenarios."""

from __future__ import annotations

import msgspec

from hsm.algorithms.mac import AES_CMAC


class Card(msgspec.Struct, frozen=True):
    """A card at the terminal.

    Args:
        pan: 12–19 digits, or a surrogate. expiry: YYMM.
        pin: 4–12 digits; "" where none is asked for.
        icc_data: DE 55 of its chip, hexadecimal; sequence: DE 23, three digits; "" each for none.
        track2: DE 35 with "=" or "D" between its parts; then DE 2 and 14 are left out.
    """

    pan: str
    expiry: str = "3012"
    pin: str = ""
    icc_data: str = ""
    sequence: str = ""
    track2: str = ""

    def __repr__(self) -> str:
        return "Card(…)"


class AcquirerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of an acquirer.

    Args:
        link: the link's name as the switch configures it; books carry it.
        acquirer_id: DE 32, up to 11 digits. terminal: DE 41. merchant: DE 42. mcc: DE 18.
        place: DE 43 without country; country: ISO 3166 alpha-2, its last two characters.
        trace_element: the element that carries the trace id; 0 for none.
        repeats: repeats of an unanswered request before it is reversed.
        first_stan: where DE 11 starts.
        pin_format: ISO 9564 format of its PIN blocks. ksn_element: where the KSN goes, with DUKPT.
        mac_algorithm: of its MAC key, one of `hsm.algorithms.mac.ALGORITHMS`.
        mac_management: whether network management carries a MAC, too.
    """

    link: str
    dialect: str = "iso87-ascii"
    acquirer_id: str = "10001"
    terminal: str = "TERM0001"
    merchant: str = "DEMOSHOP"
    mcc: str = "5411"
    place: str = "Demo Shop, Main Street 1"
    country: str = "DE"
    trace_element: int = 0
    repeats: int = 1
    first_stan: int = 1
    pin_format: int = 0
    ksn_element: int = 0
    mac_algorithm: str = AES_CMAC
    mac_management: bool = False
