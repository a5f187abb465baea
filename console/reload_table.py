"""When each setting of the file comes into force: at a reload, or at the start of certain processes.

`ROWS` names every setting once; a test compares it with the structs of the configuration. Two configurations go in, the
settings that differ and need a restart come out. Called by `console.reload`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from console.config import Config
from switch.reload import NeedsRestart

RELOAD: tuple[str, ...] = ()  # the running workers of the switch take it
DATABASE = ("postgresql", "hsm", "switch", "tokenizer", "gateway")
EVERY = (*DATABASE, "issuers")
LINK = ("up", "switch")  # `up` opens the sockets that workers share
ISSUER = ("switch", "issuers")  # a simulated issuer has the settings of its link
WHOLE = "*"  # all settings of the table, later ones too: workers take it as one
NAMES = ("id", "name")  # keys of the entries of a list, the first one that they have
UNKNOWN = ("up", *EVERY)  # for a setting without a row


class Row(NamedTuple):
    """Settings of one table of the file, `[table]` or `[[table]]`, and the processes that take them at their start."""

    table: str
    processes: tuple[str, ...]
    settings: str


ROWS = (
    Row("state", ("up", *EVERY), "directory"),
    Row("log", EVERY, "level max_mb keep"),
    Row("postgresql", DATABASE, "dsn role_prefix"),
    Row("hsm", ("hsm",), "module token slot serial pin_file dual_control approval_hours provision key_lifetime_days"),
    Row("hsm", ("hsm",), "key_warning_days expired_keys key_grace_s max_queued budget_s max_connections cached_cards"),
    Row("hsm", ("hsm",), "database_timeout_s decimalization_tables network_token_bin network_token_key log_commands"),
    Row("hsm", ("hsm", "switch", "tokenizer"), "socket"),
    Row("hsm", ("up", "hsm"), "vault"),
    Row("hsm", ("hsm",), "keys callers"),  # never in the file: [[key]] and [[caller]]
    Row("key", ("hsm",), "name usage"),
    Row("key", ("hsm", "issuers"), "party algorithm"),
    Row("caller", ("hsm", "switch", "tokenizer"), "name socket"),
    Row("caller", ("hsm",), "users commands keys"),
    Row("tokenizer", ("tokenizer", "gateway"), "listen url certificate"),
    Row("tokenizer", ("tokenizer",), "private_key behind_proxy origins internal_networks max_body_bytes rate_per_s"),
    Row("tokenizer", ("tokenizer",), "burst key_rate_per_s key_burst refused_cards"),
    Row(
        "tokenizer", ("tokenizer",), "request_timeout_s max_connections connections_per_address"
    ),  # former settings, now errors
    Row("tokenizer.http", ("tokenizer",), "max_connections connections_per_address connections_per_account"),
    Row("tokenizer.http", ("tokenizer",), "requests_per_account max_request_line_bytes max_header_line_bytes"),
    Row("tokenizer.http", ("tokenizer",), "max_headers max_head_bytes header_timeout_s body_timeout_s"),
    Row("tokenizer.http", ("tokenizer",), "min_body_bytes_per_s idle_timeout_s tls_handshake_timeout_s send_timeout_s"),
    Row("tokenizer.http", ("tokenizer",), "trusted_proxies keyless_per_s keyless_burst"),
    Row(
        "gateway", ("gateway",), "listen link tokenizer_url tokenizer_ca sealing_keys connections acquirer_id terminal"
    ),
    Row("gateway", ("gateway",), "max_in_flight answer_timeout_s repeats repeat_cap_s echo_s request_timeout_s"),
    Row("gateway", ("gateway",), "claim_s max_body_bytes max_requests requests_per_s webhook_timeout_s webhook_tries"),
    Row("gateway", ("gateway",), "webhook_backoff_s webhook_cap_s max_deliveries deliveries_per_account"),
    Row("gateway", ("gateway",), "deliveries_per_endpoint deliveries_per_host webhook_networks pool"),
    Row("gateway", ("up", "hsm", "gateway"), "switch"),  # its MAC key makes a caller of the HSM
    Row("gateway.http", ("gateway",), "max_connections connections_per_address connections_per_account"),
    Row("gateway.http", ("gateway",), "requests_per_account max_request_line_bytes max_header_line_bytes"),
    Row("gateway.http", ("gateway",), "max_headers max_head_bytes header_timeout_s body_timeout_s"),
    Row("gateway.http", ("gateway",), "min_body_bytes_per_s idle_timeout_s tls_handshake_timeout_s send_timeout_s"),
    Row("gateway.http", ("gateway",), "trusted_proxies keyless_per_s keyless_burst"),
    Row("switch", ("up",), "workers"),
    Row("switch", ("switch",), "metrics recovery_grace_s max_in_flight unreferenced_refunds drain_s"),
    Row("switch", ISSUER, "payment_log"),
    # Links. `switch.links.rules.RULES` has the settings that a reload takes.
    Row("acquirer", RELOAD, "permissions max_age_s advice_max_age_s max_ahead_s rate queue queue_s"),
    Row("acquirer", ("up", "switch", "gateway"), "name listen"),
    Row("acquirer", ("switch", "gateway"), "dialect"),
    Row("acquirer", LINK, "peer_users"),
    Row("acquirer", ("switch",), "address framing max_frame header header_bytes tls connections max_connections"),
    Row("acquirer", ("switch",), "max_per_address max_bad_frames silent_s frame_s management_rate must_sign_on"),
    Row("acquirer", ("switch",), "missed_echoes dial_timeout_s reconnect_s reconnect_cap_s max_in_flight pin_key"),
    Row("acquirer", ("switch",), "pin_format mac_key mac_management key_exchange_hours trace_element ksn_element"),
    Row("acquirer", ("switch",), "surrogate partial_approvals token_cryptogram_element sign_on echo_s"),
    Row("acquirer", ("switch",), "advice_timeout_s"),
    Row("issuer", RELOAD, "permissions max_age_s advice_max_age_s max_ahead_s rate queue queue_s"),
    Row("issuer", ("up", *ISSUER), "name listen"),
    Row("issuer", ISSUER, "address dialect framing max_frame header pin_key pin_format mac_key mac_management tls"),
    Row("issuer", ISSUER, "trace_element"),
    Row("issuer", LINK, "peer_users"),
    Row("issuer", ("switch",), "header_bytes connections max_connections max_per_address max_bad_frames silent_s"),
    Row("issuer", ("switch",), "frame_s management_rate must_sign_on missed_echoes dial_timeout_s reconnect_s"),
    Row("issuer", ("switch",), "reconnect_cap_s max_in_flight key_exchange_hours deadline_s sign_on echo_s"),
    Row("issuer", ("switch",), "advice_timeout_s"),
    # Sections that a reload takes whole: `switch.reload.TAKEN`.
    Row("route", RELOAD, WHOLE),
    Row("breaker", RELOAD, WHOLE),
    Row("stand_in", RELOAD, WHOLE),
    Row("saf", RELOAD, WHOLE),
    Row("fraud", RELOAD, WHOLE),
    Row("rates", RELOAD, WHOLE),
    Row("fees", ("switch",), "other_currencies rate fixed_minor international_rate conversion_rate dispute_fee_minor"),
    Row("merchant", ("up", "switch"), "id name country"),  # `up`: commands read the configuration that it started with
    Row("merchant", ("switch",), "rate fixed_minor international_rate conversion_rate dispute_fee_minor"),
)
# Fields of `Config` that are no tables of the file.
NO_TABLES = frozenset({"source", "origin", "overridden"})
_PROCESSES = {(row.table, setting): row.processes for row in ROWS for setting in row.settings.split()}


def needs_restart(running: Config, wanted: Config) -> tuple[NeedsRestart, ...]:
    """The settings of `wanted` that differ from `running` and that no reload takes, in the order of the file."""
    return tuple(
        entry
        for field in msgspec.structs.fields(Config)
        if field.name not in NO_TABLES
        for entry in _of_table(field.name, field.name, getattr(running, field.name), getattr(wanted, field.name))
    )


def processes_of(table: str, setting: str) -> tuple[str, ...]:
    """The processes that take a setting at their start; `RELOAD` where none has to start again."""
    whole = _PROCESSES.get((table, WHOLE))
    return _PROCESSES.get((table, setting), UNKNOWN) if whole is None else whole


def _of_table(table: str, label: str, running: Any, wanted: Any) -> Iterator[NeedsRestart]:
    """One table, or all entries of a list of tables."""
    if isinstance(running, msgspec.Struct):
        yield from _of_settings(table, label, running, wanted)
    elif processes_of(table, WHOLE) != RELOAD:
        yield from _of_list(table, running, wanted)


def _of_settings(table: str, label: str, running: msgspec.Struct, wanted: msgspec.Struct) -> Iterator[NeedsRestart]:
    for field in msgspec.structs.fields(running):
        before, after = getattr(running, field.name), getattr(wanted, field.name)
        if before == after:
            continue
        place = f"{label}.{field.encode_name}"
        if _is_table(f"{table}.{field.name}"):
            yield from _of_settings(f"{table}.{field.name}", place, before, after)
        elif processes := processes_of(table, field.encode_name):
            yield NeedsRestart(place, processes)


def _of_list(table: str, running: Sequence[Any], wanted: Sequence[Any]) -> Iterator[NeedsRestart]:
    """Entries by their key; their order in the file has no effect."""
    name = next((name for name in NAMES if (table, name) in _PROCESSES), "")
    if not name:
        if running != wanted:
            yield NeedsRestart(table, UNKNOWN)
        return
    before, after = ({getattr(entry, name): entry for entry in entries} for entries in (running, wanted))
    for value in dict.fromkeys((*before, *after)):
        label = f"{table}[{value}]"
        if value in before and value in after:
            yield from _of_settings(table, label, before[value], after[value])
        else:
            yield NeedsRestart(label, processes_of(table, name), "new" if value in after else "removed")


def _is_table(table: str) -> bool:
    return any(row.table == table for row in ROWS)
