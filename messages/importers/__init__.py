"""Foreign specifications: a file of jPOS, moov-io/iso8583 or pyiso8583 in, a dialect out.

Called wherever a dialect is named by a path that is no TOML: `load_dialect` hands over such paths, the command line
reads the warnings too. The content of a file decides its kind, not its name.
"""

from __future__ import annotations

import re
from pathlib import Path

from messages.dialect import Dialect
from messages.errors import SpecError
from messages.importers.imported import Imported
from messages.importers.xml_tree import LARGEST

__all__ = ["ORIGINS", "Imported", "load", "read", "read_bytes"]

ORIGINS = ("jpos", "moov", "pyiso8583")


def load(path: str | Path) -> Dialect:
    """The dialect of a foreign file.

    Raises:
        SpecError: it cannot be read, is of none of the kinds, or has problems: all of them.
    """
    return read(path).dialect


def read(path: str | Path, origin: str | None = None) -> Imported:
    """The dialect of a foreign file, and what was lost.

    Args:
        path: of the file.
        origin: one of `ORIGINS`; None: its content decides.

    Raises:
        SpecError: as for `load`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise SpecError(str(path), [f"cannot be read: {error.strerror or 'is no file'}"]) from None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-") or "imported"
    return read_bytes(data, name, str(path), origin)


def read_bytes(data: bytes, name: str, source: str, origin: str | None = None) -> Imported:
    """As `read`, from bytes.

    Args:
        data: content of the file.
        name: of the dialect, where the file does not say one.
        source: the name of the file in errors.
        origin: as for `read`.
    """
    if len(data) > LARGEST:
        raise SpecError(source, [f"is larger than {LARGEST >> 20} MiB"])
    kind = origin or _kind(data, source)
    if kind == "jpos":
        from messages.importers import jpos_xml

        return jpos_xml.read(data, name, source)
    from messages.importers import json_spec

    return json_spec.read(data, name, source, origin)


def _kind(data: bytes, source: str) -> str:
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        raise SpecError(source, ["is empty"])
    if text.startswith(b"<"):
        return "jpos"
    if text.startswith((b"{", b"[")):
        return "json"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SpecError(source, ["is in UTF-16 or UTF-32: save it in UTF-8"])
    raise SpecError(source, ["is neither XML (jPOS) nor JSON (moov-io/iso8583, pyiso8583)"])
