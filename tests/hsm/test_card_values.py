"""The commands on card verification values, over clear keys and over the same keys in a token."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import psec
import pytest

from hsm.algorithms.primitives import TdesKey
from hsm.card_commands import CardValue, GenerateCardValue, Verified, VerifyCardValue
from hsm.card_values import NEEDED, card_value_handlers
from hsm.commands import HsmRefused
from hsm.keys.attributes import ROLES
from hsm.keys.permissions import Operation
from tests.hsm.card_keys import KnownKeyring, key_maker

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

CVK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
OLD_CVK = bytes.fromhex("A1B2C3D4E5F60718293A4B5C6D7E8F90")
IMK_DCVV = bytes.fromhex("2315208C9110AD402315208C9110AD40")
PAN = "4123456789012345"
KINDS = {
    "cvv": CardValue(kind="cvv", key="cvk", expiry="8701", service_code="101"),
    "cvv2": CardValue(kind="cvv2", key="cvk", expiry="8701"),
    "icvv": CardValue(kind="icvv", key="cvk", expiry="8701"),
    "dcvv": CardValue(kind="dcvv", key="imk-dcvv", expiry="8701", service_code="201", atc="0001"),
    "cavv": CardValue(kind="cavv", key="cvk", atn="7993", result_code="700"),
}


class Commands:
    """The handlers under test."""

    def __init__(self, make_key: Callable[[bytes], TdesKey]) -> None:
        roles = {"cvk": [CVK, OLD_CVK], "imk-dcvv": [IMK_DCVV]} | {
            role: [CVK] for role in ROLES if role not in ("cvk", "imk-dcvv") and "TDES" in ROLES[role].algorithms
        }
        self.keyring = KnownKeyring(
            {role: (role, [make_key(value) for value in values]) for role, values in roles.items()}
        )
        self._handlers = card_value_handlers(self.keyring)

    def answer(self, request: Any, pan: str = PAN) -> Any:
        return self._handlers[type(request)](request, pan)

    def generate(self, wanted: CardValue, pan: str = PAN) -> str:
        value: str = self.answer(GenerateCardValue(card_value=wanted), pan).value
        return value

    def verify(self, wanted: CardValue, value: str, pan: str = PAN) -> bool:
        answer = self.answer(VerifyCardValue(card_value=wanted, value=value), pan)
        assert isinstance(answer, Verified)
        return answer.verified


@pytest.fixture(scope="module", params=["memory", "token"])
def commands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with key_maker(request.param, tmp_path_factory.mktemp("card-values")) as make_key:
        yield Commands(make_key)


def test_published_values(commands: Commands) -> None:
    # Sources: see tests/hsm/algorithms/test_card_value.py.
    assert commands.generate(KINDS["cvv"]) == "561"
    assert commands.generate(KINDS["cavv"]) == "972"
    dcvv = CardValue(kind="dcvv", key="imk-dcvv", expiry="1220", service_code="000", atc="0001")
    assert commands.generate(dcvv, "4761739001010010") == "802"


def test_static_kinds_are_those_of_psec(commands: Commands) -> None:
    for kind, code in (("cvv", "101"), ("cvv2", "000"), ("icvv", "999")):
        for pan in ("4242424242424242", "378282246310005", "6011000990139424000"):
            assert commands.generate(KINDS[kind], pan) == psec.cvv.generate_cvv(CVK, pan, "8701", code)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_value_verifies_and_no_other_does(commands: Commands, kind: str) -> None:
    value = commands.generate(KINDS[kind])
    assert commands.verify(KINDS[kind], value)
    for place in range(3):
        wrong = value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]
        assert not commands.verify(KINDS[kind], wrong)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("cvv", {"expiry": "8702"}),
        ("cvv", {"service_code": "201"}),
        ("dcvv", {"atc": "0002"}),
        ("dcvv", {"psn": "01"}),
        ("dcvv", {"service_code": "101"}),
        ("cavv", {"atn": "7994"}),
        ("cavv", {"result_code": "001"}),
    ],
)
def test_every_field_enters_the_value(commands: Commands, kind: str, changes: dict[str, str]) -> None:
    value = commands.generate(KINDS[kind])
    assert commands.generate(msgspec.structs.replace(KINDS[kind], **changes)) != value
    assert commands.generate(KINDS[kind], "4123456789012346") != value


def test_the_kinds_differ(commands: Commands) -> None:
    # A value of the stripe or the chip is no CVV2, and the other way round.
    values = {kind: commands.generate(KINDS[kind]) for kind in ("cvv", "cvv2", "icvv")}
    assert len(set(values.values())) == 3
    for kind, value in values.items():
        assert [other for other in values if commands.verify(KINDS[other], value)] == [kind]


def test_a_fixed_service_code_may_be_given(commands: Commands) -> None:
    for kind, code in (("cvv2", "000"), ("icvv", "999")):
        given = msgspec.structs.replace(KINDS[kind], service_code=code)
        assert commands.generate(given) == commands.generate(KINDS[kind])


def test_the_version_before_still_verifies_and_the_one_in_force_generates(commands: Commands) -> None:
    old = psec.cvv.generate_cvv(OLD_CVK, PAN, "8701", "101")
    assert commands.verify(KINDS["cvv"], old)
    assert commands.generate(KINDS["cvv"]) == psec.cvv.generate_cvv(CVK, PAN, "8701", "101") != old


def test_values_are_compared_in_constant_time(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(other) or one == other)
    assert commands.verify(KINDS["cvv"], "561")
    assert compared == [b"561"]


def test_keys_are_asked_for_what_is_done(commands: Commands) -> None:
    commands.keyring.used.clear()
    commands.generate(KINDS["cvv"])
    commands.verify(KINDS["cavv"], "123")
    commands.generate(KINDS["dcvv"])
    commands.verify(KINDS["dcvv"], "123")
    assert commands.keyring.used == [
        ("cvk", Operation.CARD_VALUE_GENERATE),
        ("cvk", Operation.CARD_VALUE_VERIFY),
        ("imk-dcvv", Operation.DYNAMIC_CARD_VALUE),
        ("imk-dcvv", Operation.DYNAMIC_CARD_VALUE),
    ]


def refusal(work: Callable[[], object]) -> HsmRefused:
    with pytest.raises(HsmRefused) as caught:
        work()
    assert PAN not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_keys_of_another_usage_are_refused(commands: Commands, kind: str) -> None:
    right = KINDS[kind].key
    for role, code in [(role, "key_usage") for role in ROLES if "TDES" in ROLES[role].algorithms and role != right] + [
        (f"{right}-aes", "key_usage"),
        ("none", "key_unknown"),
        ("", "key_unknown"),
    ]:
        wanted = msgspec.structs.replace(KINDS[kind], key=role)
        assert refusal(lambda wanted=wanted: commands.generate(wanted)).code == code
        assert refusal(lambda wanted=wanted: commands.verify(wanted, "123")).code == code


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("cvv", {"kind": "cvv3"}, "kinds of card values"),
        ("cvv", {"kind": ""}, "kinds of card values"),
        ("cvv", {"expiry": ""}, "needs expiry"),
        ("cvv", {"expiry": "301"}, "4 digits"),
        ("cvv", {"expiry": "30120"}, "4 digits"),
        ("cvv", {"expiry": "30/1"}, "4 digits"),
        ("cvv", {"service_code": ""}, "needs service_code"),
        ("cvv", {"service_code": "000"}, "not 000 or 999"),
        ("cvv", {"service_code": "999"}, "not 000 or 999"),
        ("cvv", {"service_code": "1O1"}, "3 digits"),
        ("cvv", {"atc": "0001"}, "takes no atc"),
        ("cvv", {"psn": "01"}, "takes no psn"),
        ("cvv2", {"service_code": "101"}, "is 000"),
        ("cvv2", {"atn": "7993"}, "takes no atn"),
        ("icvv", {"service_code": "000"}, "is 999"),
        ("icvv", {"expiry": ""}, "needs expiry"),
        ("dcvv", {"atc": ""}, "needs atc"),
        ("dcvv", {"atc": "12345"}, "4 digits"),
        ("dcvv", {"atc": "12.4"}, "4 digits"),
        ("dcvv", {"psn": "1"}, "2 digits"),
        ("dcvv", {"psn": ""}, "2 digits"),
        ("dcvv", {"service_code": "20"}, "3 digits"),
        ("dcvv", {"result_code": "700"}, "takes no result_code"),
        ("cavv", {"atn": ""}, "needs atn"),
        ("cavv", {"atn": "9602231034727993"}, "4 digits"),
        ("cavv", {"result_code": "7"}, "3 digits"),
        ("cavv", {"expiry": "3012"}, "takes no expiry"),
    ],
)
def test_fields_that_do_not_belong(commands: Commands, kind: str, changes: dict[str, str], reason: str) -> None:
    wanted = msgspec.structs.replace(KINDS[kind], **changes)
    for work in (lambda: commands.generate(wanted), lambda: commands.verify(wanted, "123")):
        refused = refusal(work)
        assert refused.code == "malformed" and reason in refused.detail


@pytest.mark.parametrize("value", ["", "12", "1234", "12a", "१२३"])
def test_values_of_another_shape(commands: Commands, value: str) -> None:
    assert refusal(lambda: commands.verify(KINDS["cvv"], value)).code == "malformed"


@pytest.mark.parametrize("pan", ["", "4" * 11, "4" * 20, "42424242424242x2"])
def test_pans_that_are_none(commands: Commands, pan: str) -> None:
    for kind in KINDS:
        assert refusal(lambda kind=kind: commands.generate(KINDS[kind], pan)).code == "pan_invalid"
        assert refusal(lambda kind=kind: commands.verify(KINDS[kind], "123", pan)).code == "pan_invalid"


def test_every_kind_is_tested_here() -> None:
    assert set(KINDS) == set(NEEDED)
    assert all("8701" not in repr(wanted) for wanted in KINDS.values())
