"""The commands on EMV cryptograms and issuer scripts, over clear keys and over the same keys in a token."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyemv
import pytest

from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.emv_schemes import SCHEMES
from hsm.algorithms.pinblock import encrypt_pin_block
from hsm.algorithms.primitives import TdesKey
from hsm.card_commands import Chip, PinBlock, ProtectedScript, ProtectScript, VerifiedCryptogram, VerifyCryptogram
from hsm.commands import HsmRefused
from hsm.cryptograms import cryptogram_handlers
from hsm.keys.attributes import ROLES
from hsm.keys.permissions import Operation
from tests.hsm.card_keys import KnownKeyring, key_maker

# pyemv calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

IMK_AC = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
OLD_IMK_AC = bytes.fromhex("A1B2C3D4E5F60718293A4B5C6D7E8F90")
IMK_SMI = bytes.fromhex("1122334455667788990011AABBCCDDEE")
IMK_SMC = bytes.fromhex("0F1E2D3C4B5A69788796A5B4C3D2E1F0")
ZPK = bytes.fromhex("404142434445464748494A4B4C4D4E4F5051525354555657")
PAN, LONG_PAN = "4242424242424242", "4242424242424242426"
ATC, ARQC = bytes.fromhex("001C"), bytes.fromhex("1234567890ABCDEF")
# Arguments that pyemv takes by name: the data elements of the recommendation in EMV Book 2, table 26, and the answer's.
ELEMENTS = {
    "tag_9f02": "000000010000",
    "tag_9f03": "000000001000",
    "tag_9f1a": "0840",
    "tag_95": "8000048000",
    "tag_5f2a": "0840",
    "tag_9a": "991231",
    "tag_9c": "01",
    "tag_9f37": "52BF4585",
    "tag_82": "1800",
    "tag_9f36": ATC.hex(),
    "tag_9f10": "06011203A0B800",
    "cvr": "03A0B801",  # no zeros at the end: padding method 1 would not see them go
    "tag_9f26": ARQC.hex(),
    "arpc_rc": "3030",
    "csu": "00820000",
    "proprietary_auth_data": "0102030405",
    "command_header": "8424000008",
    "command_data": "",
}
ORACLES = {
    "visa-cvn10": pyemv.cvn.VisaCVN10,
    "visa-cvn18": pyemv.cvn.VisaCVN18,
    "visa-cvn22": pyemv.cvn.VisaCVN22,
    "mchip": pyemv.cvn.MasterCardCVN16,
    "mchip-csk": pyemv.cvn.MasterCardCVN20,
    "interac-cvn133": pyemv.cvn.InteracCVN133,
}
SCHEME = pytest.mark.parametrize("scheme", sorted(ORACLES))


class Oracle:
    """pyemv's idea of a card of a scheme."""

    def __init__(self, scheme: str, pan: str = PAN, psn: str = "01", imk_ac: bytes = IMK_AC) -> None:
        self._card = ORACLES[scheme](imk_ac, IMK_SMI, IMK_SMC, pan, psn)

    def call(self, method: str, **given: bytes) -> bytes:
        """Call a method with those elements that it takes."""
        function = getattr(self._card, method)
        known = {name: bytes.fromhex(text) for name, text in ELEMENTS.items()} | given
        result: bytes = function(**{name: known[name] for name in inspect.signature(function).parameters})
        return result

    def cryptogram_data(self) -> bytes:
        return b"".join(bytes.fromhex(ELEMENTS[name]) for name in inspect.signature(self._card.generate_ac).parameters)

    def pin_change(self, pin: str, current: str = "") -> bytes:
        known: dict[str, Any] = {"pin": pin, "tag_9f26": ARQC, "tag_9f36": ATC, "current_pin": current or None}
        function = self._card.generate_pin_change_command
        result: bytes = function(**{name: known[name] for name in inspect.signature(function).parameters})
        return result


class Commands:
    """The handlers under test."""

    def __init__(self, make_key: Callable[[bytes], TdesKey]) -> None:
        values = {"imk-ac": [IMK_AC, OLD_IMK_AC], "imk-smi": [IMK_SMI], "imk-smc": [IMK_SMC], "pin": [ZPK]} | {
            role: [IMK_AC]
            for role in ROLES
            if "TDES" in ROLES[role].algorithms and role not in ("imk-ac", "imk-smi", "imk-smc", "pin")
        }
        keys = {role: (role, [make_key(value) for value in versions]) for role, versions in values.items()}
        self.keyring = KnownKeyring(keys)
        self._handlers = cryptogram_handlers(self.keyring)

    def verify(self, request: VerifyCryptogram, pan: str = PAN) -> VerifiedCryptogram:
        answer = self._handlers[VerifyCryptogram](request, pan)
        assert isinstance(answer, VerifiedCryptogram)
        return answer

    def protect(self, request: ProtectScript, pan: str = PAN) -> ProtectedScript:
        answer = self._handlers[ProtectScript](request, pan)
        assert isinstance(answer, ProtectedScript)
        return answer


@pytest.fixture(scope="module", params=["memory", "token"])
def commands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with key_maker(request.param, tmp_path_factory.mktemp("cryptograms")) as make_key:
        yield Commands(make_key)


def chip(scheme: str, psn: str = "01") -> Chip:
    return Chip(scheme=scheme, psn=psn, atc=ATC, unpredictable=bytes.fromhex(ELEMENTS["tag_9f37"]))


def verification(scheme: str, **changes: Any) -> VerifyCryptogram:
    """Return a request that verifies, of a card of a scheme."""
    oracle = Oracle(scheme)
    request = VerifyCryptogram(
        key="imk-ac", chip=chip(scheme), data=oracle.cryptogram_data(), cryptogram=oracle.call("generate_ac")
    )
    return msgspec.structs.replace(request, **changes)


def script(scheme: str, **changes: Any) -> ProtectScript:
    request = ProtectScript(
        mac_key="imk-smi", chip=chip(scheme), cryptogram=ARQC, command=bytes.fromhex(ELEMENTS["command_header"])
    )
    return msgspec.structs.replace(request, **changes)


def pin_block(pin: str, pan: str = PAN) -> PinBlock:
    return PinBlock(block=encrypt_pin_block(pin, pan, ZPK), key="pin")


def refusal(work: Callable[[], object]) -> HsmRefused:
    with pytest.raises(HsmRefused) as caught:
        work()
    assert PAN not in caught.value.detail
    return caught.value


@SCHEME
@pytest.mark.parametrize("pan", [PAN, LONG_PAN, "5555555555554444"])
def test_cryptograms_of_pyemv_verify(commands: Commands, scheme: str, pan: str) -> None:
    cryptogram = Oracle(scheme, pan).call("generate_ac")
    answer = commands.verify(verification(scheme, cryptogram=cryptogram), pan)
    assert answer == VerifiedCryptogram(verified=True, arpc=b"")


@SCHEME
def test_arpcs_are_those_of_pyemv(commands: Commands, scheme: str) -> None:
    request = verification(scheme)
    answers = {
        1: {"arc": b"00"},
        2: {"csu": bytes.fromhex(ELEMENTS["csu"]), "proprietary": bytes.fromhex(ELEMENTS["proprietary_auth_data"])},
    }
    for method, given in answers.items():
        wanted = msgspec.structs.replace(request, **given)
        if method in SCHEMES[scheme].arpc_methods:
            expected = Oracle(scheme).call("generate_arpc", tag_9f26=request.cryptogram)
            assert commands.verify(wanted).arpc == expected
            assert len(expected) == (8 if method == 1 else 4)
        else:
            refused = refusal(lambda wanted=wanted: commands.verify(wanted))
            assert (refused.code, f"no ARPC method {method}" in refused.detail) == ("malformed", True)


def test_emv_alone_has_both_arpc_methods(commands: Commands) -> None:
    # EMV's session keys with option B: the computations of Visa CVN 22, whose card pyemv knows.
    card = Oracle("visa-cvn22", LONG_PAN)
    request = verification("visa-cvn22", chip=chip("emv-csk"), cryptogram=card.call("generate_ac"))
    csu = bytes.fromhex(ELEMENTS["csu"])
    answer = commands.verify(msgspec.structs.replace(request, csu=csu), LONG_PAN)
    assert answer.arpc == card.call("generate_arpc", tag_9f26=request.cryptogram, proprietary_auth_data=b"")
    master = pyemv.kd.derive_icc_mk_b(IMK_AC, LONG_PAN, "01")
    session = pyemv.kd.derive_common_sk(master, ATC + bytes(6))
    answer = commands.verify(msgspec.structs.replace(request, arc=b"00"), LONG_PAN)
    assert answer.arpc == pyemv.ac.generate_arpc_1(session, request.cryptogram, b"00")


@SCHEME
def test_whatever_is_altered_is_noticed(commands: Commands, scheme: str) -> None:
    right = verification(scheme, arc=b"00") if 1 in SCHEMES[scheme].arpc_methods else verification(scheme, csu=bytes(4))
    assert commands.verify(right).verified and commands.verify(right).arpc
    for place in (0, 31, 63):
        flipped = (int.from_bytes(right.cryptogram, "big") ^ 1 << place).to_bytes(8, "big")
        assert commands.verify(msgspec.structs.replace(right, cryptogram=flipped)) == VerifiedCryptogram(verified=False)
    for data in (right.data[:-1], right.data + b"\1", bytes([right.data[0] ^ 1]) + right.data[1:]):
        assert not commands.verify(msgspec.structs.replace(right, data=data)).verified
    assert not commands.verify(right, "4242424242424259").verified
    assert not commands.verify(msgspec.structs.replace(right, chip=chip(scheme, "02"))).verified
    other = msgspec.structs.replace(right.chip, atc=b"\0\x1d")
    # Without session keys the counter is in the data only.
    expected = SCHEMES[scheme].session == "none"
    assert commands.verify(msgspec.structs.replace(right, chip=other)).verified == expected


def test_the_unpredictable_number_enters_where_the_scheme_says(commands: Commands) -> None:
    for scheme in ORACLES:
        right = verification(scheme)
        other = msgspec.structs.replace(right.chip, unpredictable=b"\1\2\3\4")
        expected = not SCHEMES[scheme].takes_unpredictable
        assert commands.verify(msgspec.structs.replace(right, chip=other)).verified == expected


def test_the_version_before_still_verifies(commands: Commands) -> None:
    card = Oracle("mchip", imk_ac=OLD_IMK_AC)
    request = verification("mchip", cryptogram=card.call("generate_ac"), arc=b"00")
    answer = commands.verify(request)
    assert answer.arpc == card.call("generate_arpc", tag_9f26=request.cryptogram)
    stranger = Oracle("mchip", imk_ac=IMK_SMC).call("generate_ac")
    assert not commands.verify(msgspec.structs.replace(request, cryptogram=stranger)).verified


def test_cryptograms_are_compared_in_constant_time(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(other) or one == other)
    request = verification("mchip-csk")
    assert commands.verify(request).verified
    assert compared == [request.cryptogram]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cryptogram": b""}, "8 bytes"),
        ({"cryptogram": bytes(7)}, "8 bytes"),
        ({"cryptogram": bytes(9)}, "8 bytes"),
        ({"data": b""}, "1 to 1024"),
        ({"data": bytes(1025)}, "1 to 1024"),
        ({"arc": b"1"}, "2 bytes"),
        ({"arc": b"123"}, "2 bytes"),
        ({"csu": bytes(3)}, "4 bytes"),
        ({"arc": b"00", "csu": bytes(4)}, "not both"),
        ({"proprietary": b"1"}, "goes with a card status update"),
        ({"csu": bytes(4), "proprietary": bytes(9)}, "0 to 8"),
        ({"chip": Chip(scheme="visa-cvn99", atc=ATC)}, "the schemes are"),
        ({"chip": Chip(scheme="emv-csk", atc=b"1")}, "2 bytes"),
        ({"chip": Chip(scheme="emv-csk", atc=b"123")}, "2 bytes"),
        ({"chip": Chip(scheme="emv-csk", atc=ATC, psn="1")}, "2 digits"),
        ({"chip": Chip(scheme="emv-csk", atc=ATC, unpredictable=b"123")}, "4 bytes"),
        ({"chip": Chip(scheme="mchip", atc=ATC)}, "takes the unpredictable number"),
    ],
)
def test_verification_fields_of_another_shape(commands: Commands, changes: dict[str, Any], reason: str) -> None:
    request = msgspec.structs.replace(verification("visa-cvn22"), **({"chip": chip("emv-csk")} | changes))
    refused = refusal(lambda: commands.verify(request))
    assert refused.code == "malformed" and reason in refused.detail


def test_keys_of_another_usage_are_refused(commands: Commands) -> None:
    roles = [role for role in ROLES if "TDES" in ROLES[role].algorithms]
    roles += [f"{role}-aes" for role in ("imk-ac", "imk-smi", "imk-smc", "pin")]
    confidential = {"encryption_key": "imk-smc", "confidential": b"12345678"}
    visa_pin = {"encryption_key": "imk-smc", "pin": pin_block("1234"), "ac_key": "imk-ac"}
    for role in [*roles, "none", ""]:
        code = "key_usage" if role in roles else "key_unknown"
        if role != "imk-ac":
            assert refusal(lambda: commands.verify(verification("mchip", key=role))).code == code  # noqa: B023
            if role:
                wanted = script("visa-cvn10", **(visa_pin | {"ac_key": role}))
                assert refusal(lambda: commands.protect(wanted)).code == code  # noqa: B023
        if role != "imk-smi":
            assert refusal(lambda: commands.protect(script("mchip", mac_key=role))).code == code  # noqa: B023
        if role and role != "imk-smc":
            wanted = script("mchip", **(confidential | {"encryption_key": role}))
            assert refusal(lambda: commands.protect(wanted)).code == code  # noqa: B023
        if role not in ("pin", "bdk"):
            pin = msgspec.structs.replace(pin_block("1234"), key=role)
            wanted = script("mchip", encryption_key="imk-smc", pin=pin)
            assert refusal(lambda: commands.protect(wanted)).code == code  # noqa: B023


def test_keys_are_asked_for_what_is_done(commands: Commands) -> None:
    commands.keyring.used.clear()
    commands.verify(verification("visa-cvn18"))
    commands.protect(script("visa-cvn18", encryption_key="imk-smc", pin=pin_block("1234"), ac_key="imk-ac"))
    assert commands.keyring.used == [
        ("imk-ac", Operation.CRYPTOGRAM),
        ("imk-smi", Operation.SCRIPT_INTEGRITY),
        ("imk-smc", Operation.SCRIPT_CONFIDENTIALITY),
        ("imk-ac", Operation.CRYPTOGRAM),
        ("pin", Operation.PIN_DECRYPT),
    ]


@SCHEME
@pytest.mark.parametrize("pan", [PAN, LONG_PAN])
def test_script_macs_are_those_of_pyemv(commands: Commands, scheme: str, pan: str) -> None:
    expected = Oracle(scheme, pan).call("generate_command_mac")
    for length in range(4, 9):
        answer = commands.protect(script(scheme, mac_length=length), pan)
        assert answer == ProtectedScript(data=b"", mac=expected[:length])


@SCHEME
@pytest.mark.parametrize("clear", [b"\x9f\x14", b"12345678", bytes(range(100))])
def test_script_encryption_is_that_of_pyemv(commands: Commands, scheme: str, clear: bytes) -> None:
    card = Oracle(scheme)
    expected = card.call("encrypt_command_data", command_data=clear)
    answer = commands.protect(script(scheme, encryption_key="imk-smc", confidential=clear))
    assert answer.data == expected
    assert answer.mac == card.call("generate_command_mac", command_data=expected)


@SCHEME
@pytest.mark.parametrize("pin", ["1234", "987654321098"])
def test_pin_changes_are_those_of_pyemv(commands: Commands, scheme: str, pin: str) -> None:
    for current in ("", "4321"):
        form = SCHEMES[scheme].pin_block_with_current if current else SCHEMES[scheme].pin_block
        if not form:
            continue
        expected = Oracle(scheme).pin_change(pin, current)
        request = script(
            scheme,
            command=expected[:5],
            encryption_key="imk-smc",
            pin=pin_block(pin),
            current_pin=pin_block(current) if current else None,
            ac_key="imk-ac" if form == "visa" else "",
        )
        answer = commands.protect(request)
        assert expected[:5] + answer.data + answer.mac == expected


def test_emv_scripts_are_put_together_as_the_standard_says(commands: Commands) -> None:
    # Source: EMV 4.3 Book 2, 9.2 and 9.3, format 2 without a scheme's additions.
    keys = {}
    for name, master in (("mac", IMK_SMI), ("encryption", IMK_SMC)):
        card = pyemv.kd.derive_icc_mk_b(master, PAN, "01")
        keys[name] = pyemv.kd.derive_common_sk(card, ARQC)
    block = pyemv.sm.format_iso9564_2_pin_block("1234")
    data = pyemv.sm.encrypt_command_data(keys["encryption"], block, pyemv.sm.EncryptionType.EMV)
    header = bytes.fromhex("8424000218")
    request = script("emv-csk", command=header, encryption_key="imk-smc", pin=pin_block("1234"))
    mac = pyemv.sm.generate_command_mac(keys["mac"], header + data)
    assert commands.protect(request) == ProtectedScript(data=data, mac=mac)


@pytest.mark.parametrize(
    ("scheme", "changes", "reason"),
    [
        ("mchip", {"command": bytes(4)}, "5 bytes"),
        ("mchip", {"command": bytes(256)}, "5 bytes"),
        ("mchip", {"cryptogram": b""}, "8 bytes"),
        ("visa-cvn10", {"cryptogram": bytes(7)}, "8 bytes"),
        ("mchip", {"mac_length": 3}, "4 to 8"),
        ("mchip", {"mac_length": 9}, "4 to 8"),
        ("mchip", {"mac_length": -1}, "4 to 8"),
        ("mchip", {"encryption_key": "imk-smc"}, "goes with"),
        ("mchip", {"confidential": b"1"}, "goes with"),
        ("mchip", {"pin": pin_block("1234")}, "goes with"),
        ("mchip", {"encryption_key": "imk-smc", "confidential": bytes(241)}, "1 to 240"),
        ("mchip", {"encryption_key": "imk-smc", "confidential": b"1", "pin": pin_block("1234")}, "not both"),
        ("mchip", {"current_pin": pin_block("1234")}, "go with a new PIN"),
        ("mchip", {"ac_key": "imk-ac"}, "go with a new PIN"),
        ("mchip", {"encryption_key": "imk-smc", "pin": pin_block("1234"), "ac_key": "imk-ac"}, "only with them"),
        ("visa-cvn10", {"encryption_key": "imk-smc", "pin": pin_block("1234")}, "cryptogram key"),
        (
            "mchip",
            {"encryption_key": "imk-smc", "pin": pin_block("1234"), "current_pin": pin_block("4321")},
            "no current PIN",
        ),
        ("nobody", {}, "the schemes are"),
    ],
)
def test_script_fields_of_another_shape(commands: Commands, scheme: str, changes: dict[str, Any], reason: str) -> None:
    refused = refusal(lambda: commands.protect(script(scheme, **changes)))
    assert refused.code == "malformed" and reason in refused.detail


def test_a_pin_comes_in_a_block_of_this_card(commands: Commands) -> None:
    def code(block: PinBlock) -> str:
        return refusal(lambda: commands.protect(script("mchip", encryption_key="imk-smc", pin=block))).code

    right = pin_block("1234")
    assert code(pin_block("1234", "5555555555554444")) == "pin_block_invalid"
    assert code(msgspec.structs.replace(right, block=bytes(8))) == "pin_block_invalid"
    assert code(msgspec.structs.replace(right, block=right.block[:7])) == "pin_block_invalid"
    assert code(msgspec.structs.replace(right, format=9)) == "malformed"
    # A format 1 block says nothing of a card: its PIN would become that of any.
    unbound = ClearTdesKey(ZPK).encrypt(bytes.fromhex("141234AAAAAAAAAA"))
    assert code(PinBlock(block=unbound, key="pin", format=1)) == "pin_translation_forbidden"


@pytest.mark.parametrize("pan", ["", "4" * 11, "4" * 20, "42424242424242x2"])
def test_pans_that_are_none(commands: Commands, pan: str) -> None:
    assert refusal(lambda: commands.verify(verification("mchip"), pan)).code == "pan_invalid"
    assert refusal(lambda: commands.protect(script("mchip"), pan)).code == "pan_invalid"


def test_every_scheme_is_tested_here() -> None:
    assert set(ORACLES) | {"emv-csk"} == set(SCHEMES)
    assert "123" not in repr(script("mchip")) + repr(verification("mchip")) + repr(
        ProtectedScript(data=b"123", mac=b"")
    )
