"""Who owns the token: one process at a time, which opens it with its keys, and again after it was lost.

The configuration and the state directory go in, a keyring comes out. Called by `hsm.server`, and by `cardswitch hsm`
while no HSM process runs.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hsm.config import HsmConfig
from hsm.errors import ConfigurationError, HsmError
from hsm.keys.store import KeyStore
from hsm.keys.token import Token
from hsm.keys.token_keyring import TokenKeyring


class Keyholder:
    """Opens the token with its keys, again after it was lost."""

    def __init__(self, config: HsmConfig, state_directory: Path) -> None:
        self._config = config
        self._state = state_directory
        self._token: Token | None = None

    def open(self) -> tuple[TokenKeyring, dict[str, str]]:
        """Return the keyring and the check values by key name; TokenError or KeyStoreError if it cannot be."""
        directory = self._state / "hsm"
        self._token = Token(self._config, directory)
        store = KeyStore(self._token, directory / "keys.json")
        keys = store.load(self._config.keys)
        store.export(self._config.keys, self._state / "exchange")
        return TokenKeyring(self._token, {name: (key,) for name, key in keys.items()}), {
            name: key.kcv for name, key in keys.items()
        }

    def close(self) -> None:
        if self._token is not None:
            with suppress(HsmError):
                self._token.close()


def hold_lock(directory: Path) -> BinaryIO:
    """Return a file whose lock says that this process owns the token; the lock goes when the process does.

    Raises:
        ConfigurationError: another process has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (directory / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigurationError(f"{directory}: another HSM process owns this token") from None
    return file
