"""Decisions of issuers: routing, fraud rules, the request to the issuer, and the result of its answer or silence.

The pipeline calls it, `route` before a request is recorded and `decide` after. If the issuer cannot be asked, stand-in
decides for it, within its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

import structlog
import trio

from hsm.commands import Hsm
from ledger.journal import Begun, Journal, JournalUnavailable, Kind, Outcome, StoredIntent
from switch.clock import Clock
from switch.config import SwitchConfig
from switch.decisions import Decisions
from switch.drafts import as_sent_to_issuer
from switch.links.issuer_line import IssuerLine
from switch.message_set import REFERRING
from switch.meters import Meters
from switch.routing.choice import NOT_FIT, Choice, Taken
from switch.routing.stand_in import APPROVED, Facts, StandIns, Verdict, auth_code
from switch.routing.table import RoutingTable
from switch.stages.forward import Answered, Contradicted, Lost, NotSent, forward
from switch.stages.fraud import FraudRules
from switch.stages.request import Decline, Request
from switch.stages.route import route

log = structlog.get_logger("switch.online")

BIN_DIGITS = 6  # of every card, without asking the HSM for more


class Online:
    """Asks issuers, in one worker.

    Args:
        lines: issuer links by name.
    """

    def __init__(
        self,
        config: SwitchConfig,
        journal: Journal,
        hsm: Hsm,
        clock: Clock,
        meters: Meters,
        decisions: Decisions,
        lines: Mapping[str, IssuerLine],
    ) -> None:
        self._journal = journal
        self._hsm = hsm
        self._clock = clock
        self._meters = meters
        self._decisions = decisions
        self._lines = lines
        self.full: Callable[[str], bool] = lambda link: False  # whether a link has too many stored advices for more
        self._longest_s = max((line.link.deadline_s for line in lines.values()), default=0.0)
        self.choice = Choice((), (), lines, (), meters)
        self.use(config, RoutingTable(config.routes))
        self._forwarding, self._deciding = meters.stage("forward"), meters.stage("decide")

    def use(self, config: SwitchConfig, table: RoutingTable) -> None:
        """Go on with other routes, breakers, stand-ins and fraud rules; requests under way keep their link.

        Args:
            table: made of the configuration's routes; where there are very many, that takes seconds.
        """
        stand_ins, fraud = StandIns(config.stand_ins), FraudRules(config.fraud, config.rates)  # before anything changes
        self.choice.use(table, config.breakers, stand_ins.issuers)
        self._stand_ins, self._fraud = stand_ins, fraud
        finest = max(self.choice.table.digits, self._stand_ins.digits)
        self.leading = finest if finest > BIN_DIGITS else 0

    async def route(self, request: Request) -> Decline | None:
        """Find the issuer link of a request: that of the message that it refers to, else one that its routes name.

        Raises:
            JournalUnavailable: the message that it refers to cannot be looked up.
        """
        now = trio.current_time()
        if request.original_key is not None:
            issuer, country = await self._journal.issuer_of(request.original_key)
            if issuer in self._lines:
                request.route = self.choice.by_name(issuer, country, now, now + self._longest_s)
                return None
        return route(request, self.choice, now, now + self._longest_s)

    def unused(self, request: Request) -> None:
        """The request will not be sent over the link that was found for it."""
        if request.route is not None:
            self.choice.withdrawn(request.route)

    async def decide(self, request: Request, begun: Begun, decline: Decline | None) -> Outcome:
        """The issuer's answer to a request with a card, unless we decline it before.

        Args:
            decline: finding of an earlier stage; it is recorded, so that a repeat cannot do better.
        """
        stored, taken = begun.stored, request.route
        if decline is not None or taken is None:
            self.unused(request)
            return await self.decline(stored, decline or Decline("15", "no_route"))
        objection, note = self._objection(request, begun)
        if objection is not None:
            self.choice.withdrawn(taken)
            return await self.decline(stored, objection)
        if taken.unfit:
            return await self._away(request, begun, Decline("91", taken.unfit, f"link {taken.issuer}"))
        return await self._asked(request, begun, taken, note)

    def _objection(self, request: Request, begun: Begun) -> tuple[Decline | None, str]:
        """Objections of our own rules to asking the issuer, and their marks."""
        intent = begun.stored.intent
        if request.kind in REFERRING:
            ruling = self._decisions.ruling(intent, begun.original, limit_minor=_limit_minor(request))
            if ruling.response_code != "00":
                self._decisions.note(begun.stored, begun.original, ruling)
                return Decline(ruling.response_code, ruling.reason), ""
        finding = self._fraud.judge(intent, begun.history, request.card.bin, intent.card_country)
        if finding.action == "decline" and request.kind is not Kind.REFUND:
            return Decline(finding.response_code, f"fraud_{finding.rule}"), ""
        return None, f"review_{finding.rule}" if finding.action == "review" else ""

    async def _asked(self, request: Request, begun: Begun, taken: Taken, note: str) -> Outcome:
        """The issuer's answer, or the result of its silence."""
        at = perf_counter()
        stored, line = begun.stored, self._lines[taken.issuer]
        if begun.original is not None and request.kind in REFERRING:
            request.reference = as_sent_to_issuer(begun.original.stored, begun.original.outcome)
        left_s = (stored.intent.deadline_at - self._clock.now()).total_seconds()
        heard: Answered | Contradicted | NotSent | Lost | None = None
        try:
            heard = await forward(request, stored, line, self._hsm, trio.current_time() + left_s)
        finally:
            self._told(taken, heard)
        now = perf_counter()
        self._forwarding.observe(now - at)
        if isinstance(heard, Answered):
            outcome = await self._decisions.answered(
                stored, begun.original, heard.told, note, request.link.takes_partial, _limit_minor(request)
            )
        elif isinstance(heard, Contradicted):
            self._meters.count("answers_contradicting", line.name, heard.element)
            log.critical(
                "answer_contradicts", link=line.name, trace_id=request.trace_id, intent_id=stored.intent_id,
                element=heard.element, reason=heard.reason, response_code=heard.response_code,
            )  # fmt: skip
            outcome = await self._decisions.reverse(stored, "answer_contradicts")
        elif isinstance(heard, NotSent):
            away = heard.decline.reason == NOT_FIT
            outcome = await (self._away(request, begun, heard.decline) if away else self.decline(stored, heard.decline))
        else:
            log.warning(
                "issuer_silent", link=line.name, trace_id=request.trace_id, intent_id=stored.intent_id,
                reason=heard.reason,
            )  # fmt: skip
            outcome = await self._silent(request, begun)
        self._deciding.observe(perf_counter() - now)
        return outcome

    def _told(self, taken: Taken, heard: Answered | Contradicted | NotSent | Lost | None) -> None:
        """Tell the circuit breaker."""
        if isinstance(heard, Answered):
            self.choice.ended(taken, trio.current_time(), heard.told[39])
        elif isinstance(heard, Lost) and heard.ours:
            self._meters.count("own_timeouts", taken.issuer)
            self.choice.withdrawn(taken)
        elif isinstance(heard, (Contradicted, Lost)):
            self.choice.ended(taken, trio.current_time(), None)
        else:
            self.choice.withdrawn(taken)

    async def _away(self, request: Request, begun: Begun, decline: Decline) -> Outcome:
        """The issuer cannot be asked, and nothing was sent: stand-in, else the decline."""
        verdict = await self._verdict(request, begun, timed_out=False)
        if verdict is None or not verdict.spoken:
            return await self.decline(begun.stored, decline)
        return await self._stood_in(request, begun, verdict, timed_out=False)

    async def _silent(self, request: Request, begun: Begun) -> Outcome:
        """The issuer may have approved: it gets a reversal, for any answer to the acquirer."""
        verdict = await self._verdict(request, begun, timed_out=True)
        if verdict is None or verdict.reason != APPROVED:
            return await self._decisions.reverse(begun.stored, "issuer_timeout")
        return await self._stood_in(request, begun, verdict, timed_out=True)

    async def _stood_in(self, request: Request, begun: Begun, verdict: Verdict, *, timed_out: bool) -> Outcome:
        told, limit_minor = _told_by(verdict, begun), _limit_minor(request)
        return await self._decisions.stood_in(
            begun.stored, begun.original, told, verdict.reason, timed_out=timed_out, limit_minor=limit_minor
        )

    async def _verdict(self, request: Request, begun: Begun, *, timed_out: bool) -> Verdict | None:
        """The decision of stand-in, or None.

        None: there is no stand-in for this issuer, too many earlier advices have not reached it yet, or its negative
        list cannot be read.
        """
        intent = begun.stored.intent
        stand_ins = self._stand_ins  # the same to the end: a reload may come while the journal is asked
        if not stand_ins.speaks(intent.issuer, timed_out=timed_out):
            return None
        if self.full(intent.issuer):
            self._meters.count("stand_ins", intent.issuer, "saf_limit")
            return None
        card = request.card
        facts = Facts(intent, begun.history, card.leading or card.bin, 52 in request.message.elements)
        verdict = stand_ins.judge(facts, blocked=False)
        if verdict.reason == APPROVED:
            try:
                blocked = await self._journal.blocked(intent.fingerprint, intent.issuer)
            except JournalUnavailable:
                return None
            verdict = stand_ins.judge(facts, blocked=blocked)
        self._meters.count("stand_ins", intent.issuer, verdict.reason)
        log.info(
            "stood_in", link=intent.issuer, trace_id=intent.trace_id, intent_id=begun.stored.intent_id,
            reason=verdict.reason, response_code=verdict.response_code, timed_out=timed_out,
        )  # fmt: skip
        return verdict

    async def decline(self, stored: StoredIntent, decline: Decline) -> Outcome:
        """Decide DECLINED, with a count and, where there is a message, a line in the log."""
        self._meters.count("declines", decline.reason)
        if decline.detail:
            log.info("declined", trace_id=stored.intent.trace_id, reason=decline.reason, detail=decline.detail)
        return await self._decisions.decline(stored, decline)


def _limit_minor(request: Request) -> int | None:
    """The most that the link may ask for in all, in the currency of an increment."""
    return request.permitted.limit_minor(request.currency) if request.kind is Kind.INCREMENT else None


def _told_by(verdict: Verdict, begun: Begun) -> dict[int, str]:
    """The answer's elements that are not echoed."""
    told = {39: verdict.response_code}
    if verdict.reason == APPROVED:
        told[38] = auth_code(begun.stored.intent_id)
    return told
