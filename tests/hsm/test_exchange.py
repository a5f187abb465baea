"""Key files as the other party reads them: of today, with key blocks, and of the first release."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path
from typing import Any

import msgspec
import psec
import pytest

from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.errors import KeyStoreError
from hsm.keys.attributes import ROLES
from hsm.keys.exchange import (
    ExportedKey,
    PartyKeys,
    export_key,
    exported_keys,
    load_party_keys,
    make_party_zmk,
    write_party_keys,
)

# Source: RFC 3394, section 4.5: 192 bits of key data under a 256-bit key.
TRANSPORT_KEY = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
KEY = "00112233445566778899AABBCCDDEEFF0001020304050607"
WRAPPED = "A8F9BC1612C68B3FF6E6F4FBE30E71E4769C8B80A32CB8958CD5D17D6B254DA1"


def write(directory: Path, transport_key: str = TRANSPORT_KEY, **changes: str) -> None:
    fields: dict[str, Any] = {"name": "zpk", "usage": "pin", "algorithm": "TDES", "kcv": "", "wrapped": WRAPPED}
    keys = (ExportedKey(**(fields | changes)),)
    (directory / "alpha.zmk").write_text(transport_key + "\n")
    (directory / "alpha.json").write_bytes(msgspec.json.encode(PartyKeys("alpha", keys)))


def kcv() -> str:
    return clear_check_value("T", bytes.fromhex(KEY))


def test_rfc_3394_vector(tmp_path: Path) -> None:
    write(tmp_path, kcv=kcv())
    assert load_party_keys(tmp_path, "alpha") == {"zpk": bytes.fromhex(KEY)}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kcv": "000000"}, "check value"),
        ({"wrapped": "A9" + WRAPPED[2:]}, "does not unwrap"),
        ({"wrapped": WRAPPED[:-2]}, "does not unwrap"),
        ({"wrapped": "not hex"}, "does not unwrap"),
        ({"algorithm": "DES"}, "unknown algorithm"),
        ({"transport_key": "11" * 32}, "does not unwrap"),
        ({"transport_key": "11" * 16}, "64 hexadecimal"),
        ({"transport_key": "x"}, "64 hexadecimal"),
    ],
)
def test_broken_key_files(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    write(tmp_path, **({"kcv": kcv()} | changes))
    with pytest.raises(KeyStoreError, match=reason) as caught:
        load_party_keys(tmp_path, "alpha")
    assert KEY not in str(caught.value) and TRANSPORT_KEY not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match=r"beta\.zmk: No such file"):
        load_party_keys(tmp_path, "beta")
    write(tmp_path)
    (tmp_path / "alpha.json").write_text("[]")
    with pytest.raises(KeyStoreError, match=r"alpha\.json: not a key file"):
        load_party_keys(tmp_path, "alpha")


# The files as they are written now: key blocks of version D.
ZMK = bytes(range(32))
ROLE_KEYS = [(role, algorithm) for role, rules in ROLES.items() for algorithm in rules.algorithms if role != "zmk"]


def exported(role: str, algorithm: str) -> tuple[ExportedKey, bytes]:
    attributes = ROLES[role].algorithms[algorithm]
    key = secrets.token_bytes(attributes.length)
    name = f"{role}-{algorithm}"
    kcv = clear_check_value(attributes.algorithm, key)
    made = export_key(ClearAesKey(ZMK), key, attributes, secrets.token_bytes, name=name, role=role, kcv=kcv, version=3)
    return made, key


def test_what_is_written_is_read_and_nobody_else_may(tmp_path: Path) -> None:
    directory = tmp_path / "exchange"
    assert make_party_zmk(directory, "alpha", lambda count: ZMK[:count]) == ZMK
    pairs = [exported(role, algorithm) for role, algorithm in ROLE_KEYS]
    write_party_keys(directory, "alpha", (made for made, _ in pairs))
    assert load_party_keys(directory, "alpha") == {made.name: key for made, key in pairs}
    assert exported_keys(directory, "alpha") == tuple(made for made, _ in pairs)
    for name in ("alpha.json", "alpha.zmk"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    content = (directory / "alpha.json").read_text().upper()
    assert not any(key.hex().upper() in content or key.hex().upper() in repr(made).upper() for made, key in pairs)


def test_the_blocks_are_those_of_the_standard(tmp_path: Path) -> None:
    made, key = exported("mac", "AES-CMAC")
    header, found = psec.tr31.unwrap(ZMK, made.block)
    assert found == key
    assert (header.version_id, header.key_usage, header.algorithm, header.mode_of_use) == ("D", "M6", "A", "C")


def test_a_zone_master_key_that_lies_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "alpha.zmk").write_text(ZMK.hex())
    assert make_party_zmk(tmp_path, "alpha", secrets.token_bytes) == ZMK
    (tmp_path / "beta.zmk").write_text("broken")
    with pytest.raises(KeyStoreError, match="64 hexadecimal"):
        make_party_zmk(tmp_path, "beta", secrets.token_bytes)
    with pytest.raises(KeyStoreError, match="exchange"):
        (tmp_path / "exchange").write_text("")
        make_party_zmk(tmp_path / "exchange", "alpha", secrets.token_bytes)
    with pytest.raises(KeyStoreError, match="exchange"):
        write_party_keys(tmp_path / "exchange", "alpha", ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kcv": "000000"}, "check value"),
        ({"algorithm": "TDES"}, "is no TDES key"),
        ({"algorithm": "RSA"}, "unknown algorithm"),
        ({"block": "D0016"}, "does not unwrap under alpha.zmk: "),
        ({"block": ""}, "does not unwrap"),
    ],
)
def test_broken_blocks(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    make_party_zmk(tmp_path, "alpha", lambda count: ZMK[:count])
    made, key = exported("mac", "AES-CMAC")
    write_party_keys(tmp_path, "alpha", (msgspec.structs.replace(made, **changes),))
    with pytest.raises(KeyStoreError, match=reason) as caught:
        load_party_keys(tmp_path, "alpha")
    assert key.hex().upper() not in str(caught.value) and made.block not in str(caught.value)


def test_another_zone_master_key_opens_nothing(tmp_path: Path) -> None:
    made, _ = exported("pin", "TDES")
    write_party_keys(tmp_path, "alpha", (made,))
    (tmp_path / "alpha.zmk").write_text("11" * 32)
    with pytest.raises(KeyStoreError, match="MAC of the block is wrong"):
        load_party_keys(tmp_path, "alpha")


def test_no_file_holds_no_keys(tmp_path: Path) -> None:
    assert exported_keys(tmp_path, "alpha") == ()
    (tmp_path / "alpha.json").write_text("{")
    assert exported_keys(tmp_path, "alpha") == ()
