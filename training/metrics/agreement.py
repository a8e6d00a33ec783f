"""Agreement of models that differ by their seed: unsupervised disentanglement ranking; free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler

from training.metrics.factor_samples import Codes, Factors, RowFactors
from training.metrics.information import Matrix, correlation
from training.metrics.quiet import quiet_convergence
from training.metrics.scores import factor_vae_score

UDR_MIN_KL_NATS = 0.01
"""Dimensions with at most this KL are left out."""
MAX_BINS = 20
LEAST_IN_BIN = 16
NUM_TRAIN_VOTES, NUM_VOTES = 1000, 500
"""Votes for each two models in ModelCentrality."""


@dataclass(frozen=True)
class UdrScores:
    """The agreement of models with each other."""

    model_scores: Matrix
    """The score of each model, (M,); a higher one means more agreement with the others."""
    pairwise: Matrix
    """The agreement of each two models, (M, M), with zeros on the diagonal."""


def udr(codes: Sequence[Codes], kl_per_dimension: Sequence[Matrix], *, similarity: str = "lasso") -> UdrScores:
    """Ranks models that differ by their seed by unsupervised disentanglement ranking (Duan et al. 2020).

    Args:
        codes: For each model, codes (N, D) of the same N images.
        kl_per_dimension: For each model, (D,) nats; dimensions of at most 0.01 nats are left out.
        similarity: lasso (α 0.1) or spearman.

    Raises:
        ValueError: There are fewer than two models, N differs, or the similarity is unknown.
    """
    if len(codes) < 2 or len(codes) != len(kl_per_dimension) or len({len(c) for c in codes}) != 1:
        raise ValueError("UDR compares two or more models on the same images")
    if similarity not in ("lasso", "spearman"):
        raise ValueError(f"similarity: {similarity!r} is neither lasso nor spearman")
    informative = [np.asarray(kl) > UDR_MIN_KL_NATS for kl in kl_per_dimension]
    scaled = [StandardScaler().fit_transform(c.astype(np.float64)) * m for c, m in zip(codes, informative, strict=True)]
    num_models = len(codes)
    pairwise = np.zeros((num_models, num_models))
    for i in range(num_models):
        for j in range(num_models):
            if i != j:
                matrix = _lasso(scaled[i], scaled[j]) if similarity == "lasso" else _spearman(scaled[i], scaled[j])
                pairwise[i, j] = relative_strength(matrix[informative[i]][:, informative[j]])
    scores = [np.median(np.delete(pairwise[:, i], i)) for i in range(num_models)]
    return UdrScores(np.array(scores), pairwise)


def model_centrality(codes: Sequence[Codes], kl_per_dimension: Sequence[Matrix], *, seed: int = 0) -> UdrScores:
    """Scores models by how well each one's dimensions are those of the others (ModelCentrality, Lin et al. 2020).

    The agreement of two models is the FactorVAE score of the one with the dimensions of the other as factors, averaged
    over both directions. The paper draws pictures from the one model's decoder with one latent fixed; here the groups
    are drawn among common pictures, by bins of equally many codes.

    Args:
        codes: For each model, codes (N, D) of the same N images.
        kl_per_dimension: For each model, (D,) nats; dimensions of at most 0.01 nats are left out.
        seed: Seed of the votes.

    Returns:
        The mean agreement of each model with the others, and that of each two models.

    Raises:
        ValueError: There are fewer than two models, or N differs.
    """
    if len(codes) < 2 or len(codes) != len(kl_per_dimension) or len({len(c) for c in codes}) != 1:
        raise ValueError("ModelCentrality compares two or more models on the same images")
    informative = [np.asarray(kl) > UDR_MIN_KL_NATS for kl in kl_per_dimension]
    kept = [np.asarray(c, np.float64)[:, mask] for c, mask in zip(codes, informative, strict=True)]
    num_bins = max(2, min(MAX_BINS, len(codes[0]) // LEAST_IN_BIN))
    factors = [_binned(c, num_bins) for c in kept]
    num_models = len(codes)
    agreement = np.zeros((num_models, num_models))
    for i in range(num_models):
        for j in range(num_models):
            if i != j and kept[i].shape[1] and kept[j].shape[1]:
                samples, rng = RowFactors(kept[i], factors[j]), np.random.default_rng([seed, i, j])
                agreement[i, j] = factor_vae_score(
                    samples, rng, num_train=NUM_TRAIN_VOTES, num_eval=NUM_VOTES, num_variance=len(kept[i])
                )
    pairwise = (agreement + agreement.T) / 2
    return UdrScores(pairwise.sum(1) / (num_models - 1), pairwise)


def _binned(codes: Matrix, num_bins: int) -> Factors:
    """Returns the bin of each code, (N, D), of which each dimension has as many codes as any other."""
    ranks = np.argsort(np.argsort(codes, axis=0, kind="stable"), axis=0, kind="stable")
    bins: Factors = (ranks * num_bins // len(codes)).astype(np.int64)
    return bins


def relative_strength(similarity: Matrix) -> float:
    """Returns the mean of max²/sum over the columns and over the rows of a similarity matrix (D₁, D₂) ≥ 0.

    An empty row or column counts 0.
    """
    if similarity.size == 0:
        return 0.0
    means = []
    for axis in (0, 1):
        peak, total = similarity.max(axis) ** 2, similarity.sum(axis)
        means.append(np.divide(peak, total, out=np.zeros_like(total), where=total > 0).mean())
    return float(np.mean(means))


def _lasso(a: Matrix, b: Matrix) -> Matrix:
    with quiet_convergence():
        weights: Matrix = Lasso(alpha=0.1).fit(a, b).coef_
    return np.abs(weights).reshape(b.shape[1], a.shape[1]).T


def _spearman(a: Matrix, b: Matrix) -> Matrix:
    return correlation(rankdata(a, axis=0), rankdata(b, axis=0))
