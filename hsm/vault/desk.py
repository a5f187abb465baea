"""The vault's commands and who does them: a table of handlers for `hsm.service`.

A request goes in, its answer comes out, or HsmRefused, VaultError or TokenError is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hsm.engine import Engine
from hsm.key_commands import Rewrap
from hsm.vault.vault import Vault
from hsm.vault_commands import (
    ChangeNetworkToken,
    DeleteCard,
    Detokenize,
    GenerateTokenCryptogram,
    ImportCards,
    ProveDeletion,
    ProvisionNetworkToken,
    ReadNetworkToken,
    ResolveToken,
    Tokenize,
)

Handler = Callable[[Any], Coroutine[Any, Any, Any]]


def vault_handlers(vault: Vault, engine: Callable[[], Engine], seal: Callable[[bytes], bytes]) -> dict[type, Handler]:
    """Return a handler for each of the vault's commands, `Rewrap` among them.

    Args:
        vault: over an open database.
        engine: returns the engine over the token that is open now.
        seal: HMAC-SHA-256 by a key of the token, 32 bytes for any bytes; for proofs of deletion.
    """

    async def later(request: Any) -> Any:
        raise NotImplementedError(type(request).__name__)

    return {
        kind: later
        for kind in (
            Tokenize,
            ResolveToken,
            Detokenize,
            ImportCards,
            DeleteCard,
            ProveDeletion,
            ProvisionNetworkToken,
            ReadNetworkToken,
            ChangeNetworkToken,
            GenerateTokenCryptogram,
            Rewrap,
        )
    }
