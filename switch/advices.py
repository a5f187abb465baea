"""Stored advices on their way to one link: in order, again and again until acknowledged.

Each worker has a sender for each link; the one that holds the lease sends. It looks when it is woken, and every second
for what other workers have stored.
"""

from __future__ import annotations

import random
from typing import Protocol

import structlog
import trio

from hsm.commands import Dispatch, Hsm, HsmRefused, HsmUnavailable
from ledger.journal import Advice, Journal, JournalUnavailable
from messages.errors import EncodeError
from messages.message import Message
from messages.mti import repeat_mti
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.session import Session
from switch.meters import Meters, known_code
from switch.wake import Signal

log = structlog.get_logger("switch.advices")

BATCH = 100
LEASE_S = 5.0
POLL_S = 1.0
RETRY_CAP_S = 10.0
MAX_ACKNOWLEDGING = 64  # acknowledgements on their way to the journal
# DE 39 that asks to come again later. Source: ISO 8583:1987 DE 39.
AGAIN = frozenset({"91", "96"})
SECURITY_VIOLATION = "63"  # on a link with MACs: the peer did not believe the advice, and so does not know it


class Destination(Protocol):
    """A link that advices can go to."""

    name: str

    @property
    def session(self) -> Session | None: ...


class AdviceSender:
    """Sends what is stored for one link.

    Args:
        timeout_s: how long an acknowledgement may take.
        trace_element: where the trace id goes, None for nowhere.
        holder: this worker's name in the lease.
    """

    def __init__(
        self,
        to: Destination,
        journal: Journal,
        hsm: Hsm,
        meters: Meters,
        rng: random.Random,
        *,
        timeout_s: float,
        trace_element: int | None,
        holder: str,
    ) -> None:
        self.backlog = 0  # of the last look, at most BATCH
        self._to = to
        self._journal = journal
        self._hsm = hsm
        self._meters = meters
        self._rng = rng
        self._timeout_s = timeout_s
        self._trace_element = trace_element
        self._holder = holder
        self._lease = f"advices:{to.name}"
        self._leased_until = 0.0
        self._signal = Signal()
        self._acknowledging: set[int] = set()
        self._slots = trio.CapacityLimiter(MAX_ACKNOWLEDGING)

    def wake(self) -> None:
        """Something was stored, or the link has come up."""
        self._signal.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    await self._round(nursery)
                except JournalUnavailable:
                    self._leased_until = 0.0
                except Exception:
                    self._meters.count("failures", "advices")
                    log.exception("advice_sender_failed", link=self._to.name)
                with trio.move_on_after(POLL_S * self._rng.uniform(0.8, 1.2)):
                    await self._signal.wait()

    async def _round(self, nursery: trio.Nursery) -> None:
        """Send all there is, if it is ours to send."""
        if self._to.session is None:
            if self._leased_until > trio.current_time():
                self._leased_until = 0.0
                await self._journal.lease(self._lease, self._holder, 0.0)  # another worker may have the link up
            return
        last = 0
        while await self._leased():
            batch = await self._journal.advices(self._to.name, last, BATCH)
            waiting = [advice for advice in batch if advice.advice_id not in self._acknowledging]
            self.backlog = len(waiting)
            if not batch:
                return
            for advice in waiting:
                code = await self._deliver(advice)
                if code is None:
                    return
                self.backlog -= 1
                self._acknowledging.add(advice.advice_id)
                await self._slots.acquire_on_behalf_of(advice.advice_id)
                nursery.start_soon(self._acknowledge, advice, code)
            # In order of storing; what became visible behind this point is met in the next round, from 0.
            last = batch[-1].advice_id

    async def _leased(self) -> bool:
        """Hold the lease for at least half its time more."""
        now = trio.current_time()
        if self._leased_until - now < LEASE_S / 2:
            if not await self._journal.lease(self._lease, self._holder, LEASE_S):
                self._leased_until = 0.0
                return False
            self._leased_until = now + LEASE_S
        return True

    async def _deliver(self, advice: Advice) -> str | None:
        """Send one advice until it is acknowledged: its DE 39; None where the link or the lease is gone."""
        draft = advice.draft
        attempt = 0
        while True:
            session = self._to.session
            if session is None or not await self._leased():
                return None
            mti = draft.mti if attempt == 0 else repeat_mti(draft.mti)
            try:
                message = await self._message(advice, mti)
                payload = await session.mac.sealed(message, advice.trace_id)
                self._meters.count("advices_sent", self._to.name, mti)
                expires_at = trio.current_time() + self._timeout_s
                answer = await session.exchange(message, expires_at, payload)
                code = answer.elements.get(39, "")
                if code not in AGAIN and not (code == SECURITY_VIOLATION and session.mac.covers(mti)):
                    return code
                reason = f"answered {code}"
            except (HsmUnavailable, LinkUnavailable):
                return None
            except HsmRefused as refused:  # a MAC that is not made now may be made in a second
                log.error("advice_not_sealed", link=self._to.name, advice_id=advice.advice_id, error=str(refused))
                return None
            except EncodeError as error:
                self._meters.count("failures", "advice_encoding")
                log.critical("advice_not_expressible", link=self._to.name, advice_id=advice.advice_id, error=str(error))
                return "30"
            except ExchangeLost as lost:
                reason = str(lost)
            attempt += 1
            log.warning(
                "advice_unacknowledged", link=self._to.name, advice_id=advice.advice_id, mti=mti, attempt=attempt,
                trace_id=advice.trace_id, reason=reason,
            )  # fmt: skip
            await trio.sleep(min(RETRY_CAP_S, 0.1 * 2 ** min(attempt, 10)) * self._rng.uniform(0.5, 1.0))

    async def _message(self, advice: Advice, mti: str) -> Message:
        """The advice with its card number, which exists only from here to the socket."""
        elements = dict(advice.draft.elements)
        if advice.draft.token:
            try:
                elements[2] = (await self._hsm.dispatch(Dispatch(token=advice.draft.token))).pan
            except HsmRefused as refused:
                # DE 90 still tells which payment it is, and a queue must not stop for ever.
                log.error("advice_without_card", link=self._to.name, advice_id=advice.advice_id, error=str(refused))
        if self._trace_element is not None:
            elements[self._trace_element] = advice.trace_id
        return Message(mti, elements)

    async def _acknowledge(self, advice: Advice, code: str) -> None:
        try:
            await self._journal.acknowledge(advice.advice_id, code)
            self._meters.count("advices_acknowledged", self._to.name, known_code(code))
            if code != "00":
                log.critical(
                    "advice_refused", link=self._to.name, advice_id=advice.advice_id, mti=advice.draft.mti,
                    trace_id=advice.trace_id, response_code=known_code(code),
                )  # fmt: skip
        except JournalUnavailable:
            pass  # it is sent once more, and the peer takes that for the repeat it is
        except Exception:
            self._meters.count("failures", "advices")
            log.exception("acknowledgement_failed", link=self._to.name, advice_id=advice.advice_id)
        finally:
            self._acknowledging.discard(advice.advice_id)
            self._slots.release_on_behalf_of(advice.advice_id)
