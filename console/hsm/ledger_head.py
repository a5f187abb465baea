"""`cardswitch hsm accept-ledger-head`: officers have the token go on from a seal of a restored ledger.

The token signs the seal after the last one that it signed, and no other. A database that was restored from a backup
ends before that one, so two officers say once that this was meant: one proposes it (`console.hsm.approvals`), another
one approves. Where there is no dual control, one person says it. It is in the audit trail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import expect, open_officer
from console.hsm.tables import print_json
from console.ledger_verification import seal_named

if TYPE_CHECKING:
    from hsm.ledger_commands import AcceptLedgerHead, LedgerSealsChecked


def accept_request(head: str) -> AcceptLedgerHead:
    """Return the command for a head, NUMBER:DIGEST.

    Raises:
        UsageError: it is none.
    """
    from hsm.ledger_commands import AcceptLedgerHead

    number, digest = seal_named(head, "the argument")
    return AcceptLedgerHead(number=number, digest=bytes.fromhex(digest))


def run_accept(config: Config, request: AcceptLedgerHead, yes: bool, as_json: bool) -> None:
    """Ask, have the HSM accept the seal, and say so."""
    import typer

    from hsm.ledger_commands import LedgerSealsChecked

    question = f"Seals after {request.number} were made by this token and are given up. Go on?"
    if not yes and not typer.confirm(question):
        raise ConsoleError("nothing was changed")
    with open_officer(config) as officer:
        show_accepted(expect(LedgerSealsChecked, officer.ask(request)), as_json)


def show_accepted(answer: LedgerSealsChecked, as_json: bool) -> None:
    """Print from which seal the token goes on."""
    assert answer.head is not None, "it was just set"
    if as_json:
        print_json({"number": answer.head.number, "digest": answer.head.digest.hex()})
    else:
        print(f"the token goes on from seal {answer.head.number}; run cardswitch ledger verify --all")
