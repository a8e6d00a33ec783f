"""Agreement of models that differ by their seed: unsupervised disentanglement ranking; free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler

from training.metrics.factor_samples import Codes
from training.metrics.information import Matrix, correlation
from training.metrics.quiet import quiet_convergence

UDR_MIN_KL_NATS = 0.01
"""Dimensions with at most this KL are left out."""


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
