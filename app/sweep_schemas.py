"""The shapes of answers about sweeps."""

from typing import Any

from app.schemas import Answer, Failure, Metrics, Score


class SweepMetrics(Metrics):
    """The losses of a member's model, in nats, or the newest ones of its training."""

    active_dimensions: list[int] | None = None


class SweepMember(Answer):
    """A training of a sweep.

    `settings` are those in which it differs from the others. `scores` has those of its evaluation, and `udr` and
    `model_centrality` once the models of the sweep are compared.
    """

    index: int
    name: str
    job: str
    settings: dict[str, Any]
    status: str
    model: str | None
    metrics: SweepMetrics
    scores: dict[str, Score]
    error: Failure | None


class SweepProgress(Answer):
    """How far a sweep has come: the mean of its members' fractions, and the number of members in each state.

    `phase` is training, comparing (the models), or null.
    """

    fraction: float
    members: dict[str, int]
    phase: str | None


class Statistic(Answer):
    """A number over the members of a cell; `std` is the sample's standard deviation, null for a single member."""

    mean: float
    std: float | None
    count: int


class SweepCell(Answer):
    """The members that share all settings but the seed; `num_models` of them have a model."""

    settings: dict[str, Any]
    num_members: int
    num_models: int
    metrics: dict[str, Statistic]
    scores: dict[str, Statistic]


class Winner(Answer):
    """The model that the sweep chooses without labels, and why."""

    model: str
    reason: str


class AlignedColumn(Answer):
    """Aligned dimensions, one of each model: those whose codes correlate most.

    `dimensions` and `correlations` (Pearson's r with the first model's) are in the order of the compared models, and
    null where a model has no dimension left.
    """

    label: str
    dimensions: list[int | None]
    correlations: list[float | None]


class SweepComparison(Answer):
    """The models of a sweep compared on common pictures.

    `agreement` says what UDR was computed among: cell (seeds of the same settings) or sweep (all models).
    """

    models: list[str]
    agreement: str
    aligned: list[AlignedColumn]
    num_images: int
    notes: list[str]


class SweepSummary(Answer):
    """A sweep in a list."""

    id: str
    name: str
    status: str
    dataset: str
    num_members: int
    progress: SweepProgress
    winner: Winner | None
    created_at: str
    links: dict[str, str]


class Sweep(SweepSummary):
    """A sweep: trainings that differ in a few settings, compared."""

    preset: str | None
    config: dict[str, Any]
    grid: dict[str, list[Any]] | None
    evaluate: list[str]
    max_running: int | None
    make_default: bool
    members: list[SweepMember]
    cells: list[SweepCell]
    comparison: SweepComparison | None
    error: Failure | None


class SweepList(Answer):
    """One page of sweeps, newest first; `next` continues with the page after it."""

    sweeps: list[SweepSummary]
    next: str | None
