"""The models of a sweep on common pictures: aligned dimensions, agreement, and the choice of one without labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import ModelInfo
from models.networks import VAE
from training.metrics.agreement import model_centrality, udr
from training.metrics.alignment import align
from training.metrics.information import Matrix
from training.metrics.points import generator_for
from training.summary import encode
from worker.sweeps.grid import cell_key, label_of

Pixels = NDArray[np.uint8]
Report = Callable[[str, int, int], None]
"""A function that takes a stage, the number of models done and the total; it may raise to stop."""

NUM_IMAGES = 4096
"""Largest number of common pictures."""
LEAST_ACTIVE = 2
"""A model with fewer active dimensions has nothing to disentangle, and is chosen only if all are like that."""


class IncomparableModels(ValueError):
    """The models cannot be compared on common pictures."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model of a sweep, and the pictures of the sweep's data set as it takes them."""

    id: str
    settings: dict[str, Any]
    info: ModelInfo
    images: Pixels
    """(N, H, W, C) uint8; the same picture has the same place for each candidate."""
    load: Callable[[], VAE]
    """Loads the network, on its device."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """Scores by name, of an evaluation, each with `value`."""

    @property
    def label(self) -> str:
        """The settings in which the model differs from the others."""
        return label_of(self.settings)

    def score(self, name: str) -> float | None:
        """Returns a score of the evaluation, or None."""
        value = self.scores.get(name, {}).get("value")
        return None if value is None else float(value)


@dataclass(frozen=True, kw_only=True)
class Column:
    """Aligned dimensions, one of each model, with Pearson's r to the chosen model's."""

    label: str
    dimensions: list[int | None]
    correlations: list[float | None]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The models of a sweep, compared."""

    udr: list[float | None]
    centrality: list[float | None]
    agreement: str
    """What UDR was computed among: cell or sweep."""
    order: list[int]
    """Positions of the models, the chosen one first."""
    reason: str
    columns: list[Column]
    typical: int
    """Row of the picture that is most typical for the chosen model."""
    num_images: int
    notes: list[str]


def compare_candidates(candidates: Sequence[Candidate], report: Report) -> Compared:
    """Compares models of one data set, and chooses one of them without labels.

    Args:
        candidates: The models, at least one.
        report: Called between the models and the stages.

    Raises:
        IncomparableModels: They were trained on different numbers of pictures.
    """
    if len({len(one.images) for one in candidates}) != 1:
        raise IncomparableModels("the models take different numbers of pictures of the data set")
    count = len(candidates[0].images)
    rows = np.sort(generator_for(0, "agreement").permutation(count)[:NUM_IMAGES])
    means, kls = [], []
    for done, one in enumerate(candidates):
        report("encoding", done, len(candidates))
        network = one.load()
        codes, kl = encode(network, one.images, rows, next(network.parameters()).device)
        means.append(codes.astype(np.float64))
        kls.append(kl)
    report("agreement", 0, 1)
    udr_scores, agreement, notes = _udr(candidates, means, kls)
    with_others = len(candidates) > 1
    central = model_centrality(means, kls).model_scores.tolist() if with_others else [None]
    active = [one.info.active_among(kl.tolist()) for one, kl in zip(candidates, kls, strict=True)]
    order = ranked(udr_scores, central, [len(dimensions) for dimensions in active])
    best = order[0]
    report("agreement", 1, 1)
    distance = np.square(means[best] - means[best].mean(0)).sum(1)
    return Compared(
        udr=udr_scores,
        centrality=central,
        agreement=agreement,
        order=order,
        reason=_reason(candidates, best, udr_scores, central, len(active[best])),
        columns=_columns(candidates, means, kls, active, best),
        typical=int(rows[distance.argmin()]),
        num_images=len(rows),
        notes=[*notes, *_notes(candidates)],
    )


def _udr(
    candidates: Sequence[Candidate], means: Sequence[Matrix], kls: Sequence[Matrix]
) -> tuple[list[float | None], str, list[str]]:
    """Returns the UDR of each model, what it was computed among, and notes.

    UDR compares models that differ by their seed alone; where most models are alone in their cell, it compares all.
    """
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(candidates):
        groups.setdefault(cell_key(one.settings), []).append(index)
    partnered = sum(len(group) for group in groups.values() if len(group) > 1)
    among, notes = "cell", []
    if 2 * partnered <= len(candidates):
        among, groups = "sweep", {"": list(range(len(candidates)))}
    scores: list[float | None] = [None] * len(candidates)
    for group in groups.values():
        if len(group) < 2:
            continue
        found = udr([means[k] for k in group], [kls[k] for k in group])
        for index, score in zip(group, found.model_scores.tolist(), strict=True):
            scores[index] = score
    alone = [candidates[group[0]].label for group in groups.values() if len(group) == 1 < len(candidates)]
    if alone:
        notes.append(f"without another seed, there is no UDR of {'; '.join(alone)}")
    return scores, among, notes


def ranked(udr_scores: Sequence[float | None], central: Sequence[float | None], num_active: Sequence[int]) -> list[int]:
    """Returns the positions of models, the best first: by the mean of their ranks in UDR and in ModelCentrality.

    Models with fewer than LEAST_ACTIVE active dimensions come last. Of equals, the one with the higher UDR comes
    first.

    Args:
        udr_scores: UDR of each model; None ranks last.
        central: ModelCentrality of each model.
        num_active: Number of active dimensions of each model.
    """
    ranks = [_ranks(udr_scores), _ranks(central)]

    def key(index: int) -> tuple[bool, float, float, int]:
        of_udr, of_centrality = ranks[0][index], ranks[1][index]
        return num_active[index] < LEAST_ACTIVE, of_udr + of_centrality, of_udr, index

    return sorted(range(len(num_active)), key=key)


def _ranks(values: Sequence[float | None]) -> list[int]:
    """Returns the rank of each value, 1 for the largest; equal ones share a rank."""
    numbers = [float("-inf") if value is None else value for value in values]
    return [1 + sum(other > number for other in numbers) for number in numbers]


def _reason(
    candidates: Sequence[Candidate],
    best: int,
    udr_scores: Sequence[float | None],
    central: Sequence[float | None],
    num_active: int,
) -> str:
    """Returns in words why a model is chosen."""
    info = candidates[best].info
    size = f"{num_active} of its {info.network.latent_dim} dimensions are active"
    if len(candidates) == 1:
        return f"It is the only model of the sweep; {size}."
    parts = []
    for name, values in (("UDR", udr_scores), ("ModelCentrality", central)):
        if (value := values[best]) is not None:
            parts.append(f"{name} {value:.3f} (rank {_ranks(values)[best]})")
    others = len(candidates) - 1 if len(candidates) > 2 else "one"
    text = f"It has the best mean rank in agreement with the other {others}: {', '.join(parts)}; {size}"
    if info.reconstruction_loss is not None:
        text += f", and its reconstruction loss is {info.reconstruction_loss:.2f} nats"
    text += ". No labels were used."
    migs = [one.score("mig") for one in candidates]
    if (mig := migs[best]) is not None:
        text += f" Its MIG of {mig:.3f} has rank {_ranks(migs)[best]}."
    return text


def _columns(
    candidates: Sequence[Candidate],
    means: Sequence[Matrix],
    kls: Sequence[Matrix],
    active: Sequence[Sequence[int]],
    best: int,
) -> list[Column]:
    """Returns the active dimensions of the chosen model, by KL, each with those that are aligned to it."""
    partners = [
        {pair.first: pair for pair in align(means[best], means[k], [active[best], active[k]])}
        for k in range(len(candidates))
    ]
    labels = candidates[best].info.dimension_labels
    columns = []
    for dimension in sorted(active[best], key=lambda d: -kls[best][d]):
        found = [pairs.get(dimension) for pairs in partners]
        columns.append(
            Column(
                label=labels[dimension] if labels else "",
                dimensions=[None if pair is None else pair.second for pair in found],
                correlations=[None if pair is None else pair.correlation for pair in found],
            )
        )
    return columns


def _notes(candidates: Sequence[Candidate]) -> list[str]:
    if losses_compare([one.info for one in candidates]):
        return []
    return ["the models differ in the size or channels of their pictures or in their likelihood, so their losses in "
            "nats do not compare"]  # fmt: skip


def losses_compare(infos: Sequence[ModelInfo]) -> bool:
    """Returns whether losses in nats mean the same for all models: equal pictures and likelihoods."""
    return len({(info.network.image_size, info.network.num_channels, info.likelihood) for info in infos}) == 1
