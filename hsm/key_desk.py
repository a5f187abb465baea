"""The commands on keys, done: checks of party and form, and the version in force.

Requests of `hsm.key_commands` go in, their answers come out; every refusal is an `HsmRefused`. Called by the service
through `key_handlers`, and by `cardswitch hsm` on its own where no HSM process runs. `Rewrap` is the vault's.

A clear key lives in `import_components`, `import_block`, `accept_link_key` and where `_block` makes a key block: for
the length of that call, as Python bytes, which cannot be wiped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.components import check_key, combine_components
from hsm.algorithms.keyblock import check_protection, unwrap_block, wrap_block
from hsm.algorithms.primitives import AesKey, TdesKey
from hsm.commands import HsmRefused
from hsm.errors import KeyBlockError, KeyValueError
from hsm.key_commands import (
    AcceptLinkKey,
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    KeyBlock,
    KeyList,
    ListKeys,
    RenewLinkKey,
    RetireKey,
    RotateKey,
)
from hsm.keys.attributes import ROLES, KeyAttributes
from hsm.keys.keyring import HeldKey, Keyring, unknown_key
from hsm.keys.own_keys import RESERVED_NAMES
from hsm.keys.permissions import Operation
from hsm.keys.provisioning import ZMK_ROLE, zmk_name
from hsm.keys.records import KeyRecord
from hsm.keys.roles import attributes_for, misfit
from hsm.keys.store import EXCHANGED_ROLES, KeyStore, ReusedKey
from hsm.keys.token import DATA_KEY
from hsm.request_text import check_text
from messages.card_numbers import holds

# Writers of key blocks, by the algorithm of the protection key.
BLOCK_VERSIONS = {"T": "B", "A": "D"}
MAX_NAME = 64
_WITHIN_OWNER = "S"
_NOT_AT_ALL = "N"


class KeyDesk:
    """Does the commands on keys.

    Args:
        store: the versions. Set `store` again after the token was opened again.
        on_change: called with the new keyring after each change, before the answer.
        cards_under: counts the cards stored under a version of the data key; may be a coroutine function. None:
            nobody knows, and no data key is retired.
        settle_s: time after a rotation in which a card may still be on its way to the vault under the former data key;
            that one is not retired sooner.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        on_change: Callable[[Keyring], None] = lambda _: None,
        cards_under: Callable[[int], int | Awaitable[int]] | None = None,
        settle_s: float = 3.0,
    ) -> None:
        self.store = store
        self._on_change = on_change
        self._cards_under = cards_under
        self._settle_s = settle_s

    def list_keys(self, request: ListKeys) -> KeyList:
        return KeyList(self.store.infos(request.name))

    def generate(self, request: GenerateKey) -> KeyList:
        """Refused with `key_exists`: that is what RotateKey is for."""
        attributes = self._generated_attributes(request)
        return self._changed(self.store.generate(request.name, request.role, attributes, request.party))

    def import_components(self, request: ImportComponents) -> KeyList:
        _check_name(request.name)
        _check_party(request.name, request.role, request.party)
        wanted = _attributes(request.role, request.algorithm)
        try:
            value = combine_components(request.components)
            value = check_key(wanted.algorithm, value, adjust_parity=request.adjust_parity)
        except KeyValueError as error:
            raise HsmRefused("malformed", str(error)) from None
        if request.kcv and (made := clear_check_value(wanted.algorithm, value)) != request.kcv.upper():
            raise HsmRefused("malformed", f"the components make a key with check value {made}, not {request.kcv}")
        attributes = msgspec.structs.replace(wanted, length=len(value))
        return self._take(
            request.name, request.role, attributes, request.party, value, "components", code="malformed", pending=False
        )

    def import_block(self, request: ImportBlock) -> KeyList:
        party, attributes, value = self._block_content(request)
        return self._take(request.name, request.role, attributes, party, value, "block", pending=request.pending)

    def export(self, request: ExportKey) -> KeyBlock:
        return self._block(self._in_force(request.name), request.under, request.block_version)

    def algorithm_of(self, request: ImportComponents) -> str:
        """Return T, A or H: the kind of key that the components of a request are checked as."""
        return _attributes(request.role, request.algorithm).algorithm

    def facts(self, request: Any) -> tuple[str, ...]:
        """Return what keys a request names: version, check value and party of each, a line each.

        Nothing is changed. Raises:
            HsmRefused: the request could not be done now.
        """
        check_text(request)
        match request:
            case GenerateKey():
                self._generated_attributes(request)
            case ImportComponents():
                _check_name(request.name)
                _check_party(request.name, request.role, request.party)
                self._check_same_use(request.name, request.role, request.party)
                _attributes(request.role, request.algorithm)
            case ImportBlock():
                party, attributes, value = self._block_content(request)
                self._check_same_use(request.name, request.role, party)
                kcv = clear_check_value(attributes.algorithm, value)
                return (
                    f"in the block: {attributes.describe()}, exportability {attributes.exportability}, KCV {kcv}, with"
                    f" {party or 'nobody'}",
                    *self._present(request.name),
                    *self._present(request.under),
                )
            case ExportKey():
                self._protector(request.under, Operation.KEY_WRAP)
                self._check_export(self._in_force(request.name), request.under)
                return (*self._present(request.name), *self._present(request.under))
            case RetireKey() | ActivateKey():
                return (_line(self._version(request.name, request.version)), *self._present(request.name))
        return self._present(request.name)

    def rotate(self, request: RotateKey) -> KeyList:
        """The next version of a key that two parties change together is pending, of all others in force at once."""
        if request.name == DATA_KEY:
            return self._changed(self.store.rotate_data_key())
        if request.name in RESERVED_NAMES:
            raise HsmRefused("key_usage", f"{request.name!r} is the token's own and has one version")
        current = self._in_force(request.name)
        if current.role == ZMK_ROLE:
            raise HsmRefused("key_usage", f"{request.name!r} is shared with its party: import its next version")
        pending = bool(current.party) and current.role in EXCHANGED_ROLES
        made = self.store.generate(current.name, current.role, current.attributes, current.party, pending=pending)
        return self._changed(made)

    def retire(self, request: RetireKey) -> KeyList | Awaitable[KeyList]:
        record = self._version(request.name, request.version)
        if record.status == "retired":
            self.store.forget(record)  # it may have been cut off before
            return KeyList((self.store.info(record),))
        if request.name == DATA_KEY:
            return self._retire_data_key(record)
        if record.status == "active" and request.name in self.store.configured:
            raise HsmRefused("key_in_use", f"key {request.name!r} is configured and this version is in force")
        if record.status == "active" and record.role == ZMK_ROLE and self._shared_with(record.party):
            raise HsmRefused("key_in_use", f"there are keys shared with {record.party}")
        return self._retired(record)

    def renew_link_key(self, request: RenewLinkKey) -> KeyBlock:
        current = self._link_key(request.name)
        zmk = zmk_name(current.party)
        self._protector(zmk, Operation.KEY_WRAP)
        self._check_export(current, zmk)
        if request.version:
            offered = self._version(request.name, request.version)
            if offered.status != "pending":
                raise HsmRefused("key_usage", f"version {offered.version} of {offered.name!r} is {offered.status}")
            return self._block(offered, zmk, "")
        # Before there is a next version: a key that this zone key cannot protect leaves nothing behind.
        try:
            check_protection(_protection_key(self._protector(zmk, Operation.KEY_WRAP)), current.attributes)
        except KeyBlockError as error:
            raise HsmRefused("key_block_invalid", str(error)) from None
        made = self.store.generate(current.name, current.role, current.attributes, current.party, pending=True)
        self._changed(made)
        return self._block(made, zmk, "")

    def accept_link_key(self, request: AcceptLinkKey) -> KeyList:
        current = self._link_key(request.name)
        self._check_zmk(zmk_name(current.party), current.party)
        attributes, value = self._opened(request.block, zmk_name(current.party))
        own = current.attributes
        if (attributes.usage, attributes.algorithm) != (own.usage, own.algorithm):
            raise HsmRefused("key_usage", f"key {request.name!r} is {own.describe()}, not {attributes.describe()}")
        return self._take(current.name, current.role, attributes, current.party, value, "block", pending=False)

    def activate(self, request: ActivateKey) -> KeyList:
        record = self._version(request.name, request.version)
        if record.status == "active":
            return KeyList((self.store.info(record),))
        if record.status != "pending":
            raise HsmRefused("key_usage", f"version {record.version} of key {record.name!r} is {record.status}")
        return self._changed(self.store.activate(record))

    def _retired(self, record: KeyRecord) -> KeyList:
        try:
            retired = self.store.retire(record)
        finally:  # it is out of use even where an old copy could not be deleted
            self._on_change(self.store.keyring())
        return KeyList((self.store.info(retired),))

    async def _retire_data_key(self, record: KeyRecord) -> KeyList:
        if record.status == "active":
            raise HsmRefused("key_in_use", f"{record.name}-{record.version} is what new cards are stored under")
        if self._cards_under is None:
            raise HsmRefused("key_in_use", "without the vault nobody knows whether cards are stored under it")
        if (newest := self.store.active(record.name)) is not None:
            age_s = max(0.0, self.store.now() - newest.created_at)
            await asyncio.sleep(max(0.0, self._settle_s - age_s))
        counted = self._cards_under(record.version)
        count = await counted if inspect.isawaitable(counted) else counted
        if count:
            raise HsmRefused(
                "key_in_use", f"{count} cards are stored under {record.name}-{record.version}: rewrap them"
            )
        if self._version(record.name, record.version).status == "retired":  # somebody else did, meanwhile
            return KeyList((self.store.info(self._version(record.name, record.version)),))
        return self._retired(record)

    def _take(
        self,
        name: str,
        role: str,
        attributes: KeyAttributes,
        party: str,
        value: bytes,
        origin: str,
        *,
        pending: bool,
        code: str = "key_usage",
    ) -> KeyList:
        if problem := misfit(role, attributes):
            raise HsmRefused(code, problem)
        self._check_same_use(name, role, party)
        try:
            return self._changed(self.store.take(name, role, attributes, party, value, origin, pending=pending))
        except ReusedKey as error:
            raise HsmRefused("key_exists", str(error)) from None

    def _opened(self, block: str, under: str, *, adjust_parity: bool = False) -> tuple[KeyAttributes, bytes]:
        refusal: Exception | None = None
        for held in self.store.keyring().candidates(under, Operation.KEY_UNWRAP):
            try:
                found = unwrap_block(_protection_key(held), block)
                value = check_key(found.attributes.algorithm, found.key, adjust_parity=adjust_parity)
            except (KeyBlockError, KeyValueError) as error:
                refusal = refusal or error
            else:
                return found.attributes, value
        raise HsmRefused("key_block_invalid", str(refusal))

    def _block(self, record: KeyRecord, under: str, version: str) -> KeyBlock:
        protector = self._protector(under, Operation.KEY_WRAP)
        self._check_export(record, under)
        try:
            block = wrap_block(
                _protection_key(protector),
                self.store.reveal(record),
                record.attributes,
                version or BLOCK_VERSIONS[protector.attributes.algorithm],
                self.store.random_bytes,
            )
        except KeyBlockError as error:
            raise HsmRefused("key_block_invalid", str(error)) from None
        return KeyBlock(name=record.name, version=record.version, kcv=record.kcv, block=block)

    def _check_export(self, record: KeyRecord, under: str) -> None:
        exportability = record.attributes.exportability
        if exportability == _NOT_AT_ALL:
            raise HsmRefused("not_exportable", f"key {record.name!r} is not exportable")
        if exportability == _WITHIN_OWNER and self._party_of_zmk(under):
            raise HsmRefused(
                "not_exportable", f"key {record.name!r} is exportable under a key of this HSM's owner only"
            )
        if record.name == under:
            raise HsmRefused("not_exportable", "a key is not exported under itself")
        self._check_zmk(under, _party_of(record), "not_exportable")

    def _check_zmk(self, under: str, party: str, code: str = "key_usage") -> None:
        """Refuse a zone master key of another party than the key's: its holder would get the key."""
        if self.store.active(under) is None:
            raise unknown_key(under)
        if (of_zmk := self._party_of_zmk(under)) != party:
            raise HsmRefused(
                code, f"zone master key {under!r} is of {of_zmk or 'nobody'}, the key of {party or 'nobody'}"
            )

    def _party_of_zmk(self, name: str) -> str:
        record = self.store.active(name)
        return _party_of(record) if record is not None else ""

    def _link_key(self, name: str) -> KeyRecord:
        """Return the version in force of a key that may be exchanged over a link."""
        current = self._in_force(name)
        if not current.party:
            raise HsmRefused("key_usage", f"key {name!r} is shared with nobody")
        if current.role == ZMK_ROLE:
            raise HsmRefused("key_usage", f"{name!r} is a zone master key: no link exchanges it")
        return current

    def _check_same_use(self, name: str, role: str, party: str) -> None:
        versions = self.store.versions(name)
        if versions and (versions[-1].role, versions[-1].party) != (role, party):
            old = versions[-1]
            raise HsmRefused("key_exists", f"there is a key named {name!r} for {old.role} with {old.party or 'nobody'}")

    def _generated_attributes(self, request: GenerateKey) -> KeyAttributes:
        _check_name(request.name)
        _check_party(request.name, request.role, request.party)
        if self.store.versions(request.name):
            raise HsmRefused("key_exists", f"there is a key named {request.name!r}: rotate it")
        return _attributes(request.role, request.algorithm, request.mode, request.exportability)

    def _block_content(self, request: ImportBlock) -> tuple[str, KeyAttributes, bytes]:
        """Return the party that a key block is from, and the attributes and clear value of the key in it."""
        _check_name(request.name)
        if request.role not in ROLES:
            raise HsmRefused("malformed", f"role {request.role!r} is not one of {', '.join(ROLES)}")
        attributes, value = self._opened(request.block, request.under, adjust_parity=request.adjust_parity)
        of_zmk = self._party_of_zmk(request.under)
        party = request.party or of_zmk
        self._check_zmk(request.under, party)
        _check_party(request.name, request.role, party)
        if problem := misfit(request.role, attributes):
            raise HsmRefused("key_usage", problem)
        if request.kcv and (found := clear_check_value(attributes.algorithm, value)) != request.kcv.upper():
            raise HsmRefused("key_block_invalid", f"the key in the block has check value {found}, not {request.kcv}")
        return party, attributes, value

    def _present(self, name: str) -> tuple[str, ...]:
        record = self.store.active(name)
        return (_line(record),) if record is not None else (f"{name}: no version in force",)

    def _shared_with(self, party: str) -> bool:
        infos = self.store.infos()
        return any(info.party == party and info.status == "active" and info.role != ZMK_ROLE for info in infos)

    def _protector(self, name: str, operation: Operation) -> HeldKey:
        return self.store.keyring().key(name, operation)

    def _in_force(self, name: str) -> KeyRecord:
        record = self.store.active(name)
        if record is None or not record.parts:
            if name in RESERVED_NAMES:
                raise HsmRefused("not_exportable", f"{name!r} never leaves the token")
            if self.store.versions(name):
                raise HsmRefused("key_unknown", f"no version of key {name!r} is in force")
            raise unknown_key(name)
        return record

    def _version(self, name: str, version: int) -> KeyRecord:
        for record in self.store.versions(name):
            if record.version == version:
                return record
        if name in RESERVED_NAMES and name != DATA_KEY:
            raise HsmRefused("key_in_use", f"{name!r} is the token's own")
        if self.store.versions(name):
            raise HsmRefused("key_unknown", f"key {name!r} has no version {version}")
        raise unknown_key(name)

    def _changed(self, record: KeyRecord) -> KeyList:
        self._on_change(self.store.keyring())
        return KeyList((self.store.info(record),))


def key_handlers(desk: KeyDesk) -> dict[type, Callable[[Any], Any]]:
    """Return what answers each request; a handler may return an awaitable."""
    handlers: dict[type, Callable[[Any], Any]] = {
        ListKeys: desk.list_keys,
        GenerateKey: desk.generate,
        ImportComponents: desk.import_components,
        ImportBlock: desk.import_block,
        ExportKey: desk.export,
        RotateKey: desk.rotate,
        RetireKey: desk.retire,
        RenewLinkKey: desk.renew_link_key,
        AcceptLinkKey: desk.accept_link_key,
        ActivateKey: desk.activate,
    }
    return {kind: _checked(handler) for kind, handler in handlers.items()}


def _checked(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def handle(request: Any) -> Any:
        check_text(request)
        return handler(request)

    return handle


def _check_name(name: str) -> None:
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not plain or len(name) > MAX_NAME:
        raise HsmRefused("malformed", f"a key's name is letters, digits, - and _, {MAX_NAME} at most")
    if holds(name):
        raise HsmRefused("malformed", "a key's name must not hold a card number")
    if name in RESERVED_NAMES:
        raise HsmRefused("key_exists", f"{name!r} is the token's own")


def _attributes(role: str, algorithm: str, mode: str = "", exportability: str = "") -> KeyAttributes:
    try:
        return attributes_for(role, algorithm, mode, exportability)
    except ValueError as error:
        raise HsmRefused("malformed", str(error)) from None


def _check_party(name: str, role: str, party: str) -> None:
    """Refuse a zone master key under the name by which links find that of another party."""
    of_name = _party_by_name(name, role)
    if of_name and party and party != of_name:
        raise HsmRefused("malformed", f"{name!r} is the name of the zone master key of {of_name}, not of {party}")


def _party_of(record: KeyRecord) -> str:
    """Return who holds the other end; of a zone master key that names nobody, whose its name says it is."""
    return record.party or _party_by_name(record.name, record.role)


def _party_by_name(name: str, role: str) -> str:
    return name.removeprefix(zmk_name("")) if role == ZMK_ROLE and name.startswith(zmk_name("")) else ""


def _line(record: KeyRecord) -> str:
    return (
        f"{record.name} version {record.version}: {record.role}, KCV {record.kcv}, {record.status}, with"
        f" {_party_of(record) or 'nobody'}"
    )


def _protection_key(held: HeldKey) -> TdesKey | AesKey:
    return cast(TdesKey | AesKey, held.key)
