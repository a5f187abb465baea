"""Commands of a simulated issuer or network: a line of JSON in, result lines out.

Called by `simulators.control` inside the simulator's process. Card numbers leave masked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec
import trio

from messages.errors import MessagesError
from messages.mask import mask_pan
from messages.message import Message
from simulators.errors import SimulatorError
from simulators.faults import MAX_DELAY_S, FaultRule, answering_problems
from simulators.issuer.accounts import AccountRule, account_problems
from simulators.issuer.party import Party
from simulators.scenario_table import struct_of

LINES_AT_ONCE = 500

# command → what it takes besides "cmd", and what comes back.
COMMANDS: dict[str, str] = {
    "book": "→ a line for each transaction (see simulators.book.BookLine)",
    "totals": "→ a line for each business day, issuer, acquirer and currency (see SettlementLine)",
    "fault": "rule: a fault rule (see simulators.faults.FaultRule) → rules: their number now",
    "faults": "→ a line for each rule",
    "clear": "name: a rule's name, all without → cleared: their number",
    "chargeback": "reference: network key, RRN or trace id; amount_minor: all that is posted without → de7, stan",
    "list-card": "pan; action: add, delete or inquire → response_code: of the switch, empty where it does not answer",
    "manage": "what: sign-on, sign-off, cut-over or echo; day: MMDD that a cut-over opens → response_code",
    "reconcile": "day: MMDD; currency: alphabetic → response_code",
    "exchange-key": "kind: pin or mac → done: whether the switch took a new key, kcv: of the key in force",
    "accounts": "→ a line for each card used, masked; set: an account rule, → accounts: their number",
    "member": "name: an issuer behind a network; available: false lets the network answer for it → available",
    "records": "→ a line for each administrative text",
    "drop": "→ dropped: number of closed connections",
    "refuse": "seconds: no connection is taken for so long; listening: false closes the port → dropped",
    "stats": "→ counts of messages and faults",
}


class Controlled(Protocol):
    """The server of a control socket: `simulators.issuer.server.IssuerServer`."""

    issuer: Party

    @property
    def connections(self) -> int: ...

    def refuse(self, seconds: float, *, listening: bool = True) -> None: ...

    def drop(self) -> None: ...

    def list_card(self, pan: str, action: str) -> Message: ...

    def manage(self, what: str, day: str = "") -> Message: ...

    def reconcile(self, day: str, currency: str) -> Message: ...

    async def answer_of(self, message: Message, timeout_s: float = 10.0) -> str: ...

    def chargeback(self, reference: str, amount_minor: int | None = None) -> Message: ...

    async def exchange_key(self, kind: str) -> bool: ...


async def results(line: bytes, server: Controlled) -> AsyncIterator[bytes]:
    """The result lines of a command, and the last line."""
    try:
        command = msgspec.json.decode(line, type=dict[str, Any])
        starter = _STARTERS.get(str(command.get("cmd")))
        if starter is not None:
            yield last_line(ok=True, **await starter(command, server))
            return
        handler = _HANDLERS.get(str(command.get("cmd")))
        if handler is None:
            raise SimulatorError(f"unknown command {command.get('cmd')!r}; there are {', '.join(COMMANDS)}")
        rows, last = handler(command, server)
        batch: list[bytes] = []
        for row in rows:
            batch.append(msgspec.json.encode(row))
            if len(batch) == LINES_AT_ONCE:
                yield b"\n".join(batch) + b"\n"
                batch.clear()
                await trio.lowlevel.checkpoint()
        if batch:
            yield b"\n".join(batch) + b"\n"
        yield last_line(ok=True, **last)
    except (SimulatorError, MessagesError, ValueError, msgspec.MsgspecError) as error:
        yield last_line(error=str(error))


def last_line(*, ok: bool = False, **values: object) -> bytes:
    """The line that ends an answer."""
    return msgspec.json.encode({"ok": ok, **values}) + b"\n"


Result = tuple[Iterable[object], dict[str, object]]


def _book(command: dict[str, Any], server: Controlled) -> Result:
    return server.issuer.book(), {}


def _fault(command: dict[str, Any], server: Controlled) -> Result:
    rule = struct_of(command.get("rule"), FaultRule)
    if problems := answering_problems(rule):
        raise ValueError("; ".join(problems))
    server.issuer.faults.add(rule)
    return (), {"rules": len(server.issuer.faults)}


def _faults(command: dict[str, Any], server: Controlled) -> Result:
    return server.issuer.faults.rules, {}


def _clear(command: dict[str, Any], server: Controlled) -> Result:
    return (), {"cleared": server.issuer.faults.clear(str(command.get("name", "")))}


def _chargeback(command: dict[str, Any], server: Controlled) -> Result:
    amount = msgspec.convert(command.get("amount_minor"), int | None)
    message = server.chargeback(str(command.get("reference", "")), amount)
    return (), {"de7": message.elements[7], "stan": message.elements[11]}


def _accounts(command: dict[str, Any], server: Controlled) -> Result:
    accounts = server.issuer.accounts
    if "set" in command:
        rule = struct_of(command["set"], AccountRule)
        if problems := account_problems(rule):
            raise ValueError("; ".join(problems))
        accounts.set(rule)
        return (), {"accounts": len(accounts)}
    return (
        {
            "card": mask_pan(pan),
            "balance_minor": account.balance_minor,
            "used": account.used,
            "response_code": account.response_code,
        }
        for pan, account in accounts.items()
    ), {}


def _stats(command: dict[str, Any], server: Controlled) -> Result:
    issuer = server.issuer
    return (), {
        "transactions": issuer.transactions,
        "accounts": len(issuer.accounts),
        "signed_on": issuer.signed_on,
        "counts": issuer.stats,
    }


def _totals(command: dict[str, Any], server: Controlled) -> Result:
    return server.issuer.settlement(), {}


def _member(command: dict[str, Any], server: Controlled) -> Result:
    available = msgspec.convert(command.get("available", True), bool)
    server.issuer.set_available(str(command.get("name", "")), available)
    return (), {"available": available}


def _records(command: dict[str, Any], server: Controlled) -> Result:
    return ({"text": record} for record in list(server.issuer.records)), {}


def _drop(command: dict[str, Any], server: Controlled) -> Result:
    dropped = server.connections
    server.drop()
    return (), {"dropped": dropped}


def _refuse(command: dict[str, Any], server: Controlled) -> Result:
    seconds = msgspec.convert(command.get("seconds"), float)
    if not 0.0 <= seconds <= MAX_DELAY_S:
        raise ValueError(f"seconds must be 0–{MAX_DELAY_S:.0f}")
    dropped = server.connections
    server.refuse(seconds, listening=msgspec.convert(command.get("listening", True), bool))
    return (), {"dropped": dropped}


async def _exchange_key(command: dict[str, Any], server: Controlled) -> dict[str, object]:
    kind = str(command.get("kind", ""))
    done = await server.exchange_key(kind)
    return {"done": done, "kcv": server.issuer.keys.check_value(kind)}


async def _list_card(command: dict[str, Any], server: Controlled) -> dict[str, object]:
    message = server.list_card(str(command.get("pan", "")), str(command.get("action", "add")))
    return {"response_code": await server.answer_of(message)}


async def _manage(command: dict[str, Any], server: Controlled) -> dict[str, object]:
    message = server.manage(str(command.get("what", "")), str(command.get("day", "")))
    return {"response_code": await server.answer_of(message)}


async def _reconcile(command: dict[str, Any], server: Controlled) -> dict[str, object]:
    message = server.reconcile(str(command.get("day", "")), str(command.get("currency", "")))
    return {"response_code": await server.answer_of(message)}


# Requests that wait for the switch, at most ten seconds.
_STARTERS: dict[str, Callable[[dict[str, Any], Controlled], Awaitable[dict[str, object]]]] = {
    "exchange-key": _exchange_key,
    "list-card": _list_card,
    "manage": _manage,
    "reconcile": _reconcile,
}

_HANDLERS: dict[str, Callable[[dict[str, Any], Controlled], Result]] = {
    "book": _book,
    "fault": _fault,
    "faults": _faults,
    "clear": _clear,
    "chargeback": _chargeback,
    "accounts": _accounts,
    "stats": _stats,
    "totals": _totals,
    "member": _member,
    "records": _records,
    "drop": _drop,
    "refuse": _refuse,
}
