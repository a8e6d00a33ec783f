"""The shapes of answers, and the schemas that are generated from the settings' own definitions."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as Aliased
from pydantic.fields import FieldInfo


def settings_schema(settings: Mapping[str, FieldInfo], group: type[BaseModel]) -> dict[str, Any]:
    """Returns the JSON schema of a flat group of settings, none of which is required.

    Args:
        settings: The settings by name.
        group: The class that the schema takes its title and description from.
    """
    return {
        "type": "object",
        "title": group.__name__,
        "description": (group.__doc__ or "").strip(),
        "additionalProperties": False,
        "properties": {name: field_schema(field) for name, field in settings.items()},
    }


def field_schema(field: FieldInfo) -> dict[str, Any]:
    """Returns the JSON schema of one setting: type, bounds, default, unit and text."""
    kind: Any = field.annotation
    holder = create_model("Setting", setting=(kind, field))
    schema: dict[str, Any] = holder.model_json_schema()["properties"]["setting"]
    schema.pop("title", None)
    if schema.get("default") is None and "anyOf" not in schema:
        schema.pop("default", None)  # Its default differs by objective, and stands in its text.
    if "unit" in schema:
        schema["description"] += f" ({schema.pop('unit')})"
    return schema


class Answer(BaseModel):
    """Base of all answers; what a later version adds does not break a reader."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Failure(Answer):
    """Why work failed; `code` is stable."""

    code: str
    message: str


class Progress(Answer):
    """How far a job has come.

    `phase`, while a worker has it: packing (the data set), training, naming (the dimensions) or evaluating;
    `phase_fraction` is how far that phase is, where it is known.
    """

    step: int | None = None
    num_steps: int | None = None
    fraction: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    phase: str | None = None
    phase_fraction: float | None = None


class Metrics(Answer):
    """The newest numbers of a training job, in nats."""

    reconstruction_loss: float | None = None
    kl: float | None = None
    kl_per_dimension: list[float] | None = None
    capacity: float | None = None
    beta: float | None = None
    normalised_beta: float | None = None
    bernoulli_floor: float | None = None


class TrainJob(Answer):
    """A training job."""

    id: str
    name: str
    status: str
    dataset: str
    preset: str | None
    config: dict[str, Any]
    from_: str | None = Aliased(alias="from")
    evaluate: list[str]
    progress: Progress
    metrics: Metrics
    attempts: int
    resumed_from_step: int | None
    model: str | None
    error: Failure | None
    created_at: str | float | None
    started_at: str | float | None
    finished_at: str | float | None
    links: dict[str, str]


class Score(Answer):
    """A score in [0, 1] with its 95 % bootstrap interval; `note` says why it is not defined, where it is not."""

    value: float | None
    interval: list[float] | None = None
    note: str = ""


class Findings(Answer):
    """What an evaluation found; losses in nats per image, of `num_loss_images` images."""

    scores: dict[str, Score]
    reconstruction_loss: float
    bernoulli_floor: float | None
    kl: float
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    num_images: int
    notes: list[str]
    saved: bool


class Evaluation(Answer):
    """The evaluation of a model on a data set: a job, and what it found once it has succeeded."""

    id: str
    status: str
    model: str
    dataset: str
    metrics: list[str]
    seed: int
    progress: Progress
    result: Findings | None
    error: Failure | None
    created_at: str | float | None
    started_at: str | float | None
    finished_at: str | float | None
    links: dict[str, str]


class EvaluationList(Answer):
    """The evaluations of a model, newest first."""

    evaluations: list[Evaluation]


class TrainJobList(Answer):
    """One page of jobs, newest first."""

    jobs: list[TrainJob]
    next: str | None


class TraversalDimension(Answer):
    """One traversed latent dimension; `url` is its animation."""

    index: int
    kl: float | None = None
    active: bool | None = None
    label: str | None = None
    url: str | None = None


class Traversal(Answer):
    """A traversal: what was asked for, and the addresses of what was made."""

    id: str
    status: str
    model: str
    parameters: dict[str, Any]
    dimensions: list[TraversalDimension]
    sheet: str | None
    strip: str | None
    reconstruction: str | None
    error: Failure | None
    links: dict[str, str]


class Model(Answer):
    """A trained network in the registry."""

    id: str
    name: str
    default: bool
    shipped: bool
    likelihood: str
    network: dict[str, Any]
    preprocessing: dict[str, Any]
    dataset: dict[str, Any]
    step: int
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    reconstruction_loss: float | None
    steered_beta: float | None
    bernoulli_floor: float | None
    metrics: dict[str, Any]
    dimension_labels: list[str]
    dimension_effects: list[dict[str, Any]]
    licence: str
    source: str
    created_at: str
    links: dict[str, str]


class ModelList(Answer):
    """All models, and the id of the one that is used when none is named."""

    models: list[Model]
    default: str


class Dataset(Answer):
    """A set of images to train on."""

    id: str
    name: str
    kind: str
    status: str
    num_images: int | None
    links: dict[str, str]


class DatasetList(Answer):
    """All data sets."""

    datasets: list[Dataset]


class Encoded(Answer):
    """The posterior of one image; `reconstruction_loss` in nats."""

    mean: list[float]
    log_variance: list[float]
    kl_per_dimension: list[float]
    reconstruction_loss: float


class Decoded(Answer):
    """Decoded pictures: pixel means in [0, 1], (N, H, W, C)."""

    images: list[Any]


class Health(Answer):
    """Whether a part answers."""

    status: str
