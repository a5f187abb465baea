"""From a request's bytes to its answer: the caller's permission, the engine first, the vault where the engine lacks a
card.

A body goes in, an answer goes out through the connection, now or once the vault has answered: counted, audited and
logged without data. Called by `hsm.listener` on the loop's thread, which is also the PKCS#11 thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from time import perf_counter
from types import CoroutineType
from typing import Any, Protocol, get_args

import msgspec
import structlog

from hsm.audit_writer import AuditWriter
from hsm.callers import Peer
from hsm.card_commands import CardRequest
from hsm.commands import Dispatch, HsmRefused, Screen
from hsm.dual_control import Noted, noted
from hsm.engine import Engine, Missing, data_keys_used, not_found
from hsm.errors import AuditError, CiphertextError, KeyStoreError, TokenError, VaultError
from hsm.key_commands import KeyInfo
from hsm.key_uses import USES, VERDICTS, Use
from hsm.metrics import Metrics
from hsm.vault.vault import Vault
from hsm.vault_commands import AuditStatus, HsmStatus, ReadStatus
from hsm.wire import EXPIRED, Answer, Refused, Request, Unavailable, decode_request, tag_of

log = structlog.get_logger(__name__)

Handler = Callable[..., Any]
_CARDS_ASKED = frozenset({Screen, Dispatch, *get_args(CardRequest)})
# Outcomes of what was not done: while the audit cannot be written they are not kept for it, or callers fill the memory.
_NOTHING_DONE = frozenset({"unavailable", "not_permitted", "malformed", "expired"})
_NOT_YET = frozenset({*get_args(Missing), CoroutineType})
_EXPIRED = Refused(EXPIRED, "the command waited longer than its caller does")
_MALFORMED = Refused("malformed", "not a command of this HSM")
_FOREIGN_KEY = Refused("not_permitted", "this caller may not use that key: see [[caller]] keys")
_TOKEN_AWAY = Unavailable("the token is away")


class Asker(Protocol):
    """The sender of a command, who takes its answer."""

    @property
    def peer(self) -> Peer: ...

    def answer(self, number: int, answer: Answer) -> None: ...


class Service:
    """Answers commands.

    Args:
        engine: the rules, over an open token.
        vault: asked for what the cache lacks.
        metrics: counts.
        audit: takes down each use.
        handlers: of the commands that the engine does not know, by request type; they return the answer or a
            coroutine of it.
        log_commands: write an event for each command that lets card data out or in; refusals are always written.
    Attributes:
        engine: set by `use` when the token is back or keys have changed.
        token_lost: set once a command finds the token gone; the code that opens it again clears it.
        queued: number of waiting commands.
        asking: sender of the command that is being handled.
        dual_control: whether changes of keys take two officers, as `hsm.dual_control.DualControl.state`.
    """

    asking: Peer

    def __init__(
        self,
        engine: Engine,
        vault: Vault,
        metrics: Metrics,
        audit: AuditWriter,
        handlers: Mapping[type, Handler] | None = None,
        *,
        log_commands: bool = True,
    ) -> None:
        self.audit = audit
        self.token_lost = asyncio.Event()
        self.queued: Callable[[], int] = lambda: 0
        self.dual_control: Callable[[], str] = lambda: ""
        self._since = time.time()
        self._vault = vault
        self._metrics = metrics
        self._log = log.bind()  # once: putting a logger together costs more than a command's audit record
        self._tells = log_commands and self._log.is_enabled_for(logging.INFO)
        self._tasks: set[asyncio.Task[None]] = set()
        self._others: dict[type, Handler] = {
            ReadStatus: self._status,
            **(handlers or {}),
        }
        self.use(engine, ())

    def use(self, engine: Engine, keys: tuple[KeyInfo, ...]) -> None:
        """Go on with other keys; commands that wait are answered with these."""
        self.engine = engine
        self.keys = keys
        self._handlers = {**engine.handlers, **self._others}
        # By name: the version in force, or the last one where none is.
        labels = {key.name: f"{key.name}/{key.version}" for key in keys}
        self._key_labels = labels | {
            key.name: f"{key.name}/{key.version}" for key in keys if key.status in ("active", "")
        }
        self._labels: dict[tuple[str, ...], str] = {}
        if self.token_lost.is_set():
            self._since = time.time()
            self.token_lost.clear()

    def handle(self, asker: Asker, number: int, deadline: float, body: bytes) -> None:
        """Answer one request, now or once the vault has answered; exactly once, never raises.

        Args:
            number: of the request, for the answer.
            deadline: on `perf_counter`'s clock; later it is not done.
        """
        started = perf_counter()
        noted.set(None)  # or a refusal would be taken down as the officer's command before it
        try:
            request = decode_request(body)
        except msgspec.MsgspecError:
            # The decoder's own words may quote what it was given.
            self._answer(asker, number, None, _MALFORMED, started)
            return
        kind = type(request)
        if (
            kind not in asker.peer.commands
            or started > deadline
            or ((self.audit.failure or self.token_lost.is_set()) and kind is not ReadStatus)
        ):
            self._answer(asker, number, request, self._refusal(asker.peer, kind, started > deadline), started)
            return
        if asker.peer.keys is not None and not _names_own_keys(asker.peer.keys, request):
            self._answer(asker, number, request, _FOREIGN_KEY, started)
            return
        data_keys_used.set("")
        self.asking = asker.peer
        try:
            answer = self._handlers[kind](request)
        except Exception as error:
            answer = self._failure(error)
        if type(answer) not in _NOT_YET:
            if kind in _CARDS_ASKED:
                self._metrics.cache_hit()
            self._answer(asker, number, request, answer, started)
            return
        if type(answer) is not CoroutineType:
            answer = self._from_vault(request, answer, deadline)
        task = asyncio.create_task(self._later(asker, number, request, answer, started))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refuse_connection(self, peer: Peer) -> None:
        """Take down that a user of the machine connected who may not."""
        if not self.audit.failure:
            self.audit.record(peer, "connect", "", "not_permitted", "")
        self._metrics.command("connect", "not_permitted", 0.0)

    def count_overloaded(self) -> None:
        self._metrics.command("unknown", "overloaded", 0.0)

    async def drain(self) -> None:
        """Wait for the answers that the vault still owes."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _refusal(self, peer: Peer, kind: type, late: bool) -> Answer:
        """Return why a command is not even looked at."""
        if kind not in peer.commands:
            return Refused("not_permitted", f"{peer.caller.name} may not send {tag_of(kind)}")
        if late:
            return _EXPIRED
        return Unavailable(self.audit.failure) if self.audit.failure else _TOKEN_AWAY

    async def _from_vault(self, request: Any, missing: Missing, deadline: float) -> Answer:
        self._metrics.cache_miss()
        card = await self._vault.find(missing)
        if card is None:
            raise not_found(missing)
        if perf_counter() > deadline:
            return _EXPIRED
        if type(request) is Screen:
            return self.engine.screened(request, card)
        answer: Answer = self._handlers[type(request)](request, card)
        return answer

    def _status(self, _: ReadStatus) -> HsmStatus:
        token, vault, audit, queued = (
            not self.token_lost.is_set(),
            self._vault.available,
            self.audit.state,
            self.queued(),
        )
        self._metrics.state(token=token, vault=vault, audit=not audit.failure, queued=queued, records=audit.records)
        return HsmStatus(
            token,
            vault,
            {key.name: key.kcv for key in self.keys if key.status == "active"},
            self._metrics.text(),
            since=self._since,
            queued=queued,
            key_list=self.keys,
            audit=AuditStatus(audit.records, audit.segment, audit.chain, audit.failure),
            dual_control=self.dual_control(),
        )

    async def _later(
        self, asker: Asker, number: int, request: Request, coming: Coroutine[Any, Any, Answer], started: float
    ) -> None:
        try:
            answer = await coming
        except Exception as error:
            answer = self._failure(error)
        self._answer(asker, number, request, answer, started)

    def _failure(self, error: Exception) -> Answer:
        match error:
            case HsmRefused():
                return Refused(error.code, error.detail)
            case VaultError() | CiphertextError() | AuditError() | KeyStoreError():
                return Unavailable(str(error))
            case TokenError():
                if not self.token_lost.is_set():
                    log.error("token_lost", reason=str(error))
                    self._since = time.time()
                    self.token_lost.set()
                return Unavailable(str(error))
            case _:
                # A bug of ours. Its text and its traceback may hold data: name the class and the place only.
                place = error.__traceback__
                while place is not None and place.tb_next is not None:
                    place = place.tb_next
                where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place is not None else ""
                log.error("command_failed", error=type(error).__name__, where=where)
                return Unavailable("the HSM failed on this command")

    def _answer(self, asker: Asker, number: int, request: Request | None, answer: Answer, started: float) -> None:
        use, answered = USES[type(request)], type(answer)
        if answered is Refused:
            outcome = answer.code  # type: ignore[union-attr]
        elif answered is Unavailable:
            outcome = "unavailable"
        else:
            outcome = "ok" if answered not in VERDICTS or answer.verified else "not_verified"  # type: ignore[union-attr]
        self._metrics.command(use.name, outcome, perf_counter() - started)
        if use.noted:
            answer = self._officer_taken_down(asker.peer, use, outcome, answer)
        elif use.keys is not None:
            answer = self._taken_down(asker.peer, use, request, outcome, answer)
        asker.answer(number, answer)

    def _taken_down(self, peer: Peer, use: Use, request: Any, outcome: str, answer: Answer) -> Answer:
        """Audit and log a use; return its answer, or that the audit could not be written where that must be certain."""
        if outcome == "unavailable" and self.audit.failure:
            return answer  # each command's answer now: not even a line of the log for each
        assert use.keys is not None, "this distinguishes it from a command that uses no keys"
        names = use.keys(request)
        keys = self._labels.get(names) if not use.versioned else None
        if keys is None:
            keys = self.labelled(names, request.version if use.versioned else 0)
        own = data_keys_used.get()
        if own:
            keys = f"{keys} {own}" if keys else own
        trace_id = request.trace_id if use.traced else ""
        if not self.audit.failure or outcome not in _NOTHING_DONE:
            self.audit.record(peer, use.tag, keys, outcome, trace_id)
        # One event a payment: a line costs as much as the command, so the others are only counted.
        if outcome != "ok" or (use.told and self._tells):
            self._log.info(
                "hsm_command",
                command=use.name,
                caller=peer.caller.name,
                outcome=outcome,
                trace_id=trace_id,
                keys=keys.split(),
            )
        return self._synced(answer) if use.lasting else answer

    def _officer_taken_down(self, peer: Peer, use: Use, outcome: str, answer: Answer) -> Answer:
        """Audit and log a command of dual control, as the command that it is about, with its officers."""
        if outcome == "unavailable" and self.audit.failure:
            return answer
        about = noted.get() or Noted(use.tag)
        if outcome == "ok":
            outcome = about.outcome or outcome
        keys = self.labelled(about.names, about.version)
        if not self.audit.failure or outcome not in _NOTHING_DONE:
            self.audit.record(peer, about.command, keys, outcome, "", about.officers)
        self._log.info(
            "officer_command", command=about.command, outcome=outcome, keys=keys.split(), officers=list(about.officers)
        )
        return self._synced(answer)

    def _synced(self, answer: Answer) -> Answer:
        """Return the answer once the audit is on the disk."""
        try:
            self.audit.sync()
        except AuditError as error:
            return Unavailable(str(error))
        return answer

    def labelled(self, names: tuple[str, ...], version: int = 0) -> str:
        """Return names with versions, the first with the one that is meant; a name that no key has is not repeated, it
        may be anything."""
        labels = [self._key_labels.get(name, "unknown") for name in names if name]
        if version and labels and labels[0] != "unknown":
            labels[0] = f"{names[0]}/{version}"
        text = " ".join(labels)
        if not version and "unknown" not in labels:
            self._labels[names] = text
        return text


def _names_own_keys(keys: frozenset[str], request: Request) -> bool:
    """Return whether a caller that has these keys may send a request that names those which it names."""
    names = USES[type(request)].keys
    return names is None or keys.issuperset(names(request))
