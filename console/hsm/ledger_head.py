"""`cardswitch hsm accept-ledger-head`: an officer has the token go on from a seal of a restored ledger.

The token signs the seal after the last one that it signed, and no other. A database that was restored from a backup
ends before that one, so an officer says once that this was meant. It is in the audit trail.
"""

from __future__ import annotations

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import expect, running_officer
from console.hsm.tables import print_json
from console.ledger_verification import seal_named


def run_accept(config: Config, head: str, yes: bool, as_json: bool) -> None:
    """Ask, have the HSM accept the seal, and say so."""
    import typer

    from hsm.ledger_commands import AcceptLedgerHead, LedgerSealsChecked

    number, digest = seal_named(head, "the argument")
    if not yes and not typer.confirm(f"Seals after {number} were made by this token and are given up. Go on?"):
        raise ConsoleError("nothing was changed")
    with running_officer(config) as officer:
        request = AcceptLedgerHead(number=number, digest=bytes.fromhex(digest))
        answer = expect(LedgerSealsChecked, officer.ask(request))
    assert answer.head is not None, "it was just set"
    if as_json:
        print_json({"number": answer.head.number, "digest": answer.head.digest.hex()})
    else:
        print(f"the token goes on from seal {answer.head.number}; run cardswitch ledger verify --all")
