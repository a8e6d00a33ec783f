"""A browser without a token is asked for one, and then sees what it came for."""

from collections.abc import Iterator

import pytest
from api_support import Service, service
from page_support import Visitor, skip_without_chromium

from worker.stores.storage import LocalStorage
from worker.stores.tokens import TokenStore

pytestmark = pytest.mark.browser


@pytest.fixture
def locked(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service with a token of the scope read, without workers; and the token."""
    skip_without_chromium()
    home = tmp_path_factory.mktemp("locked")
    secret = TokenStore(LocalStorage(home)).add("reader", "read")[1]
    with service(home, redis_process) as running:
        yield running, secret


def test_the_page_asks_for_a_token_and_keeps_it(locked: tuple[Service, str], visitor: Visitor) -> None:
    running, secret = locked
    tab = visitor(url=running.url)
    page = tab.open()
    dialog = page.get_by_role("dialog", name="This service asks for a token")
    dialog.wait_for()
    assert tab.axe_violations() == []
    dialog.get_by_label("Token").fill("bv_wrong")
    dialog.get_by_role("button", name="Continue").click()
    dialog.get_by_role("alert").get_by_text("no such token").wait_for()
    dialog.get_by_label("Token").fill(secret)
    dialog.get_by_role("button", name="Continue").click()
    page.wait_for_selector('body[data-ready="true"]')
    assert page.evaluate("document.cookie") == ""
    tab.open("/models")
    page.get_by_text("chairs").first.wait_for()
