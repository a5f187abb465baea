"""Faults on purpose: rules from a scenario or the control socket, and which of them strikes which message."""

from __future__ import annotations

from simulators.faults.table import KINDS, MAX_DELAY_S, MAX_RULES, Fault, FaultRule, FaultTable, fault_problems

__all__ = ["KINDS", "MAX_DELAY_S", "MAX_RULES", "Fault", "FaultRule", "FaultTable", "fault_problems"]
