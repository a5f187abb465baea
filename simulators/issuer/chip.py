"""Chip data at the issuer: DE 55 of a request in, whether its cryptogram is right and the issuer's answer out.

The issuer's checks ask; `simulators.acquirer.chip` makes the card's side of it for tests. The reader of tags is the
simulators' own: with the switch's, a mistake in it would be on both sides.

Source: EMV 4.3 Book 2, 8 (cryptograms), Book 3 annex B (tags); which data a card puts under its cryptogram: inferred
from pyemv's cvn module and the public card specifications it names.
"""

from __future__ import annotations

import hmac

import msgspec

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.emv_cryptograms import application_cryptogram, arpc_method_1, arpc_method_2
from hsm.algorithms.emv_schemes import ChipData, cryptogram_keys, scheme_named

MAX_TAGS = 100
ARQC, IAD, ATC, UNPREDICTABLE, SEQUENCE, ARPC = "9F26", "9F10", "9F36", "9F37", "5F34", "91"
# The input of the cryptogram in every scheme, in this order, before the scheme's own part of the issuer application
# data.
UNDER = ("9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", UNPREDICTABLE, "82", ATC)
# Which bytes of the issuer application data follow: all of it, or the card verification results in it.
IAD_PART: dict[str, slice] = {
    "visa-cvn10": slice(3, 7),
    "visa-cvn18": slice(None),
    "visa-cvn22": slice(None),
    "mchip": slice(2, 8),
    "mchip-csk": slice(2, 8),
    "interac-cvn133": slice(None),
    "emv-csk": slice(None),
}
APPROVED_CSU = bytes.fromhex("00820000")  # issuer approves; counters are reset
DECLINED_CSU = bytes.fromhex("00020000")


class Judged(msgspec.Struct, frozen=True):
    """The content of DE 55: `problem` is "" where the cryptogram is right; `atc` −1 where it cannot be read."""

    problem: str
    atc: int = -1


class Chip:
    """The issuer's master key for cryptograms, and the scheme of its cards.

    Args:
        imk: IMK-AC, TDES double length.
        scheme: one of `hsm.algorithms.emv_schemes.SCHEMES`.
    """

    def __init__(self, imk: bytes, scheme: str) -> None:
        self._imk = ClearTdesKey(imk)
        self._scheme = scheme_named(scheme)
        self._part = IAD_PART[scheme]

    def judge(self, de55: str, pan: str, psn: str) -> Judged:
        """Whether the cryptogram in DE 55 (hexadecimal) is this card's over the data beside it."""
        try:
            tags = read_tags(bytes.fromhex(de55))
            chip = self._chip(tags, pan, psn)
            expected = self._cryptogram(tags, chip)
            given = tags[ARQC]
        except (KeyError, ValueError):
            return Judged("unreadable")
        right = hmac.compare_digest(expected, given)
        return Judged("" if right else "wrong", int.from_bytes(chip.atc, "big"))

    def answer(self, de55: str, pan: str, psn: str, response_code: str) -> str:
        """DE 55 of the answer, hexadecimal: tag 91 with the ARPC; "" where the request's cannot be read."""
        try:
            tags = read_tags(bytes.fromhex(de55))
            with cryptogram_keys(self._scheme, self._imk, self._chip(tags, pan, psn)) as keys:
                if 1 in self._scheme.arpc_methods:
                    arc = response_code.encode("ascii")
                    data = arpc_method_1(keys.arpc, tags[ARQC], arc) + arc
                else:
                    csu = APPROVED_CSU if response_code in ("00", "10", "85") else DECLINED_CSU
                    data = arpc_method_2(keys.arpc, tags[ARQC], csu) + csu
        except (KeyError, ValueError):
            return ""
        return f"{ARPC}{len(data):02X}{data.hex().upper()}"

    def card_data(self, tags: dict[str, bytes], pan: str, psn: str) -> str:
        """DE 55 of a request as the card makes it: `tags` in their order, and the cryptogram over them."""
        cryptogram = self._cryptogram(tags, self._chip(tags, pan, psn))
        return write_tags({ARQC: cryptogram, **tags})

    def _chip(self, tags: dict[str, bytes], pan: str, psn: str) -> ChipData:
        sequence = tags[SEQUENCE].hex() if SEQUENCE in tags else psn
        unpredictable = tags.get(UNPREDICTABLE, b"") if self._scheme.takes_unpredictable else b""
        return ChipData(pan, sequence, tags[ATC], unpredictable)

    def _cryptogram(self, tags: dict[str, bytes], chip: ChipData) -> bytes:
        data = b"".join(tags[tag] for tag in UNDER) + tags[IAD][self._part]
        with cryptogram_keys(self._scheme, self._imk, chip) as keys:
            return application_cryptogram(keys.cryptogram, data, self._scheme.padding)


def read_tags(data: bytes) -> dict[str, bytes]:
    """Tag → value; of a repeated tag the first.

    Raises:
        ValueError: cut short, or more than 100 tags.
    Source: ISO/IEC 8825-1, 8.1.
    """
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        start = at
        if data[at] & 0x1F == 0x1F:
            at += 1
            while at < len(data) and data[at] & 0x80:
                at += 1
        at += 1
        if at >= len(data) or len(found) >= MAX_TAGS:
            raise ValueError("a tag is cut short, or there are too many")
        tag = data[start:at].hex().upper()
        size = data[at]
        at += 1
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + size > len(data):
            raise ValueError("a value is cut short")
        found.setdefault(tag, data[at : at + size])
        at += size
    return found


def write_tags(tags: dict[str, bytes]) -> str:
    """Tags with values of up to 127 bytes as hexadecimal."""
    return "".join(f"{tag}{len(value):02X}{value.hex().upper()}" for tag, value in tags.items())
