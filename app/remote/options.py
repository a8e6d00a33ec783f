"""What a training and a sweep may say beside their pictures, as keyword arguments of the client."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class TrainingOptions(TypedDict, total=False):
    """What a training may say beside its pictures, as `POST /train-jobs` describes it."""

    name: str
    """Name of the job and of its model; by default the data set's."""
    preset: str
    """Settings to start from."""
    minutes: float
    """A budget of time for the whole run."""
    config: Mapping[str, Any]
    """Settings that differ from the preset or the defaults."""
    from_model: str
    """Id of a model whose weights the run starts with."""
    webhook: str
    """Address that gets a signed message when the run has ended."""
    evaluate: bool | Sequence[str]
    """Scores to compute when the training is done."""


class SweepOptions(TypedDict, total=False):
    """What a sweep may say beside its data set, as `POST /sweeps` describes it."""

    name: str
    grid: Mapping[str, Sequence[Any]]
    """The values of some settings, which are combined in every way."""
    members: Sequence[Mapping[str, Any]]
    """In the place of a grid: the settings of each member."""
    preset: str
    config: Mapping[str, Any]
    minutes: float
    evaluate: bool | Sequence[str]
    max_running: int
    make_default: bool
    webhook: str
    """Address that gets a signed message when the sweep has ended."""
