"""`cardswitch vault import`: a file of cards in, a token for each out; an interrupted import continues where it
stopped.

After each batch the output is on the disk, then the mark beside it (`FILE.resume`) says how far it is. A batch that was
done and not yet marked is done again, which gives the same tokens.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from console.config import Config
from console.errors import ConsoleError, UsageError
from console.hsm.officer import Officer, expect, running_officer
from console.vault.card_file import BadLine, CardFile, CardLine

BATCH = 500
COLUMNS = ("token", "last4", "brand", "fingerprint", "line")
_REFUSALS = {"pan_invalid": "pan is not a card number", "malformed": "the expiry is not a date"}


class Mark(msgspec.Struct, kw_only=True):
    """Progress of an import: lines of the source, bytes of the output; `size` and `changed` identify the source."""

    size: int = 0
    changed: int = 0
    line: int = 0
    output_bytes: int = 0
    imported: int = 0
    bad: int = 0


def run_import(config: Config, source: str, output: Path, max_bad: int, as_json: bool) -> int:
    """Import and report. Returns the exit status: 1 where lines were bad.

    Raises:
        ConsoleError, UsageError: files that cannot be used, an HSM that is away, more than `max_bad` bad lines.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from hsm.process import forbid_dumps

    forbid_dumps()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[cards]} cards"),
        TimeRemainingColumn(),
    )
    errors = Console(file=sys.stderr, highlight=False, markup=False)
    with (
        running_officer(config) as officer,
        _opened(source) as stream,
        Import(officer, output, _size_and_time(stream)) as work,
    ):
        if work.mark.line:
            errors.print(f"going on after line {work.mark.line}")
        with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
            task = progress.add_task("import", total=work.mark.size or None, cards=work.mark.imported)
            try:
                for end in work.run(stream, lambda bad: errors.print(f"line {bad.number}: {bad.reason}")):
                    progress.update(task, completed=end, cards=work.mark.imported)
                    if work.mark.bad > max_bad:
                        break
            except ConsoleError as error:
                again = f"run the same command again to go on after line {work.mark.line}"
                raise ConsoleError(str(error), again) from None
        if work.mark.bad > max_bad:
            raise ConsoleError(f"more than {max_bad} lines are no cards", "look at the file, or raise --max-bad")
        work.finish()
    if as_json:
        print(
            msgspec.json.encode({"imported": work.mark.imported, "bad": work.mark.bad, "output": str(output)}).decode()
        )
    else:
        print(f"cards imported: {work.mark.imported}, lines that are no card: {work.mark.bad}; tokens are in {output}")
    return 1 if work.mark.bad else 0


class Import:
    """One import: its output, open for as long as the block runs, and its mark beside it.

    Args:
        officer: asked to import batches.
        output: does not exist yet, unless an import of the same source was interrupted.
        source: size and time of change of the source; both 0 where it has none.
    Raises:
        UsageError: the output exists, or belongs to an import of another source.
    """

    def __init__(self, officer: Officer, output: Path, source: tuple[int, int]) -> None:
        self._officer = officer
        self._marked = output.with_name(output.name + ".resume")
        self.mark = Mark(size=source[0], changed=source[1])
        if self._marked.exists():
            self.mark = self._read_mark(source)
        elif output.exists():
            raise UsageError(f"{output} exists", "choose another --output")
        try:
            # Tokens are no card numbers; the owner still decides who may see them.
            descriptor = os.open(output, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"{output}: {error.strerror}", "choose another --output") from None
        self._output = os.fdopen(descriptor, "r+b")
        if os.fstat(descriptor).st_size < self.mark.output_bytes:
            self._output.close()
            raise UsageError(f"{output} is shorter than when its import stopped", f"remove it and {self._marked}")
        self._output.truncate(self.mark.output_bytes)
        self._output.seek(self.mark.output_bytes)

    def __enter__(self) -> Import:
        return self

    def __exit__(self, *_: object) -> None:
        self._output.close()

    def run(self, stream: BinaryIO, report: Callable[[BadLine], None]) -> Iterator[int]:
        """Import batch by batch; yields the number of source bytes that are done, and passes bad lines to `report`."""
        if not self.mark.output_bytes:
            self._output.write(_csv([COLUMNS]))
            self.mark.output_bytes = self._output.tell()
            self._write_mark()
        lines = CardFile(stream).lines(after=self.mark.line)
        while batch := list(islice(lines, BATCH)):
            cards = [line for line in batch if isinstance(line, CardLine)]
            bad = [line for line in batch if isinstance(line, BadLine)]
            rows, refused = self._imported(cards)
            self._output.write(_csv(rows))
            self._output.flush()
            os.fsync(self._output.fileno())
            for line in sorted([*bad, *refused], key=lambda line: line.number):
                report(line)
            self.mark.imported += len(rows)
            self.mark.bad += len(bad) + len(refused)
            self.mark.line = batch[-1].number
            self.mark.output_bytes = self._output.tell()
            self._write_mark()
            yield batch[-1].end

    def finish(self) -> None:
        """Take the mark away: there is nothing to go on with any more."""
        self._marked.unlink(missing_ok=True)

    def _imported(self, cards: list[CardLine]) -> tuple[list[tuple[Any, ...]], list[BadLine]]:
        from hsm.vault_commands import CardNumber, ImportCards, ImportedCards
        from messages.card import brand

        rows: list[tuple[Any, ...]] = []
        refused: list[BadLine] = []
        for domain in sorted({card.domain for card in cards}):
            of_domain = [card for card in cards if card.domain == domain]
            numbers = tuple(CardNumber(card.pan, card.expiry) for card in of_domain)
            answer = expect(ImportedCards, self._officer.ask(ImportCards(cards=numbers, domain=domain)))
            for card, found in zip(of_domain, answer.cards, strict=True):
                if found.refused:
                    reason = _REFUSALS.get(found.refused, found.refused)
                    refused.append(BadLine(card.number, card.end, reason))
                else:
                    rows.append((found.token, found.last4, brand(found.bin), found.fingerprint.hex(), card.number))
        return sorted(rows, key=lambda row: row[-1]), refused

    def _read_mark(self, source: tuple[int, int]) -> Mark:
        try:
            mark = msgspec.json.decode(self._marked.read_bytes(), type=Mark)
        except (OSError, msgspec.MsgspecError):
            raise UsageError(f"{self._marked} cannot be read", "remove it and the output to begin again") from None
        if (mark.size, mark.changed) != source:
            raise UsageError(
                f"{self._marked} is of another file, or the file has changed",
                "import the one from before, or remove it and the output to begin again: tokens stay the same",
            )
        return mark

    def _write_mark(self) -> None:
        fresh = self._marked.with_name(self._marked.name + ".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self.mark))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._marked)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as stream:
            yield stream
    except OSError as error:
        if error.filename != source:
            raise
        raise UsageError(f"{source}: {error.strerror}", "give a file of cards, or - for standard input") from None


def _size_and_time(stream: BinaryIO) -> tuple[int, int]:
    """Size and time of change of a file; zeros for a pipe."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        return 0, 0
    import stat

    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (0, 0)


def _csv(rows: list[tuple[Any, ...]] | list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
