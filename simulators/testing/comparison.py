"""Two books side by side: the acquirer's results, and the issuers'; pure.

For switches that are not ours. A switch that gives requests numbers of its own towards issuers has keys that differ, so
lines are matched by what they have in common: their currency and amounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from simulators.book import BookLine


def differences(acquirers: Iterable[BookLine], issuers: Iterable[BookLine]) -> list[str]:
    """The differences, one line each; [] where there are none.

    Every line of money in an acquirer's book needs one of the same currency, hold and payment in an issuer's, and the
    other way around; lines without money need none. Lines that an acquirer does not know the end of are differences.
    """
    told = list(acquirers)
    found = [f"{line.key}: the acquirer does not know the end" for line in told if not line.settled]
    here, there = _money(told), _money(issuers)
    for side, counts in (("acquirer", here - there), ("issuer", there - here)):
        for (currency, held, posted), count in sorted(counts.items()):
            found.append(f"{count} × {currency} held {held} posted {posted}: in the {side}'s book only")
    return found


def _money(lines: Iterable[BookLine]) -> Counter[tuple[str, int, int]]:
    return Counter(
        (line.currency, line.held_minor, line.posted_minor) for line in lines if line.held_minor or line.posted_minor
    )
