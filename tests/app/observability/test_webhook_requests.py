"""The field `webhook` of POST /train-jobs, and the settings that allow it."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_support import Service, assert_problem, service, zip_of_pictures

from worker.stores.settings import PREFIX, Settings, SettingsError, load_settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRAINING: dict[str, Any] = {"dataset": "dsprites", "config": {"num_steps": 10}}


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers, which may send messages to one host."""
    options: dict[str, Any] = {"webhook_secret": SECRET, "webhook_hosts": "lab.example"}
    with service(tmp_path_factory.mktemp("webhooks"), redis_process, **options) as running:
        yield running


def test_the_job_keeps_the_address_and_shows_it_to_nobody(api: Service) -> None:
    url = "https://lab.example/hook?key=abc"
    job = api.client.post("/train-jobs", json={**TRAINING, "webhook": url})
    assert job.status_code == 202
    kept = (api.settings.home / "jobs" / job.json()["id"] / "job.json").read_text()
    assert f'"webhook": "{url}"' in kept
    assert "lab.example" not in job.text + api.client.get(job.headers["location"]).text


def test_a_form_has_the_field_too(api: Service) -> None:
    files = {"file": ("a.zip", zip_of_pictures())}
    answer = api.client.post("/train-jobs", data={"webhook": "https://other.example/"}, files=files)
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "webhook"
    answer = api.client.post("/train-jobs", data={"webhook": "https://lab.example/"}, files=files)
    assert answer.status_code == 202


def test_an_address_that_is_not_listed_is_refused(api: Service) -> None:
    answer = api.client.post("/train-jobs", json={**TRAINING, "webhook": "http://169.254.169.254/"})
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "webhook"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sweeps", {**TRAINING, "grid": {"seed": [0, 1]}}),
        ("/models/tiny/evaluations", {"dataset": "dsprites"}),
    ],
)
def test_sweeps_and_evaluations_have_the_field_too(api: Service, path: str, body: dict[str, Any]) -> None:
    answer = api.client.post(path, json={**body, "webhook": "https://other.example/"})
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["field"] == "webhook"
    url = "https://lab.example/hook?key=abc"
    answer = api.client.post(path, json={**body, "webhook": url})
    assert answer.status_code == 202
    kept, name = ("sweeps", "sweep.json") if path == "/sweeps" else ("jobs", "job.json")
    assert f'"webhook": "{url}"' in (api.settings.home / kept / answer.json()["id"] / name).read_text()
    assert "lab.example" not in answer.text + api.client.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("secret", "hosts", "name"),
    [
        ("abc", "lab.example", "WEBHOOK_SECRET"),
        ("whsec_c2hvcnQ=", "", "WEBHOOK_SECRET"),
        ("whsec_not base64, but long enough", "", "WEBHOOK_SECRET"),
        (SECRET, "https://lab.example", "WEBHOOK_HOSTS"),
        (SECRET, "*", "WEBHOOK_HOSTS"),
        ("", "lab.example", "WEBHOOK_HOSTS"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, secret: str, hosts: str, name: str
) -> None:
    monkeypatch.setenv(f"{PREFIX}WEBHOOK_SECRET", secret)
    monkeypatch.setenv(f"{PREFIX}WEBHOOK_HOSTS", hosts)
    with pytest.raises(SettingsError, match=f"{PREFIX}{name}"):
        load_settings()


def test_webhooks_are_off_by_default() -> None:
    assert Settings(webhook_secret="", webhook_hosts="").webhook_host_names == ()
