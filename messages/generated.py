"""Text of a Python function → the function, with its source kept for tracebacks; called by the two writers.

The source lives in a loader inside the function's globals: `linecache` finds it there when a traceback is
shown, and it goes when the function goes. (Entries put into `linecache.cache` itself would stay for ever.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Source:
    """Answers `linecache` as the loader of a module would."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, name: str) -> str:
        return self.text


def build(name: str, where: str, lines: list[str], names: dict[str, Any]) -> Callable[..., Any]:
    """Executes the source of one function.

    Args:
        name: of the function.
        where: shown as the file name in tracebacks.
        lines: of its source.
        names: globals that the source mentions.
    """
    text = "\n".join(lines) + "\n"
    scope: dict[str, Any] = {**names, "__name__": f"generated.{name}", "__loader__": Source(text)}
    exec(compile(text, where, "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function
