"""Errors of the console for the user: every error has the fault and the remedy."""

from __future__ import annotations


class ConsoleError(Exception):
    """A known error, printed as one line and without a traceback; exit status 1.

    Args:
        what: the fault, without card data.
        fix: the remedy, imperative, or "" where there is none.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}; {fix}" if fix else what)
        self.what = what
        self.fix = fix


class UsageError(ConsoleError):
    """The command line or its input is wrong; exit status 2."""

    exit_code = 2


class ConfigError(ConsoleError):
    """The configuration is wrong: `problems` lists every error with its path in the file; exit status 2."""

    exit_code = 2

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        listed = "".join(f"\n  {problem}" for problem in problems)
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(f"{source}: {count}; correct the file{':' if problems else ''}{listed}")
        self.source = source
        self.problems = problems


class StartError(ConsoleError):
    """A process did not start or the system did not become ready."""
