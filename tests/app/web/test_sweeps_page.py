"""Sweeps on the page: the form, the list, and the page of a sweep from its start to the chosen model."""

from typing import Any

import pytest
from api_support import Service, zip_of_pictures
from page_support import Visitor, module
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser

TINY = {"image_size": 32, "latent_dim": 4, "batch_size": 8, "log_steps": 5, "num_steps": 10}


def add_pictures(site: Service) -> str:
    """Uploads 40 pictures, and returns the id of the data set."""
    answer = site.client.post("/datasets", data={"name": "sweep shapes"}, files={"file": ("a.zip", zip_of_pictures())})
    return str(answer.json()["id"])


def fill_settings(page: Page, values: dict[str, int]) -> None:
    """Fills the form's folded settings."""
    page.click("summary:has-text('All settings')")
    for name, value in values.items():
        field = page.locator(f'[name="config.{name}"]')
        field.select_option(str(value)) if name == "image_size" else field.fill(str(value))


def has_status(page: Page, status: str) -> None:
    """Waits until the page shows the sweep in a state."""
    expect(page.locator(".job-title .status")).to_have_text(status)


def test_runs_from_the_form_end_with_a_chosen_model(visitor: Visitor, site: Service) -> None:
    # Given the form with two seeds,
    page = visitor().open(f"/train?dataset={add_pictures(site)}")
    page.fill("#job-name", "two seeds")
    fill_settings(page, TINY)
    page.click("summary:has-text('Several runs')")
    page.fill('[name="seeds"]', "0-1")
    # when it is sent,
    page.get_by_role("button", name="Train 2 models").click()
    # then the sweep's page shows its trainings until one of their models is chosen,
    expect(page.get_by_role("heading", level=1)).to_have_text("two seeds")
    expect(page.locator(".done h2")).to_contain_text("The chosen model")
    sweep = site.client.get(f"/sweeps/{page.url.split('sweep=')[1]}").json()
    assert sweep["grid"] == {"seed": [0, 1]}
    assert {member["status"] for member in sweep["members"]} == {"succeeded"}
    expect(page.locator(".done")).to_contain_text(sweep["winner"]["reason"].rstrip("."))
    explore = page.get_by_role("link", name="Explore it")
    assert explore.get_attribute("href") == f"#/explore?model={sweep['winner']['model']}"
    # with the numbers of each, their means, and both pictures,
    rows = page.locator(".sweep-table").first.locator("tbody tr")
    expect(rows).to_have_count(2)
    chosen = next(member for member in sweep["members"] if member["model"] == sweep["winner"]["model"])
    row = page.locator(".sweep-table tr.chosen")
    expect(row.locator("th")).to_contain_text(f"seed {chosen['settings']['seed']}")
    expect(row.locator('[data-label="UDR"]')).to_have_text(f"{chosen['scores']['udr']['value']:.3f}")
    mean = sweep["cells"][0]["scores"]["model_centrality"]
    shown = page.locator(".sweep-table").nth(1).locator('[data-label="Centrality"]')
    expect(shown).to_have_text(f"{mean['mean']:.3f} ± {mean['std']:.3f}")
    for picture in (".sweep-figure", ".sweep-sheet"):
        page.wait_for_function("name => document.querySelector(name).naturalWidth > 300", arg=picture)
    table = page.get_by_role("link", name="All numbers as CSV").get_attribute("href") or ""
    assert site.client.get(table).text.count("\n") == 3
    # and the model can be made the default one.
    before = site.client.get("/models").json()["default"]
    page.get_by_role("button", name="Make it the default").click()
    expect(page.locator(".done")).to_contain_text("It is the default model.")
    assert site.client.get("/models").json()["default"] == sweep["winner"]["model"]
    site.client.put("/models/default", json={"id": before})


def test_a_sweep_is_one_entry_of_the_list(visitor: Visitor, quiet_site: Service) -> None:
    # Given a sweep of more trainings than a page of the list has, and an older training,
    pictures = add_pictures(quiet_site)
    job = quiet_site.client.post("/train-jobs", json={"name": "alone", "dataset": pictures, "config": TINY}).json()
    body = {"name": "many", "dataset": pictures, "config": TINY, "grid": {"seed": list(range(21))}}
    sweep = quiet_site.client.post("/sweeps", json={**body, "max_running": 21}).json()
    page = visitor(url=quiet_site.url).open("/train")
    # then the list has one entry of each.
    expect(page.locator(".job-list li a", has_text="alone")).to_have_attribute("href", f"#/train?job={job['id']}")
    expect(page.locator(f'.job-list [data-sweep="{sweep["id"]}"]')).to_contain_text(
        "Waiting for a worker: 21 trainings."
    )
    expect(page.locator(".job-list li", has_text="many")).to_have_count(1)
    # And a training of the sweep leads to it.
    page.goto(f"{quiet_site.url}/#/train?job={sweep['members'][0]['job']}")
    page.get_by_role("link", name="← Its sweep").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("many")
    expect(page.locator(".sweep-table tbody tr")).to_have_count(21)
    quiet_site.client.post(f"/sweeps/{sweep['id']}/cancel")


def test_the_buttons_steer_a_sweep(visitor: Visitor, quiet_site: Service) -> None:
    # Given a sweep that waits, since no worker is there,
    body = {"name": "steered", "dataset": add_pictures(quiet_site), "config": TINY, "grid": {"seed": [0, 1, 2]}}
    sweep = quiet_site.client.post("/sweeps", json={**body, "max_running": 2}).json()
    page = visitor(url=quiet_site.url).open(f"/train?sweep={sweep['id']}")
    expect(page.locator(".sentence")).to_have_text("Waiting for a worker: 3 trainings.")
    expect(page.locator("article")).to_contain_text("There is no model yet.")
    # when each button is pressed by the keyboard, then the sweep is in its state.
    for button, status in [("Pause", "paused"), ("Resume", "queued"), ("Cancel", "cancelled"), ("Try again", "queued")]:
        page.get_by_role("button", name=button, exact=True).focus()
        page.keyboard.press("Enter")
        has_status(page, status)
        assert quiet_site.client.get(f"/sweeps/{sweep['id']}").json()["status"] == status
    # One that is gone is said to be so.
    quiet_site.client.post(f"/sweeps/{sweep['id']}/cancel")
    quiet_site.client.delete(f"/sweeps/{sweep['id']}")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("This sweep is not here")


def test_an_answer_that_was_overtaken_is_not_shown(visitor: Visitor, quiet_site: Service) -> None:
    # Given a sweep whose state, asked for before it was paused, comes late,
    body = {"name": "late", "dataset": add_pictures(quiet_site), "config": TINY, "grid": {"seed": [0, 1]}}
    sweep = quiet_site.client.post("/sweeps", json=body).json()
    page = visitor(url=quiet_site.url).open(f"/train?sweep={sweep['id']}")
    has_status(page, "queued")
    with page.expect_request(f"**/sweeps/{sweep['id']}"):
        late: list[Route] = []
        page.route(f"**/sweeps/{sweep['id']}", lambda route: late.append(route))
    page.get_by_role("button", name="Pause").click()
    has_status(page, "paused")
    # when it comes, then the page does not go back to it.
    with page.expect_event("requestfinished", lambda request: request.url.endswith(sweep["id"])):
        late[0].fulfill(json=sweep)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator(".job-title .status").inner_text() == "paused"


def test_seeds_and_values_are_read(visitor: Visitor, quiet_site: Service) -> None:
    page = visitor(url=quiet_site.url).open("/train")
    schema = quiet_site.client.get("/openapi.json").json()["components"]["schemas"]
    read = "return argument.runs.map((runs) => { try { return it.gridOf(runs, argument.schema); } "
    read += "catch (problem) { return [problem.errors[0].field, problem.errors[0].message]; } });"
    cases: list[tuple[tuple[str, str, str], Any]] = [
        (("", "", ""), None),
        (("0-2", "", "4"), {"seed": [0, 1, 2]}),
        ((" 4, 7–8", "beta", "1, 4.5;16"), {"seed": [4, 7, 8], "beta": [1, 4.5, 16]}),
        (("", "objective", "beta btcvae"), {"objective": ["beta", "btcvae"]}),
        (("", "beta", "1, much"), {"beta": [1, "much"]}),
        (("", "beta", " , "), ["grid", "has no values of beta: write some, such as 1, 4, 16"]),
        (("2-1", "", ""), ["seeds", "go backwards: 2-1"]),
        (("-1", "", ""), ["seeds", "must be whole numbers such as 0-2 or 0, 1, 7"]),
        (("0-200", "", ""), ["seeds", "are more than 200, the most of a sweep"]),
    ]
    runs = [dict(zip(("seeds", "setting", "values"), runs, strict=True)) for runs, _ in cases]
    found = module(page, "train/sweep_fields.js", read, {"runs": runs, "schema": schema})
    assert found == [expected for _, expected in cases]


def test_a_refused_sweep_names_the_cell_and_starts_nothing(visitor: Visitor, quiet_site: Service) -> None:
    page = visitor(url=quiet_site.url).open("/train")
    before = quiet_site.client.get("/sweeps").json()
    page.click("summary:has-text('Several runs')")
    page.fill('[name="seeds"]', "0-x")
    page.click("button[type=submit]")
    expect(page.locator('[name="seeds"]')).to_be_focused()
    page.fill('[name="seeds"]', "0-1")
    page.select_option('[name="setting"]', "latent_dim")
    page.fill('[name="grid"]', "4, 0")
    page.get_by_role("button", name="Train 4 models").click()
    expect(page.locator(".sweep-fields .field-error")).to_contain_text("cell {seed: 0, latent_dim: 0}")
    expect(page.locator('[name="grid"]')).to_be_focused()
    assert quiet_site.client.get("/sweeps").json() == before
