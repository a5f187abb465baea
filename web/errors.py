"""Bodies that cannot be read: raised by `web.json_body` and `web.form_body`, answered with 400 by the fronts."""

from __future__ import annotations


class BodyError(Exception):
    """The body or query cannot be read.

    Args:
        message: for the merchant's developer; repeats nothing of the body.
        param: the bracketed name of the parameter, "" where none is to blame. It may itself hold anything.
    """

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
