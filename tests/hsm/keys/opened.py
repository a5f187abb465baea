"""Tokens of the tests of keys: a token with one key of every role and algorithm, and clocks that stand still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hsm.config import HsmConfig, KeyConfig
from hsm.key_commands import KeyInfo
from hsm.keys.attributes import ROLES
from hsm.keys.holder import Keyholder
from hsm.keys.store import KeyStore
from tests.hsm.conftest import KEYS

CONFIG = HsmConfig(dual_control=False, keys=KEYS)
# A name for each role and algorithm that there is: "mac-aes-cmac", "bdk-tdes" …
EVERY_KEY = {
    f"{role}-{algorithm}".lower(): (role, algorithm) for role, own in ROLES.items() for algorithm in own.algorithms
}


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def opened(state: Path, *keys: KeyConfig, clock: Clock | None = None, **settings: Any) -> Iterator[Keyholder]:
    """Open a token of its own in a directory, with the configured keys made."""
    settings = {"dual_control": False} | settings
    holder = Keyholder(HsmConfig(keys=keys, **settings), state, clock=clock or Clock())
    holder.open()
    try:
        yield holder
    finally:
        holder.close()


def every_key() -> tuple[KeyConfig, ...]:
    """Return a configured key of each role and algorithm."""
    return tuple(KeyConfig(name, role, "alpha", algorithm) for name, (role, algorithm) in EVERY_KEY.items())


def info(store: KeyStore, name: str, version: int = 0) -> KeyInfo:
    """Return what a list says of a version, or of the last one."""
    infos = store.infos(name)
    return infos[-1] if not version else next(one for one in infos if one.version == version)


def statuses(store: KeyStore, name: str) -> list[str]:
    """Return the statuses of all versions, oldest first."""
    return [one.status for one in store.infos(name)]


def edit(file: Path, change: Any) -> None:
    """Rewrite a JSON file with what `change` makes of its content."""
    content = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode(change(content) or content))
