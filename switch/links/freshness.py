"""Greatest age of a message, by its DE 7: a recorded one must not be accepted once its year can be mistaken for
another.

A link's settings, a moment and the time go in, what is wrong comes out. Called by screening, by what issuers start, and
for network management whose replay would change something. Pure.

Why that is enough: `messages.exchange.transmission_time` finds the same year for a DE 7 whenever it is asked within the
window, so a message that is taken twice has the same key twice, and the journal keeps keys for ever.
`tests/switch/links/test_freshness.py` shows it. One gap is left: the same bytes exactly a year later, where neither the
message (1987) has a year nor the link another key since.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from messages.exchange import CLOCK_SLACK, LOCAL_AHEAD, LOCAL_BEHIND
from switch.links.settings import Link

STALE = "stale"
CARRIED_TIME = 1012  # DE 12 of 1993 and 2003, whose year is kept
MOMENT_DIGITS = 10


def staleness(
    link: Link, mti: str, elements: Mapping[int, str], transmitted_at: datetime, now: datetime, *, local: bool
) -> str:
    """Why a message is not taken: "DE 7: too old", "DE 7: in the future" (DE 12 where `local`); "" where it is fresh.

    Args:
        mti: canonical; advices, reversals and chargebacks may be older than requests.
        transmitted_at: DE 7 as `transmission_time` resolves it.
        local: whether messages of this dialect are named by DE 12, the time of day where the terminal is.
    """
    oldest_s = link.advice_max_age_s if mti[2] == "2" or mti[1] == "4" else link.max_age_s
    newest_s = link.max_ahead_s
    if local:
        oldest_s += LOCAL_BEHIND.total_seconds()
        newest_s += LOCAL_AHEAD.total_seconds()
    age_s = (now - transmitted_at).total_seconds()
    element, dated = "DE 12" if local else "DE 7", elements.get(CARRIED_TIME, "")
    if age_s > oldest_s:
        # Without its year, a moment too far ahead is taken for one of the year before.
        ahead = local and dated and f"{transmitted_at.year + 1:04d}".endswith(dated[:-MOMENT_DIGITS])
        return f"{element}: {'in the future' if ahead else 'too old'}"
    if age_s < -newest_s:
        return f"{element}: in the future"
    if local and dated and not f"{transmitted_at.year:04d}".endswith(dated[:-MOMENT_DIGITS]):
        return "DE 12: of another year"
    return ""


def original_slack(link: Link, *, local: bool) -> timedelta:
    """Time after now that an original may be: as far as a request, and no less than clocks differ."""
    ahead = max(CLOCK_SLACK, timedelta(seconds=link.max_ahead_s))
    return ahead + LOCAL_AHEAD if local else ahead


def is_local(identification: str) -> bool:
    """Whether a dialect names messages by the local time of the terminal. See `messages.translation`."""
    return identification == "local"
