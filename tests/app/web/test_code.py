"""The code of the page: small modules, a small weight, and no address of another host."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.api.page import WEB, imported_modules, install

MODULES = sorted((WEB / "js").rglob("*.js"))
MOST_LINES = 250
MOST_BYTES = 60_000
"""Bytes of HTML, CSS and JavaScript, each file compressed by gzip, that the first screen and its cards load."""


def _name(path: Path) -> str:
    return path.relative_to(WEB).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_its_first_line_says_what_it_is(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) < MOST_LINES
    assert re.match(r"// \"?[A-Z].+", lines[0]), lines[0]


LATER = {"explore/more.js", "decoder/filmstrips_worker.js"}
"""Modules that the first screen loads once it shows its picture."""
ELSEWHERE = {"train/view.js", "models/view.js", "token_dialog.js", "decoder/twin.js"}
"""Modules that only other views, services with tokens, and browsers without WebAssembly SIMD load."""


def _loaded_later(modules: list[Path]) -> set[str]:
    """Returns what modules load by calls, as names beneath js/."""
    pattern = r'(?:\bimport|new URL)\("([\w./]+\.js)"(?!\)\.(?!then\b))'  # What is left out are types.
    named = {path.parent / name for path in modules for name in re.findall(pattern, path.read_text("utf-8"))}
    return {path.resolve().relative_to(WEB / "js").as_posix() for path in named}


async def _sent_bytes(app: FastAPI, names: list[str]) -> dict[str, int]:
    """Returns the length of each file as a browser gets it, compressed by gzip."""
    weight = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
        for name in names:
            answer = await client.get(f"/{name}", headers={"Accept-Encoding": "gzip"})
            assert answer.headers["content-encoding"] == "gzip"
            weight[name] = int(answer.headers["content-length"])
    return weight


def test_the_first_screen_is_light() -> None:
    """The page weighs at most MOST_BYTES as it is sent, with the cards beneath the first screen."""
    app = FastAPI()
    install(app)
    page = WEB / "css" / "page.css"
    styles = [page, *(page.parent / name for name in re.findall(r'@import url\("(.+)"\)', page.read_text("utf-8")))]
    starts = ["main.js", *LATER]
    modules = list(dict.fromkeys(path for name in starts for path in imported_modules(WEB / "js" / name)))
    assert _loaded_later(modules) == LATER | ELSEWHERE
    files = {_name(path) for path in (*styles, *modules)}
    assert {"vendor/htm-preact.js", "css/explore.css", "js/explore/view.js", "js/explore/pad.js"} <= files
    names = ["", *(f"assets/{app.state.assets_digest}/{name}" for name in files)]
    weight = asyncio.run(_sent_bytes(app, names))
    assert sum(weight.values()) <= MOST_BYTES, sorted(weight.items(), key=lambda item: -item[1])


def _selectors(sheet: str) -> list[str]:
    text = re.sub(r"/\*.*?\*/|@[^{;]*[{;]", "", (WEB / "css" / f"{sheet}.css").read_text("utf-8"), flags=re.DOTALL)
    return [one.strip() for rule in re.findall(r"([^{}]+)\{", text) for one in rule.split(",")]


@pytest.mark.parametrize(("view", "other"), [("train", "models"), ("models", "train")])
def test_the_styles_of_a_view_change_no_other(view: str, other: str) -> None:
    """A view looks the same whether it was opened at once or after the other one, whose styles then stay loaded."""
    own, elsewhere = _selectors(view), {*_selectors(other), *_selectors("page"), *_selectors("explore")}
    assert ".model-card" in own or ".job-list li" in own
    assert [one for one in own if "." not in one and "#" not in one and one not in ("from", "to")] == []
    modules = "\n".join(path.read_text("utf-8") for path in (WEB / "js" / other).glob("*.js"))
    used = {name for text in re.findall(r'class="([^"]*)"', modules) for name in re.findall(r"[\w-]+", text)}
    alone = {one[1:] for one in own if re.fullmatch(r"\.[\w-]+", one) and one not in elsewhere}
    assert used & alone == set()


@pytest.mark.parametrize("path", [*MODULES, *(WEB / "css").glob("*.css"), WEB / "index.html"], ids=_name)
def test_no_file_names_another_host(path: Path) -> None:
    found = re.findall(r"https?://[\w.-]+", path.read_text("utf-8"))
    assert set(found) <= {"http://www.w3.org"}, found
