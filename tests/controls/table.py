"""`controls.toml` as structs: a control, how it is taken out of the code, and the tests that notice.

Read by the runner (`python -m tests.controls`) and by `tests/console/test_security_page.py`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One control.

    Args:
        requirement: the beginning of a row of SECURITY.md: `3.3.1`, or `records a request`.
        says: the promise of the control.
        file: where it is.
        remove: text that is in the file once.
        put: text in its place: the same code without the control.
        tests: `path::name`, each of which fails then.
    """

    requirement: str
    says: str
    file: str
    remove: str
    put: str
    tests: tuple[str, ...]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    control: list[Control]


def controls() -> list[Control]:
    """All controls, in the order of the file."""
    return msgspec.toml.decode(Path(__file__).with_name("controls.toml").read_bytes(), type=_File).control
