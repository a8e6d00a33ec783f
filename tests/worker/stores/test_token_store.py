"""Tokens: what is kept, who is found, and when a service may be open."""

from pathlib import Path

import pytest

from models.config import ConfigError
from worker.stores.settings import Settings, SettingsError
from worker.stores.storage import LocalStorage
from worker.stores.tokens import FRESH_SECONDS, SCOPES, TokenStore, check_exposure


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_a_digest_is_kept(storage: LocalStorage, tmp_path: Path) -> None:
    token, secret = TokenStore(storage).add("alice", "train")
    assert TokenStore(storage).find(secret) == token
    written = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert written and not any(secret.rsplit("_", 1)[-1] in text for text in written)


@pytest.mark.parametrize("change", [lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"), lambda s: "", lambda s: s + "A",
                                    lambda s: "bv_../../x_" + s[12:], lambda s: s.upper()])  # fmt: skip
def test_another_secret_is_not_found(storage: LocalStorage, change) -> None:  # type: ignore[no-untyped-def]
    tokens = TokenStore(storage)
    _, secret = tokens.add("alice", "train")
    assert tokens.find(change(secret)) is None


def test_scopes_include_those_before_them(storage: LocalStorage) -> None:
    tokens = TokenStore(storage)
    for place, scope in enumerate(SCOPES):
        token, _ = tokens.add(scope, scope)
        assert [token.allows(other) for other in SCOPES] == [k <= place for k in range(len(SCOPES))]


def test_a_revoked_token_is_refused_soon(storage: LocalStorage) -> None:
    clock = Clock()
    tokens = TokenStore(storage, clock)
    token, secret = tokens.add("alice", "read")
    assert tokens.exist()
    assert tokens.find(secret) == token
    TokenStore(storage).revoke("alice")
    clock.now = FRESH_SECONDS
    assert tokens.find(secret) is None
    assert not tokens.exist()


def test_names_are_checked(storage: LocalStorage) -> None:
    tokens = TokenStore(storage)
    tokens.add("alice", "read")
    for name, scope, field in (("alice", "read", "name"), ("", "read", "name"), ("bob", "root", "scope")):
        with pytest.raises(ConfigError) as refused:
            tokens.add(name, scope)
        assert refused.value.field == field
    with pytest.raises(ConfigError, match="no token"):
        tokens.revoke("bob")


@pytest.mark.parametrize(
    ("given", "opens"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "192.168.1.5"}, False),
        ({"host": "gpu-box"}, False),
        ({"host": "0.0.0.0", "open_to_network": True}, True),
        ({"host": "0.0.0.0", "published_host": "127.0.0.1"}, True),
        ({"host": "127.0.0.1", "published_host": "lab.example"}, False),
    ],
)
def test_a_service_without_tokens_serves_this_machine(
    storage: LocalStorage, given: dict[str, object], opens: bool
) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    if opens:
        check_exposure(settings, TokenStore(storage))
    else:
        with pytest.raises(SettingsError, match="tokens add"):
            check_exposure(settings, TokenStore(storage))
    tokens = TokenStore(storage)
    tokens.add("alice", "admin")
    check_exposure(settings, tokens)
