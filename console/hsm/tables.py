"""Keys, audit records and backups as tables or JSON: structs in, standard output. Called by `cardswitch hsm`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

_STATUS_STYLES = {"active": "green", "pending": "yellow", "previous": "yellow", "retired": "dim"}


def print_json(value: Any) -> None:
    """Print anything msgspec can encode on one line."""
    import msgspec

    print(msgspec.json.encode(value).decode())


def key_json(key: Any) -> dict[str, Any]:
    """A `hsm.key_commands.KeyInfo` for programs: attributes beside the rest."""
    import msgspec

    return {**msgspec.to_builtins(key), "codes": codes(key.attributes)}


def codes(attributes: Any) -> str:
    """Usage, algorithm, mode and exportability as the header of a key block has them: `P0 T B E`."""
    return f"{attributes.usage} {attributes.algorithm} {attributes.mode} {attributes.exportability}"


def print_keys(keys: Sequence[Any], title: str = "") -> None:
    """A table, a line a version of a key, with its check value."""
    table = _table(("key", "v", "role", "X9.143", "bits", "KCV", "status", "party", "made", "expires", "origin"), title)
    for key in sorted(keys, key=lambda key: (key.name, key.version)):
        style = _STATUS_STYLES.get(key.status, "")
        table.add_row(
            _escape(key.name),
            str(key.version),
            key.role,
            codes(key.attributes),
            str(8 * key.attributes.length),
            f"[bold]{key.kcv}[/]",
            f"[{style}]{key.status}[/]" if style else key.status,
            _escape(key.party),
            moment(key.created_at)[:10],
            _expires(key),
            key.origin,
        )
    _print(table)


def _expires(key: Any) -> str:
    """The day on which the period of a version in force ends, in red once it is over."""
    if key.status != "active" or not key.expires_at:
        return ""
    day = moment(key.expires_at)[:10]
    return f"[red]{day}[/]" if key.expires_at <= time.time() else day


def print_records(records: Iterable[dict[str, Any]]) -> None:
    """A table of audit records as `hsm.audit.read_records` gives them."""
    table = _table(("n", "time", "caller", "user", "process", "command", "keys", "officers", "outcome", "trace"))
    for record in records:
        style = "" if record.get("outcome") == "ok" else "red"
        outcome = _escape(str(record.get("outcome", "")))
        table.add_row(
            str(record.get("n", "")),
            moment(int(record.get("t", 0)) // 1_000_000),
            _escape(str(record.get("caller", ""))),
            str(record.get("uid", "")),
            str(record.get("pid", "")),
            _escape(str(record.get("command", ""))),
            _escape(_keys_of(record)),
            _escape(" ".join(map(str, record.get("officers", ())))),
            f"[{style}]{outcome}[/]" if style else outcome,
            _escape(str(record.get("trace", ""))),
        )
    _print(table)


def print_rows(titles: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table of texts."""
    table = _table(titles, title)
    for row in rows:
        table.add_row(*(_escape(cell) for cell in row))
    _print(table)


def moment(seconds: float) -> str:
    """Seconds since 1970 in UTC, nothing for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def grouped(text: str, size: int = 4) -> str:
    """Hexadecimal digits in groups, as custodians read them."""
    return " ".join(text[start : start + size] for start in range(0, len(text), size))


def printable(text: str) -> str:
    """Return `text` with everything but printable ASCII escaped: no text moves the cursor or begins a line."""
    return "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in text)


def _keys_of(record: dict[str, Any]) -> str:
    keys = record.get("keys", "")
    return keys if isinstance(keys, str) else " ".join(map(str, keys))


def _table(titles: Sequence[str], title: str = "") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=title or None, title_justify="left")
    for name in titles:
        # On a narrow terminal the others are folded; a folded check value is none.
        table.add_column(
            name,
            justify="right" if name in ("v", "bits", "n", "number", "files") else "left",
            overflow="fold",
            no_wrap=name
            in ("key", "v", "X9.143", "bits", "KCV", "status", "made", "expires", "n", "time", "outcome", "number"),
        )
    return table


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width: nothing is folded that a program would have to put together.
        console = Console(highlight=False, width=200)
    console.print(table)
