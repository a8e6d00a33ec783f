"""The settings of a training job with the length that it has. This module loads no torch."""

from typing import Any

from training.config import config_from_json, config_to_json
from training.lengths import OpenLength
from worker.jobs.records import Job


def job_config(job: Job) -> dict[str, Any]:
    """Returns the settings of a job with the length that it has; an open length that is not settled is null."""
    config: dict[str, Any] = job.request["config"]
    length, estimate = OpenLength.from_json(job.request.get("length")), job.estimate or {}
    if length is None:
        return config
    if not estimate.get("settled"):
        return config | {"num_steps": estimate.get("num_steps"), "num_epochs": None}
    return config_to_json(length.laid_out(config_from_json(config), estimate["num_steps"]))


def is_open(job: Job) -> bool:
    """Returns whether the length of a job is open until a worker begins it."""
    return job.request.get("length") is not None and not (job.estimate or {}).get("settled")
