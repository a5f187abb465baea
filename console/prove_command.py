"""`cardswitch prove`: a running system in, every difference between its three kinds of books out; 0 where none is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from console.config import Config, require_switch
from console.database_roles import AUDITOR, GATEWAY
from console.errors import ConsoleError
from console.postgresql import resolve_dsn
from console.prove import Proof, prove_system
from console.supervisor import control_socket

if TYPE_CHECKING:
    from rich.console import Console

    from simulators.book import BookLine

SHOWN = 20


def run_prove(config: Config, patience_s: float, as_json: bool) -> int:
    """Print the proof. Returns the exit status: 1 where there is a difference."""
    proof = proof_of(config, patience_s)
    if as_json:
        import msgspec

        print(msgspec.json.encode(proof.document()).decode())
    else:
        from rich.console import Console

        print_proof(Console(highlight=False), proof)
    return 0 if proof.agrees else 1


def proof_of(config: Config, patience_s: float = 0.0) -> Proof:
    """Compare all books of the system that runs in the configuration's state directory.

    Args:
        patience_s: while there are differences, look again for so long; queues may be draining.

    Raises: ConsoleError where the ledger or a book cannot be read.
    """
    import asyncpg

    from console.database_errors import CONNECTING, unreachable
    from simulators.errors import BookError

    require_switch(config)
    sockets = {link.name: control_socket(config, link.name) for link in config.issuer}

    async def gateway_book() -> Iterable[BookLine]:
        return await gateway_lines(config)

    try:
        return asyncio.run(
            prove_system(
                resolve_dsn(config.postgresql, config.state_path, AUDITOR),
                issuer_sockets={name: path for name, path in sockets.items() if path.exists()},
                book_directory=books_directory(config),
                gateway_book=gateway_book,
                patience_s=patience_s,
            )
        )
    except CONNECTING as error:
        raise unreachable(config.postgresql, error) from None
    except asyncpg.PostgresError as error:
        raise ConsoleError(f"the ledger cannot be read: {error}", "look at postgresql.log") from None
    except BookError as error:
        raise ConsoleError(str(error), "mend or remove that book") from None


async def gateway_lines(config: Config) -> list[BookLine]:
    """The gateway's own book, in the words of `simulators.book`."""
    from gateway.book import book
    from simulators.book import BookLine

    lines = await book(resolve_dsn(config.postgresql, config.state_path, GATEWAY))
    return [
        BookLine(
            link=line.link,
            key=line.key,
            currency=line.currency,
            held_minor=line.held_minor,
            posted_minor=line.posted_minor,
            settled=line.settled,
        )
        for line in lines
    ]


def books_directory(config: Config) -> Path:
    """Where acquirers put their books, *.jsonl."""
    return config.state_path / "books"


def print_proof(console: Console, proof: Proof) -> None:
    """The proof for people: the compared books, and each difference."""
    from rich.markup import escape

    from messages.money import Money

    amounts = ", ".join(Money(amount, currency).format() for currency, amount in proof.amounts.items()) or "nothing"
    console.print(f"{proof.transactions} payments in the ledger, {escape(amounts)} held and posted")
    if proof.unwitnessed:
        console.print(f"[yellow]{proof.unwitnessed} of them by acquirers that gave no book[/]")
    if proof.agrees:
        console.print("[bold green]no difference[/] between issuers' books, ledger and acquirers' books")
        return
    for difference in proof.differences[:SHOWN]:
        console.print(f"  [red]{escape(difference.kind)}[/]  {escape(difference.text)}")
    if len(proof.differences) > SHOWN:
        console.print(f"  … and {len(proof.differences) - SHOWN} more; --json lists them")
    console.print(f"[bold red]{len(proof.differences)} differences[/]")
