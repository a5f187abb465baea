"""The demo's output: JSON calls, ISO 8583 exchanges side by side, journal entries, advices, as rich renderables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from console.codec_commands import elements_of
from console.journal_view import Entry, Line, StoredAdvice
from console.logging import masked_value
from messages.dictionary.iso1987 import ELEMENT_NAMES, RESPONSE_CODES
from messages.message import Message
from messages.money import Money
from messages.mti import describe_mti

_LONGEST_VALUE = 44


def json_call(method: str, url: str, body: dict[str, Any], status: int, answer: dict[str, Any]) -> RenderableType:
    """A call of the merchants' API: the request and the important members of the answer; card numbers masked."""
    style = "green" if status < 300 else "yellow"
    lines = [Text.assemble((f"{method} ", "bold"), url)]
    lines += [Text(f"  {name}={_shown(name, value)}", style="dim") for name, value in body.items()]
    lines.append(Text.assemble((str(status), f"bold {style}"), " ", msgspec.json.encode(masked_value(answer)).decode()))
    return Panel(Group(*lines), title="JSON", title_align="left", border_style="blue", expand=False)


def exchange(
    title: str, request: Message, answer: Message | None, note: str = "", from_journal: bool = False
) -> RenderableType:
    """A request and its answer side by side with the elements' names, masked; the journal's is already."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("DE", justify="right", style="cyan")
    table.add_column("name", style="dim")
    table.add_column(f"[bold]{request.mti}[/] {describe_mti(request.mti)}")
    table.add_column(f"[bold]{answer.mti}[/] {describe_mti(answer.mti)}" if answer else "[bold red]no answer[/]")
    asked = elements_of(request, unmasked=from_journal)
    told = elements_of(answer, unmasked=from_journal) if answer else {}
    for number in sorted(asked.keys() | told.keys()):
        said = told.get(number, "")
        if number == 39 and said:
            said = f"{said} {RESPONSE_CODES.get(said, '')}"
        if number in asked and said == asked[number]:
            said = "″"
        table.add_row(str(number), ELEMENT_NAMES.get(number, ""), _cut(asked.get(number, "")), _cut(said))
    parts: list[RenderableType] = [table] if not note else [table, Text(note, style="dim")]
    return Panel(
        Group(*parts), title=f"ISO 8583  {escape(title)}", title_align="left", border_style="cyan", expand=False
    )


def journal(entries: Sequence[Entry]) -> RenderableType:
    """The entries of a step: the decision, the booked lines, the stored advices."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("entry", "decision", "layer", "account"):
        table.add_column(title)
    table.add_column("debit", justify="right")
    table.add_column("credit", justify="right")
    for entry in entries:
        style = {"approved": "green", "declined": "yellow", "reversed": "red"}.get(entry.decision, "")
        first = (f"{entry.intent_id} {entry.kind}", f"[{style}]{entry.decision or 'open'}[/] {entry.response_code}")
        if not entry.lines:
            table.add_row(*first, "", f"[dim]nothing booked{f': {escape(entry.reason)}' if entry.reason else ''}[/]")
        for number, line in enumerate(entry.lines):
            table.add_row(*(first if number == 0 else ("", "")), line.layer, escape(line.account), *_sides(line))
        for advice in entry.advices:
            table.add_row("", "", "", f"[magenta]{_advice_text(advice)}[/]")
    return Panel(table, title="journal", title_align="left", border_style="green", expand=False)


def _advice_text(advice: StoredAdvice) -> str:
    ended = (
        f"acknowledged with {advice.response_code} after {advice.waited_s:.2f} s" if advice.response_code else "waiting"
    )
    return f"stored advice {advice.message.mti} to {escape(advice.link)}: {ended}"


def _sides(line: Line) -> tuple[str, str]:
    amount = Money(abs(line.amount_minor), line.currency).format()
    return (amount, "") if line.amount_minor > 0 else ("", amount)


def _shown(name: str, value: Any) -> str:
    if name in ("card[number]", "number"):
        return f"{str(value)[:6]}******{str(value)[-4:]}"
    if name in ("card[cvc]", "cvc"):
        return "***"
    return str(masked_value(value))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return escape(text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…")
