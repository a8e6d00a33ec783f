"""The length and the duration of a training job on this worker, and the speed that they follow from."""

import logging
from contextlib import suppress

from training.calibration import measure_speed
from training.config import TrainingConfig
from training.data.packs import Pack
from training.inputs import split_indices
from training.lengths import OpenLength, estimate_of, speed_key
from worker.jobs.claims import Claim
from worker.jobs.records import JobStoreUnavailable
from worker.jobs.speeds import Speed, known_speed, place_of, publish_speed
from worker.runtime import Runtime

SHORT_STEPS = 500
"""A run of a given length below this ends about as soon as its duration would be known."""
_TELLING_SECONDS = 30.0
"""Shortest training whose own speed is recorded; in a shorter one, loading and compiling count too much."""

log = logging.getLogger(__name__)


def calibrate(services: Runtime, device: str) -> None:
    """Measures the speed of the default network for grey and for colour pictures where this device has none yet.

    Requests that come before the first training are then answered with an estimate.
    """
    for num_channels in (3, 1):
        config = TrainingConfig(num_channels=num_channels)
        try:
            if known_speed(services.jobs.redis, speed_key(config), place_of(device)) is None:
                _measured(services, config, device)
        except JobStoreUnavailable:
            return
        except Exception:  # An estimate is no reason to refuse work.
            log.exception("the speed of %s could not be measured", device)
            return


def with_settled_length(
    services: Runtime, claim: Claim, config: TrainingConfig, pack: Pack, device: str, num_steps: int | None
) -> TrainingConfig:
    """Returns the config of a job with its length, and records the estimate where the job begins.

    An open length is settled once: by the API where it knew the set and the speed of an earlier run, else here, or by
    the checkpoint.

    Args:
        services: The runtime.
        claim: The claim on the job.
        config: The config of the request.
        pack: The images.
        device: The torch device.
        num_steps: Length of the run in its checkpoint; None for a job that begins.

    Raises:
        ConfigError: The budget is too short for one validation.
    """
    length = OpenLength.from_json(claim.job.request.get("length"))
    if num_steps is not None:
        return config if length is None else length.laid_out(config, num_steps)
    speed, num_training = None, len(split_indices(pack, config)[0])
    if length is not None or config.num_epochs is not None or config.num_steps >= SHORT_STEPS:
        speed = _speed(services, config, device)
    if length is not None:
        recorded = claim.job.estimate or {}
        num_steps = recorded["num_steps"] if recorded.get("settled") else length.num_steps(config, num_training, speed)
        assert num_steps is not None
        config = length.laid_out(config, num_steps)
    estimate = {**estimate_of(config, num_training, speed).to_json(), "settled": True}
    claim.event("estimate", estimate, estimate=estimate)
    services.jobs.store_state(claim.id)
    return config


def record_speed(services: Runtime, config: TrainingConfig, device: str, num_steps: int, seconds: float) -> None:
    """Publishes the speed of a training, which includes validations, previews and checkpoints.

    Args:
        services: The runtime.
        config: The config of the run.
        device: The torch device.
        num_steps: Number of steps that were taken.
        seconds: The time that they took.
    """
    if seconds >= _TELLING_SECONDS:
        with suppress(JobStoreUnavailable):
            speed = Speed(num_steps * config.batch_size / seconds, is_of_run=True)
            publish_speed(services.jobs.redis, speed_key(config), place_of(device), speed)


def _speed(services: Runtime, config: TrainingConfig, device: str) -> float:
    """Returns the speed of a run on this device, in images per second.

    It is measured where no run has had it, and anew each time: a calibration beside other work is too slow.
    """
    known = known_speed(services.jobs.redis, speed_key(config), place_of(device))
    return known.images_per_second if known is not None and known.is_of_run else _measured(services, config, device)


def _measured(services: Runtime, config: TrainingConfig, device: str) -> float:
    """Measures and publishes the speed of a run on this device, in images per second."""
    key, place = speed_key(config), place_of(device)
    speed = Speed(measure_speed(config, device), is_of_run=False)
    publish_speed(services.jobs.redis, key, place, speed)
    log.info("%s trains %s at %.0f images/s", place, key, speed.images_per_second)
    return speed.images_per_second
