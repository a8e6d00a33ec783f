"""The page when a worker is killed, when none is there, and when the connection is lost."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_support import READY_SECONDS, http_server, wait_until_ready, worker, zip_of_pictures
from page_support import Visitor
from playwright.sync_api import Page, expect

from worker.stores.settings import Settings

pytestmark = pytest.mark.browser

ENDLESS = {"image_size": 32, "latent_dim": 4, "batch_size": 8, "log_steps": 5, "num_steps": 1_000_000}


@pytest.fixture
def settings(redis_process: str, tmp_path: Path) -> Settings:
    """Settings of a service of the test's own, whose leases and checkpoints are short."""
    return Settings(
        home=tmp_path, redis_url=redis_process.replace("db=0", "db=5"), lease_seconds=2.0, checkpoint_seconds=0.5
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the service, which has no workers."""
    with http_server(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def start(api: httpx.Client) -> str:
    """Starts an endless training on an uploaded data set, and returns the job's id."""
    files = {"file": ("a.zip", zip_of_pictures())}
    dataset = api.post("/datasets", data={"name": "fault shapes"}, files=files).json()["id"]
    job = api.post("/train-jobs", json={"name": "faulty", "dataset": dataset, "config": ENDLESS}).json()
    return str(job["id"])


def wait_for_chapter(page: Page, text: str) -> None:
    """Waits until the job's story has a chapter, for which a worker may have to start."""
    chapter = page.locator(".story li", has_text=re.compile(text)).first
    expect(chapter).to_be_visible(timeout=1000 * READY_SECONDS)


def test_a_killed_worker_is_told_and_nothing_is_lost(visitor: Visitor, api: httpx.Client, settings: Settings) -> None:
    job = start(api)
    tab = visitor(url=str(api.base_url).rstrip("/"))
    with worker("train", settings):
        wait_until_ready(api, ("train",))
        page = tab.open(f"/train?job={job}")
        # Given a job that has a checkpoint and has gone on since,
        expect(page.locator(".job-bar .number")).to_contain_text(re.compile("step [1-9]"))
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume").click()
        wait_for_chapter(page, "Resumed at step \\d+[.]")
        step = page.locator(".job-bar .number").inner_text()
        expect(page.locator(".job-bar .number")).not_to_have_text(step)
        # when its worker is killed and another one comes,
        os.kill(int(api.get(f"/train-jobs/{job}").json()["worker"].rsplit("-", 1)[1]), signal.SIGKILL)
        with worker("train", settings):
            # then the story says so, and the curves of the two attempts are separate.
            wait_for_chapter(page, "The worker died after step \\d+")
            wait_for_chapter(page, "Attempt 3 started")
            expect(page.locator(".story li", has_text="Resumed at step")).to_have_count(2)
            page.wait_for_function(
                "() => document.querySelectorAll('.chart')[0].querySelectorAll('path.reconstruction').length >= 2"
            )
            chapters = page.locator(".story li").all_inner_texts()
            # A reload tells the same story.
            page.reload()
            expect(page.locator(".story li", has_text="Resumed at step")).to_have_count(2)
            assert page.locator(".story li").all_inner_texts()[: len(chapters)] == chapters
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator(".job-title .status")).to_have_text("cancelled")


def test_without_a_worker_the_page_says_so(visitor: Visitor, api: httpx.Client) -> None:
    job = start(api)
    tab = visitor(url=str(api.base_url).rstrip("/"))
    page = tab.open("/train")
    expect(page.locator(".banner.warn")).to_contain_text("No worker is there that could train")
    assert tab.axe_violations() == []
    page = tab.open(f"/train?job={job}")
    expect(page.locator(".queue")).to_contain_text("No worker is there that could train")
    assert tab.axe_violations() == []


def test_a_lost_connection_is_told_and_found_again(visitor: Visitor, api: httpx.Client, settings: Settings) -> None:
    job = start(api)
    tab = visitor(url=str(api.base_url).rstrip("/"))
    page = tab.open(f"/train?job={job}")
    expect(page.locator(".job-title .status")).to_have_text("queued")
    # While the network is away, the page keeps what it knows and says since when it has no news.
    tab.page.context.set_offline(True)
    page.evaluate("Object.defineProperty(Date, 'now', {value: ((now) => () => now() + 60_000)(Date.now)})")
    expect(page.locator(".job-head .banner")).to_contain_text("Last news")
    expect(page.locator("h1")).to_have_text("faulty")
    api.post(f"/train-jobs/{job}/cancel")
    tab.page.context.set_offline(False)
    # Then it catches up by itself.
    expect(page.locator(".job-title .status")).to_have_text("cancelled")
    expect(page.locator(".job-head .banner")).to_have_count(0)
