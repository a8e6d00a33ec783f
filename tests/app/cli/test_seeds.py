"""`betavae train --seeds`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from api_support import picture

from app.cli.seeds import parse_seeds
from models.config import ConfigError
from models.info import read_info

Betavae = Callable[..., int]


def test_one_model_for_each_seed(betavae: Betavae, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.png").write_bytes(picture(number))
    small = ("--image-size", "32", "--latent-dim", "3", "--batch-size", "8", "--num-steps", "8", "--preview-steps", "0")
    assert betavae("train", folder, *small, "--seeds", "1,4") == 0
    out, err = capsys.readouterr()
    assert out.split() == ["faces-s1", "faces-s4"]
    assert "seed 4, run 2 of 2" in err
    infos = [read_info(tmp_path / "home" / "models" / name) for name in out.split()]
    assert [(info.name, info.training["seed"]) for info in infos] == [("faces-s1", 1), ("faces-s4", 4)]
    assert infos[0].weights_sha256 != infos[1].weights_sha256
    assert {path.name for path in (tmp_path / "home" / "runs").iterdir()} == {"faces-s1", "faces-s4"}


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
