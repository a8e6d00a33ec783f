"""`betavae jobs`, `betavae disk`, and what `betavae datasets` and `betavae models` show and remove."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api_support import add_model
from PIL import Image

from training.config import TrainingConfig, config_to_json
from training.lengths import OpenLength
from worker.jobs.queue import open_job_store
from worker.jobs.store import JobStore
from worker.stores.settings import Settings
from worker.stores.storage import LocalStorage

Betavae = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data folder of the commands."""
    return tmp_path / "home"


@pytest.fixture
def jobs(home: Path, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """The job store of a running service."""
    monkeypatch.setenv("BETAVAE_REDIS_URL", redis_server)
    store = open_job_store(Settings(home=home, redis_url=redis_server), LocalStorage(home))
    yield store
    store.redis.close()


def make_job(jobs: JobStore, name: str) -> str:
    config = {"num_steps": 100, "num_epochs": None}
    return jobs.create("train", {"dataset": "squares", "config": config}, name=name).id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        Image.new("L", (32, 32), 40 * i).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_jobs_are_listed_shown_and_steered_by_name(betavae: Betavae, capsys: Capture, jobs: JobStore) -> None:
    first, second = make_job(jobs, "faces"), make_job(jobs, "shapes")
    assert betavae("jobs") == 0
    said = capsys.readouterr().out
    assert first in said
    assert second in said
    assert betavae("jobs", "list", "--json") == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == [second, first]
    assert betavae("jobs", "show", "faces") == 0
    assert json.loads(capsys.readouterr().out)["progress"]["num_steps"] == 100
    assert betavae("jobs", "cancel", "faces") == 0
    assert capsys.readouterr().out == f"{first} (faces): cancelled\n"
    assert betavae("jobs", "pause", first) == 1
    assert f"Job {first} is cancelled; it cannot be paused." in capsys.readouterr().err
    assert betavae("jobs", "delete", first) == 0
    assert betavae("jobs", "show", first) == 1
    assert f"there is no job with the id or the name {first}" in capsys.readouterr().err


def test_a_job_whose_length_is_open_shows_no_length_until_it_has_one(
    betavae: Betavae, capsys: Capture, jobs: JobStore
) -> None:
    config = config_to_json(TrainingConfig())
    request = {"dataset": "squares", "config": config, "length": OpenLength(minutes=None).to_json()}
    unknown = {"num_steps": None, "seconds": None, "passes": None, "settled": False}
    known = {"num_steps": 6500, "seconds": 300, "passes": 20.0, "settled": True}
    for name, estimate in (("open", unknown), ("settled", known)):
        jobs.create("train", request, name=name, estimate=estimate)
        assert betavae("jobs", "show", name) == 0
        out, err = capsys.readouterr()
        shown = json.loads(out)
        assert shown["request"]["config"] == config | {"num_steps": estimate["num_steps"]}
        assert shown["progress"]["num_steps"] == estimate["num_steps"]
        assert ("the number of steps is settled when a worker begins the job" in err) == (name == "open")
    assert betavae("jobs", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [job["request"]["config"]["num_steps"] for job in listed] == [6500, None]


def test_an_ambiguous_name_is_one_line_with_the_ids(betavae: Betavae, capsys: Capture, jobs: JobStore) -> None:
    first, second = make_job(jobs, "faces"), make_job(jobs, "faces")
    assert betavae("jobs", "show", "faces") == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "2 jobs have the name faces" in said
    assert first in said
    assert second in said


def test_without_a_service_jobs_are_shown_as_they_were_stored(
    betavae: Betavae, capsys: Capture, jobs: JobStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = make_job(jobs, "faces")
    monkeypatch.setenv("BETAVAE_REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    assert betavae("jobs", "list") == 0
    said = capsys.readouterr()
    assert first in said.out
    assert "the service does not run" in said.err
    assert betavae("jobs", "show", "faces") == 0
    assert json.loads(capsys.readouterr().out)["id"] == first
    assert betavae("jobs", "cancel", "faces") == 1
    assert "does not run; `betavae serve` starts it" in capsys.readouterr().err


def test_ids_are_whole_on_a_narrow_terminal(
    betavae: Betavae, capsys: Capture, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = "a-model-with-a-name-that-is-as-long-as-a-name-may-be-in-an-id-0123ab"
    add_model(LocalStorage(home), model_id)
    monkeypatch.setenv("COLUMNS", "60")
    assert betavae("models", "list") == 0
    assert model_id in capsys.readouterr().out


def test_a_data_set_is_shown_listed_and_removed_by_name(betavae: Betavae, capsys: Capture, folder: Path) -> None:
    assert betavae("datasets", "add", "My Squares", folder) == 0
    assert betavae("datasets", "rejected", "My Squares") == 1
    assert "was not packed yet" in capsys.readouterr().err
    assert betavae("datasets", "pack", "My Squares", "--image-size", "32") == 0
    capsys.readouterr()
    assert betavae("datasets", "show", "My Squares") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["num_images"], shown["num_rejected"]) == ("my-squares", 6, 1)
    assert betavae("datasets", "rejected", "my-squares") == 0
    assert capsys.readouterr().out.startswith("broken.png: ")
    assert betavae("datasets", "delete", "My Squares") == 0
    assert "my-squares: deleted; " in capsys.readouterr().out
    assert len(list(folder.iterdir())) == 7
    assert betavae("datasets", "show", "My Squares") == 1
    assert "no data set 'My Squares'" in capsys.readouterr().err


def test_the_same_folder_is_not_added_twice(betavae: Betavae, capsys: Capture, folder: Path) -> None:
    for _ in range(2):
        assert betavae("datasets", "add", "squares", folder) == 0
    said = capsys.readouterr()
    assert said.out == "squares\nsquares\n"
    assert "is this data set already; nothing was added" in said.err
    assert betavae("datasets", "add", "other", folder) == 0
    said = capsys.readouterr()
    assert said.out == "other\n"
    assert "is also the data set squares" in said.err


def test_a_data_set_that_a_job_needs_is_not_removed(
    betavae: Betavae, capsys: Capture, jobs: JobStore, folder: Path
) -> None:
    assert betavae("datasets", "add", "squares", folder) == 0
    job_id = make_job(jobs, "faces")
    assert betavae("datasets", "delete", "squares") == 1
    assert f"the job {job_id} is queued and needs it" in capsys.readouterr().err


def test_a_renamed_model_is_found_by_its_new_name(betavae: Betavae, capsys: Capture, home: Path) -> None:
    add_model(LocalStorage(home), "tiny")
    assert betavae("models", "rename", "tiny", "Fine Model") == 0
    assert "tiny: the name was tiny and is now Fine Model; the id stays" in capsys.readouterr().err
    assert betavae("models", "show", "Fine Model") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Fine Model"
    assert betavae("models", "default", "Fine Model") == 0
    assert betavae("models", "delete", "Fine Model") == 0


def test_disk_says_what_takes_how_much_and_what_can_go(
    betavae: Betavae, capsys: Capture, home: Path, jobs: JobStore
) -> None:
    waiting, done = make_job(jobs, "waiting"), make_job(jobs, "done")
    jobs.cancel(done)
    (home / "jobs" / done / "checkpoints").mkdir()
    (home / "jobs" / done / "checkpoints" / "a").write_bytes(b"x" * 5_000_000)
    (home / "runs" / "faces").mkdir(parents=True)
    (home / "runs" / "faces" / "b").write_bytes(b"x" * 2_000_000)
    add_model(LocalStorage(home), "tiny")
    assert betavae("disk") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[1].split()[:3] == ["5.0", "MB", f"jobs/{done}"]
    assert f"betavae jobs delete {done}" in lines[1]
    assert lines[2].split()[:3] == ["2.0", "MB", "runs/faces"]
    assert "betavae models delete tiny" in said
    assert "are free" in lines[-1]
    assert betavae("disk", "--json") == 0
    uses = {use["what"]: use for use in json.loads(capsys.readouterr().out)}
    assert uses["runs/faces"]["num_bytes"] == 2_000_000
    assert uses[f"jobs/{waiting}"]["can_go"] == "not yet; it has not finished"
