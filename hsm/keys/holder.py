"""The owner of the token: one process at a time, which opens it with its keys, and again after it was lost.

The configuration and the state directory go in, a keyring comes out. Called by `hsm.server`, and by `cardswitch hsm`
while no HSM process runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import BinaryIO

from hsm.config import HsmConfig
from hsm.errors import ConfigurationError, HsmError, KeyStoreError, TokenError
from hsm.keys.backup import newest_intact
from hsm.keys.lifetimes import lifetimes
from hsm.keys.provisioning import provision, write_files
from hsm.keys.store import KeyStore
from hsm.keys.token import Token
from hsm.keys.token_keyring import TokenKeyring


class Keyholder:
    """Opens the token with its keys, again after it was lost.

    Attributes:
        token, store: of the last `open` that went well.
        provisions: whether keys make themselves: as configured, and never under dual control.
    """

    token: Token
    store: KeyStore
    provisions: bool

    def __init__(self, config: HsmConfig, state_directory: Path, *, clock: Callable[[], float] = time) -> None:
        self._config = config
        self._state = state_directory
        self._clock = clock
        self._token: Token | None = None

    def open(self, *, provisioning: bool = True, required: bool = True) -> tuple[TokenKeyring, dict[str, str]]:
        """Return the keyring and the check values by key name.

        Args:
            provisioning: make the configured keys that are missing, or refuse where that is not to be; False: leave
                them missing, for an officer who is about to bring them.
            required: refuse where a configured key is missing and none is to be made.
        Raises:
            TokenError, KeyStoreError: token or keys cannot be opened; where files are damaged, with the way back.
            ConfigurationError: the configuration and the keys contradict each other.
        """
        try:
            self._open_store()
            self.provisions = self._config.provisions and not self.store.control.enforced
            self.store.configured = frozenset(key.name for key in self._config.keys)
            if provisioning and (self.provisions or required):
                provision(self.store, self._config.keys, self._state / "exchange", self.provisions)
        except HsmError:
            self.close()
            raise
        return self.store.keyring(), self.store.check_values()

    def seal_audit(self, data: bytes) -> bytes:
        """Return the seal of data under the audit key of the token that is open now."""
        return self.token.seal_audit(data)

    def write_party_files(self) -> None:
        """Bring `state/exchange` up to date after a key was changed, where keys are provisioned."""
        if self.provisions:
            write_files(self.store, self._config.keys, self._state / "exchange")

    def close(self) -> None:
        """Forget the keys."""
        if self._token is not None:
            with suppress(HsmError):
                self._token.close()
        self._token = None

    def _open_store(self) -> None:
        directory = self._state / "hsm"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise KeyStoreError(f"{directory}: {error.strerror}") from None
        try:
            self._token = self.token = Token(self._config, directory)
            self.store = KeyStore(
                self.token,
                directory,
                grace_s=self._config.key_grace_s,
                clock=self._clock,
                lifetime_days=lifetimes(self._config.key_lifetime_days),
                refuse_expired=self._config.expired_keys == "refuse",
            )
        except (TokenError, KeyStoreError) as error:
            backup = newest_intact(directory)
            if backup is None or (isinstance(error, TokenError) and self._config.module):
                raise
            way_back = f"the last good copy is {backup.path}: cardswitch hsm restore"
            raise type(error)(f"{error}; if it is damaged, {way_back}") from None


def hold_lock(directory: Path) -> BinaryIO:
    """Return a file whose lock says that this process owns the token; the lock goes when the process does.

    Raises:
        ConfigurationError: another process has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(os.open(directory / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigurationError(f"{directory}: another HSM process owns this token") from None
    return file
