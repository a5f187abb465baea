"""The SoftHSM token and the key store: first start, later starts, and what may not happen to keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pkcs11 import Attribute
from pkcs11.exceptions import AttributeSensitive

from hsm.algorithms.pinblock import decrypt_pin_block, encrypt_pin_block
from hsm.card_commands import PinBlock
from hsm.commands import HsmRefused
from hsm.config import HsmConfig, KeyConfig
from hsm.errors import CiphertextError, ConfigurationError, TokenError
from hsm.keys.exchange import load_party_keys
from hsm.keys.holder import Keyholder, hold_lock
from hsm.keys.keyring import Keyring, Sealed
from hsm.keys.permissions import Operation
from hsm.keys.token import Token
from hsm.keys.token_keys import TokenAesKey
from hsm.pins import translate
from tests.hsm.conftest import KEYS

CONFIG = HsmConfig(dual_control=False, keys=KEYS)
PAN = "4242424242424242"


@pytest.fixture
def keyholder(tmp_path: Path) -> Iterator[Keyholder]:
    holder = Keyholder(CONFIG, tmp_path)
    yield holder
    holder.close()


def cmac(keyring: Keyring) -> bytes:
    key = keyring.key("zak-pos", Operation.MAC_GENERATE).key
    assert isinstance(key, TokenAesKey)
    return key.cmac(b"x")


def test_keys_survive_a_restart(tmp_path: Path, keyholder: Keyholder) -> None:
    keyring, check_values = keyholder.open()
    sealed = keyring.seal(b"clear", bytes(12), b"token")
    fingerprint, mac = keyring.fingerprint(PAN), cmac(keyring)
    exported = load_party_keys(tmp_path / "exchange", "pos")
    again, check_values_again = keyholder.open()
    assert check_values_again == check_values
    assert again.unseal(sealed, b"token") == b"clear"
    assert (again.fingerprint(PAN), cmac(again)) == (fingerprint, mac)
    assert load_party_keys(tmp_path / "exchange", "pos") == exported


def test_two_installations_share_nothing(tmp_path: Path) -> None:
    fingerprints, keys = set(), set()
    for name in ("one", "two"):
        holder = Keyholder(CONFIG, tmp_path / name)
        fingerprints.add(holder.open()[0].fingerprint(PAN))
        keys.add(load_party_keys(tmp_path / name / "exchange", "pos")["zpk-pos"])
        holder.close()
    assert len(fingerprints) == len(keys) == 2


def test_files_are_for_their_owner_only(tmp_path: Path, keyholder: Keyholder) -> None:
    keyholder.open()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "softhsm2.conf":
            assert path.stat().st_mode & 0o077 == 0, path


def test_keys_cannot_be_read_from_the_token(tmp_path: Path, keyholder: Keyholder) -> None:
    keyholder.open()
    token: Token | None = keyholder._token
    assert token is not None
    for key in (token.storage_key, token.fingerprint_key, *token.data_keys.values()):
        assert key[Attribute.SENSITIVE] and not key[Attribute.EXTRACTABLE]
        with pytest.raises(AttributeSensitive):
            key[Attribute.VALUE]


def test_pin_translation_in_the_token(tmp_path: Path, keyholder: Keyholder) -> None:
    keyring, _ = keyholder.open()
    pos, alpha = (load_party_keys(tmp_path / "exchange", party) for party in ("pos", "alpha"))
    for pin in ("1234", "123456789012"):
        block = encrypt_pin_block(pin, PAN, pos["zpk-pos"])
        translated = translate(keyring, PinBlock(block=block, key="zpk-pos"), "zpk-alpha", 0, PAN)
        assert decrypt_pin_block(translated, PAN, alpha["zpk-alpha"]) == pin
    with pytest.raises(HsmRefused, match="pin_block_invalid"):
        translate(
            keyring,
            PinBlock(block=encrypt_pin_block("1234", PAN, alpha["zpk-alpha"]), key="zpk-pos"),
            "zpk-alpha",
            0,
            PAN,
        )


def test_ciphertexts_are_bound_to_their_token(keyholder: Keyholder) -> None:
    keyring, _ = keyholder.open()
    sealed = keyring.seal(b"clear", bytes(12), b"card_1")
    flipped = bytes([sealed.ciphertext[0] ^ 1]) + sealed.ciphertext[1:]
    for wrong, associated in (
        (sealed, b"card_2"),
        (Sealed(sealed.key_version, sealed.nonce, flipped), b"card_1"),
        (Sealed(sealed.key_version, b"1" * 12, sealed.ciphertext), b"card_1"),
        (Sealed("pan-2", sealed.nonce, sealed.ciphertext), b"card_1"),
    ):
        with pytest.raises(CiphertextError):
            keyring.unseal(wrong, associated)
    assert keyring.unseal(sealed, b"card_1") == b"clear"


def test_a_lost_session_is_a_token_error_and_opens_again(keyholder: Keyholder) -> None:
    keyring, _ = keyholder.open()
    mac = cmac(keyring)
    assert keyholder._token is not None
    keyholder._token.session.close()
    with pytest.raises(TokenError):
        cmac(keyring)
    keyring, _ = keyholder.open()
    assert cmac(keyring) == mac


def test_a_first_start_that_was_cut_off_is_done_again(tmp_path: Path, keyholder: Keyholder) -> None:
    keyholder.open()
    keyholder.close()
    (tmp_path / "hsm" / "initialised").unlink()
    with pytest.raises(TokenError, match="restore it from a backup"):
        keyholder.open()
    (tmp_path / "hsm" / "keys.json").unlink()
    keyring, _ = keyholder.open()
    assert len(cmac(keyring)) == 16
    assert (tmp_path / "hsm" / "tokens.unfinished-1").is_dir()
    assert len([path for path in (tmp_path / "hsm" / "tokens").iterdir() if path.is_dir()]) == 1


def test_a_token_that_lost_its_keys_is_not_made_anew(tmp_path: Path, keyholder: Keyholder) -> None:
    keyholder.open()
    keyholder.close()
    for path in (tmp_path / "hsm" / "tokens").glob("*/*.object"):
        if path.name != "token.object":
            path.unlink()
    with pytest.raises(TokenError, match="restore state/hsm from a backup"):
        keyholder.open()


def test_keys_keep_their_usage(tmp_path: Path, keyholder: Keyholder) -> None:
    keyholder.open()
    changed = HsmConfig(dual_control=False, keys=(KeyConfig("zpk-pos", "mac", "pos"),))
    with pytest.raises(ConfigurationError, match="zpk-pos was made for pin with pos"):
        Keyholder(changed, tmp_path).open()


def test_a_new_key_joins_the_others(tmp_path: Path, keyholder: Keyholder) -> None:
    _, before = keyholder.open()
    _, after = Keyholder(HsmConfig(dual_control=False, keys=(*KEYS, KeyConfig("zak-2", "mac", "pos"))), tmp_path).open()
    assert after == before | {"zak-2": after["zak-2"]}
    assert set(before) == {"zpk-pos", "zpk-alpha", "zak-pos", "zmk-pos", "zmk-alpha", "pan"}
    assert set(load_party_keys(tmp_path / "exchange", "pos")) == {"zpk-pos", "zak-pos", "zak-2"}


def test_a_party_may_bring_its_transport_key(tmp_path: Path, keyholder: Keyholder) -> None:
    (tmp_path / "exchange").mkdir()
    (tmp_path / "exchange" / "alpha.zmk").write_text("AB" * 32)
    keyholder.open()
    assert len(load_party_keys(tmp_path / "exchange", "alpha")["zpk-alpha"]) == 24


def test_one_process_owns_a_token(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "hsm"), pytest.raises(ConfigurationError, match="another HSM process"):
        hold_lock(tmp_path / "hsm")


def test_configuration_problems_are_all_listed() -> None:
    config = HsmConfig(
        max_queued=0, keys=(KeyConfig("a", "cvv", "x"), KeyConfig("a", "pin", "../x"), KeyConfig("", "mac", ""))
    )
    assert len(config.problems()) == 6
    assert HsmConfig(dual_control=False, keys=KEYS).problems() == []
    with pytest.raises(ConfigurationError, match="does not exist"):
        HsmConfig(module="/nowhere.so").module_path()


def test_a_keyring_from_before_the_token_was_opened_again_is_refused(keyholder: Keyholder) -> None:
    """The library counts handles from the start again: an old number may be another key's by then."""
    before, _ = keyholder.open()
    known = before.fingerprint(PAN)
    keyholder.close()
    after, _ = keyholder.open()
    for work in (
        lambda: before.fingerprint(PAN),
        lambda: before.seal(b"clear", bytes(12), b"card"),
        lambda: cmac(before),
    ):
        with pytest.raises(TokenError):
            work()
    assert after.fingerprint(PAN) == known
