"""A service under a path of a proxy: every address in its answers leads back through the proxy."""

import re
from pathlib import Path

import httpx
import pytest
from api_support import http_server

from app.authorization import path_within, scope_of
from worker.stores.settings import Settings


@pytest.fixture
def url(tmp_path: Path, redis_server: str) -> object:
    """The address of a service with the root path /lab/vae."""
    with http_server(Settings(home=tmp_path, redis_url=redis_server, root_path="/lab/vae")) as running:
        yield running


@pytest.mark.parametrize("prefix", ["", "/lab/vae"], ids=["taken off", "left on"])
def test_addresses_begin_with_the_path(url: str, prefix: str) -> None:
    with httpx.Client(base_url=url + prefix) as proxy:
        model = proxy.get("/models/chairs").json()
        assert model["links"]["self"] == "/lab/vae/models/chairs"
        docs = proxy.get("/docs").text
        assert all(found.startswith("/lab/vae/") for found in re.findall(r'(?:src|href)="(/[^"]*)"', docs))
        page = proxy.get("/").text
        files = re.findall(r'(?:src|href)="(assets/[^"]+)"', page)
        assert files
        for file in files:
            assert proxy.get(f"/{file}").status_code == 200
        description = proxy.get("/openapi.json").json()
        assert description["servers"] == [{"url": "/lab/vae"}]
        assert "/models" in description["paths"]
        assert proxy.get("/nothing").json()["code"] == "not_found"


def test_the_cookie_of_a_session_is_for_the_path(url: str) -> None:
    assert "Path=/lab/vae" in httpx.delete(f"{url}/session").headers["set-cookie"]


@pytest.mark.parametrize(
    ("path", "root", "within"),
    [
        ("/datasets/x", "/data", "/datasets/x"),
        ("/data/datasets/x", "/data", "/datasets/x"),
        ("/data", "/data", "/"),
        ("/models/x", "/m", "/models/x"),
        ("/models/x", "", "/models/x"),
    ],
)
def test_the_path_that_needs_a_scope_is_that_of_the_route(path: str, root: str, within: str) -> None:
    """A prefix ends where a segment does: /datasets/x is not /data and then tsets/x, which would need less."""
    assert path_within({"path": path, "root_path": root}) == within
    assert scope_of("DELETE", path_within({"path": f"{root}/datasets/x", "root_path": root})) == "admin"


@pytest.mark.parametrize("path", ["vae", "/", "/vae/", "/v ae", "//evil.example"])
def test_another_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        Settings(root_path=path)
