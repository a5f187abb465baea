"""What issuers decide: routing, fraud rules, the question to the issuer, and what follows from its answer or silence.

The pipeline calls it, `route` before a request is recorded and `decide` after.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import structlog
import trio

from hsm.commands import Hsm
from ledger.journal import Begun, Kind, Outcome, StoredIntent
from switch.clock import Clock
from switch.config import SwitchConfig
from switch.decisions import Decisions
from switch.links.issuer_line import IssuerLine
from switch.meters import Meters
from switch.routing.table import RoutingTable
from switch.stages.forward import Answered, NotSent, forward
from switch.stages.fraud import FraudRules
from switch.stages.request import Decline, Request
from switch.stages.route import route

log = structlog.get_logger("switch.online")


class Online:
    """Asks issuers, in one worker.

    Args:
        lines: issuer links by name.
    """

    def __init__(
        self,
        config: SwitchConfig,
        hsm: Hsm,
        clock: Clock,
        meters: Meters,
        decisions: Decisions,
        lines: Mapping[str, IssuerLine],
    ) -> None:
        self._hsm = hsm
        self._clock = clock
        self._meters = meters
        self._decisions = decisions
        self._lines = lines
        self._routes = RoutingTable(config.routes)
        self._fraud = FraudRules(config.fraud)
        self._forwarding, self._deciding = meters.stage("forward"), meters.stage("decide")

    def route(self, request: Request) -> Decline | None:
        """Find the issuer of a request."""
        return route(request, self._routes)

    async def decide(self, request: Request, begun: Begun, decline: Decline | None) -> Outcome:
        """Authorization, purchase, refund: what the issuer says, unless we say no before.

        Args:
            decline: what an earlier stage has found; it is recorded, so that a repeat cannot do better.
        """
        stored, intent = begun.stored, begun.stored.intent
        if decline is not None or request.route is None:
            return await self.decline(stored, decline or Decline("15", "no_route"))
        if request.kind is Kind.REFUND:
            ruling = self._decisions.ruling(intent, begun.original)
            if ruling.response_code != "00":
                return await self.decline(stored, Decline(ruling.response_code, ruling.reason))
            if begun.original is not None and begun.original.stored.intent.fingerprint != intent.fingerprint:
                return await self.decline(stored, Decline("12", "other_card"))
        country = request.route.country
        finding = self._fraud.judge(intent, begun.history, request.card.bin, country)
        if finding.action == "decline" and request.kind is not Kind.REFUND:
            return await self.decline(stored, Decline(finding.response_code, f"fraud_{finding.rule}"))
        at = perf_counter()
        left_s = (intent.deadline_at - self._clock.now()).total_seconds()
        line = self._lines[request.route.issuer]
        heard = await forward(request, stored, line, self._hsm, trio.current_time() + left_s)
        now = perf_counter()
        self._forwarding.observe(now - at)
        if isinstance(heard, Answered):
            reason = f"review_{finding.rule}" if finding.action == "review" else ""
            outcome = await self._decisions.answered(stored, begun.original, heard.told, reason)
        elif isinstance(heard, NotSent):
            outcome = await self.decline(stored, heard.decline)
        else:
            log.warning(
                "issuer_silent", link=line.name, trace_id=request.trace_id, intent_id=stored.intent_id,
                reason=heard.reason,
            )  # fmt: skip
            outcome = await self._decisions.reverse(stored, "issuer_timeout")
        self._deciding.observe(perf_counter() - now)
        return outcome

    async def decline(self, stored: StoredIntent, decline: Decline) -> Outcome:
        """Decide DECLINED, with a count and, where there is something to tell, a line in the log."""
        self._meters.count("declines", decline.reason)
        if decline.detail:
            log.info("declined", trace_id=stored.intent.trace_id, reason=decline.reason, detail=decline.detail)
        return await self._decisions.decline(stored, decline)
