"""The exchange of link keys for the HSM in memory: versions of clear keys, and key blocks under clear zone master keys.

Names and blocks go in, what `hsm.key_commands` answers comes out. Called by `hsm.software`. The version before is taken
until the next exchange; there is no clock to end its grace time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.components import odd_parity
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.commands import HsmRefused
from hsm.errors import KeyBlockError
from hsm.key_commands import KeyBlock, KeyInfo
from hsm.keys.attributes import KeyAttributes
from hsm.keys.keyring import HeldKey, unknown_key

BLOCK_VERSION = "D"


class _Version(msgspec.Struct):
    held: HeldKey
    value: bytes
    status: str
    created_at: int


class SoftwareLinkKeys:
    """The versions of the link keys.

    Args:
        keys: each key's attributes and clear value.
        zmks: the zone master key of each key's party, AES-256; a key without one is not exchanged.
        held: called with the accepted versions of a key, the one in force first, whenever they change.
        random_bytes, now: as `secrets.token_bytes` and `time.time`.
    """

    def __init__(
        self,
        keys: Mapping[str, tuple[KeyAttributes, bytes]],
        zmks: Mapping[str, bytes],
        held: Callable[[str, tuple[HeldKey, ...]], None],
        random_bytes: Callable[[int], bytes],
        now: Callable[[], float],
    ) -> None:
        self._zmks = zmks
        self._held = held
        self._random_bytes = random_bytes
        self._now = now
        self._versions: dict[str, list[_Version]] = {}
        for name, (attributes, value) in keys.items():
            self._add(name, attributes, value, "active")

    def renew(self, name: str, number: int = 0) -> KeyBlock:
        """Make a pending version, and forget one that was pending before; or give pending version `number` again."""
        attributes, zmk = self._active(name).held.attributes, self._zmk(name)
        if number:
            made = self._pending(name, number)
        else:
            value = self._random_bytes(attributes.length)
            value = odd_parity(value) if attributes.algorithm == "T" else value
            self._forget_pending(name)
            made = self._add(name, attributes, value, "pending")
        block = wrap_block(zmk, made.value, attributes, BLOCK_VERSION, self._random_bytes)
        return KeyBlock(name=name, version=made.held.version, kcv=made.held.kcv, block=block)

    def accept(self, name: str, block: str) -> KeyInfo:
        """Take the party's key; the one in force once more changes nothing, an earlier one is refused."""
        active = self._active(name)
        try:
            found = unwrap_block(self._zmk(name), block)
        except KeyBlockError as error:
            raise HsmRefused("key_block_invalid", str(error)) from None
        expected = active.held.attributes
        if (found.attributes.usage, found.attributes.algorithm) != (expected.usage, expected.algorithm):
            raise HsmRefused("key_usage", f"key {name!r} is {expected.describe()}, the block has another")
        if found.key == active.value:
            return _info(active)
        if any(version.value == found.key for version in self._versions[name]):
            raise HsmRefused("key_exists", f"key {name!r}: the block has a key that was replaced")
        self._forget_pending(name)
        return self._put_in_force(name, self._add(name, found.attributes, found.key, "pending"))

    def activate(self, name: str, number: int) -> KeyInfo:
        active = self._active(name)
        if active.held.version == number:
            return _info(active)
        return self._put_in_force(name, self._pending(name, number))

    def infos(self, name: str) -> tuple[KeyInfo, ...]:
        names = [name] if name else list(self._versions)
        return tuple(_info(version) for one in names for version in self._versions.get(one, []))

    def _active(self, name: str) -> _Version:
        for version in self._versions.get(name, []):
            if version.status == "active":
                return version
        raise unknown_key(name)

    def _pending(self, name: str, number: int) -> _Version:
        for version in self._versions.get(name, []):
            if version.held.version == number and version.status == "pending":
                return version
        raise HsmRefused("key_unknown", f"key {name!r} has no pending version {number}")

    def _forget_pending(self, name: str) -> None:
        for version in self._versions[name]:
            if version.status == "pending":
                version.status = "retired"

    def _zmk(self, name: str) -> ClearAesKey:
        if name not in self._zmks:
            raise HsmRefused("key_unknown", f"there is no zone master key for {name!r}")
        return ClearAesKey(self._zmks[name])

    def _add(self, name: str, attributes: KeyAttributes, value: bytes, status: str) -> _Version:
        versions = self._versions.setdefault(name, [])
        number = versions[-1].held.version + 1 if versions else 1
        kcv = clear_check_value(attributes.algorithm, value)
        key = clear_key(attributes.algorithm, value)
        added = _Version(HeldKey(name, number, attributes, kcv, key), value, status, int(self._now()))
        versions.append(added)
        self._tell(name)
        return added

    def _put_in_force(self, name: str, new: _Version) -> KeyInfo:
        after = {"previous": "retired", "active": "previous"}
        for version in self._versions[name]:
            version.status = after.get(version.status, version.status)
        new.status = "active"
        self._tell(name)
        return _info(new)

    def _tell(self, name: str) -> None:
        order = ("active", "previous", "pending")
        taken = [version for version in self._versions[name] if version.status in order]
        self._held(name, tuple(v.held for v in sorted(taken, key=lambda version: order.index(version.status))))


def _info(version: _Version) -> KeyInfo:
    held = version.held
    return KeyInfo(
        name=held.name,
        version=held.version,
        role="",
        attributes=held.attributes,
        kcv=held.kcv,
        status=version.status,
        created_at=version.created_at,
    )
