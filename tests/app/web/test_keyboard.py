"""The whole journey by keyboard: from the first screen to a training, and from its model back to the sliders."""

import pytest
from api_support import Service, zip_of_pictures
from page_support import Visitor
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

MOST_TABS = 150


def _tab_to(page: Page, target: Locator) -> None:
    """Presses Tab until an element has the focus, which must then be visible."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if target.count() and target.first.evaluate("element => element === document.activeElement"):
            assert target.first.evaluate("element => element.matches(':focus-visible')")
            return
    raise AssertionError(f"{MOST_TABS} tabs do not reach {target}")


def test_a_model_is_trained_and_moved_without_a_pointer(visitor: Visitor, site: Service) -> None:
    dataset = site.client.post("/datasets", data={"name": "keys"}, files={"file": ("a.zip", zip_of_pictures())}).json()
    page = visitor(reduced_motion="reduce").open(ready=True)
    _tab_to(page, page.get_by_role("link", name="Train", exact=True))
    page.keyboard.press("Enter")
    chooser = page.get_by_label("A data set that is here")
    expect(chooser.locator(f'option[value="{dataset["id"]}"]')).to_have_count(1)
    _tab_to(page, chooser)
    while chooser.input_value() != dataset["id"]:
        before = chooser.input_value()
        page.keyboard.press("ArrowDown")
        assert chooser.input_value() != before, "the arrow keys do not reach the data set"
    _tab_to(page, page.get_by_label("Name"))
    page.keyboard.type("by keyboard")
    _tab_to(page, page.locator("summary", has_text="All settings"))
    page.keyboard.press("Enter")
    for name, value in (("latent_dim", "3"), ("num_steps", "60"), ("batch_size", "8")):
        _tab_to(page, page.locator(f'[name="config.{name}"]'))
        page.keyboard.press("Control+a")
        page.keyboard.type(value)
    page.keyboard.press("Enter")
    expect(page.locator(".job-title .status")).to_have_text("succeeded")
    page.evaluate("document.activeElement.blur()")
    _tab_to(page, page.get_by_role("link", name="Explore it"))
    page.keyboard.press("Enter")
    slider = page.locator("input[type=range][data-latent]").first
    slider.wait_for()
    before = page.locator("canvas#picture").evaluate("canvas => canvas.toDataURL()")
    _tab_to(page, slider)
    page.keyboard.press("End")
    page.wait_for_function("before => document.querySelector('canvas#picture').toDataURL() !== before", arg=before)
