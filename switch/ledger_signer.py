"""Has the token sign the seals of the ledger's hash chain: a socket goes in, a signer for `ledger.writer` comes out.

It runs on the journal's event loop, with a connection of its own: payments do not wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from hsm.asyncio_client import AsyncioHsm, open_hsm
from hsm.commands import HsmRefused, HsmUnavailable
from hsm.ledger_commands import CheckLedgerSeals, LedgerSealed, LedgerSealsChecked, SealLedger
from ledger.errors import SealNotSigned
from ledger.seal import SealToSign, Signer

Expected = TypeVar("Expected")


@asynccontextmanager
async def open_signer(socket: Path) -> AsyncIterator[Signer]:
    """Connect to the HSM, and again where the connection is lost."""
    async with open_hsm(socket) as hsm:
        yield HsmSigner(hsm)


class HsmSigner:
    """`ledger.seal.Signer` by commands of the HSM."""

    def __init__(self, hsm: AsyncioHsm) -> None:
        self._hsm = hsm

    async def last_signed(self) -> int:
        answer = await self._ask(CheckLedgerSeals(), LedgerSealsChecked)
        return answer.head.number if answer.head is not None else 0

    async def sign(self, seal: SealToSign) -> bytes:
        request = SealLedger(
            number=seal.number, digest=seal.digest, previous=seal.previous, previous_mac=seal.previous_mac
        )
        return (await self._ask(request, LedgerSealed)).mac

    async def _ask(self, request: CheckLedgerSeals | SealLedger, kind: type[Expected]) -> Expected:
        try:
            answer = await self._hsm.ask(request)
        except (HsmRefused, HsmUnavailable) as error:
            raise SealNotSigned(str(error)) from None
        if not isinstance(answer, kind):
            raise SealNotSigned(f"the HSM answered with {type(answer).__name__}")
        return answer
