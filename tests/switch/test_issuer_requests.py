"""Issuers' own messages: repeats, reused numbers, missing elements, and an HSM that refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio

import specs
from hsm.commands import HsmRefused, HsmUnavailable, Screen
from ledger.journal import Decision, Kind, Outcome, StoredIntent
from messages.exchange import de7, original_data
from messages.message import Message
from switch.config import switch_config
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, VISA, in_world, purchase, told
from tests.switch.test_fraud import intent

TRACE_ID = "0" * 32


async def ruled(world: World, message: Message) -> tuple[str, str]:
    """DE 39 and the reason, for a message of the issuer alpha."""
    worker = world.workers[0][0]
    said, reason = await worker.issuer_requests._told(worker.lines["alpha"], message, TRACE_ID)
    return said[39], reason


def changed(message: Message, **elements: str) -> Message:
    """With other elements: `de4="…"`, an empty value removes one."""
    wanted = {int(name[2:]): value for name, value in elements.items()}
    return Message(message.mti, {n: v for n, v in {**message.elements, **wanted}.items() if v})


def test_a_chargeback_is_booked_once_whatever_comes_under_its_numbers() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        await client.perform(client.acquirer.purchase(VISA, 2_500, "EUR", world.clock.now()))
        server = world.issuers["alpha"]
        message = server.chargeback(server.issuer.entries.entries()[0].key, 1_000)
        assert await server.answer_of(message) == "00"
        booked = world.journal.postings()
        assert (await ruled(world, message))[0] == "00", "the stored answer"
        assert await ruled(world, changed(message, de4="000000001001")) == ("94", "key_reused")
        assert await ruled(world, changed(message, de11="999999", de90="")) == ("30", "element_missing")
        assert await ruled(world, changed(message, de11="999998", de90="04")) == ("30", "element_invalid")
        assert world.journal.postings() == booked
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


def test_a_list_that_nobody_keeps_and_a_card_that_cannot_be_named() -> None:
    async def script(world: World) -> None:
        server = world.issuers["alpha"]
        message = server.list_card(VISA.pan, "add")
        assert await server.answer_of(message) == "00"
        other = changed(message, de11="999999", de101="OTHERS")
        assert await ruled(world, other) == ("12", "file_or_action_unknown")

        async def overloaded(request: Screen) -> object:
            raise HsmRefused("overloaded", "too many commands wait")

        async def away(request: Screen) -> object:
            raise HsmUnavailable("the hsm is away")

        for refusing, stan in ((overloaded, "999998"), (away, "999997")):
            world.hsm.screen = refusing  # type: ignore[method-assign,assignment]
            code, reason = await ruled(world, changed(message, de11=stan))
            assert code == "96" and reason.startswith("hsm_")
        assert len([i for i in world.journal._intents.values() if i.kind is Kind.FILE_UPDATE]) == 2

    in_world(script)


def test_an_intent_that_cannot_be_recovered_does_not_keep_the_others_from_it() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        stuck = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        left = await world.journal.begin(intent(key="gateway|0200|20260314092653|000002|1", issuer="alpha"))
        reverse = worker.decisions.reverse

        async def broken(stored: StoredIntent, reason: str) -> Outcome:
            if stored.intent_id == stuck.stored.intent_id:
                raise ValueError("a bug")
            return await reverse(stored, reason)

        worker.decisions.reverse = broken  # type: ignore[method-assign]
        await trio.sleep(60.0)
        assert world.journal._outcomes[left.stored.intent_id].decision is Decision.REVERSED
        assert stuck.stored.intent_id not in world.journal._outcomes
        assert world.counted("failures", "recovery") > 1
        worker.decisions.reverse = reverse  # type: ignore[method-assign]
        await trio.sleep(10.0)
        assert world.journal._outcomes[stuck.stored.intent_id].decision is Decision.REVERSED

    in_world(script)


def test_a_type_that_nobody_serves_is_answered_with_12() -> None:
    async def script(world: World) -> None:
        message = changed(world.issuers["alpha"].list_card(VISA.pan, "add"))
        for mti in ("0312", "0340", "0220", "0400"):
            assert await ruled(world, Message(mti, message.elements)) == ("12", "unknown_mti")
        assert world.journal._intents == {}

    in_world(script)


def test_a_chargeback_names_the_payment_by_the_numbers_that_its_acquirer_gave_it() -> None:
    """The clock of a terminal may be an hour off, and its DE 32 has zeros in front."""

    async def script(world: World) -> None:
        request = purchase("000077", at=NOW - timedelta(hours=1), de32="00010001")
        assert await told(world, request, "pos") is not None
        server = world.issuers["alpha"]
        await server.answer_of(server.chargeback(server.issuer.entries.entries()[0].key, 1_000))
        (draft,) = next(o.advices for o in world.journal._outcomes.values() if o.reason == "chargeback")
        assert (draft.link, draft.mti) == ("pos", "0422")
        assert draft.elements[90] == original_data("0200", "000077", request.elements[7], "10001")
        assert draft.elements[4] == "000000001000"

    in_world(script)


@pytest.mark.parametrize(("missing", "code"), [((66,), "00"), ((66, 86, 97), "00"), ((15,), "")])
def test_an_answer_that_the_dialect_cannot_carry_is_given_as_far_as_it_can(
    missing: tuple[int, ...], code: str, tmp_path: Path
) -> None:
    """Totals of an issuer whose dialect has no DE 66: the intent was stored, and nothing was ever answered."""
    text = Path(str(specs.__file__)).with_name("iso87-ascii.toml").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(tuple(f"{number} = " for number in missing))]
    file = tmp_path / "narrow.toml"
    file.write_text("\n".join(lines).replace('"iso87-ascii"', '"narrow"'))
    issuers = [{**TABLE["issuer"][0], "dialect": str(file)}, TABLE["issuer"][1]]

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        line = worker.lines["alpha"]
        session = line.sessions[0]
        sent: list[bytes] = []
        session.send = lambda payload, answered=b"": sent.append(payload)  # type: ignore[method-assign,assignment]
        totals = {7: de7(NOW), 11: "000900", 15: "0314", 49: "978", 88: "0000000000000007"}
        for mti in ("0520", "0521"):
            await worker.issuer_requests.serve(line, session, Message(mti, totals), b"")
        codes = [session.codec.decode(data).elements[39] for data in sent]
        assert codes == ([code, code] if code else [])
        assert len(world.journal._outcomes) == 1, "the repeat got the stored answer"
        assert world.counted("failures", "issuer_requests") == 0
        assert world.counted("unanswered", "not_expressible") == (0 if code else 2)

    in_world(script, config=switch_config({**TABLE, "issuer": issuers}))
