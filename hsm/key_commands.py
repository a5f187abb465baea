"""The commands on keys: those of officers through `cardswitch hsm key`, and those of two switches over a link.

Key values cross the socket as key blocks, and as components during an import at a custodian's terminal; never
otherwise. The caller `officer` may send all of them, the caller `switch` those of a key exchange.
"""

from __future__ import annotations

import msgspec

from hsm.keys.attributes import KeyAttributes


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a key as everybody may see it.

    `status` is `pending` (made or received, not yet in force), `active`, `previous` (the version before, still taken
    for a while) or `retired`. Times are seconds since 1970, 0 where unknown: `active_from` is when it came into force,
    `expires_at` when its cryptoperiod ends (`hsm.keys.lifetimes`). `party` is who holds the other end, or empty.
    """

    name: str
    version: int
    role: str
    attributes: KeyAttributes
    kcv: str
    status: str
    party: str = ""
    created_at: int = 0
    active_from: int = 0
    expires_at: int = 0
    origin: str = ""  # generated, components, block, custodian (a file of the party's), token


class ListKeys(msgspec.Struct, frozen=True, tag="list_keys", kw_only=True):
    """All versions of all keys, the token's own included; `name` narrows it."""

    name: str = ""


class KeyList(msgspec.Struct, frozen=True, tag="keys"):
    keys: tuple[KeyInfo, ...]


class GenerateKey(msgspec.Struct, frozen=True, tag="generate_key", kw_only=True):
    """Make a key of a role in the token; answered by KeyInfo in a KeyList of one.

    `algorithm` is one of the role's, empty for its default; `mode` and `exportability` narrow the role's attributes.
    """

    name: str
    role: str
    party: str = ""
    algorithm: str = ""
    mode: str = ""
    exportability: str = ""


class ImportComponents(msgspec.Struct, frozen=True, tag="import_components", kw_only=True):
    """Put a key together from the components of two or three custodians (XOR), each of the key's length.

    A TDES key of wrong parity is refused, or with `adjust_parity` taken with its parity bits put right. Under dual
    control `components` is empty and each of `count` officers enters an own one (`hsm.officer_commands`). `kcv` is what
    the check value of the key must be, or empty.
    """

    name: str
    role: str
    components: tuple[bytes, ...] = ()
    party: str = ""
    algorithm: str = ""
    adjust_parity: bool = False
    count: int = 0
    kcv: str = ""

    def __repr__(self) -> str:
        return f"ImportComponents({self.name!r})"


class ImportBlock(msgspec.Struct, frozen=True, tag="import_block", kw_only=True):
    """Take a key from a key block (TR-31 / X9.143, versions A, B, C and D) under the zone master key `under`.

    The block's own attributes hold; `role` is checked against them. A key of that name gets a new version, in force at
    once; with `pending` only after `ActivateKey`. `party` is that of the zone master key, and may be empty.
    Parity and `kcv` as in `ImportComponents`.
    """

    name: str
    role: str
    block: str
    under: str
    party: str = ""
    pending: bool = False
    adjust_parity: bool = False
    kcv: str = ""


class ExportKey(msgspec.Struct, frozen=True, tag="export_key", kw_only=True):
    """Give the version in force as a key block under `under`; `block_version` is B (TDES) or D (AES), empty: by key."""

    name: str
    under: str
    block_version: str = ""


class KeyBlock(msgspec.Struct, frozen=True, tag="key_block", kw_only=True):
    """A key block with the name, version and check value of the key in it."""

    name: str
    version: int
    kcv: str
    block: str

    def __repr__(self) -> str:
        return f"KeyBlock({self.name!r}, version {self.version}, KCV {self.kcv})"


class RotateKey(msgspec.Struct, frozen=True, tag="rotate_key", kw_only=True):
    """Make the next version of a key; of the data key (`pan`) it takes over all new writes at once."""

    name: str


class RetireKey(msgspec.Struct, frozen=True, tag="retire_key", kw_only=True):
    """Take a version out of use for good and destroy its value; refused while cards are stored under it."""

    name: str
    version: int


class RenewLinkKey(msgspec.Struct, frozen=True, tag="renew_link_key", kw_only=True):
    """Make a pending version of a link key and give it as a key block under the party's zone master key; KeyBlock.

    With `version` that pending version is given once more: the party may have it, though its answer was lost.
    """

    name: str
    version: int = 0
    trace_id: str = ""


class AcceptLinkKey(msgspec.Struct, frozen=True, tag="accept_link_key", kw_only=True):
    """Take the key block that the party of the link key sent; in force at once; KeyInfo in a KeyList of one."""

    name: str
    block: str
    trace_id: str = ""


class ActivateKey(msgspec.Struct, frozen=True, tag="activate_key", kw_only=True):
    """Put a pending version in force; the one before is taken for a while longer. KeyInfo in a KeyList of one."""

    name: str
    version: int
    trace_id: str = ""


class Rewrap(msgspec.Struct, frozen=True, tag="rewrap", kw_only=True):
    """Bring a batch of cards under the newest data key; again until `left` is 0. Old ones stay readable without."""

    limit: int = 500


class Rewrapped(msgspec.Struct, frozen=True, tag="rewrapped"):
    """`done` in this batch, `left` under older versions (from 100,000 on: at least so many)."""

    done: int
    left: int


KeyRequest = (
    ListKeys
    | GenerateKey
    | ImportComponents
    | ImportBlock
    | ExportKey
    | RotateKey
    | RetireKey
    | RenewLinkKey
    | AcceptLinkKey
    | ActivateKey
    | Rewrap
)
KeyAnswer = KeyList | KeyBlock | Rewrapped
