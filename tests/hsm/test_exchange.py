"""Key files as the other party reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hsm.algorithms.tdes import tdes_check_value
from hsm.errors import KeyStoreError
from hsm.keys.exchange import ExportedKey, PartyKeys, load_party_keys

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
    return tdes_check_value(bytes.fromhex(KEY)).hex().upper()


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
