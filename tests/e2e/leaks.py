"""The search of the leak test: secrets in all the forms that they could have, and all the places where they could be.

`Secrets` says what stands in some bytes; `files_of`, `rows_of` and `pages_of` give every file, row and page of a
running system.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx

from console.database_roles import OWNER
from console.embedded import server_data
from console.postgresql import resolve_dsn
from console.supervisor import System
from hsm.keys.exchange import load_party_keys, read_transport_key
from messages.card_numbers import find

_MEMORY_PIECE = 4 << 20
_OVERLAP = 256


class Secrets:
    """Values that must be nowhere; `found_in` gives the names of those that are found after all."""

    def __init__(self) -> None:
        self._exact: dict[bytes, str] = {}
        self._hex: dict[bytes, str] = {}
        self._numbers: dict[str, str] = {}

    def add_number(self, name: str, number: str) -> None:
        """A PAN or PIN of 12 digits or more: as text, in groups, packed BCD, EBCDIC, hex, base64."""
        text = number.encode()
        self.add_bytes(name, text)
        self._numbers[number] = f"{name} as people write it"
        for separator in (b" ", b"-"):
            self._exact[separator.join(text[at : at + 4] for at in range(0, len(text), 4))] = f"{name} in groups"
        # An odd nibble before or after: packed BCD of a track or of a number with an odd count of digits.
        for digits in (number, f"{number}0"[: len(number) // 2 * 2], number[1:] if len(number) % 2 else number):
            self._exact[bytes.fromhex(digits)] = f"{name} in BCD"
        self._exact[bytes(0xF0 | int(digit) for digit in number)] = f"{name} in EBCDIC"
        self._hex["".join(f"f{digit}" for digit in number).encode()] = f"{name} in hex of EBCDIC"

    def add_bytes(self, name: str, secret: bytes) -> None:
        """Keys, PIN blocks, texts: as they are, in hex, in base64 wherever it begins in what is encoded."""
        assert len(secret) >= 8, "shorter ones are found everywhere by chance"
        self._exact[secret] = name
        self._hex[secret.hex().encode()] = f"{name} in hex"
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + secret)
            sure = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
            self._exact[sure] = f"{name} in base64"
            self._exact[sure.replace(b"+", b"-").replace(b"/", b"_")] = f"{name} in base64 for URLs"

    def found_in_text(self, data: bytes) -> set[str]:
        """Those of `found_in`, and card numbers in every spelling that `messages.card_numbers` knows.

        For texts: logs, rows, pages, answers. A database's own files are only searched by `found_in`.
        """
        written = {found.number for found in find(data.decode("utf-8", "replace"), anywhere=True)}
        return self.found_in(data) | {self._numbers[number] for number in written & self._numbers.keys()}

    def found_in(self, data: bytes) -> set[str]:
        folded = data.lower()
        return {name for needle, name in self._exact.items() if needle in data} | {
            name for needle, name in self._hex.items() if needle in folded
        }


def add_keys(secrets: Secrets, system: System) -> int:
    """Every clear zone key and transport key of the system. Returns how many."""
    directory, count = system.config.exchange_path, 0
    for file in sorted(directory.glob("*.zmk")):
        secrets.add_bytes(f"transport key of {file.stem}", read_transport_key(file))
        for name, key in load_party_keys(directory, file.stem).items():
            # A double-length key is also searched half by half: K1‖K2 can be written as K1‖K2‖K1.
            for half in (key[:8], key[-8:]) if len(key) == 16 else (key,):
                secrets.add_bytes(name, half)
            count += 1
        count += 1
    return count


def files_of(state: Path) -> Iterator[Path]:
    """All files but the database's own and the transport keys' custody files."""
    for path in sorted(state.rglob("*")):
        inside = path.relative_to(state).parts
        if path.suffix == ".zmk" or ("postgresql" in inside and "server" in inside):
            continue
        if path.is_file():
            yield path


async def rows_of(connection: asyncpg.Connection) -> dict[str, list[bytes]]:
    """Every row of every table of all schemas, as PostgreSQL writes it: bytea in hex, json as it is."""
    tables = await connection.fetch(
        """SELECT format('%I.%I', n.nspname, c.relname) AS name
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
              AND n.nspname NOT LIKE 'pg\\_toast%' AND (c.relpersistence <> 't' OR n.oid = pg_my_temp_schema())"""
    )
    found = {}
    for table in tables:
        rows = await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t")
        found[table["name"]] = [row["row"].encode() for row in rows]
    return found


async def open_as_owner(system: System) -> asyncpg.Connection:
    return await asyncpg.connect(resolve_dsn(system.config.postgresql, system.config.state_path, OWNER))


def pages_of(system: System) -> dict[str, bytes]:
    """/metrics of every process that has it."""
    addresses = system.addresses()
    urls = [url for name, url in addresses.items() if name.startswith("metrics ")]
    urls += [f"{addresses[name]}/metrics" for name in ("gateway", "tokenizer")]
    return {url: httpx.get(url, trust_env=False, timeout=10).raise_for_status().content for url in urls}


def memory_of(pid: int) -> Iterator[bytes]:
    """Everything that a process may have written: its private writable mappings, in pieces that overlap.

    Raises PermissionError where this user may not look; the tests then say so instead of passing.
    """
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            addresses, modes, *rest = line.split()
            if not modes.startswith("rw") or rest[-1] in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(address, 16) for address in addresses.split("-"))
            for at in range(start, end, _MEMORY_PIECE):
                memory.seek(at)
                try:
                    yield memory.read(min(_MEMORY_PIECE + _OVERLAP, end - at))
                except OSError:  # a guard page, or gone since the map was read
                    break


def database_files(state: Path) -> Iterator[Path]:
    """The files of the embedded server: tables, indexes, the write-ahead log and what a sort spilled."""
    data = server_data(state)
    assert data is not None
    for path in sorted(data.rglob("*")):
        if path.is_file():
            yield path
