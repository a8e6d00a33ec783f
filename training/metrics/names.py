"""Names of the disentanglement scores, for callers that compute none; free of torch."""

import difflib

from models.config import ConfigError

METRICS = ("mig", "mig_sup", "modularity", "sap", "factor_vae", "beta_vae", "infomec", "dci")
"""Names of the usual scores, in the order of their cost; infomec and dci give three scores each."""
OTHER_METRICS = ("tad", "infogan_cr", "dci_es")
"""Names of scores that are computed only where they are asked for: costly ones, or of few sets."""
ALL_METRICS = METRICS + OTHER_METRICS


def check_metrics(value: object, field: str = "metrics") -> tuple[str, ...]:
    """Returns the names of the scores in a request, in the order of ALL_METRICS.

    Args:
        value: True or None (METRICS), False (none), or a list of names.
        field: Name of the value in an error.

    Raises:
        ConfigError: The value has another type, or a name is unknown.
    """
    if value is None or value is True:
        return METRICS
    if value is False:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(field, f"must be a list of scores out of {', '.join(ALL_METRICS)}")
    unknown = sorted(set(value) - set(ALL_METRICS))
    if unknown:
        near = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), ALL_METRICS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        names = ", ".join(unknown)[:100]
        raise ConfigError(field, f"has no score {names!r}{hint} there are {', '.join(ALL_METRICS)}")
    return tuple(name for name in ALL_METRICS if name in value)
