"""Which keys a command names, which commands change keys, which answers are verdicts: the audit's record of a use.

Requests go in, key names come out. Called by `hsm.service` for each command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from hsm.card_commands import CardRequest, PinReference, Verified, VerifiedCryptogram
from hsm.commands import Dispatch, GenerateMac, Screen, VerifyMac
from hsm.key_commands import ActivateKey, KeyRequest, ListKeys, RetireKey, Rewrap
from hsm.ledger_commands import AcceptLedgerHead
from hsm.officer_commands import ListProposals, OfficerRequest
from hsm.vault_commands import DeleteCard, ReadStatus, ResolveToken, Tokenize
from hsm.wire import REQUESTS, tag_of

VERDICTS = frozenset({Verified, VerifiedCryptogram, PinReference})
# Their record is on the disk before their answer leaves.
_LASTING = (
    (frozenset(get_args(KeyRequest)) - {ListKeys, Rewrap})
    | {AcceptLedgerHead, DeleteCard}
    | (frozenset(get_args(OfficerRequest)) - {ListProposals})
)
# Only dual control knows their audit entries.
_NOTED = frozenset(get_args(OfficerRequest)) - {ListProposals}
# With an event in the log: card data comes out or in.
_TOLD = frozenset({Dispatch, Tokenize, ResolveToken})

Names = Callable[[Any], tuple[str, ...]]


class Use(msgspec.Struct, frozen=True, gc=False):
    """The names of a command: `name` in metrics and log, `tag` in the audit.

    `keys` returns the names of the keys that a request names; None for what uses none and is not audited. `traced` says
    that requests have a `trace_id`, `versioned` that the first of those keys is meant in the request's own version,
    `noted` that `hsm.dual_control` says it all.
    """

    name: str
    tag: str
    keys: Names | None
    lasting: bool = False
    told: bool = False
    traced: bool = False
    versioned: bool = False
    noted: bool = False


def _screen(request: Screen) -> tuple[str, ...]:
    return (request.mac.key,) if request.mac is not None else ()


def _dispatch(request: Dispatch) -> tuple[str, ...]:
    keys = (request.pin_key_in, request.pin_key_out) if request.pin_block else ()
    return (*keys, request.mac.key) if request.mac is not None else keys


def _none(_: Any) -> tuple[str, ...]:
    return ()


def _names_in(kind: type[msgspec.Struct]) -> Names:
    """Return what reads the key names of a card command: fields that name a key, and parts that have a `key`."""
    fields = [field for field in kind.__struct_fields__ if field in _KEY_FIELDS]
    parts = [field for field in kind.__struct_fields__ if field in _PARTS]

    def read(request: Any) -> tuple[str, ...]:
        found = [name for field in fields if (name := getattr(request, field))]
        found += [part.key for field in parts if (part := getattr(request, field)) is not None]
        return tuple(found)

    return read


# Parts of card commands that have a `key`, and fields that name one.
_PARTS = frozenset({"pin", "current_pin", "old", "new", "method", "card_value"})
_KEY_FIELDS = frozenset({"key", "key_out", "mac_key", "encryption_key", "ac_key"})
_KEY_COMMANDS = frozenset(get_args(KeyRequest))


def _reader(kind: type[msgspec.Struct]) -> Names:
    if kind in _KEY_COMMANDS:
        fields = set(kind.__struct_fields__) & {"name", "under"}
        wanted = tuple(sorted(fields))
        return lambda request: tuple(getattr(request, field) for field in wanted)
    if kind in get_args(CardRequest):
        return _names_in(kind)
    return _none


_NAMES: dict[type, Names] = {kind: _reader(kind) for kind in REQUESTS} | {
    Screen: _screen,
    Dispatch: _dispatch,
    GenerateMac: lambda request: (request.key,),
    VerifyMac: lambda request: (request.check.key,),
}
# By request type; None for a type that is no command.
USES: dict[type, Use] = {
    kind: Use(
        kind.__name__,
        tag_of(kind),
        _NAMES[kind] if kind is not ReadStatus else None,
        kind in _LASTING,
        kind in _TOLD,
        "trace_id" in kind.__struct_fields__,
        kind in (RetireKey, ActivateKey),
        kind in _NOTED,
    )
    for kind in REQUESTS
} | {type(None): Use("unknown", "unknown", _none)}
