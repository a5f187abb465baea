"""The HSM's keys without its process: the officer holds the token, and each use is taken down in the audit.

The configuration goes in, with the token's lock held; `offline_officer` gives an Officer as in `console.hsm.officer`,
which calls it. Cards are not reached this way: they are in the database, behind the process.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import refusal
from hsm import process
from hsm.audit_writer import AuditWriter
from hsm.callers import CALLERS, COMMANDS, Caller, Peer
from hsm.commands import HsmRefused
from hsm.dual_control import DualControl, Noted, noted
from hsm.errors import HsmError
from hsm.key_desk import KeyDesk, key_handlers
from hsm.keys.holder import Keyholder, hold_lock
from hsm.keys.token import Token
from hsm.ledger_seals import LedgerWitness
from hsm.officer_commands import ListProposals, OfficerRequest
from hsm.wire import tag_of


@contextmanager
def open_token(config: Config) -> Iterator[Token]:
    """Open the token as it is, for its seals; nothing is made and nothing written.

    Raises:
        ConsoleError: another process has it, or it cannot be opened.
    """
    directory = config.state_path / "hsm"
    try:
        lock = hold_lock(directory)
    except HsmError as error:
        raise ConsoleError(str(error), "stop it first") from None
    keyholder = Keyholder(config.hsm_config(), config.state_path)
    try:
        keyholder.open(provisioning=False)
        yield keyholder.token
    except HsmError as error:
        raise ConsoleError(str(error)) from None
    finally:
        keyholder.close()
        lock.close()


@contextmanager
def offline_officer(config: Config) -> Iterator[OfflineOfficer]:
    """Open the token; it is made where there is none yet.

    Raises:
        HsmError: it cannot be opened, or its keys cannot be read.
    """
    process.forbid_dumps()
    keyholder = Keyholder(config.hsm_config(), config.state_path)
    # Where officers bring the keys, those that are still missing are no error here.
    keyholder.open(required=False)
    try:
        audit = AuditWriter(config.state_path / "hsm" / "audit", keyholder.token.seal_audit)
        try:
            yield OfflineOfficer(keyholder, audit, config)
        finally:
            audit.close()
    finally:
        keyholder.close()


def record_restore(config: Config, officers: tuple[str, ...]) -> None:
    """Take down that a copy was put back, with the officers who signed; the caller holds the token's lock.

    Raises:
        HsmError: the token or the audit cannot be opened.
    """
    keyholder = Keyholder(config.hsm_config(), config.state_path)
    try:
        keyholder.open(provisioning=False)
        audit = AuditWriter(config.state_path / "hsm" / "audit", keyholder.token.seal_audit)
        try:
            audit.record(_own_peer(), "restore", "", "ok", "", officers)
            audit.sync()
        finally:
            audit.close()
    finally:
        keyholder.close()


def _own_peer() -> Peer:
    commands = frozenset(COMMANDS[tag] for tag in CALLERS["officer"])
    return Peer(Caller("officer", "", frozenset({os.getuid()}), commands), os.getuid(), os.getgid(), os.getpid())


class OfflineOfficer:
    """Does the commands on keys itself; `running` is False."""

    running = False

    def __init__(self, keyholder: Keyholder, audit: AuditWriter, config: Config) -> None:
        settings = config.hsm_config()
        self._keyholder = keyholder
        self._audit = audit
        desk = KeyDesk(keyholder.store, on_change=self._changed)
        control = DualControl(
            desk,
            key_handlers(desk),
            LedgerWitness(config.state_path / "hsm", keyholder.token.seal_audit),
            wanted=settings.dual_control,
            peer=lambda: self._peer,
            expiry_s=settings.approval_hours * 3600,
            audit=lambda about: self._record(about, about.outcome),
        )
        self._handlers = control.handlers()
        self._peer = _own_peer()

    def ask(self, request: Any) -> Any:
        """Do a command and take it down; its record is on the disk before its answer is seen."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise ConsoleError("only the running HSM can do this", "start it: cardswitch up")
        outcome = "unavailable"
        officers = isinstance(request, OfficerRequest)
        try:
            answer = handler(request)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_awaited(answer))
            outcome = "ok"
        except HsmRefused as error:
            outcome = error.code
            raise refusal(error.code, error.detail) from None
        except HsmError as error:
            raise ConsoleError(str(error)) from None
        finally:
            about = noted.get() if officers else None
            if about is not None:
                self._record(about, about.outcome or outcome if outcome == "ok" else outcome)
            elif not isinstance(request, ListProposals):
                self._audit.record(self._peer, tag_of(type(request)), self._labels(request), outcome, "")
            self._audit.sync()
        return answer

    def _record(self, about: Noted, outcome: str) -> None:
        self._audit.record(
            self._peer, about.command, self._labelled(about.names, about.version), outcome, "", about.officers
        )

    def _changed(self, _: Any) -> None:
        self._keyholder.write_party_files()

    def _labels(self, request: Any) -> str:
        names = tuple(getattr(request, field, "") for field in ("name", "under"))
        return self._labelled(names, getattr(request, "version", 0))

    def _labelled(self, names: tuple[str, ...], version: int) -> str:
        """Return names with versions: of the first the one that is meant, else that in force or the last one."""
        store = self._keyholder.store
        labels = []
        for number, name in enumerate(names):
            versions = store.versions(name)
            record = store.active(name) or (versions[-1] if versions else None)
            meant = version if version and not number else record.version if record is not None else 0
            if name:
                labels.append(f"{name}/{meant}" if versions else "unknown")
        return " ".join(labels)


async def _awaited(answer: Any) -> Any:
    return await answer
