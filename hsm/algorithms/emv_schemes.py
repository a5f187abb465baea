"""EMV cryptography of each card scheme, as a table, and the keys that follow from it.

A scheme's name, an issuer master key and chip data go in, keys for one `with` block come out. Called by
`hsm.cryptograms` and by simulators of cards. Which data elements a card puts under its cryptogram (the issuer
application data says so) is for the caller to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hsm.algorithms.emv_keys import card_key, masked_card_key, session_key
from hsm.algorithms.primitives import TdesKey


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """The methods of a scheme.

    Attributes:
        option: A or B, how the card's keys are derived.
        session: derivation of the session key of cryptograms: `none` (the card's key itself), `csk` (from the ATC) or
            `mchip` (from the ATC and the unpredictable number).
        padding: of the data under a cryptogram, method 1 or 2 of ISO 9797-1.
        arpc_methods: which the card understands.
        arpc_key: `session` or `card`.
        script_session: `csk` (from the cryptogram) or `masked` (the card's key XOR the ATC).
        script_transaction: whether a script's MAC has ATC and cryptogram between header and data.
        encryption: of script data, see `hsm.algorithms.emv_scripts.encrypt_script_data`.
        pin_block: of PIN CHANGE, `iso2` or `visa`.
        pin_block_with_current: the same where the current PIN is given; empty where it cannot be.
    """

    option: str
    session: str
    padding: int
    arpc_methods: tuple[int, ...]
    arpc_key: str = "session"
    script_session: str
    script_transaction: bool
    encryption: str
    pin_block: str
    pin_block_with_current: str = ""

    @property
    def takes_unpredictable(self) -> bool:
        """Whether keys depend on the unpredictable number."""
        return self.session == "mchip"


# Source: EMV 4.3 Book 2 for emv-csk; the others inferred from pyemv's cvn module (VisaCVN10, VisaCVN18, VisaCVN22,
# MasterCardCVN16/17 and 20/21, InteracCVN133), which names the schemes' specifications.
SCHEMES = {
    "visa-cvn10": Scheme(
        option="A",
        session="none",
        padding=1,
        arpc_methods=(1,),
        script_session="masked",
        script_transaction=True,
        encryption="visa",
        pin_block="visa",
        pin_block_with_current="visa",
    ),
    "visa-cvn18": Scheme(
        option="B",
        session="csk",
        padding=2,
        arpc_methods=(2,),
        script_session="masked",
        script_transaction=True,
        encryption="visa",
        pin_block="visa",
        pin_block_with_current="visa",
    ),
    "visa-cvn22": Scheme(
        option="B",
        session="csk",
        padding=2,
        arpc_methods=(2,),
        script_session="csk",
        script_transaction=True,
        encryption="visa",
        pin_block="iso2",
        pin_block_with_current="visa",
    ),
    # M/Chip with Mastercard's own session keys (CVN 16 and 17); the ARPC is made with the card's key.
    "mchip": Scheme(
        option="A",
        session="mchip",
        padding=2,
        arpc_methods=(1,),
        arpc_key="card",
        script_session="csk",
        script_transaction=True,
        encryption="mchip",
        pin_block="iso2",
    ),
    # M/Chip with EMV's session keys (CVN 20 and 21).
    "mchip-csk": Scheme(
        option="A",
        session="csk",
        padding=2,
        arpc_methods=(1,),
        script_session="csk",
        script_transaction=True,
        encryption="mchip",
        pin_block="iso2",
    ),
    "interac-cvn133": Scheme(
        option="A",
        session="mchip",
        padding=2,
        arpc_methods=(1,),
        script_session="csk",
        script_transaction=False,
        encryption="mchip",
        pin_block="iso2",
    ),
    # The standard's recommendation without a scheme's additions. Option B is option A up to 16 digits of PAN.
    "emv-csk": Scheme(
        option="B",
        session="csk",
        padding=2,
        arpc_methods=(1, 2),
        script_session="csk",
        script_transaction=False,
        encryption="emv",
        pin_block="iso2",
    ),
}


class ChipData(msgspec.Struct, frozen=True):
    """The input of key derivation: `pan` 12–19 digits, `psn` 2 digits, `atc` 2 bytes, `unpredictable` 4 bytes where the
    scheme takes it.

    Raises:
        ValueError: a field of another shape.
    """

    pan: str
    psn: str
    atc: bytes
    unpredictable: bytes = b""

    def __post_init__(self) -> None:
        if len(self.atc) != 2:
            raise ValueError("a transaction counter has 2 bytes")
        if len(self.unpredictable) not in (0, 4):
            raise ValueError("an unpredictable number has 4 bytes")

    def __repr__(self) -> str:
        return "ChipData(…)"


class CryptogramKeys(msgspec.Struct, frozen=True):
    """The keys of one transaction: of the card's cryptogram and of the issuer's answer."""

    cryptogram: TdesKey
    arpc: TdesKey


def scheme_named(name: str) -> Scheme:
    """Return the scheme, or raise ValueError."""
    if name not in SCHEMES:
        raise ValueError(f"the schemes are {', '.join(SCHEMES)}")
    return SCHEMES[name]


@contextmanager
def cryptogram_keys(scheme: Scheme, imk: TdesKey, chip: ChipData) -> Iterator[CryptogramKeys]:
    """Yield the keys of a transaction under an IMK-AC, gone after the block.

    Raises:
        ValueError: the scheme takes the unpredictable number and there is none, or PAN or PSN have another shape.
    """
    if scheme.takes_unpredictable and not chip.unpredictable:
        raise ValueError("this scheme takes the unpredictable number, 4 bytes")
    with card_key(imk, chip.pan, chip.psn, scheme.option) as card:
        if scheme.session == "none":
            yield CryptogramKeys(card, card)
            return
        tail = bytes(2) + chip.unpredictable if scheme.takes_unpredictable else bytes(6)
        with session_key(card, chip.atc + tail) as session:
            yield CryptogramKeys(session, card if scheme.arpc_key == "card" else session)


@contextmanager
def script_key(scheme: Scheme, imk: TdesKey, chip: ChipData, cryptogram: bytes) -> Iterator[TdesKey]:
    """Yield the session key of a script under an IMK-SMI or IMK-SMC, gone after the block.

    Args:
        cryptogram: 8 bytes, see `hsm.card_commands.ProtectScript`.
    Raises:
        ValueError: a field of another shape.
    """
    if scheme.script_session == "masked":
        with masked_card_key(imk, chip.pan, chip.psn, scheme.option, chip.atc) as key:
            yield key
        return
    with card_key(imk, chip.pan, chip.psn, scheme.option) as card, session_key(card, cryptogram) as key:
        yield key
