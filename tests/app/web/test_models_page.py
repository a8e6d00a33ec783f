"""The view "Models": cards, changes, evaluation, import, deletion with undo, comparison, data sets."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from api_support import Service, add_model, picture, zip_of_pictures
from page_support import Visitor
from playwright.sync_api import Locator, Page, expect

from worker.stores.storage import LocalStorage

pytestmark = pytest.mark.browser


def _card(page: Page, model_id: str) -> Locator:
    return page.locator(f'[data-model="{model_id}"]')


def _open(visitor: Visitor, site: Service, *models: str) -> Page:
    for model in models:
        add_model(LocalStorage(site.settings.home), model, num_channels=3)
    page = visitor().open("/models")
    page.wait_for_selector("[data-model=chairs] canvas[data-drawn]")
    return page


def _pixels(canvas: Locator) -> list[int]:
    values: list[int] = canvas.evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    return values


def test_a_card_says_what_the_model_is_and_how_good(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    card = _card(page, "chairs")
    metrics = site.client.get("/models/chairs").json()["metrics"]
    low, high = metrics["mig"]["interval"]
    expect(card).to_contain_text(f"{metrics['mig']['value']:.3f} ({low:.3f} to {high:.3f})")
    expect(card).to_contain_text("11 of 12 latents in use")
    expect(card).to_contain_text("Rendered chairs, 65\u202f536 pictures")


def test_a_refused_list_shows_no_cards_and_can_be_asked_for_again(visitor: Visitor, site: Service) -> None:
    tab = visitor()
    refused = {"title": "", "status": 503, "detail": "For the test.", "code": "job_store_unavailable"}
    tab.page.route("**/models?limit=*", lambda route: route.fulfill(status=503, json=refused))
    page = tab.open("/models")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Dismiss").click()
    tab.page.unroute("**/models?limit=*")
    page.get_by_role("button", name="Try again").click()
    expect(_card(page, "chairs")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_strongest_latent_moves_while_the_pointer_is_on_the_card(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    canvas = _card(page, "chairs").locator("canvas")
    still = _pixels(canvas)
    _card(page, "chairs").hover()
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.join() !== window.still"
    page.evaluate("still => { window.still = still.join(); }", still)
    page.wait_for_function(f"() => ({drawn})(document.querySelector('[data-model=chairs] canvas'))")
    page.mouse.move(0, 0)
    page.wait_for_function(f"() => !({drawn})(document.querySelector('[data-model=chairs] canvas'))")


def test_nothing_moves_for_visitors_who_want_less_motion(visitor: Visitor, site: Service) -> None:
    tab = visitor(reduced_motion="reduce")
    page = tab.open("/models")
    page.wait_for_selector("[data-model=chairs] canvas[data-drawn]")
    canvas = _card(page, "chairs").locator("canvas")
    still = _pixels(canvas)
    _card(page, "chairs").hover()
    for _ in range(20):
        page.evaluate("() => new Promise(done => requestAnimationFrame(done))")
    assert _pixels(canvas) == still


def test_a_model_is_renamed_and_its_latents_labelled(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site, "to-rename")
    card = _card(page, "to-rename")
    card.get_by_role("button", name="Rename and label").click()
    card.get_by_label("Name", exact=True).fill("Renamed here")
    card.locator('[name="dimension_labels.2"]').fill("wider")
    card.get_by_role("button", name="Save").click()
    expect(card.get_by_role("heading")).to_have_text("Renamed here")
    model = site.client.get("/models/to-rename").json()
    assert (model["name"], model["dimension_labels"]) == ("Renamed here", ["", "", "wider", ""])


def test_a_name_that_is_refused_says_why_beside_the_form(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site, "to-misname")
    card = _card(page, "to-misname")
    card.get_by_role("button", name="Rename and label").click()
    card.get_by_label("Name", exact=True).fill("a/b\\c")
    card.get_by_role("button", name="Save").click()
    expect(card.locator('.banner[data-code="invalid_request"]')).to_contain_text("name")
    expect(card.get_by_label("Name", exact=True)).to_be_focused()
    card.get_by_role("button", name="Dismiss").click()
    expect(card.locator(".banner")).to_have_count(0)


def test_the_default_model_changes(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    before = site.client.get("/models").json()["default"]
    _card(page, "chairs").get_by_role("button", name="Make default").click()
    expect(_card(page, "chairs").locator(".badge.accent")).to_have_text("default")
    assert site.client.get("/models").json()["default"] == "chairs"
    site.client.put("/models/default", json={"id": before})


def test_a_deletion_is_undone(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site, "to-keep")
    _card(page, "to-keep").get_by_role("button", name="Delete").click()
    expect(_card(page, "to-keep")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(_card(page, "to-keep")).to_have_count(1)
    assert site.client.get("/models/to-keep").status_code == 200


def test_a_deletion_is_carried_out_when_the_page_is_left(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site, "to-delete")
    _card(page, "to-delete").get_by_role("button", name="Delete").click()
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while site.client.get("/models/to-delete").status_code != 404:
        assert time.monotonic() < deadline


def test_shipped_models_cannot_be_deleted_or_renamed(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    names = _card(page, "chairs").get_by_role("button").all_inner_texts()
    assert not {"Delete", "Rename and label"} & set(names)


def test_an_exported_model_is_imported_again(visitor: Visitor, site: Service, tmp_path: Path) -> None:
    page = _open(visitor, site, "to-export")
    card = _card(page, "to-export")
    card.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        card.get_by_role("link", name="Bundle").click()
    bundle = tmp_path / "bundle.zip"
    download.value.save_as(bundle)
    known = {model["id"] for model in site.client.get("/models").json()["models"]}
    page.set_input_files("#import-model", bundle)
    new = page.locator("[data-model][data-new]")
    expect(new).to_contain_text("to-export")
    assert new.get_attribute("data-model") not in known


def test_a_file_that_is_no_model_is_refused_where_it_was_dropped(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    page.set_input_files("#import-model", {"name": "x.safetensors", "mimeType": "", "buffer": b"no model"})
    banner = page.locator('.add-card .banner[data-code="invalid_model"]')
    expect(banner).to_contain_text("The file is not a model.")
    banner.locator("summary").click()
    expect(banner.locator("pre")).to_contain_text("invalid_model (HTTP 422)")


def test_two_models_are_compared_on_one_picture(visitor: Visitor, site: Service, tmp_path: Path) -> None:
    page = _open(visitor, site)
    page.locator(".compare").scroll_into_view_if_needed()
    page.select_option("#compare-0", "chairs")
    page.select_option("#compare-1", "tiny-rgb")
    (tmp_path / "own.png").write_bytes(picture(3))
    expect(page.locator(".compared[data-seen]")).to_have_count(2)
    page.set_input_files("#compare-picture", tmp_path / "own.png")
    page.wait_for_function("() => !document.querySelector('.tile[aria-pressed=true]')")
    answer = site.client.post("/models/chairs/encode", files={"image": ("own.png", picture(3), "image/png")}).json()
    # The text of the picture before stays until the new one is encoded.
    kl = sum(answer["kl_per_dimension"])
    near = "|".join(re.escape(f"{kl + off:.1f}") for off in (-0.05, 0, 0.05))
    expect(page.locator(".compare-pair [role=status]").first).to_contain_text(re.compile(f"KL (?:{near}) nats"))
    assert "compare=chairs,tiny-rgb" in page.url
    page.reload()
    expect(page.locator("#compare-1")).to_have_value("tiny-rgb")


def test_a_dropped_data_set_is_shown_with_its_counts_and_what_was_left_out(visitor: Visitor, site: Service) -> None:
    page = _open(visitor, site)
    upload: Any = {"name": "mixed bag.zip", "mimeType": "application/zip", "buffer": zip_of_pictures(12, broken=2)}
    page.set_input_files("#add-pictures", upload)
    page.get_by_role("button", name="Add data set").click()
    card = page.locator("[data-dataset][data-new]")
    expect(card).to_contain_text("mixed bag")
    expect(card).to_contain_text("12 pictures, 2 left out")
    page.wait_for_function("() => document.querySelector('[data-dataset][data-new] img').naturalWidth === 512")
    card.locator("summary").click()
    expect(card.locator(".rejected")).to_contain_text("not an image: 2")
    expect(card.locator(".rejected")).to_contain_text("shapes/broken-0.png")
    dataset = str(card.get_attribute("data-dataset"))
    card.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f'[data-dataset="{dataset}"]')).to_have_count(1)


def test_an_evaluation_is_started_and_followed(visitor: Visitor, site: Service) -> None:
    files = {"file": ("few.zip", zip_of_pictures(40), "application/zip")}
    dataset: dict[str, Any] = site.client.post("/datasets", data={"name": "few for scores"}, files=files).json()
    page = _open(visitor, site, "to-evaluate")
    card = _card(page, "to-evaluate")
    card.locator("select").select_option(dataset["id"])
    card.get_by_role("button", name="Evaluate").click()
    expect(card.locator(".ended")).to_contain_text("reconstruction loss", timeout=180_000)
    (evaluation,) = site.client.get("/models/to-evaluate/evaluations").json()["evaluations"]
    assert f"{evaluation['result']['reconstruction_loss']:.1f} nats" in card.locator(".ended").inner_text()


def test_all_pages_of_the_models_are_shown(visitor: Visitor, site: Service) -> None:
    tab = visitor()
    tab.page.route("**/models?limit=200*", lambda route: route.continue_(url=route.request.url.replace("200", "1")))
    page = tab.open("/models")
    ids = [model["id"] for model in site.client.get("/models").json()["models"]]
    assert len(ids) >= 2
    expect(page.locator("[data-model]")).to_have_count(len(ids))
    assert page.locator("[data-model]").evaluate_all("cards => cards.map(c => c.dataset.model)") == ids
