"""`betavae evaluate`, `train --evaluate` and `train --from`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import NetworkConfig
from models.files import load_model, save_model
from models.info import ModelInfo, Preprocessing, read_info
from models.networks import VAE

SMALL = ("--image-size", "32", "--latent-dim", "3", "--batch-size", "8", "-c", "num_steps=4", "-c", "preview_steps=0")

Betavae = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of pictures of a grey square in a grid of 5 × 4 places, eight for each place, with their factors."""
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(4), indexing="ij"), -1).reshape(-1, 2).repeat(8, axis=0)
    images = np.random.default_rng(0).integers(0, 30, (len(grid), 32, 32), dtype=np.uint8)
    for picture, (x, y) in zip(images, grid, strict=True):
        picture[5 * y : 5 * y + 8, 5 * x : 5 * x + 8] += 200
    path = tmp_path_factory.mktemp("sets") / "squares.npz"
    np.savez(path, images=images, factors=grid)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models: a and b differ only in their seed, wide has more dimensions, and rgb takes colour images."""
    folders = {}
    for seed, (name, num_channels, latent_dim) in enumerate([("a", 1, 3), ("b", 1, 3), ("wide", 1, 5), ("rgb", 3, 3)]):
        network = NetworkConfig(image_size=32, num_channels=num_channels, latent_dim=latent_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vae = VAE(network)
        with torch.no_grad():  # Without this, the KL is too small for any dimension to count.
            vae.encoder.mean.weight *= 30
        preprocessing = Preprocessing(image_size=32, num_channels=num_channels)
        info = ModelInfo(name=name, network=network, preprocessing=preprocessing, training={"seed": seed})
        folders[name] = tmp_path_factory.mktemp("models") / name
        save_model(folders[name], vae, info)
    return folders


def test_scores_are_printed_with_the_floor_and_saved(
    betavae: Betavae, capsys: Capture, squares: Path, models: dict[str, Path]
) -> None:
    assert betavae("models", "import", models["a"], "--id", "mine") == 0
    capsys.readouterr()
    assert betavae("evaluate", "mine", "--dataset", squares, "--metrics", "modularity, mig", "--save") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("bernoulli_floor" in line for line in lines)
    assert [line.split()[0] for line in lines if line.startswith("m")] == ["mig", "modularity"]
    assert betavae("models", "show", "mine") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["metrics"].keys() == {"mig", "modularity", "psnr", "ssim"}
    assert shown["metrics"]["mig"]["dataset"] == str(squares)
    assert 0 < shown["bernoulli_floor"] < shown["reconstruction_loss"]


def test_models_of_several_seeds_are_compared(
    betavae: Betavae, capsys: Capture, squares: Path, models: dict[str, Path]
) -> None:
    """Each of three models, one of which has more dimensions, gets a score, and the table is sorted by it."""
    three = [str(models[name]) for name in ("a", "b", "wide")]
    command = ("evaluate", *three, "--udr", "--similarity", "spearman", "--dataset", squares)
    assert betavae(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["model"]: row for row in found["models"]}
    assert list(rows) == three
    assert [row["latent_dim"] for row in rows.values()] == [3, 3, 5]
    for i, row in enumerate(rows.values()):
        others = [value for j, value in enumerate(row["agreement"]) if j != i]
        assert row["udr"] == pytest.approx(np.median(others))
        assert 0 < row["udr"] <= 1
    assert betavae(*command) == 0
    table = capsys.readouterr().out
    best = sorted(three, key=lambda name: -rows[name]["udr"])
    assert sorted(three, key=table.index) == best


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["evaluate", "a", "--udr", "--dataset", "SQUARES"], 2, "two or more models"),
        (["evaluate", "--udr"], 2, "two or more models"),
        (["evaluate", "a", "a", "--udr", "--dataset", "SQUARES"], 2, "given twice"),
        (["evaluate", "a", "rgb", "--udr", "--dataset", "SQUARES"], 1, "the same images"),
        (["evaluate", "a", "b", "--udr"], 1, "give --dataset"),
        (["evaluate", "a", "b", "--udr", "--save"], 2, "--save"),
        (["evaluate", "a", "b"], 2, "--udr"),
        (["evaluate", "a", "--dataset", "SQUARES", "--metrics", "migg"], 2, "migg"),
        (["evaluate", "dsprites", "--save"], 1, "ships with the service"),
        (["train", "SQUARES", "--metrics", "migg"], 2, "migg"),
        (["train", "SQUARES", "--latent-dim", "10", "--from", "a"], 2, "latent_dim 3 (this run: 10)"),
        (["train", "SQUARES", "--from", "nothing"], 1, "no model 'nothing'"),
    ],
)
def test_a_users_mistake_prints_one_line(
    betavae: Betavae,
    capsys: Capture,
    squares: Path,
    models: dict[str, Path],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    places = {"SQUARES": squares, **models}
    assert betavae(*(places.get(argument, argument) for argument in arguments)) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("betavae: ")]
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize("option", ["--from", "--initial-model"])
def test_a_run_from_a_models_weights_says_that_it_does_not_resume_and_is_scored(
    betavae: Betavae, capsys: Capture, squares: Path, models: dict[str, Path], tmp_path: Path, option: str
) -> None:
    still = ("--optimizer", "sgd", "--learning-rate", "1e-9")
    run = ("train", squares, *SMALL, *still, "-o", tmp_path / "run", option, models["a"], "--metrics", "mig")
    assert betavae(*run) == 0
    said = capsys.readouterr()
    assert "this does not resume its training" in said.err
    assert "(floor " in said.err
    model_id = said.out.strip()
    for folder in (tmp_path / "run" / "model", tmp_path / "home" / "models" / model_id):
        info = read_info(folder)
        assert info.metrics["mig"]["value"] is not None
        assert "from the weights of a" in info.source
    before, after = (load_model(folder).network.state_dict() for folder in (models["a"], tmp_path / "run" / "model"))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-4, rtol=0)
    again = [models["b"] if part == models["a"] else part for part in run]
    assert betavae(*again) == 0
    assert "goes on from its checkpoint" in capsys.readouterr().err
    assert "from the weights of a" in read_info(tmp_path / "run" / "model").source


def test_a_run_takes_its_network_from_the_model(
    betavae: Betavae, squares: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    lengths = ("--num-steps", "2", "--batch-size", "8", "--preview-steps", "0")
    run = ("train", squares, *lengths, "-o", tmp_path / "run", "--from", models["a"], "--no-register")
    assert betavae(*run) == 0
    assert read_info(tmp_path / "run" / "model").network == read_info(models["a"]).network
    assert betavae(*run) == 0  # The run goes on from its checkpoint, which has the same settings.


def test_a_finished_run_trains_longer(betavae: Betavae, capsys: Capture, squares: Path, tmp_path: Path) -> None:
    run = ("train", squares, "-o", tmp_path / "run", "--no-register")
    more = (*run, "--more-steps", "3")
    assert betavae(*more) == 1
    assert "there is no finished run that could be trained longer" in capsys.readouterr().err
    assert betavae(*run, *SMALL) == 0
    first = read_info(tmp_path / "run" / "model")
    assert betavae(*run, *SMALL, "--seed", "5") == 1
    assert "--more-steps" in capsys.readouterr().err
    assert betavae(*more) == 0
    longer = read_info(tmp_path / "run" / "model")
    assert longer.step == first.step + 3
    assert (longer.network, longer.training) == (first.network, first.training)
    assert betavae(*run, *SMALL) == 0
    assert read_info(tmp_path / "run" / "model").weights_sha256 == longer.weights_sha256
    assert betavae(*more, "--minutes", "1") == 2
    assert "goes on with a finished run" in capsys.readouterr().err


def test_a_model_is_registered_even_if_its_evaluation_was_interrupted(
    betavae: Betavae, capsys: Capture, squares: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.metrics.evaluation.evaluate_model", interrupted)
    assert betavae("train", squares, *SMALL, "--evaluate") == 0
    said = capsys.readouterr()
    assert "the evaluation stopped" in said.err
    assert (tmp_path / "home" / "models" / said.out.strip() / "model.json").is_file()
