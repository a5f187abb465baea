"""Mandatory and echoed elements of a dialect's messages: messages in, the first fault out.

Called by `messages.canonical` with every received message, and by the code that pairs an answer with its request. Rules
are part of a dialect and number elements as it does.

Source: ISO 8583:1987 table 4 and ISO 8583:1993 table 6: mandatory (M), conditional (C), mandatory echo (ME).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from messages.dialect import Condition, Dialect, MessageRule
from messages.errors import DecodeError
from messages.message import Message
from messages.mti import canonical_mti, in_version, repeat_mti
from messages.translation import canonical_numbers

# Institutions' numbers are the same with zeros before them.
_INSTITUTIONS = (32, 33, 100)


class Problem(msgspec.Struct, frozen=True):
    """The fault of a message; `path` in the dialect's numbers ("DE 49"), `reason` without the value."""

    path: str
    reason: str


class Rules:
    """The rules of a dialect, ready to be asked for each message.

    Args:
        rules: of a dialect, by MTI without repeat digit; repeats are held to the same.
    """

    def __init__(self, rules: Mapping[str, MessageRule]) -> None:
        self._asked: dict[str, tuple[frozenset[int], MessageRule]] = {}
        for mti, rule in rules.items():
            if rule.mandatory or rule.conditional:
                self._asked[mti] = self._asked[_repeat(mti)] = (frozenset(rule.mandatory), rule)

    def __bool__(self) -> bool:
        return bool(self._asked)

    def problem(self, message: Message) -> Problem | None:
        """The first thing that a message lacks; None where nothing is wrong, or no rule is about its type.

        Args:
            message: as the dialect has it, not canonical.
        """
        asked = self._asked.get(message.mti)
        if asked is None:
            return None
        elements = message.elements
        mandatory, rule = asked
        if not elements.keys() >= mandatory:
            missing = next(number for number in rule.mandatory if number not in elements)
            return Problem(f"DE {missing}", f"is missing, {message.mti} must have it")
        for condition in rule.conditional:
            if condition.element not in elements and _holds(condition, elements):
                return Problem(f"DE {condition.element}", _words(condition))
        return None


def echo_problem(dialect: Dialect, request: Message, answer: Message) -> Problem | None:
    """The first element that an answer should have carried back as it was in its request, and has not.

    Args:
        dialect: of the link that both went over.
        request, answer: canonical, paired already.

    Returns:
        None where all is well, where the request had nothing to echo, or the dialect has no rule about such answers.
    """
    try:
        rule = dialect.rules.get(canonical_mti(in_version(answer.mti, dialect.version)))
    except DecodeError:
        return None
    for number in rule.echo if rule is not None else ():
        for canonical in canonical_numbers(dialect, number, answer.mti):
            sent, came = request.elements.get(canonical), answer.elements.get(canonical)
            if sent is None or came == sent:
                continue
            if canonical in _INSTITUTIONS and came is not None and came.lstrip("0") == sent.lstrip("0"):
                continue
            return Problem(f"DE {number}", "must be as in the request" + (", and is missing" if came is None else ""))
    return None


def _holds(condition: Condition, elements: Mapping[int, str]) -> bool:
    if condition.when is not None:
        value = elements.get(condition.when)
        if value is None or (condition.starts and not value.startswith(condition.starts)):
            return False
    return not any(other in elements for other in condition.unless)


def _words(condition: Condition) -> str:
    why = "is missing"
    if condition.when is not None:
        begins = f" begins with {' or '.join(condition.starts)}" if condition.starts else " is there"
        why += f", it is needed where DE {condition.when}{begins}"
    if condition.unless:
        why += f", and so {'is' if len(condition.unless) == 1 else 'are'} "
        why += " and ".join(f"DE {number}" for number in condition.unless)
    return why


def _repeat(mti: str) -> str:
    try:
        return repeat_mti(mti)
    except DecodeError:  # a rule about a type that no standard has
        return mti
