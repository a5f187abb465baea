"""Totals of a business day, ours and a peer's: do they say the same? Pure.

`switch.desk` compares an acquirer's or issuer's totals with the journal's, the simulated issuer and network compare the
switch's with theirs.

Source: ISO 8583:1987 DE 66 (settlement code), DE 74–89 and DE 97 (totals).
"""

from __future__ import annotations

from collections.abc import Mapping

IN_BALANCE, OUT_OF_BALANCE = "1", "2"  # DE 66

# (number or amount, the same of its reversals).
DEBITS, CREDITS, TRANSFERS = (76, 77), (74, 75), (78, 79)
DEBIT_AMOUNTS, CREDIT_AMOUNTS = (88, 89), (86, 87)
PAIRS = (DEBITS, CREDITS, TRANSFERS, DEBIT_AMOUNTS, CREDIT_AMOUNTS)
FEES = (82, 83, 84, 85)
NET = 97
# Compared with zero: nobody here makes transfers or settles fees. DE 80 and 81 count messages that move no money, and
# are not compared.
NEVER_OURS = {**dict.fromkeys(TRANSFERS, "0" * 10), **dict.fromkeys(FEES, "0" * 12)}
COMPARED = tuple(sorted({*(number for pair in PAIRS for number in pair), *FEES, NET}))


def agree(ours: Mapping[int, str], theirs: Mapping[int, str]) -> bool:
    """Whether two sides' totals of a day come to the same.

    A payment that one side never approved and the other has reversed counts with its reversal on one side, and on the
    other not at all: numbers and amounts are compared with reversals taken off. An element that is absent is zero, but
    for DE 97: as it follows from the others, it is compared only where both state it.

    Args:
        ours, theirs: elements; those that are no totals are of no account.

    Raises:
        ValueError: a total that is no number, or DE 97 without C or D.
    """
    first, second = _figures(ours), _figures(theirs)
    return all(first[name] == second[name] for name in first.keys() & second.keys())


def net_element(net_minor: int) -> str:
    """DE 97: D where debits exceed credits (`net_minor` > 0), or are the same; C where credits do."""
    return f"{'C' if net_minor < 0 else 'D'}{abs(net_minor):016d}"


def corrections(ours: Mapping[int, str], theirs: Mapping[int, str]) -> dict[int, str]:
    """The answer to totals that differ: ours, and zeros for elements that they state and we do not have."""
    return {**{number: zero for number, zero in NEVER_OURS.items() if number in theirs}, **ours}


def _figures(elements: Mapping[int, str]) -> dict[object, int]:
    figures: dict[object, int] = {
        pair: _number(elements.get(pair[0])) - _number(elements.get(pair[1])) for pair in PAIRS
    }
    figures |= {number: _number(elements.get(number)) for number in FEES}
    if net := elements.get(NET):
        if net[0] not in "CD":
            raise ValueError("DE 97 begins with neither C nor D")
        figures[NET] = _number(net[1:]) * (-1 if net[0] == "C" else 1)
    return figures


def _number(text: str | None) -> int:
    """Digits, as they are; none are zero."""
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("a total that is no number")
    return int(text or "0")
