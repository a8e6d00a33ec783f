"""`betavae sweep`: a grid or a list on this machine, stopped and continued, and the model that it chooses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from api_support import picture
from PIL import Image

from app.cli.sweep import folder_names

Betavae = Callable[..., int]
SMALL = ("--image-size", "32", "--latent-dim", "3", "--batch-size", "8", "--num-steps", "8", "--preview-steps", "0")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


def test_a_grid_is_trained_and_compared_and_goes_on(
    betavae: Betavae, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sweep", pictures, *SMALL, "--grid", "beta=4", "--name", "tried")
    assert betavae(*command, "--seeds", "0") == 0
    first = json.loads((tmp_path / "home" / "runs" / "tried" / "sweep.json").read_text())
    capsys.readouterr()
    assert betavae(*command, "--seeds", "0,1", "--make-default") == 0
    out, err = capsys.readouterr()
    assert err.count("is there already") == 1
    assert "seed 1, beta 4, run 2 of 2" in err
    folder = tmp_path / "home" / "runs" / "tried"
    sweep = json.loads((folder / "sweep.json").read_text())
    assert [member["settings"] for member in sweep["members"]] == [
        {"seed": 0, "beta": 4.0},
        {"seed": 1, "beta": 4.0},
    ]
    assert [one["model"] for one in sweep["members"][:1]] == [one["model"] for one in first["members"]]
    winner = sweep["winner"]["model"]
    assert f"chosen: {winner}\n{sweep['winner']['reason']}" in out
    assert json.loads((tmp_path / "home" / "models" / "default.json").read_text()) == {"id": winner}
    assert "beta 4" in out
    assert "±" in out
    assert {"udr", "model_centrality"} <= sweep["members"][0]["scores"].keys()
    assert (folder / "table.csv").read_text().count("\n") == 3
    for name in ("figure.png", "sheet.png"):
        assert Image.open(folder / name).format == "PNG"


def test_runs_whose_long_settings_begin_alike_have_folders_of_their_own(betavae: Betavae, pictures: Path) -> None:
    long = "objective=annealed,beta_start=150,beta=1.2,anneal_steps=4,restart_step=4,restart_steps=2"
    command = ("sweep", pictures, *SMALL, "--member", long, "--name", "long")
    assert betavae(*command, "--seeds", "0-1") == 0
    folder = pictures.parent / "home" / "runs" / "long"
    sweep = json.loads((folder / "sweep.json").read_text())
    assert [member["status"] for member in sweep["members"]] == ["succeeded"] * 2
    assert len(list(folder.glob("*/member.json"))) == 2


def test_folders_of_runs() -> None:
    rates = [{"gamma": 1e-6, "seed": 0}, {"gamma": 1e6, "seed": 0}, {"gamma": 2.0, "seed": 0}]
    small, large, plain = folder_names(rates)
    assert plain == "gamma-2-seed-0"
    assert small != large
    assert folder_names(rates[::-1]) == [plain, large, small]


def test_a_run_that_fails_does_not_end_the_sweep(
    betavae: Betavae, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "objective=beta,learning_rate=10,num_steps=2000,batch_size=4"
    good = "objective=beta,num_steps=8,batch_size=4"
    small = ("--image-size", "32", "--latent-dim", "3")
    assert betavae("sweep", pictures, *small, "--member", bad, "--member", good, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [member["status"] for member in found["members"]] == ["failed", "succeeded"]
    assert "the loss became nan" in found["members"][0]["error"]["message"]
    assert found["winner"]["model"] == found["members"][1]["model"]
    assert found["winner"]["reason"].startswith("It is the only model of the sweep")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--grid: is missing: give --grid, --member or --seeds"),
        (("--grid", "beta"), "--grid: expected KEY=V1,V2, not 'beta'"),
        (("--grid", "beta=1,-1"), "grid: cell {beta: -1}: beta: must be at least 0, not -1"),
        (("--grid", "beta=1,x"), "beta: 'x' is not a valid float"),
        (("--grid", "seed=0,1", "--seeds", "0-3"), "seeds: excludes seed in --grid"),
        (("--grid", "beta=1", "--member", "beta=1"), "--member: excludes --grid"),
        (("--grid", "latent_dim=3,4", "--latent-dim", "5"), "grid: latent_dim stands in config as well"),
        (("--seeds", "0-3", "--preset", "no"), "preset: must be one of"),
    ],
)
def test_what_is_refused_before_anything_starts(
    betavae: Betavae, pictures: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert betavae("sweep", pictures, *options) == 2
    assert message in capsys.readouterr().err
