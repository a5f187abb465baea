"""Canonical codecs: frames' bytes in, canonical messages out, and back; called by links and simulated parties.

Inside, every message has the numbers and values of ISO 8583:1987, for every dialect of its peer: `messages.translation`
has the tables. A message that its dialect's rules do not allow is raised as a `RuleViolation`, with the message in it,
so that it can be answered. Functions on bytes work on bytes (`mac_input`, `replace_mac`), and the elements whose place
in the bytes callers need (DE 2, 52, 64, 128) have the same number in all versions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from messages.codec import Codec
from messages.dialect import Dialect
from messages.errors import EncodeError, RuleViolation
from messages.message import Message
from messages.rules import Problem, Rules
from messages.translation import CARRIED_FROM, from_canonical, place_mac, to_canonical

CACHE_SIZE = 256


def canonical_codec(dialect: Dialect, now: Callable[[], datetime], cache_size: int = CACHE_SIZE) -> Codec:
    """The codec of a link whose messages are canonical inside.

    Args:
        dialect: the dialect of the peer.
        now: the clock, giving aware datetimes: dates of 1987 have no year, those of later versions have. Asked only
            when a message of a later version is encoded.
        cache_size: as for `Codec`.

    Returns:
        For 1987 a `Codec` that decodes as any other, and looks after the rules where there are some. Its `decode` and
        `partial` give canonical messages, its `encode` and `offset` take them.
    """
    if dialect.version != "1987":
        return _Translating(dialect, now, cache_size)
    rules = Rules(dialect.rules)
    return _Ruled(dialect, rules, cache_size) if rules else _Plain(dialect, cache_size)


class _Plain(Codec):
    """1987 without rules: canonical as it comes."""

    def encode(self, message: Message) -> bytes:
        try:
            return Codec.encode(self, message)
        except EncodeError:
            own = {number: value for number, value in message.elements.items() if number < CARRIED_FROM}
            if len(own) == len(message.elements):
                raise
            place_mac(own)
        return Codec.encode(self, Message(message.mti, own))  # without what only later versions have


class _Ruled(_Plain):
    """1987 with rules."""

    def __init__(self, dialect: Dialect, rules: Rules, cache_size: int) -> None:
        super().__init__(dialect, cache_size)
        self._problem = rules.problem

    def decode(self, data: bytes) -> Message:
        message = Codec.decode(self, data)
        problem = self._problem(message)
        if problem is not None:
            raise RuleViolation(problem.path, problem.reason, message)
        return message


class _Translating(Codec):
    """Any other version."""

    def __init__(self, dialect: Dialect, now: Callable[[], datetime], cache_size: int) -> None:
        super().__init__(dialect, cache_size)
        self._rules = Rules(dialect.rules)
        self._now = now

    def decode(self, data: bytes) -> Message:
        native = Codec.decode(self, data)
        message, fault = to_canonical(native, self.dialect)
        problem = self._rules.problem(native) or (Problem(*fault) if fault else None)
        if problem is not None:
            raise RuleViolation(problem.path, problem.reason, message)
        return message

    def partial(self, data: bytes) -> Message:
        return to_canonical(Codec.partial(self, data), self.dialect)[0]

    def encode(self, message: Message) -> bytes:
        return Codec.encode(self, from_canonical(message, self.dialect, self._now))

    def offset(self, message: Message, number: int) -> int:
        return Codec.offset(self, from_canonical(message, self.dialect, self._now), number)
