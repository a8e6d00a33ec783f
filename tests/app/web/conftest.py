"""The real service with Redis and workers, and tabs of a real browser."""

from collections.abc import Iterator

import pytest
from api_support import Service, service
from page_support import Visit, Visitor, chromium, skip_without_chromium, visit
from playwright.sync_api import Browser, expect
from redis_support import serve_redis

TEST_TIMEOUT_MS = 60_000
"""Longest wait of Playwright for one condition; the machine may be busy with other tests."""
expect.set_options(timeout=TEST_TIMEOUT_MS)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a worker for renderings and one for trainings; tests share it and name their own things."""
    skip_without_chromium()
    with (
        serve_redis() as redis_url,
        service(tmp_path_factory.mktemp("site"), redis_url, ("render", "train")) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def quiet_site(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service without workers."""
    skip_without_chromium()
    with service(tmp_path_factory.mktemp("quiet-site"), redis_process) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Its event loop runs in the thread of the tests, so it ends before other modules need one."""
    skip_without_chromium()
    with chromium() as running:
        yield running


@pytest.fixture
def visitor(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A function that opens a tab. After the test, no tab may have complained or asked another host for anything."""
    tabs: list[Visit] = []

    def open_tab(*, url: str | None = None, **options: object) -> Visit:
        site: Service = request.getfixturevalue("site") if url is None else None  # type: ignore[assignment]
        tab = visit(browser, url or site.url, **options)  # type: ignore[arg-type]
        tab.page.context.set_default_timeout(TEST_TIMEOUT_MS)
        tabs.append(tab)
        return tab

    yield open_tab
    complaints = [text for tab in tabs for text in tab.complaints]
    foreign = [address for tab in tabs for address in tab.foreign_requests()]
    for tab in tabs:
        print("\n".join(tab.failures))  # pytest shows this where the test failed.
        tab.page.context.close()
    assert complaints == []
    assert foreign == []
