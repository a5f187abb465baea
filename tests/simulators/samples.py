"""Messages as the switch sends them to an issuer."""

from __future__ import annotations

from datetime import UTC, datetime

from messages.exchange import original_data
from messages.message import Message
from simulators.issuer import Issuer, Send
from simulators.issuer.accounts import AccountRule
from simulators.issuer.chip import Chip
from simulators.issuer.party import Party
from simulators.issuer.scenario import IssuerScenario

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PAN = "4242424242424242"
ZPK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
CVK = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
IMK = bytes.fromhex("A1B2C3D4E5F60718293A4B5C6D7E8F90")
# A terminal's part of DE 55 besides the cryptogram, and a transaction counter of 28.
CHIP_TAGS = {
    "9F02": "000000001000", "9F03": "000000000000", "9F1A": "0276", "95": "8000048000", "5F2A": "0978",
    "9A": "260304", "9C": "00", "9F37": "52BF4585", "82": "1800", "9F36": "001C", "9F10": "06011203A0B8010203",
}  # fmt: skip


def issuer(*, cvk: bytes = b"", imk: bytes = b"", **changes: object) -> Issuer:
    """`changes` of its scenario."""
    values: dict[str, object] = {
        "name": "alpha",
        "prefixes": ("4",),
        "default": AccountRule(balance_minor=10_000),
        "trace_element": 63,
    }
    return Issuer(IssuerScenario(**{**values, **changes}), ZPK, cvk=cvk, imk=imk)  # type: ignore[arg-type]


def chip_data(scheme: str = "emv-csk", pan: str = "", psn: str = "00", **changes: str) -> str:
    """DE 55 of a card under `IMK`; `changes`: t<tag>=hexadecimal."""
    tags = {**CHIP_TAGS, **{name[1:]: value for name, value in changes.items()}}
    return Chip(IMK, scheme).card_data({tag: bytes.fromhex(value) for tag, value in tags.items()}, pan or PAN, psn)


def request(stan: int, amount: int = 1000, mti: str = "0100", **changes: str) -> Message:
    """`changes`: e<number> replaces or adds an element, "" takes it away."""
    elements = {
        2: PAN,
        3: "000000",
        4: f"{amount:012d}",
        7: "0304050607",
        11: f"{stan:06d}",
        32: "10001",
        37: f"6063{stan:08d}",
        41: "TERM0001",
        42: "DEMOSHOP       ",
        49: "978",
        63: f"trace-{stan}",
    }
    for name, value in changes.items():
        elements[int(name[1:])] = value
    return Message(mti, {number: value for number, value in elements.items() if value})


def about(original: Message, stan: int, mti: str, amount: int | None = None, **changes: str) -> Message:
    """A capture or reversal of `original`."""
    data = original_data(original.mti, original.elements[11], original.elements[7], "10001")
    return request(stan, amount if amount is not None else int(original.elements[4]), mti, e90=data, **changes)


def answer(core: Party, message: Message) -> dict[int, str]:
    """Elements of the one answer."""
    [action] = core.receive(message, NOW)
    assert isinstance(action, Send)
    return action.message.elements


def told(core: Party, message: Message) -> str:
    """DE 39 of the one answer."""
    return answer(core, message)[39]


def standing(core: Party) -> list[tuple[int, int]]:
    return [(line.held_minor, line.posted_minor) for line in core.book()]
