"""The PKCS#11 token: opened and logged in once, its own keys made on first start and held as session objects.

The configuration and a directory go in; `Token` gives handles to the storage key, the data keys and the fingerprint
key. Called by `hsm.server` at start and again when the token was lost. One thread only: python-pkcs11 initialises the
library without OS locking.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag
from pkcs11.exceptions import PKCS11Error

from hsm.config import HsmConfig
from hsm.errors import TokenError
from hsm.keys.softhsm import finish_softhsm, prepare_softhsm

PIN_VARIABLE = "CARDSWITCH_HSM_PIN"
STORAGE_KEY = "storage-1"
FIRST_DATA_KEY = "pan-1"
FINGERPRINT_KEY = "fingerprint-1"

# What the token makes for itself, and what each of those keys may do.
_OWN_KEYS = {
    STORAGE_KEY: (KeyType.AES, MechanismFlag.WRAP | MechanismFlag.UNWRAP),
    FIRST_DATA_KEY: (KeyType.AES, MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT),
    FINGERPRINT_KEY: (KeyType.GENERIC_SECRET, MechanismFlag.SIGN),
}
_DATA_KEY_NAME = re.compile(r"pan-(\d+)")


class Token:
    """An open token.

    Args:
        config: module and label.
        directory: `state/hsm`: the private SoftHSM's files, or `pin` of another token.
    Raises:
        TokenError: no such token, wrong PIN, or the library fails.
        ConfigurationError: no PKCS#11 library.
    Attributes:
        session: the one session, for link keys.
        storage_key: wraps link keys.
        data_keys: by name, `pan-1` …; `data_key_name` is the newest.
        fingerprint_key: HMAC-SHA-256.
    """

    session: Any
    storage_key: Any
    fingerprint_key: Any
    data_keys: dict[str, Any]
    data_key_name: str

    def __init__(self, config: HsmConfig, directory: Path) -> None:
        module, new = config.module_path(), False
        if config.module:
            pin = _pin(directory / "pin")
        else:
            pins, new = prepare_softhsm(directory, module, config.token)
            pin = pins.user
        with token_errors("opening the token"):
            self._library = pkcs11.lib(module)
            if self._library.initialized:
                self._library.finalize()  # a token that was lost is opened from the start
            self._library.initialize()
            self.session = self._library.get_token(token_label=config.token).open(rw=True, user_pin=pin)
            self._load(make_missing=new or bool(config.module))
        if new:
            finish_softhsm(directory)

    def close(self) -> None:
        """Forget all session keys and log out."""
        with token_errors("closing the token"):
            self._library.finalize()

    def _load(self, *, make_missing: bool) -> None:
        found = {
            key.label: key
            for kind in (KeyType.AES, KeyType.GENERIC_SECRET)
            for key in self.session.get_objects({Attribute.KEY_TYPE: kind, Attribute.TOKEN: True})
        }
        for name, (kind, uses) in _OWN_KEYS.items():
            if name not in found:
                if not make_missing:
                    raise TokenError(f"the token has lost its key {name}; restore state/hsm from a backup")
                found[name] = self.session.generate_key(
                    kind,
                    256,
                    label=name,
                    store=True,
                    capabilities=uses,
                    template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
                )
        # A session copy works at 14 µs an operation where the token object takes 22 µs.
        self.storage_key = found[STORAGE_KEY]
        self.fingerprint_key = found[FINGERPRINT_KEY].copy({Attribute.TOKEN: False})
        versions = {int(match[1]): name for name in found if (match := _DATA_KEY_NAME.fullmatch(name))}
        self.data_keys = {name: found[name].copy({Attribute.TOKEN: False}) for name in versions.values()}
        self.data_key_name = versions[max(versions)]


@contextmanager
def token_errors(doing: str) -> Iterator[None]:
    """Turn errors of the library into TokenError; their text is a class name and never data."""
    try:
        yield
    except PKCS11Error as error:
        raise TokenError(f"{doing}: {type(error).__name__}") from None


def _pin(path: Path) -> str:
    pin = os.environ.get(PIN_VARIABLE, "")
    if not pin:
        try:
            pin = path.read_text().strip()
        except OSError:
            raise TokenError(f"the token's PIN is expected in {path} or in {PIN_VARIABLE}") from None
    return pin
