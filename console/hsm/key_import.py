"""`cardswitch hsm key import`: a key block or components in, a command for the HSM out.

The source of the command line goes in as `Source`; the imported key comes out. Called by
`console.hsm.commands`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from console.config import Config
from console.errors import ConsoleError, UsageError
from console.hsm.ceremony import ask_components, key_check_value, read_components
from console.hsm.officer import Officer, expect, open_officer

_LARGEST_FILE = 16_384


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Source of a key: a block (text, file or standard input) `under` a key, or components (prompted or in files)."""

    block: str = ""
    block_file: Path | None = None
    under: str = ""
    components: int = 0
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return "Source(…)"


def import_key(
    config: Config, source: Source, common: dict[str, Any], *, algorithm: str, kcv: str, pending: bool
) -> tuple[Any, ...]:
    """Import and return the key, as a tuple of one `hsm.key_commands.KeyInfo`.

    Args:
        common: name, role, party and adjust_parity.
        algorithm: one of the role's, or empty; of components only: a block says it itself.
        kcv: the expected check value, or empty.
        pending: only after `hsm key activate` in force; of blocks only.
    Raises:
        UsageError: the sources contradict each other, or what they hold is no key.
        ConsoleError: the HSM refused, or the check value is another.
    """
    from hsm.key_commands import ImportBlock, KeyList

    given = [source.block, source.block_file, source.components, source.files]
    if sum(bool(one) for one in given) != 1:
        raise UsageError("name one source of the key", "--block, --block-file, --components or --component-file")
    if source.block or source.block_file:
        if not source.under:
            raise UsageError("a key block is under a key", "name the zone master key with --under")
        if algorithm:
            raise UsageError("a key block says itself of which algorithm its key is", "leave --algorithm out")
        # With an expected check value the key waits until it has been seen.
        request: Any = ImportBlock(**common, block=_block(source), under=source.under, pending=pending or bool(kcv))
    else:
        if source.under or pending:
            raise UsageError("--under and --pending go with a key block")
        request = _components(source, common, algorithm, kcv)
    with open_officer(config) as officer:
        keys = expect(KeyList, officer.ask(request)).keys
        if kcv and isinstance(request, ImportBlock):
            keys = _checked(officer, keys, kcv, pending=pending)
    return keys


def import_proposal(
    source: Source, common: dict[str, Any], *, algorithm: str, kcv: str, pending: bool
) -> tuple[Any, bytes]:
    """Return the request that an officer proposes, and his own component of an import of components.

    Args:
        common, algorithm, kcv, pending: as in `import_key`.
    Raises:
        UsageError: the sources contradict each other.
    """
    from console.hsm.approvals import own_component
    from console.hsm.signing import algorithm_of
    from hsm.key_commands import ImportBlock, ImportComponents

    if source.block or source.block_file:
        if not source.under or source.components or source.files or algorithm:
            raise UsageError("a key block is under a key, and says itself what it holds", "--block-file with --under")
        return ImportBlock(**common, block=_block(source), under=source.under, pending=pending, kcv=kcv), b""
    if source.components not in (2, 3) or len(source.files) > 1:
        raise UsageError(
            "an officer enters one of 2 or 3 components", "--components 2, and one --component-file at most"
        )
    if source.under or pending:
        raise UsageError("--under and --pending go with a key block")
    request = ImportComponents(**common, algorithm=algorithm, count=source.components, kcv=kcv.upper())
    return request, own_component(source.files[0] if source.files else None, algorithm_of(request))


def _components(source: Source, common: dict[str, Any], algorithm: str, kcv: str) -> Any:
    from hsm.key_commands import ImportComponents
    from hsm.keys.attributes import ROLES

    role = ROLES.get(common["role"])
    if role is None:
        raise UsageError(f"there is no role {common['role']!r}", f"use one of: {', '.join(ROLES)}")
    if algorithm and algorithm not in role.algorithms:
        raise UsageError(
            f"role {common['role']} has no algorithm {algorithm!r}", f"use one of: {', '.join(role.algorithms)}"
        )
    attributes = role.algorithms[algorithm] if algorithm else next(iter(role.algorithms.values()))
    if source.components:
        if source.components not in (2, 3):
            raise UsageError("a key has 2 or 3 components", "--components 2")
        parts = ask_components(source.components, attributes.algorithm)
    else:
        parts = read_components(list(source.files))
    made = key_check_value(parts, attributes.algorithm, adjust_parity=common["adjust_parity"])
    if kcv and kcv.upper() != made:
        raise ConsoleError(
            f"the components make a key with check value {made}, not {kcv.upper()}", "nothing was imported"
        )
    return ImportComponents(**common, components=parts, algorithm=algorithm)


def _checked(officer: Officer, keys: tuple[Any, ...], kcv: str, *, pending: bool) -> tuple[Any, ...]:
    """Put an imported key in force if it has the check value that was expected, else leave it pending."""
    from hsm.key_commands import ActivateKey, KeyList

    (key,) = keys
    if key.kcv != kcv.upper():
        raise ConsoleError(
            f"the key in the block has check value {key.kcv}, not {kcv.upper()}",
            f"it is not in force; cardswitch hsm key retire {key.name} --version {key.version}",
        )
    if pending or key.status == "active":
        return keys
    return expect(KeyList, officer.ask(ActivateKey(name=key.name, version=key.version))).keys


def _block(source: Source) -> str:
    if source.block:
        return source.block.strip()
    assert source.block_file is not None, "import_key looked"
    try:
        if str(source.block_file) == "-":
            text = sys.stdin.read(_LARGEST_FILE + 1)
        else:
            with source.block_file.open(encoding="ascii") as file:
                text = file.read(_LARGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source.block_file}: {getattr(error, 'strerror', None) or 'not a key block'}") from None
    if len(text) > _LARGEST_FILE:
        raise UsageError(f"{source.block_file}: longer than a key block")
    return text.strip()
