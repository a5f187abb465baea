"""One message while it changes its version: given elements, written elements; handed to each reader or writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from messages.dialect import Element
from messages.errors import DecodeError, EncodeError
from messages.exchange import CLOCK_SLACK, LOCAL_AHEAD, nearest_time, original_time
from messages.formats import problem

CARRIED = 1000  # values of a later version beyond 1987 are kept under this and their number


class Fault(Exception):
    """An invalid value; the reason, never the value."""


class Reading:
    """One message of a later version while it becomes canonical.

    Args:
        mti: canonical. version: "1993" or "2003".
        local: whether DE 12 names messages, not DE 7.
        given: its elements. put: the canonical ones, filled by readers.
    """

    def __init__(self, mti: str, version: str, local: bool, given: Mapping[int, str]) -> None:
        self.mti, self.version, self.local, self.given = mti, version, local, given
        self.put: dict[int, str] = {}

    def keep(self, number: int) -> None:
        """The value beyond 1987 stays with the message."""
        self.put[CARRIED + number] = self.given[number]


class Writing:
    """One canonical message while it becomes one of a later version.

    Args:
        mti: canonical.
        given: its elements. put: those of the later version, filled by writers.
        known: elements of the dialect.
    """

    def __init__(
        self,
        mti: str,
        version: str,
        local: bool,
        given: Mapping[int, str],
        now: Callable[[], datetime],
        known: Mapping[int, Element],
    ) -> None:
        self.known = known
        self.mti, self.version, self.local, self.given, self.now = mti, version, local, given, now
        self.put: dict[int, str] = {}
        self.year_digits = 2 if version == "1993" else 4

    def kept(self, number: int) -> str:
        """Value from a peer of the same version; "" where there is none, or another version's."""
        value = self.given.get(CARRIED + number, "")
        element = self.known.get(number)
        return value if value and element is not None and problem(element, value) is None else ""

    def dated(self, path: str, month_day_time: str) -> str:
        """MMDDhhmmss with a year before it: the one nearest to now.

        Raises:
            EncodeError: no such moment.
        """
        return self._dated(path, month_day_time, nearest_time)

    def dated_before(self, path: str, month_day_time: str) -> str:
        """The same for an earlier message: the last year in which that moment has been.

        Raises:
            EncodeError: no such moment.
        """
        slack = CLOCK_SLACK + LOCAL_AHEAD if self.local else CLOCK_SLACK
        return self._dated(path, month_day_time, lambda text, now: original_time(text, now, slack))

    def _dated(self, path: str, month_day_time: str, full_date: Callable[[str, datetime], datetime]) -> str:
        try:
            year = full_date(month_day_time, self.now()).year
        except DecodeError:
            raise EncodeError(path, "there is no such date and time in any year") from None
        return f"{year:04d}"[-self.year_digits :] + month_day_time


Reader = Callable[[Reading, str], None]
Writer = Callable[[Writing, str], None]


def is_answer(mti: str) -> bool:
    return mti[2] in "135"
