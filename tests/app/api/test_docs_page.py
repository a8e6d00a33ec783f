"""/docs shows the whole API without any file from another host."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_support import Service, service
from page_support import chromium, skip_without_chromium
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("docs"), redis_process) as running:
        yield running


def test_the_page_refers_to_no_other_host(api: Service) -> None:
    page = api.client.get("/docs").text
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page) == []
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        answer = api.client.get(address)
        assert answer.status_code == 200
        assert len(answer.content) > 500


def test_every_operation_has_a_summary_a_text_and_a_tag(api: Service) -> None:
    schema = api.client.get("/openapi.json").json()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert len(operations) >= 30
    for operation in operations:
        assert operation["summary"]
        assert operation["description"], operation["summary"]
        assert operation["tags"]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)


def test_what_a_post_makes_is_linked_to_the_operations_on_it(api: Service) -> None:
    paths = api.client.get("/openapi.json").json()["paths"]
    named = {one["operationId"]: path for path, operations in paths.items() for one in operations.values()}
    linked: dict[str, set[str]] = {}
    for operation in (one for operations in paths.values() for one in operations.values()):
        for answer in operation["responses"].values():
            for name, link in answer.get("links", {}).items():
                assert set(link["parameters"]) == set(re.findall(r"\{(\w+)\}", named[link["operationId"]]))
                linked.setdefault(operation["operationId"], set()).add(name)
    assert set(linked) == {
        "createTraversal", "importModel", "createTrainJob", "createSweep", "createDataset", "createEvaluation",
        "packDataset",
    }  # fmt: skip
    assert linked["createDataset"] == {
        "getDataset", "deleteDataset", "listRejectedFiles", "getDatasetSample", "packDataset",
    }  # fmt: skip
    assert {"getTrainJob", "cancelTrainJob", "deleteTrainJob", "retryTrainJob"} < linked["createTrainJob"]
    assert not {"getCapacityFigure", "getSweepFigure"} & (linked["createTrainJob"] | linked["createSweep"])
    (evaluation,) = (
        answer["links"]["getEvaluation"]["parameters"]
        for status, answer in paths["/models/{model_id}/evaluations"]["post"]["responses"].items()
        if status == "202"
    )
    assert evaluation == {"model_id": "$request.path.model_id", "evaluation_id": "$response.body#/id"}


def test_names_are_described_as_they_are_checked(api: Service) -> None:
    schema = api.client.get("/openapi.json").json()
    kinds = schema["components"]["schemas"]
    described = [kinds[kind]["properties"]["name"]["pattern"] for kind in ("DatasetForm", "ModelForm", "TraversalForm")]
    for text, is_name in (("", True), (" a.b_c (1)-2 ", True), ("x" * 100, True), ("x" * 101, False), (" ", False),
                          ("_a", False), ("a/b", False), ("ä", False), ("a\nb", False)):  # fmt: skip
        assert [bool(re.fullmatch(pattern, text)) for pattern in described] == [is_name] * 3, text
        if text:
            file: dict[str, Any] = {"content": b"", "headers": {"Content-Type": "application/zip"}}
            form = {"data": {"name": "own"}, "files": {"file": ("a.zip", b"")}}
            for body in (file, form):
                answer = api.client.post("/datasets", params={"name": text}, **body)
                assert [error["field"] for error in answer.json()["errors"]] == ["file" if is_name else "name"], text


@pytest.mark.browser
def test_a_browser_renders_the_page_without_requests_to_other_hosts(api: Service, tmp_path: Path) -> None:
    skip_without_chromium()
    schema = api.client.get("/openapi.json").json()
    asked: list[str] = []
    complaints: list[str] = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{api.url}/docs", wait_until="networkidle")
        num_operations = sum(len(path) for path in schema["paths"].values())
        expect(page.locator(".opblock")).to_have_count(num_operations, timeout=60_000)
        page.locator("#operations-traversals-createTraversal .opblock-summary").click()
        page.wait_for_selector(".opblock-body input[type=file]")
        page.screenshot(path=os.environ.get("DOCS_SCREENSHOT", tmp_path / "docs.png"), full_page=True)
    assert [url for url in asked if not url.startswith((api.url, "data:"))] == []
    assert complaints == []
