"""The evaluation of a model as part of a job: its progress, its stop, and the scores that the model keeps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from models.info import ModelInfo
from models.networks import VAE
from training.data.packs import Pack
from training.metrics.evaluation import Evaluation, evaluate_model
from worker.dataset_job import Abandoned
from worker.stores.models import ModelRegistry, UnknownModel

REPORT_SECONDS = 0.5
_COSTS = {
    "losses": 4, "encoding": 12, "mig": 1, "mig_sup": 1, "modularity": 1, "sap": 4, "factor_vae": 2, "beta_vae": 2,
    "infomec": 6, "dci": 40, "tad": 1, "infogan_cr": 6, "dci_es": 20,
}  # fmt: skip
"""Rough relative cost of each stage, from which the fraction of the whole follows."""

Report = Callable[[dict[str, Any]], None]
"""A function that takes stage, done, total, step (number of stages that are over), num_steps and fraction."""


class UnfitModel(ValueError):
    """The model's files are damaged, or its network does not fit the pictures of its preprocessing."""


def evaluate_for_job(
    network: VAE,
    info: ModelInfo,
    pack: Pack,
    *,
    metrics: Sequence[str],
    seed: int,
    should_stop: Callable[[], str | None],
    report: Report,
) -> Evaluation:
    """Evaluates a model, like evaluate_model, on the network's own device, so that a job can report and stop it.

    Args:
        network: The network.
        info: Its description.
        pack: The images.
        metrics: Names of the disentanglement scores.
        seed: Seed of the scores.
        should_stop: Asked between batches and factors; returns a reason to stop, or None.
        report: Called at each new stage and every REPORT_SECONDS.

    Raises:
        Abandoned: `should_stop` returned the reason that is its text.
        UnfitModel: The pack does not fit the network, or the weights are not finite.
    """
    expected = (info.network.image_size, info.network.image_size, info.network.num_channels)
    if pack.images.shape[1:] != expected:
        raise UnfitModel(f"the data set is packed as {pack.images.shape[1:]}, the network takes {expected}")
    if not all(bool(tensor.isfinite().all()) for tensor in network.parameters()):
        raise UnfitModel("its weights are not all finite numbers")
    device = next(network.parameters()).device
    names = ["losses", *(["encoding", *metrics] if pack.factors is not None else [])]
    stages = _Stages(names, should_stop, report)
    found = evaluate_model(
        network, pack, device=device, metrics=metrics, seed=seed, likelihood=info.likelihood, on_progress=stages
    )
    return as_seen(found, info)


def as_seen(found: Evaluation, info: ModelInfo) -> Evaluation:
    """Returns an evaluation in which only those dimensions are active whose effect an eye can see."""
    return replace(found, active_dimensions=info.active_among(found.kl_per_dimension))


class _Stages:
    """The on_progress of an evaluation."""

    def __init__(self, names: list[str], should_stop: Callable[[], str | None], report: Report) -> None:
        """Takes what the reports are made of.

        Args:
            names: The stages of the evaluation, in order.
            should_stop: Returns a reason to stop, or None.
            report: Called with each report.
        """
        self._names, self._should_stop, self._report = names, should_stop, report
        self._stage, self._reported = "", float("-inf")

    def __call__(self, stage: str, done: int, total: int) -> None:
        reason = self._should_stop()
        if reason is not None:
            raise Abandoned(reason)
        now = time.monotonic()
        if stage == self._stage and now - self._reported < REPORT_SECONDS:
            return
        self._stage, self._reported = stage, now
        over = self._names.index(stage) if stage in self._names else 0
        spent = sum(_COSTS[name] for name in self._names[:over]) + _COSTS.get(stage, 0) * done / max(total, 1)
        fraction = spent / sum(_COSTS[name] for name in self._names)
        self._report(
            {
                "stage": stage,
                "done": done,
                "total": total,
                "step": over,
                "num_steps": len(self._names),
                "fraction": round(min(fraction, 1.0), 4),
            }
        )


def with_scores(info: ModelInfo, found: Evaluation, dataset: str) -> ModelInfo:
    """Returns a model's description with the scores of an evaluation, and its losses if the description has none.

    Args:
        info: The description.
        found: The evaluation.
        dataset: Id of the data set of the evaluation, which is recorded with each score.
    """
    where = {"dataset": dataset, "seed": found.seed}
    scores = {name: {**asdict(score), **where} for name, score in (found.scores | found.picture_scores).items()}
    if not info.kl_per_dimension:
        info = replace(
            info,
            reconstruction_loss=found.reconstruction_loss,
            bernoulli_floor=found.bernoulli_floor,
            kl_per_dimension=found.kl_per_dimension,
            aggregate_mean=found.aggregate_mean,
            aggregate_std=found.aggregate_std,
        )
    return replace(info, metrics={**info.metrics, **scores})


def save_scores(models: ModelRegistry, model_id: str, found: Evaluation, dataset: str, weights_sha256: str) -> bool:
    """Writes scores into a stored model's current description, which may have changed during the evaluation.

    Args:
        models: The registry.
        model_id: Id of the model.
        found: The evaluation.
        dataset: Id of the data set of the evaluation.
        weights_sha256: Digest of the weights that were evaluated.

    Returns:
        False if the model ships with the service, is gone, or has other weights by now.
    """
    try:
        record = models.record(model_id)
        if record.shipped or record.info.weights_sha256 != weights_sha256:
            return False
        models.update(model_id, with_scores(record.info, found, dataset))
    except UnknownModel:
        return False
    return True
