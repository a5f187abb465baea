"""The reader of dialect files: a TOML table in, a `Dialect` out, or every problem of it at once.

Called by `messages.dialect.parse_dialect`. docs/dialects.md documents the settings of a dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messages.charsets import TEXT
from messages.dialect import Condition, Dialect, Element, MessageRule
from messages.dictionary import iso1987, iso1993, iso2003
from messages.element_reader import BY_KIND, COUNTS, LENGTHS, ElementReader, Problems
from messages.errors import SpecError

_MTI = (*TEXT, "bcd")
_BITMAP = ("hex", "binary", "ebcdic-hex", *(page for page in TEXT if page != "ascii"))
_SECONDARIES = ("announced", "always")
_TERTIARY = ("", "contiguous", "element")
_IDENTIFICATIONS = ("transmission", "local")
# version → first digit of its MTIs, and what its elements are called
_VERSIONS: dict[str, tuple[str, Mapping[int, str]]] = {
    "1987": ("0", iso1987.ELEMENT_NAMES),
    "1993": ("1", iso1993.ELEMENT_NAMES),
    "2003": ("2", iso2003.ELEMENT_NAMES),
}
_KEYS = {"name", "version", "secondary", "tertiary", "identification", "keepalive", "encoding", "elements", "rules"}
_PADS, _FILLS = ("pad_n", "pad_z"), ("fill_n", "fill_text")
_SECONDARY, _TERTIARY_BITMAP = 1, 65
_LAST, _LAST_OF_TERTIARY = 128, 192


def read(table: dict[str, Any], source: str) -> Dialect:
    """A dialect from the table of its file.

    Raises:
        SpecError: lists every problem.
    """
    reader = _Reader()
    dialect = reader.dialect(table)
    if reader.problems.found:
        raise SpecError(source, reader.problems.found)
    return dialect


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems = Problems()

    def dialect(self, table: dict[str, Any]) -> Dialect:
        problems = self.problems
        problems.unknown_keys("", table, _KEYS)
        name = table.get("name")
        if not isinstance(name, str) or not name:
            problems.say("", "name is missing")
        version = problems.choice("version", table.get("version", "1987"), tuple(_VERSIONS))
        tertiary = problems.choice("tertiary", table.get("tertiary", ""), _TERTIARY)
        secondary = problems.choice("secondary", table.get("secondary", "announced"), _SECONDARIES)
        if secondary == "always" and tertiary:
            problems.say("tertiary", 'cannot be announced where secondary = "always"')
        encoding = self.encoding(table.get("encoding"))
        elements = self.elements(table.get("elements"), encoding, version, tertiary)
        return Dialect(
            name=str(name),
            version=version,
            mti_encoding=encoding["mti"],
            bitmap_encoding=encoding["bitmap"],
            secondary=secondary,
            tertiary=tertiary,
            identification=problems.choice(
                "identification", table.get("identification", "transmission"), _IDENTIFICATIONS
            ),
            keepalive=problems.flag("keepalive", table.get("keepalive", True)),
            elements=elements,
            rules=self.rules(table.get("rules", {}), elements, version),
        )

    def encoding(self, table: Any) -> dict[str, str]:
        problems = self.problems
        required = {"mti": _MTI, "bitmap": _BITMAP, "length": LENGTHS, **BY_KIND}
        if not isinstance(table, dict):
            problems.say("", "[encoding] is missing")
            table = {}
        problems.unknown_keys("encoding.", table, {*required, *_PADS, *_FILLS, "length_count"})
        chosen = {}
        for key, values in required.items():
            said = table.get("text") if key == "x+n" and key not in table else table.get(key)
            if key == "x+n" and key not in table and said not in TEXT:
                said = "ascii"  # the problem of "text" is reported already
            chosen[key] = problems.choice(f"encoding.{key}", said, values)
        for key in _PADS:
            chosen[key] = problems.pad(f"encoding.{key}", table.get(key, ""))
        for key in _FILLS:
            chosen[key] = problems.fill(f"encoding.{key}", table.get(key, ""))
        count = table.get("length_count", "")
        chosen["length_count"] = problems.choice("encoding.length_count", count, ("", *COUNTS))
        return chosen

    def elements(self, table: Any, encoding: dict[str, str], version: str, tertiary: str) -> dict[int, Element]:
        problems, names = self.problems, _VERSIONS[version][1]
        reader = ElementReader(encoding, problems)
        if not isinstance(table, dict) or not table:
            problems.say("", "[elements] is missing or empty")
            return {}
        last = _LAST_OF_TERTIARY if tertiary else _LAST
        elements = {}
        for key, entry in table.items():
            where = f"elements.{key}"
            number = int(key) if key.isascii() and key.isdigit() and len(key) < 4 else 0
            if not 1 <= number <= last or str(number) != key:
                problems.say(where, f"the key must be a number from 2 to {last}")
            elif number == _SECONDARY or (number == _TERTIARY_BITMAP and tertiary):
                problems.say(where, "is a bitmap, no data element")
            else:
                element = reader.element(where, number, entry, names.get(number, ""))
                if element:
                    elements[number] = element
        return dict(sorted(elements.items()))

    def rules(self, table: Any, elements: dict[int, Element], version: str) -> dict[str, MessageRule]:
        problems, first = self.problems, _VERSIONS[version][0]
        if not isinstance(table, dict):
            problems.say("rules", "must be a table by MTI: [rules.0100]")
            return {}
        rules = {}
        for mti, entry in table.items():
            where = f"rules.{mti}"
            if len(mti) != 4 or not (mti.isascii() and mti.isdigit()) or mti[0] != first or int(mti[3]) % 2:
                problems.say(where, f"the key must be an MTI of {version} without its repeat digit: {first}100")
            if not isinstance(entry, dict):
                problems.say(where, "must be a table with mandatory, conditional, echo")
                continue
            problems.unknown_keys(f"{where}.", entry, {"mandatory", "conditional", "echo"})
            rules[mti] = MessageRule(
                mandatory=self.numbers(f"{where}.mandatory", entry.get("mandatory", []), elements),
                conditional=self.conditions(f"{where}.conditional", entry.get("conditional", []), elements),
                echo=self.numbers(f"{where}.echo", entry.get("echo", []), elements),
            )
        return rules

    def numbers(self, where: str, value: Any, elements: dict[int, Element]) -> tuple[int, ...]:
        """A list of elements that the dialect has."""
        if not isinstance(value, list):
            self.problems.say(where, "must be a list of elements: [2, 3, 4]")
            return ()
        return tuple(self.known(where, number, elements) for number in value)

    def known(self, where: str, number: Any, elements: dict[int, Element]) -> int:
        if not isinstance(number, int) or isinstance(number, bool) or number not in elements:
            self.problems.say(where, f"{number!r} is no element of this dialect")
            return 0
        return number

    def conditions(self, where: str, value: Any, elements: dict[int, Element]) -> tuple[Condition, ...]:
        problems = self.problems
        if not isinstance(value, list):
            problems.say(where, "must be a list of tables like { element = 35, unless = [2] }")
            return ()
        conditions = []
        for place, entry in enumerate(value, 1):
            here = f"{where}.{place}"
            if not isinstance(entry, dict):
                problems.say(here, "must be a table like { element = 35, unless = [2] }")
                continue
            problems.unknown_keys(f"{here}.", entry, {"element", "when", "starts", "unless"})
            starts = entry.get("starts", [])
            if not isinstance(starts, list) or not all(isinstance(text, str) and text for text in starts):
                problems.say(f"{here}.starts", 'must be a list of beginnings of values: ["05", "07"]')
                starts = []
            if starts and "when" not in entry:
                problems.say(f"{here}.starts", "says nothing without the element that it looks at: when")
            conditions.append(
                Condition(
                    element=self.known(f"{here}.element", entry.get("element"), elements),
                    when=self.known(f"{here}.when", entry["when"], elements) if "when" in entry else None,
                    starts=tuple(starts),
                    unless=self.numbers(f"{here}.unless", entry.get("unless", []), elements),
                )
            )
        return tuple(conditions)
