"""Three books side by side: the view of issuers, the ledger and acquirers of each payment."""

from __future__ import annotations

from collections import defaultdict

from ledger.journal import Layer
from tests.simulation.world import World


def differences(world: World) -> list[str]:
    """Every payment on which the three do not agree, and every currency in which the journal does not balance."""
    found: list[str] = []
    ledger = {line.key: line for line in world.journal.book()}
    by_network_key = {line.network_key: line for line in ledger.values() if line.issuer}
    for name, client in world.clients.items():
        for asked in client.acquirer.book():
            booked = ledger.pop(asked.key, None)
            known = (asked.held_minor, asked.posted_minor)
            if not asked.settled:
                found.append(f"{asked.key}: the acquirer does not know the end: {client.acquirer.requests[asked.key]}")
            elif booked is None and known != (0, 0):
                found.append(f"{asked.key}: {name} believes {known}, the ledger has nothing")
            elif booked is not None and known != (booked.held_minor, booked.posted_minor):
                found.append(f"{asked.key}: {name} believes {known}, the ledger {_sums(booked)} ({booked.decision})")
    found += [f"{key}: in the ledger only: {_sums(line)}" for key, line in ledger.items()]
    for name, server in world.issuers.items():
        for held in server.issuer.book():
            line = by_network_key.pop(held.key, None)
            known = (held.held_minor, held.posted_minor)
            if line is None and known != (0, 0):
                found.append(f"{held.key}: {name} has {known}, the ledger nothing")
            elif line is not None and known != _sums(line):
                found.append(f"{held.key} ({line.key}): {name} has {known}, the ledger {_sums(line)} ({line.decision})")
    found += [
        f"{line.key}: the issuer has nothing, the ledger {_sums(line)}"
        for line in by_network_key.values()
        if _sums(line) != (0, 0)
    ]
    found += [f"{line.key}: undecided" for line in world.journal.book() if not line.decided]
    sums: defaultdict[tuple[Layer, str], int] = defaultdict(int)
    for posting in world.journal.postings():
        sums[posting.layer, posting.currency] += posting.amount_minor
    return found + [f"{layer} {currency} is off by {total}" for (layer, currency), total in sums.items() if total]


def _sums(line: object) -> tuple[int, int]:
    return line.held_minor, line.posted_minor  # type: ignore[attr-defined]
