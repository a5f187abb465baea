"""Whether a key fits the role that it is made or imported for.

Role names and X9.143 attributes go in, attributes or the reason why not come out. Called by the key store and the key
commands.
"""

from __future__ import annotations

import msgspec

from hsm.keys.attributes import EXPORTABILITY, MODES, ROLES, KeyAttributes
from hsm.keys.permissions import PERMISSIONS

_LENGTHS = {"T": (16, 24), "A": (16, 24, 32), "H": tuple(range(16, 65))}
# Used in halves, or defined for double length only. Source: EMV book 2, A1.4.1; X9.24-1 (DUKPT); ISO 9797-1, 7.4;
# the schemes' card and PIN verification values.
_DOUBLE_LENGTH = frozenset({"B0", "C0", "M3", "V1", "V2", "E0", "E1", "E2", "E6"})
# Key block usages that a role takes besides those it is generated with.
_ALSO_TAKEN = {"zmk": frozenset({"K0"})}


def attributes_for(role: str, algorithm: str = "", mode: str = "", exportability: str = "") -> KeyAttributes:
    """Return what a key of a role is generated with; `mode` and `exportability` narrow it.

    Raises:
        ValueError: no such role or algorithm, or a mode that keys of this usage cannot have.
    """
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    algorithms = ROLES[role].algorithms
    if algorithm and algorithm not in algorithms:
        raise ValueError(f"algorithm {algorithm!r} of role {role} is not one of {', '.join(algorithms)}")
    attributes = algorithms[algorithm] if algorithm else next(iter(algorithms.values()))
    attributes = msgspec.structs.replace(
        attributes, mode=mode or attributes.mode, exportability=exportability or attributes.exportability
    )
    if problem := misfit(role, attributes):
        raise ValueError(problem)
    return attributes


def misfit(role: str, attributes: KeyAttributes) -> str:
    """Return why a key with these attributes cannot have the role, or an empty string."""
    taken = _ALSO_TAKEN.get(role, frozenset())
    fitting = {(own.usage, own.algorithm) for own in ROLES[role].algorithms.values()}
    fitting |= {(usage, algorithm) for usage in taken for _, algorithm in fitting}
    if (attributes.usage, attributes.algorithm) not in fitting:
        usages = ", ".join(sorted({f"{usage} {algorithm}" for usage, algorithm in fitting}))
        return f"role {role} takes usage and algorithm {usages}, not {attributes.usage} {attributes.algorithm}"
    modes = usable_modes(attributes.usage)
    if attributes.mode not in modes:
        return f"a key of usage {attributes.usage} has mode {', '.join(sorted(modes))}, not {attributes.mode!r}"
    if attributes.exportability not in EXPORTABILITY:
        return f"exportability is {', '.join(EXPORTABILITY)}, not {attributes.exportability!r}"
    lengths = fitting_lengths(attributes)
    if attributes.length not in lengths:
        sizes = f"{lengths[0]} to {lengths[-1]}" if attributes.algorithm == "H" else " or ".join(map(str, lengths))
        return f"a key of usage {attributes.usage} {attributes.algorithm} has {sizes} bytes, not {attributes.length}"
    return ""


def fitting_lengths(attributes: KeyAttributes) -> tuple[int, ...]:
    """Return the lengths in bytes that a key of this usage and algorithm can have."""
    if attributes.algorithm == "T" and attributes.usage in _DOUBLE_LENGTH:
        return (16,)
    return _LENGTHS[attributes.algorithm]


def usable_modes(usage: str) -> frozenset[str]:
    """Return the modes of use with which some operation takes a key of this usage."""
    modes = frozenset(mode for rule in PERMISSIONS.values() if usage in rule.usages for mode in rule.modes)
    return modes & MODES.keys()
