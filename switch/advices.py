"""Stored advices on their way to one link: in order, again and again until acknowledged, or parked.

Each worker has a sender for each link; the one that holds the lease sends, one advice at a time, so that what is said
about a payment arrives in the order in which it was decided. It looks when it is woken, and every second for what other
workers have stored. Advices that were sent as often as `[saf] repeats` allows are parked for an operator (`cardswitch
saf`). A row that no outcome calls for (`ledger.advice_demand`) is parked unsent: somebody else has written it.
"""

from __future__ import annotations

import random
from typing import Protocol

import structlog
import trio

from hsm.commands import Dispatch, Hsm, HsmRefused, HsmUnavailable
from ledger.journal import Advice, Backlog, Journal, JournalUnavailable
from messages.answers import contradiction
from messages.errors import EncodeError
from messages.message import Message
from messages.mti import repeat_mti
from switch.errors import ExchangeLost, LinkUnavailable
from switch.links.session import Session
from switch.meters import Meters, known_code
from switch.routing.settings import SafSettings
from switch.wake import Signal

log = structlog.get_logger("switch.advices")

BATCH = 100
LEASE_S = 5.0  # on top of the time that an acknowledgement may take
POLL_S = 1.0
RETRY_CAP_S = 10.0
LOOK_S = 5.0  # interval between counts of the backlog
ALARM_S = 300.0  # time that an alarm of one worker keeps the others from raising the same one
MAX_ACKNOWLEDGING = 64  # acknowledgements on their way to the journal
# DE 39 that asks to come again later. Source: ISO 8583:1987 DE 39.
AGAIN = frozenset({"91", "96"})
SECURITY_VIOLATION = "63"  # on a link with MACs: the peer refused the MAC of the advice, and so does not know it


class _Unacknowledged(Exception):
    """The other end did not answer an advice, or wants to see it again later."""


class _Inexpressible(Exception):
    """The link's dialect cannot carry an advice: it will not leave before somebody mends that."""


class Destination(Protocol):
    """A link that advices can go to."""

    name: str

    @property
    def session(self) -> Session | None: ...


class AdviceSender:
    """Sends what is stored for one link.

    Args:
        timeout_s: longest wait for an acknowledgement.
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
        self.seen = Backlog()  # of all workers, as counted last
        self.settings = SafSettings()  # replaced at a reload
        self._sent = (0, 0)  # the advice that is tried at present, and how often it was sent
        self._alarms: set[str] = set()
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

    @property
    def full(self) -> bool:
        """Whether more wait than `[saf] limit`, as counted last: nothing more should be added that can be declined."""
        return self.seen.waiting > self.settings.limit

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

    async def watch(self) -> None:
        """Count what waits, and call somebody where it is too much or too old, until cancelled."""
        while True:
            await trio.sleep(LOOK_S * self._rng.uniform(0.8, 1.2))
            try:
                self.seen = await self._journal.backlog(self._to.name, self.settings.limit + 1)
                await self._alarm("saf_limit", self.full)
                await self._alarm("saf_max_age", self.seen.oldest_s > self.settings.max_age_s)
            except JournalUnavailable:
                pass
            except Exception:
                self._meters.count("failures", "advices")
                log.exception("advice_backlog_not_counted", link=self._to.name)

    async def _alarm(self, name: str, now: bool) -> None:
        """Tell once that something has begun, and once that it is over; one worker for all."""
        if now == (name in self._alarms):
            return
        if not now:
            self._alarms.discard(name)
            log.info(f"{name}_over", link=self._to.name, waiting=self.seen.waiting, parked=self.seen.parked)
            return
        first = await self._journal.lease(f"{name}:{self._to.name}", self._holder, ALARM_S)
        self._alarms.add(name)
        self._meters.count("saf_alarms", self._to.name, name)
        if first:
            log.critical(
                name, link=self._to.name, waiting=self.seen.waiting, parked=self.seen.parked,
                oldest_s=round(self.seen.oldest_s, 1),
            )  # fmt: skip

    async def _round(self, nursery: trio.Nursery) -> None:
        """Send all there is, if it is ours to send."""
        if self._to.session is None:
            if self._leased_until > trio.current_time():
                self._leased_until = 0.0
                await self._journal.lease(self._lease, self._holder, 0.0)  # another worker may have the link up
            return
        last = 0
        while await self._leased():
            # As of before: an advice acknowledged while the journal reads may be in the result.
            acknowledging = set(self._acknowledging)
            batch = await self._journal.advices(self._to.name, last, BATCH)
            waiting = [advice for advice in batch if advice.advice_id not in acknowledging]
            self.backlog = len(waiting)
            if not batch:
                return
            # In order of storing; an advice that became visible behind this point is found in the next round, from 0.
            last = batch[-1].advice_id
            for advice in waiting:
                if advice.refusal:
                    await self._refuse(advice)
                    self.backlog -= 1
                    continue
                try:
                    code = await self._deliver(advice)
                except _Inexpressible as error:
                    await self._park(advice, f"not expressible: {error}")
                    last = 0
                    break
                except _Unacknowledged as error:
                    await self._failed(advice, error)
                    last = 0  # look again: an operator may have dropped it, or had one before it sent again
                    break
                if code is None:
                    return
                self.backlog -= 1
                self._acknowledging.add(advice.advice_id)
                await self._slots.acquire_on_behalf_of(advice.advice_id)
                nursery.start_soon(self._acknowledge, advice, code)

    async def _failed(self, advice: Advice, error: _Unacknowledged) -> None:
        """Wait before it is sent again, or put it aside where it was sent often enough."""
        sent = self._sent[1]
        if sent > self.settings.repeats:
            await self._park(advice, f"sent {sent} times: {error}")
            return
        log.warning(
            "advice_unacknowledged", link=self._to.name, advice_id=advice.advice_id, mti=advice.draft.mti,
            attempt=sent, trace_id=advice.trace_id, reason=str(error),
        )  # fmt: skip
        await self._pause(min(RETRY_CAP_S, 0.1 * 2 ** min(sent, 10)) * self._rng.uniform(0.5, 1.0))

    async def _park(self, advice: Advice, reason: str) -> None:
        """Put one aside for an operator: its amount is not lost, and those behind it go on."""
        await self._journal.park(advice.advice_id, f"worker {self._holder}", reason)
        sent, self._sent = self._sent[1], (0, 0)
        self._meters.count("advices_parked", self._to.name)
        log.critical(
            "advice_parked", link=self._to.name, advice_id=advice.advice_id, mti=advice.draft.mti, sent=sent,
            trace_id=advice.trace_id, reason=reason,
        )  # fmt: skip

    async def _refuse(self, advice: Advice) -> None:
        """Put one aside unsent that the switch has not stored. Lines of the log are limited (`console.log_limits`)."""
        await self._journal.park(advice.advice_id, f"worker {self._holder}", advice.refusal)
        self._meters.count("advices_not_demanded", self._to.name)
        log.critical(
            "advice_not_demanded", link=self._to.name, advice_id=advice.advice_id, intent_id=advice.intent_id,
            reason=advice.refusal, look="cardswitch saf list, cardswitch ledger verify",
        )  # fmt: skip

    async def _pause(self, seconds: float) -> None:
        """Sleep without losing the lease: another worker would start to count from the first sending."""
        while seconds > 0 and await self._leased():
            nap = min(LEASE_S / 3, seconds)
            seconds -= nap
            await trio.sleep(nap)

    async def _leased(self) -> bool:
        """Hold the lease for longer than one acknowledgement may take."""
        now = trio.current_time()
        if self._leased_until - now < self._timeout_s + LEASE_S / 2:
            if not await self._journal.lease(self._lease, self._holder, self._timeout_s + LEASE_S):
                self._leased_until = 0.0
                return False
            self._leased_until = now + self._timeout_s + LEASE_S
        return True

    async def _deliver(self, advice: Advice) -> str | None:
        """Send one advice once: the DE 39 that acknowledges it; None where the link or the lease is gone.

        Raises:
            _Unacknowledged: it may have arrived; it is to be sent again.
            _Inexpressible: it cannot be sent.
        """
        session = self._to.session
        if session is None or not await self._leased():
            return None
        sent = self._sent[1] if self._sent[0] == advice.advice_id else 0
        mti = repeat_mti(advice.draft.mti) if sent else advice.draft.mti
        try:
            message = await self._message(advice, mti)
            payload = await session.mac.sealed(message, advice.trace_id)
            if not session.carries_traffic:  # signed off, or suspended, while the hsm was asked
                return None
            self._meters.count("advices_sent", self._to.name, mti)
            self._sent = (advice.advice_id, sent + 1)
            answer = await session.exchange(message, trio.current_time() + self._timeout_s, payload)
        except (HsmUnavailable, LinkUnavailable):
            self._sent = (advice.advice_id, sent)  # it has not left
            return None
        except HsmRefused as refused:  # a MAC that is not made now may be made in a second
            log.error("advice_not_sealed", link=self._to.name, advice_id=advice.advice_id, error=str(refused))
            return None
        except EncodeError as error:
            self._meters.count("failures", "advice_encoding")
            raise _Inexpressible(str(error)) from error
        except ExchangeLost as lost:
            raise _Unacknowledged(str(lost)) from lost
        code = answer.elements.get(39, "")
        if (problem := contradiction(message, answer)) is not None:
            self._meters.count("answers_contradicting", self._to.name, problem.path)
            log.critical(
                "answer_contradicts", link=self._to.name, trace_id=advice.trace_id, advice_id=advice.advice_id,
                element=problem.path, reason=problem.reason, response_code=known_code(code),
            )  # fmt: skip
            raise _Unacknowledged(f"answered about something else: {problem.path} {problem.reason}")
        if code in AGAIN or (code == SECURITY_VIOLATION and session.mac.covers(mti)):
            raise _Unacknowledged(f"answered {code}")
        return code

    async def _message(self, advice: Advice, mti: str) -> Message:
        """The advice with its card number, which exists only from here to the socket."""
        elements = dict(advice.draft.elements)
        if advice.draft.token:
            try:
                elements[2] = (await self._hsm.dispatch(Dispatch(token=advice.draft.token))).pan
            except HsmRefused as refused:
                # DE 90 still identifies the payment, and a queue must not stop for ever.
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
