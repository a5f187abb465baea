"""Greatest age of a message: the window by its borders, the proof that an accepted one is recognised, the settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.journal import Decision
from messages.exchange import acquirer_key, de7, transmission_time
from messages.message import Message
from messages.mti import repeat_mti
from switch.config import switch_config
from switch.errors import ConfigError
from switch.links.freshness import original_slack, staleness
from switch.links.settings import MAX_AGE_S, MAX_AHEAD_S, AcquirerLink
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, VISA, in_world, purchase, told
from tests.switch.test_issuer_requests import changed, ruled
from tests.switch.test_message_set import Till

LINK = AcquirerLink(name="pos", listen="pos:1", dialect="iso87-ascii")
DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
OLD, AHEAD = "DE 7: too old", "DE 7: in the future"
BORDERS = [
    ("0200", -DAY, ""), ("0200", -DAY - SECOND, OLD), ("0201", -DAY - SECOND, OLD), ("0100", -DAY - SECOND, OLD),
    ("0200", 5 * MINUTE, ""), ("0200", 5 * MINUTE + SECOND, AHEAD), ("0220", 5 * MINUTE + SECOND, AHEAD),
    ("0120", -30 * DAY, ""), ("0221", -30 * DAY, ""), ("0220", -30 * DAY - SECOND, OLD),
    ("0400", -30 * DAY, ""), ("0401", -30 * DAY, ""), ("0421", -30 * DAY - SECOND, OLD), ("0422", -30 * DAY, ""),
    ("0500", -DAY - SECOND, OLD), ("0520", -DAY - SECOND, ""), ("0800", -DAY - SECOND, OLD),
]  # fmt: skip


@pytest.mark.parametrize(("mti", "off", "reason"), BORDERS)
def test_the_window_has_its_borders(mti: str, off: timedelta, reason: str) -> None:
    assert staleness(LINK, mti, {}, NOW + off, NOW, local=False) == reason


def test_local_times_may_be_as_far_from_utc_as_clocks_on_earth() -> None:
    old, ahead = "DE 12: too old", "DE 12: in the future"
    for off, reason in ((14 * 60, ""), (14 * 60 + 6, ahead), (-24 * 60 - 12 * 60, ""), (-36 * 60 - 1, old)):
        assert staleness(LINK, "0200", {}, NOW + off * MINUTE, NOW, local=True) == reason
    assert original_slack(LINK, local=True) >= timedelta(hours=14)


def test_a_local_time_too_far_ahead_is_said_to_be_in_the_future() -> None:
    """Its moment without a year is taken for that of the year before."""
    sent = transmission_time(de7(NOW + timedelta(hours=15)), NOW)
    for year, reason in (("26", "DE 12: in the future"), ("25", "DE 12: too old")):
        elements = {1012: year + de7(NOW + timedelta(hours=15))}
        assert staleness(LINK, "0200", elements, sent, NOW, local=True) == reason


@pytest.mark.parametrize(("dated", "reason"), [("26", ""), ("2026", ""), ("25", "DE 12: of another year")])
def test_a_year_that_is_said_must_be_that_of_the_moment(dated: str, reason: str) -> None:
    elements = {1012: dated + de7(NOW)}
    assert staleness(LINK, "0200", elements, NOW, NOW, local=True) == reason


MOMENTS = st.datetimes(datetime(2001, 1, 1), datetime(2090, 12, 31)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


@given(
    sent=MOMENTS,
    first=st.timedeltas(-timedelta(seconds=MAX_AHEAD_S), timedelta(seconds=MAX_AGE_S)),
    again=st.timedeltas(-timedelta(seconds=MAX_AHEAD_S), timedelta(seconds=MAX_AGE_S)),
)
def test_what_can_be_taken_twice_has_one_key(sent: datetime, first: timedelta, again: timedelta) -> None:
    """At the widest window that may be set, whenever it comes."""
    keys = {
        acquirer_key("pos", "0200", transmission_time(de7(sent), sent + after), "000001", "10001", "")
        for after in (first, again)
    }
    assert len(keys) == 1


@given(sent=MOMENTS, days=st.floats(181, 364))
def test_a_recording_is_refused_from_half_a_year_on_for_half_a_year(sent: datetime, days: float) -> None:
    assume(f"{sent:%m%d}" != "0229")
    widest = AcquirerLink(
        name="pos", listen="pos:1", dialect="iso87-ascii", max_age_s=MAX_AGE_S, advice_max_age_s=MAX_AGE_S
    )
    now = sent + timedelta(days=days)
    for mti in ("0200", "0220"):
        assert staleness(widest, mti, {}, transmission_time(de7(sent), now), now, local=False) == OLD


@pytest.mark.parametrize("days", [2, 100, 183, 250, 364])
@pytest.mark.parametrize("repeat", [False, True])
def test_a_recorded_purchase_is_not_booked_again(days: int, repeat: bool) -> None:
    """Its MAC is right: half a year later it was taken for one of next year."""

    async def script(world: World) -> None:
        request = purchase()
        first = await told(world, request, "pos")
        assert first is not None and first.elements[39] == "00"
        world.clock._start += timedelta(days=days)
        mti = repeat_mti(request.mti) if repeat else request.mti
        again = await told(world, Message(mti, request.elements), "pos")
        assert again is not None and (again.elements[39], again.elements[44]) == ("30", OLD)
        assert len(world.journal._intents) == 1
        assert world.counted("declines", "stale") == 1

    in_world(script)


@pytest.mark.parametrize("hours", [0, 1, 23])
def test_a_recorded_purchase_is_a_repeat_as_long_as_it_is_fresh(hours: int) -> None:
    async def script(world: World) -> None:
        request = purchase()
        first = await told(world, request, "pos")
        world.clock._start += timedelta(hours=hours)
        again = await told(world, request, "pos")
        assert first is not None and again is not None
        assert again.elements[39] == "00" and again.elements[38] == first.elements[38]
        assert [o.decision for o in world.journal._outcomes.values()] == [Decision.APPROVED]

    in_world(script)


@pytest.mark.parametrize(
    "form", ["authorization", "increment", "advice", "capture", "reversal", "totals", "text", "day"]
)
def test_no_form_of_a_message_is_taken_when_it_is_old(form: str) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        held, paid, now = await till.held(), await till.paid(), till.now()
        made: dict[str, Any] = {
            "authorization": lambda: till.shop.authorization(VISA, 2_500, "EUR", now),
            "increment": lambda: till.shop.increment(held, VISA, 100, now),
            "advice": lambda: till.shop.advice(VISA, 2_500, "EUR", now),
            "capture": lambda: till.shop.capture(held, 100, now),
            "reversal": lambda: till.shop.reversal(paid, now),
            "totals": lambda: till.shop.reconciliation("EUR", now, day="0314"),
            "text": lambda: till.shop.administrative("paper is out", now),
            "day": lambda: till.shop.cut_over("0315", now),
        }
        message = made[form]().message
        before = len(world.journal._intents)
        world.clock._start += timedelta(days=31)
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "30"
        assert len(world.journal._intents) == before

    in_world(script)


def test_a_reversal_that_was_kept_for_a_week_is_taken() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.paid()
        message = till.shop.reversal(paid, till.now()).message
        world.clock._start += timedelta(days=7)
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


def test_what_an_issuer_starts_must_be_fresh() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.paid()
        server = world.issuers["alpha"]
        listed = server.list_card(VISA.pan, "add")
        charged = server.chargeback(server.issuer.entries.entries()[0].key, 100)
        assert (await ruled(world, changed(listed, de7=de7(NOW - 2 * DAY), de11="999999")))[1] == "stale"
        assert (await ruled(world, changed(charged, de7=de7(NOW - 31 * DAY), de11="999998")))[1] == "stale"
        assert (await ruled(world, changed(charged, de7=de7(NOW - 29 * DAY), de11="999997")))[0] == "00"

    in_world(script)


def test_a_link_may_say_otherwise() -> None:
    wide = {**TABLE["acquirer"][0], "max_age_s": 90 * 86_400.0, "advice_max_age_s": 90 * 86_400.0}
    config = switch_config({**TABLE, "acquirer": [wide, TABLE["acquirer"][1]]})

    async def script(world: World) -> None:
        for link, code in (("pos", "00"), ("gateway", "30")):
            answer = await told(world, purchase(at=NOW - 80 * DAY, stan=f"0000{link == 'pos':02d}"), link)
            assert answer is not None and (answer.elements[39] == "30") is (code == "30")

    in_world(script, config=config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_age_s": 0}, "max_age_s must be > 0"),
        ({"max_age_s": 183 * 86_400.0, "advice_max_age_s": 183 * 86_400.0}, "max_age_s must be > 0 and up to 15552000"),
        ({"advice_max_age_s": 3_600.0}, "advice_max_age_s must not be below max_age_s"),
        ({"max_ahead_s": 15 * 3_600.0}, "max_ahead_s must be > 0 and up to 50400"),
    ],
)
def test_a_window_in_which_years_can_be_mistaken_is_an_error(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        switch_config({**TABLE, "acquirer": [{**TABLE["acquirer"][0], **changes}, TABLE["acquirer"][1]]})


@pytest.mark.parametrize(("off", "code"), [(-2 * DAY, "30"), (timedelta(0), "00"), (timedelta(hours=1), "30")])
def test_network_management_under_a_mac_must_be_fresh(off: timedelta, code: str) -> None:
    acquirers = [{**TABLE["acquirer"][0], "mac_management": True}, TABLE["acquirer"][1]]

    async def script(world: World) -> None:
        echo = Message("0800", {7: de7(NOW + off), 11: "000900", 70: "301"})
        answer = await told(world, echo, "pos")
        assert answer is not None and answer.elements[39] == code

    in_world(script, config=switch_config({**TABLE, "acquirer": acquirers}))
