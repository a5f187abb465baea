"""The state of the first release: a token without seals, a key file without them; read once, rewritten once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from hsm.config import KeyConfig
from hsm.errors import HsmError, KeyStoreError
from hsm.keys.exchange import load_party_keys, read_transport_key
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import Sealed
from hsm.keys.token import Token
from tests.hsm.keys.opened import CONFIG, info, opened

PAN = "4242424242424242"


class FirstRelease:
    """A state directory as the first release left it, with what has to stay the same."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.file = state / "hsm" / "keys.json"
        with opened(state, *CONFIG.keys) as holder:
            keyring = holder.store.keyring()
            self.sealed = keyring.seal(b"clear", bytes(12), b"card")
            self.fingerprint = keyring.fingerprint(PAN)
            self.check_values = {key.name: info(holder.store, key.name).kcv for key in CONFIG.keys}
            records = [record for key in CONFIG.keys if (record := holder.store.active(key.name)) is not None]
            self.values = {record.name: holder.store.reveal(record) for record in records}
            for label in ("integrity-1", "audit-1"):
                for handle in holder.token._objects(label):
                    handle.destroy()
        stored = [
            {
                "name": record.name,
                "usage": record.role,
                "party": record.party,
                "algorithm": {"T": "TDES", "A": "AES"}[record.attributes.algorithm],
                "version": 1,
                "kcv": record.kcv,
                "under": "storage-1",
                "wrapped": record.parts["whole"],
            }
            for record in records
        ]
        self.file.write_bytes(msgspec.json.encode(stored))
        self.content = self.file.read_bytes()
        shutil.rmtree(state / "hsm" / "backup")
        for party in ("pos", "alpha"):
            self._write_party(party, [key for key in stored if key["party"] == party])

    def _write_party(self, party: str, stored: list[dict[str, Any]]) -> None:
        zmk = read_transport_key(self.state / "exchange" / f"{party}.zmk")
        keys = [
            {name: key[name] for name in ("name", "usage", "algorithm", "kcv", "version")}
            | {"wrapped": aes_key_wrap(zmk, self.values[key["name"]]).hex().upper()}
            for key in stored
        ]
        (self.state / "exchange" / f"{party}.json").write_bytes(msgspec.json.encode({"party": party, "keys": keys}))


@pytest.fixture
def first_release(tmp_path: Path) -> FirstRelease:
    return FirstRelease(tmp_path)


def check(state: FirstRelease) -> None:
    with opened(state.state, *CONFIG.keys) as holder:
        keyring = holder.store.keyring()
        assert keyring.unseal(Sealed("pan-1", bytes(12), state.sealed.ciphertext), b"card") == b"clear"
        assert keyring.fingerprint(PAN) == state.fingerprint
        assert {key.name: info(holder.store, key.name).kcv for key in CONFIG.keys} == state.check_values
        assert len(holder.token.seal_audit(b"record")) == 32
        assert not holder.token.upgrading
    for party in ("pos", "alpha"):
        for name, value in load_party_keys(state.state / "exchange", party).items():
            assert value == state.values[name]


def test_everything_goes_on(first_release: FirstRelease) -> None:
    for party in ("pos", "alpha"):
        load_party_keys(first_release.state / "exchange", party)
    check(first_release)
    assert msgspec.json.decode(first_release.file.read_bytes())["format"] == 3
    check(first_release)


def test_a_key_file_of_the_first_release_is_taken_once(first_release: FirstRelease) -> None:
    """Its usages are not sealed: an attacker who could put it back could turn a MAC key into a PIN key."""
    check(first_release)
    first_release.file.write_bytes(first_release.content)
    with pytest.raises(KeyStoreError, match="a key file of the first release, but this token has left that behind"):
        Keyholder(CONFIG, first_release.state).open()


def test_an_upgrade_that_was_cut_off_goes_on(first_release: FirstRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise HsmError("killed")

    from hsm.keys import store

    for target, name in ((store, "write_key_file"), (Token, "finish_upgrade"), (store, "make_backup")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, killed)
            with pytest.raises(HsmError, match="killed"):
                Keyholder(CONFIG, first_release.state).open()
    check(first_release)


def test_a_broken_key_file_is_left_as_it_is(first_release: FirstRelease) -> None:
    broken = first_release.content.replace(b'"usage":"mac"', b'"usage":"cvv"')
    first_release.file.write_bytes(broken)
    with pytest.raises(KeyStoreError, match="not a key file"):
        Keyholder(CONFIG, first_release.state).open()
    assert first_release.file.read_bytes() == broken
    first_release.file.write_bytes(first_release.content)
    check(first_release)


def test_a_new_key_joins_on_upgrade(first_release: FirstRelease) -> None:
    with opened(first_release.state, *CONFIG.keys, KeyConfig("cvk", "cvk", "alpha")) as holder:
        assert info(holder.store, "cvk").status == "active"
    assert set(load_party_keys(first_release.state / "exchange", "alpha")) == {"zpk-alpha", "cvk"}
