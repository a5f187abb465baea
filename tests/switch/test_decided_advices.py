"""Each advice that decisions store is one that `ledger.advice_demand` lets the sender send, in both journals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from console.database_roles import LEDGER
from ledger.journal import Intent, Journal, Kind, StoredIntent, network_stan
from ledger.memory import MemoryJournal
from ledger.writer import open_journal
from switch.decisions import Decisions
from switch.meters import Meters
from tests.ledger.samples import intent
from tests.switch.payment_sums import FEES, NOW

Story = Callable[["Teller"], Awaitable[None]]


class Teller:
    """Puts intents into a journal and has them decided; two cards, two issuers."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.decisions = Decisions(journal, FEES, NOW, Meters(), advised=lambda link: None, unreferenced_refunds=True)

    async def begun(self, kind: Kind, mti: str, of: StoredIntent | None = None, **fields: Any) -> StoredIntent:
        names = {} if of is None else {"original_key": of.intent.key}
        at = NOW.now()
        values: dict[str, Any] = {"issuer": "beta", "token": "card_7", "fingerprint": b"7" * 16, "created_at": at}
        message = intent(kind=kind, mti=mti, link="pos", **{**values, **names, **fields})
        return (await self.journal.begin(message)).stored

    async def paid(self, kind: Kind = Kind.PURCHASE, mti: str = "0200", of: StoredIntent | None = None) -> StoredIntent:
        """A request that its issuer has approved."""
        stored = await self.begun(kind, mti, of)
        original = None if of is None else await self.journal.original(of.intent_id)
        outcome = await self.decisions.answered(stored, original, {38: "123456", 39: "00"}, "")
        assert outcome.response_code == "00", outcome
        return stored

    async def changed(self, kind: Kind, mti: str, of: StoredIntent, code: str = "00", **fields: Any) -> None:
        stored = await self.begun(kind, mti, of, issuer="", token="", **fields)
        outcome = await self.decisions.change(stored, await self.journal.original(of.intent_id))
        assert outcome.response_code == code, outcome

    async def referred(self, kind: Kind, mti: str, of: StoredIntent, **fields: Any) -> None:
        """A message of the issuer, which knows the payment by DE 7 and DE 11."""
        second = of.intent.created_at.replace(microsecond=0)
        reference = (of.intent.issuer, second, network_stan(of.intent_id))
        message: Intent = intent(
            kind=kind, mti=mti, link="beta", issuer="beta", token="", original_reference=reference,
            fingerprint=of.intent.fingerprint, created_at=NOW.now(), **fields,
        )  # fmt: skip
        begun = await self.journal.begin(message)
        outcome = await self.decisions.change(begun.stored, begun.original)
        assert outcome.response_code == "00", outcome


async def reversed_request(teller: Teller) -> None:
    for kind, mti in ((Kind.AUTHORIZATION, "0100"), (Kind.PURCHASE, "0200"), (Kind.REFUND, "0200")):
        await teller.decisions.reverse(await teller.begun(kind, mti), "issuer_timeout")


async def stand_in(teller: Teller) -> None:
    for timed_out in (False, True):
        for kind, mti in ((Kind.AUTHORIZATION, "0100"), (Kind.PURCHASE, "0200"), (Kind.PURCHASE, "0201")):
            stored = await teller.begun(kind, mti)
            approved = {38: "S00001", 39: "00"}
            await teller.decisions.stood_in(stored, None, approved, "approved", timed_out=timed_out)
            stored = await teller.begun(kind, mti)
            await teller.decisions.stood_in(stored, None, {39: "91"}, "floor", timed_out=timed_out)


async def decided_elsewhere(teller: Teller) -> None:
    for kind, mti in ((Kind.AUTHORIZATION, "0120"), (Kind.PURCHASE, "0220"), (Kind.REFUND, "0221")):
        for stated in ("", '{"39":"05"}'):
            stored = await teller.begun(kind, mti, stated=stated)
            assert (await teller.decisions.change(stored, None)).response_code == "00"


async def captured(teller: Teller) -> None:
    held = await teller.paid(Kind.AUTHORIZATION, "0100")
    await teller.changed(Kind.CAPTURE, "0220", held, amount_minor=4_000, final=False)
    await teller.changed(Kind.CAPTURE, "0220", held, amount_minor=6_000)


async def changed_holds(teller: Teller) -> None:
    held = await teller.paid(Kind.AUTHORIZATION, "0100")
    more = await teller.paid(Kind.INCREMENT, "0100", held)
    await teller.changed(Kind.REVERSAL, "0400", more)
    await teller.changed(Kind.REDUCTION, "0400", held, amount_minor=500)
    await teller.changed(Kind.REVERSAL, "0400", held)
    await teller.changed(Kind.REVERSAL, "0420", held)  # nothing is left to undo


async def undone(teller: Teller) -> None:
    paid = await teller.paid()
    returned = await teller.paid(Kind.REFUND, "0200", paid)
    await teller.changed(Kind.REVERSAL, "0400", returned)
    await teller.changed(Kind.REVERSAL, "0400", await teller.paid())


async def charged_back(teller: Teller) -> None:
    await teller.referred(Kind.CHARGEBACK, "0422", await teller.paid())


async def reversed_before_its_outcome(teller: Teller) -> None:
    for kind, mti in ((Kind.PURCHASE, "0200"), (Kind.PURCHASE, "0220")):
        await teller.changed(Kind.REVERSAL, "0400", await teller.begun(kind, mti))


async def approved_after_a_decline(teller: Teller) -> None:
    stored = await teller.begun(Kind.PURCHASE, "0200")
    await teller.decisions.answered(stored, None, {39: "05"}, "")
    await teller.referred(Kind.LATE_APPROVAL, "0210", stored)


STORIES: dict[Story, list[tuple[str, str, int]]] = {
    reversed_request: [("beta", "0420", 3)],
    stand_in: [("beta", "0120", 4), ("beta", "0220", 4), ("beta", "0221", 4), ("beta", "0420", 6)],
    decided_elsewhere: [("beta", "0120", 2), ("beta", "0220", 2), ("beta", "0221", 2)],
    captured: [("beta", "0220", 2)],
    changed_holds: [("beta", "0420", 3)],
    undone: [("beta", "0420", 2)],
    charged_back: [("pos", "0422", 1)],
    reversed_before_its_outcome: [("beta", "0420", 1)],
    approved_after_a_decline: [("beta", "0420", 1)],
}


@pytest.mark.parametrize("kept", ["memory", "postgres"])
def test_every_advice_that_is_stored_may_be_sent(request: pytest.FixtureRequest, kept: str) -> None:
    database = request.getfixturevalue("database") if kept == "postgres" else None

    async def play(journal: Journal) -> None:
        last = 0
        for story, expected in STORIES.items():
            await story(Teller(journal))
            found = [a for link in ("beta", "pos") for a in await journal.advices(link, last, 1_000)]
            assert [advice for advice in found if advice.refusal] == [], story.__name__
            types = [(advice.draft.link, advice.draft.mti) for advice in found]
            assert sorted((*key, types.count(key)) for key in set(types)) == expected, story.__name__
            last = max([last, *(advice.advice_id for advice in found)])

    async def main() -> None:
        with trio.fail_after(60):
            if database is None:
                await play(MemoryJournal())
            else:
                async with open_journal(database.dsn(LEDGER)) as journal:
                    await play(journal)

    trio.run(main)
