"""The recording of a console as a picture for the documentation: a recording console in, an SVG file out.

`console.demo` calls it for docs/demo.svg. The picture needs nothing from anywhere: rich's web fonts are taken out, so
that it is shown in the reader's own monospaced font, and letters are stretched to their cells.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

_WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_COMMENT = re.compile(r"\s*<!--.*?-->", re.DOTALL)


def write_svg(console: Console, file: Path, title: str) -> None:
    """Write what `console` has recorded, and forget it."""
    picture = console.export_svg(title=title, unique_id="demo")
    picture = _COMMENT.sub("", _WEB_FONT.sub("", picture))
    picture = picture.replace("<text ", '<text xml:space="preserve" ')  # or some programs drop leading blanks
    file.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", "utf-8")
