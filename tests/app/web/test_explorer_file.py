"""The page in one file opens from disk, with the network off, and shows one's own picture."""

import base64
import json
import re
from pathlib import Path

import httpx
import pytest
from api_support import Service
from page_support import DESK, PHONE, sideways_scroll, visit
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, expect

from app.explorer_file import explorer_file
from models.info import PRETRAINED, read_info

pytestmark = pytest.mark.browser


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A drawn chair of a sort."""
    image = Image.new("RGB", (120, 160), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 30, 80, 80), fill="firebrick")
    draw.rectangle((40, 80, 90, 95), fill="firebrick")
    image.save(tmp_path / "own.png")
    return tmp_path / "own.png"


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize("model", ["chairs", "dsprites"])
def test_the_file_works_from_disk_without_a_network(
    browser: Browser, model: str, size: tuple[int, int], picture: Path, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(explorer_file(read_info(PRETRAINED / model), PRETRAINED / model))
    tab = visit(browser, file.as_uri(), size=size, offline=True, reduced_motion="reduce")
    page = tab.page
    page.goto(tab.url)
    page.wait_for_selector('body[data-ready="true"]')
    before = page.locator("canvas#picture").evaluate("canvas => canvas.toDataURL()")
    slider = page.locator("input[type=range][data-latent]").first
    slider.focus()
    slider.press("End")
    page.wait_for_function("before => document.querySelector('canvas#picture').toDataURL() !== before", arg=before)
    page.set_input_files("#own-picture", picture)
    page.get_by_text("reconstruction", exact=True).wait_for()
    assert sideways_scroll(page) <= 0
    assert tab.axe_violations() == []
    assert tab.complaints == []
    assert [a for a in tab.requests if not a.startswith(("blob:", "data:")) and a != tab.url] == []
    page.context.close()


@pytest.mark.parametrize(("own", "unfamiliar"), [("docs/sample.png", False), ("docs/explore.png", True)])
def test_the_file_says_when_the_model_does_not_know_a_picture(
    own: str, unfamiliar: bool, tmp_path: Path, browser: Browser
) -> None:
    file = tmp_path / "page.html"
    file.write_bytes(explorer_file(read_info(PRETRAINED / "chairs"), PRETRAINED / "chairs"))
    page = visit(browser, file.as_uri(), offline=True, reduced_motion="reduce").page
    page.goto(file.as_uri())
    page.set_input_files("#own-picture", Path(__file__).parents[3] / own)
    page.get_by_text("reconstruction", exact=True).wait_for()
    expect(page.get_by_text("does not know pictures of this kind")).to_have_count(int(unfamiliar))
    page.context.close()


def test_the_service_and_the_command_line_give_the_same_file(site: Service, betavae: object, tmp_path: Path) -> None:
    answer = site.client.get("/models/chairs/explorer.html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "connect-src" not in answer.headers["content-security-policy"]
    assert betavae("models", "explorer", "chairs", tmp_path / "page.html") == 0  # type: ignore[operator]
    assert (tmp_path / "page.html").read_bytes() == answer.content
    assert len(answer.content) <= 1_700_000
    assert len(site.client.get("/models/chairs/explorer.html?encoder=false").content) <= 1_000_000
    assert site.client.get("/models/none/explorer.html").json()["code"] == "unknown_model"


def test_names_and_labels_of_a_model_cannot_end_the_script(tmp_path: Path) -> None:
    info = read_info(PRETRAINED / "dsprites")
    info.dimension_labels[0] = "</script><img src=x>"
    text = explorer_file(info, PRETRAINED / "dsprites").decode()
    described = re.search(r'<script type="application/json" id="model">(.*?)</script>', text, re.DOTALL)
    assert described is not None
    assert json.loads(described[1])["dimension_labels"][0] == "</script><img src=x>"
    kernel = re.search(r'<script type="application/wasm" id="kernel">(.*?)</script>', text)
    assert kernel is not None
    assert base64.b64decode(kernel[1])[:4] == b"\0asm"


def test_a_page_served_by_the_service_runs_too(browser: Browser, site: Service) -> None:
    tab = visit(browser, site.url, reduced_motion="reduce")
    tab.page.goto(f"{site.url}/models/chairs/explorer.html")
    tab.page.wait_for_selector('body[data-ready="true"]')
    assert tab.complaints == []
    tab.page.context.close()
    assert httpx.get(f"{site.url}/models/chairs/explorer.html").headers["x-content-type-options"] == "nosniff"
