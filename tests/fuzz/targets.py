"""All fuzz targets: one a parser."""

from __future__ import annotations

from tests.fuzz import codec, composites, framing, importers, message_json, translation
from tests.fuzz.driver import Target

TARGETS: list[Target] = [
    framing.TARGET,
    codec.TARGET,
    composites.TARGET,
    message_json.TARGET,
    translation.TARGET,
    *importers.TARGETS.values(),
]
