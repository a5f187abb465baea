"""Failures of a simulator; declines and injected faults are values, not errors."""

from __future__ import annotations


class SimulatorError(Exception):
    """The root of this module; the text is free of card data."""


class ScenarioError(SimulatorError):
    """A scenario file is wrong.

    Args:
        source: the file.
        problems: every problem that was found, one line each.
    """

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{source}: " + "; ".join(problems))
        self.source = source
        self.problems = problems


class ControlError(SimulatorError):
    """A control socket cannot be reached, or the simulator refused a command; the text says why."""


class ReplayError(SimulatorError):
    """A file of messages cannot be read or sent; the text names the file and the line."""


class BookError(SimulatorError):
    """A book file cannot be read; the text names the file and the line."""


class MacError(SimulatorError):
    """A message came without its MAC, or with a wrong one."""


class LinkKeyError(SimulatorError):
    """A key that cannot be exchanged; the text names the rule, never key bytes."""


class Unanswered(SimulatorError):
    """The peer has not answered within every allowed attempt; the acquirer's line stays unsettled."""


class WireLost(SimulatorError):
    """A connection is gone or cannot be had; the text says which and why."""
