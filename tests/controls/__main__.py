"""Takes out one control after the other and runs the tests that must notice: `python -m tests.controls [WORD …]`.

It works on a copy of the checkout. A control holds if its tests pass with it and each fails without it. The exit
status is 1 where one does not. Words select controls, by requirement (`3.4.1`), file or text. A control that needs the
token or a database takes up to a minute, the others some seconds; `make controls` runs all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.controls.table import ROOT, Control, controls

TIMEOUT_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.controls", description=__doc__)
    parser.add_argument("words", nargs="*", help="only controls whose requirement, file or text has one of these")
    words = parser.parse_args().words
    chosen = [
        control
        for control in controls()
        if not words or any(word in f"{control.requirement} {control.file} {control.says}" for word in words)
    ]
    with tempfile.TemporaryDirectory(prefix="cardswitch-controls-") as folder:
        copy = Path(folder)
        copy.chmod(0o755)  # PostgreSQL runs as another user
        _copy(copy)
        unnoticed = [control for control in chosen if not _stands(copy, control)]
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} controls are noticed when they are taken out")
    return 1 if unnoticed else 0


def _copy(copy: Path) -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _stands(copy: Path, control: Control) -> bool:
    file = copy / control.file
    whole = file.read_text()
    lines = [f"{control.requirement}: {control.says}"]
    for test in control.tests:
        if not _passes(copy, test):
            lines.append(f"    {test} fails with the control in place")
    file.write_text(whole.replace(control.remove, control.put))
    try:
        lines += [f"    {test} passes without it" for test in control.tests if _passes(copy, test)]
    finally:
        file.write_text(whole)
    print("\n".join([("✓ " if len(lines) == 1 else "✗ ") + lines[0], *lines[1:]]), flush=True)
    return len(lines) == 1


def _passes(copy: Path, test: str) -> bool:
    arguments = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(arguments, cwd=copy, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):  # nothing ran, or it could not be collected
        sys.exit(f"{test}: pytest ended with {done.returncode}\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
