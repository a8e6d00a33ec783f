"""Names of the disentanglement scores, for callers that compute none; free of torch."""

from models.config import ConfigError

METRICS = ("mig", "mig_sup", "modularity", "sap", "factor_vae", "beta_vae", "infomec", "dci")
"""Names in the order of their cost; infomec and dci give three scores each."""


def check_metrics(value: object, field: str = "metrics") -> tuple[str, ...]:
    """Returns the names of the scores in a request, in the order of METRICS.

    Args:
        value: True or None (all), False (none), or a list of names.
        field: Name of the value in an error.

    Raises:
        ConfigError: The value has another type, or a name is unknown.
    """
    if value is None or value is True:
        return METRICS
    if value is False:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(field, f"must be a list of scores out of {', '.join(METRICS)}")
    unknown = sorted(set(value) - set(METRICS))
    if unknown:
        raise ConfigError(field, f"has no score {', '.join(unknown)[:100]!r}; there are {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in value)
