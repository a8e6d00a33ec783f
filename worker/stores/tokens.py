"""API tokens, of which the storage keeps only hashes. This module loads no torch."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from models.config import ConfigError
from models.info import validate_name
from worker.stores.settings import PREFIX, Settings, SettingsError
from worker.stores.storage import NotStored, Storage

Scope = Literal["read", "render", "train", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each scope includes those before it."""
FRESH_SECONDS = 2.0
"""Longest time until a revoked token is refused and a new one is accepted."""
SECRET = re.compile(r"bv_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
"""A token as its user keeps it: its id and what is secret."""
_FOLDER = "tokens"


@dataclass(frozen=True)
class Token:
    """A token without its secret."""

    id: str
    name: str
    scope: Scope
    sha256: str
    """Digest of the whole token. Tokens are 256 random bits, so a slow hash would add nothing."""
    created_at: str

    def allows(self, scope: Scope) -> bool:
        """Returns whether the token includes a scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class TokenStore:
    """The tokens of a storage. Looked-up tokens are kept for FRESH_SECONDS, since every request needs one."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self.storage = storage
        self._clock = clock
        self._known: dict[str, tuple[float, Token | None]] = {}
        self._any: tuple[float, bool] | None = None

    def add(self, name: str, scope: str) -> tuple[Token, str]:
        """Makes a token.

        Args:
            name: What the token is for.
            scope: One of SCOPES.

        Returns:
            The token, and its secret, which is not kept.

        Raises:
            ConfigError: The name or the scope is not allowed, or another token has the name.
        """
        name = validate_name(name)
        if scope not in SCOPES:
            raise ConfigError("scope", f"must be one of {', '.join(SCOPES)}, not {scope!r}")
        if any(token.name == name for token in self.all()):
            raise ConfigError("name", f"{name!r} is taken by another token")
        token_id = secrets.token_hex(4)
        secret = f"bv_{token_id}_{secrets.token_urlsafe(32)}"
        token = Token(token_id, name, scope, _digest(secret), datetime.now(UTC).isoformat(timespec="seconds"))
        self.storage.write_json(_key(token_id), vars(token))
        return token, secret

    def all(self) -> list[Token]:
        """Returns all tokens, the oldest first."""
        found = [self._read(name.removesuffix(".json")) for name in self.storage.list(_FOLDER)]
        return sorted((token for token in found if token is not None), key=lambda token: token.created_at)

    def revoke(self, name: str) -> Token:
        """Removes a token.

        Args:
            name: Its name or its id.

        Raises:
            ConfigError: There is no such token.
        """
        for token in self.all():
            if name in (token.name, token.id):
                self.storage.delete(_key(token.id))
                return token
        raise ConfigError("token", f"there is no token {name[:100]!r}")

    def exist(self) -> bool:
        """Returns whether there is any token; without one the service asks for none."""
        now = self._clock()
        if self._any is None or now >= self._any[0]:
            self._any = (now + FRESH_SECONDS, bool(self.storage.list(_FOLDER)))
        return self._any[1]

    def find(self, secret: str) -> Token | None:
        """Returns the token that a request shows; None if it is none of ours."""
        match = SECRET.fullmatch(secret)
        if match is None:
            return None
        token = self._lookup(match[1])
        return token if token is not None and hmac.compare_digest(token.sha256, _digest(secret)) else None

    def _lookup(self, token_id: str) -> Token | None:
        now = self._clock()
        expires, token = self._known.get(token_id, (0.0, None))
        if now >= expires:
            # Guessed ids must not fill the memory.
            self._known = {known: entry for known, entry in self._known.items() if now < entry[0]}
            token = self._read(token_id)
            if token is not None:
                self._known[token_id] = (now + FRESH_SECONDS, token)
        return token

    def _read(self, token_id: str) -> Token | None:
        try:
            return Token(**self.storage.read_json(_key(token_id)))
        except (NotStored, ValueError, TypeError):
            return None


def check_exposure(settings: Settings, tokens: TokenStore) -> None:
    """Checks that a service which other machines reach has tokens, or is meant to be open.

    Raises:
        SettingsError: It would be open to everybody who reaches its port.
    """
    if settings.serves_other_machines and not settings.open_to_network and not tokens.exist():
        host = settings.published_host or settings.host
        raise SettingsError(
            f"Other machines would reach the service at {host}, and there are no tokens. Make one with `betavae tokens "
            f"add NAME --scope admin`, or set {PREFIX}OPEN_TO_NETWORK=true so that everybody may do everything."
        )


def _key(token_id: str) -> str:
    return f"{_FOLDER}/{token_id}.json"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
