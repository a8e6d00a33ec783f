"""The view Explore: sliders, one's own picture, the address, and what can be taken away."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_support import ROOT, Service, add_model
from page_support import DESK, PHONE, TWO_KEYS, Visitor, sideways_scroll
from PIL import Image
from playwright.sync_api import Page, expect

from models.info import Preprocessing
from training.data.images import load_image
from worker.rendering.traversal import interpolate
from worker.stores.storage import LocalStorage

pytestmark = pytest.mark.browser

SAMPLE = ROOT / "docs" / "sample.png"
STILL = {"reduced_motion": "reduce"}
NAMES = {"png": b"\x89PNG", "gif": b"GIF8", "mp4": b"\0\0\0"}
HAND_OVER = """([kind, name, data]) => {
  const file = new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name, { type: "image/png" });
  const files = new DataTransfer();
  files.items.add(file);
  const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true });
  document.querySelector("#main").dispatchEvent(event);
}"""


def _pixels(page: Page, canvas: str = "canvas#picture") -> Any:
    text = page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB"))


def _slider(page: Page, latent: int) -> Any:
    return page.locator(f'input[type=range][data-latent="{latent}"]')


def _vector(page: Page) -> list[float]:
    found = re.search(r"[?&]z=([^&]+)", page.url)
    assert found is not None, page.url
    return [float(value) for value in found[1].split(",")]


def _text(page: Page) -> str:
    return page.locator(".snippets code").inner_text()


def test_one_latent_sweeps_by_itself_and_the_picture_is_still_again(visitor: Visitor) -> None:
    page = visitor().open()
    page.wait_for_selector(".latent[data-playing]")  # It is watched for before it begins.
    page.wait_for_selector(".latent[data-playing]", state="detached")
    still = visitor(**STILL).open(ready=True)
    still.wait_for_selector(".latent")
    assert still.locator(".latent[data-playing]").count() == 0
    np.testing.assert_array_equal(_pixels(page), _pixels(still))
    assert "#" not in page.url


def test_latents_come_by_kl_and_unused_ones_are_folded(visitor: Visitor, site: Service) -> None:
    page = visitor(**STILL).open("/explore?model=tiny-rgb", ready=True)
    page.wait_for_selector(".latent")
    assert page.locator("input[data-latent]").evaluate_all("all => all.map(one => one.dataset.latent)") == [
        "0",
        "2",
        "3",
    ]
    page.get_by_text("1 unused").click()
    expect(_slider(page, 1)).to_be_visible()


def test_a_reload_shows_the_same_pixels_and_places(visitor: Visitor) -> None:
    page = visitor(**STILL).open(ready=True)
    first = _pixels(page)
    _slider(page, 3).fill("2.25")
    page.get_by_label("Down", exact=True).select_option("6")
    page.locator("#path-place").fill("0.25")
    _slider(page, 5).fill("-1.5")
    page.get_by_label("Straight line").check()
    page.wait_for_url("**path=linear*")
    page.wait_for_function("() => document.querySelector('#path-place').value === '0.25'")
    shown, vector = _pixels(page), _vector(page)
    assert np.abs(shown.astype(int) - first).max() > 50
    page.reload()
    page.wait_for_selector('body[data-ready="true"]')
    page.wait_for_selector(".path-card")
    np.testing.assert_array_equal(_pixels(page), shown)
    assert _vector(page) == vector
    assert float(_slider(page, 5).input_value()) == pytest.approx(vector[5])
    expect(page.get_by_label("Down", exact=True)).to_have_value("6")
    expect(page.locator("#path-place")).to_have_value("0.25")
    expect(page.get_by_label("Straight line")).to_be_checked()


def test_undo_goes_back_step_by_step_and_reset_to_the_start(visitor: Visitor) -> None:
    page = visitor(**STILL).open(ready=True)
    page.wait_for_selector(".latent")
    start = float(_slider(page, 3).input_value())
    _slider(page, 3).fill("1")
    _slider(page, 4).fill("2")
    page.keyboard.press("Control+z")
    expect(_slider(page, 4)).not_to_have_value("2")
    expect(_slider(page, 3)).to_have_value("1")
    page.get_by_role("button", name="Undo").click()
    expect(_slider(page, 3)).to_have_value(str(start))
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    page.get_by_role("button", name="Random").click()
    expect(_slider(page, 3)).not_to_have_value(str(start))
    page.get_by_role("button", name="Reset").click()
    expect(_slider(page, 3)).to_have_value(str(start))


def test_the_keyboard_alone_moves_a_slider_and_the_pad(visitor: Visitor) -> None:
    page = visitor(**STILL).open("/explore?model=chairs&z=" + ",".join(["0"] * 12), ready=True)
    page.wait_for_selector(".pad")
    strongest = page.locator(".latent-list input").first
    for _ in range(30):
        page.keyboard.press("Tab")
        if strongest.evaluate("element => element === document.activeElement"):
            break
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        page.keyboard.press(key)
    expect(strongest).to_have_attribute("aria-valuetext", re.compile(r"^.+, \+1\.2 σ$"))
    page.keyboard.press("End")
    expect(strongest).to_have_value("3")
    page.locator(".pad").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    expect(strongest).to_have_value("2.9")
    expect(page.locator(".latent-list input").nth(1)).to_have_value("1")
    expect(page.locator("canvas#picture")).to_have_attribute("aria-label", re.compile(r"\+2\.9 σ"))
    # Keys that come before the page is drawn anew all count.
    page.locator(".pad").evaluate(TWO_KEYS, "ArrowLeft")
    expect(strongest).to_have_value("2.7")


@pytest.mark.parametrize("way", ["button", "drop", "paste"])
def test_a_picture_of_ones_own_is_compared_with_its_reconstruction(visitor: Visitor, site: Service, way: str) -> None:
    page = visitor(**STILL).open(ready=True)
    page.wait_for_selector(".latent")
    if way == "button":
        page.set_input_files("input[type=file]#own-picture", SAMPLE)
    else:
        page.evaluate(HAND_OVER, [way, "sample.png", base64.b64encode(SAMPLE.read_bytes()).decode()])
    captions = page.locator(".comparison figcaption")
    expect(captions).to_have_text(["original", "crop", "reconstruction", "error"])
    page.wait_for_url("**z=*")
    encoded = site.client.post("/models/chairs/encode", files={"image": SAMPLE.read_bytes()}).json()
    np.testing.assert_allclose(_vector(page), encoded["mean"], atol=6e-4)
    seen = load_image(SAMPLE.read_bytes(), Preprocessing(image_size=64, num_channels=3))
    np.testing.assert_array_equal(_pixels(page, ".comparison figure:nth-child(2) canvas"), seen)
    rebuilt = _pixels(page, ".comparison figure:nth-child(3) canvas")
    assert np.abs(rebuilt.astype(int) - _pixels(page)).max() <= 2
    expect(page.locator(".posterior")).to_have_count(11)


def test_categorical_latents_move_on_their_grid(visitor: Visitor, site: Service) -> None:
    add_model(LocalStorage(site.settings.home), "grid", num_categories=7)
    page = visitor(**STILL).open("/explore?model=grid", ready=True)
    slider = _slider(page, 0)
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("-1", "1")
    before = _pixels(page)
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "latent 0, +1.00")
    assert page.get_by_text("σ", exact=True).count() == 0
    page.set_input_files("#own-picture", SAMPLE)
    expect(page.locator(".comparison")).to_be_visible()
    headers = {"Accept": "application/json"}
    files = {"image": SAMPLE.read_bytes()}
    answer = site.client.post("/models/grid/reconstruct", files=files, headers=headers).json()
    assert [float(_slider(page, k).input_value()) for k in (0, 2, 3)] == [
        pytest.approx(answer["mean"][k], abs=6e-4) for k in (0, 2, 3)
    ]
    assert _pixels(page).tolist() != before.tolist()


def test_a_file_that_is_no_picture_is_refused_in_words(visitor: Visitor) -> None:
    page = visitor(**STILL).open(ready=True)
    page.wait_for_selector(".latent")
    page.set_input_files("#own-picture", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator('.banner[data-code="not_an_image"]')).to_be_visible()
    _slider(page, 3).fill("1")
    expect(_slider(page, 3)).to_have_value("1")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".banner")).to_have_count(0)


def test_an_unknown_model_is_named_and_another_can_be_chosen(visitor: Visitor) -> None:
    page = visitor(**STILL).open("/explore?model=gone")
    expect(page.locator('.banner[data-code="unknown_model"]')).to_be_visible()
    page.get_by_label("Model", exact=True).select_option("dsprites")
    page.wait_for_selector('body[data-ready="true"]')
    page.wait_for_url("**model=dsprites&z=*")
    expect(page.locator(".banner")).to_have_count(0)


def test_names_are_kept_by_the_service_and_for_shipped_models_by_the_browser(visitor: Visitor, site: Service) -> None:
    site.client.patch("/models/tiny-rgb", json={"dimension_labels": []})
    page = visitor(**STILL).open("/explore?model=tiny-rgb", ready=True)
    page.get_by_role("button", name="latent 2").click()
    page.keyboard.type("smile")
    with page.expect_response("**/models/tiny-rgb"):
        page.keyboard.press("Enter")
    assert site.client.get("/models/tiny-rgb").json()["dimension_labels"] == ["", "", "smile", ""]
    page.get_by_role("button", name="smile").click()
    page.keyboard.type("grin")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="smile")).to_be_focused()
    page.get_by_label("Model", exact=True).select_option("chairs")
    page.get_by_role("button", name="object: violet → green").click()
    page.keyboard.type("colour")
    page.keyboard.press("Enter")
    page.reload()
    expect(page.get_by_role("button", name="colour")).to_be_visible()
    assert "colour" not in site.client.get("/models/chairs").json()["dimension_labels"]


def test_a_touch_that_pans_the_page_moves_no_slider(visitor: Visitor) -> None:
    page = visitor(size=PHONE, **STILL).open(ready=True)
    page.wait_for_selector(".latent")
    slider = page.locator(".latent-list input").nth(1)
    session = page.context.new_cdp_session(page)

    def drag(across: float, down: float) -> None:
        slider.evaluate("slider => slider.scrollIntoView({ block: 'center' })")  # The picture covers the upper part.
        box = slider.bounding_box()
        assert box is not None
        assert box["height"] >= 44
        x, y = box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2
        points = [[{"x": x + across * k / 12, "y": y + down * k / 12}] for k in range(13)]
        for k, touches in enumerate(points):
            kind = "touchMove" if k else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    before = float(slider.input_value())
    slider.evaluate("slider => slider.scrollIntoView({ block: 'center' })")
    scrolled = page.evaluate("scrollY")
    drag(0, -120)
    page.wait_for_function("before => scrollY > before + 20", arg=scrolled)
    assert float(slider.input_value()) == pytest.approx(before, abs=1e-3)
    page.reload()
    page.wait_for_selector('body[data-ready="true"]')
    page.wait_for_selector(".latent")
    drag(-100, 0)
    expect(slider).not_to_have_value(str(before))


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_the_view_is_accessible_and_fits(visitor: Visitor, size: tuple[int, int]) -> None:
    tab = visitor(size=size, **STILL)
    page = tab.open(ready=True)
    page.set_input_files("#own-picture", SAMPLE)
    page.wait_for_selector(".comparison")
    page.get_by_text("1 unused").click()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector(".stage-start")
    for theme in tab.themes():
        assert tab.axe_violations() == [], theme
        assert sideways_scroll(page) <= 0, theme


def test_the_picture_stays_in_sight_and_covers_nothing(visitor: Visitor) -> None:
    page = visitor(size=DESK, **STILL).open(ready=True)
    for card in (".pad-card", ".path-card", ".take-away"):
        page.locator(card).evaluate("card => card.scrollIntoView({ block: 'end' })")
        picture, other = (page.locator(one).bounding_box() for one in (".explore-left", card))
        assert picture is not None
        assert other is not None
        assert picture["y"] >= 54
        assert picture["y"] + picture["height"] <= DESK[1]
        assert other["x"] >= picture["x"] + picture["width"]


@pytest.mark.parametrize("subject", ["picture", "latent", "latents", "pad", "path"])
def test_each_curl_and_each_button_makes_the_file(visitor: Visitor, subject: str, tmp_path: Path) -> None:
    page = visitor(**STILL).open(ready=True)
    page.get_by_label("What").select_option(subject)
    expect(page.locator(".take-away-buttons button")).not_to_have_count(0)
    for button in page.locator(".take-away-buttons button").all():
        suffix = button.inner_text().lower()
        with page.expect_download() as download:
            button.click()
        saved = download.value.path().read_bytes()
        assert saved[:4].startswith(NAMES[suffix])
        text = _text(page)
        subprocess.run(["bash", "-euc", text], cwd=tmp_path, check=True, capture_output=True, timeout=120)
        assert (tmp_path / download.value.suggested_filename).read_bytes() == saved
    if subject == "picture":
        made = np.asarray(Image.open(io.BytesIO(saved)).convert("RGB"))
        assert np.abs(made.astype(int) - _pixels(page)).max() <= 2


def test_python_and_the_command_line_make_what_curl_makes(visitor: Visitor, site: Service, tmp_path: Path) -> None:
    page = visitor(**STILL).open(ready=True)
    page.get_by_label("What").select_option("latent")
    with page.expect_download() as download:
        page.get_by_role("button", name="GIF").click()
    made = download.value.path().read_bytes()
    name = download.value.suggested_filename
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BETAVAE_HOME": str(tmp_path / "home")}
    page.get_by_role("button", name="Python").click()
    subprocess.run([sys.executable, "-c", _text(page)], cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / name).read_bytes() == made
    (tmp_path / name).unlink()
    page.get_by_role("button", name="Command line").click()
    command = _text(page).replace("betavae", f"{sys.executable} -m app", 1)
    subprocess.run(
        ["bash", "-euc", command], cwd=tmp_path, check=True, env=environment, capture_output=True, timeout=240
    )
    assert (tmp_path / name).read_bytes() == made


def test_the_way_from_a_to_b_is_that_of_the_service(visitor: Visitor) -> None:
    page = visitor(**STILL).open(ready=True)
    ends = []
    for end in ("A", "B"):
        page.get_by_role("button", name="Random").click()
        page.wait_for_url("**z=*")
        page.get_by_role("button", name=f"Set {end}").click()
        page.wait_for_url(f"**{end.lower()}=*")
        ends.append(_vector(page))
    page.get_by_label("What").select_option("path")
    page.get_by_role("button", name="Command line").click()
    asked = [re.search(rf"--{name}=(\S+)", _text(page)) for name in ("z", "z2", "interpolation")]
    given = [found[1] for found in asked if found is not None]
    assert [[float(value) for value in vector.split(",")] for vector in given[:2]] == ends
    assert given[2:] == ["slerp"]
    first, last = (np.array(end, np.float32) for end in ends)
    expected = interpolate(first, last, np.linspace(0, 1, 9, dtype=np.float32), "slerp")
    for place, z in zip(("0.25", "0.5", "0.75"), expected[2:8:2], strict=True):
        page.locator("#path-place").fill(place)
        page.wait_for_url(f"**t={place}*")
        np.testing.assert_allclose(_vector(page), z, atol=6e-4)
