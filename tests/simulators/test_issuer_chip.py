"""Chip data and card values at the issuer, against cards that somebody else's code has personalised."""

from __future__ import annotations

import inspect
from typing import Any

import psec.cvv
import pyemv
import pytest

from messages.message import Message
from simulators.issuer.chip import IAD_PART, read_tags, write_tags
from tests.simulators.samples import CHIP_TAGS, CVK, IMK, PAN, answer, chip_data, issuer, request, told

# The oracles call TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*TripleDES"),
]

CARDS: dict[str, Any] = {
    "visa-cvn10": pyemv.cvn.VisaCVN10,
    "visa-cvn18": pyemv.cvn.VisaCVN18,
    "visa-cvn22": pyemv.cvn.VisaCVN22,
    "mchip": pyemv.cvn.MasterCardCVN16,
    "mchip-csk": pyemv.cvn.MasterCardCVN20,
    "interac-cvn133": pyemv.cvn.InteracCVN133,
}
SCHEME = pytest.mark.parametrize("scheme", sorted(CARDS))
# Which part of the issuer application data is the card verification results.
RESULTS = {"visa-cvn10": slice(3, 7), "mchip": slice(2, 8), "mchip-csk": slice(2, 8)}


class Card:
    """A card of pyemv's."""

    def __init__(self, scheme: str, pan: str = PAN, psn: str = "00", imk: bytes = IMK) -> None:
        self._card = CARDS[scheme](imk, imk, imk, pan, psn)
        self._results = RESULTS.get(scheme, slice(0))

    def icc_data(self, **changes: str) -> str:
        tags = {**CHIP_TAGS, **{name[1:]: value for name, value in changes.items()}}
        given = {f"tag_{tag.lower()}": bytes.fromhex(value) for tag, value in tags.items()}
        cryptogram = self._call("generate_ac", {**given, "cvr": bytes.fromhex(tags["9F10"])[self._results]})
        return write_tags({"9F26": cryptogram, **{tag: bytes.fromhex(value) for tag, value in tags.items()}})

    def accepts(self, icc_data: str, issuer_data: bytes) -> bool:
        """Whether this is the issuer's answer to the cryptogram that was sent."""
        tags = read_tags(bytes.fromhex(icc_data))
        given = {f"tag_{tag.lower()}": value for tag, value in tags.items()}
        size = 4 if "csu" in inspect.signature(self._card.generate_arpc).parameters else 8
        expected = self._call("generate_arpc", {**given, "arpc_rc": issuer_data[size:], "csu": issuer_data[size:]})
        return expected == issuer_data[:size]

    def _call(self, method: str, given: dict[str, bytes]) -> bytes:
        function = getattr(self._card, method)
        result: bytes = function(
            **{name: given[name] for name in inspect.signature(function).parameters if name in given}
        )
        return result


def chip_request(stan: int, icc_data: str, **changes: str) -> Message:
    return request(stan, 1000, "0100", e55=icc_data, **changes)


@SCHEME
def test_a_cryptogram_is_verified_and_answered_with_one_that_the_card_accepts(scheme: str) -> None:
    card = Card(scheme)
    core = issuer(imk=IMK, chip_scheme=scheme)
    icc_data = card.icc_data()
    given = answer(core, chip_request(1, icc_data))
    assert given[39] == "00"
    [(tag, value)] = read_tags(bytes.fromhex(given[55])).items()
    assert tag == "91"
    assert card.accepts(icc_data, value)
    assert not card.accepts(icc_data, bytes([value[0] ^ 1]) + value[1:])


@SCHEME
def test_a_decline_is_answered_with_another_cryptogram(scheme: str) -> None:
    card = Card(scheme)
    core = issuer(imk=IMK, chip_scheme=scheme)
    icc_data = card.icc_data()
    given = answer(core, chip_request(1, icc_data, e4="000000999999"))
    assert given[39] == "51"
    assert card.accepts(icc_data, read_tags(bytes.fromhex(given[55]))["91"])
    assert given[55] != answer(issuer(imk=IMK, chip_scheme=scheme), chip_request(1, icc_data))[55]


@SCHEME
@pytest.mark.parametrize("other", ["9F02", "9F36", "9F10", "9F37"])
def test_a_cryptogram_over_other_data_is_wrong(scheme: str, other: str) -> None:
    tags = read_tags(bytes.fromhex(Card(scheme).icc_data()))
    tags[other] = bytes([tags[other][0]]) + bytes([byte ^ 1 for byte in tags[other][1:]])
    core = issuer(imk=IMK, chip_scheme=scheme)
    assert told(core, chip_request(1, write_tags(tags))) == "82"
    assert core.stats["cryptogram wrong"] == 1


def test_the_common_session_key_of_emv_itself() -> None:
    """Scheme emv-csk: no card of pyemv's has it, its steps do."""
    key = pyemv.kd.derive_icc_mk_a(IMK, PAN, "00")  # option B is option A up to 16 digits
    session = pyemv.kd.derive_common_sk(key, bytes.fromhex(CHIP_TAGS["9F36"]) + bytes(6))
    names = ("9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", "9F37", "82", "9F36")
    data = b"".join(bytes.fromhex(CHIP_TAGS[name]) for name in names) + bytes.fromhex(CHIP_TAGS["9F10"])
    cryptogram = pyemv.ac.generate_ac(session, data, pyemv.ac.PaddingType.EMV)
    assert IAD_PART["emv-csk"] == slice(None)
    assert read_tags(bytes.fromhex(chip_data()))["9F26"] == cryptogram
    given = answer(issuer(imk=IMK), chip_request(1, chip_data()))
    assert bytes.fromhex(given[55])[2:] == pyemv.ac.generate_arpc_1(session, cryptogram, b"00") + b"00"


def test_a_card_of_another_issuer_or_number_is_wrong() -> None:
    for card in (
        Card("visa-cvn18", imk=bytes(range(16))),
        Card("visa-cvn18", psn="01"),
        Card("visa-cvn18", "4111" * 4),
    ):
        core = issuer(imk=IMK, chip_scheme="visa-cvn18")
        assert told(core, chip_request(1, card.icc_data())) == "82"


def test_the_card_sequence_number_of_the_message_counts_more_than_the_accounts() -> None:
    card = Card("visa-cvn18", psn="03")
    core = issuer(imk=IMK, chip_scheme="visa-cvn18")
    assert told(core, chip_request(1, "5F340103" + card.icc_data())) == "00"


def test_a_transaction_counter_goes_up_only() -> None:
    core = issuer(imk=IMK)
    assert told(core, chip_request(1, chip_data())) == "00"
    assert told(core, chip_request(1, chip_data())) == "00"  # a repeat is answered from the book
    assert told(core, chip_request(2, chip_data())) == "05"
    assert told(core, chip_request(3, chip_data(t9F36="001B"))) == "05"
    assert told(core, chip_request(4, chip_data(t9F36="001D"))) == "00"


@pytest.mark.parametrize("icc_data", ["9F26", "9F2608AABB", "00" * 300, "9F3602001C", "xyz"])
def test_chip_data_that_cannot_be_read_is_declined(icc_data: str) -> None:
    core = issuer(imk=IMK)
    assert 55 not in answer(core, chip_request(1, icc_data))
    assert told(core, chip_request(1, icc_data)) == "82"
    assert core.stats["cryptogram unreadable"] == 1


def test_tags_are_read_as_ber_has_them() -> None:
    long = bytes(200)
    data = bytes.fromhex("9F2601AA" + "DF8101" + "02BBCC" + "5A81C8") + long + bytes.fromhex("9F2601BB")
    assert read_tags(data) == {"9F26": b"\xaa", "DF8101": b"\xbb\xcc", "5A": long}
    with pytest.raises(ValueError, match="too many"):
        read_tags(b"".join(bytes.fromhex(f"DF{number:02X}00") for number in range(101)))


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({14: "3012", 48: "9203{cvv2}"}, "00"),
        ({14: "3012", 48: "T9203{cvv2}"}, "00"),
        ({14: "3012", 48: "T6103000" + "9203{cvv2}"}, "00"),
        ({14: "3011", 48: "9203{cvv2}"}, "82"),
        ({14: "3012", 48: "9203{cvv}"}, "82"),
        ({48: "9203{cvv2}"}, "82"),  # no expiry to compute it over
        ({35: "{pan}=3012201" + "1" + "0000" + "{cvv}"}, "00"),
        ({35: "{pan}D3012201" + "1" + "0000" + "{cvv}"}, "00"),
        ({35: "{pan}=3012201" + "1" + "0000" + "{cvv2}"}, "82"),
        ({35: "{pan}=3012201" + "1" + "0000" + "{icvv}"}, "82"),  # chip data on a stripe
        ({35: "{pan}=3012101" + "1" + "0000" + "{cvv}"}, "82"),  # somebody has changed the service code
        ({35: "{pan}=3012201"}, "00"),  # too short to have one
        ({35: "{pan}=3012201" + "1" + "0000" + "{icvv}", 55: "{chip}"}, "00"),
        ({35: "{pan}=3012201" + "1" + "0000" + "{cvv}", 55: "{chip}"}, "82"),
    ],
)
def test_card_values_are_verified(elements: dict[int, str], code: str) -> None:
    made = {
        name: psec.cvv.generate_cvv(CVK, PAN, "3012", service)
        for name, service in (("cvv", "201"), ("cvv2", "000"), ("icvv", "999"))
    }
    values = {number: text.format(pan=PAN, chip=chip_data(), **made) for number, text in elements.items()}
    core = issuer(cvk=CVK, imk=IMK)
    message = request(1)
    message.elements.update(values)
    if 35 in values:
        del message.elements[2]
    assert told(core, message) == code
