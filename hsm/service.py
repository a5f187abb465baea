"""From a request's bytes to its answer: the engine first, the vault where the engine lacks a card.

A body goes in, an answer or a task of one comes out, counted and logged without data. Called by `hsm.listener` on the
loop's thread, which is also the PKCS#11 thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import msgspec
import structlog

from hsm.commands import Dispatch, GenerateMac, HsmRefused, Screen
from hsm.engine import Engine, Missing, NewCard, not_found, screened
from hsm.errors import CiphertextError, TokenError, VaultError
from hsm.metrics import Metrics
from hsm.vault.cards import card_token, check_expiry
from hsm.vault.vault import Vault
from hsm.vault_commands import CardToken, HsmStatus, ReadStatus, ResolveToken, Tokenize
from hsm.wire import Answer, Refused, Request, Unavailable, decode_request

log = structlog.get_logger(__name__)

Reply = Callable[[Answer], None]


class Service:
    """Answers commands.

    Args:
        engine: the rules, over an open token; None while there is none. Set again when the token is back.
        vault: asked for what the cache lacks.
        metrics: counts.
        key_check_values: by key name, for `status`.
        log_commands: write an event for each command that lets card data out or in; refusals are always written.
    Attributes:
        token_lost: set once a command finds the token gone; whoever opens it again clears it.
    """

    def __init__(self, engine: Engine, vault: Vault, metrics: Metrics, *, log_commands: bool = True) -> None:
        self.engine = engine
        self.key_check_values: dict[str, str] = {}
        self.token_lost = asyncio.Event()
        self._vault = vault
        self._metrics = metrics
        self._log_commands = log_commands
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[type, Callable[[Any], Answer | Coroutine[Any, Any, Answer]]] = {
            Screen: self._screen,
            Dispatch: self._dispatch,
            GenerateMac: lambda request: self.engine.mac(request),
            Tokenize: self._tokenize,
            ResolveToken: self._vault.resolve,
            ReadStatus: self._status,
        }

    def handle(self, body: bytes, reply: Reply) -> None:
        """Answer one request through `reply`, now or once the vault has answered; exactly once, never raises."""
        started = perf_counter()
        try:
            request = decode_request(body)
        except msgspec.MsgspecError:
            # The decoder's own words may quote what it was given.
            self._answer(None, Refused("malformed", "not a command of this HSM"), started, reply)
            return
        if self.token_lost.is_set() and not isinstance(request, ReadStatus):
            self._answer(request, Unavailable("the token is away"), started, reply)
            return
        try:
            answer = self._handlers[type(request)](request)
        except Exception as error:
            answer = self._failure(error)
        if isinstance(answer, Coroutine):
            task = asyncio.create_task(self._later(request, answer, started, reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(request, answer, started, reply)

    async def drain(self) -> None:
        """Wait for the answers that the vault still owes."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _screen(self, request: Screen) -> Answer | Coroutine[Any, Any, Answer]:
        answer = self.engine.screen(request)
        if isinstance(answer, Missing):
            self._metrics.cache_miss()
            return self._screen_from_vault(answer)
        self._metrics.cache_hit()
        return answer

    async def _screen_from_vault(self, missing: Missing) -> Answer:
        card = await self._vault.find(missing)
        if card is None:
            raise not_found(missing)
        return screened(card)

    def _dispatch(self, request: Dispatch) -> Answer | Coroutine[Any, Any, Answer]:
        answer = self.engine.dispatch(request)
        if isinstance(answer, Missing):
            self._metrics.cache_miss()
            return self._dispatch_from_vault(request, answer)
        self._metrics.cache_hit()
        return answer

    async def _dispatch_from_vault(self, request: Dispatch, missing: Missing) -> Answer:
        card = await self._vault.find(missing)
        if card is None:
            raise not_found(missing)
        answer = self.engine.dispatch(request, card)
        assert not isinstance(answer, Missing), "the engine asks for a card that it was given"
        return answer

    async def _tokenize(self, request: Tokenize) -> CardToken:
        if request.kind not in ("", "tok", "pm"):
            raise HsmRefused("malformed", "kind is tok, pm or empty")
        if request.source:
            return await self._vault.exchange(request.source, request.kind)
        check_expiry(request.expiry)
        found = self.engine.identify(request.pan, request.expiry)
        card = await self._vault.find(found) if isinstance(found, NewCard) else found
        assert card is not None, "the vault stores a new card or fails"
        if not request.kind:
            return card_token(card, request.expiry)
        return await self._vault.issue(request.kind, card, request.expiry)

    def _status(self, _: ReadStatus) -> HsmStatus:
        token, vault = not self.token_lost.is_set(), self._vault.available
        self._metrics.token_up(token)
        self._metrics.vault_up(vault)
        return HsmStatus(token, vault, self.key_check_values, self._metrics.text())

    async def _later(self, request: Request, coming: Coroutine[Any, Any, Answer], started: float, reply: Reply) -> None:
        try:
            answer = await coming
        except Exception as error:
            answer = self._failure(error)
        self._answer(request, answer, started, reply)

    def _failure(self, error: Exception) -> Answer:
        match error:
            case HsmRefused():
                return Refused(error.code, error.detail)
            case VaultError() | CiphertextError():
                return Unavailable(str(error))
            case TokenError():
                log.error("token_lost", reason=str(error))
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

    def _answer(self, request: Request | None, answer: Answer, started: float, reply: Reply) -> None:
        name = type(request).__name__ if request is not None else "unknown"
        if isinstance(answer, Refused):
            outcome = answer.code
        else:
            outcome = "unavailable" if isinstance(answer, Unavailable) else "ok"
        self._metrics.command(name, outcome, perf_counter() - started)
        # One event a payment: a line costs as much as the command, so the others are only counted.
        told = self._log_commands and isinstance(request, Dispatch | Tokenize | ResolveToken)
        if told or outcome != "ok":
            trace_id = getattr(request, "trace_id", "")
            log.info("hsm_command", command=name, outcome=outcome, trace_id=trace_id, keys=_keys(request))
        reply(answer)


def _keys(request: Request | None) -> list[str]:
    """Return the names of the keys that a request uses."""
    match request:
        case Screen():
            return [request.mac.key] if request.mac is not None else []
        case Dispatch():
            return [request.pin_key_in, request.pin_key_out] if request.pin_block else []
        case GenerateMac():
            return [request.key]
        case _:
            return []
