"""The web page's frame: its policy, its files and their addresses."""

import hashlib
import re
from collections.abc import Iterator

import pytest
from api_support import Service, service

from app.api.page import WEB


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("page"), redis_process) as running:
        yield running


def _files(api: Service) -> list[str]:
    return re.findall(r"(?:src|href)=\"(assets/[^\"]+)\"", api.client.get("/").text)


def test_the_page_is_asked_for_anew_and_its_files_are_kept_for_ever(api: Service) -> None:
    page = api.client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert "script-src 'self' 'wasm-unsafe-eval';" in page.headers["content-security-policy"]
    assert len(_files(api)) >= 3
    for file in _files(api):
        answer = api.client.get(f"/{file}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [("gzip, deflate, br", "gzip"), ("br", None), ("", None), ("gzip;q=0", None), ("br, gzip;q=0.5", "gzip")],
)
def test_files_are_compressed_for_those_who_accept_it(api: Service, accepts: str, encoding: str | None) -> None:
    file = next(file for file in _files(api) if file.endswith("page.css"))
    answer = api.client.get(f"/{file}", headers={"Accept-Encoding": accepts})
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.content == (WEB / "css" / "page.css").read_bytes()
    page = api.client.get("/", headers={"Accept-Encoding": accepts})
    assert page.headers.get("content-encoding") == encoding
    assert page.text.startswith("<!DOCTYPE html>")


def test_the_page_names_all_modules_of_the_first_screen_at_once(api: Service) -> None:
    modules = re.findall(r'rel="modulepreload" href="assets/[^/]+/([^"]+)"', api.client.get("/").text)
    assert len(modules) == len(set(modules))
    assert {"js/main.js", "js/explore/view.js", "js/decoder/weights.js", "vendor/htm-preact.js"} <= set(modules)
    assert "js/train/view.js" not in modules


def test_the_page_and_the_api_description_link_to_each_other(api: Service) -> None:
    assert 'href="docs"' in api.client.get("/").text
    assert 'href="/"' in api.client.get("/docs").text


@pytest.mark.parametrize("path", ["..%2fmain.py", "%2e%2e/main.py", "js/missing.js", "js", ""])
def test_an_address_outside_the_page_is_not_found(api: Service, path: str) -> None:
    digest = _files(api)[0].split("/")[1]
    assert api.client.get(f"/assets/{digest}/{path}").status_code == 404
    assert api.client.get("/assets/0123456789abcdef/js/main.js").status_code == 404


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = dict(line.split("  ")[::-1] for line in (WEB / "vendor" / "SHA256SUMS").read_text().splitlines())
    own = {"SHA256SUMS", "htm-preact.d.ts"}
    found = {path.name for path in (WEB / "vendor").iterdir()} - own
    assert set(manifest) == found
    for name, digest in manifest.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest
