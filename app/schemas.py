"""The shapes of answers. Every route answers with an instance of one of them, unless it sends a file.

An answer leaves out what was not set: a field that is absent and one that is null stay different things.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Aliased
from starlette.responses import Response

from models.config import NetworkConfig
from models.info import Preprocessing


class Answer(BaseModel):
    """Base of all answers; fields that a later version adds do not break a reader."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


def respond(answer: Answer, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns an answer as a response, for routes that choose the status or the headers.

    Args:
        answer: The body.
        status: The HTTP status.
        headers: Headers of the response.
    """
    body = answer.model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, status, headers, "application/json")


class Failure(Answer):
    """Why work failed; `code` is stable."""

    code: str
    message: str


class Progress(Answer):
    """How far a job has come.

    `phase` is null unless a worker runs the job; then it is packing (the data set), training, naming (the dimensions)
    or evaluating. `phase_fraction` is the share of that phase that is done, where it is known.
    """

    step: int | None = None
    num_steps: int | None = None
    fraction: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    phase: str | None = None
    phase_fraction: float | None = None


class Metrics(Answer):
    """The newest numbers of a training job, in nats.

    `reconstruction_loss`, `kl` and `kl_per_dimension` are means over the last training batches; those that begin with
    `validation_` are of the whole validation split, and absent before its first validation.
    """

    reconstruction_loss: float | None = None
    kl: float | None = None
    kl_per_dimension: list[float] | None = None
    capacity: float | None = None
    beta: float | None = None
    normalised_beta: float | None = None
    bernoulli_floor: float | None = None
    validation_loss: float | None = None
    validation_reconstruction_loss: float | None = None
    validation_kl: float | None = None


class Estimate(Answer):
    """The length of a training, and the time that it takes from its beginning.

    `num_steps`, `seconds` and `passes` (over the training images) are null where they depend on something that is not
    known yet. Where `settled` is false, the worker fixes the length when it begins.
    """

    num_steps: int | None
    seconds: float | None
    passes: float | None
    settled: bool


class TrainJob(Answer):
    """A training job."""

    id: str
    kind: str
    name: str
    status: str
    dataset: str
    preset: str | None
    config: dict[str, Any]
    from_: str | None = Aliased(alias="from")
    evaluate: list[str]
    extend_to: int | None = None
    sweep: dict[str, Any] | None = Aliased(None, description="The sweep that the job belongs to: id and index.")
    minutes: float | None = None
    estimate: Estimate | None = None
    progress: Progress
    metrics: Metrics
    attempts: int
    resumed_from_step: int | None
    model: str | None
    result: dict[str, Any] | None
    error: Failure | None
    warnings: list[str]
    tensorboard: str | None = Aliased(
        None, description="The command that shows the run's TensorBoard events; it is run in the data folder."
    )
    worker: str | None
    request_id: str | None = None
    created_at: str | None
    started_at: str | None
    updated_at: str | None
    finished_at: str | None
    links: dict[str, str]


class Score(Answer):
    """A score with its 95 % bootstrap interval; `note` says why a score is undefined."""

    value: float | None
    interval: list[float] | None = None
    note: str = ""


class Findings(Answer):
    """The findings of an evaluation; losses are in nats per image, over `num_loss_images` images."""

    scores: dict[str, Score]
    reconstruction_loss: float
    explained_variance: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    bernoulli_floor: float | None
    kl: float
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    num_images: int
    notes: list[str]
    saved: bool


class Evaluation(Answer):
    """The evaluation of a model on a data set: a job, and its findings once it has succeeded."""

    id: str
    status: str
    model: str
    dataset: str
    metrics: list[str]
    seed: int
    progress: Progress
    attempts: int
    result: Findings | None
    error: Failure | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    links: dict[str, str]


class EvaluationList(Answer):
    """The evaluations of a model, newest first."""

    evaluations: list[Evaluation]


class TrainJobList(Answer):
    """One page of jobs, newest first; `next` continues with the page after it."""

    jobs: list[TrainJob]
    next: str | None


class PreviewList(Answer):
    """Addresses of a job's previews, oldest first."""

    previews: list[str]


class TraversalDimension(Answer):
    """One traversed latent dimension; `url` is its animation, and `ends` its first and its last picture."""

    index: int
    kl: float | None = None
    active: bool | None = None
    label: str | None = None
    url: str | None = None
    ends: list[str] | None = None


class Traversal(Answer):
    """A traversal: its parameters, and the addresses of its files.

    Its `name` keeps it when the disk is full; a traversal that nobody named has none.

    `unfamiliar` is true if the picture is unlike those that the model knows, and null if the model has no thresholds;
    `unfamiliar_reason` says why.
    """

    id: str
    name: str = ""
    status: str
    model: str
    parameters: dict[str, Any]
    dimensions: list[TraversalDimension]
    sheet: str | None
    strip: str | None
    reconstruction: str | None
    unfamiliar: bool | None = None
    unfamiliar_reason: str | None = None
    error: Failure | None
    links: dict[str, str]


class ModelDimension(Answer):
    """A latent dimension of a model; `ends` are pictures of a typical picture with the dimension at −2 and at 2."""

    index: int
    kl: float | None
    active: bool
    label: str
    strength: float | None
    ends: list[str]


class ModelSummary(Answer):
    """A trained network, as the list of models shows it."""

    id: str
    name: str
    default: bool
    shipped: bool
    likelihood: str
    network: NetworkConfig
    preprocessing: Preprocessing
    dataset: dict[str, Any]
    training: dict[str, Any]
    step: int
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    dimensions: list[ModelDimension]
    familiarity: dict[str, float]
    reconstruction_loss: float | None
    explained_variance: float | None
    steered_beta: float | None
    bernoulli_floor: float | None
    metrics: dict[str, Any]
    dimension_labels: list[str]
    licence: str
    source: str
    created_at: str
    weights_sha256: str
    links: dict[str, str]


class Model(ModelSummary):
    """A trained network in the registry, with what was measured of each dimension."""

    typical_mean: list[float]
    aggregate_mean: list[float]
    aggregate_std: list[float]
    dimension_effects: list[dict[str, Any]]


class ModelList(Answer):
    """One page of models; `next` continues with the page after it.

    `default` is the id of the model that is used when a request names none, and null where there is no model.
    """

    models: list[ModelSummary]
    default: str | None
    next: str | None


class Encoded(Answer):
    """The posterior of one image; losses are in nats. `reconstruction_error` is the loss less the image's own floor.

    `unfamiliar` is true if error or KL are above those of 99 of 100 pictures of the model's own set, and null if the
    model does not record them; `unfamiliar_reason` says why.
    """

    mean: list[float]
    log_variance: list[float]
    kl_per_dimension: list[float]
    reconstruction_loss: float
    reconstruction_error: float
    unfamiliar: bool | None
    unfamiliar_reason: str | None


class ComparedModel(Answer):
    """A model of a comparison; losses and KL are in nats over its own data set, null where they are unknown."""

    id: str
    name: str
    image_size: int
    num_channels: int
    latent_dim: int
    dataset: str | None
    step: int
    reconstruction_loss: float | None
    bernoulli_floor: float | None
    kl: float | None
    kl_per_dimension: list[float]
    active_dimensions: list[int]
    metrics: dict[str, Any]


class AlignedDimensions(Answer):
    """Two aligned dimensions, one of each model; `correlation` is Pearson's r of their codes."""

    indices: list[int]
    correlation: float
    kl: list[float | None]
    labels: list[str]


class Comparison(Answer):
    """Two models: their aligned dimensions, the active dimensions that have no partner, and their agreement (UDR).

    `pictures` has the posterior of the picture in each model; it is there where a picture was sent.
    """

    models: list[ComparedModel]
    dimensions: list[AlignedDimensions]
    unmatched: list[list[int]]
    udr: dict[str, float]
    num_images: int
    pictures: list[Encoded] = []


class Packing(Answer):
    """A job that packs a data set."""

    id: str
    status: str
    preprocessing: Preprocessing
    progress: Progress
    result: dict[str, Any] | None
    error: Failure | None
    created_at: str | None
    finished_at: str | None


class Dataset(Answer):
    """A set of images to train on; `packing` is there where a single data set is asked for."""

    id: str
    name: str
    kind: str
    source: str
    status: str
    num_images: int | None
    num_rejected: int | None
    packs: list[dict[str, Any]]
    error: Failure | None
    layout: str
    split: str
    stride: int
    created_at: str | None
    packing: list[Packing] = []
    links: dict[str, str]


class DatasetList(Answer):
    """One page of data sets; `next` continues with the page after it."""

    datasets: list[Dataset]
    next: str | None


class Reconstructed(Encoded):
    """The posterior of one image, its reconstruction, and the input of the model after crop and resize.

    Both pictures are numbers in [0, 1], (H, W, C).
    """

    image: list[list[list[float]]]
    input: list[list[list[float]]]


class Decoded(Answer):
    """Decoded images: pixel means in [0, 1], (N, H, W, C)."""

    images: list[list[list[list[float]]]]
