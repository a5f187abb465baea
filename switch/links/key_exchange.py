"""Keys of a link, exchanged over it: 0800 with DE 70 = 101, both ways.

Operators (`switch.control`) and the schedule call `start`; offers of the peer come through `switch.links.reception` to
`answer`. The hsm makes, takes and holds the keys: the switch carries key blocks under the party's zone master key, and
all workers use the same keys by the same names. One exchange of a key at a time, over all workers (a lease).

    who starts   hsm                   on the link                               hsm
    we           RenewLinkKey          0800, 0801 … → 0810 with DE 39 = 00 and   ActivateKey
                 (a pending version)   the right check value in DE 48
    the peer     AcceptLinkKey         ← 0800 … 0810 with the check value

A peer takes the new key in force when it takes it at all. So an offer whose answer was lost is made again, with the
same key, until it is answered: two keys that only the peer has would leave it without the one that we use.
"""

from __future__ import annotations

import contextlib
import hmac
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog
import trio

from hsm.commands import HsmRefused, HsmUnavailable
from hsm.key_commands import AcceptLinkKey, ActivateKey, KeyBlock, KeyInfo, KeyList, ListKeys, RenewLinkKey
from ledger.journal import Journal, JournalUnavailable
from messages.errors import DecodeError, EncodeError
from messages.exchange import de7
from messages.key_change import BLOCK, key_request, offered_key
from messages.message import Message
from messages.mti import is_repeat, repeat_mti
from messages.trace import trace_id as new_trace_id
from switch.clock import Clock
from switch.errors import ExchangeLost, KeyExchangeFailed, LinkUnavailable
from switch.links.management import management_answer, stans
from switch.links.session import Session
from switch.meters import Meters

log = structlog.get_logger("switch.links.key_exchange")

TRIES = 3  # 0800, then 0801: the peer may have taken the key and its answer may be lost
ACTIVATIONS = 5  # the peer has the key in force by now, so the hsm must get the command, at any cost
ACTIVATION_PAUSE_S = 0.5
LEASE_S = 60.0
RELEASE_S = 1.0  # given to the journal for taking a lease back, also by who is cancelled
PAUSE_S = 1.0  # between two exchanges of a key: the hsm takes one version before, and messages are under way
LOOK_S = 15.0  # interval of looking at the schedule, and at unanswered offers
RETRY_S = 300.0  # after an exchange by schedule that the peer refused
OPEN_RETRY_S = 10.0  # after one that was not answered: well within the time that peers take the key before
AGAIN = frozenset({"91", "96"})  # DE 39 that refuse the moment, not the key
NOT_NOW = "96"
NOT_THIS_KEY = frozenset({"refused", "wrong_kcv"})  # outcomes after which another key is offered
GIVEN_UP = NOT_THIS_KEY | {"not_expressible"}  # outcomes after which this key is not offered again by itself
OPEN_S = 3600.0  # so long any worker takes up a pending version; then only who offered it, an operator or the schedule
MADE_HERE = frozenset({"", "generated"})  # origins of keys that may be offered by themselves

# Refusals of a key block by the hsm, as DE 39; any other is 63, security violation.
# Source: ISO 8583:1987 DE 39 (30 format error, 96 system malfunction).
REFUSALS = {"malformed": "30", "key_unknown": "96", "not_permitted": "96", "overloaded": "96", "expired": "96"}


class LinkKeyHsm(Protocol):
    """The hsm's commands for link keys. Raises HsmRefused or HsmUnavailable."""

    async def renew_link_key(self, request: RenewLinkKey) -> KeyBlock: ...

    async def accept_link_key(self, request: AcceptLinkKey) -> KeyList: ...

    async def activate_key(self, request: ActivateKey) -> KeyList: ...

    async def list_keys(self, request: ListKeys) -> KeyList: ...


class Exchanged(msgspec.Struct, frozen=True):
    """A key that both ends have in force now."""

    link: str
    kind: str
    name: str
    version: int
    kcv: str


class KeyExchange:
    """The keys of one link in one worker.

    Args:
        link: its name.
        keys: names of the keys that may be exchanged, by kind (`pin`, `mac`).
        sessions: the connections of the link in this worker, the one that was opened last behind.
        holder: this worker's name in the lease.
        timeout_s: longest wait for the peer's answer.
    """

    def __init__(
        self,
        link: str,
        keys: Mapping[str, str],
        sessions: Callable[[], Sequence[Session]],
        hsm: LinkKeyHsm,
        journal: Journal,
        clock: Clock,
        meters: Meters,
        rng: random.Random,
        *,
        holder: str,
        timeout_s: float,
    ) -> None:
        self.link = link
        self.keys = dict(keys)
        self._sessions = sessions
        self._hsm = hsm
        self._journal = journal
        self._clock = clock
        self._meters = meters
        self._rng = rng
        self._holder = holder
        self._timeout_s = timeout_s
        self._numbers = stans()
        self._busy: set[str] = set()
        self._offering = dict.fromkeys(keys, 0)  # the version that this worker offered last
        self._given_up = dict.fromkeys(keys, 0)  # the version that the peer refused last, here
        self._left = dict.fromkeys(keys, 0)  # the pending version that was offered again, 0: a new one was made
        self._taking = trio.Lock()

    # We start

    async def start(self, kind: str) -> Exchanged:
        """Give the peer a new key and put it in force once the peer has said that it has it.

        Raises:
            KeyExchangeFailed: the key before stays in force; the reason is in the text.
        """
        return await self._start(kind, resume=False)

    async def _start(self, kind: str, *, resume: bool) -> Exchanged:
        trace_id = new_trace_id(self._rng.getrandbits)
        try:
            async with self._alone(kind):
                exchanged = await self._exchange(kind, trace_id, resume=resume)
        except KeyExchangeFailed as failed:
            if failed.outcome in GIVEN_UP:
                self._given_up[kind] = self._offering[kind]
            self._meters.count("key_exchanges", self.link, kind, failed.outcome)
            event = log.info if failed.outcome == "busy" else log.critical  # somebody else is at it
            event(
                "key_exchange_failed", link=self.link, kind=kind, outcome=failed.outcome, reason=str(failed),
                trace_id=trace_id,
            )  # fmt: skip
            raise
        self._meters.count("key_exchanges", self.link, kind, "ok")
        log.info(
            "key_exchanged", link=self.link, kind=kind, key=exchanged.name, version=exchanged.version,
            kcv=exchanged.kcv, started_by="us", trace_id=trace_id,
        )  # fmt: skip
        return exchanged

    async def run(self, hours: float) -> None:
        """Make open offers again, and renew each key that is older than `hours` (0: none), until cancelled.

        An offer is open while the hsm has a young pending version, from any worker: one that is gone, one that was
            cancelled, or this one. An offer that the peer refuses is not repeated by itself, and no other is made in
            its
        place.
        """
        retry_at = dict.fromkeys(self.keys, 0.0)
        while True:
            await trio.sleep(LOOK_S * self._rng.uniform(0.5, 1.0))
            for kind in self.keys:
                if trio.current_time() < retry_at[kind] or not self._usable():
                    continue
                try:
                    infos = await self.infos(kind)
                    if self._is_open(kind, infos):
                        await self._start(kind, resume=True)
                    elif self._is_due(infos, hours):
                        await self.start(kind)
                except KeyExchangeFailed as failed:
                    pause_s = RETRY_S if failed.outcome in NOT_THIS_KEY else OPEN_RETRY_S
                    retry_at[kind] = trio.current_time() + pause_s
                except (HsmRefused, HsmUnavailable):
                    pass  # not now
                except Exception:
                    retry_at[kind] = trio.current_time() + RETRY_S
                    self._meters.count("failures", "key_exchange")
                    log.exception("key_exchange_broken", link=self.link, kind=kind)

    async def infos(self, kind: str) -> tuple[KeyInfo, ...]:
        """All versions of the link's key of a kind. Raises HsmRefused or HsmUnavailable."""
        return (await self._hsm.list_keys(ListKeys(name=self.keys[kind]))).keys

    def _is_open(self, kind: str, infos: Sequence[KeyInfo]) -> bool:
        since = self._clock.now().timestamp() - OPEN_S
        return any(
            info.status == "pending"
            and info.origin in MADE_HERE
            and info.version > self._given_up[kind]
            and (info.created_at > since or info.version == self._offering[kind])
            for info in infos
        )

    def _is_due(self, infos: Sequence[KeyInfo], hours: float) -> bool:
        active = [info.created_at for info in infos if info.status == "active"]
        return bool(hours and active) and max(active) + hours * 3600 <= self._clock.now().timestamp()

    @contextlib.asynccontextmanager
    async def _alone(self, kind: str) -> AsyncIterator[None]:
        """Nobody else exchanges this key, neither in this worker nor in another, nor did a moment ago.

        Exchanges that both ends start at once are refused, not put off: the peer's offer would be older than the key it
            has taken.
        """
        if kind not in self.keys:
            raise KeyExchangeFailed("no_key", f"link {self.link} has no {kind} key to exchange")
        if kind in self._busy:
            raise KeyExchangeFailed("busy", f"another exchange of the {kind} key is under way on link {self.link}")
        self._busy.add(kind)
        lease, pause = f"keys:{self.link}:{kind}", f"keys:{self.link}:{kind}:pause"
        holder = f"{self._holder}/{next(self._numbers)}"
        ours = True  # unless the journal says no: an answer that was not waited for may have been a yes
        try:
            try:
                ours = await self._journal.lease(lease, holder, LEASE_S)
                if not ours:
                    raise KeyExchangeFailed("busy", f"another worker exchanges the {kind} key of link {self.link}")
                with trio.fail_after(4 * PAUSE_S):
                    while not await self._journal.lease(pause, holder, PAUSE_S):  # noqa: ASYNC110 (another process)
                        await trio.sleep(PAUSE_S / 4)
            except (JournalUnavailable, trio.TooSlowError) as error:
                raise KeyExchangeFailed("journal", "the journal does not answer") from error
            yield
        finally:
            self._busy.discard(kind)
            if ours:
                with contextlib.suppress(JournalUnavailable), trio.move_on_after(RELEASE_S, shield=True):
                    await self._journal.lease(pause, holder, PAUSE_S)
                    await self._journal.lease(lease, holder, 0.0)

    async def _exchange(self, kind: str, trace_id: str, *, resume: bool) -> Exchanged:
        if not self._usable():
            raise KeyExchangeFailed("link_down", f"link {self.link} is not signed on in this worker")
        if resume and not self._is_open(kind, await self._seen(kind)):
            raise KeyExchangeFailed("busy", f"another worker has finished the exchange on link {self.link}")
        made = await self._made(kind, trace_id)
        failed = await self._offered(kind, made)
        again = failed is not None and failed.outcome in NOT_THIS_KEY and made.version == self._left[kind]
        if again and not resume:
            made = await self._made(kind, trace_id, anew=True)
            failed = await self._offered(kind, made)
        if failed is not None:
            raise failed
        await self._activate(made, trace_id)
        return Exchanged(self.link, kind, made.name, made.version, made.kcv)

    async def _seen(self, kind: str) -> tuple[KeyInfo, ...]:
        try:
            return await self.infos(kind)
        except (HsmRefused, HsmUnavailable) as error:
            raise KeyExchangeFailed("hsm", f"the hsm does not say which keys there are: {error}") from error

    async def _made(self, kind: str, trace_id: str, *, anew: bool = False) -> KeyBlock:
        """The key to offer: one that was offered before and is still pending, or (`anew`) another."""
        try:
            infos = () if anew else await self.infos(kind)
            self._left[kind] = max((info.version for info in infos if info.status == "pending"), default=0)
            command = RenewLinkKey(name=self.keys[kind], version=self._left[kind], trace_id=trace_id)
            return await self._hsm.renew_link_key(command)
        except (HsmRefused, HsmUnavailable) as error:
            raise KeyExchangeFailed("hsm", f"the hsm made no key: {error}") from error

    async def _offered(self, kind: str, made: KeyBlock) -> KeyExchangeFailed | None:
        """Offer a key; why the peer does not have it now, None where it has."""
        self._offering[kind] = made.version
        answer = await self._answered(kind, made)
        code, kcv = answer.elements.get(39, ""), answer.elements.get(BLOCK, "").strip()
        if code in AGAIN:
            return KeyExchangeFailed("busy", f"the peer of {self.link} answered DE 39 = {code}")
        if code != "00":
            return KeyExchangeFailed("refused", f"the peer of {self.link} answered DE 39 = {code}")
        if not hmac.compare_digest(kcv.upper().encode(), made.kcv.upper().encode()):
            return KeyExchangeFailed("wrong_kcv", f"the peer of {self.link} has another check value than the new key")
        return None

    async def _answered(self, kind: str, made: KeyBlock) -> Message:
        """The peer's answer; the offer is repeated, on another connection where there is one."""
        numbers = {7: de7(self._clock.now()), 11: next(self._numbers)}
        request = Message("0800", {**numbers, **key_request(kind, made.block)})
        reason = "no connection"
        for attempt in range(TRIES):
            usable = self._usable()
            if not usable:
                await trio.sleep(self._timeout_s / TRIES)
                continue
            session = usable[-1 - attempt % len(usable)]
            message = request if attempt == 0 else Message(repeat_mti(request.mti), request.elements)
            try:
                return await session.exchange(message, trio.current_time() + self._timeout_s)
            except (ExchangeLost, LinkUnavailable, HsmRefused, HsmUnavailable) as error:
                reason = str(error)
            except EncodeError as error:
                raise KeyExchangeFailed("not_expressible", str(error)) from error
        raise KeyExchangeFailed("no_answer", f"the peer of {self.link} did not answer: {reason}")

    def _usable(self) -> list[Session]:
        return [session for session in self._sessions() if session.carries_traffic]

    async def _activate(self, made: KeyBlock, trace_id: str) -> None:
        for attempt in range(ACTIVATIONS):
            try:
                await self._hsm.activate_key(ActivateKey(name=made.name, version=made.version, trace_id=trace_id))
                return
            except (HsmRefused, HsmUnavailable) as error:
                if attempt + 1 == ACTIVATIONS:
                    raise KeyExchangeFailed(
                        "not_activated", f"the peer of {self.link} has the new key in force, the hsm has not: {error}"
                    ) from error
                await trio.sleep(ACTIVATION_PAUSE_S * 2**attempt)

    # The peer starts

    async def answer(self, request: Message) -> Message | None:
        """Take the key that the peer sends, and make the 0810; None where nobody knows whether the key is in force.

        A refusal would have the peer drop a key that may be in force here. Without an answer it repeats it, and the
        hsm takes the same key once more. A repeat may have been accepted the first time.
        """
        told, kind = await self._told(request)
        if told is None or (told[39] == NOT_NOW and is_repeat(request.mti)):
            self._meters.count("key_exchanges", self.link, kind, "unanswered")
            log.warning("key_offer_unanswered", link=self.link, kind=kind, started_by="peer")
            return None
        code = told[39]
        self._meters.count("key_exchanges", self.link, kind, "ok" if code == "00" else f"answered_{code}")
        event = log.info if code == "00" else log.critical
        event(
            "key_accepted" if code == "00" else "key_refused", link=self.link, kind=kind, response_code=code,
            kcv=told.get(BLOCK, ""), started_by="peer",
        )  # fmt: skip
        return management_answer(request, told)

    async def _told(self, request: Message) -> tuple[dict[int, str] | None, str]:
        try:
            kind, block = offered_key(request.elements)
        except DecodeError as error:
            log.warning("key_offer_unreadable", link=self.link, error=str(error))
            return {39: "30"}, "unknown"
        if kind not in self.keys:
            return {39: "30"}, kind
        try:
            async with self._taking, self._alone(kind):  # a repeat waits for what it repeats
                return await self._taken(kind, block), kind
        except KeyExchangeFailed:
            return {39: NOT_NOW}, kind  # both ends started at once: the peer may try again

    async def _taken(self, kind: str, block: str) -> dict[int, str] | None:
        """The answer of the hsm: it knows the key in force (a repeat) and those before (a replay), for all workers."""
        try:
            taken = await self._hsm.accept_link_key(AcceptLinkKey(name=self.keys[kind], block=block))
        except HsmRefused as refused:
            log.warning("key_block_refused", link=self.link, kind=kind, error=str(refused))
            return {39: REFUSALS.get(refused.code, "63")}
        except HsmUnavailable:
            return None  # it may have taken it
        return {39: "00", BLOCK: taken.keys[0].kcv}
