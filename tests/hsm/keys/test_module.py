"""A token that is not ours: found by label, slot or serial number, with a PIN from a file or the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest

from hsm.config import HsmConfig, KeyConfig
from hsm.errors import HsmError, TokenError
from hsm.keys.backup import list_backups
from hsm.keys.holder import Keyholder
from hsm.keys.softhsm import Pins, prepare_softhsm
from hsm.keys.token import PIN_VARIABLE

KEYS = (KeyConfig("zpk", "pin", "alpha"), KeyConfig("cvk", "cvk", "alpha"))
LABEL = "somebody's"


class External:
    """A SoftHSM token in the place of any PKCS#11 token, with its slot and its serial number."""

    def __init__(self, directory: Path) -> None:
        self.module = HsmConfig().module_path()
        self.pins: Pins = prepare_softhsm(directory, self.module, LABEL)[0]
        library = pkcs11.lib(self.module)
        if library.initialized:
            library.finalize()
        library.initialize()
        token = library.get_token(token_label=LABEL)
        self.slot, self.serial = token.slot.slot_id, token.serial.decode()
        library.finalize()

    def config(self, **settings: Any) -> HsmConfig:
        return HsmConfig(module=self.module, **({"token": LABEL, "keys": KEYS, "dual_control": False} | settings))


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[External]:
    monkeypatch.delenv(PIN_VARIABLE, raising=False)
    before = os.environ.get("SOFTHSM2_CONF")
    yield External(tmp_path / "elsewhere")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


def check_values(config: HsmConfig, state: Path) -> dict[str, str]:
    holder = Keyholder(config, state)
    try:
        return holder.open()[1]
    finally:
        holder.close()


def write_pin(path: Path, pin: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pin + "\n")
    return path


def test_every_way_to_name_it_is_the_same_token(
    tmp_path: Path, external: External, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    pin_file = str(write_pin(tmp_path / "pin", external.pins.user))
    first = check_values(external.config(pin_file=pin_file), state)
    assert set(first) == {"zpk", "cvk", "zmk-alpha", "pan"}
    slot, serial = external.slot, external.serial
    for settings in (
        {"slot": slot},
        {"slot": slot, "serial": serial},
        {"serial": serial},
        {"slot": slot, "token": "another label"},  # a slot is named by its number
    ):
        assert check_values(external.config(pin_file=pin_file, **settings), state) == first
    write_pin(state / "hsm" / "pin", external.pins.user)
    assert check_values(external.config(), state) == first
    write_pin(state / "hsm" / "pin", "wrong")
    monkeypatch.setenv(PIN_VARIABLE, external.pins.user)
    assert check_values(external.config(), state) == first
    assert not (state / "hsm" / "tokens").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"token": "nobody's"}, "NoSuchToken"),
        ({"serial": "0000"}, "NoSuchToken"),
        ({"slot": 4_000_000_000}, "there is no slot 4000000000"),
        ({"pin_file": "/nowhere/pin"}, "the token's PIN is expected in /nowhere/pin or in CARDSWITCH_HSM_PIN"),
        ({"wrong pin": True}, "PinIncorrect"),
        ({"wrong serial": True}, "has another serial number"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, external: External, settings: dict[str, Any], reason: str) -> None:
    state = tmp_path / "state"
    write_pin(state / "hsm" / "pin", external.pins.user)
    settings = dict(settings)
    if settings.pop("wrong pin", False):
        write_pin(state / "hsm" / "pin", "123456")
    if settings.pop("wrong serial", False):
        settings = {"slot": external.slot, "serial": "0000"}
    with pytest.raises(TokenError, match=reason) as caught:
        Keyholder(external.config(**settings), state).open()
    assert external.pins.user not in str(caught.value) and "restore" not in str(caught.value)


def test_its_keys_are_made_once(tmp_path: Path, external: External) -> None:
    state = tmp_path / "state"
    write_pin(state / "hsm" / "pin", external.pins.user)
    config = external.config()
    first = check_values(config, state)
    for backup in list_backups(state / "hsm"):
        assert set(backup.files) == {"keys.json"}  # the token is backed up with its maker's tools
    holder = Keyholder(config, state)
    holder.open()
    holder.store.rotate_data_key()
    assert check_values(config, state) == first | {"pan": holder.store.check_values()["pan"]}
    holder.open()
    for handle in holder.token._objects("storage-1"):
        handle.destroy()
    holder.close()
    with pytest.raises(TokenError, match="lost its key storage-1"):
        check_values(config, state)


def test_the_key_file_of_a_token_is_put_back(tmp_path: Path, external: External) -> None:
    from hsm.keys.backup import restore

    state = tmp_path / "state"
    write_pin(state / "hsm" / "pin", external.pins.user)
    first = check_values(external.config(), state)
    (state / "hsm" / "keys.json").write_bytes(b"{")
    with pytest.raises(HsmError, match=r"not a key file.*backup/\d+: cardswitch hsm restore"):
        check_values(external.config(), state)
    restore(state / "hsm")
    assert check_values(external.config(), state) == first
    assert (state / "hsm" / "pin").exists()


def test_settings_of_a_token_that_is_not_ours() -> None:
    for settings in ({"slot": 1}, {"serial": "1"}, {"pin_file": "pin"}):
        assert "go with hsm.module" in HsmConfig(**settings).problems()[0]  # type: ignore[arg-type]
    assert HsmConfig(slot=-2).problems() == ["hsm.slot is the number of a slot, or -1"]
    for grace in (-1.0, 86_401.0, float("nan")):
        assert "key_grace_s" in HsmConfig(key_grace_s=grace).problems()[0]
