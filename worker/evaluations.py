"""Evaluation of a model as part of a job: how far it is, when it has to stop, and what of it stays with the model."""

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
_COSTS = {"losses": 4, "encoding": 12, "mig": 1, "modularity": 1, "sap": 4, "factor_vae": 2, "beta_vae": 2, "dci": 40}
"""Of each stage, roughly: what the fraction of the whole is made of."""

Report = Callable[[dict[str, Any]], None]
"""Takes stage, done, total, step (stages that are over), num_steps and fraction."""


class UnfitModel(ValueError):
    """The model's files are damaged, or its network does not take what its preprocessing makes."""


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
    """As evaluate_model, on the network's own device, in a form that a job can follow and end.

    Args: should_stop, asked between batches and factors; report, called at a new stage and every REPORT_SECONDS.
    Raises: Abandoned with the reason of should_stop; UnfitModel where the pack does not fit the network.
    """
    expected = (info.network.image_size, info.network.image_size, info.network.num_channels)
    if pack.images.shape[1:] != expected:
        raise UnfitModel(f"the data set is packed as {pack.images.shape[1:]}, the network takes {expected}")
    if not all(bool(tensor.isfinite().all()) for tensor in network.parameters()):
        raise UnfitModel("its weights are not all finite numbers")
    device = next(network.parameters()).device
    names = ["losses", *(["encoding", *metrics] if pack.factors is not None else [])]
    stages = _Stages(names, should_stop, report)
    return evaluate_model(
        network, pack, device=device, metrics=metrics, seed=seed, likelihood=info.likelihood, on_progress=stages
    )


class _Stages:
    """on_progress of an evaluation."""

    def __init__(self, names: list[str], should_stop: Callable[[], str | None], report: Report) -> None:
        """Args: names, the stages to come, in their order."""
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
    """The description with what an evaluation found: scores, and losses where the model does not know its own.

    Args: dataset, the id of the set that was evaluated on; it stands beside each score.
    """
    where = {"dataset": dataset, "seed": found.seed}
    scores = {name: {**asdict(score), **where} for name, score in found.scores.items()}
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
    """Writes scores into a stored model's description, as it is now: names may have been given meanwhile.

    Returns: whether it did; not for a model that ships, is gone, or has other weights by now.
    """
    try:
        record = models.record(model_id)
        if record.shipped or record.info.weights_sha256 != weights_sha256:
            return False
        models.update(model_id, with_scores(record.info, found, dataset))
    except UnknownModel:
        return False
    return True
