"""Whether an answer is about what was asked: a request and the answer that was paired with it in, what contradicts out.

Pairing says which request an answer belongs to; its content is another matter. Called by the switch before it believes
an approval or an acknowledgement. Pure.

Source: ISO 8583:1987 table 4: DE 2, 3, 4, 49 are echoed; DE 4 of an approval in part is what was approved.
"""

from __future__ import annotations

from messages.message import Message
from messages.rules import Problem

PARTIAL = "10"  # DE 39: approved, but less than was asked for
SAME_TEXT = (3, 49, 50, 51, 10)  # an answer without one contradicts nothing
# Amount → its currency: billed or settled in the currency of the transaction it is the amount of the transaction.
CONVERTED = ((5, 50), (6, 51))
REMAINING = slice(0, 12)  # of DE 95: a reversal in part may be answered with what is left


def contradiction(request: Message, answer: Message) -> Problem | None:
    """The first element in which an answer names something else than its request.

    Args:
        request: canonical, as it was sent.
        answer: canonical, paired with it; its DE 39 says whether an amount may be less.

    Returns:
        None where nothing contradicts. Absent elements do not, nor a card number that is masked where it is the same
        otherwise.
    """
    sent, came = request.elements, answer.elements
    if 2 in came and 2 in sent and came[2] != sent[2] and not _masks(came[2], sent[2]):
        return Problem("DE 2", "names another card")
    for number in SAME_TEXT:
        if number in came and number in sent and came[number] != sent[number]:
            return Problem(f"DE {number}", "is not that of the request")
    return _amount_problem(sent, came)


def _masks(shown: str, pan: str) -> bool:
    """Whether `shown` is `pan` with some digits hidden."""
    if shown.isdigit():
        return False
    if len(shown) != len(pan):
        return True  # it says nothing that could be compared
    return all(not one.isdigit() or one == other for one, other in zip(shown, pan, strict=True))


def _amount_problem(sent: dict[int, str], came: dict[int, str]) -> Problem | None:
    in_part = came.get(39) == PARTIAL
    asked = sent.get(4)
    if 4 in came and asked is not None:
        named = _number(came[4])
        if in_part and not 0 < named <= _number(asked):
            return Problem("DE 4", "of an approval in part must be above zero and not above what was asked")
        left = sent.get(95, "")[REMAINING]
        if not in_part and named != _number(asked) and not (left and named == _number(left)):
            return Problem("DE 4", "is not that of the request")
    currency = sent.get(49)
    for amount, of in CONVERTED:
        if currency and amount in came and came.get(of) == currency:
            whole = came.get(4) if in_part else asked
            if whole is not None and _number(came[amount]) != _number(whole):
                return Problem(f"DE {amount}", "is in the currency of the transaction, and not its amount")
    return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
