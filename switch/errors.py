"""Failures inside the switch; declines are values and do not appear here."""

from __future__ import annotations


class SwitchError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(SwitchError):
    """The configuration cannot be used; `problems` lists every reason, one line each."""

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.source = source
        self.problems = problems


class WireError(SwitchError):
    """A connection could not be made or is gone; the text names the peer and the reason."""


class LinkUnavailable(SwitchError):
    """The link is not signed on, or its table of pending requests is full: nothing has left."""


class ExchangeLost(SwitchError):
    """A request left, and its answer cannot come any more: the deadline is past or the connection broke.

    Attributes:
        late_s: where the deadline is past, by how much when that was seen; None where the connection broke.
        had_s: where the deadline is past, how long the peer had for its answer.
        unread: whether bytes of the peer's were waiting for us to read them.
    """

    def __init__(self, reason: str, late_s: float | None = None) -> None:
        super().__init__(reason)
        self.late_s = late_s
        self.had_s = 0.0
        self.unread = False


class KeyExchangeFailed(SwitchError):
    """A key was not exchanged, and the one before stays in force. `outcome` is a constant, for the metric."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class ControlError(SwitchError):
    """A worker's control socket is not there, or it says no; `code` is a constant."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Undecided(SwitchError):
    """The journal did not take an outcome. `approval`: an approval may have become durable all the same, so nothing
    else may be answered; the peer's repeat will find out."""

    def __init__(self, *, approval: bool) -> None:
        super().__init__("the journal is away")
        self.approval = approval
