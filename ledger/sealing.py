"""Sealing that goes on for as long as the journal is open: new seals each second, and their MACs.

`ledger.writer` runs it in one process of a machine; where the token is away or refuses, payments and new seals go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import asyncpg

from ledger.errors import SealNotSigned
from ledger.seal import Signer, add_macs, seal

REMINDER_S = 300.0
MAX_REASON = 500  # characters of an error in the log

OpenSigner = Callable[[], AbstractAsyncContextManager[Signer]]
"""Opens the way to the token that signs seals, on the journal's event loop."""

_log = logging.getLogger(__name__)


class Sealing:
    """Seals one ledger until cancelled.

    Args:
        dsn: of the role cardswitch_ledger. every_s: between two rounds; 0: this process does not seal.
        connect_s: for the connection of a round.
        signer: has the token sign; None: seals are not signed.
        clock: seconds, only going forward.
    """

    def __init__(
        self,
        dsn: str,
        every_s: float,
        connect_s: float,
        signer: OpenSigner | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = every_s
        self._dsn = dsn
        self._connect_s = connect_s
        self._signer = signer
        self._clock = clock
        self._done_at = dict.fromkeys(("seals", "macs") if signer else ("seals",), clock())
        self._said = ("", 0.0)
        self._failed = ("", 0.0, 0)  # kind of the failure that was logged last, when, and how many came since

    def behind_s(self) -> dict[str, float]:
        """Seconds since all there was had its seals, and since these had their MACs; empty where nothing is sealed."""
        now = self._clock()
        return {name: now - at for name, at in self._done_at.items()} if self.every_s else {}

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            signer = await stack.enter_async_context(self._signer()) if self._signer is not None else None
            while True:
                await asyncio.sleep(self.every_s)
                try:
                    connection: Any = await asyncpg.connect(self._dsn, timeout=self._connect_s)
                    try:
                        await self.seal(connection, signer)
                    finally:
                        await connection.close()
                except Exception as error:
                    self.failed(error)

    def failed(self, error: Exception) -> None:
        """Log a round that failed: its reason at once, the same kind of failure again after five minutes at most."""
        now, kind, (said, at, more) = self._clock(), type(error).__name__, self._failed
        if kind == said and now - at < REMINDER_S:
            self._failed = (said, at, more + 1)
            return
        self._failed = (kind, now, 0)
        _log.error(
            "the ledger could not be sealed: %s: %s; nothing has been sealed for %d s, %d such rounds were not logged",
            *(kind, str(error)[:MAX_REASON], now - self._done_at["seals"], more),
        )

    async def seal(self, connection: Any, signer: Signer | None) -> None:
        """One round. A token that does not sign is said at once, and then every five minutes."""
        await seal(connection)
        self._done_at["seals"] = self._clock()
        self._failed = ("", 0.0, 0)
        if signer is None:
            return
        try:
            await add_macs(connection, signer)
        except SealNotSigned as error:
            self._say(str(error))
        else:
            self._done_at["macs"] = self._clock()
            self._said = ("", 0.0)

    def _say(self, reason: str) -> None:
        now, (said, at) = self._clock(), self._said
        if reason != said or now - at >= REMINDER_S:
            self._said = (reason, now)
            _log.error(
                "the token does not sign the ledger's seals, the last MAC is %d s old: %s",
                *(now - self._done_at["macs"], reason),
            )
