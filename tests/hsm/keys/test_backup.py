"""Copies of the token's files: made before and after a change, bounded, and put back when files are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.config import HsmConfig, KeyConfig
from hsm.errors import HsmError, KeyStoreError
from hsm.keys.backup import KEPT, heal, list_backups, make_backup, newest_intact, restore
from hsm.keys.holder import Keyholder
from hsm.keys.roles import attributes_for
from tests.hsm.keys.opened import info, opened

ZPK = KeyConfig("zpk", "pin", "alpha")
CONFIG = HsmConfig(dual_control=False, keys=(ZPK,))


def numbers(state: Path) -> list[int]:
    return [backup.number for backup in list_backups(state / "hsm")]


def token_file(state: Path) -> Path:
    [path] = (state / "hsm" / "tokens").glob("*/token.object")
    return path


def damage(state: Path, what: str) -> None:
    directory = state / "hsm"
    match what:
        case "key file cut off":
            file = directory / "keys.json"
            file.write_bytes(file.read_bytes()[:100])
        case "key file gone":
            (directory / "keys.json").unlink()
        case "token gone":
            token_file(state).unlink()
        case "token overwritten":
            token_file(state).write_bytes(b"\0" * 4096)
        case "objects gone":
            for path in token_file(state).parent.glob("*-*.object"):
                path.unlink()
        case "objects cut off":
            for path in token_file(state).parent.glob("*-*.object"):
                path.write_bytes(path.read_bytes()[:50])
        case "PINs gone":
            (directory / "pins.json").unlink()


DAMAGES = [
    "key file cut off",
    "key file gone",
    "token gone",
    "token overwritten",
    "objects gone",
    "objects cut off",
    "PINs gone",
]


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_files_name_the_way_back_and_it_leads_there(tmp_path: Path, what: str) -> None:
    with opened(tmp_path, ZPK) as holder:
        holder.store.rotate_data_key()
        sealed = holder.store.keyring().seal(b"x", bytes(12), b"")
        before = holder.store.infos()
    damage(tmp_path, what)
    with pytest.raises(HsmError, match=r"hsm/backup/\d{6}: cardswitch hsm restore"):
        Keyholder(CONFIG, tmp_path).open()
    put_back = restore(tmp_path / "hsm")
    assert put_back.number == numbers(tmp_path)[-1]
    with opened(tmp_path, ZPK) as holder:
        assert holder.store.infos() == before
        assert holder.store.keyring().unseal(sealed, b"") == b"x"
    assert (tmp_path / "hsm" / "damaged-1").is_dir()


def test_each_change_is_copied_and_starts_are_not(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        made = numbers(tmp_path)
        holder.store.generate("cvk", "cvk", attributes_for("cvk"), "")
        assert len(numbers(tmp_path)) == len(made) + 1
    for _ in range(3):
        with opened(tmp_path, ZPK):
            assert len(numbers(tmp_path)) == len(made) + 1


def test_copies_are_bounded_private_and_whole(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        for number in range(KEPT + 3):
            holder.store.generate(f"cvk-{number}", "cvk", attributes_for("cvk"), "")
    backups = list_backups(tmp_path / "hsm")
    assert len(backups) == KEPT
    assert [backup.number for backup in backups] == list(range(backups[0].number, backups[0].number + KEPT))
    assert all(backup.intact for backup in backups)
    assert {"keys.json", "pins.json", "initialised"} < set(backups[-1].files)
    for path in (tmp_path / "hsm" / "backup").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_earlier_copy_by_number(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        number = numbers(tmp_path)[-1]
        holder.store.generate("cvk", "cvk", attributes_for("cvk"), "")
    assert restore(tmp_path / "hsm", number).number == number
    with opened(tmp_path, ZPK) as holder:
        assert not holder.store.versions("cvk")


def test_a_copy_that_is_not_what_it_was_is_not_put_back(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        holder.store.generate("cvk", "cvk", attributes_for("cvk"), "")
    last = list_backups(tmp_path / "hsm")[-1]
    (last.path / "keys.json").write_bytes(b"x")
    assert not list_backups(tmp_path / "hsm")[-1].intact
    with pytest.raises(KeyStoreError, match=f"no backup {last.number} that is intact"):
        restore(tmp_path / "hsm", last.number)
    good = newest_intact(tmp_path / "hsm")
    assert good is not None and good.number < last.number
    (last.path / "pins.json").unlink()
    assert not list_backups(tmp_path / "hsm")[-1].intact


def test_nothing_to_put_back(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="no backup that is intact"):
        restore(tmp_path)
    assert make_backup(tmp_path) is None
    assert list_backups(tmp_path) == []
    assert not heal(tmp_path)


def test_what_is_no_copy_is_passed_over(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK):
        pass
    before = numbers(tmp_path)
    folder = tmp_path / "hsm" / "backup"
    for name, content in (("000900", b"{"), ("000901", None), (".new", b"{}"), ("notes", b"{}")):
        (folder / name).mkdir()
        if content is not None:
            (folder / name / "manifest.json").write_bytes(content)
    assert numbers(tmp_path) == before
    with opened(tmp_path, ZPK) as holder:
        holder.store.generate("cvk", "cvk", attributes_for("cvk"), "")
    assert numbers(tmp_path) == [*before, 902]


@pytest.mark.parametrize("left", [0, 8, 100, 319])
def test_a_kill_during_login_is_healed(tmp_path: Path, left: int) -> None:
    """SoftHSM empties the token's file and writes it again at each login."""
    with opened(tmp_path, ZPK) as holder:
        before = holder.store.infos()
    whole = token_file(tmp_path).read_bytes()
    token_file(tmp_path).write_bytes(whole[:left])
    with opened(tmp_path, ZPK) as holder:
        assert holder.store.infos() == before


def test_a_kill_during_the_very_next_login_is_healed(tmp_path: Path) -> None:
    """The token is complete, the key file was not written yet."""
    with opened(tmp_path):
        pass
    (tmp_path / "hsm" / "keys.json").unlink()
    for backup in list_backups(tmp_path / "hsm")[1:]:
        for path in sorted(backup.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        backup.path.rmdir()
    token_file(tmp_path).write_bytes(b"")
    with opened(tmp_path) as holder:
        assert info(holder.store, "pan").status == "active"


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK):
        pass
    changed = bytes(8) + token_file(tmp_path).read_bytes()[8:] + b"more"
    token_file(tmp_path).write_bytes(changed)
    assert not heal(tmp_path / "hsm")
    assert token_file(tmp_path).read_bytes() == changed


def test_a_retired_key_is_in_no_copy(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        store = holder.store
        store.generate("cvk", "cvk", attributes_for("cvk"), "")
        record = store.active("cvk")
        assert record is not None
        wrapped = set(record.parts.values())
        store.rotate_data_key()
        store.retire(record)
        store.retire(store.versions("pan")[0])
        assert len(numbers(tmp_path)) == 1
    files = [path.read_bytes() for path in (tmp_path / "hsm").rglob("*") if path.is_file()]
    assert not [value for value in wrapped for content in files if value.encode() in content]


def test_without_room_for_a_copy_nothing_is_changed(tmp_path: Path) -> None:
    with opened(tmp_path, ZPK) as holder:
        before = holder.store.infos()
        token_files = sorted((tmp_path / "hsm" / "tokens").rglob("*.object"))
        for backup in list_backups(tmp_path / "hsm"):
            (backup.path / "manifest.json").unlink()
        (tmp_path / "hsm" / "backup" / ".new").write_text("in the way")
        for change in (
            lambda: holder.store.generate("cvk", "cvk", attributes_for("cvk"), ""),
            holder.store.rotate_data_key,
        ):
            with pytest.raises(KeyStoreError, match="no backup can be made"):
                change()
        assert holder.store.infos() == before
        assert sorted((tmp_path / "hsm" / "tokens").rglob("*.object")) == token_files
