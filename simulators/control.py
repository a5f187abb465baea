"""The control socket of a simulated issuer or network: JSON lines over a unix socket.

One command a line in, result lines out, then a last line with "ok". Served inside the simulator's process; `ask` is the
blocking other end for the command line, tests and `prove`. Card numbers leave masked.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from messages.errors import MessagesError
from messages.mask import mask_pan
from messages.message import Message
from simulators.book import BookLine
from simulators.errors import ControlError, SimulatorError
from simulators.faults import MAX_DELAY_S, FaultRule, answering_problems
from simulators.issuer.accounts import AccountRule, account_problems
from simulators.issuer.party import Party

MAX_COMMAND_BYTES = 65_536
LINES_AT_ONCE = 500

# command → what it takes besides "cmd", and what comes back.
COMMANDS: dict[str, str] = {
    "book": "→ a line for each transaction (see simulators.book.BookLine)",
    "totals": "→ a line for each business day, issuer, acquirer and currency (see SettlementLine)",
    "fault": "rule: a fault rule (see simulators.faults.FaultRule) → rules: how many there are now",
    "faults": "→ a line for each rule",
    "clear": "name: a rule's name, all without → cleared: how many",
    "chargeback": "reference: network key, RRN or trace id; amount_minor: all that is posted without → de7, stan",
    "list-card": "pan; action: add, delete or inquire → response_code: of the switch, empty where it does not answer",
    "manage": "what: sign-on, sign-off, cut-over or echo; day: MMDD that a cut-over opens → response_code",
    "reconcile": "day: MMDD; currency: alphabetic → response_code",
    "exchange-key": "kind: pin or mac → done: whether the switch took a new key, kcv: of the key in force",
    "accounts": "→ a line for each card used, masked; set: an account rule, → accounts: how many",
    "member": "name: an issuer behind a network; available: false lets the network answer for it → available",
    "records": "→ a line for each administrative text",
    "drop": "→ dropped: how many connections were closed",
    "refuse": "seconds: no connection is taken for so long; listening: false closes the port → dropped",
    "stats": "→ counts of messages and faults",
}


class Controlled(Protocol):
    """What a control socket controls: `simulators.issuer.server.IssuerServer`."""

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


async def serve_control(
    path: Path, server: Controlled, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen on `path` (made with mode 0600, an old socket is replaced) until cancelled."""
    sock = trio.socket.from_stdlib_socket(_bound(path))
    try:
        task_status.started()
        await trio.serve_listeners(partial(_converse, server=server), [trio.SocketListener(sock)])
    finally:
        sock.close()
        _remove(path)


def ask(path: Path, command: str, timeout_s: float = 30.0, **arguments: object) -> list[dict[str, Any]]:
    """Send one command to a control socket and wait for all its result lines; blocking.

    Args:
        path: the socket.
        command: one of `COMMANDS`; its arguments by keyword.
    Returns:
        The result lines; for commands without lines one dict with the values of the last line.
    Raises:
        ControlError: no simulator there, or it says no.
    """
    lines = _exchange(path, {"cmd": command, **arguments}, timeout_s)
    if not lines:
        raise ControlError(f"{path}: the simulator hung up")
    last = msgspec.json.decode(lines[-1])
    if not last.pop("ok", False):
        raise ControlError(f"{path}: {last.get('error', 'broken answer')}")
    return [msgspec.json.decode(line) for line in lines[:-1]] or ([last] if last else [])


def ask_book(path: Path, timeout_s: float = 60.0) -> list[BookLine]:
    """The book behind a control socket; blocking, errors as in `ask`."""
    lines = _exchange(path, {"cmd": "book"}, timeout_s)
    if not lines or not msgspec.json.decode(lines[-1]).get("ok"):
        raise ControlError(f"{path}: the book did not come whole")
    decode = msgspec.json.Decoder(BookLine).decode
    return [decode(line) for line in lines[:-1]]


def _bound(path: Path) -> socket.socket:
    """A listening unix socket that only this user may open."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(16)
    except OSError as error:
        sock.close()
        raise ControlError(f"{path}: {error.strerror or error}") from None
    return sock


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _exchange(path: Path, command: dict[str, object], timeout_s: float) -> list[bytes]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode(command) + b"\n")
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                return [line for line in file.read().split(b"\n") if line]
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}; is the simulator running?") from None


async def _converse(stream: trio.SocketStream, server: Controlled) -> None:
    """Commands of one connection, one after the other."""
    buffer = b""
    try:
        async for data in stream:
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                async for answer in _results(line, server):
                    await stream.send_all(answer)
            if len(buffer) > MAX_COMMAND_BYTES:
                await stream.send_all(_last(error="the command is too long"))
                break
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _results(line: bytes, server: Controlled) -> AsyncIterator[bytes]:
    try:
        command = msgspec.json.decode(line, type=dict[str, Any])
        starter = _STARTERS.get(str(command.get("cmd")))
        if starter is not None:
            yield _last(ok=True, **await starter(command, server))
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
        yield _last(ok=True, **last)
    except (SimulatorError, MessagesError, ValueError, msgspec.MsgspecError) as error:
        yield _last(error=str(error))


def _last(*, ok: bool = False, **values: object) -> bytes:
    return msgspec.json.encode({"ok": ok, **values}) + b"\n"


Result = tuple[Iterable[object], dict[str, object]]


def _book(command: dict[str, Any], server: Controlled) -> Result:
    return server.issuer.book(), {}


def _fault(command: dict[str, Any], server: Controlled) -> Result:
    rule = msgspec.convert(command.get("rule"), FaultRule)
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
        rule = msgspec.convert(command["set"], AccountRule)
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


# What waits for the switch, at most ten seconds.
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
