"""The commands of `betavae` that need no server."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from app.cli import train as cli_train
from app.cli.output import LINE_WIDTH, Report, progress
from app.main import VERSION
from models.info import read_info
from training.config import all_settings
from training.data.packs import open_pack
from worker.rendering.request import TraversalRequest

ROOT = Path(__file__).resolve().parents[3]
DRAWN = ("--image-size", "32", "--latent-dim", "3", "--batch-size", "8", "-c", "num_steps=12", "-c", "log_steps=4")
SMALL = (*DRAWN, "-c", "preview_steps=0")
"""Options of a short run; previews would take most of its time, and only DRAWN has them."""

Betavae = Callable[..., int]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks on shared cores are slower with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 pictures and one file that is not a picture."""
    folder = tmp_path_factory.mktemp("squares")
    for number in range(40):
        picture = np.zeros((32, 32), np.uint8)
        picture[number % 20 : number % 20 + 8, number // 2 : number // 2 + 8] = 255
        Image.fromarray(picture).save(folder / f"{number:02d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model."""
    from models.config import NetworkConfig
    from models.files import save_model
    from models.info import ModelInfo, Preprocessing
    from models.networks import VAE

    folder = tmp_path_factory.mktemp("model") / "small"
    config = NetworkConfig(image_size=32, latent_dim=3)
    info = ModelInfo(
        name="small",
        network=config,
        preprocessing=Preprocessing(image_size=32),
        kl_per_dimension=[2.0, 0.0, 1.0],
        dataset={"id": "squares"},
    )
    save_model(folder, VAE(config), info)
    return folder


@pytest.mark.parametrize(
    "command", ["", "serve", "train", "traverse", "evaluate", "datasets", "models", "jobs", "disk"]
)
def test_each_command_has_help(betavae: Betavae, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert betavae(*command.split(), "--help") == 0
    assert "Usage: betavae" in capsys.readouterr().out


def test_the_version_is_printed(betavae: Betavae, capsys: pytest.CaptureFixture[str]) -> None:
    assert betavae("--version") == 0
    assert capsys.readouterr().out == f"betavae {VERSION}\n"


def test_help_loads_no_torch() -> None:
    program = """
import sys
sys.argv = ["betavae", "train", "--help"]
from app.cli import main as cli
try:
    cli.main()
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "settings", "leave_out"),
    [("train", {*all_settings()}, set()), ("traverse", {*TraversalRequest.model_fields}, {"format"})],
)
def test_every_setting_is_an_option(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], command: str, settings: set[str], leave_out: set[str]
) -> None:
    betavae(command, "--help")
    text = capsys.readouterr().out
    for name in settings:
        assert (f"--{name.replace('_', '-')} " in text) == (name not in leave_out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "SQUARES", "--gamma", "-1"], 2, "gamma: must be at least 0"),
        (["train", "SQUARES", "--image-size", "65"], 2, "image_size: must be one of 32, 64, 128"),
        (["train", "SQUARES", "-c", "speed=9"], 2, "speed"),
        (["train", "SQUARES", "-c", "seed"], 2, "KEY=VALUE"),
        (["train", "SQUARES", "-c", "seed=x"], 2, "seed"),
        (["train", "SQUARES", "--seed", "x"], 2, "--seed"),
        (["train", "SQUARES", "--preset", "mnist"], 2, "preset: must be one of"),
        (["train"], 2, "dataset: is missing"),
        (["train", "nothing"], 1, "no data set and no file or folder 'nothing'; there are dsprites"),
        (["train", "EMPTY"], 1, "EMPTY"),
        (["train", "SQUARES", "--device", "gpu"], 2, "BETAVAE_DEVICE: must be auto, cpu, or cuda:N"),
        (["traverse", "--seed", "1", "-m", "nothing"], 1, "no model 'nothing'"),
        (["traverse", "-m", "MODEL"], 2, "image: is missing"),
        (["traverse", "absent.png", "-m", "MODEL"], 1, "betavae: absent.png: no such file"),
        (["traverse", "EMPTY", "-m", "MODEL"], 1, "EMPTY: is a directory"),
        (["traverse", "SQUARES/broken.png", "-m", "MODEL"], 1, "broken.png: not a picture"),
        (["traverse", "--seed", "1", "-m", "MODEL", "-o", "/dev/null/a"], 1, "betavae: /dev/null"),
        (["train", "SQUARES", "--seed", "2147483648"], 2, "seed: must be at most 2147483647, not 2147483648"),
        (["traverse", "--seed", "1", "-m", "MODEL", "--dimensions", "7"], 2, "dimensions"),
        (["traverse", "--seed", "1", "-m", "MODEL", "-o", "a.doc"], 1, "suffixes"),
        (["datasets", "add", "empty", "EMPTY"], 1, "no files"),
        (["datasets", "add", "/", "SQUARES"], 2, "name"),
        (["models", "delete", "nothing"], 1, "no model with the id nothing"),
        (["models", "import", "EMPTY"], 1, "model.json"),
        (["serve", "--port", "99999"], 2, "BETAVAE_PORT"),
        (["sing"], 2, "No such command"),
        (["train", "--sing"], 2, "No such option"),
    ],
)
def test_a_users_mistake_prints_one_line(
    betavae: Betavae,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    squares: Path,
    small_model: Path,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"SQUARES": squares, "EMPTY": tmp_path / "EMPTY", "MODEL": small_model}
    for name, place in places.items():
        arguments = [a.replace(name, str(place)) if a.startswith(name) else a for a in arguments]
    assert betavae(*arguments) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("betavae: ")]
    assert len(errors) == 1
    assert words in errors[0]


def test_help_shows_bounds_in_full(betavae: Betavae, capsys: pytest.CaptureFixture[str]) -> None:
    assert betavae("train", "--help") == 0
    text = capsys.readouterr().out
    assert "≤ 2147483647" in text
    assert "e+0" not in text


def test_an_unknown_setting_prints_one_line(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BETAVAE_PROT", "8001")
    assert betavae("serve") == 2
    assert capsys.readouterr().err == "betavae: BETAVAE_PROT is not a setting; did you mean BETAVAE_PORT?\n"


def test_a_folder_is_registered_packed_and_listed(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(squares, tmp_path / "folder")
    assert betavae("datasets", "add", "My squares", folder) == 0
    dataset_id = capsys.readouterr().out.strip()
    assert betavae("datasets", "pack", dataset_id, "--image-size", "32") == 0
    assert "broken.png" in capsys.readouterr().err
    assert betavae("datasets", "list", "--json") == 0
    records = {record["id"]: record for record in json.loads(capsys.readouterr().out)}
    assert records[dataset_id]["num_images"] == 40
    assert records[dataset_id]["num_rejected"] == 1
    assert "dsprites" in records
    shutil.copy(folder / "00.png", folder / "later.png")
    assert betavae("datasets", "pack", dataset_id, "--image-size", "32") == 0
    assert capsys.readouterr().out.startswith("41 images")


@pytest.fixture
def interrupted(betavae: Betavae, monkeypatch: pytest.MonkeyPatch) -> Betavae:
    """Runs a command like `betavae`, and sends Ctrl-C at the first report of a training."""

    @contextmanager
    def progress(label: str) -> Iterator[Report]:
        def report(done: int, total: int, text: str = "") -> None:
            if text:
                os.kill(os.getpid(), signal.SIGINT)

        yield report

    def run(*arguments: object) -> int:
        with monkeypatch.context() as context:
            context.setattr(cli_train, "progress", progress)
            return betavae(*arguments)

    return run


def test_training_that_was_stopped_goes_on_to_the_same_model(
    betavae: Betavae, interrupted: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    train = ("train", squares, "--name", "mine", *SMALL)
    assert betavae(*train, "-o", tmp_path / "whole", "--no-register") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'whole' / 'model'}\n"

    assert interrupted(*train) == 1
    said = capsys.readouterr().err
    assert "stopped at step 4; the same command goes on from there, and with --finish it cools down" in said
    assert "going on" not in said
    assert betavae(*train) == 0
    printed = capsys.readouterr()
    model_id = printed.out.strip()
    assert printed.err.index("going on from step 4\n") < printed.err.index("mine: 100 % (12/12)")

    weights = "model.safetensors"
    whole = tmp_path / "whole" / "model" / weights
    assert (tmp_path / "home" / "models" / model_id / weights).read_bytes() == whole.read_bytes()
    assert betavae(*train) == 0  # Repeating the command registers no second model.
    assert capsys.readouterr().out.strip() == model_id


def test_a_folder_has_one_run_at_a_time(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", squares, "--no-register", *SMALL)
    codes: list[int] = []

    @contextmanager
    def progress(label: str) -> Iterator[Report]:
        def report(done: int, total: int, text: str = "") -> None:
            if text and not codes:
                codes.append(1)  # The second run begins while the first one trains.
                codes.append(betavae(*train, "-c", "seed=1"))

        yield report

    monkeypatch.setattr(cli_train, "progress", progress)
    assert betavae(*train) == 0
    assert codes == [1, 1]
    assert "another run is writing there" in capsys.readouterr().err
    assert read_info(tmp_path / "home" / "runs" / squares.name / "model").training["seed"] == 0
    assert betavae(*train, "--no-resume", "-c", "seed=2") == 0


def test_a_run_refuses_a_folder_that_contains_the_pictures(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(squares, tmp_path / "all" / "squares")
    assert betavae("datasets", "add", "registered", folder) == 0
    for dataset in ("registered", folder):
        for output in (folder, folder.parent):
            assert betavae("train", dataset, "-o", output, "--no-register", *SMALL) == 2
            assert "--output: holds the pictures" in capsys.readouterr().err
            assert not (output / ".betavae").exists()
    assert betavae("train", folder, "-o", folder / "run", "--no-register", *SMALL) == 0


def test_a_run_goes_on_after_the_model_that_it_started_from_is_gone(
    betavae: Betavae, interrupted: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    assert betavae("train", squares, "-o", tmp_path / "first", "--no-register", *SMALL) == 0
    train = ("train", squares, "--from", tmp_path / "first" / "model", "--no-register", *SMALL)
    assert interrupted(*train) == 1
    shutil.rmtree(tmp_path / "first")
    capsys.readouterr()
    assert betavae(*train) == 0
    said = capsys.readouterr().err
    assert "going on from step 4" in said
    assert "--from counts only for a new run" in said


def test_a_note_says_that_a_set_without_factors_has_no_scores(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path
) -> None:
    assert betavae("train", squares, "--metrics", "mig", "--no-register", *SMALL) == 0
    assert "no scores: the set has no factors" in capsys.readouterr().err


def test_too_little_memory_prints_one_line(tmp_path: Path) -> None:
    """The first layer needs more than the 256 MiB that are left beside the libraries."""
    np.save(tmp_path / "many.npy", np.random.default_rng(0).integers(0, 256, (512, 128, 128), dtype=np.uint8))
    arguments = ("train", tmp_path / "many.npy", *SMALL, "--image-size", 128, "--batch-size", 512)
    program = f"""
import resource, sys
import app.cli.main, training.loop, worker.rendering.labels
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, resource.RLIM_INFINITY))
sys.argv = ["betavae", *{[str(argument) for argument in arguments]}]
app.cli.main.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BETAVAE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert "too little memory for batches of 512 images" in last
    assert "take a smaller batch_size" in last
    assert "Traceback" not in done.stderr


def test_a_run_goes_on_with_the_images_it_began_with(
    betavae: Betavae, interrupted: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(squares, tmp_path / "folder")
    assert betavae("datasets", "add", "registered", folder) == 0
    dataset_id = capsys.readouterr().out.strip()
    for dataset in (dataset_id, folder):
        train = ("train", dataset, "--name", f"from {Path(dataset).name}", "--no-register", *SMALL)
        assert interrupted(*train) == 1
        shutil.copy(folder / "00.png", folder / f"later {Path(dataset).name}.png")
        assert betavae(*train) == 0
        said = capsys.readouterr().err
        assert "going on from step 4" in said
        assert "the pictures have changed since they were packed" in said
        # An evaluation of the model resumes no run.
        model = tmp_path / "home" / "runs" / f"from {Path(dataset).name}" / "model"
        assert betavae("evaluate", model, "--metrics", "none") == 0
        assert "the run goes on" not in capsys.readouterr().err
        folder.rename(tmp_path / "gone")
        assert betavae(*train) == 0
        said = capsys.readouterr().err
        assert "going on from step 12" in said
        assert "have changed" not in said
        (tmp_path / "gone").rename(folder)


def test_a_run_goes_on_with_its_images_after_another_run_has_packed_the_changed_folder(
    betavae: Betavae, interrupted: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(squares, tmp_path / "folder")
    train = ("train", folder, "--no-register", *SMALL)
    assert betavae(*train, "--name", "whole") == 0
    assert interrupted(*train, "--name", "first") == 1
    shutil.copy(folder / "00.png", folder / "later.png")
    assert betavae(*train, "--name", "second") == 0
    capsys.readouterr()
    assert betavae(*train, "--name", "first") == 0
    said = capsys.readouterr().err
    assert "going on from step 4" in said
    assert "the pictures have changed since they were packed" in said
    runs = tmp_path / "home" / "runs"
    weights = [(runs / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "first", "second")]
    assert weights[0] == weights[1] != weights[2]
    assert not list(runs.glob("*/.pack"))


def test_our_files_below_the_pictures_are_not_taken_for_pictures(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our files are the data folder, which is ./betavae-data by default, and the folder of a run."""
    folder = shutil.copytree(squares, tmp_path / "folder")
    monkeypatch.setenv("BETAVAE_HOME", str(folder / "betavae-data"))
    train = ("train", folder, "--no-register", *DRAWN)
    assert betavae(*train, "-o", folder / "run") == 0
    count = re.search(r"(\d+) images of", capsys.readouterr().err)
    assert any((folder / "run" / "previews").glob("*.png"))
    assert betavae(*train, "--name", "second") == 0
    said = capsys.readouterr().err
    assert count is not None
    assert f"{count[0]} folder" in said
    assert "packing" not in said
    assert "1 file was left out: 1 not_an_image (broken.png" in said


def test_a_folder_whose_name_is_not_allowed_needs_a_name(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(squares, tmp_path / ("写真" * 40))
    assert betavae("train", folder, *SMALL) == 2
    assert "--name" in capsys.readouterr().err
    assert betavae("train", folder, "--name", "photos", "--no-register", *SMALL) == 0
    monkeypatch.chdir(squares)
    assert betavae("train", ".", "--no-register", *SMALL) == 0
    assert (tmp_path / "home" / "runs" / squares.name).is_dir()
    assert any((tmp_path / "home" / "cache" / "packs").glob(f"{squares.name}-*"))


def test_pictures_in_colour_make_a_model_in_colour(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path, small_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "colours"
    folder.mkdir()
    for path in squares.glob("[0-9]*.png"):
        Image.merge("RGB", [Image.open(path), *[Image.new("L", (32, 32))] * 2]).save(folder / path.name)
    assert betavae("datasets", "pack", folder, "--image-size", "32") == 0
    assert open_pack(Path(capsys.readouterr().out.strip().partition(" in ")[2])).info.num_channels == 3
    more: dict[str, list[str | Path]] = {"grey": ["--num-channels", "1"], "from": ["--from", small_model], "open": []}
    for name, options in more.items():
        assert betavae("train", folder, "-o", tmp_path / name, "--no-register", *SMALL, *options) == 0
        assert read_info(tmp_path / name / "model").network.num_channels == (3 if name == "open" else 1)
    # Without a number of channels, the command goes on with the existing run.
    assert betavae("train", folder, "-o", tmp_path / "grey", "--no-register", *SMALL) == 0
    assert "going on from step 12" in capsys.readouterr().err


def test_another_run_in_the_same_folder_is_refused(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path
) -> None:
    assert betavae("train", squares, *SMALL) == 0
    assert betavae("train", squares, *SMALL, "--seed", "1") == 1
    assert "--no-resume" in capsys.readouterr().err


def test_progress_in_a_log_is_plain_lines(betavae: Betavae, capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    betavae("train", squares, "--name", "mine", *SMALL)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("mine: 100 % (12/12), reconstruction ")]
    assert not [line for line in lines if "\r" in line or "\x1b" in line]


def test_a_line_of_progress_is_cut_at_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("a long name " * 5) as report:
        report(30_000, 30_000, "reconstruction 123.5 (floor 3.0), KL 7.89/25.00, β 4 (normalised 0.012), 1234 images/s")
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) == LINE_WIDTH == 80
    assert line.startswith("a long name a long name…: 100 % (30000/30000), reconstruction 123.5")
    assert line.endswith("…")


def test_a_model_is_imported_changed_exported_and_deleted(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], small_model: Path, tmp_path: Path
) -> None:
    assert betavae("models", "import", small_model) == 0
    model_id = capsys.readouterr().out.strip()
    assert betavae("models", "default", model_id) == 0
    assert betavae("models", "rename", model_id, "Small one") == 0
    assert betavae("models", "show", model_id) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Small one"
    assert betavae("models", "export", model_id, tmp_path / "out") == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (small_model / "model.safetensors").read_bytes()
    assert betavae("models", "delete", model_id) == 0
    assert betavae("models", "show", model_id) == 1


def test_an_exported_bundle_imports_as_the_same_model(betavae: Betavae, small_model: Path, tmp_path: Path) -> None:
    assert betavae("models", "export", small_model, tmp_path / "small.zip") == 0
    assert betavae("models", "import", tmp_path / "small.zip", "--id", "again") == 0
    copy = tmp_path / "home" / "models" / "again" / "model.safetensors"
    assert copy.read_bytes() == (small_model / "model.safetensors").read_bytes()


def test_a_model_is_exported_as_onnx(betavae: Betavae, small_model: Path, tmp_path: Path) -> None:
    assert betavae("models", "export", small_model, tmp_path / "out", "--onnx") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["decoder.onnx", "encoder.onnx"]


def test_a_models_dimensions_are_measured_and_named(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    assert betavae("models", "import", small_model, "--id", "named") == 0
    assert betavae("models", "label", "named") == 0
    capsys.readouterr()
    assert betavae("models", "show", "named") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["dimension_effects"]) == len(shown["dimension_labels"]) == shown["network"]["latent_dim"]


def test_a_model_that_was_tampered_with_is_refused(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], small_model: Path, tmp_path: Path
) -> None:
    betavae("models", "export", small_model, tmp_path / "out")
    with (tmp_path / "out" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert betavae("models", "import", tmp_path / "out") == 1
    assert "model.safetensors" in capsys.readouterr().err


def test_evaluation_prints_losses(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], small_model: Path, squares: Path
) -> None:
    assert betavae("evaluate", small_model, "--dataset", squares, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_images"] == 40
    assert len(found["kl_per_dimension"]) == 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"captions": "on", "range": "image", "dimensions": "0,2"},
        {"grid": "0,1"},
        {"z": "-1,0,2", "z2": "0.5,1,-2", "interpolation": "slerp"},
    ],
    ids=str,
)
def test_a_traversal_has_the_bytes_of_the_service(
    betavae: Betavae, small_model: Path, squares: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    from training.data.images import load_image
    from worker.render_job import load_cached, make_traversal
    from worker.rendering.request import parse_request, resolve_request
    from worker.stores.models import ModelRegistry
    from worker.stores.settings import Settings
    from worker.stores.storage import open_storage

    registry = ModelRegistry(open_storage(str(tmp_path / "stored")))
    model = load_cached(registry, registry.add(small_model, "small"), Settings(home=tmp_path / "home", device="cpu"))
    paths = [] if "z" in options else [squares / "03.png"]
    pictures = [load_image(path.read_bytes(), model.info.preprocessing) for path in paths]
    files: dict[str, bytes] = {}
    request = resolve_request(parse_request({"steps": "5", **options}), model.info, len(pictures))
    make_traversal(model, pictures, request, files.__setitem__)

    chosen = [f"--{name}={value}" for name, value in options.items()]
    common = ("traverse", *paths, "-m", small_model, "--steps", "5", *chosen)
    assert betavae(*common, "-o", tmp_path / "out") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".json"} == files
    assert betavae(*common, "-o", tmp_path / "all.zip") == 0
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}
    pattern = r"sheet\.gif" if "z2" in options else r"z_\d+\.gif"
    assert zipped == {name: data for name, data in files.items() if re.fullmatch(pattern, name)}


def test_a_traversal_writes_the_files_of_its_result(
    betavae: Betavae, capsys: pytest.CaptureFixture[str], small_model: Path, squares: Path, tmp_path: Path
) -> None:
    assert betavae("traverse", squares / "03.png", "-m", small_model, "-o", tmp_path / "out", "--steps", "5") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    for name, size in result["files"].items():
        assert (tmp_path / "out" / name).stat().st_size == size
    assert {"z_01.gif", "z_02.gif", "z_03.gif", "sheet.gif", "sheet.png"} <= result["files"].keys()
    with Image.open(tmp_path / "out" / "z_01.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 5


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_a_suffix_selects_only_the_sheet(betavae: Betavae, small_model: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"sheet.{suffix}"
    assert betavae("traverse", "--seed", "1", "-m", small_model, "-o", target, "--steps", "3") == 0
    with Image.open(target) as sheet:
        assert sheet.format == suffix.upper()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
