"""The members of a sweep: grids, lists, labels and names."""

from typing import Any

import pytest

from models.config import ConfigError
from models.info import validate_name
from worker.sweeps.grid import MAX_MEMBERS, cell_text, expand, label_of, member_name


def test_a_grid_combines_the_values_in_every_way() -> None:
    assert expand({"seed": [0, 1], "beta": [1, 4.0]}, None, {"latent_dim": 3}) == [
        {"seed": 0, "beta": 1},
        {"seed": 0, "beta": 4.0},
        {"seed": 1, "beta": 1},
        {"seed": 1, "beta": 4.0},
    ]
    assert expand(None, [{"seed": 3}, {"beta": 2}], {}) == [{"seed": 3}, {"beta": 2}]


@pytest.mark.parametrize(
    ("grid", "members", "message"),
    [
        (None, None, "grid: is missing: give either grid or members"),
        ({"seed": [0]}, [{"seed": 0}], "grid: excludes members"),
        ({}, None, "grid: is empty: give at least one setting with its values"),
        ({"seed": []}, None, "grid: seed must be a list of at least one value"),
        ({"seed": [0, 1, 0]}, None, "grid: seed has the value 0 twice"),
        ({"beta": [1, 1.0]}, None, "grid: beta has the value 1 twice"),
        ({"beta": [10**400] * 2}, None, f"grid: beta has the value 1{'0' * 39}… twice"),
        ({"latent_dim": [2, 3]}, None, "grid: latent_dim stands in config as well; give it in one of the two"),
        (
            {"seed": list(range(100)), "beta": list(range(100))},
            None,
            f"grid: has 10000 cells; a sweep trains at most {MAX_MEMBERS} models",
        ),
        (
            {"seed": [*range(20_000), 0]},
            None,
            f"grid: has 20001 cells; a sweep trains at most {MAX_MEMBERS} models",
        ),
        (None, [], "members: is empty: give the settings of at least one training"),
        (None, [{"seed": 1}, {"seed": 2}, {"seed": 1}], "members: has {seed: 1} twice, at 0 and 2"),
        (None, [{"beta": 4, "seed": 0}, {"seed": 0, "beta": 4.0}], "members: has {seed: 0, beta: 4} twice, at 0 and 1"),
        (None, [{"latent_dim": 3}], "members: latent_dim stands in config as well; give it in one of the two"),
    ],
)
def test_what_is_no_sweep(grid: Any, members: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(grid, members, {"latent_dim": 5})
    assert f"{caught.value.field}: {caught.value.message}" == message


def test_texts_of_settings() -> None:
    settings = {"objective": "beta", "beta": 0.5, "seed": 1}
    assert cell_text(settings) == "{objective: beta, beta: 0.5, seed: 1}"
    assert label_of(settings) == "objective beta, beta 0.5, seed 1"
    assert member_name("faces", 0, settings) == "faces objective beta beta 0.5 seed 1"
    long = {"capacity_max": 25.0, "objective": "controlled", "learning_rate": 1e-5, "batch_size": 64, "seed": 12}
    assert member_name("a" * 60, 7, long) == "a" * 60 + " 7"
    for one in (settings, long, {"crop": "none", "x": [1, "/"]}):
        assert validate_name(member_name("a" * 60, 7, one))
