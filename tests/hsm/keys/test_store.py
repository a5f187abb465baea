"""Versions of keys: exchanged, taken for a while, retired; and a key file that somebody else changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsm.commands import HsmRefused
from hsm.config import HsmConfig, KeyConfig
from hsm.errors import ConfigurationError, KeyStoreError, TokenError
from hsm.keys.holder import Keyholder
from hsm.keys.permissions import Operation
from hsm.keys.roles import attributes_for
from hsm.keys.store import KeyStore, ReusedKey
from hsm.keys.token import _OWN_KEYS
from tests.hsm.keys.opened import CONFIG, Clock, edit, info, opened, statuses

ZPK = KeyConfig("zpk", "pin", "alpha")
CVK = KeyConfig("cvk", "cvk", "alpha")
PAN = "4242424242424242"


def renew(store: KeyStore, name: str, *, pending: bool = False) -> Any:
    current = store.active(name)
    assert current is not None
    return store.generate(name, current.role, current.attributes, current.party, pending=pending)


def taken(store: KeyStore, name: str, operation: Operation = Operation.PIN_DECRYPT) -> list[int]:
    return [held.version for held in store.keyring().candidates(name, operation)]


def test_the_version_before_is_taken_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, ZPK, clock=clock, key_grace_s=60.0) as holder:
        store = holder.store
        renew(store, "zpk")
        keyring = store.keyring()
        assert keyring.key("zpk", Operation.PIN_DECRYPT).version == 2
        for later, versions in ((0.0, [2, 1]), (59.9, [2, 1]), (60.0, [2]), (1e6, [2])):
            clock.now = 1_800_000_000.0 + later
            assert [held.version for held in keyring.candidates("zpk", Operation.PIN_DECRYPT)] == versions
        assert [held.version for held in keyring.candidates("zpk", Operation.PIN_ENCRYPT)] == [2]


def test_what_is_over_loses_its_value_with_the_next_change(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, ZPK, clock=clock) as holder:
        store = holder.store
        renew(store, "zpk")
        assert statuses(store, "zpk") == ["previous", "active"]
        clock.now += 61
        store.generate("cvk", "cvk", attributes_for("cvk"), "")
        assert statuses(store, "zpk") == ["retired", "active"]
        assert not store.versions("zpk")[0].parts
        with pytest.raises(KeyError):
            store.held(store.versions("zpk")[0])


def test_only_one_version_before_is_taken(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        for _ in range(3):
            renew(holder.store, "zpk")
        assert statuses(holder.store, "zpk") == ["retired", "retired", "previous", "active"]
        assert taken(holder.store, "zpk") == [4, 3]


def test_what_is_on_cards_is_taken_until_it_is_retired(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, CVK, clock=clock) as holder:
        store = holder.store
        renew(store, "cvk")
        renew(store, "cvk")
        clock.now += 1e9
        assert taken(store, "cvk", Operation.CARD_VALUE_VERIFY) == [3, 1, 2]
        assert taken(store, "cvk", Operation.CARD_VALUE_GENERATE) == [3]
        store.retire(store.versions("cvk")[0])
        assert taken(store, "cvk", Operation.CARD_VALUE_VERIFY) == [3, 2]


def test_a_pending_version_is_not_in_force(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        store = holder.store
        pending = renew(store, "zpk", pending=True)
        assert statuses(store, "zpk") == ["active", "pending"]
        assert store.keyring().key("zpk", Operation.PIN_ENCRYPT).version == 1
        assert taken(store, "zpk") == [1, 2]  # the other party may be faster than the answer that activates it
        store.activate(pending)
        assert store.keyring().key("zpk", Operation.PIN_ENCRYPT).version == 2
        assert statuses(store, "zpk") == ["previous", "active"]


def test_an_exchange_that_was_not_finished_is_replaced(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        renew(holder.store, "zpk", pending=True)
        renew(holder.store, "zpk", pending=True)
        assert statuses(holder.store, "zpk") == ["active", "retired", "pending"]


def test_versions_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, ZPK, CVK, clock=clock) as holder:
        renew(holder.store, "zpk")
        renew(holder.store, "cvk")
        renew(holder.store, "zpk", pending=True)
        holder.store.rotate_data_key()
        before = holder.store.infos()
    with opened(tmp_path, ZPK, CVK, clock=clock) as holder:
        assert holder.store.infos() == before
        assert taken(holder.store, "zpk") == [2, 1, 3]
        clock.now += 60
        assert taken(holder.store, "zpk") == [2, 3]
    with opened(tmp_path, ZPK, CVK, clock=clock) as holder:
        assert taken(holder.store, "zpk") == [2, 3]


def test_retired_versions_do_not_fill_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        for _ in range(15):
            renew(holder.store, "zpk")
        versions = [record.version for record in holder.store.versions("zpk")]
        assert versions == list(range(5, 17))


def test_a_new_data_key_takes_over_and_old_cards_stay_readable(tmp_path: Path) -> None:
    with opened(tmp_path) as holder:
        before = holder.store.keyring()
        old = before.seal(b"old", bytes(12), b"card")
        assert holder.store.rotate_data_key().version == 2
        after = holder.store.keyring()
        new = after.seal(b"new", bytes(12), b"card")
        assert (old.key_version, new.key_version) == ("pan-1", "pan-2")
        assert (after.unseal(old, b"card"), after.unseal(new, b"card")) == (b"old", b"new")
        assert before.fingerprint(PAN) == after.fingerprint(PAN)
        assert statuses(holder.store, "pan") == ["previous", "active"]
    with opened(tmp_path) as holder:
        again = holder.store.keyring()
        assert again.seal(b"", bytes(12), b"").key_version == "pan-2"
        assert (again.unseal(old, b"card"), again.unseal(new, b"card")) == (b"old", b"new")


def test_a_retired_data_key_is_gone_from_the_token(tmp_path: Path) -> None:
    from hsm.errors import CiphertextError

    with opened(tmp_path) as holder:
        sealed = holder.store.keyring().seal(b"x", bytes(12), b"")
        holder.store.rotate_data_key()
        holder.store.retire(holder.store.versions("pan")[0])
        with pytest.raises(CiphertextError, match="no data key pan-1"):
            holder.store.keyring().unseal(sealed, b"")
    with opened(tmp_path) as holder:
        assert set(holder.token.data_keys) == {"pan-2"}
        assert statuses(holder.store, "pan") == ["retired", "active"]
        assert holder.store.rotate_data_key().version == 3


def test_a_data_key_that_the_file_does_not_name_is_taken_in(tmp_path: Path) -> None:
    """A process was killed after the token had made it."""
    with opened(tmp_path) as holder:
        holder.token.make_data_key()
        assert statuses(holder.store, "pan") == ["active"]
    with opened(tmp_path) as holder:
        assert statuses(holder.store, "pan") == ["previous", "active"]
        assert holder.store.keyring().seal(b"", bytes(12), b"").key_version == "pan-2"


def test_a_data_key_that_was_retired_but_not_destroyed_is_destroyed(tmp_path: Path) -> None:
    with opened(tmp_path) as holder:
        holder.store.rotate_data_key()
        destroy, holder.token.destroy_data_key = holder.token.destroy_data_key, lambda name: None  # type: ignore[method-assign]
        assert destroy
        holder.store.retire(holder.store.versions("pan")[0])
    with opened(tmp_path) as holder:
        assert set(holder.token.data_keys) == {"pan-2"}
        assert holder.token._objects("pan-1") == []


def test_a_lost_data_key_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path) as holder:
        holder.store.rotate_data_key()
        for handle in holder.token._objects("pan-1"):
            handle.destroy()
    with pytest.raises(TokenError, match="lost its key pan-1"):
        Keyholder(CONFIG, tmp_path).open()


@pytest.mark.parametrize("label", ["storage-1", "fingerprint-1", "integrity-1", "audit-1", "pan-1"])
def test_a_lost_key_of_the_token_is_an_error_that_names_the_way_back(tmp_path: Path, label: str) -> None:
    with opened(tmp_path) as holder:
        for handle in holder.token._objects(label):
            handle.destroy()
    with pytest.raises(TokenError, match=rf"lost its key {label}.*backup/\d+: cardswitch hsm restore"):
        Keyholder(CONFIG, tmp_path).open()


@pytest.mark.parametrize("label", ["storage-1", "fingerprint-1", "integrity-1", "audit-1", "pan-1"])
def test_a_key_of_the_token_that_was_made_anew_is_noticed(tmp_path: Path, label: str) -> None:
    with opened(tmp_path, ZPK) as holder:
        kind, uses = _OWN_KEYS[label]
        for handle in holder.token._objects(label):
            handle.destroy()
        holder.token._make(label, kind, uses)
    reason = "changed outside the HSM" if label == "integrity-1" else f"key {label} has check value"
    with pytest.raises((TokenError, KeyStoreError), match=reason):
        Keyholder(CONFIG, tmp_path).open()


def test_a_value_comes_in_once(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        store = holder.store
        first = store.active("zpk")
        assert first is not None
        value = store.reveal(first)
        same = store.take("zpk", "pin", first.attributes, "alpha", value, "block")
        assert same.version == 1 and statuses(store, "zpk") == ["active"]
        renew(store, "zpk")
        with pytest.raises(ReusedKey, match="version 1"):
            store.take("zpk", "pin", first.attributes, "alpha", value, "block")
        renew(store, "zpk")  # version 1 is retired: its check value is all that is left
        with pytest.raises(ReusedKey, match="version 1"):
            store.take("zpk", "pin", first.attributes, "alpha", value, "block")


EDITS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("usage", lambda key: key["attributes"].update(usage="M6")),
    ("algorithm", lambda key: key["attributes"].update(algorithm="A")),
    ("mode", lambda key: key["attributes"].update(mode="N")),
    ("exportability", lambda key: key["attributes"].update(exportability="S")),
    ("length", lambda key: key["attributes"].update(length=16)),
    ("status", lambda key: key.update(status="pending")),
    ("role", lambda key: key.update(role="mac")),
    ("party", lambda key: key.update(party="beta")),
    ("name", lambda key: key.update(name="zpk-2")),
    ("version", lambda key: key.update(version=7)),
    ("kcv", lambda key: key.update(kcv="000000")),
    ("until", lambda key: key.update(until=9e9)),
    ("origin", lambda key: key.update(origin="block")),
    ("created_at", lambda key: key.update(created_at=1)),
    ("under", lambda key: key.update(under="storage-2")),
    ("parts", lambda key: key["parts"].update(whole="00" * 32)),
    ("added part", lambda key: key["parts"].update(left=key["parts"]["whole"])),
    ("seal", lambda key: key.update(seal="00" * 32)),
    ("no seal", lambda key: key.pop("seal")),
]


@pytest.mark.parametrize(("what", "change"), EDITS, ids=[what for what, _ in EDITS])
def test_a_changed_record_is_refused_by_name(
    tmp_path: Path, what: str, change: Callable[[dict[str, Any]], None]
) -> None:
    with opened(tmp_path, ZPK):
        pass
    file = tmp_path / "hsm" / "keys.json"

    def apply(content: dict[str, Any]) -> None:
        change(next(key for key in content["keys"] if key["name"] == "zpk"))

    edit(file, apply)
    with pytest.raises(KeyStoreError, match=r"key zpk(-2)? version \d was changed outside the HSM") as caught:
        Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path).open()
    assert "cardswitch hsm restore" in str(caught.value)


def test_records_taken_out_or_swapped_are_noticed(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        earlier = (tmp_path / "hsm" / "keys.json").read_bytes()
        renew(holder.store, "zpk")
    file = tmp_path / "hsm" / "keys.json"
    now = file.read_bytes()
    import msgspec

    old = {(key["name"], key["version"]): key for key in msgspec.json.decode(earlier)["keys"]}

    def remove(content: dict[str, Any]) -> None:
        content["keys"] = [key for key in content["keys"] if key["version"] != 2]

    def put_back(content: dict[str, Any]) -> None:
        content["keys"] = [old.get((key["name"], key["version"]), key) for key in content["keys"]]

    def other_order(content: dict[str, Any]) -> None:
        content["keys"].reverse()

    for change in (remove, put_back, other_order):
        file.write_bytes(now)
        edit(file, change)
        with pytest.raises(KeyStoreError, match="seal of the list is wrong"):
            Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path).open()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"\xff", b"null", b'{"format":2,"own":{},"keys":[{}],"seal":""}', b"[]", b"[{}]"]
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    with opened(tmp_path, ZPK):
        pass
    (tmp_path / "hsm" / "keys.json").write_bytes(content)
    with pytest.raises(KeyStoreError, match=r"keys\.json: (not a|a) key file.*cardswitch hsm restore"):
        Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path).open()


def test_a_file_of_a_later_release(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    edit(tmp_path / "hsm" / "keys.json", lambda content: content.update(format=4))
    with pytest.raises(KeyStoreError, match="format 4 is not of this release"):
        Keyholder(CONFIG, tmp_path).open()


def test_a_missing_file_is_not_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK):
        pass
    (tmp_path / "hsm" / "keys.json").unlink()
    with pytest.raises(KeyStoreError, match=r"keys\.json is missing.*cardswitch hsm restore"):
        Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path).open()


def test_a_storage_key_of_another_token_opens_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "one", ZPK):
        pass
    with opened(tmp_path / "two", ZPK):
        pass
    (tmp_path / "two" / "hsm" / "keys.json").write_bytes((tmp_path / "one" / "hsm" / "keys.json").read_bytes())
    with pytest.raises(KeyStoreError, match="was changed outside"):
        Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path / "two").open()


def test_missing_keys_are_an_error_where_none_are_to_be_made(tmp_path: Path) -> None:
    config = HsmConfig(dual_control=False, keys=(ZPK, KeyConfig("zak", "mac", "beta", "HMAC-SHA-256")), provision=False)
    with pytest.raises(ConfigurationError) as caught:
        Keyholder(config, tmp_path).open()
    assert "cardswitch hsm key generate zpk --role pin --party alpha" in str(caught.value)
    assert "generate zak --role mac --party beta --algorithm HMAC-SHA-256" in str(caught.value)
    holder = Keyholder(config, tmp_path)
    holder.open(provisioning=False)
    holder.store.generate("zpk", "pin", attributes_for("pin"), "alpha")
    holder.store.generate("zak", "mac", attributes_for("mac", "HMAC-SHA-256"), "beta")
    holder.open()
    assert not (tmp_path / "exchange").exists()
    holder.close()


def test_the_configured_algorithm_holds(tmp_path: Path) -> None:
    with opened(tmp_path, KeyConfig("zak", "mac", "alpha", "ISO9797-1-ALG3")) as holder:
        assert info(holder.store, "zak").attributes.usage == "M3"
    with pytest.raises(ConfigurationError, match="zak is M3"):
        Keyholder(HsmConfig(dual_control=False, keys=(KeyConfig("zak", "mac", "alpha", "AES-CMAC"),)), tmp_path).open()


def test_a_zone_master_key_that_was_exchanged_in_its_file_is_not_taken(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK):
        pass
    (tmp_path / "exchange" / "alpha.zmk").write_text("AB" * 32)
    with pytest.raises(KeyStoreError, match=r"alpha\.zmk: the key in it has check value \w{6}, zmk-alpha has \w{6}"):
        Keyholder(HsmConfig(dual_control=False, keys=(ZPK,)), tmp_path).open()


def test_party_files_follow_a_change(tmp_path: Path) -> None:
    from hsm.keys.exchange import load_party_keys

    with opened(tmp_path, ZPK) as holder:
        before = load_party_keys(tmp_path / "exchange", "alpha")["zpk"]
        renewed = renew(holder.store, "zpk")
        holder.write_party_files()
        after = load_party_keys(tmp_path / "exchange", "alpha")["zpk"]
        assert after != before
        assert after == holder.store.reveal(renewed)


def test_failures_of_the_disk_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hsm.keys import records

    with opened(tmp_path, ZPK) as holder:
        before = holder.store.infos()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(records, "write_private", full)
        with pytest.raises(KeyStoreError, match=r"keys\.json: cannot be written: No space left on device"):
            renew(holder.store, "zpk")
        assert holder.store.infos() == before
        monkeypatch.undo()
        assert renew(holder.store, "zpk").version == 2


def test_a_refusal_says_why(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder, pytest.raises(HsmRefused, match=r"key 'zpk' \(P0 PIN encryption key"):
        holder.store.keyring().key("zpk", Operation.MAC_VERIFY)
