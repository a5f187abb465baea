"""The text of commands on keys: each field by name, and the characters that it may hold.

Officers approve by reading these fields at a terminal, so no field may hold a line feed or a terminal's control
characters. Called by `hsm.key_desk` before a command is proposed, approved or done. `tests/hsm/test_request_text.py`
walks the commands: a new field of text needs a row here.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hsm.commands import HsmRefused

_WORD = (re.compile(r"[A-Za-z0-9_-]{0,64}"), "letters, digits, - and _, 64 at most")
# A key that is there may have a name of the configuration; new names are checked more strictly in `hsm.key_desk`.
_NAME = (re.compile(r"[!-~]{0,128}"), "printable ASCII without blanks, 128 at most")
_LETTER = (re.compile(r"[A-Za-z]?"), "one letter")

TEXT_FIELDS = {
    "name": _NAME,
    "under": _NAME,
    "party": _WORD,
    "role": _WORD,
    "algorithm": _WORD,
    "mode": (re.compile(r"[A-Za-z0-9]?"), "one letter or digit"),
    "exportability": _LETTER,
    "block_version": _LETTER,
    "kcv": (re.compile(r"[0-9A-Fa-f]{0,32}"), "hexadecimal digits, 32 at most"),
    "block": (re.compile(r"[ -~]*"), "printable ASCII"),
    "trace_id": (re.compile(r"[ -~]{0,128}"), "printable ASCII, 128 at most"),
}


def check_text(request: msgspec.Struct) -> None:
    """Refuse a command whose text holds other characters than its field may. Raises HsmRefused `malformed`."""
    for name in request.__struct_fields__:
        value: Any = getattr(request, name)
        if isinstance(value, str):
            pattern, holds = TEXT_FIELDS[name]
            if not pattern.fullmatch(value):
                raise HsmRefused("malformed", f"{name} is {holds}")
