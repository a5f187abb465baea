"""Keys that make themselves on first start: those of `[[key]]`, and each party's zone master key.

The configuration and a key store go in; afterwards every configured key is in the store, and `state/exchange` holds
what the other parties get. Called by `hsm.keys.holder`. With `[hsm] provision = false` officers bring the keys, and
what is missing is an error that names the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from hsm.algorithms.check_value import clear_check_value
from hsm.algorithms.primitives import AesKey
from hsm.config import KeyConfig
from hsm.errors import ConfigurationError, KeyStoreError
from hsm.keys.configured import KeyFault, key_faults
from hsm.keys.exchange import ExportedKey, export_key, exported_keys, load_party_zmk, make_party_zmk, write_party_keys
from hsm.keys.records import KeyRecord
from hsm.keys.roles import attributes_for
from hsm.keys.store import KeyStore

ZMK_ROLE = "zmk"


def zmk_name(party: str) -> str:
    """Return the name of a party's zone master key."""
    return f"zmk-{party}"


def provision(store: KeyStore, configured: Iterable[KeyConfig], exchange: Path, make: bool) -> None:
    """Make the configured keys that are not there, and the files for their parties.

    Args:
        store: of the open token.
        configured: `[[key]]`.
        exchange: `state/exchange`.
        make: `[hsm] provision`.
    Raises:
        ConfigurationError: a key was made for something else than the configuration says, or is missing where none
            is to be made; all such keys are named.
        KeyStoreError: a party's zone master key is not the one in its file.
    """
    keys = tuple(configured)
    if faults := key_faults(keys, store.versions, make=make):
        raise ConfigurationError(_listed(faults))
    if not make:
        return
    with store.one_write():
        for key in keys:
            if store.active(key.name) is None:
                store.generate(key.name, key.usage, attributes_for(key.usage, key.algorithm), key.party)
        for party in sorted({key.party for key in keys}):
            _provide_zmk(store, exchange, party)
    write_files(store, keys, exchange)


def write_files(store: KeyStore, configured: Iterable[KeyConfig], exchange: Path) -> None:
    """Write `<party>.json` for each party whose zone master key its custodian got as a file, where it is not up to
    date; called again after a key was changed."""
    keys = tuple(configured)
    for party in sorted({key.party for key in keys}):
        zmk = store.active(zmk_name(party))
        if zmk is None or zmk.attributes.algorithm != "A" or not (exchange / f"{party}.zmk").exists():
            continue
        records = [record for key in keys if key.party == party and (record := store.active(key.name)) is not None]
        there = [(key.name, key.version, key.kcv, bool(key.block)) for key in exported_keys(exchange, party)]
        if there == [(record.name, record.version, record.kcv, True) for record in records]:
            continue
        protection = cast(AesKey, store.held(zmk).key)
        write_party_keys(exchange, party, [_exported(store, record, protection) for record in records])


def _listed(faults: Sequence[KeyFault]) -> str:
    """All faults, and once how keys of a test system come to be."""
    problems = [f"key {fault.key.name} {fault.what}: {fault.fix}" for fault in faults]
    hint = "on a test system [hsm] dual_control = false makes missing keys"
    return "; ".join([*problems, hint] if any(fault.missing for fault in faults) else problems)


def _provide_zmk(store: KeyStore, exchange: Path, party: str) -> None:
    name = zmk_name(party)
    record = store.active(name)
    if record is None:
        value = make_party_zmk(exchange, party, store.random_bytes)
        store.take(name, ZMK_ROLE, attributes_for(ZMK_ROLE), party, value, "custodian")
    elif problem := zmk_problem(record, party, exchange):
        raise KeyStoreError(problem)


def zmk_problem(record: KeyRecord, party: str, exchange: Path) -> str:
    """Return why a zone master key is not the one in the file of its party; empty where it is, or there is no file.

    Raises:
        KeyStoreError: something else is in the file.
    """
    path = exchange / f"{party}.zmk"
    if not path.exists() or record.attributes.algorithm != "A":
        return ""
    kcv = clear_check_value("A", load_party_zmk(exchange, party))
    if kcv == record.kcv:
        return ""
    return (
        f"{path}: the key in it has check value {kcv}, {record.name} has {record.kcv}: import it with"
        " cardswitch hsm key import, or take the file away"
    )


def _exported(store: KeyStore, record: KeyRecord, zmk: AesKey) -> ExportedKey:
    return export_key(
        zmk,
        store.reveal(record),
        record.attributes,
        store.random_bytes,
        name=record.name,
        role=record.role,
        kcv=record.kcv,
        version=record.version,
    )
