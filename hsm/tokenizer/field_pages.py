"""The card-fields page and its loader: a request goes in, a static page with strict headers comes out.

`/fields` is what a merchant's page shows in a frame; `/fields.js` is the script that makes the frame. Both are files of
`hsm/tokenizer/fields/`, read once; nothing of a request is ever written into them. Called by `hsm.tokenizer.server`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from hsm.tokenizer.config import ORIGIN

# Parameters of the page's address besides `origin`: looks, each value checked against its pattern here and again by the
# page itself. An unknown name is an error.
_COLOUR = re.compile(r"[0-9a-f]{6}")
THEME = {
    "mode": re.compile(r"light|dark|auto"),
    "font": re.compile(r"system|serif|mono"),
    "size": re.compile(r"1[2-9]|2[0-4]"),
    "radius": re.compile(r"\d|1\d|2[0-4]"),
    "accent": _COLOUR,
    "text": _COLOUR,
    "background": _COLOUR,
    "border": _COLOUR,
    "error": _COLOUR,
}


class FieldPages:
    """The handlers.

    Args:
        origins: pages that may show the fields in a frame; "*" for any.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        folder = files("hsm.tokenizer") / "fields"
        script, style = ((folder / name).read_text("utf-8") for name in ("card.js", "card.css"))
        page = (folder / "card.html").read_text("utf-8")
        # Inline and by hash: the page loads nothing, and nothing but these two texts runs or styles.
        self._page = page.replace("{{style}}", style).replace("{{script}}", script).encode()
        self._loader = (folder / "loader.js").read_bytes()
        self._policy = _content_security_policy(script, style, self._origins)

    async def page(self, request: Request) -> Response:
        problem = self._problem(request)
        if problem:
            return PlainTextResponse(f"{problem}\n", 400, headers={"Cache-Control": "no-store"})
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return _static(request, self._page, "text/html", headers)

    async def loader(self, request: Request) -> Response:
        # Readable for all, because a browser checks the integrity only of what it may read.
        headers = {
            "Access-Control-Allow-Origin": "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Cache-Control": "public, max-age=300",
        }
        return _static(request, self._loader, "text/javascript", headers)

    def _problem(self, request: Request) -> str:
        """The fault of the page's address, "" for none; values are not repeated."""
        given = request.query_params
        if len(given.multi_items()) != len(given):
            return "A parameter is there twice."
        origin = given.get("origin", "")
        if not ORIGIN.fullmatch(origin):
            return "Parameter origin: expected the origin of the page that shows the fields."
        if "*" not in self._origins and origin not in self._origins:
            return "Parameter origin: not one of [tokenizer] origins."
        for name, value in given.items():
            if name != "origin" and name not in THEME:
                return f"Unknown parameter. Known are origin, {', '.join(THEME)}."
            if name in THEME and not THEME[name].fullmatch(value):
                return f"Parameter {name}: not a value that it can have."
        return ""


def loader_integrity() -> str:
    """The `integrity` of /fields.js as it is shipped: sha384-…, for the merchant's script element."""
    digest = hashlib.sha384((files("hsm.tokenizer") / "fields" / "loader.js").read_bytes()).digest()
    return f"sha384-{base64.b64encode(digest).decode()}"


def _content_security_policy(script: str, style: str, origins: frozenset[str]) -> str:
    """Source: W3C Content Security Policy Level 3."""
    ancestors = "*" if "*" in origins else " ".join(sorted(origins))
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_source_hash(script)}'",
            f"style-src '{_source_hash(style)}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
            f"frame-ancestors {ancestors}",
        )
    )


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _static(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, **headers}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
