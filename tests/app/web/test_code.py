"""The code of the page: small modules, a small weight, and no address of another host."""

import gzip
import re
from pathlib import Path

import pytest

from app.api.page import WEB, imported_modules

MODULES = sorted((WEB / "js").rglob("*.js"))
MOST_LINES = 250
MOST_BYTES = 60_000
"""Bytes of HTML, CSS and JavaScript, each file compressed by gzip, that the first screen loads."""


def _name(path: Path) -> str:
    return path.relative_to(WEB).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_its_first_line_says_what_it_is(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) < MOST_LINES
    assert re.match(r"// \"?[A-Z].+", lines[0]), lines[0]


def test_the_first_screen_is_light() -> None:
    page = WEB / "css" / "page.css"
    styles = [page, *(page.parent / name for name in re.findall(r'@import url\("(.+)"\)', page.read_text("utf-8")))]
    files = [WEB / "index.html", *styles, *imported_modules(WEB / "js" / "main.js")]
    weight = {_name(path): len(gzip.compress(path.read_bytes(), 9)) for path in files}
    assert {"vendor/htm-preact.js", "css/explore.css"} <= set(weight)
    assert "js/explore/view.js" in weight
    assert sum(weight.values()) <= MOST_BYTES, sorted(weight.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("path", [*MODULES, *(WEB / "css").glob("*.css"), WEB / "index.html"], ids=_name)
def test_no_file_names_another_host(path: Path) -> None:
    found = re.findall(r"https?://[\w.-]+", path.read_text("utf-8"))
    assert set(found) <= {"http://www.w3.org"}, found
