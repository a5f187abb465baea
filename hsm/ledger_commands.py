"""Commands on the ledger's seals: the switch has them signed, auditors have them checked, officers accept a head.

The rules are in `hsm.ledger_seals`. Accepting a head is under dual control (`hsm.dual_control`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from hsm.commands import HsmRefused
from hsm.ledger_seals import MAX_CLAIMS, LedgerHead, LedgerWitness


class SealLedger(msgspec.Struct, frozen=True, tag="seal_ledger", kw_only=True):
    """Sign seal `number`: `digest` and `previous` are 32 bytes, `previous_mac` 32 bytes or empty."""

    number: int
    digest: bytes
    previous: bytes
    previous_mac: bytes = b""


class LedgerSealed(msgspec.Struct, frozen=True, tag="ledger_sealed"):
    """The MAC, 32 bytes."""

    mac: bytes


class CheckLedgerSeals(msgspec.Struct, frozen=True, tag="check_ledger_seals", kw_only=True):
    """At most 500 claims of number, digest and MAC; none: only the head is asked for."""

    claims: tuple[tuple[int, bytes, bytes], ...] = ()


class AcceptLedgerHead(msgspec.Struct, frozen=True, tag="accept_ledger_head", kw_only=True):
    """Go on from seal `number` with this digest, after any later signature."""

    number: int
    digest: bytes


class LedgerSealsChecked(msgspec.Struct, frozen=True, tag="ledger_seals_checked"):
    """Positions of the claims that are not this token's MACs, its last seal (None: it has signed none), and why it
    signs nothing any more (empty: it does)."""

    wrong: tuple[int, ...]
    head: LedgerHead | None
    problem: str = ""


LedgerRequest = SealLedger | CheckLedgerSeals | AcceptLedgerHead
LedgerAnswer = LedgerSealed | LedgerSealsChecked


def ledger_handlers(witness: LedgerWitness) -> dict[type, Callable[[Any], Any]]:
    """Return what answers the commands."""
    one_at_a_time = asyncio.Lock()

    async def sign(request: SealLedger) -> LedgerSealed:
        async with one_at_a_time:
            mac, head = witness.sign(request.number, request.digest, request.previous, request.previous_mac)
            if head != witness.head:
                await _keep(witness, head)
            return LedgerSealed(mac)

    async def accept(request: AcceptLedgerHead) -> LedgerSealsChecked:
        async with one_at_a_time:
            await _keep(witness, witness.accepted(request.number, request.digest))
            witness.problem = ""
            return LedgerSealsChecked((), witness.head)

    def check(request: CheckLedgerSeals) -> LedgerSealsChecked:
        if len(request.claims) > MAX_CLAIMS:
            raise HsmRefused("malformed", f"at most {MAX_CLAIMS} seals")
        return LedgerSealsChecked(witness.wrong(request.claims), witness.head, witness.problem)

    return {SealLedger: sign, AcceptLedgerHead: accept, CheckLedgerSeals: check}


def head_facts(witness: LedgerWitness) -> Callable[[AcceptLedgerHead], tuple[str, ...]]:
    """Return the function that gives the lines which an approval of a head binds: the seal, and the token's last one.

    It raises HsmRefused for an invalid head.
    """

    def facts(request: AcceptLedgerHead) -> tuple[str, ...]:
        accepted = witness.accepted(request.number, request.digest)
        head = witness.head
        last = f"the token signed seal {head.number}:{head.digest.hex()} last" if head else "the token has no last seal"
        problem = (witness.problem,) if witness.problem else ()
        return (f"goes on from seal {accepted.number}:{accepted.digest.hex()}", last, *problem)

    return facts


async def _keep(witness: LedgerWitness, head: LedgerHead) -> None:
    # The MAC of the file is made here, on the token's thread; only the disk is waited for elsewhere.
    store = witness.storing(head)
    await asyncio.to_thread(store)
    witness.head = head
