"""Every state of the page, in two sizes and two themes: axe finds nothing, and nothing scrolls sideways.

`PAGE_SCREENSHOTS=FOLDER python3 run.py test tests/app/web/test_states.py` also takes a picture of each.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_support import Service, add_model, picture, zip_of_pictures
from page_support import DESK, PHONE, Visit, Visitor, sideways_scroll
from PIL import Image
from playwright.sync_api import expect

from worker.stores.models import open_dataset_registry
from worker.stores.storage import LocalStorage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SMALL = {"image_size": 32, "latent_dim": 4, "batch_size": 8, "log_steps": 5}
WAIT_SECONDS = 300


class Made:
    """What the states show: jobs in every state, a model, a data set with rejected files."""

    def __init__(self, site: Service, folder: Path) -> None:
        self.site = site
        add_model(LocalStorage(site.settings.home), "states", num_channels=3)
        self.picture = folder / "own.png"
        self.picture.write_bytes(picture(5, (96, 80)))
        files = {"file": ("a.zip", zip_of_pictures(40, broken=3), "application/zip")}
        self.dataset = site.client.post("/datasets", data={"name": "states"}, files=files).json()["id"]
        self.succeeded = self._start(self.dataset, num_steps=40, preview_steps=20)
        self._until(self.succeeded, "succeeded")
        self.failed = self._start(self._vanished(folder / "vanished"), num_steps=100)
        self._until(self.failed, "failed")
        # Of its three trainings the last one fails.
        too_fast = {"seed": 3, "optimizer": "sgd", "learning_rate": 10.0}
        members = [{"seed": 0}, {"seed": 1}, too_fast]
        body = {"name": "states", "dataset": self.dataset, "config": {**SMALL, "num_steps": 10}, "members": members}
        self.sweep = site.client.post("/sweeps", json=body).json()["id"]
        self._until(self.sweep, "succeeded", path="sweeps")
        self.running = self._start(self.dataset, num_steps=1_000_000, preview_steps=50)
        self._until(self.running, "running", step=100)
        self.queued = self._start(self.dataset, num_steps=100)
        self.cancelled = self._start(self.dataset, num_steps=100)
        site.client.post(f"/train-jobs/{self.cancelled}/cancel")

    def end_running(self) -> None:
        """Ends the endless training, so that it takes no time from what follows."""
        for job in (self.queued, self.running):
            self.site.client.post(f"/train-jobs/{job}/cancel")

    def _start(self, dataset: str, **config: int) -> str:
        body = {"name": "states", "dataset": dataset, "config": {**SMALL, **config}}
        answer = self.site.client.post("/train-jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def _vanished(self, folder: Path) -> str:
        """Returns a registered folder that is no longer there."""
        folder.mkdir()
        Image.new("RGB", (40, 40), "red").save(folder / "a.png")
        registry = open_dataset_registry(self.site.settings, LocalStorage(self.site.settings.home))
        record = registry.add_path("vanished", folder)
        shutil.rmtree(folder)
        return record.id

    def _until(self, job: str, status: str, step: int = 0, path: str = "train-jobs") -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            body = self.site.client.get(f"/{path}/{job}").json()
            if body["status"] == status and (body["progress"].get("step") or 0) >= step:
                return
            assert time.monotonic() < deadline, body
            time.sleep(0.1)


@pytest.fixture(scope="module")
def made(site: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """What the states show; the endless training ends with the tests."""
    everything = Made(site, tmp_path_factory.mktemp("states"))
    yield everything
    everything.end_running()


def _stall(tab: Visit, pattern: str) -> None:
    """Leaves requests without an answer, so that the page goes on loading."""
    tab.page.route(pattern, lambda route: None)


def _refuse(tab: Visit, pattern: str, code: str, status: int) -> None:
    """Answers requests with a problem."""
    body = {"type": f"/problems/{code}", "title": code, "status": status, "detail": "For the test.", "code": code}
    tab.page.route(pattern, lambda route: route.fulfill(status=status, json={**body, "instance": "/"}))


def _explore(tab: Visit, made: Made) -> None:
    tab.open("/explore?model=chairs", ready=True)


def _explore_own_picture(tab: Visit, made: Made) -> None:
    page = tab.open("/explore?model=chairs", ready=True)
    page.set_input_files("#own-picture", made.picture)
    expect(page.locator(".comparison")).to_be_visible()


def _explore_loading(tab: Visit, made: Made) -> None:
    _stall(tab, "**/models/*/web*")
    tab.open("/explore?model=chairs").wait_for_selector("canvas#picture", state="attached")


def _explore_unknown(tab: Visit, made: Made) -> None:
    tab.open("/explore?model=nothing").wait_for_selector("[role=alert]")


def _train_form(tab: Visit, made: Made) -> None:
    tab.open("/train").wait_for_selector("select#dataset option:nth-child(2)", state="attached")


def _train_settings(tab: Visit, made: Made) -> None:
    _train_form(tab, made)
    tab.page.click("summary:has-text('All settings')")


def _train_pictures(tab: Visit, made: Made) -> None:
    page = tab.open("/train")
    wrong: Any = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"text"}
    right: list[Any] = [{"name": f"{k}.png", "mimeType": "image/png", "buffer": picture(k)} for k in range(5)]
    page.set_input_files("#own-pictures", [wrong, *right])
    expect(page.locator(".verdicts li")).to_have_count(6)


def _train_several(tab: Visit, made: Made) -> None:
    _train_form(tab, made)
    tab.page.click("summary:has-text('Several runs')")
    expect(tab.page.locator(f'[data-sweep="{made.sweep}"]')).to_be_visible()


def _sweep(tab: Visit, made: Made) -> None:
    page = tab.open(f"/train?sweep={made.sweep}")
    expect(page.locator(".job-bar")).to_contain_text("2 succeeded, 1 failed")
    expect(page.locator(".sweep-table tbody tr").nth(2)).to_contain_text("The loss became")
    for drawn in (".sweep-figure", ".sweep-sheet"):
        page.wait_for_function("name => document.querySelector(name)?.naturalWidth > 0", arg=drawn)


def _job(name: str, ready: str) -> Callable[[Visit, Made], None]:
    def show(tab: Visit, made: Made) -> None:
        tab.open(f"/train?job={getattr(made, name)}").wait_for_selector(ready)

    return show


def _job_unknown(tab: Visit, made: Made) -> None:
    expect(tab.open("/train?job=j-nothing").get_by_role("heading", level=1)).to_be_visible()


def _models(tab: Visit, made: Made) -> None:
    page = tab.open("/models")
    for part in ("[data-model=states]", ".compare", ".dataset-cards li"):  # What is seen is loaded.
        page.locator(part).last.scroll_into_view_if_needed()
    page.wait_for_selector("[data-model=states] canvas[data-drawn]")
    expect(page.locator(".compared[data-seen]")).to_have_count(2)


def _models_loading(tab: Visit, made: Made) -> None:
    _stall(tab, "**/models?limit=*")
    tab.open("/models").wait_for_selector(".skeleton")


def _models_refused(tab: Visit, made: Made) -> None:
    _refuse(tab, "**/models?limit=*", "job_store_unavailable", 503)
    tab.open("/models").wait_for_selector("[role=alert]")


def _models_editing(tab: Visit, made: Made) -> None:
    page = tab.open("/models")
    page.locator("[data-model=states]").get_by_role("button", name="Rename and label").click()


def _models_export(tab: Visit, made: Made) -> None:
    tab.open("/models").locator("[data-model=chairs] summary", has_text="Export").click()


def _models_deleted(tab: Visit, made: Made) -> None:
    add_model(LocalStorage(made.site.settings.home), "states-gone")  # The tab carries the deletion out when it closes.
    page = tab.open("/models")
    page.locator("[data-model=states-gone]").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Undo").focus()  # The time stands still.


def _models_import_refused(tab: Visit, made: Made) -> None:
    page = tab.open("/models")
    wrong: Any = {"name": "x.safetensors", "mimeType": "", "buffer": b"no model"}
    page.set_input_files("#import-model", wrong)
    page.locator(".add-card .banner summary").click()


def _models_rejected(tab: Visit, made: Made) -> None:
    page = tab.open("/models")
    page.locator(f'[data-dataset="{made.dataset}"] summary').click()
    expect(page.locator(".rejected li")).to_have_count(3)


STATES: dict[str, Callable[[Visit, Made], None]] = {
    "job-running": _job("running", "canvas.reconstructions"),
    "job-queued": _job("queued", ".queue"),
    "explore": _explore,
    "explore-own-picture": _explore_own_picture,
    "explore-loading": _explore_loading,
    "explore-unknown": _explore_unknown,
    "train": _train_form,
    "train-settings": _train_settings,
    "train-pictures": _train_pictures,
    "train-several": _train_several,
    "sweep": _sweep,
    "job-succeeded": _job("succeeded", ".done"),
    "job-failed": _job("failed", "[role=alert]"),
    "job-cancelled": _job("cancelled", ".job-title"),
    "job-unknown": _job_unknown,
    "models": _models,
    "models-loading": _models_loading,
    "models-refused": _models_refused,
    "models-editing": _models_editing,
    "models-export": _models_export,
    "models-deleted": _models_deleted,
    "models-import-refused": _models_import_refused,
    "models-rejected": _models_rejected,
}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("state", STATES)
def test_a_state_is_accessible_and_fits(visitor: Visitor, made: Made, state: str, size: tuple[int, int]) -> None:
    if state not in ("job-running", "job-queued"):
        made.end_running()
    tab = visitor(size=size, reduced_motion="reduce")
    STATES[state](tab, made)
    tab.page.evaluate("scrollTo(0, 0)")  # Nothing is beneath a bar.
    for theme in tab.themes():
        folder = os.environ.get("PAGE_SCREENSHOTS")
        if folder:
            name = f"{state}-{'desk' if size == DESK else 'phone'}-{theme}.png"
            tab.page.screenshot(path=Path(folder) / name, full_page=True)
        assert sideways_scroll(tab.page) <= 0, theme
        assert tab.axe_violations() == [], theme
