"""Faults on purpose: rules from a scenario or the control socket, and which of them strikes which message."""

from __future__ import annotations

from simulators.faults.rule import KINDS, MAX_DELAY_S, FaultRule, answering_problems, fault_problems
from simulators.faults.table import MAX_RULES, Fault, FaultTable

__all__ = [
    "KINDS",
    "MAX_DELAY_S",
    "MAX_RULES",
    "Fault",
    "FaultRule",
    "FaultTable",
    "answering_problems",
    "fault_problems",
]
