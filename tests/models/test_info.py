"""A model's description answers questions about its dimensions and about pictures that it does not know."""

import pytest

from models.config import NetworkConfig
from models.info import MIN_VISIBLE_CHANGE, ModelInfo, Preprocessing


def info(**fields: object) -> ModelInfo:
    config = NetworkConfig(image_size=32, latent_dim=3)
    return ModelInfo(name="m", network=config, preprocessing=Preprocessing(image_size=32), **fields)  # type: ignore[arg-type]


def test_a_dimension_is_active_if_it_carries_information_that_an_eye_can_see() -> None:
    kl = [0.17, 2.0, 0.01]
    assert info(kl_per_dimension=kl).active_dimensions == [0, 1]
    effects = [{"visible_change": change} for change in (MIN_VISIBLE_CHANGE - 0.1, MIN_VISIBLE_CHANGE, 200.0)]
    assert info(kl_per_dimension=kl, dimension_effects=effects).active_dimensions == [1]
    assert info(kl_per_dimension=kl, dimension_effects=effects).active_among([1.0, 1.0, 1.0]) == [1, 2]
    assert info(kl_per_dimension=kl, dimension_effects=[{}, {"visible_change": "far"}, {}]).active_dimensions == [0, 1]


def test_the_ends_of_a_label_lie_around_a_typical_picture() -> None:
    assert info().label_ends(1) == ([0, -2, 0], [0, 2, 0])
    assert info(aggregate_mean=[0.5, 0.5, 0.5]).label_ends(0) == ([-2, 0.5, 0.5], [2, 0.5, 0.5])
    assert info(aggregate_mean=[0.5] * 3, typical_mean=[1.0, 2.0, 3.0]).label_ends(2) == ([1, 2, -2], [1, 2, 2])


@pytest.mark.parametrize(
    ("error", "kl", "unfamiliar", "words"),
    [
        (100.0, 20.0, False, []),
        (100.1, 20.0, True, ["reconstruction error is 100 nats", "at most 100"]),
        (90.0, 31.0, True, ["KL is 31 nats", "at most 20"]),
        (250.0, 31.0, True, ["reconstruction error is 250 nats", "KL is 31 nats"]),
    ],
)
def test_a_picture_beyond_the_99th_percentile_is_unfamiliar(
    error: float, kl: float, unfamiliar: bool, words: list[str]
) -> None:
    found, reason = info(familiarity={"reconstruction_error_p99": 100.0, "kl_p99": 20.0}).unfamiliarity(error, kl)
    assert found is unfamiliar
    assert (reason is None) is not unfamiliar
    assert all(word in (reason or "") for word in words)


def test_a_model_without_thresholds_says_that_it_does_not_know() -> None:
    for familiarity in ({}, {"kl_p99": 20.0}):
        found, reason = info(familiarity=familiarity).unfamiliarity(1e9, 1e9)
        assert found is None
        assert reason is not None and "does not record" in reason


def test_a_typical_picture_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="typical_mean: expected 3 values, found 2"):
        ModelInfo.from_json(info(typical_mean=[1.0, 2.0]).to_json())
