"""Training from the page: the form, the live panes, the buttons, reloads and many tabs."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_support import Service, picture, zip_of_pictures
from page_support import DESK, PHONE, TWO_KEYS, Visit, Visitor, module, sideways_scroll
from playwright.sync_api import Page, Request, Route, expect

pytestmark = pytest.mark.browser

SMALL = {"image_size": 32, "latent_dim": 4, "batch_size": 8, "log_steps": 5}
ENDLESS = {**SMALL, "num_steps": 1_000_000, "preview_steps": 50}
"""Settings of a training that goes on until a test ends it."""


@pytest.fixture(scope="module")
def dataset(site: Service) -> str:
    """The id of an uploaded data set of 40 pictures."""
    answer = site.client.post("/datasets", data={"name": "page shapes"}, files={"file": ("a.zip", zip_of_pictures())})
    return str(answer.json()["id"])


class Jobs:
    """Starts trainings on one data set and ends those that are left."""

    def __init__(self, site: Service, dataset: str) -> None:
        self.site, self.dataset = site, dataset
        self.started: list[str] = []

    def start(self, config: dict[str, Any], name: str = "page job") -> str:
        answer = self.site.client.post("/train-jobs", json={"name": name, "dataset": self.dataset, "config": config})
        assert answer.status_code == 202, answer.text
        self.started.append(answer.json()["id"])
        return self.started[-1]

    def get(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.site.client.get(f"/train-jobs/{job_id}").json()
        return job


@pytest.fixture
def jobs(site: Service, dataset: str) -> Iterator[Jobs]:
    """Trainings of the test."""
    started = Jobs(site, dataset)
    yield started
    for job in started.started:
        site.client.post(f"/train-jobs/{job}/cancel")


def has_status(page: Page, status: str) -> None:
    """Waits until the page shows a job in a state."""
    expect(page.locator(".job-title .status")).to_have_text(status)


def shown_step(page: Page) -> int:
    """Returns the step that the page says the job has reached."""
    text = page.locator(".job-bar .number").inner_text()
    found = re.search(r"step ([\d\s]+) of", text)
    return int("".join(found[1].split())) if found else 0


def wait_for_step(page: Page, step: int) -> None:
    """Waits until the page shows at least a step."""
    page.wait_for_function(
        """step => {
          const text = document.querySelector(".job-bar .number")?.textContent ?? "";
          return Number(text.match(/step ([\\d\\s]+) of/)?.[1].replace(/\\s/g, "") ?? 0) >= step;
        }""",
        arg=step,
    )


def test_pictures_become_a_model(visitor: Visitor, site: Service, tmp_path: Path) -> None:
    # Given a folder with 24 pictures, a damaged one and a text.
    for k in range(24):
        (tmp_path / f"{k:02d}.png").write_bytes(picture(k))
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("about the pictures")
    page = visitor().open("/train")
    # When they are chosen, and a short training is started.
    page.set_input_files("#own-pictures", sorted(tmp_path.iterdir()))
    expect(page.locator(".verdicts li.bad")).to_have_count(2)
    expect(page.locator(".drop")).to_contain_text("24 of 26 files can be used")
    expect(page.locator(".verdicts")).to_contain_text("cannot be decoded")
    page.fill("#job-name", "from the page")
    page.click("summary:has-text('All settings')")
    for name, value in {**SMALL, "num_steps": 60}.items():
        field = page.locator(f'[name="config.{name}"]')
        field.select_option(str(value)) if name == "image_size" else field.fill(str(value))
    page.click("button[type=submit]")
    # Then the job's page shows its pictures while they arrive, and the model at the end.
    page.wait_for_selector("canvas.reconstructions")
    has_status(page, "succeeded")
    explore = page.get_by_role("link", name="Explore it")
    job_id = page.url.split("job=")[1].split("&")[0]
    job = site.client.get(f"/train-jobs/{job_id}").json()
    assert job["name"] == "from the page"
    assert explore.get_attribute("href") == f"#/explore?model={job['model']}"
    assert site.client.get(f"/datasets/{job['dataset']}").json()["num_images"] == 24
    # And the scrubber goes back to the network as it was before the first step.
    page.focus("#step")
    page.keyboard.press("Home")
    expect(page.locator(".pane .reading").first).to_contain_text("after step 0")
    page.wait_for_url("**step=0*")
    # And key by key to the next steps that have a picture, also by keys that come before the page is drawn anew.
    page.locator("#step").evaluate(TWO_KEYS, "ArrowRight")
    expect(page.locator("#step")).to_have_value("12")
    # And the run goes on from its end when more steps are asked for.
    page.get_by_role("button", name="Train longer…").click()
    expect(page.locator(".longer .estimate")).to_contain_text("60 steps")
    page.get_by_label("Further steps").fill("20")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(lambda url: "job=" in url and job_id not in url)
    has_status(page, "succeeded")
    longer = site.client.get(f"/train-jobs/{page.url.split('job=')[1].split('&')[0]}").json()
    assert (longer["from"], longer["extend_to"]) == (job["model"], 80)


def test_a_preset_says_its_steps_before_it_starts(visitor: Visitor, dataset: str) -> None:
    page = visitor().open(f"/train?dataset={dataset}")
    page.get_by_role("radio", name="Published settings").check()
    page.get_by_role("combobox", name="Preset").select_option("celeba")
    expect(page.locator(".train-form .estimate")).to_contain_text("steps")


def test_a_wrong_setting_is_named_and_gets_the_focus(visitor: Visitor, site: Service, dataset: str) -> None:
    page = visitor().open(f"/train?dataset={dataset}")
    before = len(site.client.get("/train-jobs").json()["jobs"])
    page.click("summary:has-text('All settings')")
    page.fill("#settings-query", "learning rate")
    page.fill('[name="config.learning_rate"]', "50")
    page.click("button[type=submit]")
    expect(page.locator(".setting .field-error")).to_contain_text("at most 10")
    expect(page.locator('[name="config.learning_rate"]')).to_be_focused()
    expect(page.locator('[name="config.learning_rate"]')).to_have_attribute("aria-invalid", "true")
    assert len(site.client.get("/train-jobs").json()["jobs"]) == before


def test_settings_are_those_of_the_schema(visitor: Visitor, site: Service) -> None:
    properties = site.client.get("/openapi.json").json()["components"]["schemas"]["TrainingConfig"]["properties"]
    page = visitor().open("/train")
    page.click("summary:has-text('All settings')")
    page.fill("#settings-query", "the")  # A search also finds what other objectives read.
    for name in ("gamma", "restart_axes"):
        expect(page.locator(f'[id="config.{name}-text"]')).to_contain_text(properties[name]["description"])
    page.fill("#settings-query", "plateau_factor")
    field = page.locator('[name="config.plateau_factor"]')
    assert field.get_attribute("max") == str(properties["plateau_factor"]["maximum"])
    assert field.get_attribute("placeholder") == f"{properties['plateau_factor']['x-default']} (default)"


def test_a_reload_loses_nothing_and_doubles_nothing(visitor: Visitor, site: Service, jobs: Jobs) -> None:
    job = jobs.start(ENDLESS)
    page = visitor().open(f"/train?job={job}")
    wait_for_step(page, 100)
    page.reload()
    page.locator(".chart-table summary").first.click()
    rows = page.locator(".chart-table").first.locator("tbody tr td:first-child")
    expect(rows.first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    has_status(page, "paused")
    lines = site.client.get(f"/train-jobs/{job}/metrics").text.splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if "kl_per_dimension" in record]
    # The table is thinned to 40 rows, of which the first and the last are the run's.
    expect(rows.last).to_have_text(f"{steps[-1]:,}".replace(",", "\u202f"))
    shown = [int(text.replace("\u202f", "")) for text in rows.all_inner_texts()]
    assert shown == sorted(set(shown))
    assert set(shown) <= set(steps)
    assert len(shown) == min(40, len(steps))
    assert shown[0] == steps[0]


def test_the_buttons_steer_a_job(visitor: Visitor, jobs: Jobs) -> None:
    job = jobs.start(ENDLESS)
    page = visitor().open(f"/train?job={job}")
    wait_for_step(page, 20)
    page.get_by_role("button", name="Pause").click()
    has_status(page, "paused")
    page.get_by_role("button", name="Resume").click()
    has_status(page, "running")
    page.get_by_role("button", name="Cancel").click()
    has_status(page, "cancelled")
    assert jobs.get(job)["status"] == "cancelled"
    assert page.get_by_role("button", name="Pause").count() == 0
    # What is learnt can still be kept.
    page.get_by_role("button", name="Finish now and keep").click()
    has_status(page, "succeeded")
    assert jobs.get(job)["model"]


def test_sliders_move_the_model_in_training_and_keep_their_values(visitor: Visitor, jobs: Jobs) -> None:
    page = visitor().open(f"/train?job={jobs.start(ENDLESS)}")
    slider = page.locator('.play-now input[type=range][data-latent="0"]')
    slider.fill("1.5")
    page.wait_for_url("**z=1.5*")
    before = page.locator(".play-now .reading").inner_text()
    page.wait_for_function("before => document.querySelector('.play-now .reading').textContent !== before", arg=before)
    expect(slider).to_have_value("1.5")
    page.reload()
    expect(slider).to_have_value("1.5")


def test_ten_tabs_share_one_stream(visitor: Visitor, jobs: Jobs) -> None:
    # Given ten tabs of one browser on a running job.
    job = jobs.start(ENDLESS)
    first = visitor()
    readers: list[Page] = []
    tabs = [first.page] + [first.page.context.new_page() for _ in range(9)]
    first.page.context.on("request", lambda request: _note_reader(readers, request))
    for tab in tabs:
        tab.goto(f"{first.url}/#/train?job={job}")
    # Then each follows the job, and one of them reads the stream.
    for tab in tabs:
        wait_for_step(tab, shown_step(tabs[0]) + 10)
    assert len(readers) == 1
    # When that tab is closed, another one goes on.
    tabs.remove(readers[0])
    with first.page.context.expect_event("request", _is_stream):
        readers[0].close()
    for tab in tabs:
        wait_for_step(tab, shown_step(tabs[0]) + 10)
    assert len(readers) == 2


def _is_stream(request: Request) -> bool:
    return request.url.endswith("/events")


def _note_reader(readers: list[Page], request: Request) -> None:
    if _is_stream(request):
        readers.append(request.frame.page)


def test_a_second_click_starts_no_second_training(visitor: Visitor, site: Service, jobs: Jobs, dataset: str) -> None:
    page = visitor().open(f"/train?dataset={dataset}")
    page.fill("#job-name", "clicked twice")
    page.evaluate("""() => {
      const form = document.querySelector("form.train-form");
      form.requestSubmit();
      form.requestSubmit();
    }""")
    page.wait_for_selector(".job")
    found = [job["id"] for job in site.client.get("/train-jobs").json()["jobs"] if job["name"] == "clicked twice"]
    jobs.started += found
    assert len(found) == 1


def test_a_training_waits_behind_others(visitor: Visitor, jobs: Jobs) -> None:
    jobs.start(ENDLESS, "the one before")
    job = jobs.start(ENDLESS, "the one behind")
    page = visitor().open(f"/train?job={job}")
    expect(page.locator(".queue")).to_contain_text("the one before")
    page.get_by_role("button", name="Cancel").click()
    has_status(page, "cancelled")


def test_an_unknown_job_is_said_to_be_so(visitor: Visitor) -> None:
    page = visitor().open("/train?job=j-0000000000000000")
    expect(page.locator("h1")).to_have_text("This training is not here")


def test_the_running_job_is_in_the_top_bar_and_the_title(visitor: Visitor, jobs: Jobs) -> None:
    job = jobs.start(ENDLESS, "in the bar")
    page = visitor().open("/models")
    link = page.locator(".topbar .running")
    expect(link).to_contain_text("in the bar")
    assert link.get_attribute("href") == f"#/train?job={job}"
    expect(page).to_have_title(re.compile("in the bar"))


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_every_state_is_accessible_and_fits(visitor: Visitor, jobs: Jobs, size: tuple[int, int]) -> None:
    tab = visitor(size=size)
    page = tab.open("/train")
    page.wait_for_selector("#dataset option:nth-child(2)", state="attached")
    _is_fine(tab, "form")
    page.click("summary:has-text('All settings')")
    page.wait_for_selector(".setting")
    _is_fine(tab, "settings")
    job = jobs.start(ENDLESS)
    page = tab.open(f"/train?job={job}")
    page.wait_for_selector(".play-now input[type=range]")
    wait_for_step(page, 20)
    page.get_by_role("button", name="Pause").click()
    has_status(page, "paused")
    _is_fine(tab, "paused")
    page.get_by_role("button", name="Finish now and keep").click()
    has_status(page, "succeeded")
    _is_fine(tab, "succeeded")


def _is_fine(tab: Visit, state: str) -> None:
    for theme in tab.themes():
        assert tab.axe_violations() == [], f"{state}, {theme}"
        assert sideways_scroll(tab.page) <= 0, f"{state}, {theme}"


def test_an_answer_that_was_overtaken_is_not_shown(visitor: Visitor, jobs: Jobs) -> None:
    # Given a job whose answer, asked for while it was pausing, is late.
    job = jobs.start(ENDLESS)
    page = visitor().open(f"/train?job={job}")
    wait_for_step(page, 20)
    late: list[tuple[Route, dict[str, Any]]] = []

    def delay_first(route: Route) -> None:
        if late:
            route.continue_()
        else:
            late.append((route, jobs.get(job) | {"status": "pausing"}))

    page.route(f"**/train-jobs/{job}", delay_first)
    page.get_by_role("button", name="Pause").click()
    has_status(page, "paused")
    # When it comes after the job has paused, then the page does not go back to it.
    route, answer = late[0]
    with page.expect_event("requestfinished", lambda request: request.url.endswith(job)):
        route.fulfill(json=answer)
    page.wait_for_timeout(500)
    assert page.locator(".job-title .status").inner_text() == "paused"


def test_archives_are_ones_that_others_read(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor().open("/train")
    files = {"a.png": [1, 2, 3], "folder/ü.png": list(range(256))}
    data = module(
        page,
        "train/zip.js",
        """const blob = (bytes) => new Blob([new Uint8Array(bytes)]);
        const files = Object.entries(argument).map(([path, bytes]) => ({path, file: blob(bytes)}));
        const archive = await it.zipOf(files, () => {});
        return {bytes: [...new Uint8Array(await archive.arrayBuffer())], listed: await it.listZip(archive)};""",
        files,
    )
    path = tmp_path / "made.zip"
    path.write_bytes(bytes(data["bytes"]))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: list(archive.read(name)) for name in archive.namelist()} == files
    assert data["listed"] == [{"path": "a.png", "size": 3}, {"path": "folder/ü.png", "size": 256}]


def test_a_history_takes_each_event_once_and_keeps_attempts_apart(visitor: Visitor) -> None:
    page = visitor().open("/train")
    events = [
        ("1-0", "running", {"attempt": 1, "worker": "a", "at": "2026-01-01T00:00:00Z"}),
        ("2-0", "progress", {"progress": {"step": 5}, "metrics": {"kl": 1}, "at": "2026-01-01T00:00:05Z"}),
        ("2-1", "checkpoint", {"step": 5, "at": "2026-01-01T00:00:05Z"}),
        ("3-0", "progress", {"progress": {"step": 10}, "metrics": {"kl": 2}, "at": "2026-01-01T00:00:17Z"}),
        ("4-0", "queued", {"reason": "worker lost", "at": "2026-01-01T00:00:40Z"}),
        ("10-0", "running", {"attempt": 2, "worker": "b", "at": "2026-01-01T00:00:41Z"}),
        ("11-0", "resumed", {"step": 5, "at": "2026-01-01T00:00:42Z"}),
        ("12-0", "progress", {"progress": {"step": 10}, "metrics": {"kl": 3}, "at": "2026-01-01T00:00:50Z"}),
    ]
    found = module(
        page,
        "jobs/history.js",
        """const history = new it.History();
        const taken = [...argument, ...argument].filter(([id, type, data]) => history.take({id, type, data})).length;
        history.setRecords('{"step": 5, "kl": 1, "kl_per_dimension": [1]}\\n');
        const pairs = (points) => points.map(({step, kl}) => [step, kl]);
        return {taken, story: history.story.map((chapter) => chapter.text),
                traces: history.traces().map(({attempt, lost, points}) => [attempt, lost, pairs(points)])};""",
        [list(event) for event in events],
    )
    assert found["taken"] == len(events)
    assert found["traces"] == [[1, True, [[10, 2]]], [1, False, [[5, 1]]], [2, False, [[10, 3]]]]
    assert found["story"] == [
        "Started by a.",
        "The worker died after step 10.",
        "Attempt 2 started by b.",
        "Resumed at step 5, 12 s of work lost.",
    ]


def test_a_story_begins_with_its_start_where_the_log_is_lost(visitor: Visitor) -> None:
    page = visitor().open("/train")
    restored = ("9-0", "running", {"restored": True, "at": "2026-01-01T02:00:00Z"})
    tell = """const history = new it.History();
        for (const [id, type, data] of argument) history.take({id, type, data});
        const job = {created_at: "2026-01-01T00:00:00Z", started_at: "2026-01-01T00:01:00Z"};
        return history.storyOf(job).map(({at, text}) => `${at.slice(11, 16)} ${text}`);"""
    assert module(page, "jobs/history.js", tell, [list(restored)]) == [
        "00:00 Put into the queue.",
        "00:01 Started.",
        "02:00 Restored from its files, since the job store had lost it.",
    ]
    whole = [("1-0", "queued", {"at": "2026-01-01T00:00:00Z"}), restored]
    assert module(page, "jobs/history.js", tell, [list(event) for event in whole]) == [
        "00:00 Put into the queue.",
        "02:00 Restored from its files, since the job store had lost it.",
    ]
    assert module(page, "jobs/history.js", tell, []) == []


def test_events_are_read_whatever_the_pieces_they_come_in(visitor: Visitor) -> None:
    page = visitor().open("/train")
    text = ': ping\n\nid: 1-0\nevent: progress\ndata: {"a":\ndata: 1}\n\nid: 2-0\nevent: paused\ndata: {}\n\nid: 3'
    found = module(page, "jobs/stream.js", "return it.parseEvents(argument);", text)
    assert found == {
        "events": [{"id": "1-0", "type": "progress", "data": {"a": 1}}, {"id": "2-0", "type": "paused", "data": {}}],
        "remainder": "id: 3",
    }


def test_a_finished_job_is_deleted_unless_that_is_undone(visitor: Visitor, site: Service, jobs: Jobs) -> None:
    job = jobs.start(ENDLESS, "to be deleted")
    page = visitor().open(f"/train?job={job}")
    page.get_by_role("button", name="Cancel").click()
    has_status(page, "cancelled")
    page.goto(page.url.split("#")[0] + "#/train")
    row = page.locator(".job-list li", has_text="to be deleted")
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Delete").click()
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        pass  # The time for second thoughts ends.
    assert site.client.get(f"/train-jobs/{job}").json()["code"] == "unknown_job"


def test_a_failure_says_why_and_what_to_do_next(visitor: Visitor, site: Service, jobs: Jobs) -> None:
    # Given a training whose loss is not finite after its first step,
    settings = {**ENDLESS, "optimizer": "sgd", "learning_rate": 10.0, "seed": 3}
    page = visitor().open(f"/train?job={jobs.start(settings, 'too fast')}")
    has_status(page, "failed")
    banner = page.locator(".banner.failed")
    expect(banner).to_contain_text("lower learning rate")
    # when a new one like it is asked for,
    banner.get_by_role("link", name="A new one like it").click()
    # then the form has its settings.
    expect(page.locator("#job-name")).to_have_value("too fast")
    expect(page.locator("#dataset")).to_have_value(jobs.dataset)
    page.click("summary:has-text('All settings')")
    for name, value in settings.items():
        expect(page.locator(f'[name="config.{name}"]')).to_have_value(f"{value:g}" if value == 10 else str(value))
