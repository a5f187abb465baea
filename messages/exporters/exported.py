"""The result of an exporter: the other product's specification and the parts lost on the way."""

from __future__ import annotations

from typing import Any

import msgspec


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A specification of another product.

    Args:
        spec: its dict, ready for JSON.
        warnings: settings of the dialect that the spec lacks; the bytes are the same without.
    """

    spec: dict[str, Any]
    warnings: tuple[str, ...] = ()
