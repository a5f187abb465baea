"""Re-wraps in small batches until it is killed: `python -m tests.hsm.vault.rewrap_process DSN`; "begun" says so."""

from __future__ import annotations

import asyncio
import sys

from hsm.key_commands import Rewrap
from hsm.vault.cards import Numbers
from hsm.vault.database import Database
from tests.hsm.vault.counter import Counter, RotatingKeyring


class KnownKeyring(RotatingKeyring):
    """The same data keys in each process of a test."""

    def new_key(self, name: str) -> bytes:
        return name.encode().ljust(32)


async def rewrap(dsn: str) -> None:
    """Never returns."""
    keyring = KnownKeyring()
    keyring.rotate()
    connections = Database(dsn, 5.0)
    await connections.open()
    counter = Counter(connections, keyring, Numbers())
    print("begun", flush=True)
    while True:
        await counter.ask(Rewrap(limit=4))


if __name__ == "__main__":
    asyncio.run(rewrap(sys.argv[1]))
