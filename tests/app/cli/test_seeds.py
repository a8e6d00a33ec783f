"""`betavae train --seeds`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from api_support import picture

from app.cli.seeds import parse_seeds
from models.config import ConfigError
from models.info import read_info

Betavae = Callable[..., int]


SMALL = ("--image-size", "32", "--batch-size", "8", "--num-steps", "8", "--preview-steps", "0", "--latent-dim")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures in a folder `faces`."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder


def test_one_model_for_each_seed(
    betavae: Betavae, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert betavae("train", folder, *SMALL, "3", "--seeds", "1,4") == 0
    out, err = capsys.readouterr()
    assert out.split() == ["faces-s1", "faces-s4"]
    assert "seed 4, run 2 of 2" in err
    infos = [read_info(tmp_path / "home" / "models" / name) for name in out.split()]
    assert [(info.name, info.training["seed"]) for info in infos] == [("faces-s1", 1), ("faces-s4", 4)]
    assert infos[0].weights_sha256 != infos[1].weights_sha256
    assert {path.name for path in (tmp_path / "home" / "runs").iterdir()} == {"faces-s1", "faces-s4"}


def test_a_seed_that_fails_does_not_stop_the_others(
    betavae: Betavae, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert betavae("train", folder, *SMALL, "2", "--name", "faces-s1", "--seed", "1") == 0
    capsys.readouterr()
    assert betavae("train", folder, *SMALL, "3", "--seeds", "1,4") == 1
    out, err = capsys.readouterr()
    assert out.split() == ["faces-s4"]
    assert [line for line in err.splitlines() if line.startswith("warning: seed 1: ") and "latent_dim 2" in line]
    assert err.splitlines()[-1] == "betavae: 1 of 2 seeds have made no model: 1; their warnings say why"


def test_a_seed_that_diverges_is_named_at_the_end(
    betavae: Betavae, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("--objective", "beta", "--learning-rate", "10", "--num-epochs", "500")
    assert betavae("train", folder, *SMALL[:4], *wild, "--seeds", "1,4") == 1
    err = capsys.readouterr().err
    assert [line[:28] for line in err.splitlines() if "the loss became" in line] == [
        "warning: seed 1: the loss be", "warning: seed 4: the loss be",
    ]  # fmt: skip
    assert err.splitlines()[-1] == "betavae: 2 of 2 seeds have made no model: 1, 4; their warnings say why"


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("0,1,7", [0, 1, 7]), (" 3 , 5 - 6", [3, 5, 6]), ("9", [9])]
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text, {}) == seeds
    assert parse_seeds(None, {"seed": 1}) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be numbers from 0 such as 0-4 or 0,1,7, not ''"),
        ("1,a", "must be numbers from 0 such as 0-4 or 0,1,7, not '1,a'"),
        ("-1", "must be numbers from 0 such as 0-4 or 0,1,7, not '-1'"),
        ("4-2", "4-2 goes backwards"),
        ("0-100", "may name at most 100 seeds"),
        ("0-3,2", "names a seed twice: 0-3,2"),
    ],
)
def test_texts_that_name_no_seeds(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_seeds(text, {})
    assert caught.value.message == message


def test_seeds_beside_a_seed_are_refused(betavae: Betavae, capsys: pytest.CaptureFixture[str]) -> None:
    assert betavae("train", "dsprites", "--seeds", "0-1", "--seed", "3") == 2
    assert "seeds: excludes seed; give one of them" in capsys.readouterr().err
