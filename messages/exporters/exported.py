"""What an exporter hands back: the other product's specification and what was lost on the way."""

from __future__ import annotations

from typing import Any

import msgspec


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A specification of another product.

    Args:
        spec: its dict, ready for JSON.
        warnings: what the dialect says and the spec does not; the bytes are the same without.
    """

    spec: dict[str, Any]
    warnings: tuple[str, ...] = ()
