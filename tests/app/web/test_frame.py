"""The frame around the views: links, keyboard, widths, themes."""

import pytest
from page_support import DESK, PHONE, Visitor, sideways_scroll
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("view", ["Explore", "Train", "Models"])
def test_a_link_opens_each_view(visitor: Visitor, view: str) -> None:
    page = visitor().open()
    page.get_by_role("link", name=view, exact=True).click()
    page.wait_for_url(f"**/#/{view.lower()}*")
    expect(page.get_by_role("link", name=view, exact=True)).to_have_attribute("aria-current", "page")


def test_the_keyboard_alone_reaches_the_views(visitor: Visitor) -> None:
    page = visitor().open()
    link = page.get_by_role("link", name="Models", exact=True)
    for _ in range(10):
        page.keyboard.press("Tab")
        if link.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/#/models*")


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_the_frame_is_accessible_and_fits(visitor: Visitor, size: tuple[int, int]) -> None:
    tab = visitor(size=size)
    page = tab.open("/models")
    page.wait_for_selector("h1")
    for theme in tab.themes():
        assert tab.axe_violations() == [], theme
        assert sideways_scroll(page) <= 0, theme
