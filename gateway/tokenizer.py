"""The tokenizer as the gateway sees it: the id of a token or payment method in, a surrogate and a receipt's data out.

The surrogate replaces the card in DE 2; the card itself stays on the tokenizer's side. Called by `gateway.payments`.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import msgspec

from gateway.errors import ConfigurationError, TokenizerUnavailable, invalid, missing

_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 32
# Shorter than `[tokenizer.http] idle_timeout_s`, so that no request meets a connection that is being closed.
_IDLE_S = 3.0


class Card(msgspec.Struct, frozen=True):
    """The tokenizer's description of a card; the last four digits are the only card data in it."""

    surrogate: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    fingerprint: str = ""
    country: str | None = None
    funding: str = "unknown"

    def shown(self) -> dict[str, Any]:
        """The `card` member of Stripe's objects."""
        fields = msgspec.to_builtins(self)
        del fields["surrogate"]
        return dict(fields)


class Tokenizer:
    """Client of the tokenizer's internal endpoint.

    Args:
        url: the base address that merchants are shown.
        secret: the bearer secret that both processes read from the state directory.
        internal_url: the base address to call; empty: `url`.
        ca_file: PEM with the authorities that may vouch for it over https; empty: the system's.

    Raises: ConfigurationError where `ca_file` cannot be used.
    """

    def __init__(self, url: str, secret: str, internal_url: str = "", ca_file: str = "") -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=(internal_url or url).rstrip("/"),
            headers={"Authorization": f"Bearer {secret}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
            verify=trust_of(ca_file),
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=_IDLE_S),
        )

    async def resolve(self, reference: str, account_id: str, used_by: str, trace_id: str) -> Card:
        """The card behind `tok_…`, `pm_…` or a test name such as `pm_card_visa`; a `tok_…` is used up.

        Args:
            account_id: whose token it has to be; another account's is unknown.
            used_by: the same for a request and its repeats, who may have it again.

        Raises: ApiError 404 for an unknown one, 400 for one that is used up; TokenizerUnavailable.
        """
        try:
            response = await self._client.post(
                "/internal/resolve",
                json={"id": reference, "domain": account_id, "used_by": used_by},
                headers={"X-Trace-Id": trace_id},
            )
        except httpx.HTTPError as error:
            raise TokenizerUnavailable(type(error).__name__) from None
        if response.status_code == 400 and _code(response) == "token_already_used":
            raise invalid("You cannot use a token more than once", "payment_method", "token_already_used")
        if response.status_code in (400, 404):
            raise missing("token" if reference.startswith("tok_") else "PaymentMethod", "payment_method")
        if response.status_code != 200:
            raise TokenizerUnavailable(f"status {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=Card)
        except msgspec.MsgspecError:
            raise TokenizerUnavailable("an answer that cannot be read") from None

    async def alive(self) -> bool:
        try:
            return (await self._client.get("/readyz", timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        await self._client.aclose()


def trust_of(ca_file: str) -> ssl.SSLContext:
    """The authorities in a file, "": those of the system. Raises ConfigurationError where it cannot be used."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror if error.errno and error.filename is None else type(error).__name__
        raise ConfigurationError(f"gateway.tokenizer_ca: {ca_file} cannot be used: {reason}") from None


def _code(response: httpx.Response) -> str:
    """The code in an error in Stripe's shape, "" where there is none."""
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) else ""
