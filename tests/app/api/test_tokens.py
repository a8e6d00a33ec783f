"""Requests with, without and with too weak a token, on the whole API."""

from collections.abc import Iterator

import httpx
import pytest
from api_support import Service, assert_problem, service

from app.authorization import COOKIE, scope_of
from worker.stores.storage import LocalStorage
from worker.stores.tokens import SCOPES, TokenStore


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process, whose storage gets a token of each scope."""
    with service(tmp_path_factory.mktemp("tokens"), redis_process) as running:
        yield running


@pytest.fixture(scope="module")
def secrets(api: Service) -> dict[str, str]:
    """One token of each scope."""
    tokens = TokenStore(LocalStorage(api.settings.home))
    return {scope: tokens.add(scope, scope)[1] for scope in SCOPES}


@pytest.fixture(scope="module")
def locked(api: Service, secrets: dict[str, str]) -> Service:
    """The service once it has noticed its tokens."""
    while api.client.get("/models").status_code != 401:
        pass
    return api


def _with(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


PUBLIC = ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/session", "/problems/token_required"]


@pytest.mark.parametrize("path", PUBLIC)
def test_the_page_the_docs_and_the_probes_need_no_token(locked: Service, path: str) -> None:
    assert locked.client.get(path, follow_redirects=True).status_code in (200, 503)


def test_every_other_operation_needs_a_token(locked: Service) -> None:
    schema = locked.client.get("/openapi.json").json()
    asked = 0
    for path, operations in schema["paths"].items():
        for method in operations:
            if scope_of(method.upper(), path) is None:
                continue
            answer = locked.client.request(method, path)
            assert_problem(answer, 401, "token_required")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            asked += 1
    assert asked > 40


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/models", "read"),
        ("HEAD", "/metrics", "read"),
        ("GET", "/train-jobs/j/events", "read"),
        ("POST", "/traversals", "render"),
        ("DELETE", "/traversals/x", "render"),
        ("POST", "/models/x/encode", "render"),
        ("POST", "/models/x/evaluations", "train"),
        ("POST", "/train-jobs", "train"),
        ("DELETE", "/train-jobs/j", "train"),
        ("POST", "/models", "train"),
        ("PATCH", "/models/x", "train"),
        ("POST", "/datasets", "train"),
        ("DELETE", "/models/x", "admin"),
        ("DELETE", "/datasets/x", "admin"),
        ("PUT", "/models/default", "admin"),
    ],
)
def test_each_operation_needs_its_scope(
    locked: Service, secrets: dict[str, str], method: str, path: str, scope: str
) -> None:
    for have in SCOPES:
        answer = locked.client.request(method, path, headers=_with(secrets[have]), json={})
        if SCOPES.index(have) < SCOPES.index(scope):
            assert answer.status_code == 403, (have, answer.text)
            if method != "HEAD":
                assert answer.json()["code"] == "scope_missing"
        else:
            assert answer.status_code not in (401, 403), (have, answer.text)


@pytest.mark.parametrize("header", ["Bearer", "Bearer bv_00000000_" + "A" * 43, "Basic YTpi", "Bearer é"])
def test_a_foreign_token_is_refused(locked: Service, header: str) -> None:
    answer = httpx.get(f"{locked.url}/models", headers=[(b"Authorization", header.encode())])
    assert_problem(answer, 401, "token_required")


def test_a_browser_keeps_its_token_in_a_cookie_that_scripts_cannot_read(
    locked: Service, secrets: dict[str, str]
) -> None:
    with httpx.Client(base_url=locked.url) as browser:
        assert browser.get("/session").json() == {"required": True, "name": None, "scope": None}
        assert_problem(browser.post("/session", headers=_with("nonsense")), 401, "token_required")
        assert_problem(browser.post("/session"), 401, "token_required")
        answer = browser.post("/session", headers=_with(secrets["render"]))
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=bv_")
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="))
        assert browser.get("/session").json() == {"required": True, "name": "render", "scope": "render"}
        assert browser.get("/models").status_code == 200
        assert_problem(browser.post("/train-jobs", json={}), 403, "scope_missing")
        browser.delete("/session")
        assert_problem(browser.get("/models"), 401, "token_required")


def test_a_foreign_page_cannot_use_the_cookie(locked: Service, secrets: dict[str, str]) -> None:
    headers = {"Cookie": f"{COOKIE}={secrets['admin']}", "Origin": "https://evil.example"}
    assert_problem(locked.client.post("/train-jobs", headers=headers, json={}), 403, "cross_site_refused")


def test_the_description_names_the_scheme_and_each_scope(locked: Service) -> None:
    schema = locked.client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert schema["paths"]["/train-jobs"]["post"]["security"] == [{}, {"token": ["train"]}]
    assert "security" not in schema["paths"]["/healthz"]["get"]
