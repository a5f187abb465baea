"""The keys of `[[key]]` held against the key file: which of them the HSM cannot start with, and what mends each.

Configured keys and the stored versions go in, one fault for each key that keeps the HSM from starting comes out. Called
by `hsm.keys.provisioning` at start, and by `cardswitch doctor`, which sees the same beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from hsm.config import KeyConfig
from hsm.keys.attributes import ROLES
from hsm.keys.records import KeyRecord


class KeyFault(msgspec.Struct, frozen=True):
    """A configured key that the HSM cannot start with.

    Attributes:
        key: as configured.
        what: the fault, without the key's name.
        fix: a command, or what else mends it.
        pending: the version that waits to be put in force; 0: none does.
        missing: whether the key has no version in force; else it is another key than the configuration wants.
    """

    key: KeyConfig
    what: str
    fix: str
    pending: int = 0
    missing: bool = False


def key_faults(
    configured: Iterable[KeyConfig], versions: Callable[[str], Sequence[KeyRecord]], *, make: bool
) -> list[KeyFault]:
    """Return a fault for each configured key that the HSM cannot start with, in the order of the configuration.

    Args:
        versions: returns the stored versions of a key by its name, oldest first.
        make: whether missing keys are made at start; a key that ever had a version is not made again.
    """
    return [fault for key in configured if (fault := _fault(key, versions(key.name), make=make)) is not None]


def _fault(key: KeyConfig, versions: Sequence[KeyRecord], *, make: bool) -> KeyFault | None:
    record = next((version for version in versions if version.status == "active"), None)
    if record is not None:
        return _contradiction(key, record)
    return None if make and not versions else _absence(key, versions)


def _absence(key: KeyConfig, versions: Sequence[KeyRecord]) -> KeyFault:
    algorithm = f" --algorithm {key.algorithm}" if key.algorithm else ""
    named = f"{key.name} --role {key.usage} --party {key.party}"
    if not versions:
        fix = f"cardswitch hsm key generate {named}{algorithm}, or cardswitch hsm key import"
        return KeyFault(key, "has no version in force", fix, missing=True)
    pending = max((version.version for version in versions if version.status == "pending"), default=0)
    if pending:
        what = f"has no version in force, version {pending} is pending"
        fix = f"cardswitch hsm key activate {key.name} --version {pending}"
        return KeyFault(key, what, fix, pending, missing=True)
    newest = versions[-1]
    what = f"has no version in force, version {newest.version} is {newest.status}"
    source = "--components 2" if key.usage == "zmk" else f"--under zmk-{key.party} --block-file FILE"
    return KeyFault(key, what, f"cardswitch hsm key import {named}{algorithm} {source}", missing=True)


def _contradiction(key: KeyConfig, record: KeyRecord) -> KeyFault | None:
    fix = "give the new key a new name"
    if (record.role, record.party) != (key.usage, key.party):
        what = f"was made for {record.role} with {record.party}, the configuration says {key.usage} with {key.party}"
        return KeyFault(key, what, fix)
    wanted = ROLES[key.usage].algorithms.get(key.algorithm)
    own = record.attributes
    if wanted is not None and (wanted.usage, wanted.algorithm) != (own.usage, own.algorithm):
        return KeyFault(key, f"is {own.describe()}, the configuration says {key.algorithm}", fix)
    return None
