"""Every setting of the configuration has one row: those of a reload, and the processes that take the rest at start."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.config import Config, load_config
from console.postgresql import PostgresqlConfig
from console.reload import with_taken
from console.reload_table import NO_TABLES, RELOAD, ROWS, UNKNOWN, WHOLE, needs_restart, processes_of
from console.supervisor import child_specs
from hsm.callers import CallerConfig
from ledger.config import MerchantConfig
from switch.links.rules import RULES
from switch.links.settings import AcquirerLink
from switch.reload import LINKS, TAKEN
from switch.routing.settings import BreakerSettings, StandIn
from tests.console.test_config import GOOD, write

SAMPLE = load_config(Path(__file__).parents[2] / "specs" / "cardswitch.toml")


def tables() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Each table of the file with its struct, those inside of others too, but for those that may be left out."""
    for field in msgspec.structs.fields(Config):
        if field.name not in NO_TABLES:
            yield from _tables(field.encode_name, field.type)


def _tables(name: str, kind: Any) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    yield name, kind
    for field in msgspec.structs.fields(kind):
        yield from _tables(f"{name}.{field.encode_name}", field.type) if not _is_list(field.type) else ()


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


SETTINGS = [
    (table, field.encode_name)
    for table, struct in tables()
    for field in msgspec.structs.fields(struct)
    if f"{table}.{field.encode_name}" not in dict(tables())
]


def test_every_setting_has_exactly_one_row_and_every_row_is_about_settings() -> None:
    rows = Counter((row.table, setting) for row in ROWS for setting in row.settings.split())
    whole = {table for table, setting in rows if setting == WHOLE}
    settings = [(table, WHOLE if table in whole else setting) for table, setting in SETTINGS]
    assert sorted(rows - Counter(set(settings))) == [], "rows without a setting, or a setting in two rows"
    assert sorted(set(settings) - set(rows)) == [], "settings of the configuration that console/reload_table.py lacks"


def test_the_list_of_settings_is_whole() -> None:
    """The criterion of the test above reaches tables in lists, and tables inside of tables."""
    assert {("acquirer", "permissions"), ("gateway.http", "max_headers"), ("merchant", "id")} < set(SETTINGS)
    assert {("route", "from"), ("state", "directory"), ("tokenizer.http", "max_headers")} < set(SETTINGS)
    assert len(SETTINGS) > 200


def test_what_a_reload_takes_is_what_workers_take() -> None:
    taken = {(row.table, setting) for row in ROWS if row.processes == RELOAD for setting in row.settings.split()}
    links = {(section, rule) for section in LINKS.values() for rule in RULES}
    assert taken == {(section, WHOLE) for section in TAKEN.values()} | links


def test_processes_are_those_of_a_system() -> None:
    groups = {spec.group for spec in child_specs(SAMPLE, True, {})} | {"up"}
    assert {process for row in ROWS for process in row.processes} == groups == set(UNKNOWN)


def other(value: Any) -> Any:
    """Another value of about the same kind; nothing here validates it."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case tuple():
            return (*value, "x")
        case dict():
            return {**value, "XXX": 1}
        case None:
            return 1
        case _:
            return None


@pytest.mark.parametrize(("table", "setting"), SETTINGS)
def test_a_change_of_each_setting_is_either_taken_or_named(table: str, setting: str) -> None:
    """One setting of the sample configuration is changed, whichever it is."""
    section, _, inner = table.partition(".")
    before = getattr(FULL, section)
    entry = before[0] if isinstance(before, tuple) else before
    label = f"{section}[{_name(entry)}]" if isinstance(before, tuple) else table
    if setting in ("name", "id") and isinstance(before, tuple) and (section, setting) != ("merchant", "name"):
        return  # another entry then: see below
    holder = getattr(entry, inner) if inner else entry
    [field] = [field.name for field in msgspec.structs.fields(holder) if field.encode_name == setting]
    changed = replaced(holder, field, other(getattr(holder, field)))
    whole = replaced(entry, inner, changed) if inner else changed
    wanted = replaced(FULL, section, (whole, *before[1:]) if isinstance(before, tuple) else whole)
    found = needs_restart(FULL, wanted)
    taken = with_taken(FULL, wanted)
    if processes_of(table, setting) == RELOAD:
        assert found == () and taken == wanted
    else:
        assert [(entry.setting, entry.processes) for entry in found] == [
            (f"{label}.{setting}", processes_of(table, setting))
        ]
        assert taken == FULL
    assert found == () or found[0].processes


def test_entries_that_are_new_and_that_are_gone(tmp_path: Path) -> None:
    running = load_config(write(tmp_path, GOOD))
    link = AcquirerLink(name="north", listen="127.0.0.1:1", dialect="iso87-ascii")
    wanted = msgspec.structs.replace(
        running, acquirer=(link, *running.acquirer[1:]), merchant=(MerchantConfig(id="SHOP"),), route=()
    )
    assert [(entry.setting, entry.change, entry.processes) for entry in needs_restart(running, wanted)] == [
        ("acquirer[pos]", "removed", ("up", "switch", "gateway")),
        ("acquirer[north]", "new", ("up", "switch", "gateway")),
        ("merchant[SHOP]", "new", ("up", "switch")),
    ]


def test_the_order_of_entries_means_nothing() -> None:
    wanted = msgspec.structs.replace(SAMPLE, acquirer=SAMPLE.acquirer[::-1], key=SAMPLE.key[::-1])
    assert needs_restart(SAMPLE, wanted) == ()


def _name(entry: msgspec.Struct) -> str:
    return str(getattr(entry, "id", None) or getattr(entry, "name", ""))


def replaced(struct: Any, name: str, value: Any) -> Any:
    return msgspec.structs.replace(struct, **{name: value})


def _full() -> Config:
    """The sample configuration with an entry of each list, and with the settings of a server of your own."""
    return msgspec.structs.replace(
        SAMPLE,
        postgresql=PostgresqlConfig(dsn="postgresql://owner@database/cards", role_prefix="cards"),
        caller=SAMPLE.caller or (CallerConfig(name="switch"),),
        breaker=SAMPLE.breaker or (BreakerSettings(),),
        stand_in=SAMPLE.stand_in or (StandIn(issuer="alpha"),),
    )


FULL = _full()
