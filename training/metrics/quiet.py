"""Classifiers without their warnings; free of torch."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sklearn.exceptions import ConvergenceWarning


@contextmanager
def quiet_convergence() -> Iterator[None]:
    """Silences scikit-learn's warnings that a fit has not converged; by definition, scores stop at its defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
